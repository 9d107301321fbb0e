"""A reader of waves for tests: VCD by pyvcd, which wrote none of it; of FST what its header says."""

from __future__ import annotations

import io
import re
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from vcd.reader import TokenKind, tokenize


class Waves(NamedTuple):
    """What is in a VCD file.

    Attributes:
        names: full names as GTKWave has them, and the identifier of each.
        changes: times in ps and values, by identifier.
        times: all of the file, in ps.
    """

    names: dict[str, str]
    changes: dict[str, list[tuple[int, int | str]]]
    times: list[int]

    def values(self, name: str) -> list[tuple[int, int | str]]:
        """When a signal changed, and to what."""
        return self.changes[self.names[name]]

    def at(self, name: str, time: int) -> int | str:
        """The value of a signal at a time in ps, after what happens then."""
        return [value for when, value in self.values(name) if when <= time][-1]


def read_vcd(path: Path) -> Waves:
    found, scopes, now = Waves({}, {}, []), [], 0
    # Icarus has scopes of loops whose names pyvcd does not take
    with io.BytesIO(path.read_bytes().replace(b" $ivl_", b" ivl_")) as file:
        for token in tokenize(file):
            if token.kind is TokenKind.TIMESCALE:
                assert (token.timescale.magnitude.value, token.timescale.unit.value) == (1, "ps")
            elif token.kind is TokenKind.SCOPE:
                scopes.append(token.scope.ident)
            elif token.kind is TokenKind.UPSCOPE:
                scopes.pop()
            elif token.kind is TokenKind.VAR:
                found.names[".".join([*scopes, token.var.reference + _range(token.var.bit_index)])] = token.var.id_code
            elif token.kind is TokenKind.CHANGE_TIME:
                now = token.time_change
                found.times.append(now)
            elif token.kind in (TokenKind.CHANGE_SCALAR, TokenKind.CHANGE_VECTOR):
                change = token.scalar_change if token.kind is TokenKind.CHANGE_SCALAR else token.vector_change
                value = change.value if isinstance(change.value, int) else _number(change.value)
                found.changes.setdefault(change.id_code, []).append((now, value))
    return found


def _range(bits: int | tuple[int, int] | None) -> str:
    if bits is None:
        return ""
    return f"[{bits[0]}:{bits[1]}]" if isinstance(bits, tuple) else f"[{bits}]"


def _number(text: str) -> int | str:
    return int(text, 2) if set(text) <= {"0", "1"} else text


def layout_signals(path: Path) -> Iterator[str]:
    """The signals of a GTKWave save file: every line that is no directive, without its alias."""
    for line in path.read_text().splitlines():
        if not line.startswith(("[", "@", "-", "*")):
            yield re.sub(r"^\+\{[^}]*\} ", "", line)


class FstHeader(NamedTuple):
    """First and last time in ps, and how many signals there are."""

    begin: int
    end: int
    signals: int


def read_fst_header(path: Path) -> FstHeader:
    """The first block of an FST file: big-endian numbers at fixed places."""
    data = path.read_bytes()
    kind, length, begin, end = struct.unpack(">BQQQ", data[:25])
    assert (kind, length) == (0, 329)
    (signals,) = struct.unpack(">Q", data[49:57])
    (exponent,) = struct.unpack(">b", data[73:74])
    assert exponent == -12
    return FstHeader(begin, end, signals)

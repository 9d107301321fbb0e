"""Mutators: what makes a good file a bad one. Every choice is drawn from the generator that is given."""

from __future__ import annotations

import copy
import io
import json
import random
import re
import zipfile
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import yaml

HOSTILE_NAMES = (
    "",
    "\x1b[31mred\x1b[0m",
    "[bold]x[/bold]",
    "[/]",
    "../../../etc/passwd",
    "/dev/zero",
    "a\nb",
    "a" * 5000,
    "é" * 300,
    "<script>alert(1)</script>",
    "forward",
    "x\0y",
    "{}",
    "%s%n",
)
NUMBERS = (-1, 0, 1, 2, 3, 7, 16, 255, 2**16, 2**31 - 1, 2**31, 2**40, 2**62, 2**63, 10**30, 0.5, 1.5, 1e300, -0.0)
TEXTS = ("nan", "inf", "2001-13-45", "1e9", "0x10", "null", "os", "-", "~", "1:30", "tiny", "digits", *HOSTILE_NAMES)
TOKENS = (
    *(
        "-1",
        "0",
        "1",
        "999999999",
        "1000000000000",
        "9" * 400,
        "nan",
        "inf",
        "-inf",
        "1.5",
        "1e9",
        "0x7f",
        "٣",
        "",
        " ",
    ),
    *("true", "null", "[]", "{}", "!!int x", "!!set x", "&a [*a]", "*a", "<<: *a", "2001-13-45", "/dev/zero", "\ufeff"),
    *(
        "\0",
        "\x1b[31m",
        "[bold]",
        "é",
        "'",
        '"',
        "#",
        ",",
        ";",
        ":",
        "\t",
        "x" * 5000,
        "[" * 300,
        "{" * 300,
        "- " * 300,
    ),
)


def awkward(rng: random.Random) -> Any:
    """A value that no key expects."""
    return rng.choice(
        (
            lambda: rng.choice(NUMBERS),
            lambda: rng.choice(NUMBERS),
            lambda: rng.choice(TEXTS),
            lambda: rng.choice((None, True, False)),
            lambda: rng.choice((float("nan"), float("inf"), -float("inf"))),
            lambda: rng.choice(([], {}, [[]], [1, "x", None], {"a": 1}, [[1] * 50] * 20)),
        )
    )()


def nearby(rng: random.Random, value: Any) -> Any:
    """A value of the same type, or nearly."""
    if isinstance(value, bool):
        return not value
    if isinstance(value, int):
        return rng.choice((value + 1, value - 1, -value, value * 2, value * 1000, value // 2, float(value), str(value)))
    if isinstance(value, float):
        return rng.choice((-value, value * 2, value * 1e30, 0.0, int(value) if abs(value) < 1e9 else 1))
    if isinstance(value, str):
        return rng.choice((value + "x", value[:-1], value.upper(), value * 2, rng.choice(HOSTILE_NAMES)))
    if isinstance(value, list) and value:
        return rng.choice((value * 2, value[:-1], value[::-1], [value], value * 300))
    return awkward(rng)


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Paths to everything within a value."""
    if path:
        yield path
    for key, item in value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ():
        yield from places(item, (*path, key))


def structure(rng: random.Random, value: Any, times: int | None = None) -> Any:
    """A changed copy of what a JSON or YAML text says."""
    value = copy.deepcopy(value)
    for _ in range(times or rng.choice((1, 1, 1, 2, 4))):
        every = list(places(value))
        if not every:
            return awkward(rng)
        path = rng.choice(every)
        holder = value
        for key in path[:-1]:
            holder = holder[key]
        key = path[-1]
        kind = rng.randrange(8)
        if kind <= 1:
            holder[key] = awkward(rng)
        elif kind <= 4:
            holder[key] = nearby(rng, holder[key])
        elif kind == 5:
            del holder[key]
        elif kind == 6 and isinstance(holder, dict):
            holder[rng.choice((str(key) + "x", *HOSTILE_NAMES[:6]))] = holder[key]
        else:
            other = value
            for step in rng.choice(every):
                try:
                    other = other[step]
                except (LookupError, TypeError):
                    break
            holder[key] = copy.deepcopy(other)
    return value


def text(rng: random.Random, source: str) -> str:
    """A changed text: tokens replaced, lines lost, doubled and exchanged."""
    for _ in range(rng.choice((1, 1, 2, 4))):
        kind = rng.randrange(6)
        tokens = [match.span() for match in re.finditer(r"[A-Za-z0-9_.+-]+", source)]
        lines = source.splitlines(keepends=True)
        if kind <= 2 and tokens:
            start, end = rng.choice(tokens)
            source = source[:start] + rng.choice(TOKENS) + source[end:]
        elif kind == 3 and lines:
            at = rng.randrange(len(lines))
            lines[at : at + 1] = rng.choice(([], [lines[at]] * 2, [lines[at]] * 3000, [rng.choice(TOKENS) + "\n"]))
            source = "".join(lines)
        elif kind == 4:
            at = rng.randrange(len(source) + 1)
            source = source[:at] + rng.choice(TOKENS) + source[at:]
        else:
            source = source[: rng.randrange(len(source) + 1)]
    return source


def encoded(rng: random.Random, source: str) -> bytes:
    """A text as bytes, now and then in another encoding."""
    coding = rng.choice(("utf-8",) * 12 + ("utf-16", "utf-8-sig", "latin-1", "utf-32"))
    return source.encode(coding, errors="replace")


def octets(rng: random.Random, data: bytes, other: bytes = b"") -> bytes:
    """Changed bytes: flips, cuts, splices, awkward numbers."""
    found = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 8, 32))):
        if not found:
            return bytes(found)
        at = rng.randrange(len(found))
        kind = rng.randrange(8)
        if kind <= 2:
            found[at] ^= 1 << rng.randrange(8)
        elif kind == 3:
            found[at] = rng.choice((0, 1, 0x7F, 0x80, 0xFF))
        elif kind == 4:
            number = rng.choice((0, 1, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, len(found)))
            found[at : at + 4] = number.to_bytes(4, "little")
        elif kind == 5:
            del found[at : at + rng.choice((1, 4, 100, len(found)))]
        elif kind == 6:
            source = other or bytes(found)
            begin = rng.randrange(len(source) or 1)
            found[at:at] = source[begin : begin + rng.choice((1, 8, 200))]
        else:
            found[at : at + 8] = rng.randbytes(8)
    return bytes(found)


def as_yaml(rng: random.Random, source: str) -> bytes:
    """A changed YAML document."""
    kind = rng.randrange(8)
    if kind <= 3:
        value = structure(rng, yaml.safe_load(source))
        dumped: str = yaml.safe_dump(value, sort_keys=False, default_flow_style=rng.choice((None, True, False)))
        return encoded(rng, dumped)
    if kind <= 5:
        return encoded(rng, text(rng, source))
    if kind == 6:
        return octets(rng, source.encode())
    return encoded(rng, rng.choice(BOMBS) + "\n" + source)


BOMBS = (
    "a: &a [x,x,x,x,x,x,x,x,x]\nb: &b [*a,*a,*a,*a,*a,*a,*a,*a]\nc: &c [*b,*b,*b,*b,*b,*b,*b,*b]\n"
    "d: &d [*c,*c,*c,*c,*c,*c,*c,*c]\ne: [*d,*d,*d,*d,*d,*d,*d,*d]",
    "a: &a {b: *a}",
    "? {a: 1}\n: 2",
    "%YAML 1.2\n---",
    "--- 1\n--- 2",
    "x: " + "[" * 5000,
    "x: " + "{a: " * 2000,
    "x: [" + "1, " * 40_000 + "]",
    "x: !!python/object/apply:os.system ['true']",
    "x: !!timestamp 2001-13-45",
    "x: !!binary '$$$'",
    "x: !!omap [1]",
    "<<: {a: 1}",
    "x: |\n" + " " * 200_000,
    "x: " + "9" * 10_000,
    "x: 0x" + "f" * 10_000,
)


def as_json(rng: random.Random, source: str) -> bytes:
    """A changed JSON document."""
    kind = rng.randrange(6)
    if kind <= 3:
        return encoded(rng, json.dumps(structure(rng, json.loads(source))))
    if kind == 4:
        return encoded(rng, text(rng, source))
    return octets(rng, source.encode())


def array(rng: random.Random, values: Any) -> Any:
    """A changed array: other types, shapes, awkward values."""
    values = np.array(values)
    kind = rng.randrange(9)
    with np.errstate(all="ignore"):
        if kind == 0:
            kinds = (np.int8, np.uint8, np.int64, np.uint64, np.float32, np.float64, np.float16, np.bool_, np.complex64)
            return values.astype(rng.choice(kinds))
        if kind == 1:
            return values.reshape(-1)
        if kind == 2:
            return values[..., None] if rng.random() < 0.5 else values[None]
        if kind == 3 and values.ndim and len(values):
            return values[: rng.randrange(len(values))] if rng.random() < 0.5 else np.concatenate([values, values])
        if kind == 4:
            return rng.choice((np.array(3), np.zeros((0,)), np.array("text"), np.array([None, {}], dtype=object)))
        if kind == 5 and values.size:
            flat = values.astype(np.float64).reshape(-1)
            flat[rng.randrange(flat.size)] = rng.choice((np.nan, np.inf, -np.inf, 1e300))
            return flat.reshape(values.shape)
        if kind == 6 and values.size:
            wide = values.astype(np.uint64 if rng.random() < 0.3 else np.int64).reshape(-1)
            wide[rng.randrange(wide.size)] = rng.choice((2**62, 2**31, 0, 1, 127, 2**48))
            return wide.reshape(values.shape)
        if kind == 7:
            return values.T
        return np.zeros((rng.choice((1, 3000)), rng.choice((1, 3000))), dtype=values.dtype)


def npy(values: Any) -> bytes:
    """An .npy, of objects too."""
    buffer = io.BytesIO()
    np.lib.format.write_array(buffer, np.asanyarray(values))
    return buffer.getvalue()


def members(data: bytes) -> dict[str, bytes]:
    """What a good zip holds."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def zipped(found: dict[str, bytes], method: int = zipfile.ZIP_STORED) -> bytes:
    """A zip of members."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as archive:
        for name, content in found.items():
            archive.writestr(name, content)
    return buffer.getvalue()


_PARENTHESES = b"\x93NUMPY\x01\x00" + (9000).to_bytes(2, "little") + b"(" * 8999 + b"\n"
_HUGE = (
    b"\x93NUMPY\x01\x00\x76\x00"
    + b"{'descr': '<f8', 'fortran_order': False, 'shape': (99999999999,), }".ljust(117)
    + b"\n"
)


def as_zip(rng: random.Random, data: bytes, other: bytes = b"") -> bytes:
    """A changed archive of arrays and JSON."""
    kind = rng.randrange(10)
    if kind == 0:
        return octets(rng, data, other)
    found = members(data)
    name = rng.choice(list(found))
    if kind == 1:
        del found[name]
    elif kind == 2:
        found[rng.choice(("extra.npy", "../up.npy", "x/y.npy", "\x1b.npy"))] = found[name]
    elif kind == 3:
        found[name] = octets(rng, found[name])
    elif kind == 4:
        found[name] = rng.choice((b"", b"{}", b"[" * 50_000, _PARENTHESES, _HUGE, b"null", bytes(20_000_000)))
        return zipped(found, zipfile.ZIP_DEFLATED)
    elif kind == 5:
        return zipped(found, rng.choice((zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA, zipfile.ZIP_DEFLATED)))
    else:
        texts = [key for key in found if key.endswith(".json")]
        if texts and (kind <= 7 or not name.endswith(".npy")):
            name = rng.choice(texts)
            found[name] = json.dumps(structure(rng, json.loads(found[name]))).encode()
        elif name.endswith(".npy"):
            found[name] = npy(array(rng, np.lib.format.read_array(io.BytesIO(found[name]))))
        else:
            found[name] = octets(rng, found[name])
    return zipped(found)


Mutator = Callable[[random.Random, bytes], bytes]

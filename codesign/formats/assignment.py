"""Which number format each row of each layer has, and the bits of every stored tensor: immutable, saved as JSON.

Rows are codes into a palette of formats, one byte each, so that counting, copying and reading an assignment of
thousands of rows takes fractions of a millisecond. Version 2 of the file writes them as letters:

    {"format": "codesign assignment", "version": 2, "act_bits": 4,
     "palette": {"a": "fixed8", "b": "pot4"},
     "tensors": {"input": 8},
     "rows": {
      "conv1": "aabbbbbb",
      "fc": "aaaaaaaaaa"
    }}

Version 1 had runs such as `12*pot4` and one number of activation bits for all tensors; it is read, too.
"""

from __future__ import annotations

import json
import re
import string
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from types import MappingProxyType
from typing import Any

import numpy as np

from codesign._files import content_hash
from codesign._reading import excerpt, parse_json
from codesign._typing import IntArray, UInt8Array
from codesign.errors import UserError
from codesign.formats.ratio import Ratio, row_counts
from codesign.formats.row_format import RowFormat
from codesign.workload.limits import MOST_FILTERS, MOST_LAYERS
from codesign.workload.network import Network

FORMAT = "codesign assignment"
VERSION = 2
ACTIVATION_BITS = range(1, 17)
"""Bits that a tensor of codes may have."""
LETTERS = string.ascii_letters + string.digits
"""What a file writes for the places of its palette."""
MOST_ROWS = 1 << 22
"""Of all layers together."""


@dataclass(frozen=True, eq=False)
class Assignment:
    """Formats of the rows of every weighted layer, and the bits of every activation tensor.

    Attributes:
        palette: the formats that occur, in ascending order.
        rows: of each layer, in the network's order, the places of its rows' formats in the palette: (rows,), read only.
        act_bits: bits of every tensor that `tensors` does not name.
        tensors: bits of the tensors that have others: name of a stored tensor, the network's input included.

    Raises:
        UserError: bits or layers that no network can have.
    """

    palette: tuple[RowFormat, ...]
    rows: Mapping[str, UInt8Array]
    act_bits: int
    tensors: Mapping[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name, bits in (("", self.act_bits), *self.tensors.items()):
            if bits not in ACTIVATION_BITS:
                where = f"tensor '{name}': " if name else ""
                raise UserError(f"assignment: {where}{bits} activation bits; allowed are 1 to 16")
        rows = {}
        for name, codes in self.rows.items():
            if not len(codes):
                raise UserError(f"assignment: layer '{name}' has no rows")
            if int(codes.max()) >= len(self.palette):
                raise UserError(f"assignment: layer '{name}' has place {codes.max()} of {len(self.palette)} formats")
            rows[name] = np.array(codes, dtype=np.uint8)
        used = sorted({self.palette[code] for codes in rows.values() for code in np.flatnonzero(np.bincount(codes))})
        if tuple(used) != self.palette:
            place = np.array([used.index(form) if form in used else 0 for form in self.palette], dtype=np.uint8)
            rows = {name: place[codes] for name, codes in rows.items()}
            object.__setattr__(self, "palette", tuple(used))
        for codes in rows.values():
            codes.setflags(write=False)
        others = {name: int(bits) for name, bits in self.tensors.items() if bits != self.act_bits}
        object.__setattr__(self, "rows", MappingProxyType(rows))
        object.__setattr__(self, "tensors", MappingProxyType(others))

    def __reduce__(self) -> tuple[Any, ...]:
        return Assignment, (self.palette, dict(self.rows), self.act_bits, dict(self.tensors))

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Assignment):
            return NotImplemented
        return self.content_hash == other.content_hash

    def __hash__(self) -> int:
        return hash(self.content_hash)

    @cached_property
    def content_hash(self) -> str:
        """Of everything that it says, the order of the layers included; equal assignments have equal ones."""
        facts = [list(map(str, self.palette)), self.act_bits, sorted(self.tensors.items()), list(self.rows)]
        return content_hash(json.dumps(facts), *(codes.tobytes() for codes in self.rows.values()))

    @classmethod
    def of(
        cls,
        layers: Mapping[str, Sequence[RowFormat]] | Iterable[tuple[str, Sequence[RowFormat]]],
        act_bits: int,
        tensors: Mapping[str, int] | None = None,
    ) -> Assignment:
        """The assignment of formats given row by row: layer names with the formats of their rows.

        Raises:
            UserError: a layer is named twice, or has no rows.
        """
        pairs = list(layers.items() if isinstance(layers, Mapping) else layers)
        if len({name for name, _ in pairs}) != len(pairs):
            raise UserError("assignment: a layer is named twice")
        palette = tuple(sorted({form for _, rows in pairs for form in rows}))
        place = {form: number for number, form in enumerate(palette)}
        codes = {name: np.array([place[form] for form in rows], dtype=np.uint8) for name, rows in pairs}
        return cls(palette, codes, act_bits, tensors or {})

    def __getitem__(self, layer: str) -> tuple[RowFormat, ...]:
        """Formats of the rows of `layer`; UserError if the assignment does not name it."""
        palette = self.palette
        return tuple([palette[code] for code in self.codes(layer).tolist()])

    def codes(self, layer: str) -> UInt8Array:
        """Places in the palette of the rows of `layer`; UserError if the assignment does not name it."""
        if layer not in self.rows:
            raise UserError(f"assignment: layer '{layer}' is not in it; it has {', '.join(self.rows)}")
        return self.rows[layer]

    def bits(self, tensor: str) -> int:
        """Bits of a stored tensor's codes."""
        return self.tensors.get(tensor, self.act_bits)

    def with_tensors(self, tensors: Mapping[str, int]) -> Assignment:
        """The same rows with these bits of tensors, instead of those there are."""
        return replace(self, tensors=dict(tensors))

    def check(self, network: Network) -> None:
        """UserError, naming the layer, unless this assigns exactly the rows of `network`.

        What tensors it stores is known when it is fused: `codesign.integer.tensor_bits` checks those.
        """
        rows = {layer.name: network.weight_shape(layer.name)[0] for layer in network.weighted}
        for name, count in rows.items():
            if len(self.codes(name)) != count:
                raise UserError(
                    f"assignment: layer '{name}' has {len(self.codes(name))} rows, network '{network.name}' {count}"
                )
        for name in self.rows:
            if name not in rows:
                raise UserError(f"assignment: layer '{name}' is no weighted layer of network '{network.name}'")

    def counts(self, layers: Sequence[str] | None = None) -> IntArray:
        """(layers, formats of the palette): rows of each format; of these layers, by default of all.

        Raises:
            UserError: a layer is not in it.
        """
        names = self.rows if layers is None else layers
        size = len(self.palette)
        return np.array([np.bincount(self.codes(name), minlength=size) for name in names]).reshape(-1, size)

    def counts_by_layer(self) -> dict[str, dict[RowFormat, int]]:
        """Rows of each format that a layer has, by layer."""
        return {
            name: {form: count for form, count in zip(self.palette, mine, strict=True) if count}
            for name, mine in zip(self.rows, self.counts().tolist(), strict=True)
        }

    def shares(self) -> dict[RowFormat, float]:
        """Realised share of the rows each format has, over all layers."""
        totals = self.counts().sum(axis=0)
        return {form: float(share) for form, share in zip(self.palette, totals / totals.sum(), strict=True)}

    @classmethod
    def uniform(cls, network: Network, form: RowFormat, act_bits: int) -> Assignment:
        """Every row of every layer in one format."""
        rows = {layer.name: np.zeros(network.weight_shape(layer.name)[0], dtype=np.uint8) for layer in network.weighted}
        return cls((form,), rows, act_bits)

    @classmethod
    def random(cls, network: Network, ratio: Ratio, act_bits: int, seed: int) -> Assignment:
        """The counts of `row_counts` in every layer, dealt to the rows at random."""
        rng = np.random.default_rng(seed)
        rows = {}
        for layer in network.weighted:
            counts = row_counts(network.weight_shape(layer.name)[0], ratio)
            codes = np.repeat(np.arange(len(counts), dtype=np.uint8), list(counts.values()))
            rows[layer.name] = codes[rng.permutation(len(codes))]
        return cls(tuple(ratio), rows, act_bits)

    def to_json(self) -> str:
        """Text that `from_json` reads back, version 2."""
        palette = {LETTERS[place]: str(form) for place, form in enumerate(self.palette)}
        letters = np.frombuffer(LETTERS.encode(), dtype=np.uint8)
        rows = ",\n  ".join(
            f'{json.dumps(name)}: "{letters[codes].tobytes().decode()}"' for name, codes in self.rows.items()
        )
        return (
            f'{{"format": "{FORMAT}", "version": {VERSION}, "act_bits": {self.act_bits},\n'
            f' "palette": {json.dumps(palette)},\n "tensors": {json.dumps(dict(self.tensors))},\n'
            f' "rows": {{\n  {rows}\n}}}}\n'
        )

    @classmethod
    def from_json(cls, text: str) -> Assignment:
        """The assignment that `to_json` described, of this or the first version; UserError in one line otherwise."""
        try:
            data = parse_json(text)
        except ValueError as error:
            raise UserError(f"not an assignment: {excerpt(error)}") from None
        if not isinstance(data, dict) or data.get("format") != FORMAT:
            raise UserError(f'not an assignment: the text has no "format": "{FORMAT}"')
        version = data.get("version", 1)
        if isinstance(version, bool) or version not in (1, VERSION):
            raise UserError(f"assignment: version {excerpt(version, 40)}; this codesign reads 1 and {VERSION}")
        bits = _whole(data.get("act_bits"), "act_bits")
        allowed = ["format", "version", "act_bits", *(["layers"] if version == 1 else ["palette", "tensors", "rows"])]
        for key in data:
            if key not in allowed:
                raise UserError(f"assignment: key '{excerpt(key, 40)}' is not one of {', '.join(allowed)}")
        if version == 1:
            return cls.of(_expanded(_layers(data, "layers")), bits)
        palette = _mapping(data, "palette")
        named = _mapping(data, "tensors")
        tensors = {name: _whole(value, f"tensors: {excerpt(name, 80)}") for name, value in named.items()}
        place = np.full(256, 255, dtype=np.uint8)
        formats = []
        for number, (letter, name) in enumerate(palette.items()):
            if letter not in LETTERS or len(letter) != 1:
                raise UserError(f"assignment: palette: key '{excerpt(letter, 40)}' must be one letter or digit")
            formats.append(_format(name, "palette"))
            place[ord(letter)] = number
        rows = {}
        total = 0
        for name, word in _layers(data, "rows").items():
            if not isinstance(word, str):
                raise UserError(f"assignment: layer '{excerpt(name, 80)}' needs a text, a letter for every row")
            codes = place[np.frombuffer(word.encode("ascii", "replace"), dtype=np.uint8)]
            if (codes == 255).any():
                wrong = word[int((codes == 255).argmax())]
                raise UserError(f"assignment: layer '{excerpt(name, 80)}' has {wrong!r}, which is not in the palette")
            rows[name] = codes
            total = _bounded(name, len(codes), total)
        return cls(tuple(formats), rows, bits, tensors)

    def __str__(self) -> str:
        width = max((len(name) for name in self.rows), default=0)
        shares = ", ".join(f"{form} {share:.1%}" for form, share in self.shares().items())
        others = "".join(f", {name} {bits}" for name, bits in self.tensors.items())
        lines = [f"{len(self.rows)} layers, {self.act_bits}-bit activations{others}; rows: {shares}"]
        for name, counts in self.counts_by_layer().items():
            lines.append(f"  {name:<{width}}  " + ", ".join(f"{count} {form}" for form, count in counts.items()))
        return "\n".join(lines)


def _mapping(data: Mapping[str, Any], key: str) -> dict[str, Any]:
    found = data.get(key)
    if not isinstance(found, dict):
        raise UserError(f'assignment: needs a mapping "{key}"')
    return found


def _whole(value: object, what: str) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise UserError(f'assignment: "{what}" must be a number of activation bits, 1 to 16')
    return value


def _format(name: object, where: str) -> RowFormat:
    try:
        return RowFormat.parse(str(name))
    except UserError as error:
        raise UserError(f"assignment: {where}: {error}") from None


def _layers(data: Mapping[str, Any], key: str) -> dict[str, Any]:
    found = _mapping(data, key)
    if len(found) > MOST_LAYERS:
        raise UserError(f"assignment: {len(found):,} layers, must be at most {MOST_LAYERS:,}")
    return found


def _bounded(layer: str, rows: int, before: int) -> int:
    """Rows of all layers with this one; checked before any of them is made."""
    if rows > MOST_FILTERS:
        raise UserError(
            f"assignment: layer '{excerpt(layer, 80)}' has more than {MOST_FILTERS:,} rows, the most of a layer"
        )
    if before + rows > MOST_ROWS:
        raise UserError(f"assignment: more than {MOST_ROWS:,} rows in all layers")
    return before + rows


def _expanded(layers: Mapping[str, Any]) -> dict[str, list[RowFormat]]:
    """Rows of version 1, runs such as `12*pot4`."""
    total = 0
    found = {}
    for name, runs in layers.items():
        where = f"layer '{excerpt(name, 80)}'"
        if not isinstance(runs, list):
            raise UserError(f'assignment: {where} needs a list such as ["12*pot4", "fixed8"]')
        rows: list[RowFormat] = []
        for run in runs:
            match = re.fullmatch(r"(?:([0-9]{1,9})\*)?([a-z0-9]{1,20})", run) if isinstance(run, str) else None
            if match is None:
                raise UserError(f"assignment: {where}: {excerpt(repr(run), 40)} is not of the form 12*pot4")
            count = int(match[1] or 1)
            _bounded(name, len(rows) + count, total)
            rows += [_format(match[2], where)] * count
        total += len(rows)
        found[name] = rows
    return found

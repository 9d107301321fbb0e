"""Which number format each row of each layer has: immutable, printable, saved as JSON."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import groupby

import numpy as np

from codesign._reading import excerpt, parse_json
from codesign.errors import UserError
from codesign.formats.row_format import RowFormat
from codesign.integer.checks import ACTIVATION_BITS
from codesign.integer.network import Scheme
from codesign.workload.limits import MOST_FILTERS, MOST_LAYERS
from codesign.workload.network import Network

FORMAT = "codesign assignment"
MOST_ROWS = 1 << 22
"""Of all layers together."""

Ratio = Mapping[RowFormat, float]
"""Share of the rows each format gets; any positive numbers, 65:30:5 as well as 0.65:0.3:0.05."""


@dataclass(frozen=True)
class Assignment:
    """Formats of the rows of every weighted layer, and the bits of all activations.

    Attributes:
        layers: pairs (layer name, formats of its rows), in the network's order.
        act_bits: bits of every activation tensor, the network's input included.
    """

    layers: tuple[tuple[str, tuple[RowFormat, ...]], ...]
    act_bits: int

    def __post_init__(self) -> None:
        if self.act_bits not in ACTIVATION_BITS:
            raise UserError(f"assignment: {self.act_bits} activation bits; allowed are 1 to 16")
        names = [name for name, _ in self.layers]
        if len(set(names)) != len(names):
            raise UserError("assignment: a layer is named twice")
        for name, rows in self.layers:
            if not rows:
                raise UserError(f"assignment: layer '{name}' has no rows")

    @cached_property
    def _by_name(self) -> dict[str, tuple[RowFormat, ...]]:
        return dict(self.layers)

    def __getitem__(self, layer: str) -> tuple[RowFormat, ...]:
        """Formats of the rows of `layer`; UserError if the assignment does not name it."""
        if layer not in self._by_name:
            raise UserError(f"assignment: layer '{layer}' is not in it; it has {', '.join(self._by_name)}")
        return self._by_name[layer]

    def check(self, network: Network) -> None:
        """UserError, naming the layer, unless this assigns exactly the rows of `network`."""
        rows = {layer.name: network.weight_shape(layer.name)[0] for layer in network.weighted}
        for name, count in rows.items():
            if len(self[name]) != count:
                raise UserError(
                    f"assignment: layer '{name}' has {len(self[name])} rows, network '{network.name}' {count}"
                )
        for name in self._by_name:
            if name not in rows:
                raise UserError(f"assignment: layer '{name}' is no weighted layer of network '{network.name}'")

    def counts(self) -> dict[str, dict[RowFormat, int]]:
        """Rows of each format, by layer."""
        return {name: {form: rows.count(form) for form in sorted(set(rows))} for name, rows in self.layers}

    def shares(self) -> dict[RowFormat, float]:
        """Realised share of the rows each format has, over all layers."""
        rows = [form for _, formats in self.layers for form in formats]
        return {form: rows.count(form) / len(rows) for form in sorted(set(rows))}

    @classmethod
    def uniform(cls, network: Network, form: RowFormat, act_bits: int) -> Assignment:
        """Every row of every layer in one format."""
        return cls(
            tuple((layer.name, (form,) * network.weight_shape(layer.name)[0]) for layer in network.weighted),
            act_bits,
        )

    @classmethod
    def random(cls, network: Network, ratio: Ratio, act_bits: int, seed: int) -> Assignment:
        """The counts of `row_counts` in every layer, dealt to the rows at random."""
        rng = np.random.default_rng(seed)
        layers = []
        for layer in network.weighted:
            counts = row_counts(network.weight_shape(layer.name)[0], ratio)
            rows = [form for form, count in counts.items() for _ in range(count)]
            layers.append((layer.name, tuple(rows[index] for index in rng.permutation(len(rows)))))
        return cls(tuple(layers), act_bits)

    def to_json(self) -> str:
        """Text that `from_json` reads back; runs of equal rows are written as `12*pot4`."""
        layers = {name: _runs(rows) for name, rows in self.layers}
        body = ",\n  ".join(f"{json.dumps(name)}: {json.dumps(rows)}" for name, rows in layers.items())
        return f'{{"format": {json.dumps(FORMAT)}, "act_bits": {self.act_bits}, "layers": {{\n  {body}\n}}}}\n'

    @classmethod
    def from_json(cls, text: str) -> Assignment:
        """The assignment that `to_json` described; UserError with one line for anything else."""
        try:
            data = parse_json(text)
        except ValueError as error:
            raise UserError(f"not an assignment: {excerpt(error)}") from None
        if not isinstance(data, dict) or data.get("format") != FORMAT:
            raise UserError(f'not an assignment: the text has no "format": "{FORMAT}"')
        layers, bits = data.get("layers"), data.get("act_bits")
        if not isinstance(layers, dict) or not isinstance(bits, int) or isinstance(bits, bool):
            raise UserError('assignment: needs a number "act_bits" and a mapping "layers"')
        if unknown := data.keys() - {"format", "act_bits", "layers"}:
            raise UserError(f"assignment: key '{excerpt(min(unknown), 40)}' is not one of format, act_bits, layers")
        if len(layers) > MOST_LAYERS:
            raise UserError(f"assignment: {len(layers):,} layers, must be at most {MOST_LAYERS:,}")
        expanded, left = [], MOST_ROWS
        for name, runs in layers.items():
            rows = _expand(excerpt(name, 80), runs)
            left -= len(rows)
            if left < 0:
                raise UserError(f"assignment: more than {MOST_ROWS:,} rows in all layers")
            expanded.append((name, rows))
        return cls(tuple(expanded), bits)

    def __str__(self) -> str:
        width = max((len(name) for name, _ in self.layers), default=0)
        shares = ", ".join(f"{form} {share:.1%}" for form, share in self.shares().items())
        lines = [f"{len(self.layers)} layers, {self.act_bits}-bit activations; rows: {shares}"]
        for name, counts in self.counts().items():
            lines.append(f"  {name:<{width}}  " + ", ".join(f"{count} {form}" for form, count in counts.items()))
        return "\n".join(lines)


def precise_formats(ratio: Ratio) -> tuple[RowFormat, ...]:
    """The Fixed formats with more bits than the narrowest Fixed one, most bits first: RMSMP's high precision."""
    fixed = sorted((form for form, share in ratio.items() if form.scheme is Scheme.FIXED and share > 0), key=_bits)
    return tuple(reversed(fixed[1:]))


def basic_formats(ratio: Ratio) -> tuple[RowFormat, ...]:
    """The other formats with a share, in the order in which rows of rising variance get them: PoT, then Fixed."""
    precise = precise_formats(ratio)
    basic = [form for form, share in ratio.items() if share > 0 and form not in precise]
    return tuple(sorted(basic, key=lambda form: (form.scheme is Scheme.FIXED, form.bits)))


def row_counts(rows: int, ratio: Ratio) -> dict[RowFormat, int]:
    """How many of `rows` rows each format gets.

    High-precision formats round up, so each has at least one row in every layer (RMSMP's 5 % of 16 filters is
    one); the rest is split among the others by largest remainder. PE columns are whole, so realised shares differ
    from `ratio`: report `Assignment.shares`.

    Raises:
        UserError: a share is negative or not finite, or all are zero.
    """
    if not ratio or min(ratio.values()) < 0 or not 0 < sum(ratio.values()) < float("inf"):
        text = ", ".join(f"{form}: {share:g}" for form, share in ratio.items())
        raise UserError(f"ratio {{{text}}}: shares must be finite, not negative, and not all zero")
    whole = sum(ratio.values())
    counts = dict.fromkeys(ratio, 0)
    left = rows
    for form in precise_formats(ratio):
        # The tolerance keeps 5 % of 20 rows at 1 although 0.05 * 20 is not exact.
        counts[form] = min(left, int(np.ceil(rows * ratio[form] / whole - 1e-9)))
        left -= counts[form]
    basic = basic_formats(ratio)
    total = sum(ratio[form] for form in basic)
    exact = {form: left * ratio[form] / total for form in basic}
    for form in basic:
        counts[form] = int(exact[form] + 1e-9)
    by_remainder = sorted(basic, key=lambda form: counts[form] - exact[form])
    for form in by_remainder[: left - sum(counts[form] for form in basic)]:
        counts[form] += 1
    return counts


def parse_ratio(text: str) -> dict[RowFormat, float]:
    """The ratio written as `pot4:65,fixed4:30,fixed8:5`; UserError names the part that is wrong."""
    ratio: dict[RowFormat, float] = {}
    for part in text.split(","):
        name, _, share = part.strip().partition(":")
        try:
            value = float(share)
        except ValueError:
            raise UserError(f"ratio {text!r}: {part!r} is not FORMAT:SHARE, such as pot4:65") from None
        form = RowFormat.parse(name)
        if form in ratio:
            raise UserError(f"ratio {text!r}: {form} appears twice")
        ratio[form] = value
    row_counts(1, ratio)
    return ratio


def _bits(form: RowFormat) -> int:
    return form.bits


def _runs(rows: Sequence[RowFormat]) -> list[str]:
    runs = [(str(form), sum(1 for _ in group)) for form, group in groupby(rows)]
    return [text if count == 1 else f"{count}*{text}" for text, count in runs]


def _expand(name: str, runs: object) -> tuple[RowFormat, ...]:
    if not isinstance(runs, list):
        raise UserError(f'assignment: layer \'{name}\' needs a list such as ["12*pot4", "fixed8"]')
    rows: list[RowFormat] = []
    for run in runs:
        match = re.fullmatch(r"(?:([0-9]{1,9})\*)?([a-z0-9]{1,20})", run) if isinstance(run, str) else None
        if match is None:
            raise UserError(f"assignment: layer '{name}': {excerpt(repr(run), 40)} is not of the form 12*pot4")
        count = int(match[1] or 1)
        if len(rows) + count > MOST_FILTERS:
            raise UserError(f"assignment: layer '{name}' has more than {MOST_FILTERS:,} rows, the most of a layer")
        try:
            rows += [RowFormat.parse(match[2])] * count
        except UserError as error:
            raise UserError(f"assignment: layer '{name}': {error}") from None
    return tuple(rows)

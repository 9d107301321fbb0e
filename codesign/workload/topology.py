"""SCALE-Sim's topology files: a network as a list of convolutions or matrix products, in CSV.

Two headers exist, `Layer name, IFMAP Height, IFMAP Width, Filter Height, Filter Width, Channels, Num Filter, Strides,`
and `Layer, M, N, K,` (the order is theirs). A topology is taken as it stands: it has no padding column, so a padded
network is written with padded input sizes, and what a file leaves out is not added.

Source of the format: SCALE-Sim (https://github.com/scalesim-project/scale-sim-v2), versions 2.0.2 and 3.0.0.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from codesign._files import write_text
from codesign._reading import MOST_TEXT, excerpt, read_text
from codesign.errors import UserError
from codesign.workload.layers import Conv, Pair
from codesign.workload.limits import MOST_LAYERS, check_map, check_totals, check_weights
from codesign.workload.network import Network

CONV_HEADER = "Layer name, IFMAP Height, IFMAP Width, Filter Height, Filter Width, Channels, Num Filter, Strides,"
"""The first line of a topology of convolutions."""

GEMM_HEADER = "Layer, M, N, K,"
"""The first line of a topology of matrix products."""

DEPTHWISE = "DP"
"""A layer whose name contains this is run by SCALE-Sim once for every channel, each time with one channel."""


@dataclass(frozen=True)
class TopologyLayer:
    """A convolution without padding, done `groups` times.

    Attributes:
        ifmap_h, ifmap_w: input pixels, padding included.
        filter_h, filter_w: filter size, at most the input's.
        channels, filters: of one group.
        stride_h, stride_w: vertical and horizontal step.
        groups: how often the layer is run; depthwise layers have as many groups as channels.
    """

    name: str
    ifmap_h: int
    ifmap_w: int
    filter_h: int
    filter_w: int
    channels: int
    filters: int
    stride_h: int = 1
    stride_w: int = 1
    groups: int = 1

    @property
    def ofmap_h(self) -> int:
        """Output rows as SCALE-Sim counts them: a last window that sticks out of the input is counted, too."""
        return -(-(self.ifmap_h - self.filter_h + self.stride_h) // self.stride_h)

    @property
    def ofmap_w(self) -> int:
        """Output columns, counted as the rows are."""
        return -(-(self.ifmap_w - self.filter_w + self.stride_w) // self.stride_w)

    @property
    def m(self) -> int:
        """Output pixels of one filter."""
        return self.ofmap_h * self.ofmap_w

    @property
    def k(self) -> int:
        """Products of one output: filter area times channels."""
        return self.filter_h * self.filter_w * self.channels

    @property
    def n(self) -> int:
        """Filters of one group."""
        return self.filters

    @property
    def macs(self) -> int:
        """Multiply-accumulates of all groups."""
        return self.groups * self.m * self.k * self.n


@dataclass(frozen=True)
class Topology:
    """Layers in the order in which they run."""

    name: str
    layers: tuple[TopologyLayer, ...]

    @property
    def macs(self) -> int:
        """Multiply-accumulates of all layers."""
        return sum(layer.macs for layer in self.layers)

    def __str__(self) -> str:
        width = max(len(layer.name) for layer in self.layers)
        lines = [f"{self.name}: {len(self.layers)} layers, {self.macs:,} MACs"]
        for layer in self.layers:
            groups = f", {layer.groups} groups" if layer.groups > 1 else ""
            lines.append(
                f"  {layer.name:<{width}}  {layer.channels}x{layer.ifmap_h}x{layer.ifmap_w}  "
                f"{layer.filter_h}x{layer.filter_w} /{layer.stride_h},{layer.stride_w} -> {layer.filters}{groups}"
            )
        return "\n".join(lines)


def gemm_layer(name: str, m: int, n: int, k: int) -> TopologyLayer:
    """A matrix product (m x k) times (k x n) as SCALE-Sim writes it: rows of k pixels under a filter as wide."""
    return TopologyLayer(name, m, k, 1, k, 1, n)


def conv_layer(
    name: str, channels: int, filters: int, out: Pair, kernel: Pair, stride: Pair, groups: int = 1
) -> TopologyLayer:
    """A convolution with an output of size `out`; its input is what its windows reach, padding included.

    Args:
        name: of the layer.
        channels, filters: of all groups.
        out: height and width of the output.
        kernel, stride: vertical and horizontal.
        groups: of channels and filters.
    """
    return TopologyLayer(
        name,
        ifmap_h=(out[0] - 1) * stride[0] + kernel[0],
        ifmap_w=(out[1] - 1) * stride[1] + kernel[1],
        filter_h=kernel[0],
        filter_w=kernel[1],
        channels=channels // groups,
        filters=filters // groups,
        stride_h=stride[0],
        stride_w=stride[1],
        groups=groups,
    )


def topology_of(network: Network) -> Topology:
    """The convolutions and fully connected layers of a network, with padded input sizes.

    Where the stride does not divide what is left of the padded input, the rows and columns that no window reaches are
    left away, so that SCALE-Sim counts as many outputs as the network has.
    """
    layers = []
    for layer in network.weighted:
        source = network.input_shape(layer)
        if isinstance(layer, Conv):
            filters, height, width = network.shapes[layer.name]
            layers.append(
                conv_layer(layer.name, source[0], filters, (height, width), layer.kernel, layer.stride, layer.groups)
            )
        else:
            layers.append(TopologyLayer(layer.name, 1, 1, 1, 1, source[0], layer.out_features))
    if not layers:
        raise UserError(f"network '{network.name}': no layer with weights, must have at least one")
    return Topology(network.name, tuple(layers))


def topology_text(topology: Topology) -> str:
    """A topology as SCALE-Sim reads it.

    Depthwise layers are written as its `DP` layers, other groups as one line each; a layer that is not depthwise
    and whose name contains `DP` is written with `dp`. Unequal strides are written in two columns, which version 2.0.2
    reads and 3.0.0 does not.
    """
    two = any(layer.stride_h != layer.stride_w for layer in topology.layers)
    lines = [CONV_HEADER.replace("Strides", "Stride Height, Stride Width") if two else CONV_HEADER]
    for layer in topology.layers:
        if "," in layer.name or "\n" in layer.name:
            raise UserError(f"topology '{topology.name}': layer '{layer.name}': a name in a CSV file has no comma")
        names, channels = [layer.name], layer.channels
        if layer.channels > 1:
            plain = layer.name.replace(DEPTHWISE, DEPTHWISE.lower())
            names = [f"{plain}_group{index}" for index in range(layer.groups)] if layer.groups > 1 else [plain]
        elif layer.groups > 1:
            names = [layer.name if DEPTHWISE in layer.name else f"{DEPTHWISE}_{layer.name}"]
            channels = layer.groups
        sizes = [layer.ifmap_h, layer.ifmap_w, layer.filter_h, layer.filter_w, channels, layer.filters, layer.stride_h]
        text = ", ".join(map(str, [*sizes, layer.stride_w] if two else sizes))
        lines += [f"{name}, {text}," for name in names]
    return "\n".join(lines) + "\n"


def write_topology(topology: Topology, path: str | Path) -> None:
    """Write `topology_text` to a file, whole or not at all."""
    write_text(path, topology_text(topology))


def read_topology(path: str | Path) -> Topology:
    """The topology in a CSV file, named after the file; see `parse_topology`."""
    path = Path(path)
    return parse_topology(read_text(path, MOST_TEXT, "a topology"), str(path), path.stem)


def parse_topology(text: str, shown_as: str, name: str) -> Topology:
    """The topology in CSV text, of either header.

    Trailing commas, blank lines, spaces and comments from `#` are allowed; so are a column `Sparsity` that says 1:1
    and a column `Batch size` that says 1. Like SCALE-Sim, which does not read the header, it takes columns by position:
    titles may be in the singular or plural, and a title that is in its own place may be given to another column, too
    (`IFMAP Width` twice, in files of SCALE-Sim's own). From a column without a title on, columns are passed over, as
    SCALE-Sim's first version does. A layer whose name contains `DP` is depthwise, as in SCALE-Sim: it is run
    once for every channel.

    Args:
        shown_as: how errors name the text, usually a file name.
        name: of the topology.

    Raises:
        UserError: one line that names the file, the line, the column, what was given and what is allowed.
    """
    lines = list(_lines(text))
    if not lines:
        raise UserError(f"{shown_as}: empty, must begin with '{CONV_HEADER}' or '{GEMM_HEADER}'")
    number, header = lines[0]
    columns = _columns(header, f"{shown_as}: line {number}")
    if len(lines) == 1:
        raise UserError(f"{shown_as}: line {number}: no layer after the header, must have at least one line per layer")
    if len(lines) > 1 + MOST_LAYERS:
        raise UserError(f"{shown_as}: {len(lines) - 1:,} layers, must be at most {MOST_LAYERS:,}")
    layers = tuple(_layer(row, columns, f"{shown_as}: line {at}") for at, row in lines[1:])
    topology = Topology(name, layers)
    try:
        _check(topology)
    except UserError as error:
        raise UserError(f"{shown_as}: {error}") from None
    return topology


def _check(topology: Topology) -> None:
    """UserError if a topology is too large to be one of a real network."""
    runs = weights = products = 0
    for layer in topology.layers:
        try:
            check_map((layer.ifmap_h, layer.ifmap_w, layer.channels * layer.groups))
            check_map((layer.m, layer.n * layer.groups))
            check_weights(layer.n * layer.groups, layer.k)
        except UserError as error:
            raise UserError(f"layer '{excerpt(layer.name, 80)}': {error}") from None
        runs += layer.groups
        weights += layer.groups * layer.n * layer.k
        products += layer.macs
        check_totals(weights, products)
    if runs > _MOST_RUNS:
        raise UserError(f"{runs:,} groups of channels in all layers, must be at most {_MOST_RUNS:,}")


_GEMM = ("Layer", "M", "N", "K")
_CONV = ("Layer name", "IFMAP Height", "IFMAP Width", "Filter Height", "Filter Width", "Channels", "Num Filter")
_STRIDES = (("Strides",), ("Stride Height", "Stride Width"))
_EXTRA = {"Sparsity": "1:1", "Batch size": "1"}
_KNOWN = ((*_CONV, *_STRIDES[1]), (*_CONV, *_STRIDES[0]), _GEMM)
_ALIASES = {"layername": "layer"}
_PASSED_OVER = ""
_MAX_SIZE = 1 << 28
_MOST_RUNS = 1 << 20


def _lines(text: str) -> Iterator[tuple[int, list[str]]]:
    """Line numbers and fields of the lines that hold something; a trailing comma adds no field."""
    for number, line in enumerate(text.splitlines(), start=1):
        content = line.split("#")[0].strip()
        if content:
            yield number, [field.strip() for field in content.removesuffix(",").split(",")]


def _key(title: str) -> str:
    key = re.sub(r"[^a-z0-9]", "", title.lower()).removesuffix("s")
    return _ALIASES.get(key, key)


def _columns(header: list[str], where: str) -> tuple[str, ...]:
    """The titles of the columns as this module spells them."""
    given = [_key(title) for title in header]
    if _PASSED_OVER in given[4:]:
        end = given.index(_PASSED_OVER, 4)
        return _columns(header[:end], where) + (_PASSED_OVER,) * (len(header) - end)
    for known in _KNOWN:
        expected = [_key(title) for title in known]
        doubled = _in_their_places(given, known)
        if len(given) >= len(expected) and all(
            key in (own, *doubled) for key, own in zip(given, expected, strict=False)
        ):
            extra = {_key(title): title for title in _EXTRA}
            for title, key in zip(header[len(known) :], given[len(known) :], strict=True):
                if key not in extra:
                    allowed = ", ".join((*known, *_EXTRA))
                    raise UserError(f"{where}: column '{excerpt(title, 40)}' given, must be one of {allowed}")
            return (*known, *(extra[key] for key in given[len(known) :]))
    known = _GEMM if "m" in given[1:2] else _KNOWN[1]
    line = GEMM_HEADER if known is _GEMM else CONV_HEADER
    doubled = _in_their_places(given, known)
    for index, title in enumerate(known):
        shown = f"'{excerpt(header[index], 40)}' given" if index < len(header) else "missing"
        if index >= len(given) or given[index] not in (_key(title), *doubled):
            raise UserError(f"{where}: header: column {index + 1} {shown}, must be '{title}' (header '{line}')")
    raise AssertionError("a header that equals a known one is returned above")


def _in_their_places(given: list[str], known: tuple[str, ...]) -> set[str]:
    """Titles that stand where they belong; SCALE-Sim's own files give some of them to a second column."""
    return {key for key, title in zip(given, known, strict=False) if key == _key(title)}


def _layer(row: list[str], columns: tuple[str, ...], where: str) -> TopologyLayer:
    required = len([title for title in columns if title and title not in _EXTRA])
    if not any(row):
        raise UserError(f"{where}: nothing but commas given, must be a layer: remove the line")
    if len(row) < required:
        raise UserError(
            f"{where}: column '{columns[len(row)]}' is missing, {len(row)} of {required} values given, "
            f"must be {', '.join(columns[:required])}"
        )
    if len(row) > len(columns):
        raise UserError(
            f"{where}: {len(row)} values given, '{excerpt(row[len(columns)], 40)}' after the last column, "
            f"must be {len(columns)}: {', '.join(columns)}"
        )
    name = row[0]
    if not name:
        raise UserError(f"{where}: column '{columns[0]}': nothing given, must be a name")
    sizes: dict[str, int] = {}
    for index, (title, value) in enumerate(zip(columns[1:], row[1:], strict=False), start=2):
        if title == _PASSED_OVER:
            if value and index == 9:  # version 2 takes it for the horizontal stride, version 1 passes over it
                raise UserError(f"{where}: column 9 has no title: '{excerpt(value, 40)}' given, must be empty")
            break
        if title in _EXTRA:
            if value not in ("", _EXTRA[title]):
                raise UserError(f"{where}: column '{title}': '{excerpt(value, 40)}' given, must be {_EXTRA[title]}")
            continue
        sizes[title] = _size(value, f"{where}: column '{title}'")
    if "M" in sizes:
        return gemm_layer(name, sizes["M"], sizes["N"], sizes["K"])
    for filter_title, input_title in (("Filter Height", "IFMAP Height"), ("Filter Width", "IFMAP Width")):
        if sizes[filter_title] > sizes[input_title]:
            raise UserError(
                f"{where}: column '{filter_title}': {sizes[filter_title]} given, must be at most the {input_title}, "
                f"{sizes[input_title]}"
            )
    strides = (sizes["Strides"],) * 2 if "Strides" in sizes else (sizes["Stride Height"], sizes["Stride Width"])
    depthwise = DEPTHWISE in name
    return TopologyLayer(
        name,
        ifmap_h=sizes["IFMAP Height"],
        ifmap_w=sizes["IFMAP Width"],
        filter_h=sizes["Filter Height"],
        filter_w=sizes["Filter Width"],
        channels=1 if depthwise else sizes["Channels"],
        filters=sizes["Num Filter"],
        stride_h=strides[0],
        stride_w=strides[1],
        groups=sizes["Channels"] if depthwise else 1,
    )


def _size(text: str, where: str) -> int:
    if not re.fullmatch(r"[+-]?[0-9]{1,20}", text) or not 1 <= int(text) <= _MAX_SIZE:
        given = f"'{excerpt(text, 40)}'" if text else "nothing"
        raise UserError(f"{where}: {given} given, must be a whole number from 1 to {_MAX_SIZE:,}")
    return int(text)

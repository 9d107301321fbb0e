"""AMED's accelerators with whole networks and real bit widths, and how far that is from what was published.

The latency of a layer is the paper's: the largest of the time it computes and of the times its three SRAMs take to
exchange their words with DRAM, which double buffering hides behind each other. What is counted differs:

* Layers are those of the network: padded, with their strides, depthwise layers as such, the classifier included.
* Cycles are SCALE-Sim's without its faults. A multiplier of 8 bits does 8 // b products with weights of b bits at
  once, for so many filters, which therefore share a column (or a row).
* A tensor takes its own bits: weights the layer's; inputs the layer's, the image 8; outputs those of the layers that
  read them, so that one layer's time depends on the bits of others. Partial sums take 32 bits.
* An operand that fits into the half of its SRAM that is in use is fetched once; else once for every fold in which it
  is needed. Where the partial sums of ws and is do not fit, they are written and read back for every row fold, or the
  layer is run in parts for each of which they do, and what the array holds is fetched again, whichever is faster.

This is a model of stated assumptions, not a measurement.
"""

from __future__ import annotations

from dataclasses import dataclass

from codesign.sim.amed.accelerator import AmedAccelerator
from codesign.sim.amed.networks import published_of
from codesign.sim.amed.published import Allocation, layer_bits, published_table
from codesign.sim.ideal.cycles import Dataflow, evaluate
from codesign.sim.ideal.memory import windows
from codesign.workload.layers import Conv
from codesign.workload.network import Network
from codesign.workload.topology import TopologyLayer, topology_of

IMAGE_BITS = 8
CLASSIFIER_BITS = 8
RESULT_BITS = 16
PARTIAL_SUM_BITS = 32

EXACT_HEADER = (
    "Layer",
    "Bits",
    "Input bits",
    "Output bits",
    "Compute Cycles",
    "IFMAP DRAM Cycles",
    "Filter DRAM Cycles",
    "OFMAP DRAM Cycles",
    "Cycles",
    "Bound",
)


@dataclass(frozen=True)
class ExactLayer:
    """One layer; cycles of computing and of each memory's DRAM traffic.

    Attributes:
        bits: of the weights; `input_bits`, `output_bits`: of one input and of one output.
    """

    name: str
    bits: int
    input_bits: int
    output_bits: int
    compute_cycles: int
    ifmap_cycles: int
    filter_cycles: int
    ofmap_cycles: int

    @property
    def cycles(self) -> int:
        """The largest of the four."""
        return max(self._parts.values())

    @property
    def bound(self) -> str:
        """Which of the four is the largest: compute, ifmap, filter or ofmap."""
        return max(self._parts, key=self._parts.__getitem__)

    @property
    def _parts(self) -> dict[str, int]:
        return {
            "compute": self.compute_cycles,
            "ifmap": self.ifmap_cycles,
            "filter": self.filter_cycles,
            "ofmap": self.ofmap_cycles,
        }


@dataclass(frozen=True)
class ExactLatency:
    """A whole network on one of AMED's accelerators."""

    network: str
    accelerator: AmedAccelerator
    layers: tuple[ExactLayer, ...]

    @property
    def cycles(self) -> int:
        """Cycles of all layers, one after the other."""
        return sum(layer.cycles for layer in self.layers)

    @property
    def latency_ms(self) -> float:
        """Latency in milliseconds."""
        return self.cycles / self.accelerator.clock_mhz / 1e3

    def report(self) -> tuple[tuple[str, ...], list[list[int | str]]]:
        """Header and one line for every layer."""
        return EXACT_HEADER, [
            [
                x.name,
                *(x.bits, x.input_bits, x.output_bits),
                *(x.compute_cycles, x.ifmap_cycles, x.filter_cycles, x.ofmap_cycles),
                *(x.cycles, x.bound),
            ]
            for x in self.layers
        ]


@dataclass(frozen=True)
class ModeDifference:
    """A network as published and exactly; `layers` are (name, published ms, exact ms), None where AMED has no layer."""

    network: str
    accelerator: str
    published_ms: float
    exact_ms: float
    layers: tuple[tuple[str, float | None, float], ...]

    @property
    def ratio(self) -> float:
        """How many times the exact latency was published."""
        return self.published_ms / self.exact_ms


def exact_latency(network: Network, on: AmedAccelerator, bits: Allocation = 8) -> ExactLatency:
    """The latency of a whole network.

    Args:
        bits: of weights and inputs of every layer, 2 to 8. A sequence may leave out fully connected layers, as AMED's
            allocations do; they have 8 bits then.

    Raises:
        UserError: wrong bits.
    """
    topology = topology_of(network)
    names = [layer.name for layer in topology.layers]
    convolutions = [layer.name for layer in network.weighted if isinstance(layer, Conv)]
    where = f"network '{network.name}'"
    if not isinstance(bits, int) and len(bits) == len(convolutions) != len(names):
        widths = dict.fromkeys(names, CLASSIFIER_BITS) | dict(
            zip(convolutions, layer_bits(convolutions, bits, where), strict=True)
        )
    else:
        widths = dict(zip(names, layer_bits(names, bits, where), strict=True))
    first_reads = _reading_the_image(network)
    layers = []
    for layer in topology.layers:
        input_bits = IMAGE_BITS if layer.name in first_reads else widths[layer.name]
        readers = _weighted_readers(network, layer.name)
        output_bits = max((widths[name] for name in readers), default=RESULT_BITS)
        layers.append(_layer(layer, on, widths[layer.name], input_bits, output_bits))
    return ExactLatency(network.name, on, tuple(layers))


def compare_modes(network: Network, on: AmedAccelerator, bits: Allocation = 8) -> ModeDifference:
    """The latency that AMED publishes for a network and the exact one, layer by layer.

    See `published_of` for what AMED makes of a network.
    """
    table = published_table(published_of(network), on)
    exact = exact_latency(network, on, bits)
    tabled = exact.layers[:-1]  # AMED orders its layers as the network does and leaves out the last one
    published = dict(zip((x.name for x in tabled), table.layer_ms([x.bits for x in tabled]), strict=True))
    scale = on.clock_mhz * 1e3
    return ModeDifference(
        network.name,
        on.name,
        sum(published.values()),
        exact.latency_ms,
        tuple((x.name, published.get(x.name), x.cycles / scale) for x in exact.layers),
    )


def _layer(layer: TopologyLayer, on: AmedAccelerator, bits: int, input_bits: int, output_bits: int) -> ExactLayer:
    memories, flow = on.array.memories, on.array.dataflow
    filters = -(-layer.n // max(1, on.mac_bits // bits))  # columns (or rows) that they take
    inputs = windows(layer).distinct * input_bits
    weights = layer.k * layer.n * bits
    outputs = layer.m * layer.n * output_bits
    if flow is Dataflow.OS:
        cycles, row_folds, column_folds = _folds(layer.m, layer.k, filters, on)
        ifmap = inputs * (column_folds if inputs > _active_bits(memories.ifmap_kb) else 1)
        weight = weights * (row_folds if weights > column_folds * _active_bits(memories.filter_kb) else 1)
        return _timed(layer, on, (bits, input_bits, output_bits), (cycles, ifmap, weight, outputs))
    choices = []
    streamed = layer.m if flow is Dataflow.WS else filters
    sums = layer.m * layer.n * PARTIAL_SUM_BITS
    _, row_folds, column_folds = _folds(layer.m, layer.k, filters, on)
    needed = -(-sums // (column_folds * _active_bits(memories.ofmap_kb)))
    for parts in {1, min(needed, streamed)}:  # spill the partial sums, or stream in parts whose partial sums fit
        part = -(-streamed // parts)
        m, n = (part, filters) if flow is Dataflow.WS else (layer.m, part)
        cycles, row_folds, column_folds = _folds(m, layer.k, n, on)
        spilled = 0 if parts >= needed else 2 * (row_folds - 1) * sums
        held, moving, space = (
            (weights, inputs, memories.ifmap_kb) if flow is Dataflow.WS else (inputs, weights, memories.filter_kb)
        )
        held *= parts if row_folds * column_folds > 1 else 1
        moving *= column_folds if moving > _active_bits(space) else 1
        ifmap, weight = (moving, held) if flow is Dataflow.WS else (held, moving)
        traffic = (parts * cycles, ifmap, weight, outputs + spilled)
        choices.append(_timed(layer, on, (bits, input_bits, output_bits), traffic))
    return min(choices, key=lambda choice: choice.cycles)


def _folds(m: int, k: int, n: int, on: AmedAccelerator) -> tuple[int, int, int]:
    """Cycles, row folds and column folds of a matrix product."""
    cycles = evaluate(m, k, n, on.array.rows, on.array.columns, on.array.dataflow, corrected=True)
    return int(cycles.total_cycles), int(cycles.row_folds), int(cycles.column_folds)


def _active_bits(kib: int) -> int:
    """Bits of the half of an SRAM that is in use."""
    return 1024 * 8 * kib // 2


def _timed(
    layer: TopologyLayer, on: AmedAccelerator, widths: tuple[int, int, int], traffic: tuple[int, int, int, int]
) -> ExactLayer:
    """Cycles of a layer from the cycles of one group, and the bits its inputs, weights and outputs take to DRAM."""
    word = on.bandwidth_words * on.word_bits
    cycles, *moved = traffic
    times = (-(-layer.groups * bits // word) for bits in moved)
    return ExactLayer(layer.name, *widths, layer.groups * cycles, *times)


def _reading_the_image(network: Network) -> set[str]:
    return set(_weighted_readers(network, network.input.name))


def _weighted_readers(network: Network, name: str) -> list[str]:
    """The layers with weights that read what a layer produces, directly or through others."""
    weighted = {layer.name for layer in network.weighted}
    found: list[str] = []
    waiting = list(network.consumers(name))
    seen: set[str] = set()
    while waiting:
        reader = waiting.pop()
        if reader in seen:
            continue
        seen.add(reader)
        if reader in weighted:
            found.append(reader)
        else:
            waiting += network.consumers(reader)
    return found

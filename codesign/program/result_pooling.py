"""Max pooling of results: which pooling layers are done while the results of the convolution before them leave.

Such a convolution and its pooling are one layer that writes the maxima; the map between them is never stored. Where
memories hold few rows that may take longer, or not fit: strips of a pooled map need twice as many rows, and of windows
of 3 x 3 each computes one again. So there is a schedule for either, and the faster one is taken.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from fractions import Fraction

from codesign.errors import UserError
from codesign.program.outline import width_of, words_by_width
from codesign.program.schedule import Kind, Schedule
from codesign.program.shapes import ConvShape, LayerShape, NetworkShape, Pooled, PoolShape
from codesign.program.stages import layer_cycles
from codesign.program.strips import build_schedule
from codesign.rtl.geometry import Geometry


def schedule_pooled(network: NetworkShape, geometry: Geometry) -> tuple[NetworkShape, Schedule]:
    """The network, with results that are pooled where that is faster, and its schedule.

    Raises:
        UserError: as `build_schedule` of the network as it is.
    """
    pooled = pool_results(network, geometry)
    if pooled is network:
        return network, build_schedule(network, geometry)
    try:
        schedule = build_schedule(pooled, geometry)
    except UserError:
        return network, build_schedule(network, geometry)
    try:
        apart = build_schedule(network, geometry)
    except UserError:
        return pooled, schedule
    faster = schedule_cycles(schedule, pooled, geometry) <= schedule_cycles(apart, network, geometry)
    return (pooled, schedule) if faster else (network, apart)


def schedule_cycles(schedule: Schedule, network: NetworkShape, geometry: Geometry) -> int | Fraction:
    """About the cycles of a schedule; formats of filters are not known here."""
    widths = {tensor.name: width_of(tensor, geometry) for tensor in network.maps}
    total: int | Fraction = 0
    before: int | Fraction = 0  # of the step before
    for step in schedule.steps:
        spent: int | Fraction = 0
        if step.layer is not None:
            spent = layer_cycles(step.layer, network.tensor(step.layer.input), widths, geometry)
        elif step.kind is Kind.STORE and step.source is not None:
            stored = replace(step.source, rows=step.rows)
            spent = words_by_width(stored, geometry)[widths[stored.tensor.name]] * geometry.load_beats
        elif step.kind is Kind.LOAD and step.target is not None:
            words = words_by_width(step.target, geometry)[widths[step.target.tensor.name]]
            spent = words * geometry.load_beats * geometry.hw.memory.cycles_per_beat
            if step.early:
                spent = max(0, spent - before)
        elif step.kind is Kind.FENCE:
            spent = geometry.hw.memory.latency
        total, before = total + spent + geometry.result_latency, spent
    return total


def pool_results(network: NetworkShape, geometry: Geometry) -> NetworkShape:
    """The network in which convolutions pool their results where they can, and the layers that do so are left out."""
    if geometry.hw.result_pooling is None:
        return network
    reads = Counter(layer.input for layer in network.layers)
    reads.update(x.residual for x in network.layers if isinstance(x, ConvShape) and x.residual is not None)
    pools = {layer.input: layer for layer in network.layers if isinstance(layer, PoolShape)}
    layers: list[LayerShape] = []
    numbers: list[int] = []
    done: set[str] = set()  # outputs of the poolings that are left out
    for number, layer in enumerate(network.layers):
        if layer.output.name in done:
            continue
        if isinstance(layer, ConvShape) and reads[layer.output.name] == 1 and layer.output.name in pools:
            pool = pools[layer.output.name]
            if (pooled := _pooled(layer, pool, geometry)) is not None:
                layer = replace(layer, output=pool.output, pooled=pooled)
                done.add(pool.output.name)
        layers.append(layer)
        numbers.append(number)
    return replace(network, layers=tuple(layers), numbers=tuple(numbers)) if done else network


def _pooled(conv: ConvShape, pool: PoolShape, geometry: Geometry) -> Pooled | None:
    """How a convolution pools its results; None if it cannot."""
    hardware, (height, width) = geometry.hw.result_pooling, (conv.output.height, conv.output.width)
    if hardware is None or conv.groups > 1 or conv.residual is not None or conv.output.wide or pool.kind != "max":
        return None
    if width > hardware.width or width % geometry.columns or (height % 2, width % 2) != (0, 0):
        return None
    if pool.stride != (2, 2) or (pool.output.height, pool.output.width) != (height // 2, width // 2):
        return None
    written, given = (geometry.map_bits(each.channels, each.bits) for each in (pool.output, conv.output))
    if written != given:
        return None
    # at the far sides, which are even, no window of 3 x 3 goes beyond the map
    top, _, left, _ = pool.padding
    if pool.kernel == (2, 2) and not any(pool.padding):
        return Pooled(2)
    return Pooled(3) if pool.kernel == (3, 3) and (top, left) == (1, 1) else None

"""The planner: a network's sizes and the formats of its filters to a plan; what needs no formats is found once.

Placement, strips and the descriptors' order depend on the sizes only. The formats decide which filters compute
together, and with that how many passes a layer takes.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from codesign.arch.hardware import Hardware
from codesign.arch.limits import MOST_CODE_BITS, SUM_BITS
from codesign.errors import UserError
from codesign.program.dealing import Row
from codesign.program.depthwise import on_unit, reads_of, unit_step
from codesign.program.input_folding import fold_shape
from codesign.program.passes import RowSet, passes_of, row_sets
from codesign.program.plan import LayerWork, PassPlan, Placement, Plan, StepPlan, step_beats
from codesign.program.result_pooling import schedule_pooled
from codesign.program.schedule import Kind, Step, StoredMap
from codesign.program.shapes import ConvShape, LayerShape, MapShape, NetworkShape, PoolShape
from codesign.program.tiling import Tiling
from codesign.rtl.geometry import COORD_BITS, Geometry
from codesign.rtl.layout import KERNEL_BITS, STRIDE_BITS, Op


@dataclass(frozen=True, eq=False)
class PlannedStep:
    """A step of the schedule: where its maps lie, and its plan but for the passes of a convolution.

    Attributes:
        source, residual: the stored rows that it reads, if any.
        target: the stored rows that it writes some of, if any.
        key: by how many places the groups of the first pixel that it reads are rotated.
        alike: whether the groups of all pixels that it reads are rotated as the first one's.
        apart: whether every tile has one pixel that it reads, in all its columns.
    """

    step: Step
    plan: StepPlan
    source: Placement | None
    residual: Placement | None
    target: Placement | None
    key: int = 0
    alike: bool = False
    apart: bool = False


class Planner:
    """Plans of one network on one accelerator, for any formats of its filters."""

    def __init__(self, network: NetworkShape, hw: Hardware) -> None:
        """Place the maps.

        Raises:
            UserError: something does not fit; the message names the layer, the limit and by how much it is exceeded.
        """
        self.given = network
        self.hw = hw
        self.geometry = Geometry(hw)
        check_widths(network, hw)
        folded, self.fold = fold_shape(stored(network, self.geometry), self.geometry)
        check_shape(folded, hw)
        self.network, self.schedule = schedule_pooled(folded, self.geometry)
        self.layers = tuple(_work(layer) for layer in network.layers)
        self.steps: tuple[PlannedStep, ...] = tuple(self._planned(step) for step in self.schedule.steps)

    def plan(self, rows: Sequence[Sequence[Row]]) -> Plan:
        """The plan with the filters `rows` of every convolution, in order.

        Raises:
            UserError: no band holds a filter, or a layer's weights do not fit the rings.
        """
        return self.stream(self.with_passes(self.steps, self.sets(rows)))

    def sets(self, rows: Sequence[Sequence[Row]]) -> dict[int, tuple[RowSet, ...]]:
        """The filters `rows` of every convolution, in order, in sets, by layer: none of those that the unit computes.

        Raises:
            UserError: no band holds a filter.
        """
        convs = [number for number, layer in enumerate(self.given.layers) if isinstance(layer, ConvShape)]
        sets = {}
        for number, conv, filters in zip(convs, self.network.convs, rows, strict=True):
            held = self.filters(number, filters)
            of_array = row_sets(conv, held, self.geometry)
            if not on_unit(conv, held, of_array, self.geometry):
                sets[number] = of_array
        return sets

    def with_passes(self, steps: Iterable[PlannedStep], sets: Mapping[int, Sequence[RowSet]]) -> list[StepPlan]:
        """The plans of steps, but for what the beats before fences decide; `sets` as `sets` gives them.

        Raises:
            UserError: a layer's weights do not fit the rings.
        """
        # strips of one height have the same passes
        found: dict[tuple[int, int, int, bool], tuple[PassPlan, ...]] = {}
        plans: list[StepPlan] = []
        for planned in steps:
            plan, layer = planned.plan, planned.step.layer
            if isinstance(layer, ConvShape) and plan.layer not in sets:
                plan = unit_step(plan, layer, layer.filters, layer.input_bits, self.geometry)
            elif isinstance(layer, ConvShape):
                key = plan.layer, layer.computed.height, layer.computed.width, plan.half
                if key not in found:
                    found[key] = passes_of(layer, sets[plan.layer], self.geometry, plan.half)
                plan = replace(plan, passes=found[key], beats=step_beats(found[key], self.geometry))
            plans.append(plan)
        return plans

    def stream(self, steps: Iterable[StepPlan], images: int = 1) -> Plan:
        """The plan of steps that have their passes, of some images."""
        plans: list[StepPlan] = []
        beats, begun = 0, 0
        fences: list[int] = []
        segments: list[int] = []  # beats between fences
        for number, plan in enumerate(steps):
            if plan.op == Op.FENCE:
                plan = replace(plan, dropped=-(beats + plan.beats) % self.hw.memory.burst_beats)
                plan = replace(plan, beats=plan.beats + plan.dropped)
                fences.append(number)
                segments.append(beats + plan.beats - begun)
                begun = beats + plan.beats
            beats += plan.beats
            plans.append(plan)
        beats += self.geometry.descriptor_beats
        beats += -beats % self.hw.memory.burst_beats
        segments.append(beats - begun)
        bursts = [segment // self.hw.memory.burst_beats for segment in segments]
        for number, count in zip(fences, bursts[1:], strict=True):
            plans[number] = replace(plans[number], bursts=count)
        return Plan(self.hw, self.given, self.layers, tuple(plans), beats, bursts[0], images=images)

    def filters(self, number: int, rows: Sequence[Row]) -> list[Row]:
        """The filters of a layer as they are on the accelerator; see `folded_filters`."""
        return folded_filters(self.given, self.fold, number, rows)

    def placement(self, stored: StoredMap | None) -> Placement | None:
        """Where stored rows lie."""
        if stored is None:
            return None
        memory, base = self.schedule.places[stored.name]
        return Placement(stored.tensor, stored.rows, memory, base, self.words_per_pixel(stored.tensor))

    def words_per_pixel(self, tensor: MapShape) -> int:
        """Activation words of one pixel."""
        return self.geometry.words(tensor.channels, tensor.bits)

    def _planned(self, step: Step) -> PlannedStep:
        source, target = self.placement(step.source), self.placement(step.target)
        plan = plan_step(step, self.network.number(step.index), source, target, self.geometry)
        return PlannedStep(step, plan, source, self.placement(step.residual), target)


def folded_filters(given: NetworkShape, fold: int, number: int, rows: Sequence[Row]) -> list[Row]:
    """The filters of a layer as they are on the accelerator: folding may fill the first kernel up with zeros."""
    if number == 0 and fold and given.layers[0].kernel[0] % fold:
        return [row._replace(zeros=True) for row in rows]
    return list(rows)


def plan_step(
    step: Step, number: int, source: Placement | None, target: Placement | None, geometry: Geometry
) -> StepPlan:
    """The plan of a step but for the passes of a convolution.

    Args:
        step: of the schedule.
        number: of its layer in the network as given.
        source, target: where its maps lie.
        geometry: of the accelerator.
    """
    layer = step.layer
    beats = geometry.descriptor_beats
    if isinstance(layer, ConvShape):
        assert source is not None
        half, frees = _half(source, target, geometry), geometry.second_reader and _frees(source, target)
        written = _written(step, target)
        return StepPlan(number, Op.CONV, step.rows, written, half=half, frees=frees, pooled=layer.pooled, beats=beats)
    if isinstance(layer, PoolShape):
        return _pool(step, number, layer, source, target, geometry)
    if step.kind is Kind.LOAD:
        assert target is not None
        beats += target.words * geometry.load_beats
        return StepPlan(-1, Op.LOAD, step.rows, target, load_words=target.words, early=step.early, beats=beats)
    if step.kind is Kind.STORE:
        assert source is not None
        words = (step.rows[1] - step.rows[0]) * source.tensor.width * source.words_per_pixel
        windows = Tiling(words, 1, 1, geometry.load_beats - 1)
        return StepPlan(number, Op.STORE, step.rows, None, windows=windows, store_words=words, beats=beats)
    return StepPlan(-1, Op.FENCE, (0, 0), None, beats=beats)


def _half(source: Placement, target: Placement | None, geometry: Geometry) -> bool:
    """Whether a convolution runs in half taps."""
    if not geometry.halves(source.tensor.channels, source.tensor.bits):
        return False
    return not geometry.second_reader or _frees(source, target)


def _frees(source: Placement, target: Placement | None) -> bool:
    """Whether nothing is written to the memory that a step reads: its write port is free for a second reader."""
    return target is None or target.memory != source.memory


def _pool(
    step: Step, number: int, pool: PoolShape, source: Placement | None, target: Placement | None, geometry: Geometry
) -> StepPlan:
    assert source is not None
    averaging = pool.kind == "avg"
    written, beats = _written(step, target), geometry.descriptor_beats
    if averaging and geometry.unit_averages:
        frees = geometry.second_reader and _frees(source, target)
        bare = StepPlan(number, Op.DEPTHWISE, step.rows, written, frees=frees)
        return unit_step(bare, pool, source.tensor.channels, source.tensor.bits, geometry)
    pairs = not averaging and geometry.second_reader and pool.kernel[1] > 1 and _frees(source, target)
    reads = reads_of(pool, pairs, geometry)
    sums = geometry.word_codes(source.tensor.bits)
    gap = max(0, sums - reads) if averaging else 0
    words = source.words_per_pixel
    windows = Tiling(pool.output.height * pool.output.width * words, reads, reads, gap)
    if averaging:
        passes = (PassPlan((), 0, 0, words, 0, windows, sums),)
        beats = step_beats(passes, geometry)
        return StepPlan(number, Op.AVG_POOL, step.rows, written, passes=passes, beats=beats)
    return StepPlan(number, Op.MAX_POOL, step.rows, written, pairs=pairs, windows=windows, beats=beats)


def _written(step: Step, whole: Placement | None) -> Placement | None:
    """The rows that a step writes: its rows inside the map it belongs to."""
    if whole is None:
        return None
    skipped = (step.rows[0] - whole.rows[0]) * whole.tensor.width * whole.words_per_pixel
    return Placement(whole.tensor, step.rows, whole.memory, whole.base + skipped, whole.words_per_pixel)


def stored(network: NetworkShape, geometry: Geometry) -> NetworkShape:
    """The network with the bits with which its maps are stored (`Geometry.map_bits`)."""

    def of(tensor: MapShape) -> MapShape:
        return tensor if tensor.wide else replace(tensor, bits=geometry.map_bits(tensor.channels, tensor.bits))

    maps = {item.name: of(item) for item in (network.input, *(layer.output for layer in network.layers))}
    layers: list[LayerShape] = []
    for layer in network.layers:
        found: LayerShape = replace(layer, output=maps[layer.output.name])
        if isinstance(found, ConvShape):
            found = replace(found, input_bits=maps[found.input].bits)
        layers.append(found)
    return replace(network, input=maps[network.input.name], layers=tuple(layers))


def check_widths(network: NetworkShape, hw: Hardware) -> None:
    """UserError if a map has more bits than the accelerator's widest codes."""
    for tensor in (network.input, *(layer.output for layer in network.layers)):
        if not tensor.wide and tensor.bits > hw.most_bits:
            raise too_wide(tensor.name, tensor.bits, hw)


def too_wide(tensor: str, bits: int, hw: Hardware) -> UserError:
    """The error that a map has more bits than the accelerator's widest codes."""
    return UserError(f"{tensor}: {bits}-bit activations, '{hw.name}' has {_widths(hw, bits)}")


def check_shape(network: NetworkShape, hw: Hardware) -> None:
    """What can be said of sizes before placement.

    Raises:
        UserError: a size exceeds its field, or the network ends in a map of int32 results.
    """
    for tensor in (network.input, *(layer.output for layer in network.layers)):
        if max(tensor.height, tensor.width) >= 1 << (COORD_BITS - 1):
            raise UserError(
                f"{tensor.name}: a {tensor.height}x{tensor.width} map, sides are limited to "
                f"{(1 << (COORD_BITS - 1)) - 1}"
            )
    last = network.layers[-1]
    if last.output.wide and not (isinstance(last, ConvShape) and last.output.height * last.output.width == 1):
        raise UserError(
            f"{last.name}: int32 results must be those of a fully connected layer, one per class; this one gives a "
            f"{last.output.height}x{last.output.width} map of them: requantize it to {hw.most_bits} bits"
        )
    for layer in network.layers:
        if layer.output.wide and layer is not last:
            raise UserError(f"{layer.name}: only the last layer may have int32 results")
        for what, sides, bits in (("kernel", layer.kernel, KERNEL_BITS), ("stride", layer.stride, STRIDE_BITS)):
            if max(sides) >= 1 << bits:
                raise UserError(f"{layer.name}: {what} {sides[0]}x{sides[1]}, sides are limited to {(1 << bits) - 1}")
        if isinstance(layer, PoolShape) and layer.kind == "avg" and layer.kernel[0] * layer.kernel[1] > 1 << SUM_BITS:
            raise UserError(
                f"{layer.name}: an average over {layer.kernel[0]}x{layer.kernel[1]} codes, at most "
                f"{1 << SUM_BITS} can be summed"
            )


def _widths(hw: Hardware, wanted: int) -> str:
    """The widths of codes that an accelerator has, and how it would get one that holds so many bits."""
    if hw.has_modes:
        return f"act_modes: [{', '.join(map(str, hw.act_modes))}]"
    doubled = 2 * hw.act_bits
    allowed = wanted <= doubled <= MOST_CODE_BITS and hw.dataflow == "os" and hw.dot % 2 == 0
    return f"act_bits: {hw.act_bits}" + (f"; give it 'act_modes: [{hw.act_bits}, {doubled}]'" if allowed else "")


def _work(layer: LayerShape) -> LayerWork:
    products = layer.weight[1] * layer.weight[2] * layer.weight[3] if isinstance(layer, ConvShape) else 0
    return LayerWork(layer.name, layer.output.channels, products, layer.output.height * layer.output.width)

"""What a reader of a network's cycles should know: what costs them, and which key or option ends it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from math import ceil
from typing import Any, NamedTuple

from pydantic import ValidationError

from codesign.arch.hardware import Hardware
from codesign.errors import UserError
from codesign.formats.ratio import Ratio, row_counts
from codesign.formats.row_format import RowFormat
from codesign.program import Plan, Planner
from codesign.program.dealing import bands_for, row_of
from codesign.program.plan import StepPlan
from codesign.program.shapes import ConvShape, PoolShape
from codesign.rtl.layout import Op
from codesign.sim.timing.plan_timing import estimate

WORTH = 0.01
"""Share of the cycles from which on saving them is worth a line."""
MOST_RING_WORDS = 1 << 16
"""Words of a weight ring that `buffers.weight_words` can ask for."""

Replan = Callable[[Hardware], Plan]
"""The plan of the same network, with the same formats, on another accelerator."""


class Fetches(NamedTuple):
    """Weights of a layer over the memory bus.

    Attributes:
        layer: its name.
        fetched, once: bytes that are read, and that they would be if each were read once.
        ring_words: words that a row's ring needs for that; 0 where the ring is not the reason (strips).
    """

    layer: str
    fetched: int
    once: int
    ring_words: int


def fetches(plan: Plan) -> list[Fetches]:
    """The layers whose weights are read more than once, in order."""
    geometry, beat = plan.geometry, plan.geometry.beat_bytes
    steps: dict[int, list[StepPlan]] = {}
    for step in plan.steps:
        if step.passes and step.layer >= 0:
            steps.setdefault(step.layer, []).append(step)
    found = []
    for layer, mine in sorted(steps.items()):
        fetched, parts, need = 0, {}, 0
        for step in mine:
            walk = 0
            for item in step.passes:
                beats = item.weight_beats(geometry) * beat
                fetched += beats
                parts[item.filters, item.word_offset, item.words] = beats
                walk = item.steps + (0 if item.fresh else walk)
                if item.single:
                    need = max(need, walk)
        once = sum(parts.values())
        if fetched > once:
            found.append(Fetches(plan.layers[layer].name, fetched, once, need))
    return found


def fetch_hints(plan: Plan, cycles: int, replan: Replan) -> list[str]:
    """Of weights that are fetched several times, and the key that ends it."""
    found = fetches(plan)
    stripped = [item for item in found if not item.ring_words]
    most = sum(item.fetched - item.once for item in stripped)
    hints = []
    if most >= WORTH * plan.beats * plan.geometry.beat_bytes:
        hints.append(
            f"{_names([item.layer for item in stripped])}: weights are fetched for every strip again, {_bytes(most)} "
            "more, since the maps do not fit the activation memories: a larger 'buffers.activation_words' ends it"
        )
    again = [item for item in found if item.ring_words]
    return hints + (_ring_hint(plan, again, cycles, replan) if again else [])


def _ring_hint(plan: Plan, again: list[Fetches], cycles: int, replan: Replan) -> list[str]:
    """Of weights that a row's ring does not hold."""
    fetched, once = sum(item.fetched for item in again), sum(item.once for item in again)
    times = ceil(max(item.fetched / item.once for item in again) - 1e-9)
    words = 1 << (max(item.ring_words for item in again) - 1).bit_length()
    depth = plan.hw.buffers.weight_words
    says = (
        f"{_names([item.layer for item in again])}: weights are fetched up to {times} times, {_bytes(fetched)} instead "
        f"of {_bytes(once)}, since they need {max(item.ring_words for item in again):,} words of a row's ring, which "
        f"holds {depth:,}"
    )
    if words > MOST_RING_WORDS:
        return [f"{says}; no ring is as deep: lower the layer's channels, or raise dot"]
    buffers = plan.hw.buffers.model_copy(update={"weight_words": words})
    saved = cycles - estimate(replan(plan.hw.model_copy(update={"buffers": buffers}))).total_cycles
    return [f"{says}; 'buffers.weight_words: {words}' ends it and saves {_share(saved, cycles)}"]


def depthwise_hints(plan: Plan, cycles: int, replan: Replan) -> list[str]:
    """Of layers with a filter for each channel on the array: what a unit for them would save, if there can be one."""
    layers = [conv.name for conv in plan.shape.convs if conv.groups == conv.filters > 1]
    if plan.hw.depthwise is not None or not layers:
        return []
    readers = plan.hw.buffers.read_ports
    saved = _saved_by({"depthwise": {"readers": readers}}, plan, cycles, replan)
    if saved < WORTH * cycles:
        return []
    key = f"{{readers: {readers}}}" if readers > 1 else "{}"
    return [
        f"{_names(layers)}: filters of one channel use one of the {plan.geometry.word_elements} places of a word; "
        f"'depthwise: {key}' is a unit for them and saves {_share(saved, cycles)}"
    ]


def result_hints(plan: Plan, cycles: int, replan: Replan) -> list[str]:
    """Of tiles that wait for their results to leave: what results of two rows a cycle would save, if they can be."""
    waits = []
    for number in sorted({step.layer for step in plan.steps if any(item.tiling.gap for item in step.passes)}):
        layer = plan.shape.layers[number]
        if isinstance(layer, ConvShape) and layer.residual is None and not layer.output.wide:
            waits.append(layer.name)
    if plan.hw.result_rows == 2 or not waits:
        return []
    saved = _saved_by({"result_rows": 2}, plan, cycles, replan)
    if saved < WORTH * cycles:
        return []
    return [
        f"{_names(waits)}: tiles have fewer steps than there are rows, whose results leave one a cycle; with "
        f"'result_rows: 2' two leave, which saves {_share(saved, cycles)}"
    ]


def pooling_hints(plan: Plan, cycles: int, replan: Replan) -> list[str]:
    """Of max pooling behind convolutions that takes cycles of its own: what pooling of results would save, if they can
    be pooled.
    """
    widths = {conv.output.name: conv.output.width for conv in plan.shape.convs}
    pools: dict[str, int] = {}
    for number in sorted({step.layer for step in plan.steps if step.op == Op.MAX_POOL}):
        layer = plan.shape.layers[number]  # a convolution's where its map is copied
        width = widths.get(layer.input, 0)
        if isinstance(layer, PoolShape) and width and width % plan.geometry.columns == 0:
            pools[layer.name] = width
    if not pools:
        return []
    width = max(pools.values())
    saved = _saved_by({"result_pooling": {"width": width}}, plan, cycles, replan)
    if saved < WORTH * cycles:
        return []
    return [
        f"{_names([*pools])}: max pooling takes cycles of its own; with 'result_pooling: {{width: {width}}}' it is "
        f"done as the results of the convolution leave, which saves {_share(saved, cycles)}"
    ]


def _saved_by(keys: dict[str, Any], plan: Plan, cycles: int, replan: Replan) -> int:
    """Cycles that other keys of the accelerator save; 0 where it, or the network on it, cannot be."""
    try:
        other = Hardware.model_validate(plan.hw.model_dump(mode="json") | keys)
        return cycles - estimate(replan(other)).total_cycles
    except (ValidationError, UserError):
        return 0


def width_hints(hw: Hardware, formats: Iterable[RowFormat], act_bits: int) -> list[str]:
    """Of formats that are narrower than every band which holds them, and of narrower activations."""
    found = []
    for form in sorted(set(formats), key=str):
        able = [hw.bands[index] for index in bands_for(row_of(form), hw.bands)]
        if able and min(band.weight_bits for band in able) > form.bits:
            least = min(band.weight_bits for band in able)
            found.append(
                f"{form} rows are computed and stored in {least} bits, those of the narrowest band of {hw.name} that "
                "holds them: no cycle and no byte is saved"
            )
    if act_bits < (stored := hw.code_bits(act_bits)):
        found.append(
            f"activations of {act_bits} bits are stored in {stored}, those of {hw.name}: no cycle and no byte is saved"
        )
    return found


def ratio_hints(plan: Plan, cycles: int, ratio: Ratio) -> list[str]:
    """Of rows that do not suit the bands: what the bands' own `ratio` would save."""
    try:
        planner = Planner(plan.shape, plan.hw)
        rows = []
        for conv in plan.shape.convs:
            counts = row_counts(conv.filters, ratio)
            rows.append([row_of(form) for form, count in counts.items() for _ in range(count)])
        own = estimate(planner.plan(rows)).total_cycles
    except UserError:  # such as binary bands, which do not hold every layer
        return []
    if cycles - own < WORTH * cycles:
        return []
    text = ",".join(f"{form}:{100 * share:.4g}" for form, share in ratio.items())
    return [
        f"the formats of the rows do not suit the bands of {plan.hw.name}: in their own ratio, {text}, the network "
        f"takes {own:,} cycles, which saves {_share(cycles - own, cycles)}"
    ]


def _share(saved: int, cycles: int) -> str:
    return f"{saved:,} of {cycles:,} cycles ({100 * saved / cycles:.1f} %)"


def _bytes(count: int) -> str:
    return f"{count / 1e6:.1f} MB" if count >= 1e5 else f"{count / 1e3:.1f} kB"


def _names(layers: list[str]) -> str:
    return f"{', '.join(layers[:3])} and {len(layers) - 3} more" if len(layers) > 4 else ", ".join(layers)

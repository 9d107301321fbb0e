"""What a program moves over the memory bus, by kind: bytes of every layer."""

from __future__ import annotations

from dataclasses import dataclass, fields

from codesign.program.plan import Plan, StepPlan, owners_of
from codesign.rtl.counters import BYTES, RESULT_BYTES
from codesign.rtl.geometry import Geometry
from codesign.rtl.layout import Op


@dataclass(frozen=True)
class Traffic:
    """Bytes by kind, padding to whole beats included.

    Attributes:
        weights: weight words of all passes.
        parameters: biases, requantization factors and headers of the passes.
        inputs: rows of the image.
        descriptors: what tells the sequencer the layer's sizes.
        outputs: results written to memory.
        spills, reloads: feature maps written to memory, and read back, where no schedule keeps them on chip.
    """

    weights: int = 0
    parameters: int = 0
    inputs: int = 0
    descriptors: int = 0
    outputs: int = 0
    spills: int = 0
    reloads: int = 0

    def __add__(self, other: Traffic) -> Traffic:
        return Traffic(*(getattr(self, item.name) + getattr(other, item.name) for item in fields(Traffic)))

    @property
    def total(self) -> int:
        """All bytes, read and written."""
        return sum(getattr(self, item.name) for item in fields(Traffic))

    @property
    def read(self) -> int:
        """Bytes read."""
        return self.total - self.written

    @property
    def written(self) -> int:
        """Bytes written."""
        return self.outputs + self.spills


def traffic(program: Plan) -> tuple[Traffic, ...]:
    """Traffic of every layer of a program; loads of input rows count for the layer that they come before."""
    geometry = program.geometry
    found = [Traffic() for _ in program.layers]
    for plan, owner in zip(program.steps, owners_of(program.steps), strict=True):
        found[owner] += _step(plan, program, geometry)
    return tuple(found)


def ending(program: Plan) -> int:
    """Bytes of the last descriptor, which ends the program, and of what fills its last burst."""
    return program.beats * program.geometry.beat_bytes - sum(layer.read for layer in traffic(program))


def bytes_moved(program: Plan) -> dict[str, int]:
    """Bytes of a run by the kinds that the hardware counts, `codesign.rtl.counters.BYTES`."""
    total = sum(traffic(program), Traffic())
    rest = total.descriptors + total.parameters + ending(program)
    words = sum(plan.store_words for plan in program.steps)  # spilled, or the network's output
    stored = words * program.geometry.load_beats * program.geometry.beat_bytes
    results = total.outputs + total.spills - stored
    kinds = (rest, total.weights, total.inputs + total.reloads, results, stored)
    return dict(zip(BYTES, kinds, strict=True))


def _step(plan: StepPlan, program: Plan, geometry: Geometry) -> Traffic:
    beat = geometry.beat_bytes
    descriptors = geometry.descriptor_beats * beat
    if plan.op == Op.LOAD:
        moved = plan.load_words * geometry.load_beats * beat
        assert plan.written is not None
        if plan.written.tensor.name == program.shape.input.name:
            return Traffic(inputs=moved, descriptors=descriptors)
        return Traffic(reloads=moved, descriptors=descriptors)
    if plan.op == Op.STORE:
        moved = plan.store_words * geometry.load_beats * beat
        if plan.layer == program.computed_in[-1]:  # which is never spilled
            return Traffic(outputs=moved, descriptors=descriptors)
        return Traffic(spills=moved, descriptors=descriptors)
    if plan.op == Op.FENCE:
        return Traffic(descriptors=descriptors + plan.dropped * beat)
    weights = sum(each.weight_beats(geometry) for each in plan.passes)
    outputs = 0
    if plan.wide:
        work = program.layers[plan.layer]
        outputs = RESULT_BYTES * work.m * work.n * plan.together
    return Traffic(
        weights=weights * beat,
        parameters=sum(geometry.header_beats + each.param_beats(geometry) for each in plan.passes) * beat,
        descriptors=descriptors,
        outputs=outputs,
    )

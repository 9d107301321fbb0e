"""DQ (Uhlich et al., ICLR 2020): step and range are learned, bits follow; a penalty for what is above the limit."""

from codesign.allocation.methods.protocol import Task
from codesign.allocation.methods.relaxed import RelaxedMethod, widest_network
from codesign.allocation.relaxations.decisions import Decisions
from codesign.allocation.relaxations.ranges import Ranges
from codesign.allocation.relaxations.terms import Excess
from codesign.allocation.relaxations.training import Schedule
from codesign.quant.ranges import RangedNetwork


def ranged_network(task: Task, decisions: Decisions) -> RangedNetwork:
    """The task's float network with steps and ranges, calibrated on the subject's images at the most bits."""
    return widest_network(RangedNetwork, task, decisions)


DQ = RelaxedMethod(
    name="dq",
    paper="DQ, Uhlich et al. 2020",
    equations="learned step d and range q (U3), bits log2(q / d + 1) rounded up; loss + lambda max(0, cost - limit)^2",
    decides="layer: bits of weights and of activations",
    law=Ranges,
    term=Excess(10.0),
    schedule=Schedule(law_rate=0.05),
    network=ranged_network,
    deviations=(
        "step and range are factors of a layer on those of its rows; the paper has one of each for a tensor",
        "they are learned as logarithms; steps are not rounded to powers of two, which the accelerator does not need",
        "the cost is the exact one of the limits, interpolated between the choices; the paper has sizes of weights and "
        "maps at bits rounded up with a straight-through gradient",
        "values beyond the range move the step, too, by what it misses of the range; the paper has 0 there",
        "the power-of-two variant is left out",
    ),
)

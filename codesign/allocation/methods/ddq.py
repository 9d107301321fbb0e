"""DDQ (Zhang et al., ICML 2021): levels of every tensor are learned, and learned gates merge them to fewer bits."""

from codesign.allocation.methods.protocol import Task
from codesign.allocation.methods.relaxed import RelaxedMethod, widest_network
from codesign.allocation.relaxations.decisions import Decisions
from codesign.allocation.relaxations.gated_levels import GatedLevels, LevelRelaxer
from codesign.allocation.relaxations.terms import Weighted
from codesign.allocation.relaxations.training import Schedule
from codesign.quant.learned_levels import LeveledNetwork


def leveled_network(task: Task, decisions: Decisions) -> LeveledNetwork:
    """The task's float network, to be given levels, calibrated on the subject's images at the most bits."""
    return widest_network(LeveledNetwork, task, decisions)


DDQ = RelaxedMethod(
    name="ddq",
    paper="DDQ, Zhang et al. 2021",
    equations="levels U q / Z; U = product (Kronecker) of g I + (1 - g) 1, 2 x 2 each, g = 0 or 1; bits = sum of g",
    decides="layer: bits of weights and of activations",
    law=GatedLevels,
    term=Weighted(1.0),
    schedule=Schedule(law_rate=0.02),
    network=leveled_network,
    trainer=LevelRelaxer,
    deviations=(
        "levels are learned while bits are chosen, and left then: the hardware has even levels and sums of powers of "
        "two, so only the bits that the gates come to are kept, and quantize trains with even steps",
        "levels of weights are a layer's, in units of its rows' scales, which start at the calibrated ones and stay; "
        "the paper's are real values",
        "a gate opens the step to the next of the choices, as many equal gates of the paper; one that is shut shuts "
        "all behind it",
        "the cost is the expected exact cost of the limits, and counts what is above them; the paper has a memory "
        "constraint",
        "the correction of gradients is the squared error of what is rounded, which levels alone learn from",
        "n bits have 2^n levels while they are learned, of weights one more than the hardware's",
        "no official code was found; the paper itself was not at hand: written from descriptions of it",
    ),
)

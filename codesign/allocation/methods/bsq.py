"""BSQ (Yang et al., ICLR 2021): bits of weights are trained, and a group lasso empties whole bit planes of layers."""

from codesign.allocation.methods.protocol import Task
from codesign.allocation.methods.relaxed import RelaxedMethod, widest_network
from codesign.allocation.relaxations.bit_planes import BitPlanes, PlaneRelaxer
from codesign.allocation.relaxations.decisions import Decisions
from codesign.allocation.relaxations.terms import Nothing
from codesign.allocation.relaxations.training import Schedule
from codesign.quant.given_weights import GivenNetwork


def given_network(task: Task, decisions: Decisions) -> GivenNetwork:
    """The task's float network, to be given weights, calibrated on the subject's images at the most bits."""
    network = widest_network(GivenNetwork, task, decisions)
    network.normalize(task.subject.images)
    return network


BSQ = RelaxedMethod(
    name="bsq",
    paper="BSQ, Yang et al. 2021",
    equations="W = s / (2^n - 1) round[sum 2^b (Wp - Wn)]; alpha * memory-weighted group lasso; empty planes dropped",
    decides="layer: bits of weights",
    law=BitPlanes,
    term=Nothing(),
    schedule=Schedule(law_rate=0.5, law_optimizer="sgd"),
    choices="w2,w3,w4,w5,w6,w7,w8",
    network=given_network,
    trainer=PlaneRelaxer,
    deviations=(
        "n planes are n + 1 bits here, one is the sign; the paper counts planes",
        "with limits the group lasso counts while the bits of the weights as they are miss one, so alpha (0.2) need "
        "not be searched; without limits it always counts, as in the paper",
        "planes are trained by SGD at 0.5 and adjusted after every epoch; the paper trains at 0.1 for 350 epochs, with "
        "alpha near 0.005, and adjusts a few times",
        "batch norms are put back behind the layers of the folded network, so that the scale of weights is free, as it "
        "is in the paper's networks; they go with the weights of this training",
        "s is the largest weight of the layer, which adjusting moves with the planes and training does not; rows get "
        "scales of their own afterwards",
        "a layer keeps one plane at least, and at most one more than at first",
        "maps have the accelerator's bits; training after the choice is that of quantize, from the float weights: the "
        "paper goes on from its own, which a few epochs of the group lasso leave worse",
        "the official code has no licence: written from the paper's equations",
    ),
)

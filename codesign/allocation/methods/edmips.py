"""EdMIPS (Cai and Vasconcelos, CVPR 2020): softmax over branches of weights and activations, complexity in the loss."""

from codesign.allocation.methods.relaxed import RelaxedMethod
from codesign.allocation.relaxations.laws import Softmax
from codesign.allocation.relaxations.terms import Weighted
from codesign.allocation.relaxations.training import Schedule

EDMIPS = RelaxedMethod(
    name="edmips",
    paper="EdMIPS, Cai and Vasconcelos 2020",
    equations="composite convolution of mixed weights and mixed activations; loss + eta E[cost]; largest share wins",
    decides="layer: bits of weights and of activations",
    law=Softmax,
    term=Weighted(1.0),
    schedule=Schedule(law_rate=0.1, law_optimizer="sgd"),
    deviations=(
        "a few epochs of training from the float network; the paper trains from scratch, and the result again",
        "the cost is the expected exact cost of the limits; the paper counts products times mean bits of both",
        "with limits the term counts what is above them, so its factor need not be searched",
        "quantizers have learned steps; the official code has HWGQ's fixed ones",
        "written from its equations; the official code has no licence to look at",
    ),
)

"""BP-NAS (Yu et al., ECCV 2020): a softmax over branches behind a barrier at the limit."""

from codesign.allocation.methods.relaxed import RelaxedMethod
from codesign.allocation.relaxations.laws import Softmax
from codesign.allocation.relaxations.terms import Barrier
from codesign.allocation.relaxations.training import Schedule

BP_NAS = RelaxedMethod(
    name="bp-nas",
    paper="BP-NAS, Yu et al. 2020",
    equations="softmax over branches; loss - mu log(log(B + 1 - E[cost])) and products of 1 - p; largest share wins",
    decides="layer: bits of weights and of activations",
    law=Softmax,
    term=Barrier(),
    schedule=Schedule(law_rate=0.1, law_optimizer="sgd"),
    deviations=(
        "decisions are of layers, not of blocks",
        "costs are in shares of the limit; near it and above the barrier goes on straight: training may start there",
        "a few epochs of training from the float network, weights and shares together",
        "the paper itself was not at hand: written from its description in surveys",
    ),
)

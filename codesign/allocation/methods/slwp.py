"""SLWP, Stochastic Layer-Wise Precision (Lacey et al. 2018): layers draw their bits from one budget."""

from codesign.allocation.methods.relaxed import RelaxedMethod
from codesign.allocation.relaxations.bit_budget import BitBudget, BudgetRelaxer
from codesign.allocation.relaxations.terms import Nothing
from codesign.allocation.relaxations.training import Schedule

SLWP = RelaxedMethod(
    name="slwp",
    paper="SLWP, Lacey et al. 2018",
    equations="bits of a budget go to layers one by one, by a straight-through Gumbel softmax over layers",
    decides="layer: bits of weights",
    law=BitBudget,
    term=Nothing(),
    trainer=BudgetRelaxer,
    schedule=Schedule(law_rate=0.05),
    choices="w2,w3,w4,w5,w6,w7,w8",
    deviations=(
        "the budget is the most bits whose likeliest deal keeps the limits by exact costs, found anew before every "
        "epoch; the paper's is a given number of bits",
        "layers have the least bits of the choices beforehand, and draw no more when they have the most",
        "training starts from the float network, and the likeliest deal is taken then; the paper trains from scratch",
        "bits between choices are interpolated; maps have the accelerator's bits unless choices say otherwise",
        "no official code was found; the paper itself was not at hand: written from its description in surveys",
    ),
)

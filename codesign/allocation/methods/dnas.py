"""DNAS (Wu et al. 2018): Gumbel-softmax samples of branches, loss times a power of the logarithm of the cost."""

from codesign.allocation.methods.relaxed import RelaxedMethod
from codesign.allocation.relaxations.laws import Gumbel
from codesign.allocation.relaxations.terms import Product
from codesign.allocation.relaxations.training import Schedule

DNAS = RelaxedMethod(
    name="dnas",
    paper="DNAS, Wu et al. 2018",
    equations="Gumbel softmax at 5 exp(-0.045 epoch); loss * 0.1 log(cost)^0.9; a fifth of the images for the shares",
    decides="layer: bits of weights and activations together",
    law=Gumbel,
    term=Product(),
    schedule=Schedule(law_rate=0.05, apart=0.2),
    choices="w2a4,w4a4,w8a8",
    deviations=(
        "the temperature falls over the epochs that are trained as over the paper's 90",
        "weights and maps are mixed each, and convolved once; the paper adds up the branches' results",
        "costs are in shares of the cheapest choices' cost, times e: a logarithm needs a unit",
        "the likeliest choices that keep the limits are taken; the paper trains several that it draws",
        "no official code was found; the paper itself was not at hand: written from its description in surveys",
    ),
)

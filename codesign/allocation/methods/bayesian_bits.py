"""Bayesian Bits (van Baalen et al., NeurIPS 2020): hard-concrete gates for every step to more bits."""

from codesign.allocation.methods.relaxed import RelaxedMethod
from codesign.allocation.relaxations.laws import HardConcrete
from codesign.allocation.relaxations.terms import Weighted
from codesign.allocation.relaxations.training import Schedule

BAYESIAN_BITS = RelaxedMethod(
    name="bayesian-bits",
    paper="Bayesian Bits, van Baalen et al. 2020",
    equations="nested residuals behind hard-concrete gates (tau 2/3, gamma -0.1, zeta 1.1); open above 1 - 0.34",
    decides="layer: bits of weights and of activations",
    law=HardConcrete,
    term=Weighted(1.0),
    schedule=Schedule(law_rate=0.2),
    deviations=(
        "a residual is the difference of two quantizers with learned scales of their own; the paper's share one range, "
        "and their grids lie in each other (s of 2k bits = s of k bits / (2^k + 1)), which symmetric ones do not",
        "the cost is the expected exact cost of the limits under the gates; the paper has bit operations",
        "with limits the term counts what is above them, so its factor need not be searched",
        "gates are of layers, and of layers that read the same map together; the paper also has one of every output "
        "channel, from 0 to 2 bits: with rows as groups and w0 among the choices a channel has gates for all its steps",
        "written from its equations; the official code's licence grants no patents",
    ),
)

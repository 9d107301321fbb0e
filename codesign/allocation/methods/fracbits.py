"""FracBits (Yang and Jin, AAAI 2021): fractional widths interpolate between their neighbours."""

from codesign.allocation.methods.relaxed import RelaxedMethod
from codesign.allocation.relaxations.laws import Fractional
from codesign.allocation.relaxations.terms import Distance
from codesign.allocation.relaxations.training import Schedule

FRACBITS = RelaxedMethod(
    name="fracbits",
    paper="FracBits, Yang and Jin 2021",
    equations="a fractional width is its neighbours interpolated; loss + kappa |E[cost] - target|; nearest width",
    decides="layer: bits of weights and of activations",
    law=Fractional,
    term=Distance(1.0),
    schedule=Schedule(law_rate=0.1),
    deviations=(
        "neighbours are those of the choices, so 4 and 8 where no width lies between; the paper's are a bit apart",
        "the target is the limit, in its unit; without one only the loss of the task moves the widths",
        "each width has scales of its own; the official code has one clipping value, and weights through tanh",
        "widths are rounded once, to the nearest that keep the limits; the official code trains on after rounding",
    ),
)

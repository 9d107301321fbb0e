"""HMQ (Habi et al., ECCV 2020): a Gumbel softmax over pairs of bits and power-of-two thresholds."""

from codesign.allocation.methods.dq import ranged_network
from codesign.allocation.methods.relaxed import RelaxedMethod
from codesign.allocation.relaxations.ranges import PowersOfTwo
from codesign.allocation.relaxations.terms import Weighted
from codesign.allocation.relaxations.training import Schedule

HMQ = RelaxedMethod(
    name="hmq",
    paper="HMQ, Habi et al. 2020",
    equations="Gumbel softmax over (bits, threshold 2^-k); quantized at the mean step and mean threshold of the sample",
    decides="layer: bits of weights and of activations",
    law=PowersOfTwo,
    term=Weighted(1.0),
    schedule=Schedule(law_rate=0.1),
    network=ranged_network,
    deviations=(
        "thresholds are powers of two times the calibrated range of a row or map; the paper's are powers of two, which "
        "this accelerator does not need",
        "the temperature falls from 1 to 0.1 over the epochs that are trained, and the most bits lead at first by 4",
        "the cost is the expected exact cost of the limits, and counts what is above them; the paper has model sizes",
        "only bits are kept: thresholds are calibrated again",
        "the paper itself was not at hand: written from its description in surveys",
    ),
)

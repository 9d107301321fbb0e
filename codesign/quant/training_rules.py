"""Training rules: each method of the literature is one row of independent choices, not a class of its own.

How weights are shaped before quantizing, where their scale comes from, what the gradients are, how values are
rounded, and what share of them is quantized at a time; for activations the scale, its gradient and the offset.
`TRAINING_RULES` names the combinations, with their papers.

Deviations, with the reason: the networks are trained with batch norms folded, so nothing would absorb a change of a
layer's scale. DoReFa's weights are therefore scaled back to the layer's largest weight, APoT's normalised ones to the
layer's deviation, and DoReFa's activations are clipped at their calibrated range instead of 1. Scales are learned as
logarithms, so LSQ's gradient factor 1 / sqrt(N Q) is left to the optimizer, which adapts to a gradient's magnitude
(Adam).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from codesign.errors import UserError
from codesign.quant.choices import WEIGHT_SCALES, known


@dataclass(frozen=True)
class WeightRule:
    """How the weights of a layer are quantized in training.

    Attributes:
        shape: `tanh` quantizes tanh(w) / max|tanh(w)| times the layer's largest |w|; `normalised` quantizes
            (w - mean) / deviation, of the layer, times the deviation: scales are in units of it, one for the layer.
        scale: `learned`; `fixed` at its initial value; `peak`, the layer's largest |w| in every forward pass;
            `magnitude`, XNOR-Net's E|w| for binary rows, TWN's threshold and scale for ternary ones (other formats
            are `learned`).
        initial: of the largest level; one of `codesign.quant.choices.WEIGHT_SCALES`, but for `magnitude`, which is
            no initial scale but one of every forward pass.
        through: whether clipped weights get a gradient too.
        stochastic: round to one of the two neighbouring levels at random in training.
        share: of the weights that a training pass quantizes, at random; the others stay float.
    """

    shape: Literal["plain", "tanh", "normalised"] = "plain"
    scale: Literal["learned", "fixed", "peak", "magnitude"] = "learned"
    initial: str = "mse"
    through: bool = False
    stochastic: bool = False
    share: float = 1.0

    def __post_init__(self) -> None:
        known("weight scale", self.initial, WEIGHT_SCALES)
        if not 0 < self.share <= 1:
            raise UserError(f"training rule: a share of {self.share:g} of the weights; allowed is above 0, at most 1")


@dataclass(frozen=True)
class ActivationRule:
    """How activations are quantized in training.

    Attributes:
        scale: `learned` or `fixed` at what calibration found.
        gradient: of a learned scale: LSQ's from every value, or PACT's from clipped ones only.
        offset: learn the zero point of signed tensors too.
        decay: factor of the sum of squared clipping values that joins the loss (PACT).
    """

    scale: Literal["learned", "fixed"] = "learned"
    gradient: Literal["lsq", "pact"] = "lsq"
    offset: bool = False
    decay: float = 0.0


@dataclass(frozen=True)
class TrainingRule:
    """Rules of weights and activations: what the gradients of a quantized network are.

    Attributes:
        summary, paper: what it is, in a line, and where it was published.
    """

    weights: WeightRule = field(default_factory=WeightRule)
    activations: ActivationRule = field(default_factory=ActivationRule)
    summary: str = ""
    paper: str = ""


DEFAULT_RULE = "default"
DEFAULT = TrainingRule(
    summary="learned steps, weight scales of least squared error to start from", paper="after LSQ, Esser et al. 2020"
)

TRAINING_RULES: dict[str, TrainingRule] = {
    DEFAULT_RULE: DEFAULT,
    "ste": TrainingRule(
        WeightRule(scale="fixed", through=True),
        ActivationRule(scale="fixed"),
        "scales fixed by calibration, straight-through gradients",
        "Hubara et al. 2016",
    ),
    "dorefa": TrainingRule(
        WeightRule(shape="tanh", scale="peak", through=True),
        ActivationRule(scale="fixed"),
        "weights through tanh, scale the layer's largest weight, fixed activation scales",
        "DoReFa, Zhou et al. 2016",
    ),
    "pact": TrainingRule(
        WeightRule(shape="tanh", scale="peak", through=True),
        ActivationRule(gradient="pact", decay=1e-4),
        "as dorefa; the activations' clipping value is learned from what it clips",
        "PACT, Choi et al. 2018",
    ),
    "lsq": TrainingRule(
        WeightRule(initial="lsq"), summary="learned steps from the paper's start", paper="LSQ, Esser et al. 2020"
    ),
    "lsq+": TrainingRule(
        WeightRule(initial="lsq+"),
        ActivationRule(offset=True),
        "also the offset of signed activations: any zero point",
        "LSQ+, Bhalgat et al. 2020",
    ),
    "apot": TrainingRule(
        WeightRule(initial="sigma3", through=True),
        summary="learned clipping value, initially three standard deviations",
        paper="APoT, Li et al. 2020",
    ),
    "apot-norm": TrainingRule(
        WeightRule(shape="normalised", initial="sigma3", through=True),
        summary="as apot; weights less the layer's mean, one clipping value in units of the layer's deviation",
        paper="APoT, Li et al. 2020, section 2.3",
    ),
    "twn": TrainingRule(
        WeightRule(scale="magnitude", through=True),
        summary="binary and ternary rows with scales from the weights' magnitudes",
        paper="TWN, Li et al. 2016; XNOR-Net, Rastegari et al. 2016",
    ),
    "noise": TrainingRule(
        WeightRule(share=0.5),
        summary="learned steps on a random half of the weights at a time, the others float",
        paper="QuantNoise, Fan et al. 2021",
    ),
    "stochastic": TrainingRule(
        WeightRule(stochastic=True),
        summary="learned steps, weights rounded to a neighbouring level at random, right in the mean",
        paper="Gupta et al. 2015",
    ),
}


def training_rule(name: str) -> TrainingRule:
    """The rule called `name`; UserError names those there are."""
    return known("training rule", name, TRAINING_RULES)

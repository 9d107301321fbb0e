"""What there is to choose from when a network is quantized, by name: the one place that lists it.

`quantize` (Python and command line), help and documentation take names and descriptions from here; training rules,
which are nothing but data, have their own table in `codesign.quant.training_rules`. No torch, no numpy: help is quick.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, Protocol, TypeVar

from codesign.errors import UserError


class Described(Protocol):
    """What a registry holds under each name."""

    @property
    def summary(self) -> str:
        """What it is, in a line."""

    @property
    def paper(self) -> str:
        """Where it was published; empty if nowhere."""


@dataclass(frozen=True)
class Choice:
    """What can be chosen: a line that says what it is, and its paper."""

    summary: str
    paper: str = ""


@dataclass(frozen=True)
class Method(Choice):
    """What deals number formats to rows.

    Attributes:
        ratio: shares of formats where none are given, as `codesign.formats.ratio.parse_ratio` reads them.
    """

    ratio: str = ""


@dataclass(frozen=True)
class PostTrainingStep(Choice):
    """A change of weights without training.

    Attributes:
        works_on: the float network, before calibration, or the calibrated one.
    """

    works_on: Literal["float", "calibrated"] = "calibrated"


METHODS: dict[str, Method] = {
    "rmsmp": Method(
        "several formats in every layer, dealt to filters by Hessian eigenvalue and variance",
        "RMSMP, Chang et al. 2021",
        "pot4:65,fixed4:30,fixed8:5",
    ),
    "fixed": Method("fixed point, symmetric", "Jacob et al. 2018", "fixed4:1"),
    "pot": Method("powers of two, products are shifts", "Miyashita et al. 2016", "pot4:1"),
    "full": Method("fixed point, all codes of two's complement", "Esser et al. 2020", "full4:1"),
    "midrise": Method("odd multiples of half a step, no zero", "DoReFa, Zhou et al. 2016", "midrise4:1"),
    "apot": Method("sums of two powers of two", "APoT, Li et al. 2020", "apot4:1"),
    "sp2": Method("sums of two powers of two, of MSQ's set", "MSQ, Chang et al. 2021", "sp2:1"),
    "ternary": Method("-1, 0, 1 times a scale", "TWN, Li et al. 2016", "ternary2:1"),
    "binary": Method("-1, 1 times a scale", "XNOR-Net, Rastegari et al. 2016", "binary1:1"),
}
"""The ratio of `rmsmp` is that of the paper's W4A4 comparison (table 6); the others take one format of their scheme."""

CALIBRATION_RULES: dict[str, Choice] = {
    "minmax": Choice("the whole range of the samples", "Jacob et al. 2018"),
    "percentile": Choice("all but a share of the samples, 0.1 % unless said otherwise", "Wu et al. 2020"),
    "average": Choice("the ranges of the batches, exponentially averaged", "Jacob et al. 2018, section 3.1"),
    "kl": Choice("least Kullback-Leibler divergence of the histogram", "TensorRT, Migacz 2017"),
    "mse": Choice("least squared error, by line search", "OMSE, Choukroun et al. 2019"),
    "aciq_gauss": Choice("least expected squared error of Gaussian values", "ACIQ, Banner et al. 2019"),
    "aciq_laplace": Choice("least expected squared error of Laplace values", "ACIQ, Banner et al. 2019"),
    "rms4": Choice("four times the root mean square", "IMPQ, Gonugondla and Shanbhag 2022"),
}
"""How a clipping range follows from samples of a tensor (`codesign.quant.calibration`)."""

FROM_BATCH_NORMS = "batchnorm"

RANGE_RULES: dict[str, Choice] = CALIBRATION_RULES | {
    FROM_BATCH_NORMS: Choice(
        "0 to the largest beta + 6 |gamma| behind a batch norm, `mse` elsewhere", "IMPQ, Gonugondla and Shanbhag 2022"
    ),
}
"""Ranges of activations: from samples, or from what the network stores."""

WEIGHT_SCALES: dict[str, Choice] = {
    "mse": Choice("least squared error over the levels of the row's format", "OMSE, Choukroun et al. 2019"),
    "lsq": Choice("2 E|w| / sqrt(Q) per step", "LSQ, Esser et al. 2020"),
    "lsq+": Choice("the larger |mean +- 3 sigma|", "LSQ+, Bhalgat et al. 2020"),
    "sigma3": Choice("three standard deviations", "APoT, Li et al. 2020"),
    "magnitude": Choice("E|w| of binary rows, threshold 0.7 E|w| of ternary ones", "XNOR-Net; TWN, Li et al. 2016"),
    "minmax": Choice("the largest |w|", "Jacob et al. 2018"),
    "percentile": Choice("all but 0.1 % of the weights", "Wu et al. 2020"),
    "kl": CALIBRATION_RULES["kl"],
    "aciq_gauss": CALIBRATION_RULES["aciq_gauss"],
    "aciq_laplace": CALIBRATION_RULES["aciq_laplace"],
    "rms4": CALIBRATION_RULES["rms4"],
}
"""Where the scale of a row of weights starts, and stays without training (`codesign.quant.weight_rules`)."""

GRANULARITIES: dict[str, Choice] = {
    "row": Choice("a scale for every row, which costs the accelerator nothing", "Krishnamoorthi 2018"),
    "group": Choice("one for every few rows", "Q-BERT, Shen et al. 2020"),
    "layer": Choice("one for a layer", "Jacob et al. 2018"),
    "network": Choice("one for all weights"),
}
"""How many rows share the largest level of their scales (`codesign.quant.granularity`)."""

REGIMES: dict[str, Choice] = {
    "plain": Choice("all layers from the first epoch to the last"),
    "profit": Choice(
        "in three parts, before the second and the third of which another third of the layers is frozen, those first "
        "whose results a step of training changes most",
        "PROFIT, Park and Yoo 2020",
    ),
}
"""What is trained when, in training with quantizers (`codesign.quant.profit`)."""

POST_TRAINING: dict[str, PostTrainingStep] = {
    "equalize": PostTrainingStep(
        "equal ranges on both sides of every channel between two layers", "Nagel et al. 2019, section 4.1", "float"
    ),
    "ocs": PostTrainingStep(
        "channels with outliers are halved in two, 5 % more of them; rows of one fixed format",
        "Zhao et al. 2019",
        "float",
    ),
    "adaround": PostTrainingStep("rounds every weight up or down as the layer's output wants", "Nagel et al. 2020"),
    "bias": PostTrainingStep("biases that restore every channel's mean", "Nagel et al. 2019, section 4.2"),
}
"""Steps without training, in any order but float ones first (`codesign.quant.post_training`, `.adaround`)."""

D = TypeVar("D", bound=Described)


def known(what: str, name: str, registry: Mapping[str, D]) -> D:
    """The entry `name`; UserError names those there are."""
    if name not in registry:
        raise UserError(f"{what} '{name}' is unknown; there are {', '.join(registry)}")
    return registry[name]

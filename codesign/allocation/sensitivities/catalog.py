"""Every sensitivity by its name."""

from __future__ import annotations

from codesign.allocation.sensitivities.aiw import ActivationInstability
from codesign.allocation.sensitivities.decisions import DecisionNoise
from codesign.allocation.sensitivities.hessian import Eigenvalue, GaussNewton, MeanTrace, TracesOfBoth
from codesign.allocation.sensitivities.learned_steps import LearnedSteps
from codesign.allocation.sensitivities.noise_gain import NoiseGain
from codesign.allocation.sensitivities.outputs import Divergence, OutputError
from codesign.allocation.sensitivities.protocol import Sensitivity
from codesign.allocation.sensitivities.taylor import Taylor
from codesign.allocation.sensitivities.weights import WeightError, WeightVariance

_ALL: tuple[Sensitivity, ...] = (
    WeightVariance(), WeightError(), OutputError(), Divergence(), Taylor(), Eigenvalue(), MeanTrace(), TracesOfBoth(),
    GaussNewton(), NoiseGain(), DecisionNoise(), ActivationInstability(), LearnedSteps(),
)  # fmt: skip
SENSITIVITIES: dict[str, Sensitivity] = {sensitivity.name: sensitivity for sensitivity in _ALL}

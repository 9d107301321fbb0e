"""What weights alone say: their squared error, and what their variance would make of it."""

from __future__ import annotations

from functools import cache

import numpy as np

from codesign._typing import FloatArray
from codesign.allocation.sensitivities.subject import Subject
from codesign.formats.row_format import RowFormat, fit_scale, squared_error
from codesign.quant.placing import array

QUANTILES = 1 << 16
"""Points of the Gaussian that a format's error is found on."""


class WeightError:
    """Squared error of the quantized weights."""

    name = "weight-error"
    summary = "sum of squared errors of the weights"
    paper = "OMSE, Choukroun et al. 2019"
    measures = "weights"
    images = False
    rows = True

    def losses(self, subject: Subject) -> FloatArray:
        found: FloatArray = subject.squared_errors()
        return found


class WeightVariance:
    """The variance of a row's weights times the error that its format makes of Gaussian ones, summed over weights.

    RMSMP and MSQ give rows of low variance to powers of two; this is that rule as a loss.
    """

    name = "weight-variance"
    summary = "variance of the weights times the format's error on Gaussian ones"
    paper = "RMSMP, Chang et al. 2021; MSQ, Chang et al. 2021"
    measures = "weights"
    images = False
    rows = True

    def losses(self, subject: Subject) -> FloatArray:
        found = np.zeros((len(subject.space.groups), len(subject.space.choices)))
        for number, group in enumerate(subject.space.groups):
            weights = array(subject.weights(group.layer).double())[slice(*group.rows)]
            power = float(weights.var(axis=1).sum() * weights.shape[1])
            for place, choice in enumerate(subject.space.choices):
                found[number, place] = power * gaussian_error(choice.form)
        return found


@cache
def gaussian_error(form: RowFormat) -> float:
    """Mean squared error of Gaussian weights of variance 1 in a format, at the scale of least error."""
    from scipy.stats import norm

    values = norm.ppf((np.arange(QUANTILES) + 0.5) / QUANTILES)[None]
    return float(squared_error(values, fit_scale(values, [form]), [form])[0]) / QUANTILES

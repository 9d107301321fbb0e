"""What `codesign.quant.training_rules` does to the weights of a layer: their shape, scale and initial scale."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from codesign.formats.row_format import TWN_THRESHOLD, RowFormat, fit_scale
from codesign.integer.network import Scheme
from codesign.quant.calibration import CalibrationRule, weight_scales
from codesign.quant.fake_quant import RowTable
from codesign.quant.placing import array, placed
from codesign.quant.training_rules import WeightRule

TINY = 1e-12
"""Keeps the logarithm of a layer of zeros finite."""


def rule_operands(
    weight: Tensor, log_alpha: Tensor, table: RowTable, rule: WeightRule
) -> tuple[Tensor, Tensor, Tensor | None]:
    """What `quantize_rows` is called with, and a factor on its result.

    Args:
        weight: (rows, k) weights.
        log_alpha: (rows,) learned logarithms of the largest levels.
        table: formats of the rows.
        rule: says how scales and weights are used.

    Returns:
        (rows, k) weights to quantize, (rows,) logarithms of the largest levels, and None or (rows, 1) factors by
        which the values of the levels differ from the units the weights were rounded in.
    """
    if rule.shape == "tanh":
        shaped = torch.tanh(weight)
        # DoReFa ends in [-1, 1]; the peak puts the layer's own scale back.
        weight = shaped * (weight.detach().abs().max() / shaped.detach().abs().max().clamp(min=TINY))
    elif rule.shape == "normalised":
        # Quantizing (w - mean) / deviation and putting the deviation back is quantizing w - mean on its scale.
        mean, deviation = _moments(weight)
        return weight - mean, (log_alpha.mean() + deviation.log()).expand(len(weight)), None
    if rule.scale == "learned":
        return weight, log_alpha, None
    if rule.scale == "peak":
        peak = weight.detach().abs().max().clamp(min=TINY)
        return weight, peak.log().expand(len(weight)), None
    if rule.scale == "magnitude":
        return _magnitude(weight, log_alpha, table)
    return weight, log_alpha.detach(), None


def normalised(weight: Tensor) -> Tensor:
    """(rows, k) weights of a layer less their mean, over their deviation."""
    mean, deviation = _moments(weight)
    return (weight - mean) / deviation


def _moments(weight: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and deviation of a layer, which get no gradient."""
    fixed = weight.detach()
    return fixed.mean(), fixed.std(unbiased=False).clamp(min=TINY)


def _magnitude(weight: Tensor, log_alpha: Tensor, table: RowTable) -> tuple[Tensor, Tensor, Tensor]:
    """XNOR-Net's scale E|w| of binary rows, TWN's threshold 0.7 E|w| and scale of ternary ones."""
    binary = torch.tensor([form.scheme is Scheme.BINARY for form in table.formats])
    ternary = torch.tensor([form.scheme is Scheme.TERNARY for form in table.formats])
    magnitude = weight.detach().abs()
    mean = magnitude.mean(1)
    # A weight rounds to +-1 above half a unit; a row of zeros keeps its learned scale.
    unit = torch.where(ternary, 2 * TWN_THRESHOLD * mean, mean)
    computed = (binary | ternary) & (mean > 0)
    large = magnitude > unit[:, None] / 2
    value = (magnitude * large).sum(1) / large.sum(1).clamp(min=1)
    gain = torch.where(ternary & computed, value / unit.clamp(min=TINY), torch.ones_like(mean))
    logarithm = torch.where(computed, unit.clamp(min=TINY).log(), log_alpha)
    return weight, logarithm, gain[:, None]


def initial_alpha(weight: Tensor, formats: Sequence[RowFormat], rule: WeightRule) -> Tensor:
    """(rows,) largest levels to start from, of (rows, k) weights; a row of zeros gets that of least squared error.

    Of a rule of the shape `normalised` they are in units of the layer's deviation, and `weight` is so already.
    """
    largest = torch.tensor([float(form.largest) for form in formats])
    fitted = placed(fit_scale(array(weight.double()), formats)).float() * largest
    if rule.initial == "mse":
        return fitted
    mean, deviation = weight.mean(1), weight.std(1, unbiased=False)
    if rule.initial == "lsq":
        alpha = 2 * weight.abs().mean(1) * largest.sqrt()
    elif rule.initial == "lsq+":
        # max|mean +- 3 sigma| / 2**(bits-1) per step, whose largest level is one below 2**(bits-1).
        alpha = (mean.abs() + 3 * deviation) * largest / (largest + 1)
    elif rule.initial == "sigma3":
        alpha = 3 * (torch.ones_like(deviation) if rule.shape == "normalised" else deviation)
    else:
        scales = weight_scales(array(weight.double()), formats, CalibrationRule(rule.initial))
        alpha = placed(scales).float() * largest
    return torch.where(alpha > 0, alpha, fitted)

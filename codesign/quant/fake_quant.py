"""Quantizers for training in torch: straight-through estimators with learned scales.

Forward is the arithmetic of `codesign.formats.row_format` and of the integer model; backward passes the gradient inside
the clipping range (RMSMP eq. 6) and gives the scale LSQ's gradient (Esser et al. 2020, eq. 3). Scales are learned
as logarithms: they stay positive, and a step of the optimizer is a relative change whatever the scale.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from codesign.formats.families import FAMILIES, Nearest
from codesign.formats.row_format import ODD, RowFormat, quantize
from codesign.quant.calibration import MINMAX, MSE, CalibrationRule, ClipRange
from codesign.quant.placing import array, placed, uniform
from codesign.quant.training_rules import DEFAULT, ActivationRule

SAMPLES = 1 << 16
"""Values an activation's scale is fitted to."""
BATCHES = 8
"""Parts of them that a calibration by averages takes for batches."""


class RowTable:
    """Formats of rows as tensors: `largest` and `lowest`, (rows, 1) float32, `bits`, (rows,), and how to find their
    nearest levels.
    """

    def __init__(self, formats: Sequence[RowFormat]) -> None:
        self.formats = tuple(formats)
        self.largest = torch.tensor([[float(form.largest)] for form in formats])
        self.lowest = torch.tensor([[float(form.lowest)] for form in formats])
        self.bits = torch.tensor([form.bits for form in formats])
        kinds: dict[type[_Kind], list[int]] = {}
        for row, form in enumerate(formats):
            kinds.setdefault(_KINDS[FAMILIES[form.scheme].nearest], []).append(row)
        self._parts = [
            (torch.tensor(rows), kind([formats[row] for row in rows]))
            for kind, rows in sorted(kinds.items(), key=lambda item: item[0].__name__)
        ]

    def nearest(self, steps: Tensor) -> Tensor:
        """Nearest integer levels, as floats, of (rows, k) weights in units of a row's scale; NaN stays NaN."""
        if len(self._parts) == 1:
            return self._parts[0][1].nearest(steps)
        result = torch.empty_like(steps)
        for rows, kind in self._parts:
            result.index_copy_(0, rows, kind.nearest(steps.index_select(0, rows)))
        return result

    def random(self, steps: Tensor, generator: torch.Generator) -> Tensor:
        """One of the two levels around each weight, drawn so that the mean is the weight; the last level outside."""
        lower, upper = self.around(steps)
        drawn = uniform(steps.shape, generator, steps.dtype)
        return torch.where(drawn * (upper - lower) < steps - lower, upper, lower)

    def around(self, steps: Tensor) -> tuple[Tensor, Tensor]:
        """The neighbouring levels below (or at) and above each weight; outside, the last two levels."""
        lower, upper = torch.empty_like(steps), torch.empty_like(steps)
        for form in dict.fromkeys(self.formats):
            rows = torch.tensor([row for row, other in enumerate(self.formats) if other == form])
            levels = placed(form.levels()).to(steps.dtype)
            if len(levels) == 1:
                lower.index_fill_(0, rows, levels[0].item())
                upper.index_fill_(0, rows, levels[0].item())
                continue
            values = steps.index_select(0, rows).contiguous()
            place = torch.bucketize(values, levels, right=True).clamp_(1, len(levels) - 1)
            lower.index_copy_(0, rows, levels[place - 1])
            upper.index_copy_(0, rows, levels[place])
        return lower, upper


class _Kind(ABC):
    """Rows of formats whose nearest level is found in one way."""

    def __init__(self, formats: Sequence[RowFormat]) -> None:
        self.largest = torch.tensor([[float(form.largest)] for form in formats])

    @abstractmethod
    def nearest(self, steps: Tensor) -> Tensor:
        """The level nearest to every weight in steps, shape (rows, weights)."""


class _Uniform(_Kind):
    def __init__(self, formats: Sequence[RowFormat]) -> None:
        super().__init__(formats)
        self.lowest = torch.tensor([[float(form.lowest)] for form in formats])
        self.largest = torch.tensor([[float(form.levels()[-1])] for form in formats])
        self.odd = torch.tensor([[float(form.scheme in ODD)] for form in formats])
        self.any_odd = any(form.scheme in ODD for form in formats)

    def nearest(self, steps: Tensor) -> Tensor:
        if self.any_odd:
            # Odd integers are twice the integers, plus one.
            steps = torch.round((steps - self.odd) / (1 + self.odd)) * (1 + self.odd) + self.odd
        return torch.minimum(torch.maximum(torch.round(steps), self.lowest), self.largest)


class _Powers(_Kind):
    def nearest(self, steps: Tensor) -> Tensor:
        magnitude = steps.abs()
        # As in `formats`: the middle between two powers is at fraction 3/4; a tie takes the larger one. Adding half
        # of the mantissa's unit carries into the exponent from there on.
        if steps.dtype == torch.float32:
            power = ((magnitude.view(torch.int32) + (1 << 22)) & (0xFF << 23)).view(torch.float32)
        else:
            power = ((magnitude.double().view(torch.int64) + (1 << 51)) & (0x7FF << 52)).view(torch.float64)
        power = torch.minimum(power.clamp(min=1.0), self.largest)
        # The product keeps NaN, which the carry loses.
        return torch.copysign(torch.where(magnitude >= 0.5, power, magnitude * 0), steps)


class _Table(_Kind):
    def __init__(self, formats: Sequence[RowFormat]) -> None:
        super().__init__(formats)
        tables: list[Tensor] = []
        offset = np.zeros((len(formats), 1), dtype=np.int32)
        for form in dict.fromkeys(formats):
            rows = [row for row, other in enumerate(formats) if other == form]
            offset[rows] = sum(len(table) for table in tables)
            # Middles between levels are whole or half numbers: the level changes only where the half steps do.
            halves = np.arange(2 * form.largest + 1)[None] / 2
            tables.append(placed(quantize(halves, [1.0], [form])[0]))
        self.offset, self.table = placed(offset), torch.cat(tables).float()

    def nearest(self, steps: Tensor) -> Tensor:
        magnitude = steps.abs()
        place = torch.minimum(magnitude, self.largest).mul(2).to(torch.int32).clamp_(min=0) + self.offset
        level = self.table.index_select(0, place.flatten()).reshape(steps.shape).to(steps.dtype)
        return torch.copysign(torch.where(magnitude >= 0.5, level, magnitude * 0), steps)


_KINDS: dict[Nearest, type[_Kind]] = {"uniform": _Uniform, "powers": _Powers, "table": _Table}


class _QuantizeRows(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        weight: Tensor,
        log_alpha: Tensor,
        table: RowTable,
        through: bool,
        generator: torch.Generator | None,
    ) -> Tensor:
        alpha = log_alpha.exp()[:, None]
        steps = weight * (table.largest / alpha)
        level = table.nearest(steps) if generator is None else table.random(steps, generator)
        inside = (steps <= table.largest) & (steps >= table.lowest)
        ctx.save_for_backward(None if through else inside, (level - steps * inside) / table.largest, alpha)
        return level * (alpha / table.largest)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, None, None, None]:
        inside, slope, alpha = ctx.saved_tensors
        # d(alpha * q)/d(log alpha) = alpha * d/d(alpha), summed over the row.
        scale_gradient = (gradient * slope).sum(1) * alpha[:, 0]
        return gradient if inside is None else gradient * inside, scale_gradient, None, None, None


def quantize_rows(
    weight: Tensor,
    log_alpha: Tensor,
    table: RowTable,
    *,
    through: bool = False,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Quantized (rows, k) weights with gradients for the weights and for the logarithm of each row's largest level.

    Args:
        weight, log_alpha, table: (rows, k) weights, (rows,) logarithms, and the rows' formats.
        through: give clipped weights a gradient too.
        generator: round at random, right in the mean, with numbers from here; None rounds to the nearest.
    """
    result: Tensor = _QuantizeRows.apply(  # type: ignore[no-untyped-call]
        weight, log_alpha, table, through, generator
    )
    return result


def row_integers(weight: Tensor, log_alpha: Tensor, table: RowTable) -> Tensor:
    """The integers (int64) behind `quantize_rows`, by the same arithmetic."""
    with torch.no_grad():
        return table.nearest(weight * (table.largest / log_alpha.exp()[:, None])).to(torch.int64)


class _QuantizeActivation(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x: Tensor, log_scale: Tensor, offset: Tensor | None, low: int, high: int, clipped_only: bool
    ) -> Tensor:
        scale = log_scale.exp()
        steps = x / scale
        inside = (steps >= low) & (steps <= high)
        # Round half up, as the integer model's shift does.
        code = torch.floor(steps + 0.5).clamp_(low, high)
        slope = code * ~inside if clipped_only else code - steps * inside
        ctx.save_for_backward(inside, slope, scale)
        ctx.with_offset = offset is not None
        return code * scale

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, Tensor | None, None, None, None]:
        inside, slope, scale = ctx.saved_tensors
        # A step of the offset moves both ends of the range by a step, and nothing inside it (LSQ+, eq. 6).
        offset = (gradient * ~inside).sum() * scale if ctx.with_offset else None
        return gradient * inside, (gradient * slope).sum() * scale, offset, None, None, None


def quantize_activation(
    x: Tensor, log_scale: Tensor, low: int, high: int, *, offset: Tensor | None = None, clipped_only: bool = False
) -> Tensor:
    """Values of any shape at steps `low` to `high`, with gradients inside and LSQ's for the logarithm of the step.

    Args:
        x, log_scale, low, high: values, logarithm of a step's real value, lowest and highest step.
        offset: the lowest step as a learned number, which gets LSQ+'s gradient.
        clipped_only: the scale learns from clipped values alone (PACT).
    """
    result: Tensor = _QuantizeActivation.apply(  # type: ignore[no-untyped-call]
        x, log_scale, offset, low, high, clipped_only
    )
    return result


class ActivationQuantizer(nn.Module):
    """Quantizes a tensor with one learned scale.

    Unsigned, the steps are 0 to 2**bits - 1, which includes the ReLU (negative values become 0); signed,
    -2**(bits-1) to 2**(bits-1) - 1, moved by the offset if the rule has one. The code is the step plus the tensor's
    zero point.

    With a `limit` (ReLU6's 6) the largest step stands for at most it, so that clipping codes is the ReLU6 as well: a
    scale learned beyond that is brought back.
    """

    def __init__(
        self, bits: int, signed: bool, limit: float | None = None, rule: ActivationRule = DEFAULT.activations
    ) -> None:
        super().__init__()
        self.bits = bits
        self.signed = signed
        self.rule = rule
        # The lowest step; learned as a float, used rounded.
        self.offset = nn.Parameter(torch.tensor(-(2.0 ** (bits - 1)))) if signed and rule.offset else None
        self.limit = limit
        self.largest_log = math.inf if limit is None else math.log(limit / self.high)
        self.log_scale = nn.Parameter(torch.zeros(()).clamp(max=self.largest_log))
        self.initial = self.scale

    @property
    def low(self) -> int:
        """The lowest step."""
        if self.offset is not None:
            return min(0, max(1 - (1 << self.bits), math.floor(float(self.offset.detach()) + 0.5)))
        return -(1 << self.bits - 1) if self.signed else 0

    @property
    def high(self) -> int:
        """The highest step."""
        return self.low + (1 << self.bits) - 1

    @property
    def scale_tensor(self) -> Tensor:
        """Real value of one code step, as the forward pass uses it."""
        return self.log_scale.detach().clamp(max=self.largest_log).exp()

    @property
    def untouched(self) -> bool:
        """Whether the scale is still the one from before any calibration."""
        return self.scale == self.initial

    @property
    def scale(self) -> float:
        """Real value of one code step."""
        return float(self.scale_tensor)

    def forward(self, x: Tensor) -> Tensor:
        """Quantized values of any shape."""
        if self.limit is not None:
            with torch.no_grad():
                self.log_scale.clamp_(max=self.largest_log)
        return quantize_activation(
            x,
            self.log_scale if self.rule.scale == "learned" else self.log_scale.detach(),
            self.low,
            self.high,
            offset=self.offset,
            clipped_only=self.rule.gradient == "pact",
        )

    @torch.no_grad()
    def fit(self, x: Tensor, rule: CalibrationRule = MSE) -> None:
        """Set the scale, and the offset, from sample values.

        Args:
            x: samples of any shape.
            rule: how the range follows from them. `minmax` puts the largest value at the last code, `mse` gives the
                least squared error of the codes; with an offset it is `minmax`, from which LSQ+ learns.
        """
        values = x.flatten()
        values = values[:: -(-len(values) // SAMPLES)]
        if self.low == 0:
            values = values.clamp(min=0, max=self.limit)
        peak = float(values.abs().max())
        if peak == 0:
            self.log_scale.fill_(0.0)
            return
        if self.offset is not None:
            parts = np.array_split(array(values.double()), BATCHES)
            chosen = MINMAX if rule.name == "mse" else rule
            scale, zero_point = chosen.range_of(parts, self.bits, signed=True, symmetric=False).affine(self.bits)
            self.log_scale.fill_(scale).log_()
            self.offset.fill_(-zero_point)
            return
        if rule.name not in ("minmax", "mse"):
            parts = np.array_split(array(values.double()), BATCHES)
            self.clip(rule.range_of(parts, self.bits, signed=self.signed))
            return
        top = max(self.high, 1)
        best = peak / top
        if rule.name == "mse":
            candidates = [peak / top * ratio for ratio in torch.logspace(-1.0, 0.0, 50).tolist()]
            best = min(candidates, key=lambda scale: self._error(values, scale))
        self.log_scale.fill_(best).log_()

    @torch.no_grad()
    def clip(self, span: ClipRange) -> None:
        """Set the scale from a clipping range."""
        self.log_scale.fill_(span.scale(self.bits)).log_()

    def _error(self, values: Tensor, scale: float) -> float:
        code = torch.floor(values / scale + 0.5).clamp_(self.low, self.high)
        return float((values - code * scale).square_().sum())

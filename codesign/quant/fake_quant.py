"""Quantizers for training in torch: straight-through estimators with learned scales.

Forward is the arithmetic of `codesign.quant.formats` and of the integer model; backward passes the gradient inside
the clipping range (RMSMP eq. 6) and gives the scale LSQ's gradient (Esser et al. 2020, eq. 3). Scales are learned
as logarithms: they stay positive, and a step of the optimizer is a relative change whatever the scale.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from codesign.quant.formats import RowFormat
from codesign.quant.integer_network import Scheme

SAMPLES = 1 << 16
"""Values an activation's scale is fitted to."""


class RowTable:
    """Formats of rows as tensors: `pot` (rows, 1) bool and `largest` (rows, 1) float32."""

    def __init__(self, formats: Sequence[RowFormat]) -> None:
        self.formats = tuple(formats)
        self.pot = torch.tensor([[form.scheme is Scheme.POT] for form in formats])
        self.largest = torch.tensor([[float(form.largest)] for form in formats])
        self.any_pot = bool(self.pot.any())
        self.all_pot = bool(self.pot.all())

    def nearest(self, steps: Tensor) -> Tensor:
        """Nearest integer levels, as floats, of (rows, k) weights in units of a row's scale."""
        if not self.any_pot:
            return self._fixed(steps)
        if self.all_pot:
            return self._pot(steps)
        return torch.where(self.pot, self._pot(steps), self._fixed(steps))

    def _fixed(self, steps: Tensor) -> Tensor:
        return torch.minimum(torch.maximum(torch.round(steps), -self.largest), self.largest)

    def _pot(self, steps: Tensor) -> Tensor:
        magnitude = steps.abs()
        fraction, exponent = torch.frexp(magnitude)
        # As in `formats`: the middle between two powers is at fraction 3/4; a tie takes the larger one.
        power = torch.ldexp(torch.ones_like(steps), exponent - (fraction < 0.75).to(exponent.dtype))
        power = torch.minimum(power.clamp(min=1.0), self.largest) * (magnitude >= 0.5)
        return torch.copysign(power, steps)


class _QuantizeRows(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, weight: Tensor, log_alpha: Tensor, table: RowTable) -> Tensor:
        alpha = log_alpha.exp()[:, None]
        steps = weight * (table.largest / alpha)
        level = table.nearest(steps)
        inside = steps.abs() <= table.largest
        ctx.save_for_backward(inside, (level - steps * inside) / table.largest, alpha)
        return level * (alpha / table.largest)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, None]:
        inside, slope, alpha = ctx.saved_tensors
        # d(alpha * q)/d(log alpha) = alpha * d/d(alpha), summed over the row.
        return gradient * inside, (gradient * slope).sum(1) * alpha[:, 0], None


def quantize_rows(weight: Tensor, log_alpha: Tensor, table: RowTable) -> Tensor:
    """Quantized (rows, k) weights with gradients for the weights and for the logarithm of each row's largest level."""
    result: Tensor = _QuantizeRows.apply(weight, log_alpha, table)  # type: ignore[no-untyped-call]
    return result


def row_integers(weight: Tensor, log_alpha: Tensor, table: RowTable) -> Tensor:
    """The integers (int64) behind `quantize_rows`, by the same arithmetic."""
    with torch.no_grad():
        return table.nearest(weight * (table.largest / log_alpha.exp()[:, None])).to(torch.int64)


class _QuantizeActivation(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, log_scale: Tensor, low: int, high: int) -> Tensor:
        scale = log_scale.exp()
        steps = x / scale
        inside = (steps >= low) & (steps <= high)
        # Round half up, as the integer model's shift does.
        code = torch.floor(steps + 0.5).clamp_(low, high)
        ctx.save_for_backward(inside, code - steps * inside, scale)
        return code * scale

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, None, None]:
        inside, slope, scale = ctx.saved_tensors
        return gradient * inside, (gradient * slope).sum() * scale, None, None


class ActivationQuantizer(nn.Module):
    """Quantizes a tensor with one learned scale.

    Unsigned, the steps are 0 to 2**bits - 1, which includes the ReLU (negative values become 0); signed,
    -2**(bits-1) to 2**(bits-1) - 1. The code is the step plus the tensor's zero point.
    """

    def __init__(self, bits: int, signed: bool) -> None:
        super().__init__()
        self.bits = bits
        self.signed = signed
        self.low = -(2 ** (bits - 1)) if signed else 0
        self.high = 2 ** (bits - 1) - 1 if signed else 2**bits - 1
        self.log_scale = nn.Parameter(torch.zeros(()))

    @property
    def scale_tensor(self) -> Tensor:
        """Real value of one code step, as the forward pass uses it."""
        return self.log_scale.detach().exp()

    @property
    def scale(self) -> float:
        """Real value of one code step."""
        return float(self.scale_tensor)

    def forward(self, x: Tensor) -> Tensor:
        """Quantized values of any shape."""
        result: Tensor = _QuantizeActivation.apply(  # type: ignore[no-untyped-call]
            x, self.log_scale, self.low, self.high
        )
        return result

    @torch.no_grad()
    def fit(self, x: Tensor, method: str = "mse") -> None:
        """Set the scale from sample values: the largest one at the last code (`max`), or least squared error."""
        values = x.flatten()
        values = values[:: -(-len(values) // SAMPLES)]
        if self.low == 0:
            values = values.clamp(min=0)
        peak = float(values.abs().max())
        if peak == 0:
            self.log_scale.fill_(0.0)
            return
        top = max(self.high, 1)
        best = peak / top
        if method == "mse":
            candidates = [peak / top * ratio for ratio in torch.logspace(-1.0, 0.0, 50).tolist()]
            best = min(candidates, key=lambda scale: self._error(values, scale))
        self.log_scale.fill_(best).log_()

    def _error(self, values: Tensor, scale: float) -> float:
        code = torch.floor(values / scale + 0.5).clamp_(self.low, self.high)
        return float((values - code * scale).square_().sum())

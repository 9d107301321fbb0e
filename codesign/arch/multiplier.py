"""Multipliers of requantization: what quantizers choose factors for and what accelerators are built with."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Multiplier:
    """What requantization multiplies with: `mult` is unsigned, below 2**bits; `shift` lies in [1, max_shift]."""

    bits: int
    max_shift: int


NARROW = Multiplier(16, 40)
"""One DSP slice a lane: the multiplier of an accelerator that says nothing else."""
PRECISE = Multiplier(24, 48)
"""As fine as a float32's scale, which is what TensorFlow Lite and ONNX Runtime requantize with."""
MULTIPLIERS = {item.bits: item for item in (NARROW, PRECISE)}

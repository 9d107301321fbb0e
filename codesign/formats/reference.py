"""Every number format behind one interface, to compare them: the integers of cores, codebooks, and floats.

A format is fitted to the rows of a layer; the fitted format knows its levels, quantizes, codes and decodes. Formats
that cores compute with (`codesign.formats.row_format`) also give integers. A codebook's levels are arbitrary floats
(the scalar case of vector quantization): it saves storage, not multipliers, and exists as a reference, as float does.
Numpy only.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from codesign._typing import IntArray
from codesign.errors import UserError
from codesign.formats import codes
from codesign.formats.row_format import CostHint, FloatArray, RowFormat, dequantize, fit_scale, quantize

LLOYD_STEPS = 100
"""Most iterations of k-means; on a row of weights it rests after a few dozen."""
CODEBOOK_BITS = range(1, 9)
"""Bits of a code of a codebook."""


class FittedFormat(ABC):
    """A format with the scales or levels of some rows of weights; arrays are (rows, ...)."""

    @abstractmethod
    def levels(self) -> FloatArray | None:
        """(rows, levels) real values in ascending order; None if they are not finitely many."""

    @abstractmethod
    def quantize(self, weights: ArrayLike) -> FloatArray:
        """The nearest level of each weight, as a real value."""

    @abstractmethod
    def encode(self, weights: ArrayLike) -> IntArray:
        """What is stored for each weight: unsigned codes of the format's bits."""

    @abstractmethod
    def decode(self, stored: ArrayLike) -> FloatArray:
        """Real values of codes."""

    def integers(self, weights: ArrayLike) -> IntArray:
        """What cores multiply with; UserError if the format is only a reference."""
        raise UserError(f"{type(self).__name__} has no integers: cores do not compute with it")


class NumberFormat(ABC):
    """A number format of weights."""

    @property
    @abstractmethod
    def cost(self) -> CostHint:
        """What one product takes in hardware."""

    @abstractmethod
    def fit(self, weights: ArrayLike) -> FittedFormat:
        """Scales or levels of least squared error for each row of (rows, ...) weights."""


@dataclass(frozen=True)
class CoreFormat(NumberFormat):
    """A format that cores compute with."""

    form: RowFormat

    @property
    def cost(self) -> CostHint:
        return self.form.cost

    def fit(self, weights: ArrayLike) -> FittedCoreFormat:
        values = np.asarray(weights, dtype=np.float64)
        return FittedCoreFormat(self.form, fit_scale(values, [self.form] * len(values)))

    def __str__(self) -> str:
        return str(self.form)


@dataclass(frozen=True, eq=False)
class FittedCoreFormat(FittedFormat):
    """`form` with (rows,) scales."""

    form: RowFormat
    scale: FloatArray

    def levels(self) -> FloatArray:
        result: FloatArray = self.scale[:, None] * self.form.levels()
        return result

    def integers(self, weights: ArrayLike) -> IntArray:
        return quantize(weights, self.scale, [self.form] * len(self.scale))

    def quantize(self, weights: ArrayLike) -> FloatArray:
        return dequantize(self.integers(weights), self.scale)

    def encode(self, weights: ArrayLike) -> IntArray:
        return codes.encode(self.integers(weights), self.form.scheme, self.form.bits)

    def decode(self, stored: ArrayLike) -> FloatArray:
        return dequantize(codes.decode(stored, self.form.scheme, self.form.bits), self.scale)


@dataclass(frozen=True)
class Codebook(NumberFormat):
    """2**bits levels per row, placed by k-means."""

    bits: int

    @property
    def cost(self) -> CostHint:
        # The looked-up level is a float of 24 significant bits.
        return CostHint(self.bits, True, 0, 24)

    def fit(self, weights: ArrayLike, importance: ArrayLike | None = None) -> FittedCodebook:
        """Lloyd's algorithm from the rows' quantiles, all rows at once.

        Args:
            weights: (rows, ...).
            importance: of each weight's squared error, positive, of the same shape (a Hessian's diagonal); 1 by
                default.
        """
        values = np.asarray(weights, dtype=np.float64)
        values = values.reshape(len(values), -1)
        weight = (
            np.ones_like(values) if importance is None else np.asarray(importance, np.float64).reshape(values.shape)
        )
        count = 2**self.bits
        centres: FloatArray = np.quantile(values, (np.arange(count) + 0.5) / count, axis=1).T
        rows = np.arange(len(values))[:, None]
        for _ in range(LLOYD_STEPS):
            place = rows * count + _nearest_centre(values, centres)
            total = np.bincount(place.ravel(), (weight * values).ravel(), centres.size).reshape(centres.shape)
            share = np.bincount(place.ravel(), weight.ravel(), centres.size).reshape(centres.shape)
            # A level that no weight is nearest to stays.
            moved = np.sort(np.where(share > 0, total / np.where(share > 0, share, 1.0), centres), axis=1)
            if np.array_equal(moved, centres):
                break
            centres = moved
        return FittedCodebook(self.bits, centres)

    def __str__(self) -> str:
        return f"codebook{self.bits}"


@dataclass(frozen=True, eq=False)
class FittedCodebook(FittedFormat):
    """(rows, 2**bits) ascending centres."""

    bits: int
    centres: FloatArray

    def levels(self) -> FloatArray:
        return self.centres

    def encode(self, weights: ArrayLike) -> IntArray:
        values = np.asarray(weights, dtype=np.float64)
        return _nearest_centre(values.reshape(len(values), -1), self.centres).reshape(values.shape)

    def decode(self, stored: ArrayLike) -> FloatArray:
        places = np.asarray(stored, dtype=np.int64)
        result: FloatArray = np.take_along_axis(self.centres, places.reshape(len(places), -1), axis=1)
        return result.reshape(places.shape)

    def quantize(self, weights: ArrayLike) -> FloatArray:
        return self.decode(self.encode(weights))


@dataclass(frozen=True)
class FloatFormat(NumberFormat):
    """float32, for reference."""

    @property
    def cost(self) -> CostHint:
        return CostHint(32, True, 0, 24)

    def fit(self, weights: ArrayLike) -> FittedFloat:
        return FittedFloat()

    def __str__(self) -> str:
        return "float32"


class FittedFloat(FittedFormat):
    """Nothing to fit: the code is the number's own bits."""

    def levels(self) -> None:
        return None

    def quantize(self, weights: ArrayLike) -> FloatArray:
        return np.asarray(weights, dtype=np.float32).astype(np.float64)

    def encode(self, weights: ArrayLike) -> IntArray:
        single: NDArray[np.float32] = np.ascontiguousarray(weights, dtype=np.float32)
        return single.view(np.uint32).astype(np.int64)

    def decode(self, stored: ArrayLike) -> FloatArray:
        bits = np.ascontiguousarray(stored, dtype=np.uint32)
        return bits.view(np.float32).astype(np.float64)


def number_format(text: str) -> NumberFormat:
    """The format that prints as `text`: `float32`, `codebook1` to `codebook8`, or one of cores (`pot4`)."""
    if text == "float32":
        return FloatFormat()
    match = re.fullmatch(r"codebook(\d)", text)
    if match is not None and int(match[1]) in CODEBOOK_BITS:
        return Codebook(int(match[1]))
    try:
        return CoreFormat(RowFormat.parse(text))
    except UserError as error:
        raise UserError(f"{error}; and the references float32 and codebook1 to codebook8") from None


def normalised_error(weights: ArrayLike, formats: Sequence[str]) -> dict[str, float]:
    """Squared error over sum of squares of (rows, ...) weights, by format."""
    values = np.asarray(weights, dtype=np.float64)
    energy = float(np.square(values).sum()) or 1.0
    errors = {}
    for text in formats:
        fitted = number_format(text).fit(values)
        errors[text] = float(np.square(values - fitted.quantize(values)).sum()) / energy
    return errors


def _nearest_centre(values: FloatArray, centres: FloatArray) -> IntArray:
    """(rows, k) places of the nearest of each row's ascending centres; a tie takes the upper one."""
    middles = (centres[:, 1:] + centres[:, :-1]) / 2
    return np.stack(
        [np.searchsorted(middle, row, side="right") for middle, row in zip(middles, values, strict=True)]
    ).astype(np.int64)

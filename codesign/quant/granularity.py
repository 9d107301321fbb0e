"""Scales shared by several rows: one for the network, a layer, or a group of rows, instead of one per row.

The accelerator requantizes every row by its own factor, so coarser scales save it nothing; they are what other tools'
networks have, and what finer scales are compared with. Shared is the largest level alpha: rows of different formats
in a group keep their own integers.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import ArrayLike

from codesign.errors import UserError
from codesign.formats.row_format import COARSE_STEPS, FINE_STEPS, SEARCH_RANGE, FloatArray, RowFormat, squared_error
from codesign.quant.choices import GRANULARITIES, known
from codesign.quant.placing import array, placed
from codesign.quant.qat import QatNetwork


def shared_alphas(weights: Sequence[FloatArray], formats: Sequence[Sequence[RowFormat]]) -> float:
    """The largest level of least squared error over several arrays of (rows, k) weights with one alpha in common.

    Args:
        weights: arrays of rows; their widths may differ.
        formats: of the rows of each array.
    """
    peak = max(float(np.abs(array).max(initial=0.0)) for array in weights)
    if peak == 0:
        return 1.0
    largest = [np.asarray([form.largest for form in forms], dtype=np.float64) for forms in formats]

    def error(alpha: float) -> float:
        parts = zip(weights, largest, formats, strict=True)
        return sum(float(squared_error(array, alpha / top, forms).sum()) for array, top, forms in parts)

    ratios = np.append(np.geomspace(*SEARCH_RANGE, COARSE_STEPS), 1.0)
    best = min((peak * float(ratio) for ratio in ratios), key=error)
    around = (ratios[1] / ratios[0]) ** np.linspace(-1, 1, FINE_STEPS)
    return min((best * float(factor) for factor in around), key=error)


def group_alphas(weights: ArrayLike, formats: Sequence[RowFormat], size: int) -> FloatArray:
    """(rows,) largest levels, equal within every `size` consecutive rows of (rows, ...) weights."""
    values = np.asarray(weights, dtype=np.float64).reshape(len(formats), -1)
    alphas = np.empty(len(formats))
    for start in range(0, len(formats), size):
        rows = slice(start, start + size)
        alphas[rows] = shared_alphas([values[rows]], [list(formats[rows])])
    return alphas


def share_scales(model: QatNetwork, granularity: str, size: int = 4) -> None:
    """Set the weight scales of a training model to shared ones, in place.

    Training with learned scales parts them again; the rule `ste` keeps them.

    Args:
        model: calibrate its activations afterwards.
        granularity: one of `codesign.quant.choices.GRANULARITIES`; `row` refits every row alone.
        size: rows of a group.

    Raises:
        UserError: unknown granularity, or a size below 1.
    """
    known("granularity", granularity, GRANULARITIES)
    if size < 1:
        raise UserError(f"granularity: groups of {size} rows; at least 1 is needed")
    convs = [model.conv(item.name) for item in model.fused.convs]
    weights = [array(conv.weight.flatten(1).double()) for conv in convs]
    whole = shared_alphas(weights, [conv.formats for conv in convs]) if granularity == "network" else 0.0
    for conv, values in zip(convs, weights, strict=True):
        rows = {"network": 0, "layer": len(values), "group": size, "row": 1}[granularity]
        alphas = np.full(len(values), whole) if rows == 0 else group_alphas(values, conv.formats, rows)
        with torch.no_grad():
            conv.log_alpha.copy_(placed(alphas).log())

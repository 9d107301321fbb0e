"""RMSMP (Chang et al., ICCV 2021): row-wise mixed schemes and precisions, Algorithm 1.

In every layer, first and last included, a fixed share of the filters gets each format. The filters of largest
Hessian eigenvalue get the high-precision Fixed format; of the rest, those of low weight variance get PoT and those
of high variance Fixed.

Deviations from the paper, with the reason:

* Eigenvalues are Rayleigh quotients of the exact block (see `codesign.quant.curvature`); "max(v)" of line 8 is none.
* "Top 5 %" rounds up, so every layer has at least one high-precision row; with 16 filters 5 % is less than one.
* The ratio may name any formats an accelerator has bands for: Fixed formats wider than the narrowest are dealt by
  eigenvalue, widest first; the others by variance, PoT formats before Fixed.
* The quantizers map to the level sets (1) and (4); eqs. (2) and (5) do not (see `codesign.formats.row_format`).
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from codesign.data.sources import Images
from codesign.formats.assignment import Assignment
from codesign.formats.ratio import Ratio, basic_formats, precise_formats, row_counts
from codesign.formats.row_format import FIXED4, FIXED8, POT4, FloatArray, RowFormat
from codesign.quant.curvature import filter_eigenvalues
from codesign.quant.placing import array
from codesign.quant.qat import QatNetwork

PAPER_RATIO: dict[RowFormat, float] = {POT4: 65.0, FIXED4: 30.0, FIXED8: 5.0}
"""The ratio of RMSMP-2, for the XC7Z045; the XC7Z020's is 60:35:5. An accelerator's own comes from its bands."""


def assign_rows(eigenvalues: FloatArray, variances: FloatArray, ratio: Ratio) -> tuple[RowFormat, ...]:
    """Formats of one layer's rows (Algorithm 1, lines 9-14); equal rows are dealt in their order.

    Args:
        eigenvalues: (rows,) largest Hessian eigenvalue of each filter.
        variances: (rows,) variance of each filter's weights.
        ratio: share of each format.
    """
    counts = row_counts(len(variances), ratio)
    order = list(np.argsort(-np.asarray(eigenvalues), kind="stable"))
    formats: dict[int, RowFormat] = {}
    for form in precise_formats(ratio):
        for _ in range(counts[form]):
            formats[int(order.pop(0))] = form
    rest = sorted(order, key=lambda row: (variances[row], row))
    for form in basic_formats(ratio):
        for _ in range(counts[form]):
            formats[int(rest.pop(0))] = form
    return tuple(formats[row] for row in range(len(variances)))


def assign(
    model: QatNetwork, images: Images, ratio: Ratio, *, count: int = 64, iterations: int = 20, seed: int = 0
) -> Assignment:
    """The assignment that Algorithm 1 gives the model's present weights.

    Args:
        model: not changed; set its `assignment` to the result to use it.
        images: for the Hessian, of which `count` are drawn at random.
        ratio: share of each format; what the layers' whole rows make of it is `Assignment.shares`.
        iterations: of the power method.
        seed: draws images and start vectors.
    """
    eigenvalues = {}
    if precise_formats(ratio):
        eigenvalues = filter_eigenvalues(model, images, count=count, iterations=iterations, seed=seed)
    layers = []
    for item in model.fused.convs:
        weight = model.conv(item.name).weight.detach().flatten(1)
        variances = array(weight.var(1, unbiased=False).double())
        largest = array(eigenvalues[item.name].double()) if eigenvalues else np.zeros(len(weight))
        layers.append((item.name, assign_rows(largest, variances, ratio)))
    return Assignment.of(layers, model.act_bits, model.tensors)


def refresher(
    model: QatNetwork, images: Images, ratio: Ratio, *, every: int, count: int = 64, seed: int = 0
) -> Callable[[int], None]:
    """A `before_epoch` for `training.train` that assigns anew every `every` epochs (the paper: 10).

    Not before the first epoch, which starts from the assignment the model was built with.
    """

    def refresh(epoch: int) -> None:
        if epoch > 0 and epoch % every == 0:
            model.assignment = assign(model, images, ratio, count=count, seed=seed + epoch)

    return refresh

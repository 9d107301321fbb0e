"""Dynamic calibration: every image gets the activation ranges of its own values.

An accelerator's requantization factors are constants of its program, so static ranges are what it runs. Dynamic ones
say what is lost by that (`dynamic_results`), and the network of a single image (`dynamic_network`) is integers all the
same: a host could write its factors for each image, at the price of a pass over the network in advance.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from codesign.data.dataset import Images
from codesign.errors import UserError
from codesign.integer.network import IntegerNetwork
from codesign.quant.calibration import MINMAX, CalibrationRule
from codesign.quant.lower import lower
from codesign.quant.placing import placed
from codesign.quant.qat import QatNetwork


def dynamic_results(model: QatNetwork, images: Images, rule: CalibrationRule = MINMAX) -> Tensor:
    """(N, classes) results, each image with ranges of its own; the model keeps the ranges that it has.

    Args:
        model: its weights are quantized as ever.
        images: (N, C, H, W).
        rule: how a range follows from an image's values.

    Raises:
        UserError: an image whose pixels are all 0, which has no range.
    """
    with _kept_ranges(model):
        return torch.cat([_fitted(model, images[index : index + 1], rule) for index in range(len(images))])


def dynamic_network(model: QatNetwork, image: Images, rule: CalibrationRule = MINMAX) -> IntegerNetwork:
    """The integer network with the ranges of one (C, H, W) image; errors as `dynamic_results`."""
    with _kept_ranges(model):
        _fitted(model, image[None], rule)
        return lower(model)


@torch.no_grad()
def _fitted(model: QatNetwork, image: Images, rule: CalibrationRule) -> Tensor:
    if not image.any():
        raise UserError("dynamic calibration: all pixels of an image are 0, which gives no range")
    part = placed(image)
    model.calibrate(part, rule)
    result: Tensor = model(part)
    return result.cpu()


@contextmanager
def _kept_ranges(model: QatNetwork) -> Iterator[None]:
    kept = {key: value.clone() for key, value in model.quantizers.state_dict().items()}
    was = model.training
    model.eval()
    try:
        yield
    finally:
        model.quantizers.load_state_dict(kept)
        model.train(was)

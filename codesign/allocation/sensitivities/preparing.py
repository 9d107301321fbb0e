"""From a network and a data set to what sensitivities look at."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from codesign.allocation.sensitivities.subject import Subject
from codesign.allocation.space import Space
from codesign.data.dataset import Dataset
from codesign.errors import UserError
from codesign.formats.assignment import Assignment
from codesign.formats.row_format import FIXED8
from codesign.quant.module import NetworkModule, build_module
from codesign.quant.options import FloatOptions, FormatOptions, QuantizeOptions, RunOptions, TrainingOptions
from codesign.quant.pipeline import prepared
from codesign.quant.placing import placed
from codesign.quant.qat import QatNetwork
from codesign.workload.fold import fold_batchnorm

IMAGES = 64
"""Training images that a sensitivity sees, where their number is not given."""


def subject_on(
    space: Space,
    dataset: Dataset,
    *,
    float_state: Mapping[str, Tensor] | None = None,
    floats: FloatOptions = FloatOptions(),  # noqa: B008  frozen
    images: int = IMAGES,
    run: RunOptions = RunOptions(),  # noqa: B008  frozen
) -> Subject:
    """The network in float, trained unless it brings weights, with images of the data.

    Args:
        space: its network takes the images.
        dataset: of its training images some, drawn at random, are what is seen.
        float_state: trained weights; nothing is trained then unless `floats` say that training goes on.
        floats: training in float.
        images: how many.
        run: seed, progress, checkpoints.

    Raises:
        UserError: network and data do not fit, or training diverged.
    """
    options = QuantizeOptions(FormatOptions("fixed", {FIXED8: 1.0}, 8), floats, training=TrainingOptions(epochs=0))
    stage = prepared(space.network, dataset, options, float_state=float_state, run=run)
    stage.module.eval()
    if images > len(dataset.train_images):
        raise UserError(
            f"data set '{dataset.name}': {images} training images asked for, there are {len(dataset.train_images)}"
        )
    chosen = np.random.default_rng(run.seed).permutation(len(dataset.train_images))[:images]
    return Subject(
        space,
        stage.model,
        stage.module,
        placed(dataset.train_images[chosen]),
        placed(dataset.train_labels[chosen]),
        run.seed,
        (placed(dataset.train_images), placed(dataset.train_labels)),
    )


def subject_without_data(space: Space, state: Mapping[str, Tensor]) -> Subject:
    """The network with these weights and no images, for sensitivities of weights alone."""
    folded, folded_state = fold_batchnorm(space.network, state)
    model = QatNetwork(folded, folded_state, Assignment.uniform(folded, FIXED8, 8))
    module: NetworkModule = build_module(space.network, 0)
    shape = space.network.shapes[space.network.input.name]
    return Subject(space, model, module, torch.zeros((0, *shape)), torch.zeros(0, dtype=torch.long))

"""Splitting images into training, validation and test by a seed."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from codesign.data.dataset import Dataset, Labels

SHARE = 5
"""One of so many images is split off, of each class if the classes have as many."""
MOST_VALIDATION = 5000
"""Validation images; one is then 0.02 %, and more would be missing in training."""

Indices = NDArray[np.int64]


def split(labels: Labels, seed: int, share: int = SHARE) -> tuple[Indices, Indices]:
    """(kept, split off) indices in shuffled order; of each class, one of `share` images is split off."""
    order = np.random.default_rng(seed).permutation(len(labels))
    rank = np.empty(len(labels), dtype=np.int64)
    for label in np.unique(labels):
        members = order[labels[order] == label]
        rank[members] = np.arange(len(members))
    chosen = rank < np.bincount(labels)[labels] // share
    return order[~chosen[order]], order[chosen[order]]


def with_validation(dataset: Dataset, seed: int) -> Dataset:
    """The data set with validation images, taken from those for training by the seed unless it has some.

    A fifth of each class, in all at most `MOST_VALIDATION`; where most classes have fewer than five images, a fifth of
    them all. A set without training images, or with a single one, is left as it is.
    """
    labels = dataset.train_labels
    if len(dataset.validation_labels) or len(labels) < 2:
        return dataset
    share = max(SHARE, -(-len(labels) // MOST_VALIDATION))
    kept, chosen = split(labels, seed, share)
    if len(chosen) < len(labels) // (2 * share) or not len(chosen):
        order = np.random.default_rng(seed).permutation(len(labels))
        count = max(1, len(labels) // share)
        kept, chosen = order[count:], order[:count]
    return replace(
        dataset,
        train_images=dataset.train_images[kept],
        train_labels=labels[kept],
        validation_images=dataset.train_images[chosen],
        validation_labels=labels[chosen],
    )

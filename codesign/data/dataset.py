"""Labelled images as every loader gives them: splits for training, validation and test."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from codesign.errors import UserError

Images = NDArray[np.float32]
Labels = NDArray[np.int64]

FEW = 100
"""Images of a split below which its size is said wherever the data set is named."""


def _no_images() -> Images:
    return np.zeros((0, 1, 1, 1), dtype=np.float32)


def _no_labels() -> Labels:
    return np.zeros(0, dtype=np.int64)


@dataclass(frozen=True, eq=False)
class Dataset:
    """Images (N, C, H, W), float32 in [0, 1], and their class numbers (N,).

    Whatever is chosen (formats, thresholds, methods, a point of a search) is chosen by accuracies on the validation
    images. The test images are for the accuracy that is reported of what was chosen, and measured once.

    Attributes:
        note: what a reader of an accuracy on it must know; empty if nothing.
        mean, std: of each channel, if the images are (pixel - mean) / std (see `normalized`); else empty.
        validation_images, validation_labels: `codesign.data.splits.with_validation` takes them from the training
            images where a source has none.
    """

    name: str
    train_images: Images
    train_labels: Labels
    test_images: Images
    test_labels: Labels
    classes: int
    note: str = ""
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    validation_images: Images = field(default_factory=_no_images)
    validation_labels: Labels = field(default_factory=_no_labels)

    def __post_init__(self) -> None:
        if not len(self.validation_labels):  # empty, but of the shape of the others
            object.__setattr__(self, "validation_images", self.train_images[:0])

    @property
    def shape(self) -> tuple[int, int, int]:
        """(channels, height, width) of an image."""
        _, channels, height, width = self.train_images.shape
        return (channels, height, width)

    def part(self, train: int | None = None, test: int | None = None, validation: int | None = None) -> Dataset:
        """The first images of each split (the splits are shuffled, so this is a fair sample)."""
        return replace(
            self,
            train_images=self.train_images[:train],
            train_labels=self.train_labels[:train],
            test_images=self.test_images[:test],
            test_labels=self.test_labels[:test],
            validation_images=self.validation_images[:validation],
            validation_labels=self.validation_labels[:validation],
        )

    def normalized(self, mean: Sequence[float], std: Sequence[float]) -> Dataset:
        """The images as (pixel - mean) / std, which is what a network that was trained so takes.

        `mean` and `std` have one number for each channel, or one for all of them; pixels are in [0, 1].

        Raises:
            UserError: another count of numbers, or an std that is not positive.
        """
        channels = self.shape[0]
        for name, values in (("mean", mean), ("std", std)):
            if len(values) not in (1, channels) or not np.isfinite(values).all():
                raise UserError(f"{name}: {len(values)} numbers given, data set '{self.name}' has {channels} channels")
        if min(std) <= 0:
            raise UserError(f"std: {min(std):g} given, must be positive")
        shift, scale = (np.asarray(values, dtype=np.float32).reshape(-1, 1, 1) for values in (mean, std))
        return replace(
            self,
            train_images=(self.train_images - shift) / scale,
            test_images=(self.test_images - shift) / scale,
            validation_images=(self.validation_images - shift) / scale,
            mean=tuple(map(float, mean)),
            std=tuple(map(float, std)),
        )

    def __str__(self) -> str:
        size = "x".join(map(str, self.shape))
        counts = (len(self.train_labels), len(self.validation_labels), len(self.test_labels))
        text = f"{self.name}: {counts[0]} training, {counts[1]} validation and {counts[2]} test images of {size}, "
        few = [
            f"few {what} images: one is {100 / count:.2g} %"
            for what, count in (("validation", counts[1]), ("test", counts[2]))
            if 0 < count < FEW
        ]
        few += [f"only {counts[0]} training images"] * (0 < counts[0] < FEW)
        notes = [note for note in (self.note, *few) if note]
        return text + f"{self.classes} classes" + (f" ({'; '.join(notes)})" if notes else "")

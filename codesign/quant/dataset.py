"""Labelled images as every loader gives them: a fixed split into training and test."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from codesign.errors import UserError

Images = NDArray[np.float32]
Labels = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Dataset:
    """Images (N, C, H, W), float32 in [0, 1], and their class numbers (N,).

    Attributes:
        note: what a reader of an accuracy on it must know; empty if nothing.
        mean, std: of each channel, if the images are (pixel - mean) / std (see `normalized`); else empty.
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

    @property
    def shape(self) -> tuple[int, int, int]:
        """(channels, height, width) of an image."""
        _, channels, height, width = self.train_images.shape
        return (channels, height, width)

    def part(self, train: int | None = None, test: int | None = None) -> Dataset:
        """The first images of each split (the splits are shuffled, so this is a fair sample)."""
        return replace(
            self,
            train_images=self.train_images[:train],
            train_labels=self.train_labels[:train],
            test_images=self.test_images[:test],
            test_labels=self.test_labels[:test],
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
            mean=tuple(map(float, mean)),
            std=tuple(map(float, std)),
        )

    def __str__(self) -> str:
        size = "x".join(map(str, self.shape))
        text = f"{self.name}: {len(self.train_labels)} training and {len(self.test_labels)} test images of {size}, "
        return text + f"{self.classes} classes" + (f" ({self.note})" if self.note else "")

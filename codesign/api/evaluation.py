"""Accuracy of a quantized network on the integer model, which gives what the accelerator gives."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from codesign.api.answer import Answer
from codesign.api.blocks import Block, Facts, percent
from codesign.api.networks import fitting, quantized_network
from codesign.api.reading import NOTHING, Reading
from codesign.data.dataset import Dataset
from codesign.errors import UserError
from codesign.provenance import provenance
from codesign.sim.functional import classes, predict, prepare_images

if TYPE_CHECKING:
    from codesign.api.datasets import DatasetLike
    from codesign.api.networks import NetworkLike


@dataclass(frozen=True, eq=False, repr=False)
class Evaluation(Answer):
    """How many images a network classifies right.

    Attributes:
        network: its name.
        dataset: the images came from.
        images: how many there were.
        right: how many of them were classified right.
        split: `test` or `validation`.
        seed: of the split, where the data has none.
    """

    network: str
    dataset: Dataset
    images: int
    right: int
    split: str
    seed: int

    @property
    def accuracy(self) -> float:
        """0 to 1."""
        return self.right / self.images

    @property
    def summary(self) -> str:
        share = percent(self.accuracy, 2)
        return f"{self.network} on {self.dataset.name}, {share} of {self.images:,} {self.split} images"

    def to_json(self) -> dict[str, Any]:
        answer = {"network": self.network, "data": self.dataset.name, "images": self.images, "right": self.right}
        answer |= {"accuracy": self.accuracy, "split": self.split, f"{self.split}_accuracy": self.accuracy}
        return answer | provenance(seed=self.seed)

    def blocks(self) -> Sequence[Block]:
        return [
            Facts(
                {
                    "network": self.network,
                    "data": self.dataset,
                    "right": f"{self.right:,} of {self.images:,} {self.split} images",
                    "accuracy": percent(self.accuracy, 2),
                }
            )
        ]


def evaluate(
    network: NetworkLike,
    data: DatasetLike,
    *,
    images: int | None = None,
    split: Literal["test", "validation"] = "test",
    data_dir: Path | None = None,
    seed: int = 0,
    reading: Reading = NOTHING,
) -> Evaluation:
    """Run the integers of a network on images and count the right classes.

    Args:
        network: a quantized network, or its file.
        data: whatever `load_dataset` takes.
        images: how many of the split; all by default.
        split: test images are for what is reported; to compare and choose, use validation images.
        data_dir: folder with the files of a data set that is named.
        seed: of the split, where the data has none: that of training.
        reading: how a file of another tool is read.

    Raises:
        UserError: an input cannot be used, network and images do not fit, or the split has no images.
    """
    from codesign.api.datasets import load_test_images

    loaded = load_test_images(data, data_dir, seed)
    found = quantized_network(network, reading)
    dataset = fitting(found, loaded).part(test=images, validation=images)
    pixels, labels = getattr(dataset, f"{split}_images"), getattr(dataset, f"{split}_labels")
    if not len(labels):
        raise UserError(f"data set '{dataset.name}' has no {split} images")
    results = predict(found, prepare_images(found, pixels))
    right = int((classes(found, results) == labels).sum())
    return Evaluation(found.name, dataset, len(labels), right, split, seed)

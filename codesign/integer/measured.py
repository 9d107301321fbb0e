"""How many images a network was right about: accuracies that were measured, and on how many images."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any


@dataclass(frozen=True)
class Measured:
    """Accuracies on some images, 0 to 1.

    Attributes:
        accuracy: of the integer network.
        float_accuracy, quantized_accuracy: of the float network, and of the training model with quantizers.
        agreement: share of the images on which training model and integers choose the same class.
        images: how many there were.
    """

    accuracy: float
    float_accuracy: float
    quantized_accuracy: float
    agreement: float
    images: int

    def facts(self, split: str) -> dict[str, float | int]:
        """For machines, such as `validation_accuracy`; `split` is `validation` or `test`."""
        return {f"{split}_{name}": value for name, value in asdict(self).items()}

    @classmethod
    def from_facts(cls, values: Mapping[str, Any], split: str) -> Measured:
        """What `facts` gave; other keys are ignored.

        Raises:
            LookupError: a key is missing.
            TypeError, ValueError: a value is none that `facts` gives.
        """
        found = {item.name: values[f"{split}_{item.name}"] for item in fields(cls)}
        images = found.pop("images")
        if not isinstance(images, int) or isinstance(images, bool) or images < 1:
            raise TypeError(f"{split}_images is no number of images")
        for name, value in found.items():
            if not isinstance(value, int | float) or isinstance(value, bool):
                raise TypeError(f"{split}_{name} is no number")
            if not 0 <= value <= 1:
                raise ValueError(f"{split}_{name} is no share of images")
        return cls(**{name: float(value) for name, value in found.items()}, images=images)

    def __str__(self) -> str:
        return (
            f"float {self.float_accuracy:.2%}, quantized {self.quantized_accuracy:.2%}, integers {self.accuracy:.2%} "
            f"({self.agreement:.2%} the same class) on {self.images}"
        )

"""A tensor of a float ONNX graph while the graph is read: a layer's result, seen in some shape."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

from codesign.errors import UserError
from codesign.workload.layers import NO_PADDING, Padding


@dataclass(frozen=True, eq=False)
class FloatMap:
    """The result of a layer, perhaps with zeros around it.

    Attributes:
        layer: that computes it.
        shape: in the graph, the batch included; the order of the numbers is the layer's.
        padding: zeros that a Pad put around it, until a window takes them.
        alone: nothing else reads the layer's result.
        flatten: name of the node that made a vector of it.
        scale, shift: of the network's input alone, (C,): the tensor is scale * input + shift.
    """

    layer: str
    shape: tuple[int, ...]
    padding: Padding = NO_PADDING
    alone: bool = True
    flatten: str = ""
    scale: NDArray[Any] | None = None
    shift: NDArray[Any] | None = None

    def check_plain(self, where: str) -> None:
        """UserError that begins with `where` unless the tensor is what the layer computes and nothing else."""
        if self.padding != NO_PADDING:
            raise UserError(f"{where} is padded by a Pad; only Conv and pooling can read that")
        if self.scale is not None:
            raise UserError(f"{where} is a normalized image{self.instead}")

    @property
    def instead(self) -> str:
        """How a normalization outside the model does the same, for error lines."""
        assert self.scale is not None and self.shift is not None
        mean, std = (
            ",".join(f"{number:.7g}" for number in numbers) for numbers in (-self.shift / self.scale, 1 / self.scale)
        )
        return f"; what would replace it: a model without this, and --mean {mean} --std {std}"

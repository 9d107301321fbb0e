"""Where training computes: everything is made on torch's default device, random numbers always on the CPU.

The same seed so draws the same numbers on every device. The pipeline runs within `on(device)`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from codesign.errors import UserError


@contextmanager
def on(device: str) -> Iterator[None]:
    """Make tensors on `device` ("cpu", "cuda", "cuda:1") within the block; UserError if torch has no such device."""
    try:
        place = torch.device(device)
        torch.zeros(1, device=place)
    # torch says so with several types of exception.
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        first = str(error).splitlines()[0]
        raise UserError(f"device '{device}' cannot be used: {first}") from None
    with place:
        yield


def placed(array: NDArray[Any]) -> Tensor:
    """The array as a tensor on the default device."""
    return torch.from_numpy(array).to(torch.get_default_device())


def array(tensor: Tensor) -> NDArray[Any]:
    """The numbers of a tensor on any device."""
    result: NDArray[Any] = tensor.detach().cpu().numpy()
    return result


def generator(seed: int) -> torch.Generator:
    """Random numbers from a seed."""
    return torch.Generator(device="cpu").manual_seed(seed)


def uniform(shape: Sequence[int], source: torch.Generator, dtype: torch.dtype = torch.float32) -> Tensor:
    """Random numbers in [0, 1) on the default device."""
    drawn = torch.rand(tuple(shape), generator=source, dtype=dtype, device="cpu")
    return drawn.to(torch.get_default_device())


def chosen(generator: np.random.Generator, count: int, size: int) -> Tensor:
    """`size` random indices below `count`, on the default device."""
    return placed(generator.integers(0, count, size))

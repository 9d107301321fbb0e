"""What DATASET may be: a name, a folder or file of one's own, or in Python arrays, a `DataLoader`, a torch data set."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from codesign.api.given import check_data_dir, refuse
from codesign.data.dataset import Dataset
from codesign.data.sources import load_dataset as load_named
from codesign.data.splits import with_validation
from codesign.data.user_data import Pair, from_arrays
from codesign.errors import UserError, option

if TYPE_CHECKING:
    from torch import Tensor
    from torch.utils.data import DataLoader
    from torch.utils.data import Dataset as TorchDataset

    Array = np.ndarray[Any, Any] | Tensor
    ImagesLike = tuple[Array, Array] | DataLoader[Any] | TorchDataset[Any]
    """Images and labels: two arrays, or what gives pairs of them. See `load_dataset`."""
    DatasetLike = Dataset | str | Path | ImagesLike
    """Whatever `load_dataset` takes."""

BATCH = 256
"""Images of a torch data set that are asked for at once."""


def load_dataset(
    data: DatasetLike,
    data_dir: str | Path | None = None,
    seed: int = 0,
    *,
    validation: ImagesLike | None = None,
    test: ImagesLike | None = None,
    classes: int = 0,
) -> Dataset:
    """Labelled images, split into training, validation and test.

    Args:
        data: a name such as `digits` (see `codesign.data.sources`); a folder of images or an .npz file; (images,
            labels) for training, arrays or tensors: bytes (N, H, W) or (N, H, W, C), which are scaled to [0, 1], or
            floats (N, C, H, W) or (N, features), taken as they are, and class numbers (N,); a `DataLoader` or a torch
            data set of such pairs, which is read once, with what it does to its images.
        data_dir: folder with the files of a data set that is named.
        seed: decides the order of the images, and the splits that the data has not of its own.
        validation, test: of arrays and loaders: further images. Without `validation` a fifth of each class is taken
            from those for training; without `test` there are none.
        classes: of arrays and loaders: how many there are, if labels do not show all of them.

    Raises:
        UserError: no such data set, or arrays that do not make one; the message names the file or the array.
    """
    check_data_dir(data, data_dir)
    if isinstance(data, Dataset | str | Path):
        refuse({"validation": validation, "test": test, "classes": classes or None}, "on a data set that has its own")
        return with_validation(data, seed) if isinstance(data, Dataset) else load_named(str(data), data_dir, seed)
    found = from_arrays(
        "arrays",
        arrays_of(data),
        None if test is None else arrays_of(test),
        None if validation is None else arrays_of(validation),
        classes,
        seed,
    )
    return with_validation(found, seed)


def load_test_images(data: DatasetLike, data_dir: str | Path | None = None, seed: int = 0) -> Dataset:
    """As `load_dataset`, but arrays and loaders are images to test with."""
    if isinstance(data, Dataset | str | Path):
        return load_dataset(data, data_dir, seed)
    check_data_dir(data, data_dir)
    return from_arrays("arrays", test=arrays_of(data), seed=seed)


def arrays_of(data: ImagesLike) -> Pair:
    """(images, labels) as arrays."""
    if isinstance(data, tuple | list) and len(data) == 2:
        return _array(data[0]), _array(data[1])
    torch = sys.modules.get("torch")
    if torch is not None and isinstance(data, torch.utils.data.Dataset):
        data = torch.utils.data.DataLoader(data, batch_size=BATCH)
    if torch is None or not isinstance(data, torch.utils.data.DataLoader):
        raise UserError(
            f"{option('data')}: a {type(data).__name__} given, must be (images, labels), a DataLoader, a data set or "
            "its name"
        )
    images, labels = [], []
    for batch in data:
        if not isinstance(batch, tuple | list) or len(batch) != 2:
            raise UserError(f"{option('data')}: the loader gives a {type(batch).__name__}, must give (images, labels)")
        images.append(_array(batch[0]))
        labels.append(_array(batch[1]))
    if not images:
        raise UserError(f"{option('data')}: the loader gives no images")
    try:
        return np.concatenate(images), np.concatenate(labels)
    except ValueError as error:
        raise UserError(f"{option('data')}: the loader's batches do not go together: {error}") from None


def _array(value: Any) -> np.ndarray[Any, Any]:
    """An array of what is one, a tensor of any device, or a list."""
    if hasattr(value, "detach"):
        value = value.detach().cpu().numpy()
    return np.asarray(value)

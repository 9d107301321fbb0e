"""Data sets that users bring: a folder of images, or an .npz of arrays.

    folder/train/<class>/*.png    folder/test/<class>/*.png     as split
    folder/<class>/*.png                                        a fifth of each class is for testing, by seed
    data.npz                      x_train, y_train, x_test, y_test; or x and y, split as above

Images are scaled to [0, 1] and must have one size; classes are numbered in the order of their names. Arrays of bytes
are pixels, (N, H, W) or (N, H, W, C), and scaled too; arrays of floats are (N, C, H, W), taken as they are.

A set may have 200,000,000 values of pixels, and class numbers below 65,536. What is taken of a picture says
`codesign.quant.images`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from codesign._reading import MOST_ARRAYS, archive, excerpt
from codesign.errors import UserError
from codesign.quant.dataset import Dataset, Images, Labels
from codesign.quant.images import SUFFIXES, read_image
from codesign.quant.splits import SHARE, split

MOST_PIXELS = 200_000_000
"""Values of the images of a set, which are held twice as float32; all of CIFAR-10 has 184 million."""
MOST_CLASSES = 1 << 16
PARTS = ("train", "test")


def load_user_data(path: str | Path, seed: int = 0) -> Dataset:
    """The data set in a folder of images or an .npz file, shuffled by `seed`.

    Raises:
        UserError: nothing is there, or sizes, labels or values do not make a data set; the message names the file.
    """
    path = Path(path)
    if is_folder(path):
        return _folder(path, seed)
    if path.suffix.lower() == ".npz":
        return _arrays(path, seed)
    raise UserError(f"{excerpt(path)}: no data set; must be a folder of images or an .npz file")


def is_folder(path: str | Path) -> bool:
    """Whether `path` is a folder, whatever text it is."""
    try:
        return Path(path).is_dir()
    except (OSError, ValueError):  # too long, or with a NUL
        return False


def _folder(path: Path, seed: int) -> Dataset:
    split_by_user = all((path / part).is_dir() for part in PARTS)
    roots = [path / part for part in PARTS] if split_by_user else [path]
    try:
        classes = sorted({item.name for root in roots for item in root.iterdir() if item.is_dir()})
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror or error}") from None
    if len(classes) < 2:
        raise UserError(
            f"{path}: has {len(classes)} folders of images; a data set needs one for each class, at least 2"
        )
    loaded = [_images(root, classes) for root in roots]
    shapes = {images.shape[1:] for images, _ in loaded}
    if len(shapes) > 1:
        raise UserError(f"{path}: training and test images have other sizes: {', '.join(map(str, sorted(shapes)))}")
    if split_by_user:
        return _shuffled(path.name, loaded[0], loaded[1], len(classes), seed)
    (images, labels) = loaded[0]
    return _split(path.name, images, labels, len(classes), seed)


def _images(root: Path, classes: list[str]) -> tuple[Images, Labels]:
    found: list[tuple[Path, int]] = []
    for label, name in enumerate(classes):
        folder = root / name
        if folder.is_dir():
            found += [(item, label) for item in sorted(folder.iterdir()) if item.suffix.lower() in SUFFIXES]
    if not found:
        raise UserError(f"{root}: holds no images in its folders ({', '.join(SUFFIXES)})")
    first = read_image(found[0][0])
    if len(found) * first.size > MOST_PIXELS:
        raise UserError(
            f"{root}: {len(found):,} images of {_size(first)}, {len(found) * first.size:,} values, "
            f"must be at most {MOST_PIXELS:,}"
        )
    images = np.empty((len(found), *first.shape), dtype=np.float32)
    for index, (file, _) in enumerate(found):
        pixels = first if index == 0 else read_image(file)
        if pixels.shape != first.shape:
            raise UserError(f"{file}: is {_size(pixels)}, others are {_size(first)}; all must have one size")
        images[index] = pixels
    return images, np.asarray([label for _, label in found], dtype=np.int64)


def _size(pixels: Images) -> str:
    return f"{pixels.shape[2]}x{pixels.shape[1]} {'gray' if len(pixels) == 1 else 'RGB'}"


def _arrays(path: Path, seed: int) -> Dataset:
    with archive(path, MOST_ARRAYS, "an .npz of plain arrays") as found:
        names = found.arrays
        keys = ("x_train", "y_train", "x_test", "y_test")
        wanted = keys if names >= set(keys) else ("x", "y") if names >= {"x", "y"} else ()
        arrays = {key: found.array(key) for key in wanted}
    if {"x_train", "y_train", "x_test", "y_test"} <= arrays.keys():
        parts = [_checked(path, arrays, f"x_{part}", f"y_{part}") for part in PARTS]
        if parts[0][0].shape[1:] != parts[1][0].shape[1:]:
            raise UserError(f"{path}: x_train has images of {parts[0][0].shape[1:]}, x_test of {parts[1][0].shape[1:]}")
        classes = 1 + int(max(labels.max() for _, labels in parts))
        return _shuffled(path.stem, parts[0], parts[1], classes, seed)
    if {"x", "y"} <= arrays.keys():
        images, labels = _checked(path, arrays, "x", "y")
        return _split(path.stem, images, labels, 1 + int(labels.max()), seed)
    raise UserError(
        f"{path}: holds {excerpt(', '.join(names)) or 'nothing'}; must hold x_train, y_train, x_test, y_test or x, y"
    )


def _checked(path: Path, arrays: dict[str, NDArray[Any]], images: str, labels: str) -> tuple[Images, Labels]:
    x, y = arrays[images], arrays[labels]
    if y.ndim != 1 or y.dtype.kind not in "iu" or not len(y) or y.min() < 0 or y.max() >= MOST_CLASSES:
        raise UserError(f"{path}: {labels} must be class numbers from 0, below {MOST_CLASSES:,}, one for each image")
    if x.ndim and len(x) != len(y):
        raise UserError(f"{path}: {images} has {len(x)} images, {labels} has {len(y)} labels")
    if x.size > MOST_PIXELS:
        raise UserError(f"{path}: {images} has {x.size:,} values, must be at most {MOST_PIXELS:,}")
    if not x.size:
        raise UserError(f"{path}: {images} is empty, of shape {x.shape}")
    if x.dtype == np.uint8 and (x.ndim == 3 or (x.ndim == 4 and x.shape[3] in (1, 3, 4))):
        return _pixels(x), y.astype(np.int64)
    if x.dtype.kind == "f" and x.ndim == 4:
        with np.errstate(over="ignore"):
            narrow = np.ascontiguousarray(x, dtype=np.float32)
        if not np.isfinite(narrow).all():
            raise UserError(f"{path}: {images} holds numbers that are NaN or infinite in single precision")
        return narrow, y.astype(np.int64)
    raise UserError(
        f"{path}: {images} is {x.dtype} of shape {x.shape}; must be uint8 (N, H, W) or (N, H, W, C), "
        "or floats (N, C, H, W)"
    )


def _pixels(images: NDArray[np.uint8]) -> Images:
    channels = images[:, None] if images.ndim == 3 else images.transpose(0, 3, 1, 2)
    return np.ascontiguousarray(channels, dtype=np.float32) / np.float32(255)


def _split(name: str, images: Images, labels: Labels, classes: int, seed: int) -> Dataset:
    train, test = split(labels, seed)
    if not len(test):
        raise UserError(f"{name}: no class has {SHARE} images, of which one would be for testing")
    return Dataset(name, images[train], labels[train], images[test], labels[test], classes)


def _shuffled(name: str, train: tuple[Images, Labels], test: tuple[Images, Labels], classes: int, seed: int) -> Dataset:
    rng = np.random.default_rng(seed)
    first, second = rng.permutation(len(train[1])), rng.permutation(len(test[1]))
    return Dataset(name, train[0][first], train[1][first], test[0][second], test[1][second], classes)

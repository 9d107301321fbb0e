"""Data sets that users bring: a folder of images, or an .npz of arrays.

    folder/train/<class>/*.png    folder/test/<class>/*.png     as split
    folder/<class>/*.png                                        a fifth of each class is for testing, by seed
    data.npz                      x_train, y_train, x_test, y_test; or x and y, split as above

Images are scaled to [0, 1] and must have one size; classes are numbered in the order of their names. Arrays of bytes
are pixels, (N, H, W) or (N, H, W, C), and scaled too; arrays of floats are (N, C, H, W), taken as they are.
"""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from codesign.errors import UserError
from codesign.quant.dataset import Dataset, Images, Labels

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".ppm", ".pgm", ".tif", ".tiff", ".webp")
TEST_SHARE = 5
"""One of so many images of each class is for testing where there is no split."""
PARTS = ("train", "test")


def load_user_data(path: str | Path, seed: int = 0) -> Dataset:
    """The data set in a folder of images or an .npz file, shuffled by `seed`.

    Raises:
        UserError: nothing is there, or sizes, labels or values do not make a data set; the message names the file.
    """
    path = Path(path)
    if path.is_dir():
        return _folder(path, seed)
    if path.suffix.lower() == ".npz":
        return _arrays(path, seed)
    raise UserError(f"{path}: no data set; must be a folder of images or an .npz file")


def split(labels: Labels, seed: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """(training, testing) indices in shuffled order; a fifth of each class is for testing."""
    order = np.random.default_rng(seed).permutation(len(labels))
    rank = np.empty(len(labels), dtype=np.int64)
    for label in np.unique(labels):
        members = order[labels[order] == label]
        rank[members] = np.arange(len(members))
    test = rank < np.bincount(labels)[labels] // TEST_SHARE
    return order[~test[order]], order[test[order]]


def _folder(path: Path, seed: int) -> Dataset:
    split_by_user = all((path / part).is_dir() for part in PARTS)
    roots = [path / part for part in PARTS] if split_by_user else [path]
    classes = sorted({item.name for root in roots for item in root.iterdir() if item.is_dir()})
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
    from PIL import Image

    images: list[NDArray[np.uint8]] = []
    labels: list[int] = []
    for label, name in enumerate(classes):
        files = sorted(item for item in (root / name).glob("*") if item.suffix.lower() in SUFFIXES)
        for file in files:
            try:
                with Image.open(file) as image:
                    pixels = np.asarray(image.convert("L" if image.mode in ("1", "L", "I;16") else "RGB"))
            except (OSError, ValueError, SyntaxError) as error:
                raise UserError(f"{file}: not an image, or damaged ({error})") from None
            if images and pixels.shape != images[0].shape:
                raise UserError(f"{file}: is {_size(pixels)}, others are {_size(images[0])}; all must have one size")
            images.append(pixels)
            labels.append(label)
    if not images:
        raise UserError(f"{root}: holds no images in its folders ({', '.join(SUFFIXES)})")
    return _pixels(np.stack(images)), np.asarray(labels, dtype=np.int64)


def _size(pixels: NDArray[np.uint8]) -> str:
    return f"{pixels.shape[1]}x{pixels.shape[0]} {'gray' if pixels.ndim == 2 else 'RGB'}"


def _arrays(path: Path, seed: int) -> Dataset:
    try:
        with np.load(path, allow_pickle=False) as archive:
            arrays: dict[str, NDArray[Any]] = {key: archive[key] for key in archive.files}
    except OSError as error:
        raise UserError(f"{path}: {error.strerror or 'damaged or cut short'}") from None
    except (EOFError, ValueError, zipfile.BadZipFile) as error:
        raise UserError(f"{path}: damaged, or no .npz of plain arrays ({error})") from None
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
        f"{path}: holds {', '.join(arrays) or 'nothing'}; must hold x_train, y_train, x_test, y_test or x, y"
    )


def _checked(path: Path, arrays: dict[str, NDArray[Any]], images: str, labels: str) -> tuple[Images, Labels]:
    x, y = arrays[images], arrays[labels]
    if y.ndim != 1 or y.dtype.kind not in "iu" or not len(y) or y.min() < 0:
        raise UserError(f"{path}: {labels} must be class numbers from 0, one for each image")
    if len(x) != len(y):
        raise UserError(f"{path}: {images} has {len(x)} images, {labels} has {len(y)} labels")
    if x.dtype == np.uint8 and (x.ndim == 3 or (x.ndim == 4 and x.shape[3] in (1, 3, 4))):
        return _pixels(x), y.astype(np.int64)
    if x.dtype.kind == "f" and x.ndim == 4:
        if not np.isfinite(x).all():
            raise UserError(f"{path}: {images} holds numbers that are NaN or infinite")
        return np.ascontiguousarray(x, dtype=np.float32), y.astype(np.int64)
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
        raise UserError(f"{name}: no class has {TEST_SHARE} images, of which one would be for testing")
    return Dataset(name, images[train], labels[train], images[test], labels[test], classes)


def _shuffled(name: str, train: tuple[Images, Labels], test: tuple[Images, Labels], classes: int, seed: int) -> Dataset:
    rng = np.random.default_rng(seed)
    first, second = rng.permutation(len(train[1])), rng.permutation(len(test[1]))
    return Dataset(name, train[0][first], train[1][first], test[0][second], test[1][second], classes)

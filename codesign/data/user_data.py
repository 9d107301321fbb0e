"""Data sets that users bring: a folder of images, or an .npz of arrays.

    folder/train/<class>/*.png    folder/test/<class>/*.png     as split; beside them val, valid or validation
    folder/<class>/*.png                                        a fifth of each class is for testing, by seed
    data.npz                      x_train, y_train, x_test, y_test; or x and y, split as above; with either one,
                                  x_val and y_val (or _valid, _validation; or val_images and val_labels)

Where there are no validation images, `codesign.data.splits` takes some from those for training.

Images are scaled to [0, 1] and must have one size; classes are numbered in the order of their names. Arrays of bytes
are pixels, (N, H, W) or (N, H, W, C), and scaled too; arrays of floats are (N, C, H, W), taken as they are.

A set may have 200,000,000 values of pixels, and class numbers below 65,536. What is taken of a picture says
`codesign.data.images`.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from codesign._reading import MOST_ARRAYS, archive, excerpt
from codesign.data.dataset import Dataset, Images, Labels
from codesign.data.images import SUFFIXES, read_image
from codesign.data.splits import SHARE, split
from codesign.errors import UserError

MOST_PIXELS = 200_000_000
"""Values of the images of a set, which are held twice as float32; all of CIFAR-10 has 184 million."""
MOST_CLASSES = 1 << 16
PARTS = ("train", "test")
_PAIRS = tuple((f"x_{part}", f"y_{part}") for part in PARTS)
Pair = tuple[NDArray[Any], NDArray[Any]]
"""Images and labels."""
VALIDATION = ("val", "valid", "validation")
"""Names that the validation part may have."""


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
    own = [path / name for name in VALIDATION if (path / name).is_dir()]
    if len(own) > 1 and split_by_user:
        raise UserError(f"{path}: has {own[0].name} and {own[1].name}, must have one folder of validation images")
    if own and not split_by_user and _parts_only(path):
        raise UserError(
            f"{path}: has {', '.join(sorted(item.name for item in path.iterdir() if item.is_dir()))}; must have train "
            f"and test, with {own[0].name} beside them, or a folder for each class"
        )
    roots = [path / part for part in PARTS] + own if split_by_user else [path]
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
        return _shuffled(path.name, loaded[0], loaded[1], len(classes), seed, *loaded[2:])
    (images, labels) = loaded[0]
    return _split(path.name, images, labels, len(classes), seed)


def _parts_only(path: Path) -> bool:
    """Whether all folders have names of parts and hold folders themselves: no classes that happen to be called so."""
    folders = [item for item in path.iterdir() if item.is_dir()]
    named = all(item.name in (*PARTS, *VALIDATION) for item in folders)
    return named and all(any(inner.is_dir() for inner in item.iterdir()) for item in folders)


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
        own = _validation_keys(path, names)
        arrays = {key: found.array(key) for key in (*wanted, *(own if wanted else ()))}
    pairs = (*(_PAIRS if wanted == keys else [("x", "y")]), *([own] if own else []))
    parts = {pair: (arrays[pair[0]], arrays[pair[1]]) for pair in pairs} if wanted else {}
    if wanted == keys:
        train, test, *validation = _checked_parts(path, parts)
        return _shuffled(path.stem, train, test, _classes(train, test, *validation), seed, *validation)
    if wanted:
        train, *validation = _checked_parts(path, parts)
        return _split(path.stem, *train, _classes(train, *validation), seed, *validation)
    raise UserError(
        f"{path}: holds {excerpt(', '.join(names)) or 'nothing'}; must hold x_train, y_train, x_test, y_test or x, y"
    )


def from_arrays(
    name: str,
    train: Pair | None = None,
    test: Pair | None = None,
    validation: Pair | None = None,
    classes: int = 0,
    seed: int = 0,
) -> Dataset:
    """The data set of arrays, each part shuffled by `seed`; at least one part, the others stay empty.

    Args:
        name: of the data set.
        train, test, validation: (images, labels): bytes (N, H, W) or (N, H, W, C), floats (N, C, H, W) or
            (N, features); class numbers (N,).
        classes: how many there are, if labels do not show all of them.
        seed: decides the order.

    Raises:
        UserError: shapes, types, values or labels do not make a data set; the message names the array.
    """
    given = {"train": train, "test": test, "validation": validation}
    parts = {key: pair for key, pair in given.items() if pair is not None}
    if not parts:
        raise UserError(f"{name}: no images given, must have images for training, validation or testing")
    names = {key: (f"{key} images", f"{key} labels") for key in parts}
    checked = dict(zip(parts, _checked_parts(name, {names[key]: parts[key] for key in parts}), strict=True))
    images, labels = next(iter(checked.values()))
    nothing = (images[:0], labels[:0])
    count = max(classes, _classes(*checked.values()))
    first, second = checked.get("train", nothing), checked.get("test", nothing)
    return _shuffled(name, first, second, count, seed, *([checked["validation"]] if "validation" in checked else []))


def _checked_parts(
    where: str | Path, parts: Mapping[tuple[str, str], tuple[NDArray[Any], NDArray[Any]]]
) -> list[tuple[Images, Labels]]:
    """Images and labels by the names of their arrays, as a data set has them; all images of one size."""
    found = [_checked(where, dict(zip(names, pair, strict=True)), *names) for names, pair in parts.items()]
    (first, _), *others = parts
    for (name, _), (images, _) in zip(others, found[1:], strict=True):
        if images.shape[1:] != found[0][0].shape[1:]:
            raise UserError(f"{where}: {first} has images of {found[0][0].shape[1:]}, {name} of {images.shape[1:]}")
    return found


def _classes(*parts: tuple[Images, Labels]) -> int:
    return 1 + int(max(labels.max() for _, labels in parts))


def _validation_keys(path: Path, names: Collection[str]) -> tuple[str, str] | tuple[()]:
    """Names of the arrays of validation images and labels, if there are any."""
    known = [(f"x_{name}", f"y_{name}") for name in VALIDATION]
    known += [(f"{name}_images", f"{name}_labels") for name in VALIDATION]
    found = [pair for pair in known if pair[0] in names or pair[1] in names]
    if len(found) > 1:
        raise UserError(f"{path}: holds {found[0][0]} and {found[1][0]}, must hold one array of validation images")
    for pair in found:
        for key in pair:
            if key not in names:
                raise UserError(f"{path}: holds {pair[0] if key == pair[1] else pair[1]} without {key}")
        return pair
    return ()


def _checked(path: str | Path, arrays: dict[str, NDArray[Any]], images: str, labels: str) -> tuple[Images, Labels]:
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
    if x.dtype.kind == "f" and x.ndim == 2 and not isinstance(path, Path):
        x = x[:, :, None, None]  # features
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


def _split(
    name: str, images: Images, labels: Labels, classes: int, seed: int, validation: tuple[Images, Labels] | None = None
) -> Dataset:
    train, test = split(labels, seed)
    if not len(test):
        raise UserError(f"{name}: no class has {SHARE} images, of which one would be for testing")
    found = Dataset(name, images[train], labels[train], images[test], labels[test], classes)
    return _with_own(found, validation, seed)


def _shuffled(
    name: str,
    train: tuple[Images, Labels],
    test: tuple[Images, Labels],
    classes: int,
    seed: int,
    validation: tuple[Images, Labels] | None = None,
) -> Dataset:
    rng = np.random.default_rng(seed)
    first, second = rng.permutation(len(train[1])), rng.permutation(len(test[1]))
    found = Dataset(name, train[0][first], train[1][first], test[0][second], test[1][second], classes)
    return _with_own(found, validation, seed)


def _with_own(dataset: Dataset, validation: tuple[Images, Labels] | None, seed: int) -> Dataset:
    """The data set with the validation images that the user gives, if any."""
    if validation is None:
        return dataset
    images, labels = validation
    order = np.random.default_rng(seed).permutation(len(labels))
    return replace(dataset, validation_images=images[order], validation_labels=labels[order])

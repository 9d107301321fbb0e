"""Data sets of labelled images: pixels in [0, 1], channels first, a fixed split into training and test.

`digits` comes with scikit-learn. The others are files in a data folder: the argument, else the environment variable
CODESIGN_DATA, else the folder `shared/data` beside the checkout.
"""

from __future__ import annotations

import io
import lzma
import os
import tarfile
import tempfile
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

import codesign
from codesign.errors import UserError

VARIABLE = "CODESIGN_DATA"
CIFAR_CLASSES = (
    "airplane",
    "automobile",
    "bird",
    "cat",
    "deer",
    "dog",
    "frog",
    "horse",
    "ship",
    "truck",
)

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


def names() -> tuple[str, ...]:
    """Names of the data sets."""
    return tuple(_LOADERS)


def load_dataset(name: str, data_dir: str | Path | None = None, seed: int = 0) -> Dataset:
    """The data set called `name`.

    Args:
        name: `digits` (1797 images of 1x8x8), `cifar10_small` (3000 of 3x32x32) or `cifar10` (60,000 of 3x32x32).
        data_dir: folder with the files; see the module's text for the default.
        seed: decides the order of the images, and the split where the data has none of its own.

    Raises:
        UserError: unknown name; a file is missing or damaged.
    """
    if name not in _LOADERS:
        raise UserError(f"data set '{name}' is unknown; there are {', '.join(names())}")
    return _LOADERS[name](data_folder(data_dir), seed)


def data_folder(data_dir: str | Path | None = None) -> Path:
    """The folder where data files are looked for; it need not exist."""
    chosen = data_dir or os.environ.get(VARIABLE)
    return Path(chosen) if chosen else Path(codesign.__file__).resolve().parents[2] / "shared" / "data"


def _digits(_: Path, seed: int) -> Dataset:
    from sklearn.datasets import load_digits

    bunch = load_digits()
    images = (bunch.images.astype(np.float32) / 16)[:, None]
    labels = bunch.target.astype(np.int64)
    order = np.random.default_rng(seed).permutation(len(labels))
    # A fifth of each class is for testing.
    rank = np.empty(len(labels), dtype=np.int64)
    for digit in range(10):
        members = order[labels[order] == digit]
        rank[members] = np.arange(len(members))
    test = rank < np.bincount(labels)[labels] // 5
    chosen, kept = order[test[order]], order[~test[order]]
    return Dataset("digits", images[kept], labels[kept], images[chosen], labels[chosen], 10)


def _cifar10_small(folder: Path, seed: int) -> Dataset:
    path = _existing(folder / "cifar10_small.npz", "cifar10_small")
    return _cifar(path, "cifar10_small", seed)


def _cifar10(folder: Path, seed: int) -> Dataset:
    source = _existing(folder / "cifar10_jpeg.tar.xz", "cifar10")
    cache_root = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    # The size in the name: another archive does not meet an old cache.
    cache = cache_root / "codesign" / f"cifar10-{source.stat().st_size}.npz"
    if not cache.exists():
        _decode(source, cache)
    return _cifar(cache, "cifar10", seed)


def _existing(path: Path, name: str) -> Path:
    if not path.is_file():
        raise UserError(f"{path}: data set '{name}' needs this file (choose its folder with --data or ${VARIABLE})")
    return path


def _cifar(path: Path, name: str, seed: int) -> Dataset:
    keys = ("x_train", "y_train", "x_test", "y_test")
    try:
        with np.load(path, allow_pickle=False) as archive:
            x_train, y_train, x_test, y_test = (archive[key] for key in keys)
    except (OSError, EOFError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise UserError(f"{path}: damaged, or no data set with the arrays {', '.join(keys)} ({error})") from None
    for images, labels in ((x_train, y_train), (x_test, y_test)):
        if images.dtype != np.uint8 or images.ndim != 4 or len(images) != len(labels) or labels.ndim != 1:
            raise UserError(f"{path}: images must be (N, H, W, C) bytes with one label each")
    rng = np.random.default_rng(seed)
    order_train, order_test = rng.permutation(len(y_train)), rng.permutation(len(y_test))
    return Dataset(
        name,
        _pixels(x_train[order_train]),
        y_train[order_train].astype(np.int64),
        _pixels(x_test[order_test]),
        y_test[order_test].astype(np.int64),
        len(CIFAR_CLASSES),
        note="CIFAR-10 from lossy JPEGs: compare methods, not published figures",
    )


def _pixels(images: NDArray[np.uint8]) -> Images:
    return np.ascontiguousarray(images.transpose(0, 3, 1, 2), dtype=np.float32) / np.float32(255)


def _decode(source: Path, cache: Path) -> None:
    """Decode the archive's JPEGs (`train/<class>/NNNN.jpg`) once into an .npz of bytes."""
    try:
        from PIL import Image  # type: ignore[import-not-found, unused-ignore]
    except ImportError:
        raise UserError(f"{source}: decoding its JPEGs needs Pillow (pip install pillow)") from None
    images: dict[str, list[NDArray[np.uint8]]] = {"train": [], "test": []}
    labels: dict[str, list[int]] = {"train": [], "test": []}
    try:
        with tarfile.open(source, "r:xz") as archive:
            for member in archive:
                parts = Path(member.name).parts
                if not member.isfile() or len(parts) < 3 or parts[-3] not in images or parts[-2] not in CIFAR_CLASSES:
                    continue
                file = archive.extractfile(member)
                assert file is not None
                with Image.open(io.BytesIO(file.read())) as image:
                    images[parts[-3]].append(np.asarray(image.convert("RGB")))
                labels[parts[-3]].append(CIFAR_CLASSES.index(parts[-2]))
    except (OSError, EOFError, tarfile.TarError, lzma.LZMAError, ValueError) as error:
        raise UserError(f"{source}: damaged, or no archive of JPEGs ({error})") from None
    if not images["train"] or not images["test"]:
        raise UserError(f"{source}: holds no images named train/<class>/NNNN.jpg and test/<class>/NNNN.jpg")
    arrays = {f"x_{part}": np.stack(items) for part, items in images.items()}
    arrays |= {f"y_{part}": np.asarray(items, dtype=np.int64) for part, items in labels.items()}
    try:
        cache.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=cache.parent, suffix=".tmp")
    except OSError as error:
        raise UserError(f"{cache}: cannot write the decoded images: {error.strerror or error}") from None
    try:
        with os.fdopen(handle, "wb") as out:
            np.savez(out, **arrays)  # type: ignore[arg-type]
        os.replace(temporary, cache)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


_LOADERS: dict[str, Callable[[Path, int], Dataset]] = {
    "digits": _digits,
    "cifar10_small": _cifar10_small,
    "cifar10": _cifar10,
}

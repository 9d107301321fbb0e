"""Data sets of labelled images: pixels in [0, 1], channels first, split into training, validation and test.

`digits` comes with scikit-learn. The others are files in a data folder: the argument, else the environment variable
CODESIGN_DATA, else the folder `shared/data` beside the checkout.
"""

from __future__ import annotations

import hashlib
import io
import lzma
import os
import struct
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import codesign
from codesign._files import atomic_write, cache_folder, content_hash
from codesign._kept import is_kept_file, keep_file
from codesign._reading import MIB, MOST_ARRAYS, archive, excerpt, is_regular, opened
from codesign._sources import source_hash, tool_versions
from codesign.data.dataset import Dataset as Dataset
from codesign.data.dataset import Images as Images
from codesign.data.dataset import Labels as Labels
from codesign.data.splits import split, with_validation
from codesign.data.user_data import MOST_PIXELS, is_folder, load_user_data
from codesign.errors import UserError, option

VARIABLE = "CODESIGN_DATA"
MOST_HASHED = 1 << 40
"""Bytes of a file that is only hashed."""
FILES = {
    "cifar10": "cifar10_jpeg.tar.xz",
    "cifar10_small": "cifar10_small.npz",
    "fsdd": "fsdd_mfcc49x10.npz",
    "kws01": "mlperf_tiny_kws01.npz",
}
"""By data set, of those that are files."""
FSDD_SCALE = np.float32(32)
"""Features of FSDD are divided by it, which brings their deviation near 1."""
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


def names() -> tuple[str, ...]:
    """Names of the data sets."""
    return tuple(_LOADERS)


def load_dataset(name: str, data_dir: str | Path | None = None, seed: int = 0) -> Dataset:
    """The data set called `name`.

    Args:
        name: `digits` (1797 images of 1x8x8), `cifar10_small` (3000 of 3x32x32), `cifar10` (60,000 of 3x32x32),
            `fsdd` (3000 spoken digits as 1x49x10 features), `kws01` (MLPerf Tiny's 1000 test samples of keywords as
            1x49x10 features, none for training); or the path of a folder of images or an .npz file of one's own (see
            `codesign.data.user_data`).
        data_dir: folder with the files; see the module's text for the default.
        seed: decides the order of the images, and the splits that the data has not of its own.

    Raises:
        UserError: unknown name; a file is missing or damaged.
    """
    if name not in _LOADERS:
        if is_regular(name) or is_folder(name) or Path(name).suffix or len(Path(name).parts) > 1:
            return with_validation(load_user_data(name, seed), seed)
        known = ", ".join(names())
        raise UserError(f"data set '{excerpt(name)}' is unknown; there are {known}, folders of images, .npz files")
    return with_validation(_LOADERS[name](data_folder(data_dir), seed), seed)


def data_hash(name: str, data_dir: str | Path | None = None) -> str:
    """Of the content of the data set called `name`, which is not loaded for it.

    Raises:
        UserError: a file is missing or cannot be read.
    """
    if name == "digits":
        return tool_versions("scikit-learn")
    path = _existing(data_folder(data_dir) / FILES[name], name) if name in FILES else Path(name)
    digest = hashlib.sha256()
    try:
        for file in sorted(item for item in path.rglob("*") if item.is_file()) if path.is_dir() else [path]:
            digest.update(f"{file.relative_to(path).as_posix()}\n{file.stat().st_size}\n".encode())
            with opened(file, MOST_HASHED) as content:
                digest.update(hashlib.file_digest(content, "sha256").digest())
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror or error}") from None
    return digest.hexdigest()


def uses_folder(name: str) -> bool:
    """Whether the data set called `name` has files that are looked for in a data folder."""
    return name in _LOADERS and name != "digits"


def data_folder(data_dir: str | Path | None = None) -> Path:
    """The folder where data files are looked for; it need not exist."""
    chosen = data_dir or os.environ.get(VARIABLE)
    return Path(chosen) if chosen else Path(codesign.__file__).resolve().parents[2] / "shared" / "data"


def _digits(_: Path, seed: int) -> Dataset:
    from sklearn.datasets import load_digits

    bunch = load_digits()
    images = (bunch.images.astype(np.float32) / 16)[:, None]
    labels = bunch.target.astype(np.int64)
    kept, chosen = split(labels, seed)
    return Dataset("digits", images[kept], labels[kept], images[chosen], labels[chosen], 10)


def _cifar10_small(folder: Path, seed: int) -> Dataset:
    path = _existing(folder / FILES["cifar10_small"], "cifar10_small")
    return _cifar(path, "cifar10_small", seed)


def _cifar10(folder: Path, seed: int) -> Dataset:
    source = _existing(folder / FILES["cifar10"], "cifar10")
    key = content_hash(data_hash("cifar10", folder), source_hash(__name__), tool_versions("numpy", "pillow"))
    cache = cache_folder() / "cifar10" / f"{key}.npz"
    if not is_kept_file(cache, key):
        _decode(source, cache)
        keep_file(cache, key)
    return _cifar(cache, "cifar10", seed)


def _fsdd(folder: Path, seed: int) -> Dataset:
    """Free Spoken Digit Dataset, its own split: recordings 0 to 4 of each speaker and digit are for testing."""
    path = _existing(folder / FILES["fsdd"], "fsdd")
    arrays = _read(path, ("x", "y", "index"))
    x, index = arrays["x"], arrays["index"]
    if x.ndim != 3 or not x.size or x.dtype.kind not in "if" or not np.isfinite(x).all() or index.shape != x.shape[:1]:
        raise UserError(f"{path}: x must be finite features (N, height, width), and index have N numbers")
    _check_labels(path, arrays["y"], len(x), 10)
    order = np.random.default_rng(seed).permutation(len(arrays["y"]))
    images = arrays["x"][order, None].astype(np.float32) / FSDD_SCALE
    labels, test = arrays["y"][order].astype(np.int64), arrays["index"][order] < 5
    note = "features of Free Spoken Digit Dataset, CC BY-SA 4.0"
    return Dataset("fsdd", images[~test], labels[~test], images[test], labels[test], 10, note)


def _kws01(folder: Path, seed: int) -> Dataset:
    """MLPerf Tiny's accuracy set of keyword spotting: real values of the reference model's int8 features."""
    path = _existing(folder / FILES["kws01"], "kws01")
    arrays = _read(path, ("x", "y", "in_scale", "in_zero"))
    numbers = arrays["in_scale"], arrays["in_zero"]
    if any(item.size != 1 or not np.isfinite(item).all() for item in numbers):
        raise UserError(f"{path}: in_scale and in_zero must be one number each")
    if arrays["x"].ndim != 4 or arrays["x"].dtype != np.int8:
        raise UserError(f"{path}: x must be int8 features (N, height, width, channels)")
    _check_labels(path, arrays["y"], len(arrays["x"]), 12)
    codes = arrays["x"].transpose(0, 3, 1, 2).astype(np.float64)
    images = ((codes - float(arrays["in_zero"].item())) * float(arrays["in_scale"].item())).astype(np.float32)
    labels = arrays["y"].astype(np.int64)
    note = "1,000 test samples of MLPerf Tiny, from Speech Commands v2 (CC BY 4.0)"
    return Dataset("kws01", images[:0], labels[:0], images, labels, 12, note)


def _read(path: Path, keys: tuple[str, ...]) -> dict[str, NDArray[Any]]:
    with archive(path, MOST_ARRAYS, f"a data set with the arrays {', '.join(keys)}") as found:
        arrays = {key: found.array(key) for key in keys}
        if sum(array.size for array in arrays.values()) > MOST_PIXELS:
            raise ValueError(f"more than {MOST_PIXELS:,} values")
        return arrays


def _check_labels(path: Path, labels: NDArray[Any], count: int, classes: int) -> None:
    if labels.shape != (count,) or labels.dtype.kind not in "iu" or not count:
        raise UserError(f"{path}: one class number for each image, and at least one image, must be there")
    if labels.min() < 0 or labels.max() >= classes:
        raise UserError(f"{path}: class {labels.min()} to {labels.max()} given, must be 0 to {classes - 1}")


def _existing(path: Path, name: str) -> Path:
    if not is_regular(path):
        raise UserError(
            f"{path}: data set '{name}' needs this file (choose its folder with {option('data_dir')} or ${VARIABLE})"
        )
    return path


def _cifar(path: Path, name: str, seed: int) -> Dataset:
    x_train, y_train, x_test, y_test = _read(path, ("x_train", "y_train", "x_test", "y_test")).values()
    for images, labels in ((x_train, y_train), (x_test, y_test)):
        if images.dtype != np.uint8 or images.ndim != 4 or len(images) != len(labels) or labels.ndim != 1:
            raise UserError(f"{path}: images must be (N, H, W, C) bytes with one label each")
        _check_labels(path, labels, len(images), len(CIFAR_CLASSES))
    if x_train.shape[1:] != x_test.shape[1:] or not x_train.size:
        raise UserError(f"{path}: x_train has images of {x_train.shape[1:]}, x_test of {x_test.shape[1:]}")
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
    size: tuple[int, int] | None = None
    try:
        with opened(source, MOST_ARRAYS) as compressed, lzma.open(compressed) as unfolded:
            with tarfile.open(fileobj=_Bounded(unfolded), mode="r:") as tape:
                for member in tape:
                    parts = Path(member.name).parts
                    if not member.isfile() or len(parts) < 3 or parts[-3] not in images:
                        continue
                    if parts[-2] not in CIFAR_CLASSES:
                        continue
                    file = tape.extractfile(member)
                    assert file is not None
                    with Image.open(io.BytesIO(file.read()), formats=("JPEG",)) as image:
                        size = size or image.size
                        if image.size != size or max(size) > 64:
                            raise ValueError(f"{excerpt(member.name, 80)} has {image.width}x{image.height} pixels")
                        images[parts[-3]].append(np.asarray(image.convert("RGB")))
                    labels[parts[-3]].append(CIFAR_CLASSES.index(parts[-2]))
    except (
        *(OSError, EOFError, tarfile.TarError, lzma.LZMAError, ValueError, SyntaxError, TypeError, struct.error),
        Image.DecompressionBombError,
    ) as error:
        raise UserError(f"{source}: damaged, or no archive of JPEGs ({excerpt(error)})") from None
    if not images["train"] or not images["test"]:
        raise UserError(f"{source}: holds no images named train/<class>/NNNN.jpg and test/<class>/NNNN.jpg")
    arrays = {f"x_{part}": np.stack(items) for part, items in images.items()}
    arrays |= {f"y_{part}": np.asarray(items, dtype=np.int64) for part, items in labels.items()}
    with atomic_write(cache) as file:
        np.savez(file, **arrays)  # type: ignore[arg-type]


class _Bounded(io.RawIOBase):
    """A stream that ends with ValueError where an archive unfolds to more than there is reason for."""

    def __init__(self, stream: lzma.LZMAFile) -> None:
        super().__init__()
        self._stream = stream

    def read(self, size: int = -1) -> bytes:
        """Up to `size` bytes."""
        if not 0 <= size <= 16 * MIB or self._stream.tell() + size > MOST_ARRAYS:
            raise ValueError("unfolds to more than all of CIFAR-10")
        return self._stream.read(size)

    def seek(self, offset: int, whence: int = 0) -> int:
        """Go to a place, forwards or back."""
        if whence or not 0 <= offset <= MOST_ARRAYS:
            raise ValueError("unfolds to more than all of CIFAR-10")
        return self._stream.seek(offset)

    def tell(self) -> int:
        """The place, in bytes."""
        return self._stream.tell()


_LOADERS: dict[str, Callable[[Path, int], Dataset]] = {
    "digits": _digits,
    "cifar10_small": _cifar10_small,
    "cifar10": _cifar10,
    "fsdd": _fsdd,
    "kws01": _kws01,
}

"""Files are believed only so far: regular ones, of a bounded size, whose contents unfold to a bounded size.

Every reader of a user's file goes through here. A FIFO, a device or a socket is refused before anything waits for it,
a file over the limit of its kind before it is read, a compressed member or an array before it is unfolded.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import stat
import struct
import tokenize
import zipfile
import zlib
from collections.abc import Iterator, KeysView
from io import BufferedReader, BytesIO
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from codesign.errors import UserError

KIB, MIB = 1 << 10, 1 << 20
MOST_YAML = 256 * KIB
"""Bytes of a YAML document; the longest in hw_configs has 3 KiB."""
MOST_TEXT = 4 * MIB
"""Bytes of another text that people write: a topology, a configuration of SCALE-Sim."""
MOST_JSON = 32 * MIB
"""Bytes of a JSON text that a tool writes: a network's structure, an assignment, a result."""
MOST_MODEL = 1024 * MIB
"""Bytes of a file that holds weights, as they lie there and unfolded; VGG-16 in float has 553 MB."""
MOST_ARRAYS = 800_000_000
"""Bytes of the arrays of a data set, unfolded; all of CIFAR-10 has 184 MB."""
MOST_MEMBERS = 50_000
"""Members of an archive: arrays of a network of 5,000 layers."""
MOST_LETTERS = 200
"""Of a text that is quoted in an error."""

_KINDS = (
    (stat.S_ISDIR, "a folder"),
    (stat.S_ISFIFO, "a FIFO"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)


def excerpt(text: object, most: int = MOST_LETTERS) -> str:
    """A text in one line, cut where it goes on too long to be read."""
    line = str(text)[: 8 * most]
    line = " ".join(line.split())
    return line if len(line) <= most else line[: most - 3] + "..."


def is_regular(path: str | Path) -> bool:
    """Whether `path` is a file that can be read, whatever text it is."""
    try:
        return Path(path).is_file()
    except (OSError, ValueError):  # too long, or with a NUL
        return False


def what_is(path: str | Path) -> str:
    """What `path` is instead of a file: `no such file`, `is a folder`, `is a FIFO`, ..."""
    try:
        mode = Path(path).stat().st_mode
    except OSError as error:
        return _reason(error)
    except ValueError:
        return "no such file"
    return f"is {_kind(mode)}"


@contextlib.contextmanager
def opened(path: str | Path, most: int) -> Iterator[BufferedReader]:
    """A regular file of at most `most` bytes, open for reading.

    Raises:
        UserError: it is missing, cannot be read, is something else than a file, or larger.
    """
    shown = excerpt(path)
    try:
        # O_NONBLOCK: opening a FIFO would wait for its writer
        handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        if error.errno == errno.ENXIO:
            raise UserError(f"{shown}: is a socket, must be a file") from None
        raise UserError(f"{shown}: {_reason(error)}") from None
    except ValueError as error:
        raise UserError(f"{shown}: cannot be read: {error}") from None
    found = os.fstat(handle)
    if not stat.S_ISREG(found.st_mode) or found.st_size > most:
        os.close(handle)
        if stat.S_ISREG(found.st_mode):
            raise UserError(f"{shown}: has {found.st_size:,} bytes, must have at most {most:,}")
        raise UserError(f"{shown}: is {_kind(found.st_mode)}, must be a file")
    with os.fdopen(handle, "rb") as file:
        try:
            yield file
        except OSError as error:
            if error.errno is None:  # of a library that reads the file, about what is in it
                raise
            raise UserError(f"{shown}: {_reason(error)}") from None


def read_bytes(path: str | Path, most: int) -> bytes:
    """What a regular file of at most `most` bytes holds; UserError as `opened`."""
    with opened(path, most) as file:
        data = file.read(most + 1)
    if len(data) > most:  # one of /proc, which says 0, or one that grows
        raise UserError(f"{excerpt(path)}: has over {most:,} bytes, must have at most {most:,}")
    return data


def read_text(path: str | Path, most: int, what: str) -> str:
    """The text of a file in UTF-8, with or without a byte order mark.

    Args:
        path: of a regular file.
        most: bytes it may have.
        what: it should be, for errors, such as `YAML`.

    Raises:
        UserError: as `opened`, or it is no such text.
    """
    data = read_bytes(path, most)
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(f"{excerpt(path)}: not {what}: not a text file in UTF-8 (byte {error.start})") from None
    if "\0" in text:
        raise UserError(f"{excerpt(path)}: not {what}: not a text file (a NUL is in it)")
    return text


def parse_json(text: str | bytes) -> Any:
    """The value of a JSON text.

    Raises:
        ValueError: it is none, goes too deep, has a key twice, or a number that JSON does not have (NaN, Infinity).
    """
    try:
        return json.loads(text, object_pairs_hook=_unique, parse_constant=_no_number, parse_int=_integer)
    except RecursionError:
        raise ValueError("lists within lists, too deep") from None


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        seen: set[str] = set()
        for key, _ in pairs:
            if key in seen:
                raise ValueError(f"key '{excerpt(key, 40)}' is given twice")
            seen.add(key)
    return found


def _no_number(name: str) -> Any:
    raise ValueError(f"{name} is no number")


def _integer(digits: str) -> int:
    if len(digits) > 100:
        raise ValueError(f"a number of {len(digits)} digits")
    return int(digits)


class Archive:
    """A zip whose members are read up to a limit, all together, whatever its directory says."""

    def __init__(self, file: BinaryIO, most: int) -> None:
        """The archive in an open file.

        Raises:
            ValueError: it is none, or its members unfold to more than `most` bytes.
        """
        check_directory(file)
        try:
            self._zip = zipfile.ZipFile(file)
        except (zipfile.BadZipFile, NotImplementedError, struct.error, UnicodeDecodeError) as error:
            raise ValueError(f"no complete zip archive: {error}") from None
        self._left = most
        infos = self._zip.infolist()
        if len(infos) > MOST_MEMBERS:
            raise ValueError(f"{len(infos):,} members, must be at most {MOST_MEMBERS:,}")
        if len({info.filename for info in infos}) < len(infos):
            raise ValueError("two members have one name")
        said = sum(info.file_size for info in infos)
        if said > most:
            raise ValueError(f"unfolds to {said:,} bytes, must be at most {most:,}")
        self.names = tuple(info.filename for info in infos)
        self._arrays = dict.fromkeys(name.removesuffix(".npy") for name in self.names if name.endswith(".npy"))

    def text(self, name: str, most: int) -> bytes:
        """The bytes of a member of at most `most`; errors as `read`."""
        if name not in self._zip.NameToInfo:
            raise KeyError(name)
        if self._zip.getinfo(name).file_size > most:
            raise ValueError(f"'{excerpt(name)}' has more than {most:,} bytes")
        return self.read(name)

    def read(self, name: str) -> bytes:
        """The bytes of a member; KeyError without it, ValueError where it is damaged or unfolds to too much."""
        if name not in self._zip.NameToInfo:
            raise KeyError(name)
        info = self._zip.getinfo(name)
        if info.flag_bits & 1:
            raise ValueError(f"'{excerpt(name)}' is encrypted")
        if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise ValueError(f"'{excerpt(name)}' is compressed by method {info.compress_type}, must be deflated")
        try:
            with self._zip.open(info) as member:
                data = member.read(self._left + 1)
        except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError) as error:
            raise ValueError(f"'{excerpt(name)}' is damaged: {excerpt(error)}") from None
        self._left -= len(data)
        if self._left < 0:
            raise ValueError("unfolds to more than it says")
        return data

    def array(self, name: str) -> NDArray[Any]:
        """The array in the member `name`.npy; errors as `read` and `parse_npy`."""
        try:
            return parse_npy(self.read(f"{name}.npy"))
        except ValueError as error:
            raise ValueError(f"array '{excerpt(name)}': {error}") from None

    @property
    def arrays(self) -> KeysView[str]:
        """Names of the arrays."""
        return self._arrays.keys()


@contextlib.contextmanager
def archive(path: str | Path, most: int, what: str) -> Iterator[Archive]:
    """The zip archive in a file; what is read of it inside is damaged where it raises ValueError or KeyError.

    Args:
        path: of a regular file of at most `most` bytes.
        most: bytes that its members may have, unfolded, all together.
        what: it should be, for errors, such as `an integer network`.

    Raises:
        UserError: as `opened`, or it is no archive, or damaged.
    """
    with opened(path, most) as file:
        try:
            yield Archive(file, most)
        except KeyError as error:
            raise UserError(f"{excerpt(path)}: damaged, or not {what} (without {excerpt(error)})") from None
        except ValueError as error:
            raise UserError(f"{excerpt(path)}: damaged, or not {what} ({excerpt(error)})") from None


def read_arrays(path: str | Path, most: int, what: str) -> dict[str, NDArray[Any]]:
    """All arrays of an .npz; UserError as `archive`."""
    with archive(path, most, what) as found:
        return {name: found.array(name) for name in found.arrays}


def parse_npy(data: bytes) -> NDArray[Any]:
    """The array of plain numbers in the bytes of an .npy file; ValueError unless it has just the bytes it says."""
    file = BytesIO(data)
    # RecursionError and MemoryError: a header of ten thousand parentheses
    try:
        version = np.lib.format.read_magic(file)
        if version not in ((1, 0), (2, 0)):
            raise ValueError(f"version {version[0]}.{version[1]} of .npy")
        header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, column_major, dtype = header(file)
    except (
        *(ValueError, TypeError, SyntaxError, KeyError, RecursionError, MemoryError, OverflowError),
        tokenize.TokenError,
    ) as error:
        raise ValueError(f"no header of an .npy ({excerpt(error, 80)})") from None
    if dtype.kind not in "biuf":
        raise ValueError(f"holds {excerpt(dtype, 40)}, must be plain numbers")
    if any(size < 0 for size in shape):
        raise ValueError(f"shape {excerpt(shape, 80)}")
    count = 1
    for size in shape:
        count *= size
    there = len(data) - file.tell()
    if count * dtype.itemsize != there:
        raise ValueError(f"shape {excerpt(shape, 80)} of {dtype}, but {there:,} bytes of it")
    values = np.frombuffer(data, dtype, offset=file.tell())
    try:
        return values.reshape(shape, order="F" if column_major else "C").astype(dtype.newbyteorder("="))
    except (ValueError, OverflowError) as error:  # more dimensions than numpy has
        raise ValueError(f"shape {excerpt(shape, 80)}: {excerpt(error, 80)}") from None


_MOST_DIRECTORY = 16 * MIB


def check_directory(file: BinaryIO) -> None:
    """ValueError where a zip's directory is too large to be listed, which `zipfile` does before anything else."""
    end = file.seek(0, os.SEEK_END)
    file.seek(max(0, end - 65_557))
    tail = file.read()
    file.seek(0)
    place = tail.rfind(b"PK\5\6")
    if place < 0 or len(tail) < place + 22:
        raise ValueError("no complete zip archive")
    size = int.from_bytes(tail[place + 12 : place + 16], "little")
    if size > _MOST_DIRECTORY:
        raise ValueError(f"a directory of {size:,} bytes, must be at most {_MOST_DIRECTORY:,}")


def _kind(mode: int) -> str:
    return next((name for test, name in _KINDS if test(mode)), "a file")


def _reason(error: OSError) -> str:
    if error.errno == errno.ENOENT:
        return "no such file"
    return f"cannot be read: {error.strerror or error}"

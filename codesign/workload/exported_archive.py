"""What a .pt2 file holds, read without torch: its members, its JSON, the bytes of its weights.

`torch.export.load` unpickles whatever a file says is pickled, evaluates the expressions of sizes as Python, and looks
operators up by name in the whole of torch; nothing of the sort happens here. A .pt2 is a zip archive, stored without
compression, as torch 2.9 and newer write it:

    models/NAME.json                          the program (torch/_export/serde/schema.py)
    data/weights/NAME_weights_config.json     parameters and buffers: member, type, sizes, strides, offset
    data/constants/NAME_constants_config.json the same of constants
    data/weights/weight_0, data/constants/tensor_0, ...   raw bytes
    data/sample_inputs/NAME.pt                pickled, never read
    extra/...                                 the user's own, never read

Every size that a file states is compared with the bytes present before anything is allocated.
"""

from __future__ import annotations

import io
import math
import os
import pickletools
import re
import zipfile
import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, BinaryIO

import torch
from torch import Tensor

from codesign._reading import MOST_JSON, check_directory, parse_json
from codesign.errors import UserError

DTYPES = {
    1: torch.uint8,
    2: torch.int8,
    3: torch.int16,
    4: torch.int32,
    5: torch.int64,
    6: torch.float16,
    7: torch.float32,
    8: torch.float64,
    12: torch.bool,
    13: torch.bfloat16,
}
"""ScalarType of torch's schema."""
STRIDED = 7
"""Layout of torch's schema."""
_TENSORS_ONLY = frozenset(
    {"torch._utils _rebuild_tensor_v2", "torch._utils _rebuild_parameter", "collections OrderedDict"}
    | {"torch._tensor _rebuild_from_type_v2", "torch Tensor"}
    | {f"torch {kind}Storage" for kind in ("Float", "Double", "Half", "BFloat16", "Long", "Int", "Short", "Char")}
    | {"torch ByteStorage", "torch BoolStorage", "torch.storage UntypedStorage", "torch Size", "torch device"}
)
"""What a pickle of tensors, as torch writes sample inputs, names."""
_NAMING = frozenset({"STACK_GLOBAL", "INST", "OBJ", "EXT1", "EXT2", "EXT4", "NEWOBJ", "NEWOBJ_EX"})
"""Opcodes that look up what to call otherwise than torch does."""
_NO_PICKLE = b"\x80"
"""The first byte of a pickle since protocol 2."""
_FIXED = frozenset({"archive_format", "archive_version", "byteorder", "version"})
_FOLDERS: tuple[str, ...] = (".data/", ".format_version", ".storage_alignment", "data/weights/", "data/constants/")
_FOLDERS += ("data/sample_inputs/", "extra/")


@dataclass(frozen=True)
class Stored:
    """A tensor of the archive: where its bytes are and how they are to be seen. Sizes and strides in elements."""

    member: str
    dtype: torch.dtype
    sizes: tuple[int, ...]
    strides: tuple[int, ...]
    offset: int


class Archive:
    """The members of an open .pt2; UserError (without the file's name) if it is not one or holds what is not read.

    Attributes:
        program: what the JSON of the one model says.
        tensors: parameters, buffers and constants by their dotted names.
    """

    def __init__(self, file: BinaryIO) -> None:
        size = file.seek(0, os.SEEK_END)
        file.seek(0)
        try:
            check_directory(file)
            self._zip = zipfile.ZipFile(file)
        except (zipfile.BadZipFile, ValueError, OverflowError):
            raise UserError("no program of torch.export, or cut short (it is no complete zip archive)") from None
        self._members = _members(self._zip.infolist(), size)
        if self._members.get("archive_format") is None:
            raise UserError("no program of torch.export, or one of an old torch; export it again")
        if self._read("archive_format", 16) != b"pt2":
            raise UserError("no program of torch.export: its archive_format is not pt2")
        if "byteorder" in self._members and self._read("byteorder", 16) != b"little":
            raise UserError("written on a machine of another byte order; export it on this one")
        models = [name[len("models/") : -len(".json")] for name in self._members if _is_model(name)]
        if len(models) != 1:
            raise UserError(f"holds {len(models)} programs; 1 is supported")
        self.program = self._json(f"models/{models[0]}.json")
        weights = self._config("weights", f"{models[0]}_weights_config.json", "weight_")
        constants = self._config("constants", f"{models[0]}_constants_config.json", "tensor_")
        self.tensors = {**constants, **weights}
        if len(self.tensors) != len(weights) + len(constants):
            raise UserError("a constant has the name of a weight")
        self._refuse_code(models[0])
        self._loaded: dict[tuple[str, torch.dtype], Tensor] = {}

    def tensor(self, name: str) -> Tensor:
        """The tensor called `name`, as stored; tensors that share bytes in the file share them here."""
        stored = self.tensors[name]
        key = (stored.member, stored.dtype)
        if key not in self._loaded:
            data = bytearray(self._read(stored.member, self._members[stored.member].file_size))
            self._loaded[key] = torch.frombuffer(data, dtype=stored.dtype)
        return torch.as_strided(self._loaded[key], stored.sizes, stored.strides, stored.offset)

    def _read(self, name: str, largest: int) -> bytes:
        info = self._members[name]
        if info.file_size > largest:
            raise UserError(f"'{short(name)}' has {info.file_size:,} bytes; at most {largest:,} are read")
        try:
            return self._zip.read(info)
        # A wrong checksum, an encrypted member, a header that says otherwise than the directory.
        except (zipfile.BadZipFile, RuntimeError, ValueError, OSError, EOFError, NotImplementedError) as error:
            raise UserError(f"'{short(name)}' is damaged ({short(str(error))})") from None

    def _json(self, name: str) -> dict[str, Any]:
        try:
            value = parse_json(self._read(name, MOST_JSON))
        except ValueError as error:
            raise UserError(f"'{short(name)}' is no JSON that torch writes ({short(str(error))})") from None
        if not isinstance(value, dict):
            raise UserError(f"'{short(name)}' is no JSON object")
        return value

    def _config(self, folder: str, name: str, prefix: str) -> dict[str, Stored]:
        path = f"data/{folder}/{name}"
        if f"data/{folder}/{name.partition('_')[0]}.pt" in self._members or (
            folder == "weights" and path not in self._members
        ):
            raise UserError("has the weights of an old torch, pickled; export it again with torch 2.10 or newer")
        if path not in self._members:
            return {}
        entries = self._json(path).get("config")
        if not isinstance(entries, dict):
            raise UserError(f"'{short(path)}' has no entry 'config'")
        return {key: self._stored(f"data/{folder}/", prefix, key, entry) for key, entry in entries.items()}

    def _stored(self, folder: str, prefix: str, name: str, entry: Any) -> Stored:
        where = f"{folder.split('/')[1]} '{short(name)}'"
        if not isinstance(entry, dict) or not isinstance(entry.get("path_name"), str):
            raise UserError(f"{where}: its entry in the configuration is damaged")
        pickled = entry.get("use_pickle", "missing")
        if pickled is not False:
            raise UserError(
                f"{where}: use_pickle is {short(repr(pickled))}, must be false: pickled objects would be executed; "
                "not read"
            )
        if not re.fullmatch(rf"{prefix}\d{{1,9}}", entry["path_name"], re.ASCII):
            raise UserError(
                f"{where}: lies in '{short(entry['path_name'])}', must be '{prefix}' and a number: custom objects "
                "would be executed; not read"
            )
        member = folder + entry["path_name"]
        if member not in self._members:
            raise UserError(f"{where}: its bytes '{member}' are not in the file")
        meta = entry.get("tensor_meta")
        kind = meta.get("dtype") if isinstance(meta, dict) and meta.get("layout") == STRIDED else None
        if not isinstance(meta, dict) or type(kind) is not int or kind not in DTYPES:
            raise UserError(f"{where}: is no plain tensor of a type that torch computes convolutions with")
        stored = Stored(
            member,
            DTYPES[kind],
            tuple(_integers(where, meta.get("sizes"))),
            tuple(_integers(where, meta.get("strides"))),
            *_integers(where, [meta.get("storage_offset")]),
        )
        _check_extent(where, stored, self._members[member].file_size)
        return stored

    def _refuse_code(self, model: str) -> None:
        """UserError if a member that is never read is a pickle of more than tensors, or no member of a program."""
        read = {stored.member for stored in self.tensors.values()} | {f"models/{model}.json"}
        for name, info in self._members.items():
            if name in read or name.endswith("_config.json"):
                continue
            if name not in _FIXED and not name.startswith(_FOLDERS):
                raise UserError(f"holds '{short(name)}', which is no part of a program of torch.export; not read")
            if any(_names_more_than_tensors(item) for item in _pickles(self._read(name, info.file_size))):
                raise UserError(f"'{short(name)}' holds pickled objects, which would be executed; not read")


def short(text: str, limit: int = 60) -> str:
    """A text of a file, for an error line: without control characters, cut after `limit` characters."""
    plain = "".join(item if item.isprintable() else "?" for item in text[: limit + 1])
    return plain if len(text) <= limit else plain[:limit] + "..."


def _members(infos: Iterable[zipfile.ZipInfo], size: int) -> dict[str, zipfile.ZipInfo]:
    """By their paths below the archive's one root folder."""
    found: dict[str, zipfile.ZipInfo] = {}
    roots: set[str] = set()
    total = 0
    for info in infos:
        root, _, name = info.filename.partition("/")
        roots.add(root)
        if name in found:
            raise UserError(f"holds '{short(name)}' twice")
        if info.compress_type != zipfile.ZIP_STORED or info.file_size != info.compress_size or info.flag_bits & 1:
            raise UserError(f"'{short(info.filename)}' is compressed or encrypted; torch stores members as they are")
        total += info.file_size
        found[name] = info
    if len(roots) != 1:
        raise UserError("no program of torch.export, or one of an old torch; export it again")
    if total > size:
        raise UserError(f"damaged: its members claim {total:,} bytes, the file has {size:,}")
    return found


def _is_model(name: str) -> bool:
    return name.startswith("models/") and name.endswith(".json")


def _integers(where: str, values: Any) -> list[int]:
    """Of torch's [{"as_int": 3}, ...]."""
    if not isinstance(values, list) or len(values) > 8:
        raise UserError(f"{where}: its sizes, strides or offset are damaged")
    found = []
    for value in values:
        number = value.get("as_int") if isinstance(value, dict) and len(value) == 1 else None
        if not isinstance(number, int) or isinstance(number, bool) or not 0 <= number < 1 << 48:
            raise UserError(f"{where}: its sizes, strides or offset are no numbers")
        found.append(number)
    return found


def _check_extent(where: str, stored: Stored, size: int) -> None:
    width = stored.dtype.itemsize
    count = math.prod(stored.sizes)
    if len(stored.sizes) != len(stored.strides) or count == 0:
        raise UserError(f"{where}: sizes {stored.sizes} and strides {stored.strides} do not make a tensor")
    last = stored.offset + sum((n - 1) * step for n, step in zip(stored.sizes, stored.strides, strict=True))
    if size % width or (last + 1) * width > size or count * width > size:
        raise UserError(
            f"{where}: a tensor of sizes {stored.sizes} needs {max(last + 1, count) * width:,} bytes; the file has "
            f"{size:,}"
        )


def _pickles(data: bytes) -> list[bytes]:
    """What `torch.load` or `pickle.load` would unpickle of these bytes."""
    if not data.startswith(b"PK"):
        return [data]
    found = []
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as inner:
            pickled = [info for info in inner.infolist() if info.filename.endswith(".pkl")]
            # torch compresses nothing: what claims to be larger than the bytes present counts as what is refused.
            if sum(info.file_size for info in pickled) > len(data):
                return [_NO_PICKLE]
            found += [inner.read(info) for info in pickled]
    except (zipfile.BadZipFile, zlib.error, RuntimeError, ValueError, OSError, EOFError, NotImplementedError):
        return [_NO_PICKLE]
    return found


def _names_more_than_tensors(data: bytes) -> bool:
    """Whether bytes are a pickle, read but not run, that names anything but tensors, or that cannot be read."""
    names = False
    stream = io.BytesIO(data)
    try:
        while stream.tell() < len(data) and not names:
            for opcode, argument, _ in pickletools.genops(stream):
                names |= opcode.name == "GLOBAL" and argument not in _TENSORS_ONLY
                names |= opcode.name in _NAMING
    # Of bytes that are no pickle, pickletools raises whatever it stumbles on.
    except Exception:
        return data.startswith(_NO_PICKLE)
    return names

"""One file for an integer network: a zip of `network.json` (the structure, for people) and one .npy per array.

`numpy.load` opens it too. The same network always gives the same bytes. Saving goes through a temporary file beside
the target, so an interrupted save leaves the old file or none.
"""

from __future__ import annotations

import dataclasses
import io
import json
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from codesign._files import atomic_write
from codesign._reading import MOST_JSON, MOST_MODEL, Archive, excerpt, parse_json
from codesign._reading import archive as archive_of
from codesign.errors import UserError
from codesign.integer.checks import check_network
from codesign.integer.host import HostWork, host_of_provenance
from codesign.integer.network import (
    IntegerConv,
    IntegerLayer,
    IntegerNetwork,
    IntegerPool,
    IntegerTensor,
    Measured,
    Scheme,
)

FORMAT = "codesign integer network"
VERSION = 3
READ = (1, 2, 3)
"""Versions that are read; 1 says what the host does in the provenance only, 2 so the accuracies and what became of
biases."""
_STRUCTURE = "network.json"
_TYPES: dict[str, type[IntegerConv | IntegerPool]] = {"conv": IntegerConv, "pool": IntegerPool}


def save_network(network: IntegerNetwork, path: str | Path) -> None:
    """Write `network` to `path`; UserError if it breaks its contract or the file cannot be written."""
    path = Path(path)
    check_network(network)
    arrays: dict[str, NDArray[Any]] = {}
    structure = {
        "format": FORMAT,
        "version": VERSION,
        "name": network.name,
        "input": dataclasses.asdict(network.input),
        "layers": [_describe(layer, f"layers/{index}", arrays) for index, layer in enumerate(network.layers)],
        **beside(network),
    }
    try:
        text = json.dumps(structure, indent=1)
    except TypeError as error:
        raise UserError(f"{path}: provenance of network '{network.name}' is no JSON: {error}") from None
    _write(path, text, arrays)


def load_network(path: str | Path) -> IntegerNetwork:
    """Read what `save_network` wrote; UserError with one line if the file is missing, damaged or something else."""
    path = Path(path)
    try:
        with archive_of(path, MOST_MODEL, "an integer network that codesign wrote") as archive:
            structure = parse_json(archive.text(_STRUCTURE, MOST_JSON))
            if not isinstance(structure, dict) or structure.get("format") != FORMAT:
                raise UserError(f"{path}: not an integer network that codesign wrote")
            if structure["version"] not in READ:
                known = " and ".join(map(str, READ))
                raise UserError(f"{path}: format version {structure['version']}; this codesign reads {known}")
            source = typed(IntegerTensor, structure["input"])
            network = IntegerNetwork(
                name=_text(structure["name"]),
                input=source,
                layers=tuple(
                    _rebuild(item, f"layers/{index}", archive) for index, item in enumerate(structure["layers"])
                ),
                **read_beside(structure, source),
            )
        check_network(network)
        return network
    except UserError as error:
        raise UserError(str(error) if str(error).startswith(excerpt(path)) else f"{path}: {error}") from None
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        raise UserError(f"{path}: damaged, or not an integer network that codesign wrote ({excerpt(error)})") from None


def beside(network: IntegerNetwork) -> dict[str, Any]:
    """What files say of a network besides its input and its layers, as JSON."""
    measured = {"validation": network.validation, "test": network.test}
    return {
        "host": network.host.to_json(),
        "measured": {split: found.facts(split) if found else None for split, found in measured.items()},
        "bias_report": network.bias_report,
        "provenance": network.provenance,
    }


def read_beside(structure: Mapping[str, Any], source: IntegerTensor) -> dict[str, Any]:
    """The fields of an `IntegerNetwork` that `beside` wrote, or what an older file says in its provenance.

    Raises LookupError, TypeError or ValueError where they are damaged.
    """
    provenance = dict(structure["provenance"])
    if "host" in structure:
        host = HostWork.from_json(structure["host"])
    else:
        host = host_of_provenance(provenance, source.scale, source.zero_point, source.bits)
    measured: dict[str, Measured | None] = {}
    for split in ("validation", "test"):
        if "measured" in structure:
            facts = structure["measured"][split]
        else:
            facts = provenance if f"{split}_accuracy" in provenance else None
        measured[split] = None if facts is None else Measured.from_facts(facts, split)
    report = _text(structure["bias_report"] if "bias_report" in structure else provenance.get("biases", ""))
    return {"provenance": provenance, "host": host, **measured, "bias_report": report}


def _describe(layer: IntegerLayer, prefix: str, arrays: dict[str, NDArray[Any]]) -> dict[str, Any]:
    """JSON fields of a layer; its arrays go to `arrays` in the smallest type that holds them."""
    fields: dict[str, Any] = {"type": "conv" if isinstance(layer, IntegerConv) else "pool"}
    for item in dataclasses.fields(layer):
        value = getattr(layer, item.name)
        if isinstance(value, np.ndarray):
            arrays[f"{prefix}/{item.name}"] = _smallest(value)
        elif item.name == "output":
            fields["output"] = dataclasses.asdict(value)
        elif item.name == "scheme":
            fields["scheme"] = [str(scheme) for scheme in value]
        else:
            fields[item.name] = value
    return fields


def _rebuild(fields: dict[str, Any], prefix: str, archive: Archive) -> IntegerLayer:
    kind = _TYPES[fields["type"]]
    values = {key: value for key, value in fields.items() if key != "type"}
    for item in dataclasses.fields(kind):
        member = f"{prefix}/{item.name}"
        if member in archive.arrays:
            values[item.name] = archive.array(member)
    values["output"] = typed(IntegerTensor, values["output"])
    return typed(kind, values)


T = TypeVar("T", bound=IntegerTensor | IntegerConv | IntegerPool)


def typed(kind: type[T], values: dict[str, Any]) -> T:
    """An instance of a dataclass of the contract from JSON values, each checked against the field's annotation."""
    checked: dict[str, Any] = {}
    for item in dataclasses.fields(kind):
        value = values[item.name]
        checked[item.name] = _CONVERSIONS[str(item.type)](value)
    if values.keys() - checked.keys():
        raise ValueError(f"unknown keys {', '.join(sorted(values.keys() - checked.keys()))}")
    return kind(**checked)


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{excerpt(repr(value), 40)} is no text")
    return value


def _whole(value: Any) -> int:
    # 2**48 is far beyond every field of the contract, and far from what numpy cannot hold.
    if not isinstance(value, int) or isinstance(value, bool) or abs(value) > 2**48:
        raise TypeError(f"{excerpt(repr(value), 40)} is no integer of the format")
    return value


def _wholes(value: Any, count: int | None = None) -> tuple[int, ...]:
    if not isinstance(value, list) or count not in (None, len(value)):
        raise TypeError(f"{excerpt(repr(value), 40)} is no list of {count or ''} integers")
    return tuple(_whole(item) for item in value)


def _real(value: Any) -> float:
    if not isinstance(value, int | float) or isinstance(value, bool) or not abs(value) < 1e300:
        raise TypeError(f"{excerpt(repr(value), 40)} is no number")
    return float(value)


def _array(
    value: Any, kind: type[np.integer[Any] | np.floating[Any]], target: type[np.int64 | np.float64]
) -> NDArray[Any]:
    if not isinstance(value, np.ndarray) or not np.issubdtype(value.dtype, kind):
        raise TypeError("an array is missing or holds something other than numbers of its kind")
    if value.dtype.kind == "f" and not np.isfinite(value).all():
        raise ValueError("an array holds numbers that are NaN or infinite")
    if value.dtype == np.uint64 and value.size and value.max() > np.iinfo(np.int64).max:
        raise ValueError("an array holds integers beyond 64 bits")
    return value.astype(target)


_CONVERSIONS: dict[str, Callable[[Any], Any]] = {
    "str": _text,
    "str | None": lambda value: None if value is None else _text(value),
    "Literal['max', 'avg']": _text,
    "int": _whole,
    "float": _real,
    "tuple[int, int]": lambda value: _wholes(value, 2),
    "tuple[int, int, int, int]": lambda value: _wholes(value, 4),
    "tuple[int, ...]": _wholes,
    "tuple[Scheme, ...]": lambda value: tuple(Scheme(item) for item in value),
    "IntArray": lambda value: _array(value, np.integer, np.int64),
    "NDArray[np.float64]": lambda value: _array(value, np.floating, np.float64),
    "IntegerTensor": lambda value: value,
}
"""By the annotation of a field: its value from what JSON or .npy holds. A new kind of field must be added here."""


def _smallest(array: NDArray[Any]) -> NDArray[Any]:
    if not np.issubdtype(array.dtype, np.integer):
        return array
    for number_type in (np.int8, np.int16, np.int32):
        info = np.iinfo(number_type)
        if array.size == 0 or (array.min() >= info.min and array.max() <= info.max):
            return array.astype(number_type)
    return array


def _write(path: Path, text: str, arrays: dict[str, NDArray[Any]]) -> None:
    with atomic_write(path) as file, zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(_member(_STRUCTURE), text)
        for name, array in arrays.items():
            buffer = io.BytesIO()
            np.lib.format.write_array(buffer, np.ascontiguousarray(array), allow_pickle=False)
            archive.writestr(_member(f"{name}.npy"), buffer.getvalue())


def _member(name: str) -> zipfile.ZipInfo:
    # A fixed date: equal networks must give equal bytes.
    info = zipfile.ZipInfo(name, date_time=(1980, 1, 1, 0, 0, 0))
    info.compress_type = zipfile.ZIP_DEFLATED
    return info

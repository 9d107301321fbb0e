"""Integer networks for people who build hardware: plain arrays and a JSON that explains them.

`export_arrays` writes two files: NAME.npz with every array as the smallest integer type that holds it, and NAME.json
with the structure, the formulas and, of each array, its member, type and shape. Nothing but numpy and a JSON reader is
needed to use them; `import_arrays` reads them back to an equal network.
"""

from __future__ import annotations

import dataclasses
import hashlib
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from codesign._files import atomic_write, check_output, write_text
from codesign._reading import MOST_JSON, MOST_MODEL, Archive, archive, excerpt, parse_json, read_text
from codesign.errors import UserError
from codesign.integer.checks import check_network
from codesign.integer.network import (
    IntegerConv,
    IntegerLayer,
    IntegerNetwork,
    IntegerPool,
    IntegerTensor,
)
from codesign.integer.storage import READ, beside, read_beside, typed

FORMAT = "codesign integer arrays"
VERSION = 3
ARITHMETIC = {
    "codes": "real value = scale * (code - zero_point); codes are unsigned with `bits` bits; bits 32 is signed int32",
    "conv": [
        "acc[f] = bias[f] + sum over c, ky, kx of weight[f, c, ky, kx] * (input[c, y*sy+ky-top, x*sx+kx-left] - z_in)",
        "outside the map (padding) input - z_in is 0; with groups g, row f reads channels (f // (M/g)) * C/g onwards",
        "total[f] = acc[f] * mult[f] + (residual[f] - z_residual) * residual_mult[f]",
        "output[f] = clip(((total[f] + 2**(shift[f]-1)) >> shift[f]) + z_out, low, high); >> rounds down",
    ],
    "avg": "output = clip((((sum of input - z_in) * mult + 2**(shift-1)) >> shift) + z_out, low, high)",
    "max": "output = largest code of the window; padding never wins",
    "host": "steps in order, before the first layer and after the last; see codesign.integer.host",
    "rows": "a fixed row holds integers of `weight_bits` bits; a pot row 0 or +-2**(e-1), e below 2**(weight_bits-1)",
}


def export_arrays(network: IntegerNetwork, path: str | Path) -> tuple[Path, Path]:
    """Write `network` as `path`.npz and `path`.json (a suffix of `path` is replaced); the two paths.

    Raises:
        UserError: the network breaks its contract, a file cannot be written, or the JSON file is somebody else's.
    """
    check_network(network)
    npz, description = Path(path).with_suffix(".npz"), Path(path).with_suffix(".json")
    check_output(npz)
    _check_description(description)
    arrays: dict[str, NDArray[Any]] = {}
    layers = [_describe(layer, f"layer{index:03d}", arrays) for index, layer in enumerate(network.layers)]
    text: dict[str, Any] = {
        "format": FORMAT,
        "version": VERSION,
        "name": network.name,
        "arithmetic": ARITHMETIC,
        "input": dataclasses.asdict(network.input),
        "layers": layers,
        "arrays": {key: {"dtype": str(value.dtype), "shape": list(value.shape)} for key, value in arrays.items()},
        **beside(network),
    }
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)  # type: ignore[arg-type]
    text["npz_sha256"] = hashlib.sha256(buffer.getvalue()).hexdigest()  # a description of other arrays is found out
    with atomic_write(npz) as file:
        file.write(buffer.getvalue())
        file.flush()
        write_text(description, json.dumps(text, indent=1) + "\n")
    return npz, description


def _check_description(path: Path) -> None:
    """UserError if the file beside the arrays is not a description that codesign wrote."""
    check_output(path)
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
        ours = isinstance(value, dict) and value.get("format") == FORMAT
    except FileNotFoundError:
        return
    except (OSError, ValueError, RecursionError):
        ours = False
    if not ours:
        raise UserError(f"{path}: is there and not codesign's: it would hold the description, choose another name")


def import_arrays(path: str | Path) -> IntegerNetwork:
    """The network that `export_arrays` wrote; UserError with one line if a file is missing, damaged or another."""
    npz, description = Path(path).with_suffix(".npz"), Path(path).with_suffix(".json")
    try:
        data = parse_json(read_text(description, MOST_JSON, "integer arrays"))
        if data["format"] != FORMAT or data["version"] not in READ:
            raise UserError(f"{description}: not integer arrays that this codesign reads")
        with archive(npz, MOST_MODEL, "integer arrays that codesign exported") as arrays, npz.open("rb") as file:
            if data.get("npz_sha256") not in (None, hashlib.file_digest(file, "sha256").hexdigest()):
                raise UserError(f"{npz}: holds other arrays than {description} describes; export them again")
            source = typed(IntegerTensor, data["input"])
            network = IntegerNetwork(
                str(data["name"]),
                source,
                tuple(_rebuild(item, arrays) for item in data["layers"]),
                **read_beside(data, source),
            )
        check_network(network)
    except UserError:
        raise
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        text = excerpt(error)
        raise UserError(f"{description}: damaged, or not integer arrays that codesign exported ({text})") from None
    return network


def _describe(layer: IntegerLayer, prefix: str, arrays: dict[str, NDArray[Any]]) -> dict[str, Any]:
    fields: dict[str, Any] = {"type": "conv" if isinstance(layer, IntegerConv) else "pool"}
    for item in dataclasses.fields(layer):
        value = getattr(layer, item.name)
        if isinstance(value, np.ndarray):
            key = f"{prefix}_{item.name}"
            arrays[key] = _smallest(value)
            fields[item.name] = key
        elif isinstance(value, IntegerTensor):
            fields[item.name] = dataclasses.asdict(value)
        elif item.name == "scheme":
            fields[item.name] = [str(scheme) for scheme in value]
        else:
            fields[item.name] = value
    return fields


def _rebuild(fields: dict[str, Any], arrays: Archive) -> IntegerLayer:
    kind = {"conv": IntegerConv, "pool": IntegerPool}[fields["type"]]
    values = {key: value for key, value in fields.items() if key != "type"}
    for item in dataclasses.fields(kind):
        if str(item.type) in ("IntArray", "NDArray[np.float64]"):
            values[item.name] = arrays.array(values[item.name])
    values["output"] = typed(IntegerTensor, values["output"])
    return typed(kind, values)


def _smallest(array: NDArray[Any]) -> NDArray[Any]:
    if array.dtype.kind == "f":
        return array
    for kind in (np.int8, np.int16, np.int32):
        info = np.iinfo(kind)
        if array.min() >= info.min and array.max() <= info.max:
            return array.astype(kind)
    return array

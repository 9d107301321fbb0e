"""One door for every file that holds a network."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from codesign._extras import require
from codesign.errors import UserError
from codesign.integer.host import ArgMax, Reshape, Sigmoid, Softmax, Step
from codesign.integer.network import NARROW, IntegerNetwork, Multiplier
from codesign.integer.storage import load_network
from codesign.interchange.description import import_arrays
from codesign.interchange.exact_bias import BiasRule
from codesign.interchange.onnx_graph import QUANTIZERS, read_onnx
from codesign.interchange.onnx_integer import METADATA, import_integer_onnx
from codesign.interchange.onnx_quantized import import_quantized_onnx
from codesign.interchange.passes import KEEP
from codesign.interchange.tflite import import_tflite
from codesign.interchange.tflite_reader import read_tflite

if TYPE_CHECKING:
    from torch import Tensor

    from codesign.workload.network import Network

_ENDS: dict[str, Step] = {
    "softmax": Softmax(0),
    "log_softmax": Softmax(0, logarithm=True),
    "sigmoid": Sigmoid(),
    "argmax": ArgMax(0, keep=False),
}
"""What ends a program of torch.export, for the host."""
QUANTIZED_FILES = (".codesign", ".onnx", ".tflite", ".npz")
FLOAT_FILES = (".onnx", ".tflite", ".pt2")
OTHER_FILES = (".h5", ".keras", ".pb", ".pt", ".pth", ".safetensors")
"""What people try, and what is certainly not a file of `quantize`."""


def import_integer(
    path: str | Path,
    wide: bool = True,
    rule: BiasRule = KEEP,
    multiplier: Multiplier = NARROW,
    input_shape: tuple[int, ...] | None = None,
) -> IntegerNetwork:
    """The integer network in a file.

    Args:
        path: a .onnx (QDQ, QONNX, or what `export_integer_onnx` wrote), a .tflite, the .npz of `export_arrays` with
            its .json beside it, or with any other name what `quantize` wrote.
        wide: let the last layer write wide results (see `codesign.interchange.building.wide_result`).
        rule: for biases of ONNX files, as `import_quantized_onnx` takes it.
        multiplier: of the requantization, for files that do not say it themselves.
        input_shape: of one image, where an .onnx file leaves sizes open.

    Raises:
        UserError: another kind of file, a float model, or what the importers refuse.
    """
    suffix = Path(path).suffix.lower()
    if suffix in FLOAT_FILES and is_float(path, input_shape):
        raise UserError(f"{path}: a float model; quantize it: codesign quantize {path} --data DATASET -o FILE")
    if suffix == ".tflite":
        return import_tflite(path, wide, multiplier)
    if suffix == ".onnx":
        if METADATA in read_onnx(path, input_shape).metadata:
            return import_integer_onnx(path)
        return import_quantized_onnx(path, wide, rule, multiplier, input_shape)
    if suffix == ".npz":
        return import_arrays(path)
    if suffix in OTHER_FILES:
        raise UserError(f"{path}: files that are read end in {', '.join(dict.fromkeys(QUANTIZED_FILES + FLOAT_FILES))}")
    return load_network(path)


def is_foreign(path: str | Path, input_shape: tuple[int, ...] | None = None) -> bool:
    """Whether a file is a model of another tool, and not integers that codesign wrote; UserError if it is damaged."""
    suffix = Path(path).suffix.lower()
    return suffix == ".tflite" or (suffix == ".onnx" and METADATA not in read_onnx(path, input_shape).metadata)


def import_float(path: str | Path, input_shape: tuple[int, ...] | None = None) -> tuple[Network, dict[str, Tensor]]:
    """The network and the weights of a float model: .onnx, .tflite, or a .pt2 of `torch.export.save`.

    Raises:
        UserError: another kind of file, a quantized model, or what the importers refuse.
    """
    suffix = Path(path).suffix.lower()
    if suffix not in FLOAT_FILES:
        raise UserError(f"{path}: float models that are read end in {', '.join(FLOAT_FILES)}")
    if not is_float(path, input_shape):
        raise UserError(f"{path}: quantized already; codesign import {path} -o FILE gives its integers")
    if suffix == ".onnx":
        from codesign.interchange.onnx_float import import_float_onnx

        return import_float_onnx(path, input_shape)
    if suffix == ".tflite":
        from codesign.interchange.tflite_float import import_float_tflite

        return import_float_tflite(path)
    require("torch", "reading .pt2")
    from codesign.workload.exported import load_exported

    return load_exported(path)


def float_host(path: str | Path, input_shape: tuple[int, ...] | None = None) -> tuple[Step, ...]:
    """What the host computes of the result of a float model's network, such as a final Softmax; mostly nothing.

    Raises:
        UserError: as `import_float` does.
    """
    suffix = Path(path).suffix.lower()
    if suffix == ".tflite":
        from codesign.interchange.tflite_float import read_float_tflite

        return read_float_tflite(path)[2]
    if suffix == ".pt2":
        require("torch", "reading .pt2")
        from codesign.workload.exported import load_exported_end

        network, _, end = load_exported_end(path)
        return exported_steps(network, end)
    from codesign.interchange.onnx_float import read_float_onnx

    return read_float_onnx(path, input_shape)[2]


def float_layers(path: str | Path, input_shape: tuple[int, ...] | None = None) -> Network:
    """The network of a float model without its weights, for which torch is needed with .pt2 files alone.

    Raises:
        UserError: as `import_float` does.
    """
    suffix = Path(path).suffix.lower()
    if suffix == ".onnx":
        from codesign.interchange.onnx_float import read_float_arrays

        return read_float_arrays(path, input_shape)[0]
    if suffix == ".tflite":
        from codesign.interchange.tflite_float import read_tflite_arrays

        return read_tflite_arrays(path)[0]
    return import_float(path, input_shape)[0]


def exported_steps(network: Network, end: str | None) -> tuple[Step, ...]:
    """What the host computes of a network's result, where a program of torch.export ends in `end`."""
    return () if end is None else (Reshape(network.shapes[network.output.name]), _ENDS[end])


def is_float(path: str | Path, input_shape: tuple[int, ...] | None = None) -> bool:
    """Whether a file holds a model that nothing has quantized yet; UserError when it cannot be read."""
    suffix = Path(path).suffix.lower()
    if suffix == ".onnx":
        graph = read_onnx(path, input_shape)
        return METADATA not in graph.metadata and not graph.operators & QUANTIZERS
    if suffix == ".tflite":
        return read_tflite(path).is_float
    return suffix == ".pt2"

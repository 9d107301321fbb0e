"""One door for every file that holds a quantized network."""

from __future__ import annotations

from pathlib import Path

from codesign.errors import UserError
from codesign.interchange.onnx_graph import read_onnx
from codesign.interchange.onnx_integer import METADATA, import_integer_onnx
from codesign.interchange.onnx_quantized import import_quantized_onnx
from codesign.interchange.tflite import import_tflite
from codesign.quant.integer_network import IntegerNetwork

QUANTIZERS = frozenset({"QuantizeLinear", "DequantizeLinear", "Quant", "BipolarQuant"})


def import_integer(path: str | Path, wide: bool = True) -> IntegerNetwork:
    """The integer network in a .tflite or .onnx file (QDQ, QONNX, or what `export_integer_onnx` wrote).

    Args:
        path: of the file.
        wide: let the last layer write wide results (see `codesign.interchange.building.wide_result`).

    Raises:
        UserError: another kind of file, a float model, or what the importers refuse.
    """
    suffix = Path(path).suffix.lower()
    if suffix == ".tflite":
        return import_tflite(path, wide)
    if suffix != ".onnx":
        raise UserError(f"{path}: files that are read end in .onnx or .tflite")
    graph = read_onnx(path)
    if METADATA in graph.metadata:
        return import_integer_onnx(path)
    if not graph.operators & QUANTIZERS:
        raise UserError(f"{path}: a float model; read it with import_float_onnx and quantize it here")
    return import_quantized_onnx(path, wide)


def is_float_onnx(path: str | Path) -> bool:
    """Whether an .onnx file holds a model that is not quantized; UserError when it cannot be read."""
    graph = read_onnx(path)
    return METADATA not in graph.metadata and not graph.operators & QUANTIZERS

"""ONNX Runtime and qonnx as judges: quantizing and running files with them, counting where they differ from us."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from codesign.errors import UserError
from codesign.integer.arithmetic import execute, run_layer
from codesign.integer.network import NARROW, IntArray, IntegerNetwork, Multiplier
from codesign.interchange.building import result_codes
from codesign.interchange.litert import Difference
from codesign.interchange.onnx_float_export import export_float_onnx
from codesign.interchange.onnx_quantized import import_quantized_onnx
from codesign.workload.network import Network

if TYPE_CHECKING:
    from torch import Tensor

Array = NDArray[Any]


def quantize_with_onnxruntime(
    network: Network, state: Mapping[str, Tensor], batch: Array, path: Path, **options: Any
) -> None:
    """Write the QDQ INT8 model that ONNX Runtime's static quantizer makes of a float network.

    Args:
        network, state: batch norms are folded first, as ONNX Runtime's own preparation does.
        batch: (N, C, H, W) images to calibrate on.
        path: of the result.
        options: of `onnxruntime.quantization.quantize_static`, such as `per_channel=True`.
    """
    from codesign.workload.fold import fold_batchnorm

    try:
        from onnxruntime import quantization
    except ImportError:
        raise UserError("quantizing with ONNX Runtime needs the package onnxruntime") from None

    class Reader(quantization.CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self.rest = iter([{network.input.name: image[None]} for image in batch])

        def get_next(self) -> dict[str, Array] | None:
            return next(self.rest, None)

    folded, weights = fold_batchnorm(network, state)
    source = path.with_name(f"{path.stem}_float.onnx")
    export_float_onnx(folded, weights, source)
    quantization.quantize_static(
        str(source),
        str(path),
        Reader(),
        quant_format=quantization.QuantFormat.QDQ,
        weight_type=quantization.QuantType.QInt8,
        **options,
    )


def run_with_onnxruntime(
    path: Path, batch: Array, optimized: bool = True, outputs: list[str] | None = None
) -> list[Array]:
    """Outputs of a file (its own, or the tensors called `outputs`), image by image, stacked."""
    import onnx

    try:
        import onnxruntime
    except ImportError:
        raise UserError("running ONNX files needs the package onnxruntime") from None
    model = onnx.load(str(path))
    if outputs is not None:
        del model.graph.output[:]
        model.graph.output.extend([onnx.ValueInfoProto(name=name) for name in outputs])
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    level = onnxruntime.GraphOptimizationLevel
    options.graph_optimization_level = level.ORT_ENABLE_ALL if optimized else level.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(model.SerializeToString(), options)
    name = session.get_inputs()[0].name
    results = [session.run(outputs, {name: image[None]}) for image in batch]
    return [np.concatenate(parts) for parts in zip(*results, strict=True)]


def run_with_qonnx(path: Path, batch: Array) -> Array:
    """Output of a file by qonnx's executor, image by image, stacked."""
    import onnx

    try:
        from qonnx.core import onnx_exec
        from qonnx.core.modelwrapper import ModelWrapper
        from qonnx.transformation.infer_shapes import InferShapes
    except ImportError:
        raise UserError("running QONNX files needs the package qonnx") from None
    model = ModelWrapper(str(path)).transform(InferShapes())
    name = model.graph.input[0].name
    # qonnx wraps each node in a model of onnx's newest IR version, which onnxruntime may not read yet.
    library: Any = onnx
    newest, library.IR_VERSION = library.IR_VERSION, 10
    try:
        results = [next(iter(onnx_exec.execute_onnx(model, {name: image[None]}).values())) for image in batch]
    finally:
        library.IR_VERSION = newest
    return np.concatenate(results)


def input_codes(network: IntegerNetwork, batch: Array) -> IntArray:
    """Codes of real images, as a runtime's float32 quantizer makes them."""
    source = network.input
    codes = np.rint(batch / np.float32(source.scale)) + source.zero_point
    result: IntArray = np.clip(codes, 0, 2**source.bits - 1).astype(np.int64)
    return result


def run_integers(network: IntegerNetwork, codes: IntArray) -> IntArray:
    """Codes of the result, wide ones brought back to what the file quantized them to."""
    *_, (_, results) = execute(network, codes)
    return result_codes(network, results)


def as_codes(network: IntegerNetwork, real: Array) -> IntArray:
    """The codes that real results of the network's file stand for."""
    scale, zero_point = network.output.scale, network.output.zero_point
    if (result := network.host.result_codes) is not None:
        scale, zero_point = scale * 2**result.fraction, result.zero_point
    codes: IntArray = np.rint(real / scale).astype(np.int64) + zero_point
    return codes


@dataclass(frozen=True)
class QdqComparison:
    """`layers`: each layer on ONNX Runtime's own inputs, by name. `result`: the whole network, unoptimized."""

    layers: dict[str, Difference]
    result: Difference


def compare_with_onnxruntime(path: Path, batch: Array, multiplier: Multiplier = NARROW) -> QdqComparison:
    """Run `batch`, real images, through an imported QDQ model and through ONNX Runtime without its optimizer.

    (Its optimizer fuses nodes into integer kernels of their own, which round otherwise.)
    """
    network = import_quantized_onnx(path, wide=False, multiplier=multiplier)
    tensors = stored_tensors(path)
    names = [layer.output.name for layer in network.layers if layer.output.name in tensors]
    found = run_with_onnxruntime(path, batch, optimized=False, outputs=[tensors[name] for name in names])
    found = [value.astype(np.int64) + (128 if value.dtype == np.int8 else 0) for value in found]
    values = dict(zip(names, found, strict=True))
    codes = input_codes(network, batch)
    values[network.input.name] = codes
    layers = {}
    for layer in network.layers:
        ours = run_layer(network, layer, values)
        # A pooled map has no codes of its own in the file.
        theirs = values.setdefault(layer.output.name, ours).reshape(ours.shape)
        values[layer.output.name] = theirs
        layers[layer.name] = Difference.between(ours, theirs)
    result = Difference.between(run_integers(network, codes), values[network.output.name])
    return QdqComparison(layers, result)


def stored_tensors(path: Path) -> dict[str, str]:
    """Node name -> the tensor of codes that its result is quantized to."""
    import onnx

    graph = onnx.load(str(path)).graph
    by_output = {node.output[0]: node for node in graph.node}
    result = {}
    for node in graph.node:
        if node.op_type == "QuantizeLinear" and node.input[0] in by_output:
            source = by_output[node.input[0]]
            while source.op_type in ("Relu", "Clip", "Flatten", "Reshape") and source.input[0] in by_output:
                source = by_output[source.input[0]]
            if source.op_type not in ("DequantizeLinear", "Flatten", "Reshape"):
                result[source.name] = node.output[0]
    return result

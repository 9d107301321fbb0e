"""Float networks as ONNX that any runtime executes."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from codesign._files import write_bytes
from codesign.workload.layers import AvgPool, BatchNorm, Conv, Linear, MaxPool, Relu
from codesign.workload.network import Network

if TYPE_CHECKING:
    from torch import Tensor


def export_float_onnx(network: Network, state: Mapping[str, Tensor], path: str | Path, opset: int = 17) -> None:
    """Write a network with its float weights as ONNX that any runtime executes.

    Args:
        network, state: as everywhere; state entries of other layers are ignored.
        path: of the file.
        opset: of the standard operators.
    """
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    nodes, constants = [], []

    def constant(key: str) -> str:
        constants.append(numpy_helper.from_array(state[key].detach().float().numpy(), key))
        return key

    for layer in network.layers[1:]:
        inputs = list(layer.inputs)
        options: dict[str, Any] = {}
        kind = type(layer).__name__
        if isinstance(layer, Conv | MaxPool | AvgPool) and not (isinstance(layer, AvgPool) and layer.kernel is None):
            top, bottom, left, right = layer.padding
            options = {"kernel_shape": layer.kernel, "strides": layer.stride, "pads": (top, left, bottom, right)}
        if isinstance(layer, Conv | Linear):
            inputs.append(constant(f"{layer.name}.weight"))
            inputs += [constant(f"{layer.name}.bias")] if layer.bias else []
            options |= {"transB": 1} if isinstance(layer, Linear) else {"group": layer.groups}
        elif isinstance(layer, BatchNorm):
            inputs += [constant(f"{layer.name}.{key}") for key in ("weight", "bias", "running_mean", "running_var")]
            options = {"epsilon": layer.eps}
        elif isinstance(layer, Relu) and layer.limit is not None:
            for key, bound in (("min", 0.0), ("max", layer.limit)):
                inputs.append(f"{layer.name}.{key}")
                constants.append(numpy_helper.from_array(np.asarray(bound, dtype=np.float32), inputs[-1]))
            kind = "Clip"
        operator = {"Linear": "Gemm", "BatchNorm": "BatchNormalization"}.get(kind, kind)
        if isinstance(layer, AvgPool):
            operator = "GlobalAveragePool" if layer.kernel is None else "AveragePool"
            options |= {} if layer.kernel is None else {"count_include_pad": 1}
        nodes.append(helper.make_node(operator, inputs, [layer.name], name=layer.name, **options))
    source, last = network.input, network.output
    graph = helper.make_graph(
        nodes,
        network.name,
        [helper.make_tensor_value_info(source.name, TensorProto.FLOAT, ["N", *network.shapes[source.name]])],
        [helper.make_tensor_value_info(last.name, TensorProto.FLOAT, ["N", *network.shapes[last.name]])],
        constants,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
    onnx.checker.check_model(model)
    write_bytes(path, model.SerializeToString())

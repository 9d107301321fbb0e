"""An ONNX file as plain data: nodes, constants, one input and one output, everything of a fixed size.

The file is checked here once, so that importers meet no surprise: cut files, opsets that do not exist, sizes that
are not fixed, weights that are not finite are `UserError`s of one line.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from codesign.errors import UserError

FIRST_OPSET = 7
"""Oldest opset read: since 7, elementwise operators broadcast as today's do."""
QONNX_DOMAINS = ("qonnx.custom_op.general", "onnx.brevitas", "finn.custom_op.general")
MICROSOFT_DOMAINS = ("com.microsoft", "ai.onnx.ml", "ai.onnx.training", "com.ms.internal.nhwc", "com.microsoft.nchwc")
"""Domains that ONNX Runtime's tools declare whether or not a node uses them."""


@dataclass(frozen=True, eq=False)
class Node:
    """An operator. `inputs` keeps empty names of optional inputs that are absent."""

    index: int
    name: str
    op: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: Mapping[str, Any]

    def error(self, text: str) -> UserError:
        """An error about this node."""
        return UserError(f"node '{self.name}' ({self.op}): {text}")

    def integers(self, name: str, default: tuple[int, ...]) -> tuple[int, ...]:
        """An attribute that is a list of integers."""
        return tuple(int(value) for value in self.attributes.get(name, default))


@dataclass(frozen=True, eq=False)
class OnnxGraph:
    """Nodes in execution order; `shapes` of the tensors, the batch included."""

    name: str
    nodes: tuple[Node, ...]
    constants: Mapping[str, NDArray[Any]]
    input: str
    output: str
    input_shape: tuple[int, ...]
    metadata: Mapping[str, str]

    @cached_property
    def operators(self) -> frozenset[str]:
        """Names of all operators that occur."""
        return frozenset(node.op for node in self.nodes)

    @property
    def map_shape(self) -> tuple[int, int, int]:
        """(channels, height, width) of the input; a vector of features is a map of one pixel."""
        shape = self.input_shape[1:]
        return (shape[0], shape[1], shape[2]) if len(shape) == 3 else (shape[0], 1, 1)


def read_onnx(path: str | Path) -> OnnxGraph:
    """The graph in `path`; UserError with one line that names the file and what is wrong with it."""
    with naming(path):
        return _read(Path(path))


@contextmanager
def naming(path: str | Path) -> Iterator[None]:
    """Errors of what happens inside become a `UserError` of one line that starts with `path`.

    What a damaged file makes of attributes and constants (a list without members, a text for a number) ends in
    Python's own errors; a sound file causes none of them.
    """
    try:
        yield
    except UserError as error:
        raise UserError(f"{path}: {_one_line(error)}") from None
    except (TypeError, ValueError, LookupError, ArithmeticError, AttributeError) as error:
        raise UserError(f"{path}: attributes or constants are damaged ({_one_line(error)})") from None


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())


def _read(path: Path) -> OnnxGraph:
    try:
        import onnx
        from google.protobuf.message import DecodeError
    except ImportError:
        raise UserError("reading ONNX needs the package onnx: pip install onnx") from None
    try:
        model = onnx.load(str(path))
    except OSError as error:
        raise UserError(error.strerror or str(error)) from None
    except (DecodeError, ValueError, onnx.checker.ValidationError) as error:
        raise UserError(f"not an ONNX model, or cut short ({error})") from None
    graph = model.graph
    if not graph.node or not graph.output or not model.opset_import:
        raise UserError("not an ONNX model, or cut short (it has no nodes, no output or no opset)")
    _check_opsets(model)
    constants = _constants(graph)
    inputs = [item for item in graph.input if item.name not in constants]
    if len(inputs) != 1 or len(graph.output) != 1:
        raise UserError(f"has {len(inputs)} inputs and {len(graph.output)} outputs; 1 and 1 are supported")
    shape = _shape(inputs[0])
    nodes = []
    known = {inputs[0].name, "", *constants}
    for index, proto in enumerate(graph.node):
        node = Node(
            index,
            proto.name or (proto.output[0] if proto.output else f"{proto.op_type}_{index}"),
            proto.op_type,
            tuple(proto.input),
            tuple(proto.output),
            {item.name: onnx.helper.get_attribute_value(item) for item in proto.attribute},
        )
        for name in node.inputs:
            if name not in known:
                raise node.error(f"reads '{name}', which no earlier node produces")
        known.update(node.outputs)
        if node.op == "Constant":
            constants[node.outputs[0]] = _constant_node(node)
        else:
            nodes.append(node)
    if graph.output[0].name not in known:
        raise UserError(f"no node produces the output '{graph.output[0].name}'; the file is cut or damaged")
    for name, value in constants.items():
        if value.dtype.kind == "f" and not np.isfinite(value).all():
            reader = next((node.name for node in nodes if name in node.inputs), "no node")
            count = int((~np.isfinite(value)).sum())
            raise UserError(f"node '{reader}': {count} of the {value.size} numbers of '{name}' are NaN or infinite")
    return OnnxGraph(
        graph.name or path.stem,
        tuple(nodes),
        constants,
        inputs[0].name,
        graph.output[0].name,
        shape,
        {item.key: item.value for item in model.metadata_props},
    )


def _check_opsets(model: Any) -> None:
    import onnx

    newest = onnx.defs.onnx_opset_version()
    declared = {item.domain: item.version for item in model.opset_import}
    version = declared.get("", declared.get("ai.onnx"))
    if version is None or not FIRST_OPSET <= version <= newest:
        raise UserError(f"opset {version} is unknown; {FIRST_OPSET} to {newest} are read")
    for node in model.graph.node:
        if node.domain not in ("", "ai.onnx", *QONNX_DOMAINS, *MICROSOFT_DOMAINS):
            raise UserError(
                f"node '{node.name or node.output[0]}' ({node.op_type}): its opset '{node.domain}' is unknown; "
                f"standard ONNX and {QONNX_DOMAINS[0]} are read"
            )


def _constants(graph: Any) -> dict[str, NDArray[Any]]:
    from onnx import numpy_helper

    constants = {}
    for item in graph.initializer:
        try:
            constants[item.name] = _plain(numpy_helper.to_array(item))
        except (ValueError, TypeError, KeyError) as error:
            raise UserError(f"initializer '{item.name}' is damaged ({error})") from None
    return constants


def _plain(array: NDArray[Any]) -> NDArray[Any]:
    """4-bit and other small types as the numpy type that holds them."""
    if array.dtype.kind in "fiub" and array.dtype.isbuiltin == 1:
        return array
    return array.astype(
        np.int8 if array.dtype.name in ("int4", "int2") else np.uint8 if "uint" in array.dtype.name else np.float32
    )


def _constant_node(node: Node) -> NDArray[Any]:
    from onnx import numpy_helper

    for key in ("value_float", "value_floats", "value_int", "value_ints"):
        if key in node.attributes:
            return np.asarray(node.attributes[key], dtype=np.float32 if "float" in key else np.int64)
    if "value" not in node.attributes:
        raise node.error("holds neither a tensor nor numbers")
    return _plain(numpy_helper.to_array(node.attributes["value"]))


def _shape(item: Any) -> tuple[int, ...]:
    """The input's shape, (1, ...); only the batch may be open."""
    dims = item.type.tensor_type.shape.dim
    if len(dims) not in (2, 4):
        raise UserError(f"input '{item.name}' has {len(dims)} dimensions; (N, C, H, W) and (N, features) are read")
    for dim in dims[1:]:
        if dim.dim_value < 1:
            text = ", ".join(d.dim_param or str(d.dim_value or "?") for d in dims)
            raise UserError(f"input '{item.name}' has the dynamic shape ({text}); all but the batch must be numbers")
    return (1, *(int(dim.dim_value) for dim in dims[1:]))


def onnx_padding(
    node: Node, size: tuple[int, int], kernel: tuple[int, int], stride: tuple[int, int]
) -> tuple[int, int, int, int]:
    """(top, bottom, left, right) of a convolution or pooling on a map of `size`."""
    mode = node.attributes.get("auto_pad", b"NOTSET").decode()
    if mode in ("SAME_UPPER", "SAME_LOWER"):
        sides = []
        for length, window, step in zip(size, kernel, stride, strict=True):
            total = max((-(-length // step) - 1) * step + window - length, 0)
            first = total // 2 if mode == "SAME_UPPER" else total - total // 2
            sides += [first, total - first]
        return (sides[0], sides[1], sides[2], sides[3])
    top, left, bottom, right = node.integers("pads", (0, 0, 0, 0)) if mode == "NOTSET" else (0, 0, 0, 0)
    return (top, bottom, left, right)


def check_window(node: Node) -> None:
    """UserError unless the node's window is one that an accelerator slides."""
    if any(value != 1 for value in node.integers("dilations", (1,))):
        raise node.error("dilation is not supported; what would replace it: a larger kernel with zeros")
    if node.attributes.get("ceil_mode", 0):
        raise node.error("ceil_mode is not supported; what would replace it: explicit padding")
    if len(node.integers("kernel_shape", (1, 1))) != 2:
        raise node.error("only 2-D windows are supported")


REPLACEMENTS = {
    "Sigmoid": "Relu, and the function on the host",
    "Tanh": "Relu, and the function on the host",
    "LeakyRelu": "Relu",
    "PRelu": "Relu",
    "Elu": "Relu",
    "HardSwish": "Relu or Clip(0, 6)",
    "Gelu": "Relu",
    "Erf": "Relu instead of GELU",
    "Mul": "BatchNormalization, or a 1x1 depthwise Conv",
    "Sub": "Add with negated weights",
    "Div": "scaled weights",
    "Concat": "a sum of convolutions (Add)",
    "Split": "two convolutions",
    "Resize": "upsampling on the host",
    "ConvTranspose": "upsampling on the host and Conv",
    "LayerNormalization": "BatchNormalization",
    "InstanceNormalization": "BatchNormalization",
    "Trunc": "Quant of fewer bits",
    "MultiThreshold": "Quant (before FINN's streamlining)",
    "QLinearConv": "QDQ format (quantize_static with quant_format=QuantFormat.QDQ)",
    "QLinearMatMul": "QDQ format (quantize_static with quant_format=QuantFormat.QDQ)",
    "QLinearAdd": "QDQ format (quantize_static with quant_format=QuantFormat.QDQ)",
    "DynamicQuantizeLinear": "static quantization (quantize_static)",
    "LSTM": "nothing: recurrent layers do not run here",
    "GRU": "nothing: recurrent layers do not run here",
    "Softmax": "Softmax as the last node, which stays on the host",
}


def unsupported(node: Node, supported: tuple[str, ...]) -> UserError:
    """The error for an operator that no accelerator here runs."""
    instead = REPLACEMENTS.get(node.op, f"one of {', '.join(supported)}")
    return node.error(f"is not supported; what would replace it: {instead}")

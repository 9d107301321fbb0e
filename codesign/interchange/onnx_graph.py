"""An ONNX file as plain data: nodes, constants, one input and one output, everything of a fixed size.

The file is checked here once, so that importers meet no surprise: cut files, opsets that do not exist, sizes that
are not fixed, weights that are not finite are `UserError`s of one line.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from codesign._extras import require
from codesign._reading import MOST_MODEL, excerpt, read_bytes
from codesign.errors import UserError, option
from codesign.interchange.onnx_external import load_external

MOST_PARTS = 50_000
"""Nodes, and initializers, of a graph; ResNet-152 as QDQ has about 3,000."""
FIRST_OPSET = 7
"""Oldest opset read: since 7, elementwise operators broadcast as today's do."""
LAST_OPSET = 25
"""Newest opset read. Of the operators that are read, 24 and 25 changed only the types and Cast."""
QONNX_DOMAINS = ("qonnx.custom_op.general", "onnx.brevitas", "finn.custom_op.general")
QUANTIZERS = frozenset({"QuantizeLinear", "DequantizeLinear", "Quant", "BipolarQuant"})
"""Operators of quantized graphs, which no float one has."""


@dataclass(frozen=True, eq=False)
class Node:
    """An operator.

    Attributes:
        index: position in the file.
        name: its own, or that of its first output where it has none.
        op, domain: which operator; the domain of standard ones is "".
        inputs: names of tensors; "" is an optional input that is absent. None at the end are absent.
        outputs: the same.
        attributes: values by name.
        attribute_types: ONNX's name of each one's type, such as "INTS".
    """

    index: int
    name: str
    op: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: Mapping[str, Any]
    domain: str = ""
    attribute_types: Mapping[str, str] = field(default_factory=dict)

    def error(self, text: str) -> UserError:
        """An error about this node."""
        return UserError(f"node '{self.name}' ({self.op}): {text}")

    def has(self, position: int) -> bool:
        """Whether an input is there."""
        return len(self.inputs) > position and self.inputs[position] != ""

    def integers(self, name: str, default: tuple[int, ...]) -> tuple[int, ...]:
        """An attribute that is a list of integers."""
        return tuple(int(value) for value in self.attributes.get(name, default))


@dataclass(frozen=True, eq=False)
class OnnxGraph:
    """Nodes in execution order.

    Attributes:
        constants: arrays of initializers and Constant nodes; 4-bit integers as int8 and uint8, small floats as float32.
        types: ONNX's element type of a tensor in small letters, such as "float", "int8", "uint4"; of `constants` and
            of the input, and once `codesign.interchange.onnx_prepare.prepare` has checked the graph, of every tensor.
        input_shape: (1, ...), of one image.
        batch: images of a run that the file says; 1 where it leaves them open.
        opset: of the standard operators.
        shapes: of every tensor, (batch, ...), once `prepare` has checked the graph.
    """

    name: str
    nodes: tuple[Node, ...]
    constants: Mapping[str, NDArray[Any]]
    input: str
    output: str
    input_shape: tuple[int, ...]
    metadata: Mapping[str, str]
    opset: int
    types: Mapping[str, str]
    batch: int = 1
    shapes: Mapping[str, tuple[int, ...]] = field(default_factory=dict)

    @cached_property
    def readers(self) -> Mapping[str, int]:
        """How often each tensor is read, by nodes and as the output."""
        return Counter([name for node in self.nodes for name in node.inputs] + [self.output])

    @cached_property
    def operators(self) -> frozenset[str]:
        """Names of all operators that occur."""
        return frozenset(node.op for node in self.nodes)

    @property
    def map_shape(self) -> tuple[int, int, int]:
        """(channels, height, width) of the input; a vector of features is a map of one pixel."""
        shape = self.input_shape[1:]
        return (shape[0], shape[1], shape[2]) if len(shape) == 3 else (shape[0], 1, 1)


def read_onnx(path: str | Path, input_shape: tuple[int, ...] | None = None) -> OnnxGraph:
    """The graph in `path`, its input of `input_shape` (without the batch) where the file leaves sizes open.

    Raises:
        UserError: with one line that names the file and what is wrong with it.
    """
    with naming(path):
        return _read(Path(path), input_shape)


@contextmanager
def naming(path: str | Path) -> Iterator[None]:
    """Errors of what happens inside become a `UserError` of one line that starts with `path`.

    What a damaged file makes of attributes and constants (a list without members, a text for a number) ends in
    Python's own errors; a sound file causes none of them.
    """
    try:
        yield
    except UserError as error:
        text = _one_line(error)
        raise UserError(text if text.startswith(f"{excerpt(path)}: ") else f"{path}: {text}") from None
    except (TypeError, ValueError, LookupError, ArithmeticError, AttributeError) as error:
        raise UserError(f"{path}: attributes or constants are damaged ({_one_line(error)})") from None


def _one_line(error: Exception) -> str:
    return excerpt(error, 1000)


def _read(path: Path, input_shape: tuple[int, ...] | None) -> OnnxGraph:
    onnx = require("onnx", "reading ONNX")
    from google.protobuf.message import DecodeError

    data = read_bytes(path, MOST_MODEL)
    try:
        model = onnx.load_model_from_string(data)
    except (DecodeError, ValueError) as error:
        raise UserError(f"not an ONNX model, or cut short ({excerpt(error)})") from None
    del data
    graph = model.graph
    for what, count in (("nodes", len(graph.node)), ("initializers", len(graph.initializer))):
        if count > MOST_PARTS:
            raise UserError(f"{count:,} {what}, must be at most {MOST_PARTS:,}")
    load_external(model, path.parent)
    if not graph.node or not graph.output or not model.opset_import:
        raise UserError("not an ONNX model, or cut short (it has no nodes, no output or no opset)")
    opset = _opset(model)
    if model.functions:
        raise UserError(f"holds functions of its own ('{model.functions[0].name}'); inline them (onnx.inliner)")
    if graph.sparse_initializer:
        raise UserError("holds sparse initializers; dense ones are read")
    constants, types = _constants(graph)
    inputs = [item for item in graph.input if item.name not in constants]
    if len(inputs) != 1 or len(graph.output) != 1:
        raise UserError(f"has {len(inputs)} inputs and {len(graph.output)} outputs; 1 and 1 are supported")
    shape = _shape(inputs[0], input_shape)
    types[inputs[0].name] = type_name(inputs[0].type.tensor_type.elem_type)
    nodes = []
    known = {inputs[0].name, "", *constants}
    for index, proto in enumerate(graph.node):
        node = _node(index, proto)
        for name in node.inputs:
            if name not in known:
                raise node.error(f"reads '{name}', which no earlier node produces")
        for name in node.outputs:
            if name in known and name != "":
                raise node.error(f"makes '{name}', which the file has already")
        known.update(node.outputs)
        if node.op == "Constant" and node.domain == "":
            constants[node.outputs[0]], types[node.outputs[0]] = _constant_node(node)
        else:
            nodes.append(node)
    if graph.output[0].name not in known:
        raise UserError(f"no node produces the output '{graph.output[0].name}'; the file is cut or damaged")
    return OnnxGraph(
        graph.name or path.stem,
        tuple(nodes),
        constants,
        inputs[0].name,
        graph.output[0].name,
        (1, *shape[1:]),
        {item.key: item.value for item in model.metadata_props},
        opset,
        types,
        shape[0],
    )


def _opset(model: Any) -> int:
    """The version of the standard operators."""
    import onnx

    newest = min(onnx.defs.onnx_opset_version(), LAST_OPSET)
    declared = {item.domain if item.domain != "ai.onnx" else "": item.version for item in model.opset_import}
    version = declared.get("")
    if version is None or not FIRST_OPSET <= version <= newest:
        raise UserError(f"opset {version} is unknown; {FIRST_OPSET} to {newest} are read")
    return int(version)


def type_name(number: int) -> str:
    """ONNX's name of an element type, in small letters: "float", "int8", "uint4"."""
    from onnx import TensorProto

    try:
        return str(TensorProto.DataType.Name(number)).lower()
    except ValueError:
        raise UserError(f"holds numbers of the unknown type {number}") from None


def _node(index: int, proto: Any) -> Node:
    import onnx

    name = proto.name or (proto.output[0] if proto.output else f"{proto.op_type}_{index}")
    inputs, outputs = (tuple(names) for names in (proto.input, proto.output))
    node = Node(
        index,
        name,
        proto.op_type,
        inputs[: max((i + 1 for i, item in enumerate(inputs) if item), default=0)],
        outputs[: max((i + 1 for i, item in enumerate(outputs) if item), default=0)],
        {item.name: onnx.helper.get_attribute_value(item) for item in proto.attribute if not item.ref_attr_name},
        "" if proto.domain == "ai.onnx" else proto.domain,
        {item.name: onnx.AttributeProto.AttributeType.Name(item.type) for item in proto.attribute},
    )
    if not node.outputs or node.outputs[0] == "":
        raise node.error("has no output")
    if len(node.attributes) != len(proto.attribute):
        raise node.error("has an attribute twice, or one that refers to a function's")
    return node


def _constants(graph: Any) -> tuple[dict[str, NDArray[Any]], dict[str, str]]:
    """Arrays and element types of the initializers."""
    from onnx import numpy_helper

    constants: dict[str, NDArray[Any]] = {}
    for item in graph.initializer:
        if item.name in constants:
            raise UserError(f"has the initializer '{item.name}' twice")
        try:
            constants[item.name] = _plain(numpy_helper.to_array(item))
        except (ValueError, TypeError, KeyError) as error:
            raise UserError(f"initializer '{item.name}' is damaged ({error})") from None
    return constants, {item.name: type_name(item.data_type) for item in graph.initializer}


def _plain(array: NDArray[Any]) -> NDArray[Any]:
    """4-bit and other small types as the numpy type that holds them."""
    if array.dtype.kind in "fiub" and array.dtype.isbuiltin == 1:
        return array
    return array.astype(
        np.int8 if array.dtype.name in ("int4", "int2") else np.uint8 if "uint" in array.dtype.name else np.float32
    )


def _constant_node(node: Node) -> tuple[NDArray[Any], str]:
    from onnx import numpy_helper

    if len(node.attributes) != 1 or node.inputs:
        raise node.error(f"has the attributes {', '.join(node.attributes) or 'none'}; exactly one is allowed")
    key, value = next(iter(node.attributes.items()))
    if key in ("value_float", "value_floats"):
        return np.asarray(value, dtype=np.float32), "float"
    if key in ("value_int", "value_ints"):
        return np.asarray(value, dtype=np.int64), "int64"
    if key != "value" or node.attribute_types[key] != "TENSOR":
        raise node.error(f"holds '{key}'; a tensor or numbers are read")
    return _plain(numpy_helper.to_array(value)), type_name(value.data_type)


def _shape(item: Any, given: tuple[int, ...] | None) -> tuple[int, ...]:
    """The input's shape; only the batch may be open, which is 1 then, or sizes that are `given`."""
    if item.type.WhichOneof("value") != "tensor_type":
        raise UserError(f"input '{item.name}' is no tensor")
    dims = item.type.tensor_type.shape.dim
    if len(dims) not in (2, 4):
        raise UserError(f"input '{item.name}' has {len(dims)} dimensions; (N, C, H, W) and (N, features) are read")
    text = ", ".join(d.dim_param or str(d.dim_value or "?") for d in dims)
    is_open = any(dim.dim_value < 1 for dim in dims[1:])
    if given is None and is_open:
        raise UserError(
            f"input '{item.name}' has the dynamic shape ({text}); all but the batch must be numbers: "
            f"give {option('input_shape')}"
        )
    sizes = tuple(int(dim.dim_value) for dim in dims[1:])
    if given is not None:
        if not is_open:
            raise UserError(
                f"{option('input_shape')} given, but input '{item.name}' has the fixed shape ({text}): leave it out"
            )
        if len(given) != len(sizes) or any(a not in (0, b) for a, b in zip(sizes, given, strict=True)):
            raise UserError(
                f"{option('input_shape')}: {'x'.join(map(str, given))} given, but input '{item.name}' is ({text})"
            )
        sizes = given
    return (max(int(dims[0].dim_value), 1), *sizes)


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

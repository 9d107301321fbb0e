"""Integer networks as ONNX graphs of integer-valued arithmetic: every runtime computes the very same integers.

The graph reads and writes codes, not real values. Products are float32 convolutions of integers whose sums stay
below 2**24 (a map of many bits is cut into digits for that), everything after them is float64 below 2**53: both are
exact, whatever the order of additions. So ONNX Runtime, and qonnx, which runs standard nodes through it, give what
`codesign.integer.arithmetic` gives, bit for bit.

With `dialect="qonnx"` weights and maps pass through QONNX Quant nodes of scale 1, which tell tools of that family
the bits of every tensor.

`import_integer_onnx` reads such a file back to an equal network: arrays from the graph's initializers, which are the
ones that a runtime uses, and what no runtime needs (formats, scales) from the file's metadata.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from codesign._files import write_bytes
from codesign._reading import MOST_MODEL, excerpt, parse_json, read_bytes
from codesign.errors import UserError
from codesign.integer.checks import check_network
from codesign.integer.network import (
    IntegerConv,
    IntegerLayer,
    IntegerNetwork,
    IntegerPool,
    IntegerTensor,
)
from codesign.integer.storage import beside, read_beside, typed
from codesign.interchange.onnx_graph import OnnxGraph, read_onnx

Dialect = Literal["onnx", "qonnx"]
METADATA = "codesign.integer_network"
QONNX_DOMAIN = "qonnx.custom_op.general"
OPSET = 17
FLOAT32_EXACT, FLOAT64_EXACT = 2**24, 2**53


def export_integer_onnx(network: IntegerNetwork, path: str | Path, dialect: Dialect = "onnx", batch: int = 1) -> None:
    """Write `network` as ONNX that computes its integers.

    The input is a float32 tensor of codes, the output the last layer's codes (float32) or wide results (int32).

    Args:
        network: any network.
        path: of the file.
        dialect: plain ONNX, or with Quant nodes.
        batch: images of one run; qonnx needs a fixed number.

    Raises:
        UserError: a layer's sums are too large for exact floats.
    """
    import onnx
    from onnx import TensorProto, helper

    check_network(network)
    writer = _Writer(network, dialect)
    writer.write()
    output = network.output
    kind = TensorProto.INT32 if output.wide else TensorProto.FLOAT
    graph = helper.make_graph(
        writer.nodes,
        network.name,
        [helper.make_tensor_value_info(network.input.name, TensorProto.FLOAT, [batch, *network.input.shape])],
        [helper.make_tensor_value_info(output.name, kind, [batch, *output.shape])],
        writer.constants,
    )
    opsets = [helper.make_opsetid("", OPSET)]
    if dialect == "qonnx":
        opsets.append(helper.make_opsetid(QONNX_DOMAIN, 1))
    model = helper.make_model(graph, opset_imports=opsets, ir_version=8, producer_name="codesign")
    helper.set_model_props(model, {METADATA: json.dumps(_structure(network))})
    model = onnx.shape_inference.infer_shapes(model)
    write_bytes(path, model.SerializeToString())


def import_integer_onnx(path: str | Path) -> IntegerNetwork:
    """The network that `export_integer_onnx` wrote; UserError with one line for anything else."""
    graph = read_onnx(path)
    if METADATA not in graph.metadata:
        raise UserError(f"{path}: not an integer network that codesign exported")
    try:
        data = parse_json(graph.metadata[METADATA])
        source = typed(IntegerTensor, data["input"])
        network = IntegerNetwork(
            str(data["name"]),
            source,
            _layers(data["layers"], source, graph),
            **read_beside(data, source),
        )
        check_network(network)
        _check_graph(network, Path(path))
    except UserError as error:
        raise UserError(f"{path}: {error}") from None
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        text = excerpt(error)
        raise UserError(f"{path}: damaged, or not an integer network that codesign exported ({text})") from None
    return network


def _check_graph(network: IntegerNetwork, path: Path) -> None:
    """UserError unless the graph, which a runtime executes, is the one that `export_integer_onnx` makes of `network`.

    Metadata and graph say what the network is twice; a tool that changes one of them leaves the other.
    """
    import onnx
    from onnx import numpy_helper

    graph = onnx.load_model_from_string(read_bytes(path, MOST_MODEL)).graph
    for dialect in get_args(Dialect):
        writer = _Writer(network, dialect)
        writer.write()
        if [_said(node) for node in writer.nodes] == [_said(node) for node in graph.node]:
            break
    else:
        raise UserError("its nodes are not those that codesign writes for the network in its metadata; export it again")
    expected = {item.name: numpy_helper.to_array(item) for item in writer.constants}
    found = {item.name: numpy_helper.to_array(item) for item in graph.initializer}
    for name in expected.keys() | found.keys():
        same = name in expected and name in found and expected[name].dtype == found[name].dtype
        if not same or not np.array_equal(expected[name], found[name]):
            raise UserError(f"'{excerpt(name, 80)}' is not what codesign writes for the network in its metadata")
    if [item.name for item in graph.output] != [network.output.name]:
        raise UserError("its output is not the network's last layer")


def _said(node: Any) -> tuple[Any, ...]:
    """What a node says to a runtime."""
    from onnx import helper

    attributes = {item.name: (item.type, helper.get_attribute_value(item)) for item in node.attribute}
    domain = "" if node.domain == "ai.onnx" else node.domain
    return node.op_type, domain, list(node.input), list(node.output), attributes


class _Writer:
    def __init__(self, network: IntegerNetwork, dialect: Dialect) -> None:
        self.network = network
        self.dialect = dialect
        self.nodes: list[Any] = []
        self.constants: list[Any] = []
        self.names: set[str] = set()
        self.stored: dict[str, str] = {}
        """The graph's name of each tensor of the network."""
        layers = network.layers
        self.prefix = prefixes([network.input.name, *(x.name for x in layers), *(x.output.name for x in layers)])

    def write(self) -> None:
        source = self.network.input
        self.stored[source.name] = source.name
        if self.dialect == "qonnx":
            self.stored[source.name] = self._quant(
                source.name, f"{self.prefix[source.name]}.codes", source.bits, signed=False
            )
        for layer in self.network.layers:
            if isinstance(layer, IntegerPool) and layer.kind == "max":
                result = self._add(
                    "MaxPool", [self.stored[layer.input]], f"{self.prefix[layer.name]}.max", **_window(layer)
                )
                self._store(layer, result)
            else:
                self._convolution(layer)

    def _convolution(self, layer: IntegerLayer) -> None:
        source = self.network.tensor(layer.input)
        name = self.prefix[layer.name]
        if isinstance(layer, IntegerConv):
            weight, groups = layer.weight, layer.groups
            mult, shift = layer.mult, layer.shift
        else:
            weight, groups = np.ones((source.channels, 1, *layer.kernel), dtype=np.int64), source.channels
            mult, shift = np.full(source.channels, layer.mult), np.full(source.channels, layer.shift)
        total = self._accumulator(layer, source, weight, groups)
        reach = np.abs(weight).reshape(len(weight), -1).sum(axis=1).astype(float) * _peak(source)
        if isinstance(layer, IntegerConv):
            total = self._add("Add", [total, self._rows(f"{name}.bias", layer.bias)], f"{name}.biased")
            reach = reach + np.abs(layer.bias)
        total = self._add("Mul", [total, self._rows(f"{name}.mult", mult)], f"{name}.product")
        reach = reach * mult + np.ldexp(1.0, shift)
        if isinstance(layer, IntegerConv) and layer.residual is not None:
            other = self.network.tensor(layer.residual)
            values = self._add("Cast", [self._centred(other, layer)], f"{name}.residual", to=11)
            scaled = self._add("Mul", [values, self._rows(f"{name}.residual_mult", layer.residual_mult)], f"{name}.r")
            total = self._add("Add", [total, scaled], f"{name}.total")
            reach = reach + layer.residual_mult * float(_peak(other))
        if reach.max() >= FLOAT64_EXACT:
            raise UserError(f"layer '{name}': sums reach {reach.max():.3g}, beyond exact float64 arithmetic")
        total = self._add("Add", [total, self._rows(f"{name}.half", np.ldexp(1.0, shift - 1))], f"{name}.rounded")
        total = self._add("Mul", [total, self._rows(f"{name}.step", np.ldexp(1.0, -shift))], f"{name}.steps")
        total = self._add("Floor", [total], f"{name}.floor")
        zero = self._number(f"{name}.zero_point", layer.output.zero_point, np.float64)
        total = self._add("Add", [total, zero], f"{name}.code")
        limits = [self._number(f"{name}.{key}", getattr(layer, key), np.float64) for key in ("low", "high")]
        total = self._add("Clip", [total, *limits], f"{name}.clipped")
        if layer.output.wide:
            self.stored[layer.output.name] = self._add("Cast", [total], layer.output.name, to=6)
            return
        self._store(layer, self._add("Cast", [total], f"{name}.float", to=1))

    def _accumulator(self, layer: IntegerLayer, source: IntegerTensor, weight: NDArray[np.int64], groups: int) -> str:
        """Exact sums in float64: one convolution per digit of the map, the digits small enough for float32."""
        name = self.prefix[layer.name]
        values = self._centred(source, layer)
        kernel = self._constant(f"{name}.weight", weight.astype(np.float32))
        if self.dialect == "qonnx" and isinstance(layer, IntegerConv):
            bits = int(np.abs(weight).max(initial=1)).bit_length() + 1
            kernel = self._quant(kernel, f"{name}.quantized_weight", max(bits, 2), signed=True)
        sums = max(int(np.abs(weight).reshape(len(weight), -1).sum(axis=1).max()), 1)
        options = _window(layer) | {"group": groups}
        if sums * _peak(source) < FLOAT32_EXACT:
            product = self._add("Conv", [values, kernel], f"{name}.conv", **options)
            return self._add("Cast", [product], f"{name}.acc", to=11)
        digit = (FLOAT32_EXACT // sums).bit_length() - 1
        if digit < 1:
            raise UserError(f"layer '{name}': weights sum to {sums}, beyond exact float32 arithmetic")
        result = ""
        for index in range(-(-(_peak(source).bit_length() + 1) // digit)):
            base = self._number(f"{name}.base{index}", 2.0**digit, np.float32)
            quotient = self._add("Div", [values, base], f"{name}.quotient{index}")
            rest = self._add("Floor", [quotient], f"{name}.rest{index}")
            shifted = self._add("Mul", [rest, base], f"{name}.shifted{index}")
            low = self._add("Sub", [values, shifted], f"{name}.digit{index}")
            product = self._add("Conv", [low, kernel], f"{name}.conv{index}", **options)
            wide = self._add("Cast", [product], f"{name}.wide{index}", to=11)
            weighted = self._number(f"{name}.weight{index}", 2.0 ** (digit * index), np.float64)
            wide = self._add("Mul", [wide, weighted], f"{name}.part{index}")
            result = self._add("Add", [result, wide], f"{name}.acc{index}") if result else wide
            values = rest
        # What is left of a negative number is -1, whose sums are as small as any digit's.
        product = self._add("Conv", [values, kernel], f"{name}.conv_sign", **options)
        wide = self._add("Cast", [product], f"{name}.wide_sign", to=11)
        weighted = self._number(f"{name}.weight_sign", 2.0 ** (digit * (index + 1)), np.float64)
        return self._add("Add", [result, self._add("Mul", [wide, weighted], f"{name}.sign")], f"{name}.acc")

    def _centred(self, tensor: IntegerTensor, layer: IntegerLayer) -> str:
        """The tensor free of its zero point."""
        name = self.stored[tensor.name]
        if tensor.zero_point == 0:
            return name
        result = f"{self.prefix[layer.name]}.from.{tensor.name}"
        if result in self.names:
            return result
        return self._add("Sub", [name, self._number(f"{result}.zero_point", tensor.zero_point, np.float32)], result)

    def _store(self, layer: IntegerLayer, name: str) -> None:
        output = layer.output
        if self.dialect == "qonnx":
            self.stored[output.name] = self._quant(name, output.name, output.bits, signed=False)
        else:
            self.stored[output.name] = self._add("Identity", [name], output.name)

    def _quant(self, name: str, output: str, bits: int, *, signed: bool) -> str:
        numbers = {"scale": 1.0, "zero": 0.0, "bits": float(bits)}
        base = self.prefix.get(output, output)
        inputs = [name, *(self._number(f"{base}.{key}", value, np.float32) for key, value in numbers.items())]
        options: dict[str, Any] = {"signed": int(signed), "narrow": int(signed), "rounding_mode": "ROUND"}
        return self._add("Quant", inputs, output, domain=QONNX_DOMAIN, **options)

    def _add(self, operator: str, inputs: list[str], output: str, **options: Any) -> str:
        from onnx import helper

        self.names.add(output)
        self.nodes.append(helper.make_node(operator, inputs, [output], name=f"{operator}.{output}", **options))
        return output

    def _constant(self, name: str, value: NDArray[Any]) -> str:
        from onnx import numpy_helper

        self.constants.append(numpy_helper.from_array(np.ascontiguousarray(value), name))
        return name

    def _rows(self, name: str, values: NDArray[Any]) -> str:
        return self._constant(name, values.astype(np.float64).reshape(1, -1, 1, 1))

    def _number(self, name: str, value: float, kind: type[np.floating[Any]]) -> str:
        return self._constant(name, np.asarray(value, dtype=kind))


def _peak(tensor: IntegerTensor) -> int:
    largest: int = 2**tensor.bits - 1
    return max(tensor.zero_point, largest - tensor.zero_point)


def _window(layer: IntegerLayer) -> dict[str, Any]:
    top, bottom, left, right = layer.padding
    kernel = layer.weight.shape[2:] if isinstance(layer, IntegerConv) else layer.kernel
    return {"kernel_shape": list(kernel), "strides": list(layer.stride), "pads": [top, left, bottom, right]}


_ARRAYS = ("weight", "bias", "mult", "shift", "residual_mult")


def _structure(network: IntegerNetwork) -> dict[str, Any]:
    layers = []
    for layer in network.layers:
        fields = {item.name: getattr(layer, item.name) for item in dataclasses.fields(layer)}
        fields["output"] = dataclasses.asdict(layer.output)
        if isinstance(layer, IntegerConv):
            fields = {key: value for key, value in fields.items() if key not in _ARRAYS}
            fields["scheme"] = [str(scheme) for scheme in layer.scheme]
            fields["row_scale"] = layer.row_scale.tolist()
        layers.append({"type": "conv" if isinstance(layer, IntegerConv) else "pool"} | fields)
    return {
        "name": network.name,
        "input": dataclasses.asdict(network.input),
        "layers": layers,
        **beside(network),
    }


def prefixes(names: Sequence[str]) -> dict[str, str]:
    """What the graph's names of each layer's or tensor's parts begin with: its own name, unless others begin so."""
    found = {}
    for name in names:
        prefix = name
        while any(other.startswith(f"{prefix}.") for other in names):
            prefix += "#"
        found[name] = prefix
    return found


def _layers(items: Sequence[dict[str, Any]], source: IntegerTensor, graph: OnnxGraph) -> tuple[IntegerLayer, ...]:
    names = [source.name, *(str(item["name"]) for item in items), *(str(item["output"]["name"]) for item in items)]
    prefix = prefixes(names)
    return tuple(_layer(item, prefix[str(item["name"])], graph) for item in items)


def _layer(data: dict[str, Any], name: str, graph: OnnxGraph) -> IntegerLayer:
    fields = dict(data)
    kind = fields.pop("type")
    fields["output"] = typed(IntegerTensor, fields["output"])
    if kind == "pool":
        return typed(IntegerPool, fields)
    if kind != "conv":
        raise ValueError(f"type {excerpt(kind, 40)}")
    rows = fields["output"].channels
    fields["row_scale"] = np.asarray(fields["row_scale"], dtype=np.float64)
    fields["weight"] = _integers(graph, f"{name}.weight")
    for key in ("bias", "mult"):
        fields[key] = _integers(graph, f"{name}.{key}").reshape(-1)
    fields["shift"] = -np.rint(np.log2(graph.constants[f"{name}.step"].reshape(-1))).astype(np.int64)
    fields["residual_mult"] = np.zeros(rows, dtype=np.int64)
    if fields["residual"] is not None:
        fields["residual_mult"] = _integers(graph, f"{name}.residual_mult").reshape(-1)
    return typed(IntegerConv, fields)


def _integers(graph: OnnxGraph, name: str) -> NDArray[np.int64]:
    value = graph.constants[name]
    if (value != np.rint(value)).any():
        raise ValueError(f"'{name}' holds numbers that are not whole")
    return value.astype(np.int64)

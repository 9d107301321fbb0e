"""Mutators of ONNX models: of nodes, attributes, types, shapes, names, readers and weights."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
from onnx import TensorProto, helper, numpy_helper

from tests.fuzz.mutate import HOSTILE_NAMES, octets

OPERATORS = (
    *(
        "Relu",
        "Identity",
        "Clip",
        "Sigmoid",
        "Add",
        "Mul",
        "Sub",
        "MaxPool",
        "AveragePool",
        "GlobalAveragePool",
        "Conv",
    ),
    *("Gemm", "MatMul", "Flatten", "Reshape", "Transpose", "Pad", "BatchNormalization", "QuantizeLinear", "Softmax"),
    *("DequantizeLinear", "Quant", "Cast", "Squeeze", "Unsqueeze", "Concat", "ReduceMean", "Dropout", "LeakyRelu"),
)
ATTRIBUTES: tuple[tuple[str, tuple[Any, ...]], ...] = (
    ("group", (0, 1, 2, 3, -1, 10**9)),
    ("strides", ([1, 1], [2, 2], [2, 1], [0, 0], [3], [1, 1, 1], [10**9, 1])),
    ("pads", ([0, 0, 0, 0], [1, 1, 1, 1], [0, 0, 1, 1], [2, 0, 0, 1], [-1, 0, 0, 0], [1, 1], [10**6] * 4)),
    ("dilations", ([1, 1], [2, 2], [1, 2], [0, 1])),
    ("kernel_shape", ([1, 1], [2, 2], [3, 3], [2, 3], [3], [0, 0], [10**6, 1])),
    ("auto_pad", ("NOTSET", "VALID", "SAME_UPPER", "SAME_LOWER", "SOME")),
    ("ceil_mode", (0, 1, 2)),
    ("count_include_pad", (0, 1)),
    ("axis", (-1, 0, 1, 2, 3, 100)),
    ("axes", ([2, 3], [-1, -2], [1], [0], [])),
    ("keepdims", (0, 1)),
    ("alpha", (0.5, 1.0, 2.0, float("nan"))),
    ("beta", (0.5, 1.0, 0.0)),
    ("transA", (0, 1)),
    ("transB", (0, 1)),
    ("epsilon", (1e-5, 0.5, -1.0)),
    ("momentum", (0.9, 0.1)),
    ("training_mode", (0, 1)),
    ("block_size", (0, 1, 16)),
    ("saturate", (0, 1)),
    ("mode", ("constant", "edge", "reflect")),
    ("rounding_mode", ("ROUND", "FLOOR", "CEIL")),
    ("narrow", (0, 1)),
    ("signed", (0, 1)),
    ("storage_order", (0, 1)),
    ("allowzero", (0, 1)),
    ("min", (0.0, -1.0)),
    ("max", (6.0, 0.5)),
    ("to", (1, 3, 10)),
    ("output_dtype", (0, 2, 3)),
    ("nobody", (1,)),
)
TYPES = (1, 2, 3, 4, 5, 6, 7, 9, 10, 11, 16, 17, 21, 22)


def as_onnx(rng: random.Random, data: bytes, other: bytes = b"") -> bytes:
    """A changed model; sometimes only its bytes."""
    if rng.random() < 0.1:
        return octets(rng, data, other)
    import onnx

    model = onnx.load_model_from_string(data)
    for _ in range(rng.choice((1, 1, 1, 1, 2))):
        try:
            rng.choice(CHANGES)(rng, model)
        except (ValueError, IndexError, TypeError, KeyError):
            continue  # what this model has nothing of
    return bytes(model.SerializeToString())


def _names(model: Any) -> list[str]:
    graph = model.graph
    return [item.name for item in (*graph.input, *graph.initializer)] + [name for n in graph.node for name in n.output]


def _some_attribute(rng: random.Random, model: Any) -> None:
    node = rng.choice(model.graph.node)
    name, values = rng.choice(ATTRIBUTES)
    kept = [item for item in node.attribute if item.name != name]
    del node.attribute[:]
    node.attribute.extend(kept)
    node.attribute.append(helper.make_attribute(name, rng.choice(values)))


def _change_attribute(rng: random.Random, model: Any) -> None:
    node = rng.choice([item for item in model.graph.node if item.attribute])
    attribute = rng.choice(node.attribute)
    kind = rng.randrange(5)
    if kind == 0:
        node.attribute.remove(attribute)
    elif kind == 1:
        attribute.name = rng.choice((attribute.name + "x", "axis", "pads"))
    elif kind == 2:
        node.attribute.append(attribute)
    elif attribute.type == 2:
        attribute.i = rng.choice((attribute.i + 1, -attribute.i, 0, 2, 10**9, 2**62))
    elif attribute.type == 1:
        attribute.f = rng.choice((attribute.f * 2, -1.0, float("nan"), 0.0))
    elif attribute.ints:
        attribute.ints[rng.randrange(len(attribute.ints))] = rng.choice((0, 1, 2, 3, -1, 10**6, 2**62))
    else:
        attribute.type = rng.choice((1, 2, 3, 7))


def _operator(rng: random.Random, model: Any) -> None:
    rng.choice(model.graph.node).op_type = rng.choice(OPERATORS)


def _domain(rng: random.Random, model: Any) -> None:
    domains = ("", "ai.onnx", "com.microsoft", "qonnx.custom_op.general", "own")
    rng.choice(model.graph.node).domain = rng.choice(domains)


def _reader(rng: random.Random, model: Any) -> None:
    node = rng.choice([item for item in model.graph.node if item.input])
    node.input[rng.randrange(len(node.input))] = rng.choice((*_names(model), "", "nowhere"))


def _inputs(rng: random.Random, model: Any) -> None:
    node = rng.choice([item for item in model.graph.node if item.input])
    kind = rng.randrange(3)
    if kind == 0:
        node.input.pop(rng.randrange(len(node.input)))
    elif kind == 1:
        node.input.append(rng.choice(_names(model)))
    else:
        node.input[0], node.input[-1] = node.input[-1], node.input[0]


def _new_reader(rng: random.Random, model: Any) -> None:
    """One more node that reads a tensor: of a sum, or with an output nobody reads, or the graph's."""
    graph = model.graph
    at = rng.randrange(len(graph.node))
    source = graph.node[at].output[0]
    kind = rng.randrange(3)
    if kind == 0:
        graph.node.append(helper.make_node(rng.choice(OPERATORS[:4]), [source], ["extra"]))
    elif kind == 1:
        graph.node.append(helper.make_node("Add", [source, graph.output[0].name], ["extra"]))
        graph.output[0].name = "extra"
    else:
        new = helper.make_node(rng.choice(OPERATORS[:4]), [source], ["extra"])
        for node in graph.node[at + 1 :]:
            for index, name in enumerate(node.input):
                if name == source and rng.random() < 0.7:
                    node.input[index] = "extra"
        graph.node.insert(at + 1, new)


def _order(rng: random.Random, model: Any) -> None:
    nodes = list(model.graph.node)
    kind = rng.randrange(3)
    at = rng.randrange(len(nodes))
    if kind == 0:
        nodes.append(nodes.pop(at))
    elif kind == 1:
        nodes.insert(at, nodes[at])
    else:
        nodes.pop(at)
    del model.graph.node[:]
    model.graph.node.extend(nodes)


def _name(rng: random.Random, model: Any) -> None:
    graph = model.graph
    new = rng.choice((*HOSTILE_NAMES, *_names(model)))
    new = new.replace("\0", "")
    kind = rng.randrange(4)
    if kind == 0:
        rng.choice(graph.node).name = new
    elif kind == 1:
        graph.name = new
    elif kind == 2:
        rng.choice(graph.node).output[0] = new
    else:
        old = rng.choice(_names(model))
        for node in graph.node:
            for names in (node.input, node.output):
                for index, name in enumerate(names):
                    if name == old:
                        names[index] = new
        for item in (*graph.input, *graph.initializer, *graph.output):
            if item.name == old:
                item.name = new


def _weights(rng: random.Random, model: Any) -> None:
    item = rng.choice(model.graph.initializer)
    kind = rng.randrange(8)
    if kind == 0:
        item.data_type = rng.choice(TYPES)
    elif kind == 1:
        item.raw_data = item.raw_data[: rng.randrange(len(item.raw_data) + 1)]
    elif kind == 2 and item.dims:
        item.dims[rng.randrange(len(item.dims))] = rng.choice((0, 1, 2, -1, 10**6, 2**40, 2**62))
    elif kind == 3:
        item.data_location = TensorProto.EXTERNAL
        item.external_data.add(key="location", value=rng.choice(("weights.bin", "/dev/zero", "../x", "", "model.onnx")))
        item.external_data.add(key="length", value=rng.choice(("16", "-1", "99999999999", "x")))
    else:
        values = numpy_helper.to_array(item)
        with np.errstate(all="ignore"):
            if kind == 4:
                changed = (values * rng.choice((-1, 2, 100, 0))).astype(values.dtype)
            elif kind == 5:
                changed = values.astype(rng.choice((np.float32, np.float64, np.float16, np.int8, np.uint8, np.int64)))
            elif kind == 6:
                flat = values.reshape(-1).copy()
                flat[rng.randrange(flat.size)] = (
                    rng.choice((0, 1, 127))
                    if values.dtype.kind != "f"
                    else rng.choice((np.nan, np.inf, 1e30, 0.0, -1.0))
                )
                changed = flat.reshape(values.shape)
            else:
                changed = rng.choice((values.T, values.reshape(-1), values[..., None], values[None], values[:1]))
        item.CopyFrom(numpy_helper.from_array(np.ascontiguousarray(changed), item.name))


def _graph(rng: random.Random, model: Any) -> None:
    graph = model.graph
    kind = rng.randrange(7)
    if kind == 0:
        model.opset_import[0].version = rng.choice((-1, 0, 6, 7, 9, 11, 13, 17, 21, 23, 99, 2**40))
    elif kind == 1:
        dims = graph.input[0].type.tensor_type.shape.dim
        dims[rng.randrange(len(dims))].dim_value = rng.choice((0, 1, 2, 3, 5, 64, -1, 10**6, 2**40))
    elif kind == 2:
        graph.input[0].type.tensor_type.elem_type = rng.choice(TYPES)
    elif kind == 3:
        graph.output[0].name = rng.choice(_names(model))
    elif kind == 4:
        graph.output.append(helper.make_tensor_value_info(rng.choice(_names(model)), 1, None))
    elif kind == 5:
        dims = graph.input[0].type.tensor_type.shape.dim
        dims[rng.randrange(len(dims))].dim_param = "n"
    else:
        for item in model.metadata_props:
            item.value = item.value.replace(rng.choice("0123456789"), rng.choice("0123456789-["), 1)


CHANGES = (
    *(_some_attribute, _some_attribute, _change_attribute, _change_attribute, _operator, _domain, _reader, _inputs),
    *(_new_reader, _new_reader, _order, _name, _weights, _weights, _graph),
)

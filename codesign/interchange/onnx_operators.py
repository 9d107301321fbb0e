"""What the ONNX readers know of each operator: a table, and the check of a node against it.

Versions, inputs and types come from ONNX's own schemas, which the package onnx holds for every opset. The table says
what the readers do with each attribute. What neither knows (an attribute, an input, a type, an output that is read) is
an error, so nothing that changes a result is passed over in silence.
"""

from __future__ import annotations

from collections.abc import Mapping, Set
from dataclasses import dataclass
from typing import Any

from codesign.interchange.onnx_graph import QONNX_DOMAINS, Node, type_name

MICROSOFT = "com.microsoft"
"""ONNX Runtime's domain: its quantizers write 4-bit and 16-bit types there, before opset 21 has them."""
VARIADIC = 1000
"""Inputs that an operator of any number takes at most."""


class _Free:
    """A rule of an attribute that may have any value."""


USED = _Free()
"""The readers compute with the attribute, or check it themselves."""
IGNORED = _Free()
"""The attribute changes nothing of the first output."""
Rule = _Free | tuple[Any, ...]
"""What an attribute may be: anything, or one of a few values."""


@dataclass(frozen=True)
class Signature:
    """Inputs and attributes that an operator has in an opset.

    Attributes:
        attributes: ONNX's type of each one.
        required: names of those that must be there.
        smallest, greatest: how many inputs there are.
        inputs: of each, whether it must be there and which types it takes: the name of a type variable or of a type.
            The last one stands for all further ones.
        output: the same of the first output.
        variables: types that each variable allows.
        outputs: how many there may be.
    """

    attributes: Mapping[str, str]
    required: Set[str]
    smallest: int
    greatest: int
    inputs: tuple[tuple[bool, str], ...]
    output: str
    variables: Mapping[str, Set[str]]
    outputs: int = 1


WINDOW: dict[str, Rule] = dict.fromkeys(("auto_pad", "dilations", "kernel_shape", "pads", "strides"), USED)
QUANTIZE: dict[str, Rule] = {"axis": USED, "block_size": USED, "output_dtype": USED}
OPERATORS: dict[str, dict[str, Rule]] = {
    "Add": {},
    "ArgMax": {"axis": USED, "keepdims": USED, "select_last_index": USED},
    "AveragePool": WINDOW | {"ceil_mode": USED, "count_include_pad": USED},
    "BatchNormalization": {"epsilon": USED, "momentum": IGNORED, "spatial": (1,), "training_mode": (0,)},
    "Cast": {"to": USED, "saturate": IGNORED},
    "Clip": {"max": USED, "min": USED},
    "Concat": {"axis": USED},
    "ConstantOfShape": {"value": USED},
    "Conv": WINDOW | {"group": USED},
    "DequantizeLinear": QUANTIZE,
    "Div": {},
    "Dropout": {"ratio": IGNORED, "seed": IGNORED},
    "Flatten": {"axis": USED},
    "Gather": {"axis": USED},
    "Gemm": {"alpha": USED, "beta": USED, "transA": USED, "transB": USED},
    "GlobalAveragePool": {},
    "GlobalMaxPool": {},
    "Identity": {},
    "LogSoftmax": {"axis": USED},
    "MatMul": {},
    "MaxPool": WINDOW | {"ceil_mode": USED, "storage_order": IGNORED},
    "Mul": {},
    "Pad": {"mode": USED, "pads": USED, "value": USED},
    # `precision` is that of the division; float32 of a float32 scale.
    "QuantizeLinear": QUANTIZE | {"precision": (0, 1), "saturate": IGNORED},
    "ReduceMean": {"axes": USED, "keepdims": USED, "noop_with_empty_axes": USED},
    "Relu": {},
    "Reshape": {"allowzero": USED},
    "Shape": {"end": USED, "start": USED},
    "Sigmoid": {},
    "Size": {},
    "Slice": {"axes": USED, "ends": USED, "starts": USED},
    "Softmax": {"axis": USED},
    "Squeeze": {"axes": USED},
    "Sub": {},
    "Sum": {},
    "Transpose": {"perm": USED},
    "Unsqueeze": {"axes": USED},
}
"""Standard operators that a reader accepts somewhere, and what becomes of each of their attributes."""

_FLOAT = {"T": frozenset({"float"})}
_INTEGERS = frozenset({"int8", "uint8", "int16", "uint16", "int32", "int4", "uint4"})
_ROUNDING = (b"ROUND", b"HALF_EVEN")
OTHER_OPERATORS: dict[str, tuple[dict[str, Rule], Signature]] = {
    "Quant": (
        {"narrow": USED, "rounding_mode": _ROUNDING, "signed": USED},
        Signature(
            {"narrow": "INT", "rounding_mode": "STRING", "signed": "INT"}, frozenset(), 4, 4, ((True, "T"),) * 4, "T",
            _FLOAT,
        ),
    ),
    "BipolarQuant": ({}, Signature({}, frozenset(), 2, 2, ((True, "T"),) * 2, "T", _FLOAT)),
}  # fmt: skip
"""Operators of QONNX. Their schemas are not ONNX's, but the qonnx package's documents."""
MICROSOFT_OPERATORS: dict[str, tuple[dict[str, Rule], Signature]] = {
    "QuantizeLinear": (
        {"axis": USED, "block_size": USED},
        Signature(
            {"axis": "INT", "block_size": "INT"}, frozenset(), 2, 3, ((True, "T"), (True, "T"), (False, "Q")), "Q",
            _FLOAT | {"Q": _INTEGERS},
        ),
    ),
    "DequantizeLinear": (
        {"axis": USED, "block_size": USED},
        Signature(
            {"axis": "INT", "block_size": "INT"}, frozenset(), 2, 3, ((True, "Q"), (True, "T"), (False, "Q")), "T",
            _FLOAT | {"Q": _INTEGERS},
        ),
    ),
}  # fmt: skip


def is_known(node: Node) -> bool:
    """Whether a reader accepts the operator somewhere."""
    if node.domain == "":
        return node.op in OPERATORS
    return node.op in (OTHER_OPERATORS if node.domain in QONNX_DOMAINS else _others(node.domain))


def check_node(node: Node, opset: int, types: Mapping[str, str]) -> str:
    """The element type of a node's first output, after everything about the node is checked but its shapes.

    Args:
        node: of an operator for which `is_known` is true.
        opset: of the standard operators.
        types: of all tensors that the node may read.

    Raises:
        UserError: an attribute, an input or a type that the operator does not have or no reader knows.
    """
    if node.domain == "":
        rules, signature = OPERATORS[node.op], _standard(node, opset)
    else:
        rules, signature = (OTHER_OPERATORS if node.domain in QONNX_DOMAINS else _others(node.domain))[node.op]
    where = f"{node.op} of opset {opset}" if node.domain == "" else node.op
    _check_attributes(node, rules, signature, where)
    if not signature.smallest <= len(node.inputs) <= signature.greatest:
        raise node.error(f"has {len(node.inputs)} inputs; {where} takes {_span(signature)}")
    if len(node.outputs) > signature.outputs:
        raise node.error(f"has {len(node.outputs)} outputs; {where} has at most {signature.outputs}")
    if node.op == "BatchNormalization" and len(node.outputs) > 1 and opset < 14:
        raise node.error("has outputs for training; what would replace it: export in inference mode")
    bound: dict[str, str] = {}
    for position, name in enumerate(node.inputs):
        needed, variable = signature.inputs[min(position, len(signature.inputs) - 1)]
        if name == "":
            if needed:
                raise node.error(f"lacks its input {position}")
            continue
        kind = types[name]
        allowed = signature.variables.get(variable, {variable})
        if kind not in allowed or bound.setdefault(variable, kind) != kind:
            raise node.error(f"input {position} '{name}' is of type {kind}, which does not suit {where} here")
    return _output_type(node, signature, bound)


def _others(domain: str) -> Mapping[str, tuple[dict[str, Rule], Signature]]:
    return MICROSOFT_OPERATORS if domain == MICROSOFT else {}


def _standard(node: Node, opset: int) -> Signature:
    """What ONNX itself says of an operator."""
    import onnx

    try:
        schema = onnx.defs.get_schema(node.op, opset, "")
    except onnx.defs.SchemaError:
        raise node.error(f"does not exist in opset {opset}") from None
    single = onnx.defs.OpSchema.FormalParameterOption.Single
    return Signature(
        {key: str(item.type).rpartition(".")[2] for key, item in schema.attributes.items()},
        {key for key, item in schema.attributes.items() if item.required},
        schema.min_input,
        min(schema.max_input, VARIADIC),
        tuple((item.option == single, _bare(item.type_str)) for item in schema.inputs),
        _bare(schema.outputs[0].type_str),
        {item.type_param_str: {_bare(text) for text in item.allowed_type_strs} for item in schema.type_constraints},
        schema.max_output,
    )


def _bare(text: str) -> str:
    return text.removeprefix("tensor(").removesuffix(")")


def _span(signature: Signature) -> str:
    few, many = signature.smallest, signature.greatest
    return str(few) if few == many else f"{few} or more" if many == VARIADIC else f"{few} to {many}"


def _check_attributes(node: Node, rules: Mapping[str, Rule], signature: Signature, where: str) -> None:
    for key, value in node.attributes.items():
        rule = rules.get(key)
        if key not in signature.attributes or rule is None:
            names = ", ".join(sorted(rules.keys() & signature.attributes.keys())) or "none"
            raise node.error(f"has the attribute '{key}', which is unknown; of {where} these are read: {names}")
        if node.attribute_types[key] != signature.attributes[key]:
            raise node.error(f"has '{key}' as {node.attribute_types[key]}; it must be {signature.attributes[key]}")
        if isinstance(rule, tuple) and value not in rule:
            text = value.decode("ascii", "replace") if isinstance(value, bytes) else value
            choices = " or ".join(item.decode() if isinstance(item, bytes) else str(item) for item in rule)
            raise node.error(f"has {key}={text}; supported is {choices}")
    for key in sorted(signature.required - node.attributes.keys()):
        raise node.error(f"lacks the attribute '{key}'")


def _output_type(node: Node, signature: Signature, bound: Mapping[str, str]) -> str:
    named = int(node.attributes.get("output_dtype", 0))
    if node.op == "Cast":
        return type_name(int(node.attributes["to"]))
    if node.op == "ConstantOfShape":
        return type_name(node.attributes["value"].data_type) if "value" in node.attributes else "float"
    if node.op == "QuantizeLinear" and len(node.inputs) < 3:
        return type_name(named) if named else "uint8"
    allowed = signature.variables.get(signature.output, {signature.output})
    result = bound.get(signature.output, min(allowed))
    if node.op == "DequantizeLinear" and node.domain == "":
        return type_name(named) if named else bound.get(signature.inputs[1][1], "float")
    if named and type_name(named) != result:
        raise node.error(f"has output_dtype {type_name(named)} beside inputs that make it {result}")
    return result

"""The program in a .pt2: its nodes, what they read and give, and the sizes that the file states for each tensor.

Plain data of torch's schema (torch/_export/serde/schema.py, version 8), checked; no name in it is looked up in torch.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from codesign.errors import UserError
from codesign.workload.exported_archive import DTYPES, short

SCHEMA = 8
"""Major version of torch's schema, of torch 2.5 to 2.13."""
_NODE_KEYS = frozenset({"target", "inputs", "outputs", "metadata", "is_hop_single_tensor_return", "name"})
_FLOATS = {"Infinity": math.inf, "-Infinity": -math.inf, "NaN": math.nan}


@dataclass(frozen=True)
class Reference:
    """An argument that is what another node gives, or an input of the program."""

    name: str


@dataclass(frozen=True)
class Other:
    """An argument of a kind that no operation here takes (a device, a graph), or one that changes no value."""

    kind: str
    value: Any = None


@dataclass(frozen=True)
class Node:
    """An operation: its target as torch writes it (`aten.relu.default`), arguments by name, names of its results."""

    name: str
    target: str
    arguments: Mapping[str, Any]
    outputs: tuple[str, ...]
    module: tuple[str, str]
    """(path, type) of the torch module whose code it is; empty where the file does not say."""


@dataclass(frozen=True)
class TensorType:
    """What the file says of a tensor; a size is a text where it is known only when the program runs."""

    dtype: str
    sizes: tuple[int | str, ...]


@dataclass(frozen=True)
class Program:
    """`constants`: dotted names of the parameters, buffers and constants by input; `changed`: buffers written."""

    image: str
    constants: Mapping[str, str]
    nodes: tuple[Node, ...]
    result: str
    types: Mapping[str, TensorType]
    changed: tuple[str, ...]


def read_program(data: Mapping[str, Any]) -> Program:
    """The program that a .pt2's JSON describes.

    Raises:
        UserError: (without the file's name) another version of the schema, more than one input or output, something
            of the schema that is not read, or a damaged file.
    """
    try:
        major = data["schema_version"]["major"]
        if major != SCHEMA:
            raise UserError(f"has version {short(str(major))} of torch's schema; {SCHEMA} is read: export it again")
        graph, signature = data["graph_module"]["graph"], data["graph_module"]["signature"]
        images, constants = _inputs(signature["input_specs"])
        results, changed = _outputs(signature["output_specs"])
        if len(images) != 1 or len(results) != 1:
            raise UserError(f"has {len(images)} inputs and {len(results)} outputs; 1 and 1 are supported")
        types = {name: _type(meta) for name, meta in graph["tensor_values"].items()}
        nodes = tuple(_node(item) for item in graph["nodes"])
    # What a damaged file makes of lists, objects and texts; a sound one causes none of them.
    except (TypeError, ValueError, LookupError, AttributeError, RecursionError) as error:
        raise UserError(f"the program is damaged ({type(error).__name__}: {short(str(error))})") from None
    return Program(images[0], constants, nodes, results[0], types, changed)


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError("a name is no text")
    return value


def _one(value: Mapping[str, Any]) -> tuple[str, Any]:
    """Key and value of one of the schema's unions, which may spell out the keys that are empty."""
    present = [(key, item) for key, item in value.items() if item is not None]
    if len(present) != 1:
        raise ValueError("a union of the schema has not exactly one value")
    return present[0]


def _inputs(specs: list[Any]) -> tuple[list[str], dict[str, str]]:
    images, constants = [], {}
    names = {"parameter": "parameter_name", "buffer": "buffer_name", "tensor_constant": "tensor_constant_name"}
    for spec in specs:
        kind, value = _one(spec)
        if kind == "user_input":
            argument, name = _one(value["arg"])
            if argument == "as_tensor":
                images.append(_text(name["name"]))
            elif argument != "as_none":
                raise UserError(f"takes an input that is no tensor ({short(argument)}); 1 tensor is supported")
        elif kind in names:
            constants[_text(value["arg"]["name"])] = _text(value[names[kind]])
        elif kind != "constant_input":
            raise UserError(f"has an input of the kind '{short(kind)}', which is not supported")
    return images, constants


def _outputs(specs: list[Any]) -> tuple[list[str], tuple[str, ...]]:
    results, changed = [], []
    for spec in specs:
        kind, value = _one(spec)
        if kind == "user_output":
            argument, name = _one(value["arg"])
            if argument != "as_tensor":
                raise UserError("must return one tensor that it computes")
            results.append(_text(name["name"]))
        elif kind in ("buffer_mutation", "parameter_mutation"):
            changed.append(_text(value[f"{kind.partition('_')[0]}_name"]))
        elif kind != "user_input_mutation":
            raise UserError(f"has an output of the kind '{short(kind)}', which is not supported")
    return results, tuple(changed)


def _type(meta: Mapping[str, Any]) -> TensorType:
    sizes: list[int | str] = []
    for item in meta["sizes"]:
        kind, value = _one(item)
        if kind == "as_int" and type(value) is int:
            sizes.append(value)
        elif kind == "as_expr":
            sizes.append(_text(value["expr_str"]))
        else:
            raise ValueError("a size is no number and no expression")
    kind = meta["dtype"]
    return TensorType(str(DTYPES[kind]).removeprefix("torch.") if kind in DTYPES else f"type {kind}", tuple(sizes))


def _node(data: Mapping[str, Any]) -> Node:
    unknown = sorted(data.keys() - _NODE_KEYS)
    outputs = tuple(name for item in data["outputs"] for name in _results(item))
    name = _text(data.get("name") or (outputs[0] if outputs else "unnamed"))
    if unknown:
        raise UserError(f"node '{short(name)}' has the key '{short(unknown[0])}', which is not known")
    target = _text(data["target"]).removeprefix("torch.ops.")
    arguments: dict[str, Any] = {}
    for item in data["inputs"]:
        key = _text(item["name"])
        if key in arguments:
            raise UserError(f"node '{short(name)}' has the argument '{short(key)}' twice")
        arguments[key] = _argument(item["arg"])
    stack = data.get("metadata", {}).get("nn_module_stack", "")
    return Node(name, target, arguments, outputs, _module(_text(stack)))


def _results(item: Mapping[str, Any]) -> list[str]:
    kind, value = _one(item)
    if kind == "as_tensor":
        return [_text(value["name"])]
    if kind in ("as_sym_int", "as_sym_bool", "as_sym_float"):
        return [_text(value["as_name"])]
    if kind == "as_tensors":
        return [_text(part["name"]) for part in value]
    return []


def _argument(data: Mapping[str, Any]) -> Any:
    kind, value = _one(data)
    if kind == "as_none":
        return None
    if kind == "as_tensor":
        return Reference(_text(value["name"]))
    if kind in ("as_optional_tensor", "as_sym_int", "as_sym_float", "as_sym_bool"):
        return _symbol(value)
    if kind in ("as_sym_ints", "as_optional_tensors"):
        return [_symbol(item) for item in value]
    if kind == "as_tensors":
        return [Reference(_text(item["name"])) for item in value]
    if kind == "as_float":
        return _float(value)
    if kind == "as_floats":
        return [_float(item) for item in value]
    if kind in ("as_int", "as_bool", "as_string") and type(value) in (int, bool, str):
        return value
    if kind in ("as_ints", "as_bools") and all(type(item) in (int, bool) for item in value):
        return list(value)
    if kind == "as_scalar_type":
        return Other(kind, str(DTYPES.get(value, value)).removeprefix("torch."))
    return Other(kind)


def _symbol(value: Mapping[str, Any]) -> Any:
    kind, item = _one(value)
    if kind == "as_name":
        return Reference(_text(item))
    if kind == "as_tensor":
        return Reference(_text(item["name"]))
    if kind == "as_none":
        return None
    if kind in ("as_int", "as_bool") and type(item) in (int, bool):
        return item
    if kind == "as_float":
        return _float(item)
    raise ValueError(f"an argument is {short(kind)}")


def _float(value: Any) -> float:
    if isinstance(value, str):
        return _FLOATS[value]
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError("a float is no number")
    return float(value)


def _module(stack: str) -> tuple[str, str]:
    """Path and type of the innermost module of torch's "key,path,type;key,path,type"."""
    parts = stack.rpartition(";")[2].split(",")
    if len(parts) != 3 or parts[0] == parts[1] == parts[2]:
        return ("", "")
    return (parts[1], parts[2])

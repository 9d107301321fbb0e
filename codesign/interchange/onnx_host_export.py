"""The host's steps as ONNX nodes around an exported network, so that the file takes and gives what the model did."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from codesign.errors import UserError
from codesign.integer.host import (
    ArgMax,
    Arithmetic,
    Dequantize,
    HostWork,
    Offset,
    Quantize,
    Reshape,
    RoundResults,
    Sigmoid,
    Softmax,
    Step,
)
from codesign.integer.network import IntegerTensor

OPERATORS = {"add": "Add", "subtract": "Sub", "multiply": "Mul", "divide": "Div"}
FLOAT, UINT8, INT8, INT64 = 1, 2, 3, 7
"""ONNX's numbers of element types."""


class Writer(Protocol):
    """What adds nodes and constants to a graph, and gives the names of their results."""

    def add(self, operator: str, inputs: list[str], output: str, node: str = "", **options: Any) -> str:
        """One more node."""

    def constant(self, name: str, value: NDArray[Any] | np.generic) -> str:
        """One more constant."""


def taken_type(host: HostWork) -> int:
    """Element type of the graph's input."""
    return {"float32": FLOAT, "uint8": UINT8, "int8": INT8}[host.takes]


def prepared(writer: Writer, host: HostWork, tensor: IntegerTensor) -> tuple[str, bool]:
    """(tensor, whether it is the real values of codes already) behind what the host does before its quantizer."""
    value = tensor.name
    if host.before and isinstance(host.before[0], Offset):
        signed = host.takes == "int8"
        zero = np.asarray(tensor.zero_point - (128 if signed else 0), dtype=np.int8 if signed else np.uint8)
        operands = [
            writer.constant(f"{value}.scale_in", np.float32(tensor.scale)),
            writer.constant(f"{value}.zero_in", zero),
        ]
        return writer.add("DequantizeLinear", [value, *operands], f"{value}.real_in"), True
    if host.takes != "float32":
        value = writer.add("Cast", [value], f"{value}.float", to=FLOAT)
    for index, step in enumerate(host.before):
        if isinstance(step, Arithmetic):
            numbers = np.asarray(step.values, dtype=np.float32).reshape(1, -1, 1, 1)
            operand = writer.constant(f"{tensor.name}.number{index}", numbers)
            value = writer.add(OPERATORS[step.operation], [value, operand], f"{tensor.name}.step{index}")
    return value, False


def finished(writer: Writer, host: HostWork, codes: str, real: str) -> tuple[str, int]:
    """(tensor, its element type) of what the host makes of the results.

    Args:
        writer: of the graph.
        host: whose steps are written.
        codes: tensor of the last layer's codes, uint8; empty if its results are not quantized.
        real: tensor of its real results.

    Raises:
        UserError: a step that ONNX has no node for here.
    """
    steps = [step for step in host.after if not isinstance(step, RoundResults)]
    if not steps:
        return real, FLOAT
    name, value, kind = "result", real, FLOAT
    if isinstance(first := steps.pop(0), Offset):
        if not codes:
            raise UserError(f"host: {first.words} of results that are not codes")
        value, kind = codes, UINT8
        if first.offset:
            raise UserError("host: results of int8 codes are exported as uint8 only")
    pending: Quantize | None = None
    for index, step in enumerate(steps):
        label = f"{name}.{index}"
        if isinstance(step, Quantize):
            pending = step
            continue
        if pending is not None:
            value, kind, done = _quantized(writer, label, value, pending, step)
            pending = None
            if done:
                continue
        value, kind = _step(writer, label, value, kind, step)
    if pending is not None:
        value, kind, _ = _quantized(writer, f"{name}.end", value, pending, Offset(0))
    return value, kind


def _quantized(writer: Writer, label: str, value: str, step: Quantize, after: Step) -> tuple[str, int, bool]:
    """A quantizer, and the offset after it, if it is one: its results are of that type then."""
    signed = isinstance(after, Offset) and after.offset == -128
    kind = np.int8 if signed else np.uint8
    if (step.low, step.high) != (0, 255) or (isinstance(after, Offset) and after.offset not in (0, -128)):
        raise UserError(f"host: {step.words} has other codes than uint8 and int8 have")
    operands = [
        writer.constant(f"{label}.scale", np.float32(step.scale)),
        writer.constant(f"{label}.zero", np.asarray(step.zero_point - (128 if signed else 0), dtype=kind)),
    ]
    value = writer.add("QuantizeLinear", [value, *operands], f"{label}.codes")
    return value, INT8 if signed else UINT8, isinstance(after, Offset)


def _step(writer: Writer, label: str, value: str, kind: int, step: Step) -> tuple[str, int]:
    options: dict[str, Any] = {}
    inputs, operator = [value], type(step).__name__
    if isinstance(step, Dequantize):
        if kind == FLOAT:
            return value, kind
        zero = np.asarray(step.zero_point, dtype=np.int8 if kind == INT8 else np.uint8)
        inputs += [writer.constant(f"{label}.scale", np.float32(step.scale)), writer.constant(f"{label}.zero", zero)]
        operator, kind = "DequantizeLinear", FLOAT
    elif isinstance(step, Reshape):
        inputs.append(writer.constant(f"{label}.shape", np.asarray([0, *step.shape], dtype=np.int64)))
    elif isinstance(step, Softmax):
        if step.beta != 1:
            inputs = [writer.add("Mul", [value, writer.constant(f"{label}.beta", np.float32(step.beta))], f"{label}.m")]
        operator, options = "LogSoftmax" if step.logarithm else "Softmax", {"axis": step.axis + 1}
    elif isinstance(step, ArgMax):
        options = {"axis": step.axis + 1, "keepdims": int(step.keep), "select_last_index": int(step.last)}
        kind = INT64
    elif not isinstance(step, Sigmoid):
        raise UserError(f"host: {step.words} has no node in ONNX here")
    return writer.add(operator, inputs, f"{label}.{operator.lower()}", **options), kind

"""Arithmetic with constants in a quantized ONNX graph: within a layer, as a layer of its own, or on the host."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from codesign.formats.row_format import FloatArray, RowFormat
from codesign.integer.host import Arithmetic, Operation
from codesign.integer.network import Scheme
from codesign.interchange.onnx_graph import Node
from codesign.interchange.onnx_operands import Operands, lasting
from codesign.interchange.onnx_shapes import per_channel, text
from codesign.interchange.onnx_values import Codes, Pending, Value
from codesign.workload.layers import NO_PADDING

SIGN = RowFormat(Scheme.FIXED, 2)
"""Of weights that are 1 or -1."""


class Scaling(Operands):
    """Products with constants, and sums with them."""

    def scaled(self, node: Node, position: int, factor: FloatArray, offset: FloatArray) -> Value:
        """factor * value + offset, (C,) each: within the layer that computes the value, or as a layer of its own."""
        value = self.value(node, position)
        if isinstance(value, Codes):
            source = self.codes(node, position)
            self.check_channels(node, position, source.channels)
            value = Pending(
                node.name,
                "conv",
                (source,),
                source.shape,
                weight=np.ones((source.channels, 1, 1, 1), dtype=np.int64),
                row_scale=np.ones(source.channels),
                bias=np.zeros(source.channels),
                formats=(SIGN,) * source.channels,
                groups=source.channels,
            )
        if not isinstance(value, Pending) or value.kind != "conv" or value.residual is not None or value.clipped:
            raise node.error("must follow a Conv, a Gemm or a quantizer; what would replace it: a quantizer before it")
        assert value.weight is not None and value.row_scale is not None and value.bias is not None
        self.check_plain(node, value)
        self.check_channels(node, position, len(value.weight))
        sign = np.where(factor < 0, -1, 1) * (factor != 0)
        return replace(
            value,
            weight=value.weight * sign.reshape(-1, 1, 1, 1),
            row_scale=np.where(factor == 0, value.row_scale, value.row_scale * np.abs(factor)),
            bias=value.bias * factor + offset,
        )

    def check_channels(self, node: Node, position: int, channels: int) -> None:
        """UserError unless the file's tensor has so many channels."""
        if self.shape(node, position)[1] != channels:
            raise node.error(f"takes a map of {channels} channels for {text(self.shape(node, position))}")

    def check_plain(self, node: Node, value: Pending) -> None:
        """UserError if a Pad put zeros around the value."""
        if value.border != NO_PADDING:
            raise node.error("reads a padded tensor; only Conv, pooling and quantizers can")

    def product(self, node: Node) -> Value:
        """Mul or Div of a map and a constant."""
        positions = [i for i in (0, 1) if isinstance(self.value(node, i), Codes | Pending)]
        if len(positions) != 1 or (node.op == "Div" and positions[0] == 1):
            raise node.error("takes two maps, or divides by one; only products with constants are supported")
        (position,) = positions
        constant = self.per_channel(node, 1 - position)
        if node.op == "Div" and not constant.all():
            raise node.error("divides by 0")
        if self.is_raw(node, position):
            return self.prepared(self.value(node, position), "divide" if node.op == "Div" else "multiply", constant)
        factor = 1.0 / constant if node.op == "Div" else constant
        return self.scaled(node, position, factor, np.zeros(len(factor)))

    def per_channel(self, node: Node, position: int) -> FloatArray:
        """(C,) numbers of a constant that is broadcast against a map."""
        shape, other = self.graph.shapes[node.outputs[0]], self.shape(node, 1 - position)
        if shape != other or len(shape) < 2:
            raise node.error(f"broadcasts {text(other)} to {text(shape)}")
        return per_channel(node, self.constant(node, position), shape).astype(np.float64)

    def is_raw(self, node: Node, position: int) -> bool:
        """Whether an input of the node is the network's input before it is quantized."""
        value = self.value(node, position)
        if not isinstance(value, Pending) or value.sources:
            return False
        self.check_plain(node, value)
        if value.kind == "integers":
            raise node.error(f"computes with the input's integers of type {self.takes}; a Cast must come first")
        self.check_channels(node, position, value.shape[0])
        return True

    def prepared(self, value: Value, operation: Operation, numbers: FloatArray | float) -> Pending:
        """The network's input after a step of the host."""
        assert isinstance(value, Pending)
        step = Arithmetic(operation, lasting(np.atleast_1d(np.asarray(numbers, dtype=np.float64))))
        return replace(value, steps=(*value.steps, step))

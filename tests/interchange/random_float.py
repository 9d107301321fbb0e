"""Random float ONNX graphs over every operator that the reader accepts, with attributes that it does and does not."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from tests.interchange.onnx_builder import Builder


def random_float(seed: int) -> tuple[Any, Builder]:
    """A model and how it was built."""
    shape_rng = np.random.default_rng((seed, 1))
    shape = [int(shape_rng.integers(1, 5)), int(shape_rng.integers(3, 13)), int(shape_rng.integers(3, 13))]
    if shape_rng.random() < 0.05:
        shape = shape[:1]
    graph = FloatGraph(seed, shape)
    graph.grow(int(graph.rng.integers(2, 9)))
    output = graph.tensors[-1]
    if output == "x":
        output = graph.node("Relu", ["x"]) or "x"
    if graph.chance(0.3):
        graph.dead_node()
    return graph.model(output, "N" if graph.open_batch else 1), graph


class FloatGraph(Builder):
    """Grows by random operators on the newest tensors."""

    def grow(self, steps: int) -> None:
        if self.chance(0.06) and self.affine("x") and len(self.shapes["x"]) == 4 and self.chance(0.7):
            self.conv(self.tensors[-1])
        for _ in range(steps):
            source = self.tensors[-1] if self.chance(0.8) else self.pick(self.tensors[-3:])
            self.pick(self._choices(source))(source)
        if self.chance(0.6):
            self.head()

    def _choices(self, source: str) -> list[Callable[[str], Any]]:
        rank = len(self.shapes[source])
        common: list[Callable[[str], Any]] = [self.relu, self.relu, self.clip, self.same, self.addition]
        if self.nodes and self.nodes[-1].op_type in ("Conv", "Gemm", "MatMul", "BatchNormalization", "Add"):
            common.append(self.bias)
        common += [self.addition] * 2
        if rank == 4:
            maps = [self.conv] * 5 + [self.pool] * 2 + [self.norm, self.pad_conv, self.pad_conv, self.mean]
            return [
                *common,
                *maps,
                *[self.conv] * 5,
                self.pick([self.odd, self.affine, self.relu, self.relu, self.conv]),
            ]
        if rank == 2:
            return [*common, *[self.dense] * 5, self.norm, self.pick([self.odd, self.dense, self.affine])]
        return [self.flatten, self.same]

    def head(self) -> None:
        """Usually flatten and one product, and now and then a Softmax."""
        source = self.tensors[-1]
        if len(self.shapes[source]) == 4:
            self.pick([self.mean, self.flatten, self.flatten])(source)
        if len(self.shapes[self.tensors[-1]]) > 2:
            self.flatten(self.tensors[-1])
        if len(self.shapes[self.tensors[-1]]) == 2:
            self.dense(self.tensors[-1])
            if self.chance(0.15):
                op = self.pick(["Softmax", "Softmax", "LogSoftmax", "ArgMax", "Sigmoid"])
                axes = [{}, {}, {"axis": 1}, {"axis": -1}, {"axis": -1}, {"axis": 0}]
                axis = {} if op == "Sigmoid" else self.pick(axes) if self.opset >= 11 else {"axis": 1}
                self.node(op, [self.tensors[-1]], **axis)

    def dead_node(self) -> None:
        kept = list(self.tensors)
        source = self.pick(self.tensors)
        self.pick([self.relu, self.same])(source)
        if self.chance(0.3):
            self.node("Tanh", [source])
        self.tensors = kept

    # Operators.

    def window(self, pool: bool, size: Sequence[int]) -> dict[str, Any]:
        """Random attributes of a window; rarely ones that are refused."""
        kernel = [int(k) for k in self.rng.integers(1, 5, 2)] if self.chance(0.5) else [self.pick([1, 2, 3, 3, 5])] * 2
        if self.chance(0.95):
            kernel = [min(k, s) for k, s in zip(kernel, size, strict=True)]
        attributes: dict[str, Any] = {}
        if pool or self.chance(0.5):
            attributes["kernel_shape"] = kernel
        if self.chance(0.6):
            attributes["strides"] = [int(s) for s in self.rng.integers(1, 4, 2)] if self.chance(0.5) else [2, 2]
        way = self.rng.random()
        if way < 0.35:
            most = [k - 1 if pool else k for k in kernel]
            attributes["pads"] = [int(self.rng.integers(0, most[i % 2] + 1)) for i in range(4)]
        elif way < 0.45:
            attributes["pads"] = [k // 2 for k in kernel] * 2
        elif way < 0.65:
            attributes["auto_pad"] = self.pick(["SAME_UPPER", "SAME_LOWER", "VALID", "NOTSET"])
        if self.chance(0.05):
            attributes["dilations"] = self.pick([[1, 1], [2, 2], [1, 2]])
        return attributes | {"_kernel": kernel}

    def conv(self, source: str) -> str | None:
        channels = self.shapes[source][1]
        groups = self.pick([g for g in range(1, channels + 1) if channels % g == 0]) if self.chance(0.4) else 1
        rows = groups * int(self.rng.integers(1, 4))
        attributes = self.window(False, self.shapes[source][2:])
        kernel = attributes.pop("_kernel")
        if groups > 1 or self.chance(0.3):
            attributes["group"] = groups
        inputs = [source, self.constant(self.rng.normal(size=(rows, channels // groups, *kernel)) * 0.4)]
        way = self.rng.random()
        if way < 0.5:
            inputs.append(self.constant(self.rng.normal(size=rows)))
        result = self.node("Conv", inputs, **attributes)
        if result is not None and way > 0.7:
            result = self.bias(result)
        return result

    def bias(self, source: str) -> str | None:
        """A constant added, in one of the shapes that broadcast; some vary along other axes than the channels."""
        shape = self.shapes[source]
        if len(shape) < 2:
            return None
        channels = shape[1]
        ones = [1] * (len(shape) - 2)
        sizes: list[Any] = [(channels, *ones), (1, channels, *ones), (channels, *ones), (1,), ()]
        if self.chance(0.12):
            sizes = [(shape[-1],), shape, shape[1:], (1, *shape[1:-1], 1)]
        size = self.pick(sizes)
        value = self.rng.normal(size=size)
        if size == shape and self.chance(0.5):
            value = np.broadcast_to(self.rng.normal(size=(1, channels, *ones)), shape).copy()
        inputs = [source, self.constant(value)]
        return self.node(self.pick(["Add", "Add", "Add", "Sum"]), inputs[::-1] if self.chance(0.3) else inputs)

    def affine(self, source: str) -> str | None:
        """Sub, Mul or Div by a constant."""
        channels = self.shapes[source][1]
        ones = [1] * (len(self.shapes[source]) - 2)
        op = self.pick(["Sub", "Mul", "Div"])
        value = self.rng.uniform(0.3, 2.0, size=self.pick([(channels, *ones), (1, channels, *ones), ()]))
        inputs = [source, self.constant(value)]
        return self.node(op, inputs[::-1] if self.chance(0.15) else inputs)

    def relu(self, source: str) -> str | None:
        return self.node("Relu", [source])

    def clip(self, source: str) -> str | None:
        low, high = self.pick(
            [
                (0.0, 6.0),
                (0.0, 1.0),
                (0.0, 6.0),
                (None, None),
                (0.0, None),
                (0.0, 3.5),
                (0.0, 3.4028235e38),
                (-1.0, 1.0),
            ]
        )
        if self.opset < 11:
            limits = {"min": low, "max": high}
            return self.node("Clip", [source], **{key: value for key, value in limits.items() if value is not None})
        inputs = [source, *("" if value is None else self.constant(value) for value in (low, high))]
        while inputs[-1] == "":
            inputs.pop()
        return self.node("Clip", inputs)

    def same(self, source: str) -> str | None:
        op = self.pick(["Identity", "Dropout"])
        attributes = {"ratio": 0.3} if op == "Dropout" and self.opset < 12 and self.chance(0.5) else {}
        inputs = [source]
        if op == "Dropout" and self.opset >= 12 and self.chance(0.5):
            inputs.append(self.constant(0.3))
            if self.chance(0.5):
                inputs.append(self.constant(self.chance(0.1), bool))
        return self.node(op, inputs, **attributes)

    def addition(self, source: str) -> str | None:
        """A sum with another tensor of the same shape; a convolution of the source makes one if there is none."""
        shape = self.shapes[source]
        others = [name for name in self.tensors if self.shapes[name] == shape and name != source]
        other = self.pick(others) if others and self.chance(0.8) else None
        if other is None and len(shape) == 4:
            weight = self.constant(self.rng.normal(size=(shape[1], shape[1], 1, 1)))
            other = self.node("Conv", [source, weight])
        if other is None:
            return None
        op = self.pick(["Add", "Add", "Sum"])
        third = [self.pick(others)] if op == "Sum" and others and self.chance(0.3) else []
        return self.node(op, [source, other, *third])

    def pool(self, source: str) -> str | None:
        op = self.pick(["MaxPool", "AveragePool"])
        attributes = self.window(True, self.shapes[source][2:])
        attributes.pop("_kernel")
        if op == "AveragePool" and self.opset < 19:
            attributes.pop("dilations", None)
        if op == "MaxPool" and self.opset < 10:
            attributes.pop("dilations", None)
        if self.opset >= 10 and self.chance(0.3):
            attributes["ceil_mode"] = 1
        if op == "AveragePool" and self.chance(0.6):
            attributes["count_include_pad"] = self.pick([1, 1, 0])
        if op == "MaxPool" and self.opset >= 8 and self.chance(0.1):
            attributes["storage_order"] = 1
        return self.node(op, [source], **attributes)

    def mean(self, source: str) -> str | None:
        if self.chance(0.5):
            return self.node("GlobalAveragePool", [source])
        axes = self.pick([[2, 3], [2, 3], [3, 2], [-1, -2], [-2, 3], [2, -1], [2], [1, 2, 3]])
        if self.opset < 11:
            axes = [axis % 4 for axis in axes]
        attributes: dict[str, Any] = {"keepdims": self.pick([0, 1])} if self.chance(0.7) else {}
        if self.opset >= 18:
            return self.node("ReduceMean", [source, self.constant(axes, np.int64)], **attributes)
        return self.node("ReduceMean", [source], axes=axes, **attributes)

    def norm(self, source: str) -> str | None:
        channels = self.shapes[source][1]
        values = [self.rng.normal(size=channels) for _ in range(3)] + [self.rng.random(channels) + 0.2]
        attributes: dict[str, Any] = {"epsilon": self.pick([1e-5, 1e-3, 0.1])} if self.chance(0.7) else {}
        if self.chance(0.3):
            attributes["momentum"] = 0.8
        if self.opset < 9 and self.chance(0.3):
            attributes["spatial"] = self.pick([1, 1, 0])
        if self.opset >= 14 and self.chance(0.2):
            attributes["training_mode"] = 0
        return self.node("BatchNormalization", [source, *map(self.constant, values)], **attributes)

    def pad_conv(self, source: str) -> str | None:
        """A Pad, mostly of zeros around the map, and one or two readers of it."""
        pads = [int(p) for p in self.rng.integers(0, 3, 4)]
        full = [0, 0, pads[0], pads[1], 0, 0, pads[2], pads[3]]
        if self.chance(0.05):
            full[self.pick([1, 5])] = 1
        value = self.pick([0.0] * 12 + [None, 1.0])
        mode = self.pick([*["constant", None] * 10, "edge", "reflect"])
        attributes: dict[str, Any] = {} if mode is None else {"mode": mode}
        if self.opset < 11:
            attributes |= {"pads": full} | ({} if value is None else {"value": value})
            padded = self.node("Pad", [source], **attributes)
        else:
            inputs = [source, self.constant(full, np.int64)]
            if self.opset >= 18 and self.chance(0.4):
                axes = self.pick([[2, 3], [-2, -1], [0, 1, 2, 3]])
                sides = pads if len(axes) == 2 else full
                inputs = [source, self.constant(sides, np.int64), "", self.constant(axes, np.int64)]
            elif value is not None:
                inputs.append(self.constant(value))
            padded = self.node("Pad", inputs, **attributes)
        if padded is None:
            return None
        result = self.pick([*[self.conv] * 8, self.pool, self.relu])(padded)
        if self.chance(0.4):
            other = self.conv(padded)
            if result is not None and other is not None and self.shapes[other] == self.shapes[result]:
                result = self.node("Add", [result, other])
        return result

    def flatten(self, source: str) -> str | None:
        """(N, features), in one of its many spellings."""
        shape = self.shapes[source]
        features = int(np.prod(shape[1:]))
        way = self.pick(["flatten", "flatten", "reshape", "reshape", "sizes", "squeeze", "transpose"])
        if way == "flatten":
            axis = self.pick([1, 1, 1, 1 - len(shape), 1 - len(shape), 2, 0])
            if axis < 0 and self.opset < 11:
                axis = 1
            return self.node("Flatten", [source], **({} if axis == 1 and self.chance(0.5) else {"axis": axis}))
        if way == "reshape":
            target = self.pick([[-1, features], [0, -1], [1, -1], [0, features], [1, features]] * 3 + [[2, -1], [-1]])
            return self.node("Reshape", [source, self.constant(target, np.int64)])
        if way == "sizes":
            return self.sizes(source)
        if way == "squeeze" and 1 in shape[1:]:
            axes = [axis for axis, size in enumerate(shape) if axis and size == 1]
            if self.opset >= 11 and self.chance(0.4):
                axes = [axis - len(shape) for axis in axes]
            if self.opset < 13:
                return self.node("Squeeze", [source], axes=axes)
            return self.node("Squeeze", [source, self.constant(axes, np.int64)])
        if way == "transpose":
            order = [0, *self.rng.permutation(np.arange(1, len(shape))).tolist()]
            moved = self.node("Transpose", [source], perm=order)
            return None if moved is None else self.node("Flatten", [moved])
        return None

    def sizes(self, source: str) -> str | None:
        """What `x.view(x.size(0), -1)` becomes: Shape, Gather, Unsqueeze, Concat, Reshape."""
        kept = list(self.tensors)
        size = self.node("Shape", [source])
        assert size is not None
        name = self.fresh("g")
        self.nodes.append(_node("Gather", [size, self.constant(0, np.int64)], name, axis=0))
        row = self.fresh("u")
        if self.opset < 13:
            self.nodes.append(_node("Unsqueeze", [name], row, axes=[0]))
        else:
            self.nodes.append(_node("Unsqueeze", [name, self.constant([0], np.int64)], row))
        target = self.fresh("c")
        self.nodes.append(_node("Concat", [row, self.constant([-1], np.int64)], target, axis=0))
        self.tensors = kept
        return self.node("Reshape", [source, target])

    def dense(self, source: str) -> str | None:
        features, rows = self.shapes[source][1], int(self.rng.integers(1, 6))
        weight = self.rng.normal(size=(features, rows)) / features**0.5
        if self.chance(0.4):
            result = self.node("MatMul", [source, self.constant(weight)])
            return self.bias(result) if result is not None and self.chance(0.6) else result
        attributes: dict[str, Any] = {"transB": 1} if self.chance(0.6) else {}
        if attributes:
            weight = weight.T
        for key in ("alpha", "beta"):
            if self.chance(0.2):
                attributes[key] = self.pick([1.0, 0.5, 2.0])
        if self.chance(0.1):
            attributes["transA"] = self.pick([0, 0, 1])
        inputs = [source, self.constant(weight)]
        if self.opset < 11 or self.chance(0.7):
            inputs.append(self.constant(self.rng.normal(size=self.pick([(rows,), (1, rows), (1,), (), (rows,)]))))
        return self.node("Gemm", inputs, **attributes)

    def odd(self, source: str) -> str | None:
        """What is refused, mostly."""
        op = self.pick(["Sigmoid", "Transpose", "Unsqueeze", "Mul", "Tanh", "Concat"])
        if op == "Unsqueeze":
            rank = len(self.shapes[source])
            axes = self.pick([[rank], [1]])
            if self.opset < 13:
                return self.node(op, [source], axes=axes)
            return self.node(op, [source, self.constant(axes, np.int64)])
        if op == "Mul":
            return self.node(op, [source, source])
        if op == "Concat":
            return self.node(op, [source, source], axis=1)
        return self.node(op, [source])


def _node(op: str, inputs: list[str], output: str, **attributes: Any) -> Any:
    from onnx import helper

    return helper.make_node(op, inputs, [output], **attributes)

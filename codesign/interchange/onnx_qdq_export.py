"""Integer networks as ONNX of real values between quantizers: QDQ for ONNX Runtime, QONNX for Brevitas's family.

These are the forms that deployment tools expect: scales and zero points at every tensor, weights as integers with a
scale per row. A row's scale is written such that the runtime's requantization factor is the accelerator's
mult / 2**shift (to float32), so results differ only where a sum lies at a rounding boundary: runtimes round halves to
even and compute in float32. For a graph that computes the very same integers see `codesign.interchange.onnx_integer`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from codesign._files import write_bytes
from codesign.errors import UserError
from codesign.integer.checks import check_network, code_range
from codesign.integer.network import IntegerConv, IntegerLayer, IntegerNetwork, IntegerPool, IntegerTensor
from codesign.interchange.onnx_host_export import finished, prepared, taken_type

Format = Literal["qdq", "qonnx"]
QONNX_DOMAIN = "qonnx.custom_op.general"
OPSET = 21
WIDE_TOLERANCE = 2.0**-10
"""How far a requantization factor of a wide result may be from the scales that it stands for."""
RESIDUAL_TOLERANCE = 2.0**-10
"""How far the residual factors of a layer's rows may be from the ratio of the scales, which is all QDQ can say."""


def export_quantized_onnx(network: IntegerNetwork, path: str | Path, form: Format = "qdq", batch: int = 1) -> None:
    """Write `network` as a QDQ or QONNX model that takes what its model takes, and gives what it gives.

    The host's steps become nodes around it. Wide results that stand for a quantized result of the file that the network
    came from (see `codesign.interchange.building.wide_result`) are quantized again, as in that file.

    Raises:
        UserError: a layer's residual factors are not the ratio of its scales, or a step of the host has no node.
    """
    import onnx
    from onnx import helper

    check_network(network)
    if network.host.digits > 1:
        raise UserError(f"network '{network.name}' takes its input in digits; export the network that it was made of")
    writer = _Writer(network, form)
    result, kind = writer.write()
    opsets = [helper.make_opsetid("", OPSET)]
    if form == "qonnx":
        opsets.append(helper.make_opsetid(QONNX_DOMAIN, 1))
    graph = helper.make_graph(
        writer.nodes,
        network.name,
        [helper.make_tensor_value_info(network.input.name, taken_type(network.host), [batch, *network.input.shape])],
        [helper.make_tensor_value_info(result, kind, [batch, *network.host.result_shape(network.output.shape)])],
        writer.constants,
    )
    model = helper.make_model(graph, opset_imports=opsets, ir_version=10, producer_name="codesign")
    model = onnx.shape_inference.infer_shapes(model)
    write_bytes(path, model.SerializeToString())


class _Writer:
    def __init__(self, network: IntegerNetwork, form: Format) -> None:
        self.network = network
        self.form = form
        self.nodes: list[Any] = []
        self.constants: list[Any] = []
        self.real: dict[str, str] = {}
        """The graph's name of the real values of each tensor of the network."""
        self.codes = ""
        """That of the newest tensor of codes."""
        self.names = {network.input.name}

    def write(self) -> tuple[str, int]:
        """Fill nodes and constants; the name of the result, and its element type."""
        source, host = self.network.input, self.network.host
        value, is_real = prepared(self, host, source)
        self.real[source.name] = (
            value if is_real and self.form == "qdq" else self._quantized(value, source, narrow=True)
        )
        for layer in self.network.layers:
            if isinstance(layer, IntegerConv):
                self._convolution(layer)
            else:
                self._pool(layer)
        return finished(self, host, self.codes, self.real[self.network.output.name])

    def _target(self, layer: IntegerLayer) -> tuple[IntegerTensor, int, int]:
        """(tensor, low, high): the codes to store."""
        result, output = self.network.host.result_codes, layer.output
        if not output.wide or result is None:
            return output, layer.low, layer.high
        bits = max(8, result.high.bit_length())
        codes = IntegerTensor(output.name, *output.shape, bits, result.zero_point, output.scale * 2.0**result.fraction)
        return codes, result.low, result.high

    def _convolution(self, layer: IntegerConv) -> None:
        name, source = layer.name, self.network.tensor(layer.input)
        target, low, high = self._target(layer)
        silent = layer.mult == 0
        factor = np.ldexp(layer.mult.astype(np.float64), -layer.shift) * layer.output.scale
        row_scale = np.where(silent, 1.0, factor / np.float32(source.scale))
        if target.wide and (np.abs(layer.row_scale - row_scale) <= WIDE_TOLERANCE * row_scale).all():
            # Nothing rounds a wide result in this form: the weights' own scale is the exact one.
            row_scale = layer.row_scale
        row_scale = row_scale.astype(np.float32)
        weight = np.where(silent[:, None, None, None], 0, layer.weight)
        bias = np.where(silent, 0, layer.bias)
        inputs = [self.real[source.name], self._weight(name, weight, row_scale)]
        if bias.any():
            inputs.append(self._bias(name, bias, row_scale, np.float32(source.scale)))
        value = self.add("Conv", inputs, f"{name}.conv", node=name, group=layer.groups, **_window(layer))
        if layer.residual is not None:
            other = self.network.tensor(layer.residual)
            found = np.ldexp(layer.residual_mult.astype(np.float64), -layer.shift)
            wanted = other.scale / layer.output.scale
            if (np.abs(found - wanted) > RESIDUAL_TOLERANCE * wanted).any():
                raise UserError(
                    f"layer '{name}': its residual factors are not the ratio {wanted:.4g} of the scales, which "
                    "this format needs; export with export_integer_onnx"
                )
            value = self.add("Add", [value, self.real[layer.residual]], f"{name}.sum")
        self._store(target, value, low, high)

    def _pool(self, layer: IntegerPool) -> None:
        source = self.real[layer.input]
        if layer.kind == "max":
            self.real[layer.output.name] = self.add(
                "MaxPool", [source], f"{layer.name}.max", node=layer.name, **_window(layer)
            )
            return
        options = _window(layer) | {"count_include_pad": 1}
        value = self.add("AveragePool", [source], f"{layer.name}.mean", node=layer.name, **options)
        self._store(layer.output, value, layer.low, layer.high)

    def _store(self, output: IntegerTensor, value: str, low: int, high: int) -> None:
        if output.wide:
            self.real[output.name], self.codes = self.add("Identity", [value], output.name), ""
            return
        stored = code_range(output) if self.form == "qonnx" else (0, 255 if output.bits <= 8 else 65535)
        if (low, high) != stored:
            limits = [(bound - output.zero_point) * np.float32(output.scale) for bound in (low, high)]
            names = [
                self.constant(f"{output.name}.{key}", np.float32(limits[i])) for i, key in enumerate(("low", "high"))
            ]
            value = self.add("Clip", [value, *names], f"{output.name}.clip")
        self.real[output.name] = self._quantized(value, output)

    def _quantized(self, value: str, output: IntegerTensor, narrow: bool = False) -> str:
        """Real values of the codes that `value` is quantized to.

        `narrow` clips the codes to the tensor's bits where their type has more.
        """
        scale = self.constant(f"{output.name}.scale", np.float32(output.scale))
        if self.form == "qonnx":
            self.codes = ""
            return self._quant(value, f"{output.name}.quantized", scale, output.zero_point, output.bits, signed=0)
        kind = np.uint8 if output.bits <= 8 else np.uint16
        zero = self.constant(f"{output.name}.zero_point", np.asarray(output.zero_point, dtype=kind))
        codes = self.add("QuantizeLinear", [value, scale, zero], f"{output.name}.codes")
        if narrow and output.bits not in (8, 16):
            limits = [
                self.constant(f"{output.name}.code_{i}", np.asarray(limit, dtype=kind))
                for i, limit in enumerate((0, 2**output.bits - 1))
            ]
            codes = self.add("Clip", [codes, *limits], f"{output.name}.clipped_codes")
        self.codes = codes
        return self.add("DequantizeLinear", [codes, scale, zero], f"{output.name}.real")

    def _weight(self, name: str, weight: NDArray[np.int64], row_scale: NDArray[np.float32]) -> str:
        if self.form == "qonnx":
            scale = self.constant(f"{name}.weight_scale", row_scale.reshape(-1, 1, 1, 1))
            real = self.constant(f"{name}.weight", (weight * row_scale.reshape(-1, 1, 1, 1)).astype(np.float32))
            bits = max(int(np.abs(weight).max(initial=1)).bit_length() + 1, 2)
            return self._quant(real, f"{name}.quantized_weight", scale, 0, bits, signed=1)
        peak = int(np.abs(weight).max(initial=0))
        kind = np.int8 if peak < 2**7 else np.int16 if peak < 2**15 else np.int32
        integers = self.constant(f"{name}.weight", weight.astype(kind))
        scale = self.constant(f"{name}.weight_scale", row_scale)
        zero = [self.constant(f"{name}.weight_zero", np.zeros(len(row_scale), dtype=kind))]
        zero = zero if kind is not np.int32 else []
        return self.add("DequantizeLinear", [integers, scale, *zero], f"{name}.real_weight", axis=0)

    def _bias(
        self, name: str, bias: NDArray[np.int64], row_scale: NDArray[np.float32], source_scale: np.float32
    ) -> str:
        scale = (row_scale * source_scale).astype(np.float32)
        if self.form == "qonnx":
            return self.constant(f"{name}.bias", (bias * scale.astype(np.float64)).astype(np.float32))
        integers = self.constant(f"{name}.bias", bias.astype(np.int32))
        unit = self.constant(f"{name}.bias_scale", scale)
        return self.add("DequantizeLinear", [integers, unit], f"{name}.real_bias", axis=0)

    def _quant(self, value: str, output: str, scale: str, zero_point: int, bits: int, signed: int) -> str:
        zero = self.constant(f"{output}.zero_point", np.float32(zero_point))
        width = self.constant(f"{output}.bits", np.float32(bits))
        options: dict[str, Any] = {"signed": signed, "narrow": signed, "rounding_mode": "ROUND"}
        return self.add("Quant", [value, scale, zero, width], output, domain=QONNX_DOMAIN, **options)

    def add(self, operator: str, inputs: list[str], output: str, node: str = "", **options: Any) -> str:
        """One more node; the name of its result, which is `output` unless another tensor is called so."""
        from onnx import helper

        output = self._free(output)
        self.nodes.append(helper.make_node(operator, inputs, [output], name=node or f"{operator}.{output}", **options))
        return output

    def constant(self, name: str, value: NDArray[Any] | np.generic) -> str:
        """One more constant; its name."""
        from onnx import numpy_helper

        name = self._free(name)
        self.constants.append(numpy_helper.from_array(np.asarray(value), name))
        return name

    def _free(self, name: str) -> str:
        wanted, count = name, 1
        while name in self.names:
            count += 1
            name = f"{wanted}#{count}"
        self.names.add(name)
        return name


def _window(layer: IntegerLayer) -> dict[str, Any]:
    top, bottom, left, right = layer.padding
    kernel = layer.weight.shape[2:] if isinstance(layer, IntegerConv) else layer.kernel
    return {"kernel_shape": list(kernel), "strides": list(layer.stride), "pads": [top, left, bottom, right]}

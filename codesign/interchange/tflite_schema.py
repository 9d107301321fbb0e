"""Which operators, versions and options of TensorFlow Lite's schema are known, and what would replace the others."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from codesign.errors import UserError


@dataclass(frozen=True)
class Known:
    """An operator of the schema.

    Attributes:
        options: name of its table of options.
        inputs: least and largest number of inputs.
        version: the newest known one.
        fields: number of fields of the table.
        names: fields that are read, by the method of the generated class.
        allowed: values that a field may have, the usual one first.
        optional: the table may be absent.
        absent: what the fields are then.
    """

    options: str
    inputs: tuple[int, int]
    version: int
    fields: int
    names: Mapping[str, str] = field(default_factory=dict)
    allowed: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    optional: bool = False
    absent: Mapping[str, float] = field(default_factory=dict)


_STRIDES = {"StrideH": "stride_h", "StrideW": "stride_w"}
_DILATION = {"DilationHFactor": "dilation_h", "DilationWFactor": "dilation_w"}
_WINDOW = _STRIDES | {"FilterHeight": "filter_h", "FilterWidth": "filter_w"}
_PLAIN_BIAS = (0, 2)
"""Types of a bias that mean int32: the schema's default, FLOAT32, and INT32."""

OPERATORS: dict[str, Known] = {
    "CONV_2D": Known(
        "Conv2DOptions", (2, 3), 8, 7, _STRIDES | _DILATION | {"QuantizedBiasType": "quantized_bias_type"},
        {"quantized_bias_type": _PLAIN_BIAS},
    ),
    "DEPTHWISE_CONV_2D": Known(
        "DepthwiseConv2DOptions", (2, 3), 7, 7, _STRIDES | _DILATION | {"DepthMultiplier": "depth_multiplier"}
    ),
    "FULLY_CONNECTED": Known(
        "FullyConnectedOptions", (2, 3), 13, 5,
        {
            "WeightsFormat": "weights_format", "KeepNumDims": "keep_num_dims",
            "AsymmetricQuantizeInputs": "asymmetric_quantize_inputs", "QuantizedBiasType": "quantized_bias_type",
        },
        {"weights_format": (0,), "quantized_bias_type": _PLAIN_BIAS},
    ),
    "ADD": Known("AddOptions", (2, 2), 5, 2, optional=True),
    "AVERAGE_POOL_2D": Known("Pool2DOptions", (1, 1), 3, 6, _WINDOW),
    "MAX_POOL_2D": Known("Pool2DOptions", (1, 1), 3, 6, _WINDOW),
    "MEAN": Known("ReducerOptions", (2, 2), 3, 1, {"KeepDims": "keep_dims"}, {}, True, {"keep_dims": 0}),
    "RESHAPE": Known("ReshapeOptions", (1, 2), 1, 1, optional=True),
    "SQUEEZE": Known("SqueezeOptions", (1, 1), 2, 1, optional=True),
    "PAD": Known("PadOptions", (2, 2), 4, 0, optional=True),
    "PADV2": Known("PadV2Options", (3, 3), 4, 0, optional=True),
    "RELU": Known("", (1, 1), 3, 0, optional=True),
    "RELU6": Known("", (1, 1), 3, 0, optional=True),
    "QUANTIZE": Known("QuantizeOptions", (1, 1), 4, 0, optional=True),
    "DEQUANTIZE": Known("DequantizeOptions", (1, 1), 6, 0, optional=True),
    "SOFTMAX": Known("SoftmaxOptions", (1, 1), 3, 1, {"Beta": "beta"}),
    "LOGISTIC": Known("", (1, 1), 3, 0, optional=True),
    "ARG_MAX": Known("ArgMaxOptions", (2, 2), 3, 1, {"OutputType": "output_type"}),
}  # fmt: skip
"""By the name of the builtin operator."""

_REPLACEMENTS = {
    "MUL": "a 1x1 depthwise convolution",
    "SUB": "a sum with negated weights",
    "LOGISTIC": "ReLU in the network, and the function on the host, as the last operator",
    "SOFTMAX": "nothing: leave it to the host, as the last operator",
    "ARG_MAX": "nothing: leave it to the host, as the last operator",
    "TANH": "ReLU in the network, and the function on the host",
    "HARD_SWISH": "ReLU6",
    "LEAKY_RELU": "ReLU",
    "PRELU": "ReLU",
    "CONCATENATION": "a sum of convolutions",
    "TRANSPOSE_CONV": "upsampling on the host",
    "BATCH_MATMUL": "FULLY_CONNECTED with constant weights",
}


def unsupported(kind: str, supported: Iterable[str]) -> UserError:
    """The error for an operator that no accelerator here runs."""
    instead = _REPLACEMENTS.get(kind, f"one of {', '.join(supported)}")
    return UserError(f"is not supported; what would replace it: {instead}")

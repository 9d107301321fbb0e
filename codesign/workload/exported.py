"""From a program of `torch.export` to a `Network` and its weights.

Every form that torch writes is read: what `torch.export.export` gives, and what `run_decompositions` makes of it
(convolution, addmm, mean in place of pooling and so on). Layers are named as the module's parameters are.

A .pt2 file may hold pickled objects, which torch would execute; a file with such members is refused.
"""

from __future__ import annotations

import io
import json
import operator
import warnings
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, fx
from torch.export import ExportedProgram

from codesign.errors import UserError
from codesign.workload.collector import INPUT, Collector
from codesign.workload.layers import BatchNorm, Conv, Layer, Linear
from codesign.workload.network import Network
from codesign.workload.torch_ops import ATEN, SUPPORTED, Handler, Reader, Unsupported, Value, pair, plus, symmetric


@dataclass(frozen=True, eq=False)
class Parameter:
    """A constant of the program: its dotted name and value; `turned` says that the graph transposed it."""

    name: str
    value: Tensor
    turned: bool = False

    @property
    def layer(self) -> str:
        """Name of the module that owns it."""
        return self.name.rpartition(".")[0] or self.name


def load_exported(path: str | Path) -> tuple[Network, dict[str, Tensor]]:
    """The network and the weights in a file of `torch.export.save`, named after the file.

    Raises:
        UserError: the file is missing, damaged or holds pickled objects, or what `read_exported` refuses.
    """
    path = Path(path)
    _refuse_pickles(path)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            program = torch.export.load(str(path))
    # Whatever a damaged archive makes of torch's reader.
    except Exception as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UserError(f"{path}: damaged, or no program of torch.export ({reason})") from None
    try:
        return read_exported(program, path.stem)
    except UserError as error:
        raise UserError(f"{path}: {error}") from None


def read_exported(program: ExportedProgram, name: str = "exported") -> tuple[Network, dict[str, Tensor]]:
    """The network that a program computes, and its state dict under the names of the network's layers.

    Args:
        program: of a module in evaluation mode with one (N, C, H, W) input and one result; N may be dynamic.
        name: of the network.

    Raises:
        UserError: a dynamic size other than the batch, weights that are not finite, or an operation that no
            accelerator here runs; the message names the node.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        # In-place operations become plain ones; nothing else is taken apart.
        program = program.run_decompositions({})
    shape = _input_shape(program, name)
    return _Exported(program, name, shape).read()


def _refuse_pickles(path: Path) -> None:
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.namelist()
            if not any(item.endswith("/archive_format") for item in members):
                raise UserError(f"{path}: no program of torch.export, or one of an old torch; export it again")
            for item in members:
                if item.endswith("_config.json") and '"use_pickle": true' in json.dumps(json.loads(archive.read(item))):
                    raise UserError(f"{path}: '{item}' lists pickled objects, which would be executed; not read")
                if "/data/sample_inputs/" in item:
                    torch.load(io.BytesIO(archive.read(item)), weights_only=True)
    except FileNotFoundError:
        raise UserError(f"{path}: no such file") from None
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror or error}") from None
    except zipfile.BadZipFile:
        raise UserError(f"{path}: no program of torch.export, or cut short (it is no complete zip archive)") from None
    except UserError:
        raise
    # torch refuses what is no tensor with several types of exception.
    except Exception:
        raise UserError(f"{path}: damaged, or holds pickled objects, which would be executed; not read") from None


def _input_shape(program: ExportedProgram, name: str) -> tuple[int, int, int]:
    signature = program.graph_signature
    if signature.buffers_to_mutate:
        changed = next(iter(signature.buffers_to_mutate.values()))
        raise UserError(f"network '{name}': changes '{changed}'; call eval() on the module before exporting it")
    inputs = signature.user_inputs
    if len(inputs) != 1 or len(signature.user_outputs) != 1:
        count = len(signature.user_outputs)
        raise UserError(f"network '{name}': has {len(inputs)} inputs and {count} outputs; 1 and 1 are supported")
    node = next(node for node in program.graph.nodes if node.name == inputs[0])
    sizes = tuple(node.meta["val"].shape)
    if len(sizes) not in (2, 4):
        raise UserError(f"network '{name}': input of {len(sizes)} dimensions; (N, C, H, W) and (N, features) are read")
    if not all(isinstance(size, int) for size in sizes[1:]):
        raise UserError(f"network '{name}': input of the dynamic shape {sizes}; all but the batch must be numbers")
    return (sizes[1], sizes[2], sizes[3]) if len(sizes) == 4 else (sizes[1], 1, 1)


class _Exported(Collector):
    """Walks the program's graph and collects layers and their weights."""

    def __init__(self, program: ExportedProgram, name: str, input_shape: tuple[int, int, int]) -> None:
        super().__init__(name, input_shape)
        self.program = program
        self.state: dict[str, Tensor] = {}
        self.values: dict[fx.Node, Any] = {}
        self.batch = 1
        """Images of the example that the program was exported with; 1 where the batch is dynamic."""
        self.base: str | None = None
        """Path of the torch module whose own code the node is, which names the layer."""

    def read(self) -> tuple[Network, dict[str, Tensor]]:
        signature = self.program.graph_signature
        names = {**signature.inputs_to_parameters, **signature.inputs_to_buffers}
        names |= signature.inputs_to_lifted_tensor_constants
        stored = {**self.program.state_dict, **self.program.constants}
        result: Any = None
        for node in self.program.graph.nodes:
            if node.op == "placeholder" and node.name in names:
                self.values[node] = Parameter(names[node.name], stored[names[node.name]].detach())
            elif node.op == "placeholder":
                self.values[node] = self._image(node)
            elif node.op == "output":
                result = self.values[node.args[0][-1]]
            else:
                self.values[node] = self._value(node)
        if not isinstance(result, Value) or result.padding is not None:
            raise UserError(f"network '{self.name}': the program must return one tensor that it computes")
        network = Network(self.name, self.reachable(result.layer))
        kept = {layer.name for layer in network.layers}
        return network, {key: value for key, value in self.state.items() if key.rpartition(".")[0] in kept}

    def _image(self, node: fx.Node) -> Value:
        image = Value(INPUT)
        sizes = node.meta["val"].shape
        self.batch = sizes[0] if isinstance(sizes[0], int) else 1
        return self.flatten(image) if len(sizes) == 2 else image

    def _value(self, node: fx.Node) -> Any:
        if node.op != "call_function":
            raise UserError(f"network '{self.name}': node '{node.name}' is a {node.op}, which is not supported")
        self._enter(node)
        args = fx.map_arg(node.args, lambda item: self.values[item])
        kwargs = fx.map_arg(node.kwargs, lambda item: self.values[item])
        title = node.target.__name__ if node.target is operator.getitem else str(node.target)
        if title.split(".")[1:2] in SOFTMAX and all(user.op == "output" for user in node.users):
            return args[0]  # the host's
        handler = HANDLERS.get(title)
        operands = [self.values[item] for item in node.all_input_nodes]
        try:
            if handler is None and not any(isinstance(item, Value | Parameter) for item in operands):
                return node.target(*args, **kwargs) if callable(node.target) else None  # arithmetic on sizes
            if handler is None:
                instead = REPLACEMENTS.get(title.split(".")[1] if "." in title else title, f"one of: {SUPPORTED}")
                raise Unsupported(f"calls '{title}', which is not supported; what would replace it: {instead}")
            return handler(self, *args, **kwargs)
        except Unsupported as error:
            where = f"'{node.name}'" + (f" in '{self.base or self.scope}'" if self.base or self.scope else "")
            raise UserError(f"network '{self.name}': node {where} {error}") from None
        except TypeError as error:
            raise UserError(f"network '{self.name}': node '{node.name}' cannot be understood: {error}") from None

    def _enter(self, node: fx.Node) -> None:
        """Where the node's code stands in the module."""
        stack = list(node.meta.get("nn_module_stack", {}).values())
        path, kind = stack[-1] if stack else ("", "")
        title = kind if isinstance(kind, str) else f"{kind.__module__}.{kind.__qualname__}"
        own = title.startswith("torch.nn.modules.") and ".container." not in title and bool(path)
        self.base, self.scope = (path, "") if own else (None, path)

    def emit(self, layer: Layer, base: str | None = None) -> Value:
        """As a collector does; a layer of torch's own module has that module's path as its name."""
        return super().emit(layer, base if base is not None else self.base)

    def keep(self, layer: str, **values: Parameter | None) -> None:
        """Remember the weights of a layer; UserError if they are used twice or hold NaN."""
        if f"{layer}.{next(iter(values))}" in self.state:
            raise Unsupported(f"uses the weights of '{layer}' again; layers that share weights are not supported")
        for key, value in values.items():
            if value is None:
                continue
            if not isinstance(value, Parameter):
                raise Unsupported(f"takes a computed tensor as its {key}; only constants are supported")
            if not value.value.isfinite().all():
                bad = int((~value.value.isfinite()).sum())
                raise Unsupported(f"has {bad} of the {value.value.numel()} numbers of '{value.name}' NaN or infinite")
            self.state[f"{layer}.{key}"] = value.value.t() if value.turned else value.value


def _conv(
    reader: _Exported,
    input: Any,
    weight: Any,
    bias: Any = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
) -> Value:
    if not isinstance(input, Value) or not isinstance(weight, Parameter):
        raise Unsupported("convolves with weights that are computed; only constants are supported")
    if weight.value.dim() != 4:
        raise Unsupported(f"has {weight.value.dim() - 2}-D windows; only 2-D are supported")
    if pair(dilation) != (1, 1):
        raise Unsupported(f"has dilation {dilation}; only 1 is supported")
    if input.padding is not None and input.fill != 0:
        raise Unsupported(f"reads a tensor padded with {input.fill}; only zeros are supported")
    rows, _, height, width = weight.value.shape
    if padding == "same":
        top, left = (height - 1) // 2, (width - 1) // 2
        around = (top, height - 1 - top, left, width - 1 - left)
    else:
        around = symmetric(0 if padding == "valid" else padding)
    name = weight.layer
    reader.keep(name, weight=weight, bias=bias)
    layer = Conv(
        name, (input.layer,), rows, (height, width), pair(stride), plus(around, input.padding), groups,
        bias is not None,
    )  # fmt: skip
    return reader.emit(layer, name)


def _convolution(
    reader: _Exported,
    input: Any,
    weight: Any,
    bias: Any,
    stride: Any,
    padding: Any,
    dilation: Any,
    transposed: bool,
    output_padding: Any,
    groups: int,
) -> Value:
    if transposed:
        raise Unsupported("is a transposed convolution; what would replace it: upsampling on the host")
    return _conv(reader, input, weight, bias, stride, padding, dilation, groups)


def _linear(reader: _Exported, input: Any, weight: Any, bias: Any = None) -> Value:
    if not isinstance(weight, Parameter):
        raise Unsupported("multiplies two computed tensors; only products with constant weights are supported")
    reader.keep(weight.layer, weight=weight, bias=bias)
    rows = weight.value.shape[1 if weight.turned else 0]
    layer = Linear(weight.layer, (reader.source(input),), out_features=rows, bias=bias is not None)
    return reader.emit(layer, weight.layer)


def _addmm(reader: _Exported, input: Any, mat1: Any, mat2: Any, *, beta: float = 1, alpha: float = 1) -> Value:
    if beta != 1 or alpha != 1:
        raise Unsupported("scales its sum (alpha, beta); what would replace it: scaled weights")
    return _linear(reader, mat1, _turned(reader, mat2), input)


def _mm(reader: _Exported, input: Any, mat2: Any) -> Value:
    return _linear(reader, input, _turned(reader, mat2))


def _turned(reader: Reader, input: Any, *axes: Any) -> Parameter:
    """A transposed constant matrix."""
    if not isinstance(input, Parameter) or input.value.dim() != 2:
        raise Unsupported("transposes a computed tensor; maps must stay (N, C, H, W)")
    if axes and axes not in (([1, 0],), (0, 1), (1, 0), (-1, -2), (-2, -1)):
        raise Unsupported(f"permutes a constant by {axes}; only transposing is supported")
    return replace(input, turned=not input.turned)


def _norm(
    reader: _Exported,
    input: Any,
    weight: Any,
    bias: Any,
    running_mean: Any,
    running_var: Any,
    training: bool,
    momentum: float,
    eps: float,
    cudnn_enabled: bool = False,
) -> Value:
    if training or running_mean is None:
        raise Unsupported("normalises by the batch's own statistics; call eval() on the module before exporting it")
    name, ones = running_mean.layer, torch.ones_like(running_mean.value)
    weight = weight if weight is not None else Parameter(f"{name}.weight", ones)
    bias = bias if bias is not None else Parameter(f"{name}.bias", 0 * ones)
    reader.keep(name, running_mean=running_mean, running_var=running_var, weight=weight, bias=bias)
    return reader.emit(BatchNorm(name, (reader.source(input),), eps=eps), name)


def _inference_norm(
    reader: _Exported, input: Any, weight: Any, bias: Any, mean: Any, variance: Any, momentum: float, eps: float
) -> Any:
    return (_norm(reader, input, weight, bias, mean, variance, False, momentum, eps), None, None)


def _view(reader: _Exported, input: Any, sizes: Any) -> Value:
    # Where the batch is not dynamic, the sizes hold that of the example.
    shape = (1, *sizes[1:]) if sizes and sizes[0] == reader.batch else tuple(sizes)
    return ATEN["aten.view.default"](reader, input, *shape)  # type: ignore[no-any-return]


def _dropout(reader: _Exported, input: Any, p: float, train: bool) -> Value:
    if train:
        raise Unsupported("drops values; call eval() on the module before exporting it")
    return Value(reader.source(input))


HANDLERS: Mapping[str, Handler] = {
    **ATEN,
    "aten.conv2d.default": _conv,
    "aten.conv2d.padding": _conv,
    "aten.convolution.default": _convolution,
    "aten.batch_norm.default": _norm,
    "aten._native_batch_norm_legit_no_training.default": _inference_norm,
    "aten.linear.default": _linear,
    "aten.addmm.default": _addmm,
    "aten.mm.default": _mm,
    "aten.t.default": _turned,
    "aten.permute.default": _turned,
    "aten.transpose.int": _turned,
    "aten.dropout.default": _dropout,
    "aten.view.default": _view,
    "aten.reshape.default": _view,
    "aten._unsafe_view.default": _view,
}
"""By the name of torch's operator; each handler has the operator's own signature after the reader."""

SOFTMAX = [["softmax"], ["_softmax"], ["log_softmax"], ["_log_softmax"]]
"""Operators that stay on the host where they end the network."""
REPLACEMENTS = {
    "sigmoid": "ReLU, and the function on the host",
    "tanh": "ReLU, and the function on the host",
    "leaky_relu": "ReLU",
    "prelu": "ReLU",
    "elu": "ReLU",
    "gelu": "ReLU",
    "silu": "ReLU",
    "hardswish": "ReLU6",
    "mul": "batch norm, or a 1x1 depthwise convolution",
    "sub": "a sum with negated weights",
    "div": "scaled weights",
    "cat": "a sum of convolutions",
    "split": "two convolutions",
    "slice": "a convolution with fewer filters",
    "conv_transpose2d": "upsampling on the host and a convolution",
    "upsample_nearest2d": "upsampling on the host",
    "layer_norm": "batch norm",
    "group_norm": "batch norm",
    "instance_norm": "batch norm",
    "softmax": "nothing: leave it to the host, behind the last layer",
    "log_softmax": "nothing: leave it to the host, behind the last layer",
}
"""What a network could use instead of an operator that no accelerator here runs."""

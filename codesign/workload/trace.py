"""From a torch module to a `Network`, by symbolic tracing (torch.fx).

The module's own code decides the graph; nothing runs on data. Supported: 2-D convolution with any zero padding
(module attribute, "same", `F.pad`, ZeroPad2d), batch norm, linear, ReLU and ReLU6 (also as clamp or hardtanh from 0),
sum of two tensors, max pooling, average pooling (window, adaptive, mean over space), flatten in its spellings;
dropout and identity vanish. Each of them may be a module, a function, a method or an operator where torch has that
form. Anything else is a `UserError` that names the operation and where it is.

A module of one's own takes part by a method `as_layer(name, inputs) -> Layer`; it is then not looked into.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from typing import Any, Protocol, runtime_checkable

from torch import fx, nn

from codesign.errors import UserError
from codesign.workload.collector import INPUT, Collector
from codesign.workload.layers import Layer
from codesign.workload.network import Network
from codesign.workload.torch_modules import MODULES
from codesign.workload.torch_ops import FUNCTIONS, METHODS, SUPPORTED, Unsupported, Value, dropout


@runtime_checkable
class AsLayer(Protocol):
    """A module that says itself which layer it is."""

    def as_layer(self, name: str, inputs: tuple[str, ...]) -> Layer:
        """The layer, called `name`, reading `inputs`."""
        ...


def trace(module: nn.Module, input_shape: tuple[int, int, int], name: str | None = None) -> Network:
    """The network that `module` computes on one (channels, height, width) image.

    Args:
        module: any module whose forward takes one (N, C, H, W) tensor and returns one tensor.
        input_shape: (channels, height, width) of the image.
        name: of the network; the module's class, in small letters, by default.

    Raises:
        UserError: the forward cannot be traced, or uses something that no accelerator here runs.
    """
    name = name if name is not None else type(module).__name__.lower()
    try:
        graph = fx.GraphModule(module, _Tracer().trace(module)).graph
    # Whatever a module's own code does with symbolic values may end in any exception.
    except Exception as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UserError(f"network '{name}': forward cannot be traced: {reason}") from error
    _refuse_hidden_writes(name, graph)
    graph.eliminate_dead_code()
    return _Reader(module, name, input_shape).read(graph)


class _Proxy(fx.Proxy):
    """A symbolic value on which `x += y` is what it is for tensors, an operation in place."""

    def __iadd__(self, other: Any) -> fx.Proxy:
        return self.tracer.create_proxy("call_function", operator.iadd, (self, other), {})


class _Tracer(fx.Tracer):
    def proxy(self, node: fx.Node) -> fx.Proxy:
        return _Proxy(node, self)

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return isinstance(m, AsLayer) or bool(super().is_leaf_module(m, module_qualified_name))


def _refuse_hidden_writes(name: str, graph: fx.Graph) -> None:
    """An in-place call changes its operand and every view of it: reading one of them afterwards would mean the new
    value.
    """
    order = {node: index for index, node in enumerate(graph.nodes)}
    memory: dict[fx.Node, fx.Node] = {}
    for node in graph.nodes:
        source = node.all_input_nodes[0] if node.all_input_nodes else None
        if source is None:
            continue
        if _in_place(graph, node):
            first = memory.get(source, source)
            views = [item for item in (first, *memory) if memory.get(item, item) is first and order[item] < order[node]]
            for item in views:
                if any(order[user] > order[node] for user in item.users):
                    raise UserError(
                        f"network '{name}': '{node.name}' changes '{source.name}' in place and '{item.name}' is read "
                        "again afterwards; use the operation's result instead"
                    )
        if _in_place(graph, node) or _shares(graph, node):
            memory[node] = memory.get(source, source)


def _in_place(graph: fx.Graph, node: fx.Node) -> bool:
    if node.op == "call_module":
        assert graph.owning_module is not None
        return bool(getattr(graph.owning_module.get_submodule(str(node.target)), "inplace", False))
    title = node.target if isinstance(node.target, str) else getattr(node.target, "__name__", "")
    if node.op == "call_function" and node.target is operator.iadd:
        return True
    if (title.endswith("_") and not title.endswith("__")) or bool(node.kwargs.get("inplace")):
        return True
    # F.relu(x, True)
    return (
        node.op == "call_function" and title in INPLACE_POSITION and node.args[INPLACE_POSITION[title] :][:1] == (True,)
    )


def _shares(graph: fx.Graph, node: fx.Node) -> bool:
    """Whether the result may have the memory of the first operand."""
    if node.op == "call_module":
        assert graph.owning_module is not None
        kind = type(graph.owning_module.get_submodule(str(node.target)))
        return kind in (nn.Flatten, nn.Dropout, nn.Dropout2d, nn.Identity)
    title = node.target if isinstance(node.target, str) else getattr(node.target, "__name__", "")
    return title in ("flatten", "reshape", "view", "contiguous", "dropout", "dropout2d")


INPLACE_POSITION = {"relu": 1, "relu6": 1, "hardtanh": 3, "dropout": 3, "dropout2d": 3}
"""Where torch.nn.functional takes `inplace` among its positional arguments."""


class _Reader(Collector):
    """Walks the traced graph and collects layers."""

    def __init__(self, module: nn.Module, name: str, input_shape: tuple[int, int, int]) -> None:
        super().__init__(name, input_shape)
        self.module = module
        self.called: set[str] = set()
        self.values: dict[fx.Node, Any] = {}

    def read(self, graph: fx.Graph) -> Network:
        for node in graph.nodes:
            self.values[node] = self._value(node)
            if node.op == "output":
                break
        result = self.values[node]
        if not isinstance(result, Value) or result.padding is not None:
            raise UserError(f"network '{self.name}': forward must return one tensor")
        return Network(self.name, self.reachable(result.layer))

    def _value(self, node: fx.Node) -> Any:
        args = fx.map_arg(node.args, lambda item: self.values[item])
        kwargs = fx.map_arg(node.kwargs, lambda item: self.values[item])
        if node.op == "placeholder":
            return self._placeholder(node)
        if node.op == "output":
            return args[0]
        stack = list(node.meta.get("nn_module_stack", {}))
        self.scope = stack[-1] if stack else ""
        try:
            if node.op == "call_module":
                return self._call_module(str(node.target), args, kwargs)
            if node.op in ("call_function", "call_method"):
                return self._call(node, args, kwargs)
            raise Unsupported("is used as a tensor of its own; only tensors computed from the image are supported")
        except Unsupported as error:
            raise UserError(f"network '{self.name}': '{self._where(node)}' {error}") from None
        except TypeError as error:
            raise UserError(f"network '{self.name}': '{self._where(node)}' cannot be understood: {error}") from None

    def _placeholder(self, node: fx.Node) -> Any:
        if INPUT in [value.layer for value in self.values.values() if isinstance(value, Value)]:
            if node.args:
                return node.args[0]
            raise UserError(f"network '{self.name}': forward takes a second input, '{node.name}'; one is supported")
        return Value(INPUT)

    def _where(self, node: fx.Node) -> str:
        if node.op == "call_module":
            return str(node.target)
        return f"{self.scope}.{node.name}" if self.scope else node.name

    def _call_module(self, path: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        part = self.module.get_submodule(path)
        if isinstance(part, AsLayer):
            inputs = tuple(self.source(value) for value in args)
            return self.emit(part.as_layer(path, inputs), path)
        handler = MODULES.get(type(part))
        if handler is None:
            raise Unsupported(f"is a {type(part).__name__}; supported are {SUPPORTED}")
        if any(True for _ in part.parameters()):
            if path in self.called:
                raise Unsupported("is called twice; layers that share weights are not supported")
            self.called.add(path)
        return handler(self, path, part, *args, **kwargs)

    def _call(self, node: fx.Node, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        table: Mapping[Any, Callable[..., Any]] = METHODS if node.op == "call_method" else FUNCTIONS
        function = table.get(node.target)
        if function is dropout and not self.module.training and _drops(*args, **kwargs):
            raise Unsupported("drops values in evaluation too; give it training=self.training")
        operands = [*args, *kwargs.values()]
        if function is None and not any(isinstance(item, Value) for item in operands) and callable(node.target):
            return node.target(*args, **kwargs)  # arithmetic on sizes: plain numbers
        if function is None:
            title = node.target if node.op == "call_method" else getattr(node.target, "__name__", node.target)
            raise Unsupported(f"calls '{title}'; supported are {SUPPORTED}")
        return function(self, *args, **kwargs)


def _drops(input: Any, p: float = 0.5, training: bool = True, inplace: bool = False) -> bool:
    return bool(training) and p != 0

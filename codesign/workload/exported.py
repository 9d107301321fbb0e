"""From a program of `torch.export` to a `Network` and its weights.

Every form that torch writes is read: what `torch.export.export` gives, and what `run_decompositions` makes of it
(convolution, addmm, mean in place of pooling and so on). Layers are named as the module's parameters are.

A file is read without torch's own reader, which would execute what a file says (see
`codesign.workload.exported_archive`). Every argument of every operation is used or refused, and the size that the
file states for every tensor is compared with the one that is computed here.
"""

from __future__ import annotations

import io
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from torch import Tensor

from codesign._reading import MOST_MODEL, opened
from codesign.errors import UserError
from codesign.workload.collector import INPUT, Collector
from codesign.workload.exported_archive import Archive, short
from codesign.workload.exported_ops import OPERATIONS, REPLACEMENTS, Computed, Parameter
from codesign.workload.exported_program import Node, Other, Program, Reference, TensorType, read_program
from codesign.workload.layers import BatchNorm, Conv, Layer, Linear
from codesign.workload.network import Network
from codesign.workload.torch_ops import SUPPORTED, Unsupported, Value, shown

if TYPE_CHECKING:
    from torch.export import ExportedProgram

LARGEST_INPUT = 1 << 28
"""Numbers of an image, at most."""


def load_exported(path: str | Path) -> tuple[Network, dict[str, Tensor]]:
    """The network and the weights in a file of `torch.export.save`, named after the file.

    Raises:
        UserError: the file is missing, damaged or holds pickled objects, or what `read_exported` refuses.
    """
    return load_exported_end(path)[:2]


def load_exported_end(path: str | Path) -> tuple[Network, dict[str, Tensor], str | None]:
    """As `load_exported`, and the operation that ends the program and is left to the host, a key of `ENDS`, or None."""
    path = Path(path)
    with opened(path, MOST_MODEL) as file:
        try:
            return _read(file, path.stem)
        except UserError as error:
            raise UserError(f"{path}: {error}") from None


def read_exported(program: ExportedProgram, name: str = "exported") -> tuple[Network, dict[str, Tensor]]:
    """The network that a program computes, and its state dict; see `read_exported_end`."""
    return read_exported_end(program, name)[:2]


def read_exported_end(
    program: ExportedProgram, name: str = "exported"
) -> tuple[Network, dict[str, Tensor], str | None]:
    """The network that a program computes, its state dict under the names of the layers, and the host's operation.

    The operation is what ends the program and is left to the host, a key of `ENDS`, or None.

    Args:
        program: of a module in evaluation mode with one (N, C, H, W) input and one result; N may be dynamic.
        name: of the network.

    Raises:
        UserError: a dynamic size other than the batch, weights that are not finite, or an operation that no
            accelerator here runs; the message names the node.
    """
    import torch

    file = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            torch.export.save(program, file)
        # What torch cannot write down (objects of one's own) ends in whatever its serializer stumbles on.
        except Exception as error:
            raise UserError(f"network '{name}': torch cannot save the program: {short(str(error), 200)}") from None
    return _read(file, name)


def _read(file: BinaryIO, name: str) -> tuple[Network, dict[str, Tensor], str | None]:
    archive = Archive(file)
    try:
        reader = _Exported(read_program(archive.program), archive, name)
        return (*reader.read(), reader.end)
    except UserError as error:
        message = str(error)
        raise UserError(message if message.startswith("network '") else f"network '{name}': {message}") from None


def _image_shape(program: Program) -> tuple[tuple[int, int, int], int | None]:
    """(channels, height, width) of the input and the batch, None where it is dynamic."""
    if program.changed:
        raise UserError(f"changes '{short(program.changed[0])}'; call eval() on the module before exporting it")
    sizes = program.types[program.image].sizes
    if len(sizes) not in (2, 4):
        raise UserError(f"input of {len(sizes)} dimensions; (N, C, H, W) and (N, features) are read")
    batch, *rest = sizes
    numbers = [item for item in rest if isinstance(item, int)]
    if len(numbers) != len(rest):
        text = short(", ".join(map(str, sizes)), 200)
        raise UserError(f"input of the dynamic shape ({text}); all but the batch must be numbers")
    numbers = [*numbers, 1, 1][:3]
    if numbers[0] * numbers[1] * numbers[2] > LARGEST_INPUT:
        raise UserError(f"input of {short(str(tuple(numbers)))}; at most {LARGEST_INPUT:,} numbers are supported")
    return (numbers[0], numbers[1], numbers[2]), batch if isinstance(batch, int) else None


class _Exported(Collector):
    """Walks the program's graph and collects layers and their weights."""

    def __init__(self, program: Program, archive: Archive, name: str) -> None:
        missing = [item for item in program.constants.values() if item not in archive.tensors]
        if program.image not in program.types or missing:
            raise UserError(f"damaged: it has no '{short(missing[0] if missing else program.image)}'")
        shape, batch = _image_shape(program)
        super().__init__(name, shape)
        self.batch = batch
        self.program = program
        self.archive = archive
        self.state: dict[str, Tensor] = {}
        self.values: dict[str, Any] = {}
        self.shared: dict[str, str] = {}
        """By tensor: the first one that has the same memory, as a view has."""
        self.overwritten: dict[str, str] = {}
        """Tensors that an operation in place has changed, and that operation."""
        self.shifts: set[str] = set()
        """Batch norms that only add a constant."""
        self.end: str | None = None
        """What the host computes of the result."""
        self.base: str | None = None
        """Path of the torch module whose own code the node is, which names the layer."""

    def read(self) -> tuple[Network, dict[str, Tensor]]:
        for name, dotted in self.program.constants.items():
            self.values[name] = Parameter(dotted, self.archive.tensor(dotted))
        image = Value(INPUT)
        sizes = self.program.types[self.program.image].sizes
        self.values[self.program.image] = self.flatten(image) if len(sizes) == 2 else image
        self._check_type(self.program.image)
        for node in self.program.nodes:
            self._run(node)
        result = self.values.get(self.program.result)
        if not isinstance(result, Value) or result.padding is not None:
            raise UserError("the program must return one tensor that it computes")
        if self.program.result in self.overwritten:
            raise UserError(f"returns '{short(self.program.result)}' after it was changed in place")
        network = self._with_shifts(Network(self.name, self.reachable(result.layer)))
        kept = {layer.name for layer in network.layers}
        return network, {key: value for key, value in self.state.items() if key.rpartition(".")[0] in kept}

    def _run(self, node: Node) -> None:
        self._enter(node)
        try:
            results = self._results(node)
            if len(results) != len(node.outputs):
                raise Unsupported(f"gives {len(node.outputs)} results, must give {len(results)}")
            for name, value in zip(node.outputs, results, strict=True):
                if name in self.values:
                    raise Unsupported(f"gives '{short(name)}', which is there already")
                self.values[name] = value
                if self.end is None or name != self.program.result:
                    self._check_type(name)
        except Unsupported as error:
            where = f"'{short(node.name)}'"
            where += f" in '{short(self.base or self.scope)}'" if self.base or self.scope else ""
            raise UserError(f"node {where} {short(str(error), 500)}") from None
        except (TypeError, ValueError, LookupError, ArithmeticError, RuntimeError) as error:
            reason = short(str(error), 100)
            raise UserError(f"node '{short(node.name)}' cannot be understood: {reason}") from None

    def _results(self, node: Node) -> tuple[Any, ...]:
        if node.target in CHECKS:
            return (None,) * len(node.outputs)
        if node.target in ENDS and node.outputs == (self.program.result,) and self.end is None:
            return (self._host(node),)
        title, overload = node.target.rsplit(".", 1) if "." in node.target else (node.target, "")
        in_place = title.startswith("aten.") and title.endswith("_") and not title.endswith("__")
        operation = OPERATIONS.get(f"{title.removesuffix('_')}.{overload}" if in_place else node.target)
        read = [self._argument(value) for value in node.arguments.values()]
        if in_place and title not in NEUTRAL and read and isinstance(read[0], Parameter):
            raise Unsupported(f"changes {shown(read[0])}; call eval() on the module before exporting it")
        flat = [item for value in read for item in (value if isinstance(value, list) else [value])]
        if operation is None and not any(isinstance(item, Value) for item in flat):
            return (Computed(short(node.target)),) * len(node.outputs)
        if operation is None:
            words = node.target.split(".")
            instead = REPLACEMENTS.get(words[1] if len(words) > 1 else words[0], f"one of: {SUPPORTED}")
            raise Unsupported(f"calls '{short(node.target)}', which is not supported; what would replace it: {instead}")
        handler, names = operation
        unknown = [name for name in node.arguments if name not in names.split()]
        if unknown:
            raise Unsupported(f"has the argument '{short(unknown[0])}', which is not known")
        arguments = {{"self": "input"}.get(name, name): self._argument(value) for name, value in node.arguments.items()}
        found = handler(self, **arguments)
        results = found if isinstance(found, tuple) else (found,)
        self._share(node, title, in_place, results[0])
        return results

    def _argument(self, value: Any) -> Any:
        if isinstance(value, Reference):
            if value.name in self.overwritten:
                raise Unsupported(
                    f"reads '{short(value.name)}' after '{short(self.overwritten[value.name])}' changed it in place; "
                    "use the operation's result instead"
                )
            if self.end is not None and value.name == self.program.result:
                raise Unsupported(f"reads '{short(value.name)}', which the host computes behind the last layer")
            if value.name not in self.values:
                raise Unsupported(f"reads '{short(value.name)}', which nothing computes")
            return self.values[value.name]
        if isinstance(value, list):
            return [self._argument(item) for item in value]
        if isinstance(value, Other):
            return value.value
        return value

    def _share(self, node: Node, title: str, in_place: bool, result: Any) -> None:
        """Note whose memory the result has; after an operation in place, which tensors are no longer what they were."""
        source = node.arguments.get("self", node.arguments.get("input"))
        if not isinstance(source, Reference) or not node.outputs:
            return
        first = self.shared.get(source.name, source.name)
        if in_place and title not in NEUTRAL:
            before = self.values[source.name]
            for name in (first, *(item for item, other in self.shared.items() if other == first)):
                # A tensor of the same shape is the result now; another view of the memory is not followed.
                if name == source.name or self.values[name] == before:
                    self.values[name] = result
                else:
                    self.overwritten[name] = node.name
        if in_place or title in SHARING:
            self.shared[node.outputs[0]] = first

    def _host(self, node: Node) -> Any:
        """What stands before an operation that ends the program and is left to the host."""
        value = self._argument(node.arguments["self"])
        others = {key: self._argument(item) for key, item in node.arguments.items() if key != "self"}
        axis = others.pop("dim", 1 if node.target == "aten.sigmoid.default" else None)
        if others not in ({}, {"half_to_float": False}, {"dtype": None}, {"dtype": "float32"}, {"keepdim": False}):
            raise Unsupported(f"has the arguments {short(str(others))}, which the host does not know")
        if not isinstance(value, Value) or value.padding is not None:
            raise Unsupported("ends the program on what no layer computes")
        if axis not in (1, -len(self.shape(value))):
            raise Unsupported(f"is over axis {short(str(axis))}; only over the channels, axis 1, is supported")
        self.end = ENDS[node.target]
        return value

    def _check_type(self, name: str) -> None:
        """Compare a tensor with what the file says of it."""
        value, stated = self.values[name], self.program.types.get(name)
        if not isinstance(value, Value):
            return
        if stated is None:
            raise Unsupported(f"gives '{short(name)}', of which the file states no size")
        if stated.dtype != "float32":
            raise Unsupported(f"gives '{short(name)}' in {short(stated.dtype)}; only float32 is supported")
        shape = self.shape(value)
        if value.padding is not None:
            top, bottom, left, right = value.padding
            shape = (shape[0], shape[1] + top + bottom, shape[2] + left + right)
        whole = (self.program.types[self.program.image].sizes[0], *shape)
        if not _same(stated, whole):
            text = short(", ".join(map(str, stated.sizes)), 200)
            raise Unsupported(f"gives {short(str(shape))} for each image, and the file states ({text})")

    def _enter(self, node: Node) -> None:
        """Where the node's code stands in the module."""
        path, title = node.module
        own = title.startswith("torch.nn.modules.") and ".container." not in title and bool(path)
        self.base, self.scope = (path, "") if own else (None, path)

    def emit(self, layer: Layer, base: str | None = None) -> Value:
        """As a collector does; a layer of torch's own module has that module's path as its name."""
        return super().emit(layer, base if base is not None else self.base)

    def keep(self, layer: str, **values: Any) -> None:
        """Remember the weights of a layer; Unsupported if they are used twice, computed or hold NaN."""
        if f"{layer}.{next(iter(values))}" in self.state:
            raise Unsupported(f"uses the weights of '{layer}' again; layers that share weights are not supported")
        for key, value in values.items():
            if value is None:
                continue
            if not isinstance(value, Parameter):
                raise Unsupported(f"takes a computed tensor as its {key}; only constants are supported")
            if not value.value.is_floating_point():
                raise Unsupported(f"takes '{short(value.name)}' of {value.value.dtype}; only floats are supported")
            if not value.value.isfinite().all():
                bad = int((~value.value.isfinite()).sum())
                raise Unsupported(f"has {bad} of the {value.value.numel()} numbers of '{value.name}' NaN or infinite")
            self.state[f"{layer}.{key}"] = value.value

    def shift(self, value: Any, offset: Tensor) -> Value:
        """The tensor plus a constant per channel: a batch norm, or more bias of the layer before it."""
        channels = self.shape(value)[0]
        found = self.emit(BatchNorm("add", (self.source(value),), eps=0.0))
        zeros = Tensor([0.0]).expand(channels)
        self.keep(
            found.layer,
            running_mean=Parameter("zeros", zeros.clone()),
            running_var=Parameter("ones", zeros + 1),
            weight=Parameter("ones", zeros + 1),
            bias=Parameter("constant", offset.float().expand(channels).clone()),
        )
        self.shifts.add(found.layer)
        return found

    def _with_shifts(self, network: Network) -> Network:
        """Constants that are added to a layer with a bias, and read by nothing else, in that bias."""
        layers = {layer.name: layer for layer in network.layers}
        for name in [name for name in layers if name in self.shifts]:
            source = layers[layers[name].inputs[0]]
            readers = [layer for layer in layers.values() if source.name in layer.inputs]
            if len(readers) > 1 or not isinstance(source, Conv | Linear | BatchNorm):
                continue
            offset, old = self.state[f"{name}.bias"], self.state.get(f"{source.name}.bias")
            self.state[f"{source.name}.bias"] = offset if old is None else old + offset
            if not isinstance(source, BatchNorm):
                layers[source.name] = _changed(source, bias=True)
            del layers[name]
            for other in layers.values():
                renamed = tuple(source.name if item == name else item for item in other.inputs)
                layers[other.name] = _changed(other, inputs=renamed)
        return Network(self.name, tuple(layers.values()))


def _changed(layer: Layer, **values: Any) -> Layer:
    return type(layer)(**{**vars(layer), **values})


def _same(stated: TensorType, sizes: tuple[int | str, ...]) -> bool:
    """Whether sizes are equal; a dynamic batch is one text everywhere."""
    return len(stated.sizes) == len(sizes) and all(a == b for a, b in zip(stated.sizes, sizes, strict=True))


ENDS = {
    "aten.softmax.int": "softmax",
    "aten._softmax.default": "softmax",
    "aten.log_softmax.int": "log_softmax",
    "aten._log_softmax.default": "log_softmax",
    "aten.sigmoid.default": "sigmoid",
    "aten.argmax.default": "argmax",
}
"""Operators that stay on the host where they end the network."""
NEUTRAL = frozenset({"aten.detach_", "aten.dropout_", "aten.feature_dropout_"})
"""Operators in place that change no value in evaluation."""
SHARING = frozenset(
    f"aten.{name}"
    for name in (
        *("view", "_unsafe_view", "reshape", "flatten", "contiguous", "alias", "detach", "dropout", "t", "permute"),
        *("transpose", "unsqueeze", "feature_dropout"),
    )
)
"""Operators whose result has, or may have, the memory of what they read."""
CHECKS = frozenset(
    f"aten.{name}.default"
    for name in (
        *("_assert_scalar", "_assert_tensor_metadata", "_assert_async"),
        *("sym_constrain_range", "sym_constrain_range_for_size"),
    )
) | {f"_operator.{name}" for name in ("ge", "gt", "le", "lt", "eq", "ne", "and_")}
"""Conditions on sizes and types under which the program was exported; they change no value."""

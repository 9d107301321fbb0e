"""The network that sensitivities look at: trained, in float, batch norms folded, with some training images."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import torch
from torch import Tensor, nn

from codesign.allocation.space import RowGroup, Space
from codesign.errors import UserError
from codesign.formats.row_format import RowFormat, dequantize, fit_scale, quantize
from codesign.integer.layer_bits import maps_read
from codesign.quant.calibration import MINMAX, MSE
from codesign.quant.fake_quant import ActivationQuantizer
from codesign.quant.module import NetworkModule
from codesign.quant.placing import array, placed
from codesign.quant.qat import QatNetwork
from codesign.quant.training import threads

BATCH = 64


@dataclass(frozen=True, eq=False)
class Subject:
    """A float network.

    Attributes:
        space: groups and choices.
        model: its passes; used with `quantized` False, and never changed for long.
        module: its layers, batch norms not folded.
        images, labels: of the training images, those that sensitivities see.
        seed: of what they draw.
        training: all training images (N, C, H, W) and class numbers (N,), for those that train.
    """

    space: Space
    model: QatNetwork
    module: NetworkModule
    images: Tensor
    labels: Tensor
    seed: int = 0
    training: tuple[Tensor, Tensor] | None = None
    _known: dict[tuple[str, RowFormat], Tensor] = field(default_factory=dict)
    _quantizers: dict[tuple[str, int], ActivationQuantizer] = field(default_factory=dict)

    def to_train_on(self, given: tuple[Tensor, Tensor] | None = None) -> tuple[Tensor, Tensor]:
        """Images and class numbers: those that are given, else all training images, else those that are seen.

        Raises:
            UserError: there are no class numbers.
        """
        images, labels = given or self.training or (self.images, self.labels)
        if not len(labels) or int(labels.min()) < 0:
            raise UserError(f"network '{self.space.network.name}': no images with classes, which training needs")
        return images, labels

    def weights(self, layer: str) -> Tensor:
        """(rows, weights of a row) of a layer."""
        return self.model.conv(layer).weight.detach().flatten(1)

    def error(self, layer: str, form: RowFormat) -> Tensor:
        """Quantized less float weights (rows, weights of a row), with scales of least squared error by row."""
        if (layer, form) not in self._known:
            weights = array(self.weights(layer).double())
            formats = [form] * len(weights)
            scale = fit_scale(weights, formats)
            rounded = dequantize(quantize(weights, scale, formats), scale)
            self._known[layer, form] = placed(rounded - weights).float()
        return self._known[layer, form]

    def group_error(self, group: RowGroup, form: RowFormat) -> Tensor:
        """The same of a group's rows; of a layer's other rows 0."""
        error = self.error(group.layer, form)
        if group.whole:
            return error
        only = torch.zeros_like(error)
        only[slice(*group.rows)] = error[slice(*group.rows)]
        return only

    def squared_errors(self) -> np.ndarray:
        """(groups, choices) sums of squared errors of weights."""
        found = np.zeros((len(self.space.groups), len(self.space.choices)))
        for number, group in enumerate(self.space.groups):
            for place, choice in enumerate(self.space.choices):
                error = self.error(group.layer, choice.form)[slice(*group.rows)].double()
                found[number, place] = float((error * error).sum())
        return found

    @cached_property
    def maps(self) -> dict[str, Tensor]:
        """Values of every map that a weighted layer reads, of all images, by layer."""
        seen: dict[str, list[Tensor]] = {name: [] for name in self.space.convs}
        hooks = [
            self.model.conv(name).register_forward_pre_hook(
                lambda _, args, name=name: seen[name].append(args[0].detach())
            )
            for name in seen
        ]
        try:
            self.results()
        finally:
            for hook in hooks:
                hook.remove()
        return {name: torch.cat(parts) for name, parts in seen.items()}

    def quantizer(self, layer: str, bits: int) -> ActivationQuantizer:
        """Of the map that the layer reads, its range of least squared error; the image's is its whole range."""
        tensor = maps_read(self.space.fused)[layer]
        if (tensor, bits) not in self._quantizers:
            described = self.model.fused.tensors[tensor]
            made = ActivationQuantizer(bits, described.signed, described.limit)
            made.fit(self.maps[layer], MINMAX if tensor == self.model.fused.input.name else MSE)
            self._quantizers[tensor, bits] = made
        return self._quantizers[tensor, bits]

    @contextmanager
    def changed(
        self,
        errors: Mapping[str, Tensor],
        maps: Mapping[str, int] | None = None,
        pruned: tuple[RowGroup, ...] = (),
    ) -> Iterator[None]:
        """Within the block layers have their weights with these errors, and read their maps in so many bits.

        The rows of the groups `pruned` have no biases.
        """
        biases = {group.layer: self.model.conv(group.layer).bias.detach().clone() for group in pruned}
        before = {name: self.model.conv(name).weight.detach().clone() for name in errors}
        hooks = []

        def reads(quantizer: ActivationQuantizer) -> object:
            return lambda _, args: (quantizer(args[0]), *args[1:])

        for name, bits in (maps or {}).items():
            hooks.append(self.model.conv(name).register_forward_pre_hook(reads(self.quantizer(name, bits))))  # type: ignore[arg-type]
        try:
            with torch.no_grad():
                for name, error in errors.items():
                    self.model.conv(name).weight.copy_(before[name] + error.reshape(before[name].shape))
                for group in pruned:
                    self.model.conv(group.layer).bias[slice(*group.rows)] = 0
            yield
        finally:
            with torch.no_grad():
                for name, weight in before.items():
                    self.model.conv(name).weight.copy_(weight)
                for name, bias in biases.items():
                    self.model.conv(name).bias.copy_(bias)
            for hook in hooks:
                hook.remove()

    @contextmanager
    def in_float(self) -> Iterator[QatNetwork]:
        """The model, without quantizers within the block."""
        was, training = self.model.quantized, self.model.training
        self.model.quantized = False
        self.model.eval()
        try:
            with threads(1):
                yield self.model
        finally:
            self.model.quantized = was
            self.model.train(training)

    @torch.no_grad()
    def results(self) -> Tensor:
        """(images, classes) results of the float network, as it is at present."""
        with self.in_float() as model:
            return torch.cat([model(part).flatten(1) for part in torch.split(self.images, BATCH)])

    @cached_property
    def float_results(self) -> Tensor:
        """(images, classes) results of the unchanged float network."""
        return self.results()

    def results_with(self, group: RowGroup, place: int) -> Tensor:
        """(images, classes) results where a group alone has its choice, and all else is float."""
        choice = self.space.choices[place]
        # a layer reads one map: its rows cannot read it in several widths
        maps = {group.layer: choice.act_bits} if group.whole else {}
        pruned = (group,) if choice.form.bits == 0 and not self.space.convs[group.layer].wide else ()
        with self.changed({group.layer: self.group_error(group, choice.form)}, maps, pruned):
            return self.results()

    @property
    def state(self) -> dict[str, Tensor]:
        """Copies of weights and biases, as `QatNetwork` takes them."""
        network = self.model.network
        found = {}
        for name in self.space.convs:
            layer = self.model.conv(name)
            found[f"{name}.weight"] = layer.weight.detach().reshape(network.weight_shape(name)).clone()
            found[f"{name}.bias"] = layer.bias.detach().clone()
        return found

    @property
    def parameters(self) -> dict[str, nn.Parameter]:
        """Weights of the weighted layers by name."""
        return {name: self.model.conv(name).weight for name in self.space.convs}

    def need_rows(self, what: str) -> None:
        """UserError where the space's groups are rows."""
        if self.space.granularity == "row":
            raise UserError(
                f"sensitivity '{what}': runs the network once for every group and choice, so it has no rows; must be "
                "with granularity layer"
            )

"""Networks whose layers hold several formats and widths at once, mixed by shares: what relaxed methods train.

A layer's weights are the sum of the same float weights in each format, times the format's share, and a map is the sum
of itself in each width. The parts are the quantizers of `codesign.quant.qat` and `fake_quant`, each with scales of its
own. Where one share is 1 and the others are 0, the network is the one quantized so, bit for bit. Shares have
gradients: that of a format is the gradient of the weights times what they are in it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from codesign.errors import UserError
from codesign.formats.assignment import Assignment
from codesign.formats.row_format import RowFormat
from codesign.integer.fusing import FusedConv
from codesign.integer.layer_bits import maps_read
from codesign.quant.calibration import MSE, CalibrationRule
from codesign.quant.fake_quant import ActivationQuantizer
from codesign.quant.qat import QatNetwork, QuantConv
from codesign.quant.training_rules import DEFAULT, TrainingRule
from codesign.workload.network import Network

Pair = tuple[RowFormat, int]
"""A format of weights, and bits of the map that they read."""


class MixedQuantizer(ActivationQuantizer):
    """A map in several widths at once: this quantizer's own, which is the widest, and `others`.

    Attributes:
        widths: bits, the widest first.
        shares: (widths,) of each.
    """

    def __init__(self, widest: ActivationQuantizer, widths: Sequence[int]) -> None:
        """A map like that of the quantizer `widest`, in all `widths`."""
        super().__init__(max(widths), widest.signed, widest.limit, widest.rule)
        self.widths = tuple(sorted(widths, reverse=True))
        self.others = nn.ModuleList(
            [ActivationQuantizer(bits, widest.signed, widest.limit, widest.rule) for bits in self.widths[1:]]
        )
        self.shares = torch.eye(len(self.widths))[0]

    @property
    def each(self) -> tuple[ActivationQuantizer, ...]:
        """Of the other widths."""
        return tuple(part for part in self.others if isinstance(part, ActivationQuantizer))

    def width(self, bits: int) -> ActivationQuantizer:
        """The quantizer of one width."""
        place = self.widths.index(bits)
        return self if place == 0 else self.each[place - 1]

    @property
    def scale_tensor(self) -> Tensor:
        """(widths,) real values of one code step."""
        own = super().scale_tensor
        return torch.stack([own, *(part.scale_tensor for part in self.each)])

    @property
    def scale(self) -> float:
        """Real value of one code step of the widest."""
        return float(super().scale_tensor)

    def forward(self, x: Tensor) -> Tensor:
        """The values in each width, times its share, added up."""
        result = self.shares[0] * super().forward(x)
        for share, part in zip(self.shares[1:], self.each, strict=True):
            result = result + share * part(x)
        return result

    @torch.no_grad()
    def fit(self, x: Tensor, rule: CalibrationRule = MSE) -> None:
        """Set the scales of all widths from sample values."""
        super().fit(x, rule)
        for part in self.each:
            part.fit(x, rule)


class MixedConv(QuantConv):
    """A layer whose rows are in several formats at once, of one float weight and bias.

    Attributes:
        pairs: formats of weights with bits of the map that is read.
        shares: (rows, pairs) of each.
    """

    def __init__(self, layer: QuantConv, pairs: Sequence[Pair], widths: Sequence[int]) -> None:
        """A layer like the quantized `layer`, in all `pairs`; `widths` as the map that it reads has them."""
        forms = tuple(dict.fromkeys(form for form, _ in pairs))
        rows = len(layer.formats)
        super().__init__(layer.item, layer.weight.detach(), layer.bias.detach(), [forms[0]] * rows, layer.rule)
        self.forms, self.pairs = forms, tuple(pairs)
        self.others = nn.ModuleList()
        for form in self.forms[1:]:
            part = QuantConv(layer.item, self.weight.detach(), self.bias.detach(), [form] * rows, layer.rule)
            part.weight, part.bias = self.weight, self.bias
            self.others.append(part)
        self._width_of = [list(widths).index(bits) for _, bits in pairs]
        self._form_of = [self.forms.index(form) for form, _ in pairs]
        self.shares = torch.eye(len(pairs))[0].expand(rows, -1)

    @property
    def each(self) -> tuple[QuantConv, ...]:
        """The layer in every one of its formats."""
        return (self, *(part for part in self.others if isinstance(part, QuantConv)))

    def form(self, form: RowFormat) -> QuantConv:
        """The layer in one format."""
        return self.each[self.forms.index(form)]

    def forward(self, x: Tensor, input_scale: Tensor | None) -> Tensor:
        """Accumulated (N, M, OH, OW) values, with `input_scale` (widths,); None as in `QuantConv`."""
        if input_scale is None:
            return super().forward(x, None)
        of_form = self.shares @ _members(self._form_of, len(self.forms)).to(self.shares.dtype)
        weight = torch.stack([part.quantized_weight() for part in self.each], dim=1)
        scales = [input_scale[place] for place in self._width_of]
        bias = torch.stack(
            [self.each[at].quantized_bias(scale) for at, scale in zip(self._form_of, scales, strict=True)], dim=1
        )
        return self.convolve(x, (of_form[:, :, None] * weight).sum(1), (self.shares * bias).sum(1))


class MixedNetwork(QatNetwork):
    """Fused passes with every weighted layer in several formats, and the maps they read in several widths.

    Attributes:
        pairs: that layers choose between.
        layer_type: that layers are made of.
    """

    layer_type: type[MixedConv] = MixedConv

    def __init__(
        self,
        network: Network,
        state: Mapping[str, Tensor],
        pairs: Sequence[Pair],
        training_rule: TrainingRule = DEFAULT,
        *,
        input_signed: bool = False,
    ) -> None:
        """Build from a network without batch norms and its weights; all layers have the first pair until `mix`.

        Raises:
            UserError: as `QatNetwork`.
        """
        widths = sorted({bits for _, bits in pairs}, reverse=True)
        widest = Assignment.uniform(network, pairs[0][0], widths[0])
        super().__init__(network, state, widest, training_rule, input_signed=input_signed)
        self.pairs = tuple(pairs)
        self.reads = maps_read(self.fused)
        for tensor in dict.fromkeys(self.reads.values()):
            made = MixedQuantizer(self.quantizer(tensor), widths)
            self.quantizers[self._quantizer_of[tensor]] = made
        for item in self.fused.convs:
            self.convs[self._conv_of[item.name]] = self.layer_type(self.conv(item.name), pairs, widths)
        # the image's scales follow from its range, not from the loss
        self.quantizer(self.fused.input.name).requires_grad_(False)
        self._of_width = _members([widths.index(bits) for _, bits in pairs], len(widths))
        self.mix({item.name: torch.eye(len(pairs))[0].expand(_rows(item), -1) for item in self.fused.convs})

    def mixed(self, name: str) -> MixedConv:
        """The module of the weighted layer `name`."""
        found = self.conv(name)
        assert isinstance(found, MixedConv)
        return found

    def mixed_map(self, name: str) -> MixedQuantizer:
        """The quantizer of the map that the weighted layer `name` reads."""
        found = self.quantizer(self.reads[name])
        assert isinstance(found, MixedQuantizer)
        return found

    def mix(self, shares: Mapping[str, Tensor]) -> None:
        """Set the (rows, pairs) shares of every layer; those of a map are those of the first row that reads it.

        Raises:
            UserError: a layer is missing, or has shares of another shape.
        """
        seen: set[str] = set()
        for item in self.fused.convs:
            given = shares.get(item.name)
            if given is None or tuple(given.shape) != (_rows(item), len(self.pairs)):
                shape = "none" if given is None else tuple(given.shape)
                raise UserError(
                    f"shares of '{item.name}': {shape} given, must be (rows, pairs) {(_rows(item), len(self.pairs))}"
                )
            self.mixed(item.name).shares = given
            if self.reads[item.name] not in seen:
                seen.add(self.reads[item.name])
                self.mixed_map(item.name).shares = given[0] @ self._of_width.to(given.dtype)


def _members(place: Sequence[int], count: int) -> Tensor:
    """(len(place), count) 1 where an entry is of a place."""
    return torch.eye(count)[list(place)]


def _rows(item: FusedConv) -> int:
    return int(item.weight_shape[0])

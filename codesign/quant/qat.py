"""The training model of a quantized network: float weights seen through quantizers, one module per fused pass.

Batch norms are folded before (float training ends with their running statistics), so what is trained is what is
lowered: quantized weights, biases in whole accumulator units, one quantizer per stored tensor, and one rounding
after the residual sum. `codesign.quant.lower` turns the model into integers that compute the same up to the dyadic
approximation of its factors.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from codesign.errors import UserError
from codesign.formats.assignment import Assignment
from codesign.formats.row_format import RowFormat
from codesign.integer.fusing import FusedConv, FusedPool, fuse
from codesign.integer.tensor_bits import tensor_bits
from codesign.quant.calibration import MINMAX, MSE, CalibrationRule, ClipRange
from codesign.quant.fake_quant import ActivationQuantizer, RowTable, quantize_rows, row_integers
from codesign.quant.placing import generator, uniform
from codesign.quant.training_rules import DEFAULT, TrainingRule, WeightRule
from codesign.quant.weight_rules import initial_alpha, normalised, rule_operands
from codesign.workload.network import Network


class QuantConv(nn.Module):
    """A fused convolution (or fully connected layer) with quantized rows."""

    def __init__(
        self,
        item: FusedConv,
        weight: Tensor,
        bias: Tensor,
        formats: Sequence[RowFormat],
        rule: WeightRule = DEFAULT.weights,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.rule = rule
        self.generator = generator(seed)
        self.item = item
        self.weight = nn.Parameter(weight.reshape(item.weight_shape).clone())
        self.bias = nn.Parameter(bias.clone())
        self.log_alpha = nn.Parameter(torch.zeros(len(formats)))
        self.table = RowTable(formats)
        self._fit(range(len(formats)))

    @property
    def formats(self) -> tuple[RowFormat, ...]:
        """Formats of the rows."""
        return self.table.formats

    @formats.setter
    def formats(self, formats: Sequence[RowFormat]) -> None:
        changed = [row for row, form in enumerate(formats) if form != self.table.formats[row]]
        if self.rule.shape == "normalised":
            changed = []  # the scale is the layer's
        self.table = RowTable(formats)
        self._fit(changed)

    def _fit(self, rows: Sequence[int]) -> None:
        """Set the scales of some rows to the rule's initial ones; the others keep what they learned."""
        if not rows:
            return
        chosen = [self.table.formats[row] for row in rows]
        with torch.no_grad():
            weight = self.weight.flatten(1)
            if self.rule.shape == "normalised":
                weight = normalised(weight)
            alpha = initial_alpha(weight[list(rows)], chosen, self.rule)
            self.log_alpha[list(rows)] = alpha.log()

    def operands(self) -> tuple[Tensor, Tensor, Tensor | None]:
        """What rows are quantized from, as `rule_operands` gives it."""
        return rule_operands(self.weight.flatten(1), self.log_alpha, self.table, self.rule)

    @property
    def row_scale(self) -> Tensor:
        """Real value of one weight step, (rows,)."""
        with torch.no_grad():
            _, log_alpha, gain = self.operands()
            scale = log_alpha.exp() / self.table.largest[:, 0]
            return scale if gain is None else scale * gain[:, 0]

    def integers(self) -> Tensor:
        """Integer weights, (M, C/groups, kh, kw) int64."""
        with torch.no_grad():
            weight, log_alpha, _ = self.operands()
            return row_integers(weight, log_alpha, self.table).reshape(self.item.weight_shape)

    @property
    def biased(self) -> Tensor:
        """(rows,) 1, and of pruned rows 0: their result is 0, so that they can leave. The network's results stay."""
        return ((self.table.bits > 0) | self.item.wide).to(self.bias.dtype)

    def bias_integers(self, input_scale: Tensor) -> Tensor:
        """Biases in accumulator units `input_scale * row_scale`, rounded half up, (rows,)."""
        with torch.no_grad():
            return torch.floor((self.bias * self.biased).double() / (self.row_scale * input_scale).double() + 0.5)

    def forward(self, x: Tensor, input_scale: Tensor | None) -> Tensor:
        """Accumulated (N, M, OH, OW) values; with `input_scale` None weights and bias are used as floats."""
        if input_scale is None:
            return self.convolve(x, self.weight, self.bias)
        return self.convolve(x, self.quantized_weight(), self.quantized_bias(input_scale))

    def quantized_bias(self, input_scale: Tensor) -> Tensor:
        """(rows,) biases in whole accumulator units; the gradient passes straight through."""
        rounded = (self.bias_integers(input_scale) * (self.row_scale * input_scale).double()).float()
        bias = self.bias * self.biased
        return bias + (rounded - bias).detach()

    def quantized_weight(self) -> Tensor:
        """(rows, weights of a row) quantized weights, with the gradients of the rule."""
        rule = self.rule
        weight, log_alpha, gain = self.operands()
        generator = self.generator if rule.stochastic and self.training else None
        result = quantize_rows(weight, log_alpha, self.table, through=rule.through, generator=generator)
        if gain is not None:
            result = result * gain
        if rule.share < 1 and self.training:
            chosen = uniform(weight.shape, self.generator) < rule.share
            result = torch.where(chosen, result, weight)
        return result

    def convolve(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """The pass's convolution with other weights: (M, C/groups, kh, kw), or flat rows of them."""
        item = self.item
        weight = weight.reshape(item.weight_shape)
        if weight.shape[1:] == x.shape[1:] and item.padding == (0, 0, 0, 0):
            return F.linear(x.flatten(1), weight.flatten(1), bias)[:, :, None, None]
        top, bottom, left, right = item.padding
        if top != bottom or left != right:
            x, top, left = F.pad(x, (left, right, top, bottom)), 0, 0
        return F.conv2d(x, weight, bias, item.stride, (top, left), groups=item.groups)

    def patches(self, x: Tensor, group: int) -> Tensor:
        """What the filters of a group are multiplied by: (N, weights of a filter, results of a filter)."""
        item = self.item
        channels = x.shape[1] // item.groups
        top, bottom, left, right = item.padding
        part = F.pad(x[:, group * channels : (group + 1) * channels], (left, right, top, bottom))
        return F.unfold(part, tuple(item.weight_shape[2:]), stride=item.stride)


class QatNetwork(nn.Module):
    """Fused passes with quantizers.

    Attributes:
        network: the network it was built from (batch norms folded).
        quantized: False runs the same passes on floats (what the Hessian is taken of).
        act_bits, tensors: bits of activations, as an assignment says them.
        tensor_bits: bits of every stored tensor, the image first.
    """

    def __init__(
        self,
        network: Network,
        state: Mapping[str, Tensor],
        assignment: Assignment,
        training_rule: TrainingRule = DEFAULT,
        *,
        input_signed: bool = False,
    ) -> None:
        """Build from a network without batch norms and its weights (`fold_batchnorm` gives both).

        Args:
            network, state, assignment: what is quantized, and to which formats.
            training_rule: how it is trained.
            input_signed: whether the image has negative values (pixels in [0, 1] have none).

        Raises:
            UserError: the network cannot be fused, the assignment is not one of it, or a weight is missing or NaN.
        """
        super().__init__()
        assignment.check(network)
        self.network = network
        self.fused = fuse(network, input_signed)
        self.quantized = True
        self.act_bits = assignment.act_bits
        self.tensor_bits = tensor_bits(self.fused, assignment)
        self.tensors = dict(assignment.tensors)
        self.training_rule = training_rule
        self.convs = nn.ModuleList()
        source = self.fused.input
        self.quantizers = nn.ModuleList([ActivationQuantizer(self.tensor_bits[source.name], source.signed)])
        # The image's range is known: its scale is calibrated once and not trained.
        self._quantizer_of = {self.fused.input.name: 0}
        for item in self.fused.passes:
            if isinstance(item, FusedConv):
                if f"{item.name}.weight" not in state:
                    raise UserError(f"network '{network.name}': the weights have no entry '{item.name}.weight'")
                place = torch.get_default_device()
                weight = state[f"{item.name}.weight"].detach().float().to(place)
                bias = state.get(f"{item.name}.bias", torch.zeros(len(weight))).detach().float().to(place)
                if not (weight.isfinite().all() and bias.isfinite().all()):
                    raise UserError(f"network '{network.name}': layer '{item.name}' has weights that are not finite")
                self.convs.append(
                    QuantConv(item, weight, bias, assignment[item.name], training_rule.weights, len(self.convs))
                )
                if item.wide:
                    continue
            if isinstance(item, FusedPool) and item.kind == "max":
                self._quantizer_of[item.name] = self._quantizer_of[item.input]
                continue
            self._quantizer_of[item.name] = len(self.quantizers)
            output = item.output
            self.quantizers.append(
                ActivationQuantizer(self.tensor_bits[item.name], output.signed, output.limit, training_rule.activations)
            )
        self._conv_of = {item.name: index for index, item in enumerate(self.fused.convs)}

    def conv(self, name: str) -> QuantConv:
        """The module of the weighted layer `name`."""
        module = self.convs[self._conv_of[name]]
        assert isinstance(module, QuantConv)
        return module

    def quantizer(self, tensor: str) -> ActivationQuantizer:
        """The quantizer whose codes `tensor` holds (a max pooling's is its input's)."""
        module = self.quantizers[self._quantizer_of[tensor]]
        assert isinstance(module, ActivationQuantizer)
        return module

    @property
    def activation_quantizers(self) -> tuple[ActivationQuantizer, ...]:
        """One for every tensor that is quantized anew, the image first."""
        return tuple(module for module in self.quantizers if isinstance(module, ActivationQuantizer))

    @property
    def assignment(self) -> Assignment:
        """Formats of all rows; assigning a new one refits the scales of rows that change."""
        rows = [(item.name, self.conv(item.name).formats) for item in self.fused.convs]
        return Assignment.of(rows, self.act_bits, self.tensors)

    @assignment.setter
    def assignment(self, assignment: Assignment) -> None:
        assignment.check(self.network)
        for tensor, bits in tensor_bits(self.fused, assignment).items():
            if bits != self.tensor_bits[tensor]:
                raise UserError(
                    f"assignment: has {bits} activation bits in '{tensor}', the model {self.tensor_bits[tensor]}"
                )
        for item in self.fused.convs:
            self.conv(item.name).formats = assignment[item.name]

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) images in real values to (N, classes) results, or (N, M, OH, OW) if the last map is larger."""
        return self._run(x, fit=None)

    @torch.no_grad()
    def calibrate(self, images: Tensor, rule: CalibrationRule = MSE, fixed: Collection[str] = ()) -> None:
        """Fit the activation scales on sample images, each on what the quantized passes before it give.

        The image itself always gets its whole range; tensors that `fixed` names keep theirs.
        """
        self._run(images, fit=rule, fixed=fixed)

    def clip(self, ranges: Mapping[str, ClipRange]) -> tuple[str, ...]:
        """Set the scales of the unsigned tensors that `ranges` names, such as those from batch norms; their names."""
        clipped = []
        for item in self.fused.passes:
            if item.name in ranges and isinstance(item, FusedConv) and item.relu and item.residual is None:
                self.quantizer(item.name).clip(ranges[item.name])
                clipped.append(item.name)
        return tuple(clipped)

    def penalty(self) -> Tensor | None:
        """What joins the loss: PACT's decay of the clipping values; None if the training rule has none."""
        rule = self.training_rule.activations
        if rule.decay == 0:
            return None
        parts = [(part.log_scale.exp() * part.high).square() for part in self.activation_quantizers[1:]]
        return rule.decay * torch.stack(parts).sum() if parts else None

    def _run(self, x: Tensor, fit: CalibrationRule | None, fixed: Collection[str] = ()) -> Tensor:
        source = self.fused.input.name
        if fit is not None:
            self.quantizer(source).fit(x, MINMAX)
        values = {source: self.quantizer(source)(x) if self.quantized else x}
        for item in self.fused.passes:
            result = self._pass(item, values)
            if item.name in self._quantizer_of and not (isinstance(item, FusedPool) and item.kind == "max"):
                quantizer = self.quantizer(item.name)
                if fit is not None and item.name not in fixed:
                    quantizer.fit(result, fit)
                if self.quantized:
                    result = quantizer(result)
                elif item.relu:
                    result = result.clamp(0, item.output.limit)
            elif item.relu:
                result = F.relu(result)
            values[item.name] = result
        return result.flatten(1) if result.shape[2:] == (1, 1) else result

    def _pass(self, item: FusedConv | FusedPool, values: dict[str, Tensor]) -> Tensor:
        x = values[item.input]
        if isinstance(item, FusedConv):
            scale = self.quantizer(item.input).scale_tensor if self.quantized else None
            result: Tensor = self.conv(item.name)(x, scale)
            return result if item.residual is None else result + values[item.residual]
        top, bottom, left, right = item.padding
        if item.kind == "max":
            if item.padding != (0, 0, 0, 0):
                x = F.pad(x, (left, right, top, bottom), value=float("-inf"))
            return F.max_pool2d(x, item.kernel, item.stride)
        return F.avg_pool2d(F.pad(x, (left, right, top, bottom)), item.kernel, item.stride)

"""Post-training quantization: weights changed before quantizing so that the float network stays what it was.

* `equalize`: cross-layer range equalization (Nagel et al. 2019, section 4.1).
* `split_outliers`: outlier channel splitting (Zhao et al. 2019).
* `correct_bias`: bias correction (Nagel et al. 2019, section 4.2; Banner et al. 2019) from sample images.

All work on networks without batch norms (`fold_batchnorm`) and on copies of the weights. OMSE (Choukroun et al.
2019), the range of least squared error, is calibration's `mse` and `fit_scale`'s default.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import torch
from torch import Tensor

from codesign.data.sources import Images
from codesign.errors import UserError
from codesign.quant.placing import placed
from codesign.quant.qat import QatNetwork
from codesign.quant.training import threads
from codesign.workload.layers import AvgPool, Conv, Flatten, Layer, Linear, MaxPool, Relu
from codesign.workload.network import Network

State = dict[str, Tensor]
Weighted = Conv | Linear

SWEEPS = 40
"""Most passes over the pairs of layers; equalization converges in a few."""
STEP_ROUNDS = 60
CONVERGED = 1e-4
"""Largest change of a factor, relative, after which equalization stops."""


def equalize(network: Network, state: Mapping[str, Tensor]) -> State:
    """Weights with equal ranges on both sides of every channel; the float network computes the same.

    For two layers with nothing but ReLU and pooling between them, channel i of the first is divided and of the
    second multiplied by s_i = sqrt(r1_i * r2_i) / r2_i, with r the largest |weight| of the channel (eq. 11).

    Args:
        network: without batch norms.
        state: `<layer>.weight` and `<layer>.bias` of every weighted layer; not changed.

    Raises:
        UserError: there are no such layers, or a weight is missing.
    """
    result = _copied(network, state)
    pairs = _pairs(network)
    if not pairs:
        raise UserError(
            f"network '{network.name}': no two layers with nothing but ReLU and pooling between: no ranges to equalize"
        )
    for _ in range(SWEEPS):
        largest = 0.0
        for first, second in pairs:
            out_range = result[f"{first.name}.weight"].abs().flatten(1).amax(1)
            incoming = _by_input(network, first, second, result[f"{second.name}.weight"])
            in_range = incoming.abs().amax(1)
            usable = (out_range > 0) & (in_range > 0)
            factor = torch.where(usable, (out_range / in_range.clamp(min=1e-30)).sqrt(), torch.ones_like(out_range))
            _rescale(network, first, second, result, factor)
            largest = max(largest, float((factor - 1).abs().max()))
        if largest < CONVERGED:
            break
    return {name: value.float() for name, value in result.items()}


def split_outliers(
    network: Network, state: Mapping[str, Tensor], share: float = 0.05, bits: int = 4
) -> tuple[Network, State]:
    """A wider network that computes the same, in which the channels with the largest weights are halved in two.

    Of every layer whose input only it reads, ceil(share * channels) input channels are split, the one with the
    largest |weight| each time: its producer gets a copy of the filter, and a weight w becomes (w - step / 2) / 2 and
    (w + step / 2) / 2, the paper's quantization-aware halves. Their sum is w, and so is that of their codes, rounded
    half up: floor(w / step + 1 / 2) of the old weight. The step is that of the row after all splits, whose largest
    |weight| is the largest code.

    Args:
        network: without batch norms.
        state: as in `equalize`.
        share: of the channels to add; more cores time for a smaller range of the weights.
        bits: of the Fixed rows that the halves are made for.

    Raises:
        UserError: a share or bits that are not allowed, a weight is missing, or there are no such layers.
    """
    if not 0 <= share <= 1:
        raise UserError(f"outlier splitting: share {share:g}; allowed is 0 to 1")
    if not 2 <= bits <= 8:
        raise UserError(f"outlier splitting: {bits} bits; allowed are 2 to 8")
    result = _copied(network, state)
    widened: dict[str, int] = {}
    for first, second in _pairs(network):
        if getattr(first, "groups", 1) > 1 or getattr(second, "groups", 1) > 1:
            continue
        channels = network.weight_shape(first.name)[0]
        weight = result[f"{second.name}.weight"]
        by_row = weight.reshape(len(weight), len(_by_input(network, first, second, weight)), -1)
        chosen: list[int] = []
        halved = by_row
        for _ in range(-int(-share * channels // 1)):
            channel = int(halved.abs().amax((0, 2)).argmax())
            chosen.append(channel)
            halved = _halved(halved, [channel], torch.zeros(len(weight), dtype=weight.dtype))
            for part in ("weight", "bias"):
                key = f"{first.name}.{part}"
                if key in result:
                    result[key] = torch.cat([result[key], result[key][channel : channel + 1]])
        split = _halved(by_row, chosen, _step(by_row, chosen, 2 ** (bits - 1) - 1))
        wide = (len(weight), split.shape[1], *weight.shape[2:]) if weight.dim() > 2 else (len(weight), -1)
        result[f"{second.name}.weight"] = split.reshape(wide)
        widened[first.name] = channels + len(chosen)
    if not widened:
        raise UserError(f"network '{network.name}': no dense layer whose input only it reads: no outliers to split")
    layers = tuple(_widened(layer, widened.get(layer.name)) for layer in network.layers)
    return Network(network.name, layers), {name: value.float() for name, value in result.items()}


def correct_bias(model: QatNetwork, images: Images, count: int = 256) -> None:
    """Shift the biases so that every layer's mean output per channel is the float network's again, in place.

    Layer by layer: each sees the quantized layers before it, which are corrected already.

    Args:
        model: calibrated; its biases change.
        images: of which the first `count` are used.
    """
    batch = placed(images[:count])
    with threads(1), torch.no_grad():
        expected = _channel_means(model, batch, quantized=False)
        for item in model.fused.convs:
            found = _channel_means(model, batch, quantized=True)[item.name]
            bias = model.conv(item.name).bias
            bias.copy_(bias + expected[item.name] - found)


def _channel_means(model: QatNetwork, batch: Tensor, quantized: bool) -> dict[str, Tensor]:
    """Mean over images and pixels of every convolution's result, before residual and ReLU, by layer."""
    means: dict[str, Tensor] = {}
    hooks = []
    for item in model.fused.convs:

        def keep(_: torch.nn.Module, __: object, output: Tensor, name: str = item.name) -> None:
            means[name] = output.mean((0, 2, 3))

        hooks.append(model.conv(item.name).register_forward_hook(keep))
    was, training = model.quantized, model.training
    model.quantized = quantized
    model.eval()
    try:
        model(batch)
    finally:
        model.quantized = was
        model.train(training)
        for hook in hooks:
            hook.remove()
    return means


def _copied(network: Network, state: Mapping[str, Tensor]) -> State:
    result = {}
    for layer in network.weighted:
        if f"{layer.name}.weight" not in state:
            raise UserError(f"network '{network.name}': the weights have no entry '{layer.name}.weight'")
        for part in ("weight", "bias"):
            if f"{layer.name}.{part}" in state:
                result[f"{layer.name}.{part}"] = state[f"{layer.name}.{part}"].detach().double().clone()
    return result


def _pairs(network: Network) -> list[tuple[Weighted, Weighted]]:
    """Weighted layers, and the only one that reads their channels, through ReLU without limit, pooling and Flatten."""
    pairs = []
    for first in network.weighted:
        name = first.name
        while True:
            readers = network.consumers(name)
            if len(readers) != 1:
                break
            reader = network.layer(readers[0])
            if isinstance(reader, Conv | Linear):
                if not isinstance(reader, Conv) or _per_channel(network, first, reader):
                    pairs.append((first, reader))
                break
            if not isinstance(reader, Relu | MaxPool | AvgPool | Flatten) or getattr(reader, "limit", None) is not None:
                break
            name = reader.name
    return pairs


def _per_channel(network: Network, first: Layer, second: Conv) -> bool:
    """Whether the input channels of a convolution can be scaled: dense, or depthwise with a filter each."""
    channels = network.weight_shape(first.name)[0]
    return second.groups == 1 or second.groups == channels == second.out_channels


def _by_input(network: Network, first: Weighted, second: Weighted, weight: Tensor) -> Tensor:
    """(channels of the first layer, the weights of the second one that read them)."""
    if isinstance(second, Conv) and second.groups > 1:
        return weight.flatten(1)
    channels = weight.shape[1] if isinstance(second, Conv) else network.weight_shape(first.name)[0]
    if isinstance(second, Linear):
        # A flattened map has its pixels inside its channels; `split_outliers` has added to the channels.
        pixels = _pixels(network, first, second)
        channels = weight.shape[1] // pixels
    return weight.reshape(weight.shape[0], channels, -1).transpose(0, 1).flatten(1)


def _pixels(network: Network, first: Layer, second: Linear) -> int:
    return int(network.weight_shape(second.name)[1]) // int(network.weight_shape(first.name)[0])


def _rescale(network: Network, first: Weighted, second: Weighted, state: State, factor: Tensor) -> None:
    """Divide the channels of the first layer by `factor` and multiply those that read them."""
    weight = state[f"{first.name}.weight"]
    state[f"{first.name}.weight"] = weight / factor.reshape(-1, *[1] * (weight.dim() - 1))
    if f"{first.name}.bias" in state:
        state[f"{first.name}.bias"] = state[f"{first.name}.bias"] / factor
    weight = state[f"{second.name}.weight"]
    if isinstance(second, Conv) and second.groups > 1:
        state[f"{second.name}.weight"] = weight * factor.reshape(-1, 1, 1, 1)
        return
    shaped = weight.reshape(weight.shape[0], len(factor), -1) * factor[None, :, None]
    state[f"{second.name}.weight"] = shaped.reshape(weight.shape)


def _halved(weight: Tensor, chosen: list[int], step: Tensor) -> Tensor:
    """(rows, channels, n) weights whose `chosen` channels are split one after the other; `step` of every row."""
    apart = (step / 4)[:, None]
    for channel in chosen:
        half = weight[:, channel] / 2
        weight = torch.cat([weight, (half + apart)[:, None]], dim=1)
        weight[:, channel] = half - apart
    return weight


def _step(weight: Tensor, chosen: list[int], largest: int) -> Tensor:
    """The step of every row that spreads the codes to `largest` over it once its channels are split by that step."""
    step = torch.zeros(len(weight), dtype=weight.dtype)
    for _ in range(STEP_ROUNDS):  # a step is at most half of it more in the halves: the error halves each time
        step = _halved(weight, chosen, step).abs().amax((1, 2)) / largest
    return step


def _widened(layer: Layer, channels: int | None) -> Layer:
    if channels is None:
        return layer
    if isinstance(layer, Linear):
        return replace(layer, out_features=channels)
    assert isinstance(layer, Conv)
    return replace(layer, out_channels=channels)

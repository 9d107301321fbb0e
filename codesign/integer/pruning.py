"""Filters of 0 bits leave the network: which channels nobody needs, and the same network without them.

A filter of the format `pruned` has no weights. What it computes is the same in all places and of all images, so it is
not computed where every layer that reads it can do without. A channel leaves if each convolution that reads it either

* has no weights for it, since all filters that read it are pruned, or
* reads a zero (the code `zero_point`), which adds nothing, beside a border of zeros as well, or
* reads another constant, and pads nothing: products with it join the bias. Beside a border it would be no constant.

Poolings, sums and convolutions with groups have as many channels as what they read: the channels of one such chain
leave together or not at all. So a pruned filter whose result is added to a channel that stays remains, as a filter of
zeros; and the filter before a depthwise filter that is pruned leaves with it, as nothing else reads it. Images and
results keep their channels, and of every map at least one stays.

Constants that are zero by chance are taken for others, so what leaves follows from the formats alone: the timing of an
assignment is known before training (`codesign.program.pruned.without_pruned`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from codesign._typing import IntArray
from codesign.arch.scheme import Scheme
from codesign.errors import UserError
from codesign.integer.arithmetic import execute, requantize
from codesign.integer.fusing import FusedConv, FusedNetwork
from codesign.integer.network import IntegerConv, IntegerLayer, IntegerNetwork, IntegerTensor

Mask = NDArray[np.bool_]
VARYING, CONSTANT, ZERO = range(3)
"""What a channel holds: anything, one code in all places, or the code of 0 in all places."""


class Step(NamedTuple):
    """A layer, as far as pruning sees it.

    Attributes:
        input, residual, output: maps; `residual` may be None.
        channels: of the output.
        groups: of a convolution; 0 of a pooling.
        padded: whether it reads a border of zeros. A max pooling does not, as its border never wins.
        pruned: (channels,) filters without weights; none of a pooling.
        zero: (channels,) whether a sum of nothing gives 0, where that is known from the formats.
    """

    input: str
    residual: str | None
    output: str
    channels: int
    groups: int
    padded: bool
    pruned: Mask
    zero: Mask


def kept_channels(source: tuple[str, int], steps: Sequence[Step]) -> dict[str, Mask]:
    """Channels that stay, by map.

    Args:
        source: name of the network's input, and its channels.
        steps: the layers in order; the last one writes the results.
    """
    states = _states(source, steps)
    numbers = chains(source, steps)
    stays = np.zeros(1 + max(int(chain.max()) for chain in numbers.values()), dtype=bool)
    stays[numbers[source[0]]] = True
    stays[numbers[steps[-1].output]] = True
    for step in steps:
        if step.groups == 1 and not step.pruned.all():
            held = states[step.input]
            stays[numbers[step.input][(held == VARYING) | ((held == CONSTANT) & step.padded)]] = True
    for chain in numbers.values():
        if not stays[chain].any():
            stays[chain[0]] = True
    return {name: stays[chain] for name, chain in numbers.items()}


def chains(source: tuple[str, int], steps: Sequence[Step]) -> dict[str, IntArray]:
    """Numbers of the chains that the channels of every map are of: those of one chain leave together.

    Arguments are those of `kept_channels`.
    """
    found = {source[0]: np.arange(source[1])}
    parent = list(range(source[1]))

    def root(one: int) -> int:
        while parent[one] != one:
            parent[one] = one = parent[parent[one]]
        return one

    def tie(left: IntArray, right: IntArray) -> None:
        for one, other in zip(left.tolist(), right.tolist(), strict=True):
            parent[root(other)] = root(one)

    for step in steps:
        if step.groups == 1 and step.residual is not None:
            found[step.output] = found[step.residual]
        elif step.groups == 1:
            found[step.output] = len(parent) + np.arange(step.channels)
            parent += range(len(parent), len(parent) + step.channels)
        else:
            groups = step.groups or step.channels
            members = found[step.input].reshape(groups, -1)
            for column in members.T[1:]:
                tie(members[:, 0], column)
            found[step.output] = np.repeat(members[:, 0], step.channels // groups)
            if step.residual is not None:
                tie(found[step.output], found[step.residual])
    roots = np.array([root(one) for one in range(len(parent))])
    return {name: roots[chain] for name, chain in found.items()}


def _states(source: tuple[str, int], steps: Sequence[Step]) -> dict[str, IntArray]:
    """What every channel holds, by map."""
    found = {source[0]: np.full(source[1], VARYING)}
    for step in steps:
        held = found[step.input]
        # what a window sees of a channel beside the border is no constant, unless it is 0
        seen = np.where((held == CONSTANT) & step.padded, VARYING, held)
        if step.groups:
            of_groups = (seen != VARYING).reshape(step.groups, -1).all(axis=1)
            constant = step.pruned | np.repeat(of_groups, step.channels // step.groups)
            zero = step.pruned & step.zero
        else:
            constant, zero = seen != VARYING, (held == ZERO) & step.zero
        if step.residual is not None:
            added = found[step.residual]
            constant, zero = constant & (added != VARYING), zero & (added == ZERO)
        found[step.output] = np.where(constant, np.where(zero, ZERO, CONSTANT), VARYING)
    return found


def without_pruned(network: IntegerNetwork) -> IntegerNetwork:
    """The network without the channels that pruned filters leave to nobody; its results are the same, bit for bit.

    The same object if nothing leaves.
    """
    convs = [layer for layer in network.layers if isinstance(layer, IntegerConv)]
    if not any(scheme is Scheme.PRUNED for layer in convs for scheme in layer.scheme):
        return network
    source = (network.input.name, network.input.channels)
    kept = kept_channels(source, pruning_steps(network))
    if all(mask.all() for mask in kept.values()):
        return network
    codes = _constants(network)
    layers = tuple(_without(layer, network.tensor(layer.input), kept, codes[layer.input]) for layer in network.layers)
    return replace(network, layers=layers)


def check_alive(source: tuple[str, int], steps: Sequence[Step], names: Sequence[str]) -> None:
    """UserError, naming the layer, if pruning leaves nothing of the image in the results.

    Args:
        source, steps: as `kept_channels` takes them.
        names: of the layers.
    """
    reached = {source[0]: np.ones(source[1], dtype=bool)}
    for step in steps:
        groups = step.groups or step.channels
        of_groups = reached[step.input].reshape(groups, -1).any(axis=1)
        reached[step.output] = np.repeat(of_groups, step.channels // groups) & ~step.pruned
        if step.residual is not None:
            reached[step.output] |= reached[step.residual]
    if reached[steps[-1].output].any():
        return
    name = next(name for name, step in zip(names, steps, strict=True) if not reached[step.output].any())
    raise UserError(
        f"layer '{name}': so many of its filters are pruned that the results do not depend on the image; must keep some"
    )


def pruning_steps(network: IntegerNetwork) -> tuple[Step, ...]:
    """The layers, as pruning sees them."""
    return tuple(_step(layer) for layer in network.layers)


def fused_steps(network: FusedNetwork) -> tuple[Step, ...]:
    """The passes of a network that is not quantized yet, nothing of it pruned."""
    found = []
    for item in network.passes:
        output, none = item.output, np.zeros(item.output.shape[0], dtype=bool)
        if isinstance(item, FusedConv):
            groups, padded = item.groups, any(item.padding)
            found.append(Step(item.input, item.residual, output.name, len(none), groups, padded, none, ~none))
        else:
            padded = item.kind == "avg" and any(item.padding)
            found.append(Step(item.input, None, output.name, len(none), 0, padded, none, ~none))
    return tuple(found)


def _step(layer: IntegerLayer) -> Step:
    output = layer.output
    if not isinstance(layer, IntegerConv):
        padded = layer.kind == "avg" and any(layer.padding)
        zero = np.full(output.channels, layer.low <= output.zero_point <= layer.high)
        return Step(layer.input, None, output.name, output.channels, 0, padded, np.zeros_like(zero), zero)
    nothing = requantize(layer, layer.bias.reshape(1, -1, 1, 1))[0, :, 0, 0]
    pruned = np.array([scheme is Scheme.PRUNED for scheme in layer.scheme])
    return Step(
        layer.input,
        layer.residual,
        output.name,
        output.channels,
        layer.groups,
        any(layer.padding),
        pruned,
        nothing == output.zero_point,
    )


def _constants(network: IntegerNetwork) -> dict[str, IntArray]:
    """Of some image (channels,) codes in the first place of every map: those of all images, of constant channels."""
    blank = np.full((1, *network.input.shape), network.input.zero_point)
    return {name: codes[0, :, 0, 0] for name, codes in execute(network, blank)}


def _without(layer: IntegerLayer, source: IntegerTensor, kept: Mapping[str, Mask], codes: IntArray) -> IntegerLayer:
    """The layer on maps that have the kept channels only; `codes` (channels,) are those of constant ones."""
    rows, columns = kept[layer.output.name], kept[layer.input]
    output = replace(layer.output, channels=int(rows.sum()))
    if not isinstance(layer, IntegerConv):
        return replace(layer, output=output)
    weight, bias, groups = layer.weight[rows], layer.bias[rows], layer.groups
    if groups == 1:
        constants = np.where(columns, 0, codes - source.zero_point)
        bias = bias + np.einsum("mckl,c->m", weight, constants)
        weight = weight[:, columns]
    else:
        groups = int(columns.reshape(groups, -1)[:, 0].sum())
    return replace(
        layer,
        output=output,
        weight=weight,
        groups=groups,
        scheme=tuple(scheme for scheme, stays in zip(layer.scheme, rows, strict=True) if stays),
        weight_bits=tuple(bits for bits, stays in zip(layer.weight_bits, rows, strict=True) if stays),
        bias=bias,
        mult=layer.mult[rows],
        shift=layer.shift[rows],
        residual_mult=layer.residual_mult[rows],
        row_scale=layer.row_scale[rows],
    )

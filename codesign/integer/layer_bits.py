"""Bits layer by layer, as methods that choose them and command lines write them: `8/8,4/4,4/4,8/8`."""

from __future__ import annotations

import re

from codesign.arch.scheme import Scheme
from codesign.errors import UserError, option
from codesign.formats.assignment import Assignment
from codesign.formats.row_format import RowFormat
from codesign.integer.fusing import FusedNetwork, FusedPool, fuse
from codesign.workload.network import Network

BITS = range(2, 9)
"""Bits that weights and activations may be given so."""


def parse_bits(text: str) -> tuple[tuple[int, int], ...]:
    """(weight bits, activation bits) of every layer, or one pair for all of them.

    Raises:
        UserError: the text is not WEIGHTS/ACTIVATIONS with commas between layers.
    """
    found = []
    for part in text.split(","):
        match = re.fullmatch(r"\s*(\d)/(\d)\s*", part, re.ASCII)
        if match is None or int(match[1]) not in BITS or int(match[2]) not in BITS:
            raise UserError(
                f"{option('bits')}: '{part[:40]}' given, must be WEIGHTS/ACTIVATIONS, each 2 to 8, such as 4/4, "
                "or one such pair "
                "for every layer with commas between them"
            )
        found.append((int(match[1]), int(match[2])))
    return tuple(found)


def assignment_of_bits(network: Network, bits: tuple[tuple[int, int], ...]) -> Assignment:
    """Fixed rows of so many bits, layer by layer; activation bits are those of the map that the layer reads.

    Maps that no weighted layer reads (they are pooled, or only added) have the most bits that are given.

    Args:
        network: whose weighted layers are meant, in their order.
        bits: (weights, activations) of every layer, or one pair for all.

    Raises:
        UserError: another number of layers, or layers that read the same map with different activation bits.
    """
    fused = fuse(network)
    layers = [item.name for item in fused.convs]
    if len(bits) not in (1, len(layers)):
        raise UserError(
            f"{option('bits')}: {len(bits)} pairs given, network '{network.name}' has {len(layers)} layers with "
            "weights: give one pair for all, or one for each"
        )
    if len(bits) == 1:
        bits *= len(layers)
    largest = max(act for _, act in bits)
    tensors = bits_of_maps(fused, {name: act for name, (_, act) in zip(layers, bits, strict=True)})
    rows = {
        item.name: (RowFormat(Scheme.FIXED, weight),) * item.weight_shape[0]
        for item, (weight, _) in zip(fused.convs, bits, strict=True)
    }
    return Assignment.of(rows, largest, tensors)


def source_maps(fused: FusedNetwork) -> dict[str, str]:
    """The map whose bits decide about each pass: what it reads, or what a max pooling before it reads."""
    pooled: dict[str, str] = {}
    found = {}
    for item in fused.passes:
        found[item.name] = pooled.get(item.input, item.input)
        if isinstance(item, FusedPool) and item.kind == "max":
            pooled[item.output.name] = found[item.name]
    return found


def maps_read(fused: FusedNetwork) -> dict[str, str]:
    """The map whose codes a weighted layer reads, by layer: what a max pooling pools, since it hands codes on."""
    sources = source_maps(fused)
    return {item.name: sources[item.name] for item in fused.convs}


def bits_of_maps(fused: FusedNetwork, reads: dict[str, int]) -> dict[str, int]:
    """Bits of the maps that weighted layers read, from what every layer wants to read.

    Raises:
        UserError: two layers want the same map with different bits.
    """
    maps = maps_read(fused)
    found: dict[str, tuple[int, str]] = {}
    for item in fused.convs:
        tensor = maps[item.name]
        bits, reader = found.setdefault(tensor, (reads[item.name], item.name))
        if bits != reads[item.name]:
            raise UserError(
                f"{option('bits')}: layers '{reader}' and '{item.name}' read the same map '{tensor}', "
                f"but are given {bits} and "
                f"{reads[item.name]} activation bits: give both the same"
            )
    return {tensor: bits for tensor, (bits, _) in found.items()}

"""Sizes of a network without its pruned filters, from the formats alone: before there are any integers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from codesign.arch.scheme import Scheme
from codesign.errors import UserError
from codesign.formats.assignment import Assignment
from codesign.integer.fusing import fuse
from codesign.integer.pruning import Mask, Step, check_alive, kept_channels
from codesign.program.shapes import ConvShape, LayerShape, NetworkShape, shape_of_fused
from codesign.workload.network import Network


def prunes(assignment: Assignment) -> bool:
    """Whether some filter is pruned."""
    return any(form.scheme is Scheme.PRUNED for form in assignment.palette)


def check_pruning(network: Network, assignment: Assignment) -> None:
    """UserError, naming a layer, if so much is pruned that the results do not depend on the image."""
    if prunes(assignment):
        shape = shape_of_fused(fuse(network), assignment.act_bits)
        names = [layer.name for layer in shape.layers]
        try:
            check_alive((shape.input.name, shape.input.channels), _steps(shape, assignment), names)
        except UserError as error:
            raise UserError(f"assignment: {error}") from None


def _steps(shape: NetworkShape, assignment: Assignment) -> tuple[Step, ...]:
    """The layers, as pruning sees them."""
    return tuple(_step(layer, assignment) for layer in shape.layers)


def without_pruned(shape: NetworkShape, assignment: Assignment) -> tuple[NetworkShape, Assignment]:
    """The sizes, and the formats of the filters that stay, of what an integer network of an assignment becomes.

    Pruned filters have no bias, as quantizers make them (`codesign.integer.pruning.without_pruned` takes them out of
    integers).

    Raises:
        UserError: the assignment does not name a layer.
    """
    if not prunes(assignment):
        return shape, assignment
    kept = kept_channels((shape.input.name, shape.input.channels), _steps(shape, assignment))
    smaller = replace(shape, layers=tuple(_without(layer, kept) for layer in shape.layers))
    rows = {conv.name: assignment.codes(conv.name)[kept[conv.output.name]] for conv in shape.convs}
    return smaller, replace(assignment, rows=rows)


def _step(layer: LayerShape, assignment: Assignment) -> Step:
    channels = layer.output.channels
    known = np.ones(channels, dtype=bool)
    if not isinstance(layer, ConvShape):
        padded = layer.kind == "avg" and any(layer.padding)
        return Step(layer.input, None, layer.output.name, channels, 0, padded, ~known, known)
    places = [place for place, form in enumerate(assignment.palette) if form.scheme is Scheme.PRUNED]
    pruned = np.isin(assignment.codes(layer.name), places)
    output = layer.output.name
    return Step(layer.input, layer.residual, output, channels, layer.groups, any(layer.padding), pruned, known)


def _without(layer: LayerShape, kept: Mapping[str, Mask]) -> LayerShape:
    rows, columns = kept[layer.output.name], kept[layer.input]
    output = replace(layer.output, channels=int(rows.sum()))
    if not isinstance(layer, ConvShape):
        return replace(layer, output=output)
    _, channels, high, wide = layer.weight
    groups = layer.groups
    if groups == 1:
        channels = int(columns.sum())
    else:
        groups = int(columns.reshape(groups, -1)[:, 0].sum())
    return replace(layer, output=output, weight=(output.channels, channels, high, wide), groups=groups)

"""Tails: layers on maps of one pixel, behind which nothing spatial comes, which may compute several images together."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from codesign.program.planner import Planner
from codesign.program.schedule import Kind, StoredMap
from codesign.program.shapes import ConvShape, LayerShape, NetworkShape


class Tail(NamedTuple):
    """The layers that compute several images together.

    Attributes:
        first: place of the first one in the network.
        at: place of its step among those of an image.
        source: the map that it reads.
    """

    first: int
    at: int
    source: StoredMap


def tails(planner: Planner) -> Iterator[Tail]:
    """The tails of a network, the longest one first."""
    network, steps = planner.network, planner.schedule.steps
    last = len(network.layers) - 1
    first = last + 1
    while first > 0 and _of_pixels(network, network.layers[first - 1]):
        first -= 1
    most = last if network.layers[-1].output.wide and not one_pass(planner) else last + 1
    for start in range(first, most):
        own = [step for step in steps if step.index >= start and step.kind is not Kind.STORE]
        source = own[0].source
        if source is None or not _apart(network, start) or any(step.kind is not None for step in own):
            continue
        at, writers = steps.index(own[0]), [step for step in steps if step.target == source]
        kinds = (None,) if start else (Kind.LOAD,)
        if len(own) == last + 1 - start and len(writers) == 1 and writers[0].kind in kinds:
            yield Tail(start, at, source)


def one_pass(planner: Planner) -> bool:
    """Whether a pass may give the int32 results of several images; not with a residual operand."""
    last = planner.network.layers[-1]
    return planner.hw.images and isinstance(last, ConvShape) and last.residual is None


def _of_pixels(network: NetworkShape, layer: LayerShape) -> bool:
    """Whether a layer does the same with every pixel, and has one."""
    source, out = network.tensor(layer.input), layer.output
    one = (source.height, source.width, out.height, out.width) == (1, 1, 1, 1)
    return one and isinstance(layer, ConvShape) and layer.groups == 1 and not any(layer.padding)


def _apart(network: NetworkShape, start: int) -> bool:
    """Whether layers from `start` on read but one map of others, and that one not as a residual operand."""
    before = network.layers[start - 1].output.name if start else network.input.name
    later = network.layers[start:]
    own = {layer.output.name for layer in later}
    added = {x.residual for x in later if isinstance(x, ConvShape) and x.residual is not None}
    return added <= own and all(layer.input in {before, *own} for layer in later) and later[0].input == before

"""The schedule: which layer runs on which rows, and which maps exist.

Layers run one after the other on whole maps where these fit the activation memories. Where the first layers' maps do
not fit, they run strip by strip: a strip of the first map that fits is computed from the input down, with the rows
that neighbouring strips share computed twice. That is a matter of descriptors only. Where that does not do either,
the first layers are spilled to memory (`codesign.program.spilling`).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from math import ceil, gcd

from codesign.errors import UserError
from codesign.program.placement import MapUse, Place, PlacementError, check_alone, place_maps
from codesign.program.schedule import Kind, Rows, Schedule, Step, StoredMap, in_place, input_rows, words_of
from codesign.program.shapes import ConvShape, NetworkShape, PoolShape
from codesign.program.spilling import spilled_steps
from codesign.rtl.geometry import Geometry

LARGEST_DEPTH = 1 << 18
"""Activation memories are not described deeper than this."""


def build_schedule(network: NetworkShape, geometry: Geometry) -> Schedule:
    """The schedule with the fewest strips, over the fewest layers, whose maps fit.

    Raises UserError when none does: it names the first map that did not fit, and the depth that would do.
    """
    depth = geometry.act_depth
    try:
        return _search(network, geometry, depth)
    except UserError as error:
        reason = error
    while depth < LARGEST_DEPTH:
        depth *= 2
        try:
            _search(network, geometry, depth)
        except UserError:
            continue
        raise UserError(f"{str(reason).split(';')[0]}; set buffers.activation_words to {depth}") from None
    raise reason


def _search(network: NetworkShape, geometry: Geometry, depth: int) -> Schedule:
    """The first schedule that fits memories of `depth` words; the error of the one without strips if none does."""
    try:
        return _attempt(network, 0, 1, geometry, depth)
    except UserError as error:
        reason = error
    for count in _cuts(network):
        height = network.layers[count - 1].output.height
        strips = 2
        while strips <= height:
            try:
                return _attempt(network, count, strips, geometry, depth)
            except UserError:
                strips *= 2
    for count in _cuts(network):
        rest = replace(network, input=network.layers[count - 1].output, layers=network.layers[count:])
        try:
            resident = _attempt(rest, 0, 1, geometry, depth)
        except UserError:
            continue
        steps, places = spilled_steps(network, count, geometry, depth)
        later = (replace(step, index=step.index + count if step.index >= 0 else -1) for step in resident.steps)
        return Schedule((*steps, *later), places | resident.places, 1, count)
    raise reason


def _attempt(network: NetworkShape, count: int, strips: int, geometry: Geometry, depth: int) -> Schedule:
    """The schedule with the first `count` layers in `strips` strips, with copies where only these make it fit.

    A residual operand must not lie in the memory that is streamed. Where both maps fit only in the same memory, the
    operand is copied into the other one just before it is needed, when more of that memory is free.
    """
    given: list[Step] = []
    for step in _steps(network, count, strips, geometry):
        if step.target is not None:  # most attempts end here
            check_alone(step.target.name, words_of(step.target, geometry), len(given), depth)
        given.append(step)
    copied: frozenset[int] = frozenset()
    while True:
        steps = list(_with_copies(given, copied))
        try:
            return Schedule(tuple(steps), _place(steps, geometry, depth), strips)
        except PlacementError as error:
            candidates = (
                step.index for step in steps[error.born :] if step.residual is not None and step.index not in copied
            )
            next_candidate = next(candidates, None)
            if next_candidate is None or steps[error.born].index > next_candidate:
                raise
            copied |= {next_candidate}
            if len(copied) > len(network.layers):
                raise


def _with_copies(steps: Iterable[Step], copied: frozenset[int]) -> Iterator[Step]:
    """The steps, with a copy of the residual operand in front of every layer in `copied`."""
    producer: dict[str, int] = {}
    for step in steps:
        residual = step.residual
        if residual is not None and step.index in copied and residual.tensor.name in producer:
            tensor = residual.tensor
            height = residual.rows[1] - residual.rows[0]
            output = replace(tensor, height=height)
            copy = PoolShape(f"{tensor.name} (copy)", tensor.name, output, "max", (1, 1), (1, 1), (0, 0, 0, 0))
            moved = replace(residual, use="copy")
            yield Step(producer[tensor.name], copy, residual.rows, residual, moved, None, Kind.COPY)
            step = replace(step, residual=moved)
        if step.layer is not None:
            producer[step.layer.output.name] = step.index
        yield step


def _cuts(network: NetworkShape) -> Iterator[int]:
    """Numbers of first layers after which only their last output is still needed."""
    for count in range(1, len(network.layers)):
        inner = {network.input.name, *(layer.output.name for layer in network.layers[: count - 1])}
        later = network.layers[count:]
        used = {layer.input for layer in later} | {
            layer.residual for layer in later if isinstance(layer, ConvShape) and layer.residual is not None
        }
        if not inner & used:
            yield count


def _steps(network: NetworkShape, count: int, strips: int, geometry: Geometry) -> Iterator[Step]:
    """Steps with the first `count` layers in strips; UserError if rows cannot be cut so."""
    full = {network.input.name: StoredMap(network.input, (0, network.input.height))}
    if count == 0:
        whole = full[network.input.name]
        yield Step(-1, None, whole.rows, None, whole, None, Kind.LOAD)
    else:
        last = network.layers[count - 1].output
        target = StoredMap(last, (0, last.height))
        # a strip starts where the rotation of its pixels agrees with that of the whole map
        unit = geometry.groups // gcd(geometry.groups, last.width)
        size = ceil(ceil(last.height / strips) / unit) * unit
        for start in range(0, last.height, size):
            yield from _strip(network, count, (start, min(start + size, last.height)), target, geometry)
        full[last.name] = target
    for index in range(count, len(network.layers)):
        layer = network.layers[index]
        stored = None if layer.output.wide else StoredMap(layer.output, (0, layer.output.height))
        if stored is not None:
            full[layer.output.name] = stored
        residual = layer.residual if isinstance(layer, ConvShape) else None
        yield Step(
            index,
            layer,
            (0, layer.output.height),
            full[layer.input],
            stored,
            full[residual] if residual is not None else None,
        )
    result = network.layers[-1].output
    if not result.wide:
        whole = full[result.name]
        yield Step(len(network.layers) - 1, None, whole.rows, whole, None, None, Kind.STORE)


def _strip(network: NetworkShape, count: int, rows: Rows, target: StoredMap, geometry: Geometry) -> Iterator[Step]:
    """Steps that compute rows of the last of the first `count` layers from the input."""
    needed: dict[str, Rows] = {target.tensor.name: rows}

    def need(name: str, wanted: Rows) -> None:
        have = needed.get(name, wanted)
        needed[name] = (min(have[0], wanted[0]), max(have[1], wanted[1]))

    for layer in reversed(network.layers[:count]):
        wanted = needed[layer.output.name]
        need(layer.input, input_rows(layer, wanted, network.tensor(layer.input).height)[0])
        if isinstance(layer, ConvShape) and layer.residual is not None:
            need(layer.residual, wanted)

    stored = {name: StoredMap(network.tensor(name), span) for name, span in needed.items()}
    stored[target.tensor.name] = target
    source = stored[network.input.name]
    yield Step(-1, None, source.rows, None, source, None, Kind.LOAD)
    for index, layer in enumerate(network.layers[:count]):
        span = needed[layer.output.name]
        source = stored[layer.input]
        wanted, top, bottom = input_rows(layer, span, source.tensor.height)
        # rows held above or below what this layer wants are skipped by a negative padding
        padding = (top - (wanted[0] - source.rows[0]), bottom, layer.padding[2], layer.padding[3])
        residual = stored[layer.residual] if isinstance(layer, ConvShape) and layer.residual is not None else None
        if residual is not None and (span[0] - residual.rows[0]) * layer.output.width % geometry.groups:
            raise UserError(f"{layer.name}: rows of the residual operand are rotated differently")
        part = replace(layer, output=replace(layer.output, height=span[1] - span[0]), padding=padding)
        yield Step(index, part, span, source, stored[layer.output.name], residual)


def _place(steps: list[Step], geometry: Geometry, depth: int) -> dict[str, Place]:
    """Places of all stored maps, by their lives over the steps."""
    born: dict[str, int] = {}
    dies: dict[str, int] = {}
    apart: dict[str, set[str]] = {}
    replaces: dict[str, str] = {}
    sources: dict[str, str] = {}
    maps: dict[str, StoredMap] = {}
    for number, step in enumerate(steps):
        if step.source is not None:
            dies[step.source.name] = number
        if step.residual is not None and step.source is not None:
            if step.residual.name == step.source.name:
                assert step.layer is not None
                raise UserError(
                    f"{step.layer.name}: the residual operand {step.residual.tensor.name} is the map the layer "
                    "convolves; they must be different maps"
                )
            dies[step.residual.name] = number
            apart.setdefault(step.residual.name, set()).add(step.source.name)
            apart.setdefault(step.source.name, set()).add(step.residual.name)
        if step.target is not None:
            maps[step.target.name] = step.target
            born.setdefault(step.target.name, number)
            dies[step.target.name] = max(number, dies.get(step.target.name, number))
            if step.source is not None:
                sources.setdefault(step.target.name, step.source.name)
            if step.residual is not None and in_place(step.target.tensor, step.residual.tensor, geometry):
                replaces[step.target.name] = step.residual.name
    uses = [
        MapUse(
            name=name,
            words=words_of(stored, geometry),
            born=born[name],
            dies=dies[name],
            apart_from=tuple(sorted(apart.get(name, ()))),
            may_replace=replaces[name] if name in replaces and dies[replaces[name]] == born[name] else None,
            prefers_not=sources.get(name),
        )
        for name, stored in maps.items()
    ]
    return place_maps(uses, depth)

"""The schedule: which layer runs on which rows, and which maps exist.

Layers run one after the other on whole maps where these fit the activation memories. Where the first layers' maps do
not fit, they run strip by strip: a strip of the first map that fits is computed from the input down, with the rows
that neighbouring strips share computed twice. That is a matter of descriptors only. Where that does not do either, or
computes so much twice that it takes longer, the first layers are spilled to memory (`codesign.program.spilling`).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from fractions import Fraction
from functools import reduce
from itertools import product
from math import ceil, inf
from operator import or_
from typing import NamedTuple

from codesign.errors import UserError
from codesign.program.chains import rotation_unit, strip_of
from codesign.program.outline import Flags, Misfit, Outline, width_of, words_by_width
from codesign.program.placement import Place
from codesign.program.schedule import Kind, Rows, Schedule, Step, StoredMap
from codesign.program.shapes import ConvShape, NetworkShape, PoolShape
from codesign.program.spilling import Spills, maps_of
from codesign.program.stages import MOST_LAYERS, layer_cycles
from codesign.rtl.geometry import Geometry

SPILLS_BELOW = 0.99
"""Strips are left for spilled layers if these take less than so many of their cycles, which are estimated."""
LARGEST_DEPTH = 1 << 18
"""Activation memories are not described deeper than this."""


def build_schedule(network: NetworkShape, geometry: Geometry) -> Schedule:
    """The schedule with the fewest strips, over the fewest layers, whose maps fit; with spilled layers if it is faster.

    Raises UserError when none does: it names the first map that did not fit, and the depth that would do.
    """
    widths = {tensor.name: width_of(tensor, geometry) for tensor in network.maps}
    depth = geometry.act_depth
    try:
        schedules = Schedules(network, geometry, depth)
        return schedules.schedule(schedules.find(widths), widths)
    except UserError as error:
        reason = error
    while depth < LARGEST_DEPTH:
        depth *= 2
        try:
            Schedules(network, geometry, depth).find(widths)
        except UserError:
            continue
        raise UserError(f"{str(reason).split(';')[0]}; set buffers.activation_words to {depth}") from None
    raise reason


class Found(NamedTuple):
    """A schedule for some widths of codes.

    Attributes:
        outline: its steps, or those behind the spilled layers.
        places: of the outline's maps.
        strips: in how many strips the first layers run.
        spilled: how many layers run from and to memory.
        stripped: how many layers run in strips, from the input down.
        joined: whether some of the spilled layers share a stage, or the last ones keep what they give.
        keeps: whether they do.
    """

    outline: Outline
    places: Sequence[Place]
    strips: int
    spilled: int = 0
    stripped: int = 0
    joined: bool = False
    keeps: bool = False

    @property
    def steps(self) -> tuple[Step, ...]:
        """Those of the outline, but for the load of what spilled layers keep."""
        return self.outline.steps[self.keeps :]


class Schedules:
    """The schedules of a network, for any widths of its maps' codes, with memories of `depth` words.

    A residual operand must not lie in the memory that is streamed. Where both maps fit only in the same memory, the
    operand is copied into the other one just before it is needed, when more of that memory is free.
    """

    def __init__(self, network: NetworkShape, geometry: Geometry, depth: int) -> None:
        self.network, self.geometry, self.depth = network, geometry, depth
        self.spills = Spills(network, geometry, depth)
        self._flags = Flags()
        whole = {
            tensor.name: words_by_width(StoredMap(tensor, (0, tensor.height)), geometry) for tensor in network.maps
        }
        too_wide = {
            name: self._flags((name, width) for width, count in enumerate(words) if count > depth)
            for name, words in whole.items()
        }
        self._cuts: list[tuple[int, int]] = []  # layers, and the flags of later maps that exceed a memory
        for count in _cuts(network):
            later = (too_wide.get(layer.output.name, 0) for layer in network.layers[count - 1 :])
            self._cuts.append((count, reduce(or_, later, 0)))
        self._plain = dict.fromkeys(
            (tensor.name for tensor in network.maps), geometry.code_widths.index(geometry.act_bits)
        )
        self._estimates: dict[tuple[int, bool], int | Fraction | float] = {}  # by spilled layers, joined or not
        self._in_strips: dict[tuple[int, int], int | Fraction] = {}  # cycles, by layers in strips and strips
        self._hopeless: dict[int, set[int]] = {}  # flags that were looked at where no strips fit
        self._timed: dict[int, dict[int, Found]] = {}  # by the flags that were looked at
        self._outlines: dict[tuple[int, int, int, frozenset[int]], Outline | UserError] = {}
        self._given: dict[tuple[int, int, int], list[Step]] = {}
        self._spilled: dict[int, tuple[int, set[int]]] = {}  # by the layers: flags looked at, those that fitted
        self._attempted: dict[tuple[int, int, int], dict[int, dict[int, _Placed | _Failure]]] = {}

    def find(self, widths: Mapping[str, int]) -> Found:
        """The first schedule that fits; the error of the one without strips if none does.

        Args:
            widths: of the codes of every stored map, as places in `Geometry.code_widths`, by name.
        """
        return self._find(widths, self._flags(widths.items()))[0]

    def timed(self, widths: Mapping[str, int]) -> Found:
        """What `find` finds but for the words at which maps lie, which make no difference to timing.

        Of many assignments most differ in widths that decide nothing, those of maps that fit in any case.
        """
        given = self._flags(widths.items())
        for looked_at, known in self._timed.items():
            if (found := known.get(given & looked_at)) is not None:
                return found
        found, looked_at = self._find(widths, given)
        self._timed.setdefault(looked_at, {})[given & looked_at] = found
        return found

    def _find(self, widths: Mapping[str, int], given: int) -> tuple[Found, int]:
        """What `find` finds, and the flags that decided about it."""
        found, looked_at = self._on_chip(widths, given)
        if found is not None and not found.stripped:
            return found, looked_at
        best: Found | None = None
        for count, too_wide in self._cuts:
            known = best or found
            if known is not None and count > max(known.spilled, known.stripped) + MOST_LAYERS:
                break
            joined = self.spills.joins(count, widths)
            looked_at |= self._joining(count)
            if known is not None and not self._estimate(count, joined) < self._to_beat(known):
                continue
            looked_at |= too_wide
            if given & too_wide:
                continue
            placed = self._attempt(count, 0, 1, widths, given)
            looked_at |= placed.looked_at
            if isinstance(placed, _Failure):
                continue
            try:
                looked_at |= self._checked(count, widths, given)
            except UserError:
                if known is None:
                    raise
                looked_at |= self._of_first(count)
                continue
            keeps = joined and self.spills.keeps(count)
            best = Found(placed.outline, placed.places, 1, count, joined=joined, keeps=keeps)
        if best is not None:
            return best, looked_at
        if found is not None:
            return found, looked_at
        reason = self._attempt(0, 0, 1, widths, given)
        assert isinstance(reason, _Failure)
        raise reason.error(widths)

    def _joining(self, count: int) -> int:
        """The flags that decide whether some of the first `count` layers share a stage."""
        return self._of_first(count) if self.spills.may_join(count) else 0

    def _of_first(self, count: int) -> int:
        """The flags of any widths of the maps of the first `count` layers."""
        layers = self.network.layers[:count]
        names = {name for layer in layers for name in maps_of(layer) if name in self._plain}
        return self._flags(product(names, range(len(self.geometry.code_widths))))

    def _estimate(self, count: int, joined: bool) -> int | Fraction | float:
        """About the cycles of the network with so many layers spilled and all maps at `act_bits`."""
        key = count, joined
        if key not in self._estimates:
            try:
                self._estimates[key] = self.spills.cycles(count, self._plain, joined) + self._whole(count)
            except UserError:  # a strip does not fit
                self._estimates[key] = inf
        return self._estimates[key]

    def _whole(self, begin: int) -> int | Fraction:
        """About the cycles of the layers from `begin` on, on chip."""
        layers = self.network.layers[begin:]
        return sum(
            layer_cycles(layer, self.network.tensor(layer.input), self._plain, self.geometry) for layer in layers
        )

    def _to_beat(self, found: Found) -> int | Fraction | float:
        """The estimate below which another number of spilled layers is taken.

        All maps count with `act_bits`, so that it is the same for all widths that have the same strips.
        """
        if found.spilled:
            return self._estimate(found.spilled, found.joined)
        key = found.stripped, found.strips
        if key not in self._in_strips:
            total = self._whole(found.stripped)
            for step in self._without_copies(0, found.stripped, found.strips):
                if step.layer is not None and step.index < found.stripped:
                    total += layer_cycles(step.layer, self.network.tensor(step.layer.input), self._plain, self.geometry)
                elif step.kind is Kind.LOAD and step.target is not None:
                    total += self.spills.load_cycles(step.target, self._plain)
            self._in_strips[key] = total
        return SPILLS_BELOW * self._in_strips[key]

    def _checked(self, count: int, widths: Mapping[str, int], given: int) -> int:
        """The flags that decide that strips of the first `count` layers fit, which they do; UserError otherwise."""
        looked_at, known = self._spilled.setdefault(count, (0, set()))
        if not known or given & looked_at not in known:
            looked_at = self._flags(self.spills.check(count, widths))  # the same for all widths that fit
            known.add(given & looked_at)
            self._spilled[count] = looked_at, known
        return looked_at

    def _on_chip(self, widths: Mapping[str, int], given: int) -> tuple[Found | None, int]:
        """The first schedule in which no layer is spilled, if there is one, and the flags that decided about it."""
        for looked_at, known in self._hopeless.items():
            if given & looked_at in known:
                return None, looked_at
        looked_at = 0
        for count, too_wide in ((0, 0), *self._cuts):
            looked_at |= too_wide
            if given & too_wide:
                continue
            strips = 2 if count else 1
            while strips <= (self.network.layers[count - 1].output.height if count else 1):
                placed = self._attempt(0, count, strips, widths, given)
                looked_at |= placed.looked_at
                if not isinstance(placed, _Failure):
                    return Found(placed.outline, placed.places, strips, stripped=count), looked_at
                strips *= 2
        self._hopeless.setdefault(looked_at, set()).add(given & looked_at)
        return None, looked_at

    def schedule(self, found: Found, widths: Mapping[str, int]) -> Schedule:
        """What was found as steps whose maps have the network's own bits."""
        names = [stored.name for stored in found.outline.maps]
        places = dict(zip(names, found.places, strict=True))
        steps = found.outline.steps
        if found.spilled:
            spilled, others = self.spills.steps(found.spilled, widths, found.places[0][0])
            steps, places = (*spilled, *found.steps), others | places
        return Schedule(steps, places, found.strips, found.spilled)

    def _attempt(
        self, skipped: int, count: int, strips: int, widths: Mapping[str, int], given: int
    ) -> _Placed | _Failure:
        """What `_tried` gives, once for all widths that differ only in what it has not looked at."""
        attempts = self._attempted.setdefault((skipped, count, strips), {})
        for looked_at, known in attempts.items():
            if (found := known.get(given & looked_at)) is not None:
                return found
        found = self._tried(skipped, count, strips, widths, given)
        attempts.setdefault(found.looked_at, {})[given & found.looked_at] = found
        return found

    def _tried(
        self, skipped: int, count: int, strips: int, widths: Mapping[str, int], given: int
    ) -> _Placed | _Failure:
        """Without the first layers, with the next `count` in strips, and copies where only these make it fit."""
        copied: frozenset[int] = frozenset()
        looked_at = 0
        while True:
            outline = self._outline(skipped, count, strips, copied)
            if isinstance(outline, UserError):
                return _Failure(outline, 0, looked_at)
            if not copied:
                looked_at |= outline.too_wide
                if given & outline.too_wide:
                    return _Failure(outline, -1, looked_at)
            found = outline.place(widths, given)
            if not isinstance(found, Misfit):
                return _Placed(outline, found.places, looked_at | outline.deciding(found))
            looked_at |= found.looked_at
            born, steps = outline.born(found.number), outline.steps
            candidates = (step.index for step in steps[born:] if step.residual is not None and step.index not in copied)
            candidate = next(candidates, None)
            if candidate is None or steps[born].index > candidate or len(copied) >= len(self.network.layers):
                return _Failure(outline, found.number, looked_at)
            copied |= {candidate}

    def _outline(self, skipped: int, count: int, strips: int, copied: frozenset[int]) -> Outline | UserError:
        key = skipped, count, strips, copied
        if key not in self._outlines:
            try:
                steps = list(_with_copies(self._without_copies(skipped, count, strips), copied))
                self._outlines[key] = Outline(steps, self.geometry, self.depth, self._flags)
            except UserError as error:
                self._outlines[key] = error
        return self._outlines[key]

    def _without_copies(self, skipped: int, count: int, strips: int) -> list[Step]:
        """Steps without the first layers, the next `count` in strips; UserError if rows cannot be cut so."""
        key = skipped, count, strips
        if key not in self._given:
            steps = list(_steps(self.network.behind(skipped), count, strips, self.geometry))
            if skipped:
                steps = [replace(step, index=step.index + skipped if step.index >= 0 else -1) for step in steps]
            self._given[key] = steps
        return self._given[key]


class _Placed(NamedTuple):
    """Maps with their places, and the flags that decided that they have them."""

    outline: Outline
    places: list[Place]
    looked_at: int


class _Failure(NamedTuple):
    """Why maps cannot be placed.

    Attributes:
        of: an outline that does not fit, or why there is none.
        number: of the map that does not fit beside others; -1 if one does not fit alone.
        looked_at: flags that decided about it.
    """

    of: Outline | UserError
    number: int
    looked_at: int

    def error(self, widths: Mapping[str, int]) -> UserError:
        """The error that says so."""
        if isinstance(self.of, UserError):
            return self.of
        return self.of.alone(widths) if self.number < 0 else self.of.no_room(self.number, widths)


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
        unit = rotation_unit(last.width, geometry)
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
    strip = strip_of(network, range(count), rows, target, geometry)
    yield Step(-1, None, strip.source.rows, None, strip.source, None, Kind.LOAD)
    for part in strip.parts:
        yield Step(part.index, part.layer, part.rows, part.source, part.target, part.residual)

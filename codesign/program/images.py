"""Many images from one start: the steps of one image after the other, in one stream.

Two things make that faster than as many starts:

* The first rows of the next image are loaded while the image before is still computed, beside the step that hides most
  of it: one that writes the other memory, and from which on nobody needs the words that are loaded over. The rows may
  lie anywhere in their memory, so they are put where such a step can be found. Where there is none, the load waits for
  the image's end.
* Layers on maps of one pixel, behind which nothing spatial comes (a tail), are computed for a group of images in one
  step, with the images as pixels of one map: their weights, which bound their time, are read once for all of them. The
  last layer before the tail writes one pixel of that map for every image. These pixels have groups that are not
  rotated, as the only pixel of a map has; whoever reads them is told so. int32 results leave for one pixel at a time,
  so a last layer that gives them runs image by image; or, with `Hardware.images`, in tiles of one image each.

Maps stay in the memories in which they lie when there is one image: what is written beside what is read decides about
the speed of a layer (second readers), and no layer becomes slower.

Still a series may be some cycles slower than as many starts. A start begins with a burst of its own, and in a series an
image begins within one: the FIFO has room for whole bursts, so it may be less full when the loader goes on, or more is
read behind the end to fill the last burst. So there are several plans, from that of the longest tail to images behind
fences, which begin with a burst each and take as long as starts do. (Where a beat takes longer than the latency, the
memory rests before a start, and the next beat of a series is due some cycles later.) Who knows exact cycles chooses.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from math import ceil
from typing import NamedTuple

from codesign.errors import UserError, option
from codesign.program.dealing import Row
from codesign.program.passes import RowSet
from codesign.program.placement import Place, first_gap
from codesign.program.plan import Placement, Plan, StepPlan
from codesign.program.planner import PlannedStep, Planner, plan_step
from codesign.program.schedule import Kind, Step, StoredMap
from codesign.program.tails import Tail, one_pass, tails
from codesign.rtl.geometry import Geometry
from codesign.rtl.layout import Op

MOST_TOGETHER = 256
"""Images of a group: by then computing takes longer than loading weights."""
ADDRESSES = 1 << 32
"""Bytes that the accelerator can address."""


Choose = Callable[[Sequence[Plan]], int]
"""Which of some plans to take, by its number: `codesign.sim.timing.plan_timing.fastest`."""


class Series(NamedTuple):
    """Images one after the other.

    Attributes:
        steps: of all of them, in the order of the stream.
        plan: of these.
    """

    steps: tuple[PlannedStep, ...]
    plan: Plan


def plan_images(planner: Planner, rows: Sequence[Sequence[Row]], images: int, choose: Choose | None = None) -> Series:
    """The plan of `images` images from one start, with the filters `rows` of every convolution, in order.

    Args:
        planner: of the network on the accelerator.
        rows: of every convolution, in order.
        images: how many.
        choose: which of the plans that there are is taken. If it is not given, the first one: that of the longest tail,
            mostly the fastest, which may be slower than as many starts.

    Raises:
        UserError: as `Planner.plan`, or there are no such many images.
    """
    sets = planner.sets(rows)
    plans = planner.with_passes(planner.steps, sets)
    alone = planner.stream(plans)
    if images == 1:
        return Series(planner.steps, alone)
    _check(images, alone)
    found = _found(planner, sets, plans, images)
    if choose is None:
        return next(found)
    every = list(found)
    return every[choose([series.plan for series in every])]


def _found(
    planner: Planner, sets: Mapping[int, Sequence[RowSet]], plans: Sequence[StepPlan], images: int
) -> Iterator[Series]:
    """Every series that is looked at: of each tail, the longest one first, of none, and with fences between images.

    `plans` are those of the steps of one image.
    """
    for tail in tails(planner):
        layout = _joined(planner, sets, tail, images)
        if layout is not None:
            yield _series(planner, sets, layout, images)
    plain = _layout(planner, sets, None, 1)
    assert plain is not None
    yield _series(planner, sets, plain, images)
    yield _fenced(planner, plans, images)


def _joined(planner: Planner, sets: Mapping[int, Sequence[RowSet]], tail: Tail, images: int) -> _Layout | None:
    """The layout of the largest groups that fit; None if there are none."""
    groups = ceil(images / MOST_TOGETHER)
    while (together := ceil(images / groups)) > 1:
        try:
            found = _layout(planner, sets, tail, together)
        except UserError:  # of so many pixels a layer takes too many passes
            found = None
        if found is not None:
            return found
        groups *= 2
    return None


def _fenced(planner: Planner, plans: Sequence[StepPlan], images: int) -> Series:
    """Images as they are alone, with a fence before each but the first, behind which the reader begins anew."""
    fence = _moved(planner, Step(-1, None, (0, 0), None, None, None, Kind.FENCE), {})
    steps, made = [*planner.steps], [*plans]
    for image in range(1, images):
        steps += [fence, *planner.steps]
        made += [replace(plan, image=image) for plan in (fence.plan, *plans)]
    return Series(tuple(steps), planner.stream(made, images))


def _check(images: int, alone: Plan) -> None:
    """UserError for a count of images that there cannot be."""
    size = alone.beats * alone.geometry.beat_bytes
    if images < 1:
        raise UserError(f"{option('batch')}: {images} given, must be at least 1")
    if images * size >= ADDRESSES:
        raise UserError(
            f"{option('batch')}: {images} given, a program of {size:,} bytes for each exceeds addresses of 32 bits: at "
            f"most {(ADDRESSES - 1) // size}"
        )


@dataclass(frozen=True)
class _Spot:
    """Where the load of the next image's first rows stands: behind the step at `at`, or beside it if it is `early`.

    `exposed` is about how many cycles of it nothing hides.
    """

    at: int
    early: bool
    exposed: Fraction


@dataclass(frozen=True)
class _Layout:
    """How images of a group lie.

    Attributes:
        tail: what is computed together, by groups of `together`.
        places: of stored maps, by name; those of a tail have a pixel for each image of a group.
        inner, outer: where the next image is loaded, within a group and at its end.
    """

    tail: Tail | None
    together: int
    places: Mapping[str, Place]
    inner: _Spot | None
    outer: _Spot


def _layout(planner: Planner, sets: Mapping[int, Sequence[RowSet]], tail: Tail | None, together: int) -> _Layout | None:
    """The layout that hides most of the loads; None if maps do not fit."""
    given = planner.schedule.places
    first = planner.steps[0].target
    assert first is not None
    at = len(planner.steps) if tail is None else tail.at
    plans = planner.with_passes(planner.steps[1:at], sets)
    of_tail: list[StepPlan] | None = None
    found: _Layout | None = None
    load = first
    if tail is not None and tail.first == 0:
        load = replace(first, tensor=replace(first.tensor, width=together))
    for memory, base in _free_places(planner, at, load):
        places = dict(given) | {_name(planner.schedule.steps[0]): (memory, base)}
        if tail is not None:
            placed = _place_tail(planner, tail, together, places)
            if placed is None:
                continue
            places |= placed
        head = [_moved(planner, step, places) for step in planner.schedule.steps[1:at]]
        behind = [] if tail is None else list(_together(planner, tail, together, places))
        if of_tail is None:
            of_tail = planner.with_passes(behind, sets)
        load = replace(load, memory=memory, base=base)
        inner = None
        if tail is not None and tail.first > 0 and together > 1:
            inner = _spot(planner.geometry, load, head, plans)
        outer = _spot(planner.geometry, load, [*head, *behind], [*plans, *of_tail])
        layout = _Layout(tail, together, places, inner, outer)
        if found is None or _exposed(layout) < _exposed(found):
            found = layout
    return found


def _exposed(layout: _Layout) -> Fraction:
    """Cycles of loads of a group that nothing hides."""
    return layout.outer.exposed + (layout.together - 1) * (layout.inner.exposed if layout.inner else 0)


def _name(step: Step) -> str:
    """Name of what is written."""
    assert step.target is not None
    return step.target.name


class _Life(NamedTuple):
    """Words that are in use from step `born` to step `dies`."""

    memory: int
    base: int
    words: int
    born: int
    dies: int

    def meets(self, memory: int, base: int, words: int) -> bool:
        """Whether it has some of these words."""
        return self.memory == memory and self.base < base + words and base < self.base + self.words


def _lives(steps: Sequence[PlannedStep]) -> dict[tuple[str, int], _Life]:
    """Lives of the maps that steps read and write, by name and first word."""
    found: dict[tuple[str, int], _Life] = {}
    for number, planned in enumerate(steps):
        step = planned.step
        born = number - planned.plan.early  # an early load comes while the step before runs
        maps = (step.source, planned.source), (step.residual, planned.residual), (step.target, planned.target)
        for stored, place in maps:
            if stored is not None and place is not None and not (step.kind is Kind.STORE and stored is step.target):
                known = found.get((stored.name, place.base))
                first = known.born if known else born
                found[stored.name, place.base] = _Life(place.memory, place.base, place.words, first, number)
    return found


def _free_places(planner: Planner, at: int, first: Placement) -> list[Place]:
    """Where the first rows of an image may lie, beside what else the first `at` steps need.

    The place that they have when there is one image comes first. With two readers they stay in their memory.
    """
    steps = planner.steps[:at]
    lives = _lives(steps)
    name = _name(planner.schedule.steps[0])
    own = lives.pop((name, first.base))
    words, depth = first.words, planner.geometry.act_depth
    found = [(first.memory, first.base)]
    for memory in (0, 1):
        if memory != first.memory and (planner.geometry.second_reader or _streamed(steps, name, memory)):
            continue
        others = [life for life in lives.values() if life.memory == memory]
        edges = {0, depth - words}
        for life in others:
            edges |= {life.base + life.words, life.base - words}
        for base in sorted(edges):
            beside = (life for life in others if life.meets(memory, base, words))
            if 0 <= base <= depth - words and all(life.born > own.dies for life in beside):
                found.append((memory, base))
    return found


def _streamed(steps: Sequence[PlannedStep], name: str, memory: int) -> bool:
    """Whether a step reads both its operands from `memory` if the map called `name` lies there."""
    for planned in steps:
        maps = (planned.step.source, planned.source), (planned.step.residual, planned.residual)
        read = [(stored.name, place.memory) for stored, place in maps if stored is not None and place is not None]
        if len(read) == 2 and any(one == name for one, _ in read) and memory in (at for one, at in read if one != name):
            return True
    return False


def _place_tail(planner: Planner, tail: Tail, together: int, places: Mapping[str, Place]) -> dict[str, Place] | None:
    """Places of a tail's maps, of as many pixels as a group has images; None if they do not fit.

    The map that the tail reads is beside all that other layers need, which come between its pixels.
    """
    steps = planner.schedule.steps
    source = tail.source.name
    others = {} if tail.first == 0 else _lives([_moved(planner, step, places) for step in steps[: tail.at]])
    taken = [life._replace(born=-1, dies=-1) for (name, _), life in others.items() if name != source]
    found: dict[str, Place] = {}
    dies = {source: 0}
    for number, step in enumerate(steps[tail.at :]):
        for stored in (step.source, step.residual, step.target):
            if stored is not None:
                dies[stored.name] = number
    born = {source: -1} | {
        _name(step): number for number, step in enumerate(steps[tail.at :]) if step.target is not None
    }
    tensors = {source: tail.source.tensor} | {
        step.target.tensor.name: step.target.tensor for step in steps[tail.at :] if step.target is not None
    }
    for name, start in born.items():
        memory, base = places[name]
        words = together * planner.words_per_pixel(tensors[name])
        where = base if name == source and tail.first == 0 else _gap(words, memory, start, taken, planner.geometry)
        if where is None or where + words > planner.geometry.act_depth:
            return None
        found[name] = (memory, where)
        if name == source:  # from here on what comes before the tail is no longer there
            taken = []
        taken.append(_Life(memory, where, words, start, dies[name]))
    return found


def _gap(words: int, memory: int, born: int, taken: Sequence[_Life], geometry: Geometry) -> int | None:
    """The first of so many words of a memory that nothing has which is in use at `born`."""
    beside = (life for life in taken if life.memory == memory and life.dies >= born)
    return first_gap(words, sorted((life.base, life.words) for life in beside), geometry.act_depth)


def _placement(planner: Planner, stored: StoredMap | None, places: Mapping[str, Place]) -> Placement | None:
    if stored is None or stored.name not in places:
        return None
    return Placement(stored.tensor, stored.rows, *places[stored.name], planner.words_per_pixel(stored.tensor))


def _moved(planner: Planner, step: Step, places: Mapping[str, Place]) -> PlannedStep:
    """A step whose maps lie at `places`."""
    source, target, residual = (
        _placement(planner, stored, places) for stored in (step.source, step.target, step.residual)
    )
    plan = plan_step(step, planner.network.number(step.index), source, target, planner.geometry)
    return PlannedStep(step, plan, source, residual, target)


def _together(planner: Planner, tail: Tail, together: int, places: Mapping[str, Place]) -> Iterator[PlannedStep]:
    """The steps of a tail for a group of images; `image` of their plans is counted from the group's first one."""

    def wide(stored: StoredMap | None) -> StoredMap | None:
        return None if stored is None else replace(stored, tensor=replace(stored.tensor, width=together))

    for step in planner.schedule.steps[tail.at :]:
        layer = step.layer
        of_first = step.source == tail.source
        apart = layer is not None and layer.output.wide
        if apart and not one_pass(planner):
            for image in range(together):
                planned = _moved(planner, step, places)
                place = planned.source
                assert place is not None
                place = replace(place, base=place.base + image * place.words_per_pixel)
                key = 0 if of_first else image % planner.geometry.groups
                yield replace(planned, plan=replace(planned.plan, image=image), source=place, key=key)
            continue
        if layer is not None:
            height, width = (together, planner.geometry.columns) if apart else (1, together)
            layer = replace(layer, output=replace(layer.output, height=height, width=width), stride=(1, 1))
        many = replace(step, layer=layer, source=wide(step.source), target=wide(step.target))
        many = replace(many, residual=wide(step.residual))
        planned = _moved(planner, many, places)
        yield replace(planned, plan=replace(planned.plan, together=together), alike=of_first, apart=apart)


def _spot(geometry: Geometry, load: Placement, steps: Sequence[PlannedStep], plans: Sequence[StepPlan]) -> _Spot:
    """Where a load of the next image costs least among the steps of the image before."""
    slow = geometry.hw.memory.cycles_per_beat
    beats = Fraction(load.words * geometry.load_beats + geometry.descriptor_beats) * slow
    last = len(steps) - 1
    slacks: dict[int, Fraction] = {}  # by what a plan walks: images have steps of the same passes
    found = _Spot(last, False, beats)
    free = 1 + max(
        (x.dies for x in _lives(steps).values() if x.meets(load.memory, load.base, load.words)),
        default=-1,
    )
    for number in range(free, len(steps)):
        planned, plan = steps[number], plans[number]
        following = plans[number + 1] if number < last else None
        if plan.op in (Op.LOAD, Op.FENCE) or (following is not None and following.op in (Op.LOAD, Op.FENCE)):
            continue
        if planned.target is not None and planned.plan.op != Op.STORE and planned.target.memory == load.memory:
            continue
        reads_twice = geometry.second_reader and (plan.half or plan.pairs)
        if reads_twice and planned.source is not None and planned.source.memory == load.memory:
            continue  # by the port that the load would write by
        after = following if following is not None else plans[0]
        needed = Fraction(after.passes[0].beats(geometry) if after.passes else 0) + geometry.descriptor_beats
        walked = id(plan.windows or plan.passes)
        slack = slacks[walked] if walked in slacks else slacks.setdefault(walked, _slack(plan, geometry))
        exposed = max(Fraction(0), beats + needed * slow - slack) - max(Fraction(0), needed * slow - slack)
        if exposed <= found.exposed:
            found = _Spot(number, True, exposed)
    return found


def _slack(plan: StepPlan, geometry: Geometry) -> Fraction:
    """About the cycles for which a step goes on when all of it is loaded."""
    if plan.windows is not None:
        return Fraction(plan.windows.length)
    slow = geometry.hw.memory.cycles_per_beat
    loaded, done, before = Fraction(0), Fraction(0), Fraction(0)
    for item in plan.passes:  # two of them at a time are in the accelerator
        loaded = max(loaded, before) + Fraction(item.beats(geometry)) * slow
        before, done = done, max(loaded, done) + item.tiling.length
    return done - loaded


def _series(planner: Planner, sets: Mapping[int, Sequence[RowSet]], layout: _Layout, images: int) -> Series:
    """The steps of all images."""
    tail, places, size = layout.tail, layout.places, layout.together
    first, *rest = planner.schedule.steps
    at = len(rest) if tail is None else tail.at - 1
    head = [_moved(planner, step, places) for step in rest[:at]]
    plans = planner.with_passes(head, sets)
    of_tail: dict[int, tuple[list[PlannedStep], list[StepPlan]]] = {}
    steps: list[PlannedStep] = []
    made: list[StepPlan] = []

    def load(image: int, count: int, early: bool) -> None:
        step = replace(first, early=early)
        if tail is not None and tail.first == 0:
            assert step.target is not None
            step = replace(step, target=replace(step.target, tensor=replace(step.target.tensor, width=count)))
        planned = _moved(planner, step, places)
        steps.append(planned)
        made.append(replace(planned.plan, image=image, together=count))

    begun = range(0, images, size)
    joined = tail is not None and tail.first == 0  # whole groups are loaded at once
    load(0, min(size, images) if joined else 1, early=False)
    for begin in begun:
        count = min(size, images - begin)
        if tail is not None and count not in of_tail:
            behind = list(_together(planner, tail, count, places))
            of_tail[count] = behind, planner.with_passes(behind, sets)
        for image in range(begin, begin + (1 if joined else count)):
            run, run_plans = list(head), [replace(plan, image=image) for plan in plans]
            if tail is not None and not joined:
                run, run_plans = _writing(tail, image - begin, run, run_plans)
            is_last = joined or image == begin + count - 1
            if is_last and tail is not None:
                behind, behind_plans = of_tail[count]
                run += behind
                run_plans += [replace(plan, image=begin + plan.image) for plan in behind_plans]
            following = begin + count if is_last else image + 1
            spot = layout.outer if is_last else layout.inner
            assert spot is not None
            cut = min(spot.at + 1, len(run))  # of a smaller group the last layer may have fewer steps
            steps += run[:cut]
            made += run_plans[:cut]
            if following < images:
                load(following, min(size, images - following) if joined else 1, spot.early)
            steps += run[cut:]
            made += run_plans[cut:]
    return Series(tuple(steps), planner.stream(made, images))


def _writing(
    tail: Tail, image: int, steps: list[PlannedStep], plans: list[StepPlan]
) -> tuple[list[PlannedStep], list[StepPlan]]:
    """The steps before a tail of image `image` of a group: the last one writes that pixel."""
    found = list(steps)
    for number, (planned, plan) in enumerate(zip(steps, plans, strict=True)):
        if planned.step.target == tail.source:
            assert planned.target is not None
            assert plan.written is not None
            skipped = image * planned.target.words_per_pixel
            written = replace(plan.written, base=plan.written.base + skipped)
            found[number] = replace(planned, target=replace(planned.target, base=planned.target.base + skipped))
            plans[number] = replace(plan, written=written)
    return found, plans

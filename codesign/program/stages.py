"""Stages: layers in a row that run strip by strip from and to memory, and where their maps lie meanwhile.

A stage loads the input rows of a strip, computes them through all its layers and stores what the last one gives; rows
that neighbouring strips share are loaded, and inside a stage computed, twice. Of layers in one stage the maps between
them stay on chip, of layers in stages of their own nothing is computed twice: the one is fused layers (Alwani et al.,
"Fused-layer CNN accelerators", MICRO 2016), and what is fastest often lies between.

The last stage may keep what it gives on chip, where what follows reads it.

The input of the next strip is loaded early, beside a layer of the strip that leaves the port by which loads write:
where its own input is no longer needed, in the same words, else at the other end of the memory. Where there is no such
layer, it is loaded beside the store.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import cycle, product
from math import ceil
from typing import NamedTuple

from codesign.errors import UserError
from codesign.program.chains import Strip, rotation_unit, strip_of
from codesign.program.depthwise import reads_of, reads_two, windows_of
from codesign.program.passes import leaves_by_twos
from codesign.program.placement import Place, first_gap
from codesign.program.schedule import Rows, StoredMap
from codesign.program.shapes import ConvShape, LayerShape, MapShape, NetworkShape, PoolShape
from codesign.program.tiling import tile_pixels
from codesign.rtl.geometry import Geometry

MOST_LAYERS = 6
"""Layers of a stage that are looked at."""
SMALLER = 3
"""Heights of strips that are tried below the largest ones that fit."""

Words = Callable[[StoredMap], int]
"""The words of stored rows."""


@dataclass(frozen=True)
class Stage:
    """Some layers in strips.

    Attributes:
        layers: their numbers.
        strips: from the top.
        beside: the layer, as a place in the stage, beside which the next strip's input is loaded; one more than the
            last: beside what follows it, the store, if there is one.
        places: of what is stored, by name.
        cycles: about how long it takes.
        keeps: whether what it gives stays, as a whole, from the first word of a memory on.
    """

    layers: range
    strips: tuple[Strip, ...]
    beside: int
    places: Mapping[str, Place]
    cycles: int | Fraction
    keeps: bool = False

    def with_kept_in(self, memory: int) -> Stage:
        """The same with what it keeps in this memory."""
        if not self.keeps or self.places[self.strips[0].target.name][0] == memory:
            return self
        return replace(self, places={name: (1 - own, base) for name, (own, base) in self.places.items()})


class _Layout(NamedTuple):
    """Where the maps of every strip lie: the input, and the output of every layer.

    Attributes:
        places: of the maps; of the input in even strips.
        odd: of the input in odd strips.
    """

    places: tuple[Place, ...]
    odd: Place


def find_stage(
    network: NetworkShape,
    layers: range,
    words: Words,
    widths: Mapping[str, int],
    geometry: Geometry,
    depth: int,
    keeps: bool = False,
) -> Stage | None:
    """The fastest strips of some layers that keep the maps between them on chip; None if none fit.

    Args:
        words: by stored rows.
        widths: of the maps' codes, as places in `Geometry.code_widths`.
        depth: words of a memory.
        keeps: whether what they give is to stay on chip.
    """
    found: Stage | None = None
    fitting = 0
    last_results = geometry.result_latency + geometry.rows + geometry.write_stage  # until these are written
    ends = len(layers) * last_results
    for cuts in _heights(network, layers, geometry, keeps):
        fits = False
        for strips in cuts:
            more = (len(strips) - len(cuts[0])) * ends
            here = _fastest(strips, layers, words, widths, geometry, depth, keeps, found, more)
            fits |= here is not None
            found = here or found
        fitting += fits or fitting > 0
        if fitting > SMALLER:
            break
    return found


def _heights(
    network: NetworkShape, layers: range, geometry: Geometry, keeps: bool
) -> Iterator[tuple[tuple[Strip, ...], ...]]:
    """Ways to cut the last layer's output, by the height of strips, highest first; none where rows cannot be cut so."""
    last = network.layers[layers[-1]].output
    unit = rotation_unit(last.width, geometry)
    of_source = rotation_unit(network.tensor(network.layers[layers[0]].input).width, geometry)
    sizes = dict.fromkeys(ceil(ceil(last.height / count) / unit) * unit for count in range(1, last.height + 1))
    for size in sizes:
        cuts = []
        firsts = (size, unit) if len(layers) == 1 else (size,)
        ways = [tuple(_cut(last.height, size, first)) for first in firsts]
        if _pools(network.layers[layers[-1]]):  # of which a strip one row higher needs two more rows of results
            ways.append(tuple(_cut_by_turns(last.height, size, size + unit)))
        for cut in dict.fromkeys(ways):
            strips = []
            for rows in cut:
                use = f"for rows {rows[0]} to {rows[1] - 1} of {last.name}"
                target = StoredMap(last, (0, last.height)) if keeps else StoredMap(last, rows, "spilled")
                try:
                    strips.append(strip_of(network, layers, rows, target, geometry, use, of_source))
                except UserError:
                    break
            else:
                cuts.append(tuple(strips))
        if cuts:
            yield tuple(cuts)


def _cut(height: int, size: int, first: int) -> Iterator[Rows]:
    """Strips of `size` rows, from the top; before them lower ones, from `first` on each twice as high as the last.

    Nothing is computed while the first one's input is loaded. Only of a single layer, where a strip's load is beside
    all that the strip before it does, is it known well enough whether that gains more than the strips' own ends take.
    """
    start = 0
    while start < height:
        end = min(start + first, height)
        yield start, end
        start, first = end, min(2 * first, size)


def _cut_by_turns(height: int, even: int, odd: int) -> Iterator[Rows]:
    """Strips of `even` and `odd` rows by turns, from the top, whose inputs fit beside each other."""
    start = 0
    for size in cycle((even, odd)):
        yield start, min(start + size, height)
        start += size
        if start >= height:
            return


def _pools(layer: LayerShape) -> bool:
    """Whether it writes maxima of its results."""
    return isinstance(layer, ConvShape) and layer.pooled is not None


def _fastest(
    strips: Sequence[Strip],
    layers: range,
    words: Words,
    widths: Mapping[str, int],
    geometry: Geometry,
    depth: int,
    keeps: bool,
    than: Stage | None,
    more: int = 0,
) -> Stage | None:
    """The fastest stage with these strips, if it is faster than `than`, with `more` cycles; None if there is none."""
    count = len(layers)
    chain = _Chain(strips[0], keeps)
    maps = [_maps(strip) for strip in strips]
    sizes = [max(words(of_strip[place]) for of_strip in maps) for place in range(count + 1)]
    inputs = sizes[0], sizes[0]  # of even and odd strips
    if _pools(strips[0].parts[-1].layer) and len(strips) > 1:
        even, odd = (max(words(of_strip[0]) for of_strip in maps[begin::2]) for begin in (0, 1))
        inputs = even, odd
    for place in range(count):
        alive = sum(size for size, (born, dies) in zip(sizes, chain.lives, strict=True) if born <= place <= dies)
        if max(sizes) > depth or alive > 2 * depth:
            return None
    per_beat = geometry.load_beats * geometry.hw.memory.cycles_per_beat
    loads = [words(strip.source) * per_beat for strip in strips]
    stores = [0 if keeps else words(strip.target) * geometry.load_beats for strip in strips]
    works = {
        frees: [
            [layer_cycles(part.layer, part.source.tensor, widths, geometry, frees) for part in strip.parts]
            for strip in strips
        ]
        for frees in (False, True)
    }
    twice = [reads_twice(part.layer, part.source.tensor, widths, geometry) for part in strips[0].parts]
    found: Stage | None = than
    for memories in product((0, 1), repeat=count):
        at = (0, *memories)
        if any(operand is not None and at[operand] == at[source] for source, operand in chain.reads):
            continue
        frees = [at[source] != at[place + 1] for place, (source, _) in enumerate(chain.reads)]
        spent = [[works[free][number][place] for place, free in enumerate(frees)] for number in range(len(strips))]
        for beside in range(count + 1):
            if beside < count and (at[beside + 1] == 0 or (twice[beside] and at[chain.reads[beside][0]] == 0)):
                continue  # the port by which it would be loaded is taken
            cycles = more + loads[0]
            for of_layers, store, following in zip(spent, stores, [*loads[1:], 0], strict=True):
                behind = [*of_layers, store]
                cycles += sum(behind) + max(0, following - behind[beside])
            if found is not None and cycles >= found.cycles:
                continue
            layout = _layout(chain, sizes, inputs, at, beside, depth, keeps)
            if layout is not None:
                places = {
                    stored.name: layout.odd if number % 2 and not place else layout.places[place]
                    for number, of_strip in enumerate(maps)
                    for place, stored in enumerate(of_strip)
                }
                found = Stage(layers, tuple(strips), beside, places, cycles, keeps)
    return found if found is not than else None


def _maps(strip: Strip) -> tuple[StoredMap, ...]:
    """What a strip has in the memories: its input, and the output of every layer."""
    return (strip.source, *(part.target for part in strip.parts))


class _Chain:
    """Which of the maps of a strip are read by which of its layers, all by their places.

    Attributes:
        reads: of every layer its input and its residual operand.
        lives: of every map the layer that writes it (-1: it is there before), and the last one that needs it (one more
            than there are: the store, or what follows).
    """

    def __init__(self, strip: Strip, keeps: bool) -> None:
        number = {stored.name: place for place, stored in enumerate(_maps(strip))}
        self.reads = [
            (number[part.source.name], None if part.residual is None else number[part.residual.name])
            for part in strip.parts
        ]
        last = dict.fromkeys(number.values(), len(strip.parts))
        for place, reads in enumerate(self.reads):
            for read in reads:
                if read is not None:
                    last[read] = place
        last[len(strip.parts)] = len(strip.parts)
        self.lives = [(place - 1, last[place]) for place in range(len(number))]
        if keeps:
            self.lives[-1] = (-1, len(strip.parts))


def _layout(
    chain: _Chain,
    sizes: Sequence[int],
    inputs: tuple[int, int],
    at: Sequence[int],
    beside: int,
    depth: int,
    keeps: bool,
) -> _Layout | None:
    """Places of maps of these sizes, and of inputs of even and odd strips, in memories `at`; None if they do not fit.

    What is loaded beside a layer lies there from that layer on.
    """
    end = len(sizes) - 1
    taken: tuple[list[tuple[int, int, int, int]], ...] = ([], [])  # first word, size, born, dies
    places: dict[int, Place] = {}

    def put(place: int, base: int, born: int, dies: int, size: int | None = None) -> None:
        taken[at[place]].append((base, sizes[place] if size is None else size, born, dies))
        places.setdefault(place, (at[place], base))

    if keeps:
        put(end, 0, *chain.lives[end])
    first = sizes[end] if keeps and at[end] == at[0] else 0
    odd = first
    if beside > chain.lives[0][1]:
        if first + sizes[0] > depth:
            return None
        put(0, first, *chain.lives[0])
        put(0, first, beside, end)
    else:
        odd = depth - inputs[1]
        if first + inputs[0] > odd:
            return None
        put(0, first, -1, end, inputs[0])
        put(0, odd, -1, end, inputs[1])
    for place in range(1, len(sizes)):
        if place in places:
            continue
        born, dies = chain.lives[place]
        others = sorted(item for item in taken[at[place]] if item[2] <= dies and born <= item[3])
        base = first_gap(sizes[place], [(start, size) for start, size, *_ in others], depth)
        if base is None:
            return None
        put(place, base, born, dies)
    return _Layout(tuple(places[place] for place in range(len(sizes))), (at[0], odd))


def reads_twice(layer: LayerShape, source: MapShape, widths: Mapping[str, int], geometry: Geometry) -> bool:
    """Whether a layer may need a second reader: it has the port that loads into the same memory write by."""
    if not geometry.second_reader:
        return False
    if isinstance(layer, PoolShape) or geometry.halves(source.channels, geometry.code_widths[widths[source.name]]):
        return True
    return geometry.hw.depthwise is not None and layer.groups > 1 and reads_two(layer, geometry)


def layer_cycles(
    layer: LayerShape, source: MapShape, widths: Mapping[str, int], geometry: Geometry, frees: bool = True
) -> int | Fraction:
    """About the cycles of the windows of a layer, or of rows of one, or of its weights, if these take longer.

    Formats of filters are not known here.

    Args:
        layer, source: what is computed, and the map it is computed from.
        widths: of the maps' codes, as places in `Geometry.code_widths`.
        geometry: of the accelerator.
        frees: whether a second reader may read.
    """
    out = layer.computed if isinstance(layer, ConvShape) else layer.output
    bits = geometry.code_widths[widths[source.name]]
    pixels, words = out.height * out.width, geometry.words(source.channels, bits)
    taps = layer.kernel[0] * layer.kernel[1]
    if geometry.hw.depthwise and _of_unit(layer):
        reads = reads_of(layer, frees and reads_two(layer, geometry), geometry)
        return words * windows_of(pixels, reads, geometry.word_codes(bits), geometry).tiling.length
    if not isinstance(layer, ConvShape):
        pairs = layer.kind == "max" and frees and geometry.second_reader and layer.kernel[1] > 1
        return pixels * words * reads_of(layer, pairs, geometry)
    passes = ceil(layer.filters / geometry.rows)
    steps = taps * (words if layer.groups == 1 else 1)
    half = geometry.halves(source.channels, bits) and (frees or not geometry.second_reader)
    tiling = tile_pixels(pixels, steps, passes, geometry, half, leaves_by_twos(layer, geometry))
    beats = geometry.weight_beats(steps * geometry.tap_cycles(half)) * geometry.hw.memory.cycles_per_beat
    return passes * max(tiling.length, beats)


def _of_unit(layer: LayerShape) -> bool:
    """Whether the depthwise unit may compute a layer."""
    return layer.kind == "avg" if isinstance(layer, PoolShape) else layer.groups == layer.filters > 1

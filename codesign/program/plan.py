"""What a program does, without the numbers it does it with: everything that timing, traffic and energy need."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from codesign.arch.hardware import Hardware
from codesign.program.shapes import MapShape, NetworkShape, Pooled
from codesign.program.tiling import Tiling
from codesign.rtl.geometry import Geometry
from codesign.rtl.layout import Op


@dataclass(frozen=True)
class Placement:
    """Rows of a feature map in an activation memory.

    Attributes:
        rows: half-open range of the tensor's rows.
        memory: which of the two activation memories.
        base: first word.
        words_per_pixel: words of one pixel.
    """

    tensor: MapShape
    rows: tuple[int, int]
    memory: int
    base: int
    words_per_pixel: int

    @property
    def words(self) -> int:
        """Words the rows occupy."""
        return (self.rows[1] - self.rows[0]) * self.tensor.width * self.words_per_pixel


@dataclass(frozen=True)
class PassPlan:
    """One pass over the output pixels with a set of filters, at most one per row.

    Attributes:
        filters: output channel of every row, -1 for an idle row; none for average pooling. Of the depthwise unit: of
            every place of a word.
        bands: bit i set when band i has a filter.
        pairs: bit i set when every two rows of band i hold one filter, which is then in `filters` twice.
        word_offset, words: activation words that are read of a pixel.
        steps: weight words of a row.
        tiling: the tiles it visits (average pooling: windows).
        sums: average pooling: sums that leave after a window, one for every code of a word; depthwise unit: sums of a
            pixel that leave after a tile.
        taps: of the depthwise unit: taps whose weights it has; 0 elsewhere.
        twos: whether the results of two rows leave in a cycle, those of row `Geometry.half_rows` + i with row i's.
        begin, fresh, drain, single, final: see `codesign.rtl.layout.PASS_HEADER`.
    """

    filters: tuple[int, ...]
    bands: int
    word_offset: int
    words: int
    steps: int
    tiling: Tiling
    sums: int = 0
    taps: int = 0
    twos: bool = False
    pairs: int = 0
    begin: bool = True
    fresh: bool = True
    drain: bool = True
    single: bool = False
    final: bool = True

    def leaving(self, geometry: Geometry) -> int:
        """Cycles in which the results of a tile, `columns` pixels or those of a window, leave."""
        return self.sums or geometry.leaving(self.twos)

    def param_beats(self, geometry: Geometry) -> int:
        """Beats of the parameters."""
        return geometry.depthwise_lines * geometry.param_beats if self.taps else geometry.param_block_beats

    def head_beats(self, geometry: Geometry) -> int:
        """Beats that come before the rings' weights: header, parameters, weights of the depthwise unit."""
        return geometry.header_beats + self.param_beats(geometry) + self._unit_beats(geometry)

    def weight_beats(self, geometry: Geometry) -> int:
        """Beats of weights, those of the depthwise unit included."""
        return geometry.weight_beats(self.steps) + self._unit_beats(geometry)

    def _unit_beats(self, geometry: Geometry) -> int:
        """Beats of the depthwise unit's weights."""
        return self.taps * geometry.tap_beats if self.taps else 0

    def beats(self, geometry: Geometry) -> int:
        """Beats of the pass in the stream."""
        return self.head_beats(geometry) + geometry.weight_beats(self.steps)

    def header(self, geometry: Geometry) -> int:
        """The packed header."""
        return geometry.pass_header.pack(
            {
                "word_offset": self.word_offset,
                "words": self.words,
                "steps": self.steps,
                "gap": self.tiling.gap,
                "bands": self.bands,
                "begin": self.begin,
                "fresh": self.fresh,
                "drain": self.drain,
                "single": self.single,
                "final": self.final,
                **({"pairs": self.pairs} if geometry.pair_bits else {}),
            }
        )


@dataclass(frozen=True)
class LayerWork:
    """A network layer as a GEMM: m filters, k products per output, n output pixels (pooling: k = 0)."""

    name: str
    m: int
    k: int
    n: int

    @property
    def macs(self) -> int:
        """Multiply-accumulates."""
        return self.m * self.k * self.n


@dataclass(frozen=True)
class StepPlan:
    """What the sequencer does for one descriptor; everything the timing model needs.

    Attributes:
        layer: number of the layer in the network as given, -1 for a load; of two that are computed together, the first.
        rows: rows of the layer's output map that are computed.
        written: the rows in the activation memory, None for int32 results.
        half: whether a convolution runs in half taps.
        pairs: whether pooling, or the depthwise unit, reads two words at a time.
        frees: of a convolution: whether nothing is written to the memory that is read, so that two readers read it.
        pooled: of a convolution: how maxima of its results are found, which are written instead of these.
        windows: of max pooling and stores, which have no passes.
        beats: memory beats in the program stream, descriptor included.
        load_words, store_words: activation words of a load or a store.
        early: of a load: whether it does not wait for the step before.
        dropped, bursts: of a fence: beats behind the descriptor that are skipped, bursts up to the next fence.
        image: which of the images of a start it is for; the first one of those that are computed `together`.
        together: images that are computed in one step, as pixels of one map.
    """

    layer: int
    op: Op
    rows: tuple[int, int]
    written: Placement | None
    half: bool = False
    pairs: bool = False
    frees: bool = False
    pooled: Pooled | None = None
    windows: Tiling | None = None
    passes: tuple[PassPlan, ...] = ()
    beats: int = 0
    load_words: int = 0
    store_words: int = 0
    early: bool = False
    dropped: int = 0
    bursts: int = 0
    image: int = 0
    together: int = 1

    @property
    def tilings(self) -> tuple[Tiling, ...]:
        """What is walked, pass after pass."""
        return (self.windows,) if self.windows is not None else tuple(each.tiling for each in self.passes)

    @property
    def wide(self) -> bool:
        """Whether the results are int32 words written to memory."""
        return self.op == Op.CONV and self.written is None


@dataclass(frozen=True, eq=False)
class Plan:
    """A network on an accelerator.

    Attributes:
        shape: the network as given.
        layers: its layers as GEMMs, of one image.
        steps: what is executed, in order; a layer may take several steps.
        beats: length of the stream in beats, padded to whole bursts.
        bursts: length of the stream in bursts, up to the first fence if there is one.
        images: how many are computed from one start.
    """

    hw: Hardware
    shape: NetworkShape
    layers: tuple[LayerWork, ...]
    steps: tuple[StepPlan, ...]
    beats: int
    bursts: int
    images: int = field(default=1, kw_only=True)

    @property
    def geometry(self) -> Geometry:
        """Derived quantities of the hardware."""
        return Geometry(self.hw)

    @property
    def computed_in(self) -> tuple[int, ...]:
        """Of every layer the one whose steps compute it: of a pooling of results as they leave, the convolution."""
        own = {step.layer for step in self.steps}
        writes = {layer.output.name: number for number, layer in enumerate(self.shape.layers)}
        return tuple(number if number in own else writes[layer.input] for number, layer in enumerate(self.shape.layers))


def result_words(plan: Plan) -> int:
    """32-bit words of the results of an image: int32, one per class, or the activation words of a map of codes."""
    last, geometry = plan.steps[-1], plan.geometry
    if last.op == Op.STORE:
        return last.store_words // last.together * geometry.load_beats * geometry.beat_bytes // 4
    return plan.shape.layers[-1].output.channels


def step_beats(passes: Iterable[PassPlan], geometry: Geometry) -> int:
    """Beats of a step with passes in the stream."""
    return geometry.descriptor_beats + sum(item.beats(geometry) for item in passes)


def owners(layers: Iterable[int]) -> list[int]:
    """The layer every step counts for, given the steps' own: for a load or fence (-1) that of the next one."""
    found: list[int] = []
    for layer in reversed([*layers]):
        found.append(layer if layer >= 0 else found[-1])
    return found[::-1]


def owners_of(steps: Sequence[StepPlan]) -> list[int]:
    """The same of steps that may be for several images: for a load or fence that of the image's next one."""
    found: list[int] = []
    following: dict[int, int] = {}
    for step in reversed(steps):
        if step.layer >= 0:
            following[step.image] = step.layer
        found.append(following[step.image])
    return found[::-1]

"""The program of one network on one accelerator: what lies in memory and what every step will do."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from codesign.arch.hardware import Hardware
from codesign.program.input_folding import InputFolding
from codesign.program.packing import pack_map
from codesign.program.tiling import Tiling
from codesign.quant.integer_network import IntegerNetwork, IntegerTensor
from codesign.rtl.geometry import Geometry
from codesign.rtl.layout import PASS_HEADER, Op


@dataclass(frozen=True)
class Placement:
    """Rows of a feature map in an activation memory.

    Attributes:
        rows: half-open range of the tensor's rows.
        memory: which of the two activation memories.
        base: first word.
        words_per_pixel: words of one pixel.
    """

    tensor: IntegerTensor
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
        filters: output channel of every row, -1 for an idle row; none for average pooling.
        bands: bit i set when band i has a filter.
        word_offset, words: activation words that are read of a pixel.
        steps: weight words of a row.
        tiling: the tiles it visits (average pooling: windows).
        begin, fresh, drain, single, final: see `codesign.rtl.layout.PASS_HEADER`.
    """

    filters: tuple[int, ...]
    bands: int
    word_offset: int
    words: int
    steps: int
    tiling: Tiling
    begin: bool = True
    fresh: bool = True
    drain: bool = True
    single: bool = False
    final: bool = True

    def header(self) -> int:
        """The packed header."""
        return PASS_HEADER.pack(
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
        layer: number of the network layer, -1 for a load.
        rows: rows of the layer's output map that are computed.
        written: the rows in the activation memory, None for int32 results.
        windows: of max pooling and stores, which have no passes.
        beats: memory beats in the program stream, descriptor included.
        load_words, store_words: activation words of a load or a store.
        dropped, bursts: of a fence: beats behind the descriptor that are skipped, bursts up to the next fence.
    """

    layer: int
    op: Op
    rows: tuple[int, int]
    written: Placement | None
    windows: Tiling | None = None
    passes: tuple[PassPlan, ...] = ()
    beats: int = 0
    load_words: int = 0
    store_words: int = 0
    dropped: int = 0
    bursts: int = 0

    @property
    def tilings(self) -> tuple[Tiling, ...]:
        """What is walked, pass after pass."""
        return (self.windows,) if self.windows is not None else tuple(each.tiling for each in self.passes)

    @property
    def wide(self) -> bool:
        """Whether the results are int32 words written to memory."""
        return self.op == Op.CONV and self.written is None


@dataclass(frozen=True)
class InputPiece:
    """Rows of the (folded) input map inside the stream, from beat `beat` on."""

    beat: int
    rows: tuple[int, int]


@dataclass(frozen=True, eq=False)
class Program:
    """A compiled network.

    Attributes:
        network: the network that was compiled, as given.
        layers: its layers as GEMMs.
        steps: what is executed, in order; a layer may take several steps.
        stream: the memory image from `address` on, as bytes; the input pieces lie inside it.
        folding: how the host lays the image out.
        output_address: byte address of the int32 results, one per class.
        bursts: length of the stream in bursts, up to the first fence if there is one.
    """

    hw: Hardware
    network: IntegerNetwork
    layers: tuple[LayerWork, ...]
    steps: tuple[StepPlan, ...]
    stream: NDArray[np.uint8]
    address: int
    folding: InputFolding
    pieces: tuple[InputPiece, ...]
    output_address: int
    bursts: int

    @property
    def geometry(self) -> Geometry:
        """Derived quantities of the hardware."""
        return Geometry(self.hw)

    @property
    def beats(self) -> int:
        """Length of the stream in beats, padded to whole bursts."""
        return self.stream.size // self.geometry.beat_bytes

    @property
    def memory_bytes(self) -> int:
        """Bytes of memory from address 0 to the end of the results."""
        return self.output_address + 4 * self.network.output.channels

    def encode_input(self, codes: NDArray[np.int64]) -> tuple[NDArray[np.uint8], ...]:
        """The bytes of every input piece for an image (C, H, W) of codes."""
        folded = self.folding.apply(codes)
        return tuple(pack_map(folded[:, piece.rows[0] : piece.rows[1]], self.geometry) for piece in self.pieces)

"""The program of one network on one accelerator: what lies in memory and what every layer will do."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from codesign.arch.hardware import Hardware
from codesign.quant.integer_network import IntegerNetwork, IntegerTensor
from codesign.rtl.geometry import Geometry
from codesign.rtl.layout import Op


@dataclass(frozen=True)
class Placement:
    """Where a feature map lies: activation memory, first word, words per pixel."""

    tensor: IntegerTensor
    memory: int
    base: int
    words_per_pixel: int

    @property
    def words(self) -> int:
        """Words the map occupies."""
        return self.tensor.height * self.tensor.width * self.words_per_pixel


@dataclass(frozen=True)
class PassPlan:
    """One pass over the output pixels with a set of filters, at most one per row.

    Attributes:
        filters: output channel of every row, -1 for an idle row.
        bands: bit i set when band i has a filter.
        word_offset: first activation word of the channels that are read.
    """

    filters: tuple[int, ...]
    bands: int
    word_offset: int


@dataclass(frozen=True)
class LayerPlan:
    """What the sequencer does for one layer; everything the timing model needs.

    Attributes:
        m, k, n: the GEMM of the layer: filters, products per output, output pixels (pooling: m = channels, k = 0).
        tiles: tiles of a pass (pooling: windows).
        steps: cycles of a tile (pooling: of a window).
        gap: idle cycles after a tile.
        beats: memory beats of the layer in the program stream, descriptor included.
        weight_beats: beats of one pass's weights.
    """

    name: str
    op: Op
    m: int
    k: int
    n: int
    tiles: int
    steps: int
    gap: int
    wide: bool
    passes: tuple[PassPlan, ...]
    beats: int
    weight_beats: int
    macs: int


@dataclass(frozen=True, eq=False)
class Program:
    """A compiled network.

    Attributes:
        stream: the memory image from `address` on, as bytes; the input map lies inside it.
        input_beat: first beat of the input map in the stream.
        output_address: byte address of the int32 results, one per class.
        placements: location of every tensor in the activation memories, by name.
    """

    hw: Hardware
    network: IntegerNetwork
    layers: tuple[LayerPlan, ...]
    stream: NDArray[np.uint8]
    address: int
    input_beat: int
    output_address: int
    placements: dict[str, Placement]

    @property
    def geometry(self) -> Geometry:
        """Derived quantities of the hardware."""
        return Geometry(self.hw)

    @property
    def beats(self) -> int:
        """Length of the stream in beats, padded to whole bursts."""
        return self.stream.size // self.geometry.beat_bytes

    @property
    def bursts(self) -> int:
        """Length of the stream in bursts."""
        return self.beats // self.hw.memory.burst_beats

    @property
    def memory_bytes(self) -> int:
        """Bytes of memory from address 0 to the end of the results."""
        return self.output_address + 4 * self.network.output.channels

    def encode_input(self, codes: NDArray[np.int64]) -> NDArray[np.uint8]:
        """The bytes of an input map (C, H, W) of codes, to be put at `input_beat` of the stream."""
        from codesign.program.packing import pack_map

        return pack_map(codes, self.geometry)

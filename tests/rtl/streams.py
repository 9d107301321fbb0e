"""Program streams made by hand, and what a loader must do with them."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from codesign.rtl.geometry import Geometry
from codesign.rtl.layout import DESCRIPTOR, DESCRIPTOR_MAGIC, PASS_HEADER, Op


@dataclass
class Stream:
    """Beats with the kind of each (`d`escriptor, `l`oad, `h`eader, `p`arameter, `w`eight), and what they contain.

    Attributes:
        descriptors: packed, one per layer but the LOADs and the END.
        passes: of every pass: its header, its layer (index of descriptor) and its steps.
        params: (pass, row, record).
        weights: (pass, step, row group, beat).
        loads: (memory, address, groups, beat).
    """

    shape: Geometry
    rng: np.random.Generator
    beats: list[int] = field(default_factory=list)
    kinds: str = ""
    descriptors: list[int] = field(default_factory=list)
    passes: list[tuple[int, int, int]] = field(default_factory=list)
    params: list[tuple[int, int, int]] = field(default_factory=list)
    weights: list[tuple[int, int, int, int]] = field(default_factory=list)
    loads: list[tuple[int, int, int, int]] = field(default_factory=list)

    def random(self, bits: int) -> int:
        return int.from_bytes(self.rng.bytes(-(-bits // 8)), "little") & (1 << bits) - 1

    def emit(self, kind: str, word: int, beats: int) -> None:
        width = self.shape.beat_bits
        self.beats += [word >> i * width & (1 << width) - 1 for i in range(beats)]
        self.kinds += kind * beats

    def descriptor(self, op: Op, **values: int) -> int:
        """A descriptor whose other fields are random."""
        noise = DESCRIPTOR.unpack(self.random(DESCRIPTOR.bits))
        word = DESCRIPTOR.pack(noise | {"magic": DESCRIPTOR_MAGIC, "op": op} | values)
        self.emit("d", word, self.shape.descriptor_beats)
        return word

    def load(self, words: int, memory: int, address: int) -> None:
        """The input map: `words` activation words from `address` on, group after group."""
        shape = self.shape
        self.descriptor(Op.LOAD, load_words=words, target=memory, out_base=address)
        every = (1 << shape.groups) - 1
        for word in range(words):
            for part in range(shape.load_beats):
                beat = self.random(shape.beat_bits)
                self.emit("l", beat, 1)
                groups = ((1 << shape.groups_per_beat) - 1) << part * shape.groups_per_beat & every
                self.loads.append((memory, address + word, groups, beat))

    def layer(self, op: Op, passes: int = 0, steps: int = 0) -> None:
        """A layer with its passes."""
        shape = self.shape
        self.descriptors.append(self.descriptor(op, passes=passes))
        for _ in range(passes):
            index = len(self.passes)
            header = PASS_HEADER.pack(PASS_HEADER.unpack(self.random(PASS_HEADER.bits)) | {"steps": steps})
            self.passes.append((header, len(self.descriptors) - 1, steps))
            self.emit("h", header, shape.header_beats)
            for row in range(shape.rows):
                record = self.random(shape.param.bits)
                self.params.append((index, row, record))
                self.emit("p", record, shape.param_beats)
            for step in range(steps):
                for group in range(len(shape.row_groups)):
                    self.weights.append((index, step, group, self.random(shape.beat_bits)))
                    self.emit("w", self.weights[-1][-1], 1)

    def end(self, padding: int) -> None:
        """The last descriptor, and what fills the last burst."""
        self.descriptor(Op.END)
        self.emit("x", self.random(self.shape.beat_bits * padding), padding)

"""Program streams made by hand, and what a loader must do with them."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from codesign.rtl.geometry import PARAM_BITS, Geometry
from codesign.rtl.layout import DESCRIPTOR, DESCRIPTOR_MAGIC, PASS_HEADER, Op


@dataclass
class Stream:
    """Beats with the kind of each (`d`escriptor, `l`oad, `h`eader, `p`arameter, `w`eight), and what they contain.

    Attributes:
        descriptors: packed, one per layer but the LOADs and the END.
        passes: of every pass: its header, its layer (index of descriptor) and its steps.
        params: (pass, line, records side by side).
        weights: (pass, step, row groups written at once, a bit for each, data).
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

    def load(self, words: int, memory: int, address: int, early: bool = False) -> None:
        """The input map: `words` activation words from `address` on, group after group."""
        shape = self.shape
        self.descriptor(Op.LOAD, load_words=words, target=memory, out_base=address, early=early)
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
            for line in range(shape.param_lines):
                records = [self.random(shape.param.bits) for _ in range(shape.line_rows)]
                self.params.append((index, line, sum(word << shape.param.bits * i for i, word in enumerate(records))))
                self.emit("p", sum(word << PARAM_BITS * i for i, word in enumerate(records)), shape.param_beats)
            share, whole, part = shape.weight_share, shape.whole_groups, shape.shared_bits
            for step in range(steps):
                if share > 1 and step % share == 0:
                    self.emit("w", shared := self.random(shape.beat_bits), 1)
                for group in range(whole):
                    self.emit("w", data := self.random(shape.beat_bits), 1)
                    written = 1 << group
                    if share > 1 and group == 0:
                        written |= 1 << whole
                        data |= (shared >> step % share * part & (1 << part) - 1) << shape.beat_bits
                    self.weights.append((index, step, written, data))

    def end(self, padding: int) -> None:
        """The last descriptor, and what fills the last burst."""
        self.descriptor(Op.END)
        self.emit("x", self.random(self.shape.beat_bits * padding), padding)

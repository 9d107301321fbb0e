"""The activation memories and the path from a read address to an activation word.

Storage. A feature map is stored pixel after pixel in raster order, every pixel as ceil(channels / word_elements)
words. A word has `groups` groups of `dot` codes. Logical group s of a word of pixel p lies in physical group
(s + p) mod groups: with this rotation the `columns` pixels of an output tile put one channel into `columns`
different groups, so a whole tile row is written (and a residual row read) in one cycle, while the window reader
still gets all groups of one pixel in one cycle.
"""

from __future__ import annotations

from amaranth.hdl import Cat, Module, Mux, Signal, Value, unsigned
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from codesign.rtl.array.array import join, rotate_left
from codesign.rtl.geometry import Geometry
from codesign.rtl.modules import SharedModule, place
from codesign.rtl.select import split


class ActivationGroup(SharedModule):
    """One physical group: `dot` codes wide, with a write enable per code.

    Reads take two cycles: block RAM is slow to answer, so it is followed by a register (in Xilinx RAM its own).
    With a second reader `second_data` follows `write_addr`, so that both ports of a block RAM read while nothing is
    written.
    """

    def __init__(self, geometry: Geometry) -> None:
        self._geometry = geometry
        self.module_name = "activation_group"
        super().__init__(
            {
                "read_addr": In(geometry.act_addr_bits),
                "read_data": Out(geometry.group_bits),
                "write_en": In(geometry.dot),
                "write_addr": In(geometry.act_addr_bits),
                "write_data": In(geometry.group_bits),
                **({"second_data": Out(geometry.group_bits)} if geometry.second_reader else {}),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        geometry = self._geometry
        m.submodules.memory = memory = Memory(shape=unsigned(geometry.group_bits), depth=geometry.act_depth, init=[])
        write = memory.write_port(granularity=geometry.act_bits)
        read = memory.read_port()
        data = Signal(geometry.group_bits, reset_less=True)
        m.d.sync += data.eq(read.data)
        if geometry.second_reader:
            second = memory.read_port()
            second_data = Signal(geometry.group_bits, reset_less=True)
            m.d.sync += second_data.eq(second.data)
            m.d.comb += [
                second.addr.eq(self.write_addr),
                second.en.eq(1),
                self.second_data.eq(second_data),
            ]
        m.d.comb += [
            write.en.eq(self.write_en),
            write.addr.eq(self.write_addr),
            write.data.eq(self.write_data),
            read.addr.eq(self.read_addr),
            read.en.eq(1),
            self.read_data.eq(data),
        ]
        return m


class ActivationMemory(SharedModule):
    """One of the two activation memories: `groups` groups with an address each. Reads take two cycles."""

    def __init__(self, geometry: Geometry) -> None:
        self._geometry = geometry
        self.module_name = "activation_memory"
        groups = geometry.groups
        super().__init__(
            {
                "read_addr": In(geometry.act_addr_bits).array(groups),
                "read_data": Out(geometry.group_bits).array(groups),
                "write_en": In(geometry.dot).array(groups),
                "write_addr": In(geometry.act_addr_bits).array(groups),
                "write_data": In(geometry.group_bits).array(groups),
                **({"second_data": Out(geometry.group_bits).array(groups)} if geometry.second_reader else {}),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        for g in range(self._geometry.groups):
            group = ActivationGroup(self._geometry)
            m.submodules[f"group_{g}"] = place(group)
            m.d.comb += [
                group.read_addr.eq(self.read_addr[g]),
                self.read_data[g].eq(group.read_data),
                group.write_en.eq(self.write_en[g]),
                group.write_addr.eq(self.write_addr[g]),
                group.write_data.eq(self.write_data[g]),
            ]
            if self._geometry.second_reader:
                m.d.comb += self.second_data[g].eq(group.second_data)
        return m


class WordAligner(SharedModule):
    """Selects the source memory, undoes the rotation and replaces padding.

    All inputs belong to one read and are presented in the cycle its data leaves the memory; `word` follows one
    cycle later in logical channel order. `doubled` says that codes have twice the bits (`Geometry.has_doubled`).
    """

    def __init__(self, geometry: Geometry) -> None:
        self._geometry = geometry
        self.module_name = "word_aligner"
        super().__init__(
            {
                "data_0": In(geometry.group_bits).array(geometry.groups),
                "data_1": In(geometry.group_bits).array(geometry.groups),
                "source": In(1),
                "key": In(geometry.key_bits),
                "pad": In(1),
                "pad_code": In(geometry.most_bits),
                **({"doubled": In(1)} if geometry.has_doubled else {}),
                "word": Out(geometry.word_bits),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        geometry = self._geometry
        selected: list[Value] = [Mux(self.source, self.data_1[g], self.data_0[g]) for g in range(geometry.groups)]
        padding: Value = self.pad_code.replicate(geometry.word_elements)
        if geometry.has_doubled:
            low, high = split(self.pad_code, geometry.act_bits)
            half = geometry.half_dot
            group = Signal(geometry.group_bits, name="padded_group", reset_less=True)  # early in every cycle
            m.d.sync += group.eq(Cat(low.replicate(half), Mux(self.doubled, high, low).replicate(half)))
            padding = group.replicate(geometry.groups)
        word = Signal(geometry.word_bits, reset_less=True)
        m.d.sync += word.eq(Mux(self.pad, padding, join(rotate_left(selected, self.key))))
        m.d.comb += self.word.eq(word)
        return m

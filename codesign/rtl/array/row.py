"""A line of the array: weight banks, processing elements and the control that flows down."""

from __future__ import annotations

from amaranth.hdl import Cat, Module, Mux, Signal, Value, unsigned
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from codesign.arch.band import Band
from codesign.rtl.array.delay import Delay
from codesign.rtl.array.packed import PackedElement
from codesign.rtl.array.processing_element import ProcessingElement, band_name
from codesign.rtl.array.products import carried
from codesign.rtl.geometry import Geometry
from codesign.rtl.latencies import WEIGHT_LATENCY
from codesign.rtl.modules import SharedModule, place
from codesign.rtl.select import chosen, split


class WeightBank(SharedModule):
    """Ring of weight words of one row: one write port, one read port with an output register.

    `read_data` follows `read_addr` by two cycles (block RAM plus its output register).
    """

    def __init__(self, depth: int, addr_bits: int, width: int) -> None:
        self._depth = depth
        self._width = width
        self.module_name = f"weight_bank_{width}b"
        super().__init__(
            {
                "write_en": In(1),
                "write_addr": In(addr_bits),
                "write_data": In(width),
                "read_addr": In(addr_bits),
                "read_data": Out(width),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.memory = memory = Memory(shape=unsigned(self._width), depth=self._depth, init=[])
        write = memory.write_port()
        read = memory.read_port()
        data = Signal(self._width, reset_less=True)
        m.d.comb += [
            write.en.eq(self.write_en),
            write.addr.eq(self.write_addr),
            write.data.eq(self.write_data),
            read.addr.eq(self.read_addr),
            read.en.eq(1),
            self.read_data.eq(data),
        ]
        m.d.sync += data.eq(read.data)
        return m


class CrumbBank(SharedModule):
    """Ring of weight words of a row whose elements take one or two of them a step (`Band.crumbs`).

    Two words lie at an address, and `read_data` shows both two cycles after `read_addr`, the first one lowest.
    """

    def __init__(self, depth: int, addr_bits: int, width: int) -> None:
        self._depth = depth
        self._width = width
        self.module_name = f"crumb_bank_{width}b"
        super().__init__(
            {
                "write_en": In(1),
                "write_addr": In(addr_bits),
                "write_data": In(width),
                "read_addr": In(addr_bits),
                "read_data": Out(2 * width),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.memory = memory = Memory(shape=unsigned(2 * self._width), depth=self._depth // 2, init=[])
        write = memory.write_port(granularity=self._width)
        read = memory.read_port()
        data = Signal(2 * self._width, reset_less=True)
        m.d.comb += [
            write.en.eq(Mux(self.write_en, Mux(self.write_addr[0], 2, 1), 0)),
            write.addr.eq(self.write_addr[1:]),
            write.data.eq(self.write_data.replicate(2)),
            read.addr.eq(self.read_addr[1:]),
            read.en.eq(1),
            self.read_data.eq(data),
        ]
        m.d.sync += data.eq(read.data)
        return m


class Row(SharedModule):
    """The rows of one line of processing elements: one, or two where the elements are packed two by two.

    Weights flow right from the banks, activations flow down to the next line.

    Timing, with x the cycle in which `a[0]` begins to carry a step, element i in cycle x + Geometry.skew(i):
    `step_addr`, `step_first` and `step_last` of that step are at the inputs in cycle x - 2 (the weight bank's latency);
    the weights get the elements' skew here. `a_out` and the control outputs follow their inputs
    by `height` cycles. Column c is c cycles behind column 0, the second row one cycle behind the first.
    `result[r * columns + c]` is non-zero only in cycle x_last + r + c + Geometry.band_latency(band), where x_last is
    the last step of a tile. In a row whose band `Geometry.carries`, `pairs` comes with `step_addr` and says that every
    two rows hold one filter: then `carry_out`, the highest bits of this row's weights, is there for the next row when
    its weights leave the bank, three cycles behind `step_addr`. `doubled` (`Geometry.has_doubled`) goes right and down
    through a register for every element and line, `step_odd` says which half of a weight word the step takes then. So
    does `narrow`: a step takes two weight words from a row with `crumbs` then; of others `upper` says whether they have
    the second part of a filter (`Geometry.splits`).
    """

    def __init__(self, geometry: Geometry, band: Band) -> None:
        self._geometry = geometry
        self._band = band
        self.module_name = f"row_{band_name(band)}"
        self.height = geometry.band_height(band)
        word_bits = geometry.dot * band.weight_bits
        super().__init__(
            {
                "a": In(geometry.group_bits).array(geometry.columns),
                "a_out": Out(geometry.group_bits).array(geometry.columns),
                "step_addr": In(geometry.weight_addr_bits),
                "step_first": In(1),
                "step_last": In(1),
                "step_addr_out": Out(geometry.weight_addr_bits),
                "step_first_out": Out(1),
                "step_last_out": Out(1),
                "write_en": In(self.height),
                "write_addr": In(geometry.weight_addr_bits),
                "write_data": In(word_bits).array(self.height),
                "result": Out(geometry.acc_bits).array(self.height * geometry.columns),
                **(
                    {"doubled": In(1), "doubled_out": Out(1), "step_odd": In(1), "step_odd_out": Out(1)}
                    if geometry.has_doubled
                    else {}
                ),
                **({"narrow": In(1), "narrow_out": Out(1)} if geometry.narrow_bits else {}),
                **({"upper": In(1)} if geometry.splits(band) else {}),
                **(
                    {
                        "pairs": In(1),
                        "pairs_out": Out(1),
                        "carry": In(geometry.dot * geometry.weights_of_place(band)),
                        "carry_out": Out(geometry.dot * geometry.weights_of_place(band)),
                    }
                    if geometry.carries(band)
                    else {}
                ),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        geometry, band, height = self._geometry, self._band, self.height
        columns = geometry.columns
        delay = Delay(m)
        weights: list[Value] = []
        for r in range(height):
            kind = CrumbBank if band.crumbs else WeightBank
            bank = kind(geometry.weight_depth, geometry.weight_addr_bits, geometry.dot * band.weight_bits)
            m.submodules[f"weight_bank_{r}"] = place(bank)
            m.d.comb += [
                bank.write_en.eq(self.write_en[r]),
                bank.write_addr.eq(self.write_addr),
                bank.write_data.eq(self.write_data[r]),
                bank.read_addr.eq(delay(self.step_addr, r, f"step_addr_{r}")),
            ]
            stored: Value = bank.read_data
            if band.crumbs:
                second = delay(self.step_addr[0], r + WEIGHT_LATENCY, f"second_word_{r}")
                stored = chosen(second, split(stored, geometry.dot * band.weight_bits))
            if geometry.has_doubled:
                odd = delay(self.step_odd, r + WEIGHT_LATENCY, f"step_odd_{r}")
                stored = half_repeated(stored, self.doubled_out, odd)
            if band.crumbs:
                stored = of_places(stored, bank.read_data, self.narrow_out, band.weight_bits)
            carry: Value | None = None
            if geometry.carries(band):
                carry = self.carry
                top = [stored[i - 1] for i in range(band.weight_bits, len(stored) + 1, band.weight_bits)]
                pairs = delay(self.pairs, WEIGHT_LATENCY, "pairs_of_word")
                m.d.sync += self.carry_out.eq(Cat(*top) & pairs.replicate(len(top)))
                m.d.comb += self.pairs_out.eq(delay(self.pairs, 1, "pairs_down"))
            word = decoded(stored, geometry, band, carry)
            weights.append(delay.skewed(word, geometry, f"weights_{r}"))
        m.d.comb += [
            self.step_addr_out.eq(delay(self.step_addr, height, "step_addr_down")),
            self.step_first_out.eq(delay.event(self.step_first, height, "step_first_down")),
            self.step_last_out.eq(delay.event(self.step_last, height, "step_last_down")),
        ]
        # `first` opens the accumulation, `done` shows the finished sum: both trail the step through the elements
        latency = geometry.band_latency(band)
        first: Value = delay.event(self.step_first, latency, "first")
        done: Value = delay.event(self.step_last, latency + 1, "done")

        narrow: Value | None = None
        if geometry.narrow_bits:
            m.d.sync += self.narrow_out.eq(self.narrow)
            narrow = self.narrow_out

        doubled: Value | None = None
        if geometry.has_doubled:
            m.d.sync += self.doubled_out.eq(self.doubled)
            m.d.comb += self.step_odd_out.eq(delay(self.step_odd, height, "step_odd_down"))
            doubled = self.doubled_out

        if band.pack == 1:
            for column in range(columns):
                m.submodules[f"pe_{column}"] = place(pe := ProcessingElement(geometry, band))
                m.d.comb += [
                    pe.a.eq(self.a[column]),
                    self.a_out[column].eq(pe.a_out),
                    pe.w.eq(weights[0]),
                    pe.first.eq(first),
                    pe.done.eq(done),
                    self.result[column].eq(pe.result),
                ]
                weights, first, done = [pe.w_out], pe.first_out, pe.done_out
                if doubled is not None:
                    m.d.comb += pe.doubled.eq(doubled)
                    doubled = pe.doubled_out
                if narrow is not None:
                    m.d.comb += pe.narrow.eq(narrow)
                    narrow = pe.narrow_out
                if geometry.splits(band):
                    m.d.comb += pe.upper.eq(self.upper)
            return m

        for column in range(0, columns, 2):
            m.submodules[f"pe_{column}"] = place(packed := PackedElement(geometry, band))
            m.d.comb += [packed.first.eq(first), packed.done.eq(done)]
            m.d.comb += [packed.w[r].eq(weights[r]) for r in range(height)]
            for i in range(2):
                if column + i == columns:  # an odd number of columns leaves the last element half used
                    continue
                m.d.comb += [packed.a[i].eq(self.a[column + i]), self.a_out[column + i].eq(packed.a_out[i])]
                m.d.comb += [self.result[r * columns + column + i].eq(packed.result[2 * r + i]) for r in range(height)]
            weights, first, done = list(packed.w_out), packed.first_out, packed.done_out
            if doubled is not None:
                m.d.comb += packed.doubled.eq(doubled)
                doubled = packed.doubled_out
            if narrow is not None:
                m.d.comb += [packed.narrow.eq(narrow), packed.upper.eq(self.upper)]
                narrow = packed.narrow_out
        return m


def half_repeated(word: Value, doubled: Value, odd: Value) -> Value:
    """A word of weights or, if codes are doubled, one half of it twice: for low and high parts of the codes."""
    low, high = word[: len(word) // 2], word[len(word) // 2 :]
    return Cat(Mux(doubled & odd, high, low), Mux(doubled & ~odd, low, high))


def of_places(word: Value, both: Value, narrow: Value, bits: int) -> Value:
    """Weights for the low and the high half of every place: two of `both` words, or one of `word` twice."""
    repeated = Cat(weight.replicate(2) for weight in split(word, bits))
    return Mux(narrow, both, repeated)


def decoded(word: Value, geometry: Geometry, band: Band, carry: Value | None = None) -> Value:
    """A word of stored weights as the elements of a row take them; `carry` is added, a bit to each weight."""
    each = geometry.weights_of_place(band)
    weights = split(word, band.weight_bits * each)
    if band.pack > 1:
        return word if carry is None else Cat(carried(w, carry[i]) for i, w in enumerate(weights))
    product = geometry.product(band)
    if carry is None:
        return Cat(product.decode(w) for w in weights)
    return Cat(product.decode_carried(w, carry[i * each : (i + 1) * each]) for i, w in enumerate(weights))

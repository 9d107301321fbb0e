"""The processing element: a dot product of `dot` weight-activation pairs per cycle and one accumulator."""

from __future__ import annotations

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value, signed
from amaranth.lib.wiring import In, Out

from codesign.arch.hardware import Band
from codesign.arch.scheme import Scheme
from codesign.rtl.geometry import Geometry
from codesign.rtl.modules import SharedModule


def pot_range(weight_bits: int) -> int:
    """Largest shift of a PoT-m weight, 2**(m-1) - 2 (RMSMP eq. 4)."""
    return (1 << (weight_bits - 1)) - 2


def band_name(band: Band) -> str:
    """Short name of a band's hardware, unique for what distinguishes its modules."""
    suffix = "_lut" if band.scheme is Scheme.FIXED and band.multiplier == "lut" else ""
    if band.pack > 1:
        suffix = f"_pack{band.pack}"
    return f"{band.scheme}{band.weight_bits}{suffix}"


def product_bits(band: Band, act_bits: int) -> int:
    """Width of one signed weight-activation product."""
    if band.scheme is Scheme.POT:
        return act_bits + pot_range(band.weight_bits) + 1
    return band.weight_bits + act_bits


class ProcessingElement(SharedModule):
    """One PE of a band.

    The codes of `a` are unsigned. A fixed weight is two's complement; a PoT weight is a sign bit (most significant)
    and a code e, worth 0 for e = 0 and +-2**(e-1) otherwise. Shifted activations are negated as ones' complement and
    the missing +1 enters the carry of one of the `dot` adders (tree and accumulator), so a PoT product costs a
    shifter and an XOR.

    Timing (x = the cycle in which `a` and `w` carry a step):

        x       a, w valid at the inputs            a_out, w_out follow one cycle later
        x+1     operand registers
        x+2     product registers
        ...     one register every two adder levels
        x+L-2   sum of the step; `first` must be high here if the step opens a new dot product
        x+L-1   accumulator contains the step
        x+L     result of the step, if `done` was high in x+L-1; zero otherwise, so that rows can be merged by OR

    with L = Geometry.band_latency(band).
    """

    def __init__(self, geometry: Geometry, band: Band) -> None:
        self._geometry = geometry
        self._band = band
        self.module_name = f"pe_{band_name(band)}"
        super().__init__(
            {
                "a": In(geometry.group_bits),
                "w": In(geometry.dot * band.weight_bits),
                "first": In(1),
                "done": In(1),
                "a_out": Out(geometry.group_bits),
                "w_out": Out(geometry.dot * band.weight_bits),
                "first_out": Out(1),
                "done_out": Out(1),
                "result": Out(geometry.acc_bits),
            }
        )

    def _product(self, w: Value, a: Value) -> tuple[Value, Value | None]:
        """One product as (signed value, pending carry)."""
        bits = product_bits(self._band, self._geometry.act_bits)
        if self._band.scheme is Scheme.FIXED:
            if self._band.multiplier == "dsp":
                # one bit more than the product needs: synthesis builds 8-bit products in LUTs, 9-bit ones in DSPs
                return (w.as_signed() * Cat(a, Const(0, 1)).as_signed())[: bits + 1].as_signed(), None
            return shift_add_product(w, a, bits), None
        code, sign = w[:-1], w[-1]
        shifted: Value = Const(0, bits - 1)
        for e in range(1, 1 << (self._band.weight_bits - 1)):
            shifted = Mux(code == e, (a << (e - 1))[: bits - 1] if e > 1 else a, shifted)
        magnitude = Cat(shifted, Const(0, 1))[:bits]
        return (magnitude ^ sign.replicate(bits)).as_signed(), sign

    def elaborate(self, platform: object) -> Module:
        m = Module()
        geometry, band = self._geometry, self._band
        ab, wb = geometry.act_bits, band.weight_bits

        a_q = Signal(geometry.group_bits, reset_less=True)
        w_q = Signal(geometry.dot * wb, reset_less=True)
        m.d.sync += [
            a_q.eq(self.a),
            w_q.eq(self.w),
            self.first_out.eq(self.first),
            self.done_out.eq(self.done),
        ]
        m.d.comb += [self.a_out.eq(a_q), self.w_out.eq(w_q)]

        terms: list[Value] = []
        carries: list[Value] = []
        for i in range(geometry.dot):
            value, carry = self._product(w_q[i * wb : (i + 1) * wb], a_q[i * ab : (i + 1) * ab])
            register = Signal(signed(len(value)), name=f"product_{i}", reset_less=True)
            m.d.sync += register.eq(value)
            terms.append(register)
            if carry is not None:
                carry_q = Signal(name=f"carry_{i}", reset_less=True)
                m.d.sync += carry_q.eq(carry)
                carries.append(carry_q)

        for stage in range(geometry.tree_stages):
            for _ in range(2):
                terms, carries = add_pairs(terms, carries)
            registers: list[Value] = []
            for i, term in enumerate(terms):
                register = Signal(signed(len(term)), name=f"sum_{stage}_{i}", reset_less=True)
                m.d.sync += register.eq(term)
                registers.append(register)
            kept: list[Value] = []
            for i, carry in enumerate(carries):
                carry_q = Signal(name=f"carry_{stage}_{i}", reset_less=True)
                m.d.sync += carry_q.eq(carry)
                kept.append(carry_q)
            terms, carries = registers, kept
        assert len(terms) == 1 and len(carries) <= 1

        accumulator = Signal(signed(geometry.acc_bits), reset_less=True)
        base = Mux(self.first, 0, accumulator).as_signed()
        carry_in = carries[0] if carries else None
        m.d.sync += accumulator.eq(add(base, terms[0], carry_in))
        # a flip-flop with synchronous reset: showing zero costs no logic
        m.d.sync += self.result.eq(Mux(self.done, accumulator, 0))
        return m


def shift_add_product(w: Value, a: Value, bits: int) -> Value:
    """Signed w times unsigned a from partial products, so that synthesis builds it in LUTs, never in a DSP slice."""
    extended = w.as_signed()
    partials: list[Value] = [
        (Mux(a[i], extended, 0).as_signed() << i).as_signed() if i else Mux(a[0], extended, 0).as_signed()
        for i in range(len(a))
    ]
    while len(partials) > 1:
        partials, _ = add_pairs(partials, [])
    return partials[0][:bits].as_signed() if len(partials[0]) >= bits else _extend(partials[0], bits)


def _extend(value: Value, bits: int) -> Value:
    """Sign extension to `bits`."""
    return Cat(value, value[-1].replicate(bits - len(value))).as_signed()


def add(a: Value, b: Value, carry: Value | None) -> Value:
    """a + b + carry as a single adder: the carry enters through an extra least significant bit."""
    if carry is None:
        return a + b
    return (Cat(Const(1, 1), a).as_signed() + Cat(carry, b).as_signed())[1:].as_signed()


def add_pairs(terms: list[Value], carries: list[Value]) -> tuple[list[Value], list[Value]]:
    """One level of an adder tree; every adder takes at most one pending carry."""
    pending = list(carries)
    sums: list[Value] = []
    for i in range(0, len(terms) - 1, 2):
        sums.append(add(terms[i], terms[i + 1], pending.pop() if pending else None))
    if len(terms) % 2:
        sums.append(terms[-1])
    return sums, pending

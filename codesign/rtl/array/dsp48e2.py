"""A DSP slice of UltraScale+, a DSP48E2 (UG579), instantiated: a product, and the sum of a cascade of them.

Yosys infers DSP48E2s without registers and without cascades: operands, products and sums lie in flip-flops and carry
chains around them. So here the slice is the primitive itself, for Yosys and Vivado alike. A simulator takes the model
in dsp48e2.v, which has what is used here and refuses the rest; Amaranth's own simulator takes the same arithmetic.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import NamedTuple

from amaranth.hdl import Cat, ClockSignal, Const, Instance, Module, Signal, Value, signed

from codesign.arch.devices import PACKING_PORT
from codesign.arch.hardware import Hardware
from codesign.rtl.modules import writes_verilog

PRIMITIVE = "DSP48E2"
MODEL_FILE = f"{PRIMITIVE}.v"
WIDE_BITS = PACKING_PORT["xcup"]
"""Of operand A, signed."""
NARROW_BITS = 18
"""Of operand B."""
SUM_BITS = 48
SHIFT = 17
"""Places by which the sum of the slice before may be shifted down on its way."""

_OFF = ("ADREG", "ALUMODEREG", "CARRYINREG", "CARRYINSELREG", "CREG", "DREG", "INMODEREG", "OPMODEREG")
"""Registers of what is constant."""
_TIED = {
    "ACIN": 30,
    "BCIN": 18,
    "C": 48,
    "D": 27,
    "INMODE": 5,
    "ALUMODE": 4,
    "CARRYINSEL": 3,
    "CARRYIN": 1,
    **dict.fromkeys(("CARRYCASCIN", "MULTSIGNIN"), 1),
    **dict.fromkeys(("CEA1", "CEB1", "CEAD", "CEALUMODE", "CEC", "CECARRYIN", "CECTRL", "CED", "CEINMODE"), 1),
    **dict.fromkeys(("RSTA", "RSTB", "RSTC", "RSTD", "RSTM", "RSTP", "RSTALLCARRYIN", "RSTALUMODE", "RSTCTRL"), 1),
    "RSTINMODE": 1,
}
"""Bits of inputs that are zero: left open, some would be ones."""
_MULTIPLY, _MULTIPLY_ADD, _MULTIPLY_ADD_SHIFTED = 0b00_000_01_01, 0b00_001_01_01, 0b00_101_01_01
"""OPMODE: M, PCIN + M, and PCIN / 2**17 + M."""


class Operand(NamedTuple):
    """A factor.

    Attributes:
        value: signed, or unsigned and then a bit narrower than its port.
        registers: of the slice on its way to the multiplier: 0 or 1.
        enable: of the register; always if there is none.
    """

    value: Value
    registers: int = 1
    enable: Value | None = None

    @property
    def bits(self) -> int:
        """Of a signed port that holds it."""
        return len(self.value) + (not self.value.shape().signed)


class Slice(NamedTuple):
    """What a slice shows: its sum, signed, and the same for the next slice of a cascade alone."""

    total: Value
    cascade: Value


def multiply_add(
    m: Module,
    name: str,
    x: Operand,
    y: Operand,
    before: Slice | None = None,
    *,
    shifted: bool = False,
    registers: tuple[int, int] = (1, 1),
) -> Slice:
    """The product of two factors, added to the sum of the slice before, if there is one.

    Args:
        m: where it is placed.
        name: of the instance.
        x, y: the factors; the wider one has at most 27 bits, the other one at most 18.
        before: of the cascade; its sum must be there together with the product.
        shifted: the sum of the slice before is taken without its lowest `SHIFT` bits.
        registers: of the product and of the sum, 0 or 1.

    Raises:
        ValueError: the factors are too wide.
    """
    wide, narrow = (x, y) if x.bits >= y.bits else (y, x)
    if wide.bits > WIDE_BITS or narrow.bits > NARROW_BITS:
        raise ValueError(f"{name}: a DSP48E2 does not multiply {wide.bits} by {narrow.bits} bits")
    if not writes_verilog():
        added = None if before is None else before.total >> SHIFT if shifted else before.total
        return _behaviour(m, name, wide, narrow, added, registers)
    mode = _MULTIPLY if before is None else _MULTIPLY_ADD_SHIFTED if shifted else _MULTIPLY_ADD
    total, cascade = Signal(signed(SUM_BITS), name=f"{name}_sum"), Signal(SUM_BITS, name=f"{name}_cascade")
    instance = Instance(
        PRIMITIVE,
        **{f"p_{register}": 0 for register in _OFF},
        p_AMULTSEL="A",
        p_BMULTSEL="B",
        p_A_INPUT="DIRECT",
        p_B_INPUT="DIRECT",
        p_USE_MULT="MULTIPLY",
        p_USE_SIMD="ONE48",
        p_MREG=registers[0],
        p_PREG=registers[1],
        p_AREG=wide.registers,
        p_ACASCREG=wide.registers,
        p_BREG=narrow.registers,
        p_BCASCREG=narrow.registers,
        i_CLK=ClockSignal(),
        i_A=_extended(wide.value, 30),
        i_B=_extended(narrow.value, NARROW_BITS),
        i_CEA2=_enable(wide),
        i_CEB2=_enable(narrow),
        i_CEM=Const(1, 1),
        i_CEP=Const(1, 1),
        i_OPMODE=Const(mode, 9),
        i_PCIN=Const(0, SUM_BITS) if before is None else before.cascade,
        **{f"i_{port}": Const(0, bits) for port, bits in _TIED.items()},
        o_P=total,
        o_PCOUT=cascade,
    )
    m.submodules[name] = instance
    return Slice(total, cascade)


def models(hw: Hardware) -> dict[str, str]:
    """Files that simulators need beside the generated Verilog: models of the primitives in it."""
    return {MODEL_FILE: _model()} if hw.totals.family == "xcup" else {}


@cache
def _model() -> str:
    return (Path(__file__).parent / "dsp48e2.v").read_text()


def _behaviour(
    m: Module, name: str, wide: Operand, narrow: Operand, added: Value | None, registers: tuple[int, int]
) -> Slice:
    """The same without the primitive."""

    def late(value: Value, cycles: int, what: str, enable: Value | None = None) -> Value:
        if not cycles:
            return value
        register = Signal(value.shape(), name=f"{name}_{what}", reset_less=True)
        with m.If(Const(1) if enable is None else enable):
            m.d.sync += register.eq(value)
        return register

    a, b = (late(each.value, each.registers, what, each.enable) for each, what in ((wide, "a"), (narrow, "b")))
    product = late(a * b, registers[0], "product")
    total = Signal(signed(SUM_BITS), name=f"{name}_sum")
    m.d.comb += total.eq(late(product if added is None else added + product, registers[1], "total"))
    return Slice(total, total)


def _enable(operand: Operand) -> Value:
    return Const(operand.registers, 1) if operand.enable is None else operand.enable


def _extended(value: Value, bits: int) -> Value:
    """A factor on its port."""
    sign = value[-1] if value.shape().signed else Const(0, 1)
    return Cat(value, sign.replicate(bits - len(value)))

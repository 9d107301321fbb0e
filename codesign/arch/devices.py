"""FPGA devices: what there is of each resource.

Totals are those of the vendors' data sheets: Xilinx DS190 (Zynq-7000 SoC Data Sheet: Overview, tables 1 and 2), AMD
DS891 (Zynq UltraScale+ MPSoC Data Sheet: Overview, for the ZU3EG) and DS987 (Kria K26 SOM Data Sheet), and Lattice
FPGA-DS-02012 (ECP5 and ECP5-5G Family, table 1.1). UltraRAM, of which the K26 has 64 blocks, is not used. Those of the
GW5AST-138C are counted in Project Apicula's database of the chip (17,280 tiles of eight LUTs and flip-flops, 340 block
RAMs of 18 kbit, 298 DSPs of 27 by 18 bits; Gowin's data sheet of the Arora V family is DS981).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import BeforeValidator, ValidationError

from codesign.arch.checks import choice, did_you_mean, file_name, integer, number, rejected, shown
from codesign.arch.documents import Model, one_line

Family = Literal["xc7", "xcup", "ecp5", "gw5a"]
"""Of devices with the same cells: 7-series (Artix-7, Kintex-7, Spartan-7, Virtex-7, Zynq-7000), UltraScale+ (Artix,
Kintex, Virtex and Zynq UltraScale+, Kria), ECP5, Arora V (GW5A, GW5AT, GW5AST)."""

PACKING_PORT: dict[Family, int] = {"xc7": 25, "xcup": 27}
"""Bits of the wider operand, signed, of families whose slices may hold several products: DSP48E1 (UG479) and DSP48E2
(UG579). The narrower one has 18 bits, sums have 48.
"""


@dataclass(frozen=True)
class Device:
    """Resource totals of one FPGA.

    Attributes:
        name: key of the catalogue, lower case.
        family: which synthesis flow makes a netlist for it.
        lut: look-up tables (6 inputs on Xilinx devices, 4 inputs on ECP5 and Arora V).
        ff: flip-flops.
        dsp: DSP48E1 or DSP48E2 slices, 18x18 multipliers on ECP5, 27x18 ones on Arora V (which Yosys does not use).
        bram36: block RAM in units of 36 kbit; an 18 kbit block counts one half.
        speed_grade: the vendor's, where it is known; for the ECP5 8 is faster than 6, for Arora V C2 than C1.
    """

    name: str
    family: Family
    lut: int
    ff: int
    dsp: int
    bram36: float
    speed_grade: int | None = None


DEVICES: dict[str, Device] = {
    device.name: device
    for device in (
        Device("xc7z020", "xc7", lut=53_200, ff=106_400, dsp=220, bram36=140),
        Device("xc7z045", "xc7", lut=218_600, ff=437_200, dsp=900, bram36=545),
        Device("lfe5u-85f", "ecp5", lut=83_640, ff=83_640, dsp=156, bram36=104, speed_grade=6),
        Device("lfe5u-85f-8", "ecp5", lut=83_640, ff=83_640, dsp=156, bram36=104, speed_grade=8),
        Device("gw5ast-138c", "gw5a", lut=138_240, ff=138_240, dsp=298, bram36=170, speed_grade=1),
        Device("xczu3eg", "xcup", lut=70_560, ff=141_120, dsp=360, bram36=216),
        Device("xck26", "xcup", lut=117_120, ff=234_240, dsp=1_248, bram36=144),
    )
}
"""All known devices by lower-case name."""


class OwnDevice(Model):
    """A device of a known family that is not in the catalogue, by its totals, which are those of `Device`."""

    name: Annotated[str, BeforeValidator(file_name)]
    family: Annotated[Family, choice("xc7", "xcup", "ecp5", "gw5a")]
    lut: Annotated[int, integer(1, 10_000_000)]
    ff: Annotated[int, integer(1, 20_000_000)]
    dsp: Annotated[int, integer(0, 100_000)]
    bram36: Annotated[float, number(0, 100_000)]

    @property
    def totals(self) -> Device:
        """What the device has."""
        return Device(**self.model_dump())


def device_of(value: object) -> str | OwnDevice:
    """A device as a YAML names it, in upper or lower case, or describes it.

    Raises:
        ValueError: in the words of `rejected`.
    """
    if isinstance(value, OwnDevice):
        return value
    if isinstance(value, Mapping):
        try:
            own = OwnDevice.model_validate(value)
        except ValidationError as error:
            raise rejected(one_line(error, OwnDevice)) from None
        if own.name.lower() in DEVICES:
            raise rejected(f"name: '{own.name}' given, which is a known device: give that name alone, or another one")
        return own
    if isinstance(value, str) and value.lower() in DEVICES:
        return value.lower()
    hint = did_you_mean(value, DEVICES) if isinstance(value, str) else ""
    keys = ", ".join(OwnDevice.model_fields)
    raise rejected(f"{shown(value)} given, must be {', '.join(DEVICES)}, or the keys {keys} of another one{hint}")

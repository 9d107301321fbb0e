"""FPGA devices: what there is of each resource.

Totals are those of the vendors' data sheets: Xilinx DS190 (Zynq-7000 SoC Data Sheet: Overview, tables 1 and 2) and
Lattice FPGA-DS-02012 (ECP5 and ECP5-5G Family, table 1.1).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Family = Literal["xc7", "ecp5"]


@dataclass(frozen=True)
class Device:
    """Resource totals of one FPGA.

    Attributes:
        name: key of the catalogue, lower case.
        family: which synthesis flow makes a netlist for it.
        lut: look-up tables (6 inputs on Xilinx 7-series, 4 inputs on ECP5).
        ff: flip-flops.
        dsp: DSP48E1 slices, or 18x18 multipliers on ECP5.
        bram36: block RAM in units of 36 kbit; an 18 kbit block counts one half.
        speed_grade: the vendor's, where it is part of the name; for the ECP5 8 is faster than 6.
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
    )
}
"""All known devices by lower-case name."""

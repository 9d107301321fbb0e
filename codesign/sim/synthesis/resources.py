"""Resources of a design: look-up tables, flip-flops, DSPs and block RAM, from synthesis.

How cells are counted. Xilinx 7-series (UG474, UG473, UG953): LUT1..LUT6 are one LUT each although Vivado may pack two
small ones into a LUT6; an inverter is a LUT; a distributed RAM counts the LUTs of SLICEM it occupies (RAM32M and
RAM64M four); a shift register (SRL) one. CARRY4 and the F7/F8 multiplexers are part of slices whose LUTs are counted.
RAMB18E1 is half a RAMB36E1. UltraScale+ (UG574, UG573, UG974): the same, but for distributed RAMs of a whole slice,
which has eight LUTs (RAM32M16, RAM64M8). ECP5 (FPGA-TN-02200): a CCU2C is two LUT4 in carry mode, a 16x4 distributed
RAM is four LUT4 and two for its write port; DP16KD and PDPW16KD are one block of 18 kbit, half a BRAM36. Arora V,
as nextpnr counts: an ALU takes the place of a LUT4, a 16x4 distributed RAM all eight of its tile; every block RAM is
one of 18 kbit. Yosys makes no DSPs of that family: products are in LUTs.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

from codesign.arch.devices import Device, Family
from codesign.arch.hardware import Hardware
from codesign.rtl.modules import modules_of
from codesign.sim.synthesis.clock_estimate import Step
from codesign.sim.synthesis.composition import compose
from codesign.sim.synthesis.flows import FLOWS
from codesign.sim.synthesis.hierarchy import Hierarchy
from codesign.sim.synthesis.known import keep_known, known
from codesign.sim.synthesis.netlist import Cells, Progress, yosys_version
from codesign.sim.synthesis.slow_path import mending, stretches

Flow = Literal["xilinx", "xilinx-up", "ecp5", "gowin"]
FAMILY: dict[Flow, Family] = {"xilinx": "xc7", "xilinx-up": "xcup", "ecp5": "ecp5", "gowin": "gw5a"}


CLOCK_ESTIMATE = "before placement: published delays of cells, one delay for every wire"
"""What an estimated clock rests on."""
NO_CLOCK_ESTIMATE = "none: the delays of this family's cells are not published"
"""Where there is none."""


class Resources(NamedTuple):
    """Amounts of the four resources; block RAM in units of 36 kbit."""

    lut: int = 0
    ff: int = 0
    dsp: int = 0
    bram36: float = 0

    def plus(self, other: Resources, times: int = 1) -> Resources:
        """`self` and `times` of `other`."""
        return Resources(
            self.lut + times * other.lut,
            self.ff + times * other.ff,
            self.dsp + times * other.dsp,
            self.bram36 + times * other.bram36,
        )

    def fits(self, device: Device) -> bool:
        """Whether the device has that much of everything."""
        return all(used <= getattr(device, name) for name, used in self._asdict().items())


def _lut(count: int = 1) -> Resources:
    return Resources(lut=count)


_FF = Resources(ff=1)
_NOTHING = Resources()
_XILINX = {
    **{f"LUT{inputs}": _lut() for inputs in range(1, 7)},
    **dict.fromkeys(("INV", "SRL16E", "SRLC16E", "SRLC32E", "RAM32X1S", "RAM64X1S"), _lut()),
    **dict.fromkeys(("RAM16X1D", "RAM32X1D", "RAM64X1D", "RAM128X1S"), _lut(2)),
    **dict.fromkeys(("RAM32M", "RAM64M", "RAM128X1D", "RAM256X1S"), _lut(4)),
    **dict.fromkeys(("FDRE", "FDSE", "FDCE", "FDPE", "LDCE", "LDPE"), _FF),
    **dict.fromkeys(("FDRE_1", "FDSE_1", "FDCE_1", "FDPE_1"), _FF),
    **dict.fromkeys(("CARRY4", "MUXF7", "MUXF8", "GND", "VCC", "BUFG", "IBUF", "OBUF"), _NOTHING),
}
CELLS: dict[Family, dict[str, Resources]] = {
    "xc7": {
        **_XILINX,
        "DSP48E1": Resources(dsp=1),
        "RAMB18E1": Resources(bram36=0.5),
        "RAMB36E1": Resources(bram36=1),
    },
    "xcup": {
        **_XILINX,
        **dict.fromkeys(("RAM32M16", "RAM64M8", "RAM256X1D", "RAM512X1S"), _lut(8)),
        **dict.fromkeys(("RAM32X16DR8", "RAM64X8SW"), _lut(8)),
        **dict.fromkeys(("CARRY8", "MUXF9"), _NOTHING),
        "DSP48E2": Resources(dsp=1),
        "RAMB18E2": Resources(bram36=0.5),
        "RAMB36E2": Resources(bram36=1),
    },
    "ecp5": {
        "LUT4": _lut(),
        "CCU2C": _lut(2),
        "TRELLIS_DPR16X4": _lut(6),
        "TRELLIS_FF": _FF,
        **dict.fromkeys(("PFUMX", "L6MUX21", "GSR", "PUR", "VHI", "VLO"), _NOTHING),
        "MULT18X18D": Resources(dsp=1),
        "DP16KD": Resources(bram36=0.5),
        "PDPW16KD": Resources(bram36=0.5),
    },
    "gw5a": {
        **{f"LUT{inputs}": _lut() for inputs in range(1, 5)},
        "ALU": _lut(),
        "RAM16SDP4": _lut(8),
        **dict.fromkeys(("DFF", "DFFE", "DFFR", "DFFRE", "DFFS", "DFFSE", "DFFC", "DFFCE", "DFFP", "DFFPE"), _FF),
        **{f"MUX2_LUT{inputs}": _NOTHING for inputs in range(5, 9)},
        **dict.fromkeys(("GND", "VCC", "IBUF", "OBUF"), _NOTHING),
        **dict.fromkeys(("SP", "SPX9", "SDPB", "SDPX9B", "DPB", "DPX9B"), Resources(bram36=0.5)),
    },
}
"""What one cell of a netlist occupies. A cell that is not listed is an error, never nothing."""


@dataclass(frozen=True)
class ModuleResources:
    """One distinct module: how often it appears in the whole design, and what all of them hold themselves."""

    name: str
    instances: int
    together: Resources


@dataclass(frozen=True)
class Synthesis:
    """Resources of a design.

    Attributes:
        total: the sum over `modules`.
        modules: distinct modules, the one with the most LUTs in all first.
        tool: program and version that synthesized.
        paths_ns: by module, of the slowest path that ends in it, with one delay for every wire; empty where the delays
            of the family's cells are not known.
        slowest: the slowest path of all, told by modules.
    """

    top: str
    family: Family
    total: Resources
    modules: tuple[ModuleResources, ...]
    tool: str
    paths_ns: Mapping[str, float]
    slowest: tuple[Step, ...]

    @property
    def next_ns(self) -> float:
        """Of the slowest path that ends in another module than the slowest one of all."""
        return max((ns for module, ns in self.paths_ns.items() if module != self.slowest_module), default=0.0)

    @property
    def slowest_ns(self) -> float | None:
        """Of the slowest path of all; None where no delays are known."""
        return max(self.paths_ns.values(), default=None)

    @property
    def slowest_module(self) -> str | None:
        """Where it ends."""
        return max(self.paths_ns, key=lambda module: self.paths_ns[module], default=None)

    @property
    def fmax_estimate_mhz(self) -> float | None:
        """The clock that the slowest path would allow, estimated before placement
        (`codesign.sim.synthesis.clock_estimate`); None where no delays are known.
        """
        return 1e3 / self.slowest_ns if self.slowest_ns else None

    def to_json(self, device: Device | None) -> dict[str, Any]:
        """The machine-readable answer; `fits` is null when there is no device to compare with."""
        return {
            **self.total._asdict(),
            "fmax_mhz": None,
            "fmax_estimate_mhz": self.fmax_estimate_mhz,
            "fmax_estimate_is": CLOCK_ESTIMATE if self.slowest_ns else NO_CLOCK_ESTIMATE,
            "slowest_path_ns": self.slowest_ns,
            "slowest_path_ends_in": self.slowest_module,
            "slowest_path": [part._asdict() for part in stretches(self.slowest)],
            "slowest_path_mended_by": mending(self.slowest, self.family),
            "next_slowest_path_ns": self.next_ns,
            "fits": self.total.fits(device) if device else None,
            "device": device.name if device else None,
            "device_totals": {key: getattr(device, key) for key in Resources._fields} if device else None,
            "flow": str(FLOWS[self.family]),
            "tool": self.tool,
            "per_module": [
                {
                    "module": module.name,
                    "instances": module.instances,
                    **module.together._asdict(),
                    "slowest_path_ns": self.paths_ns.get(module.name),
                }
                for module in self.modules
            ],
        }


def synthesize(verilog: str, top: str, family: Family, progress: Progress | None = None) -> Synthesis:
    """Synthesize a Verilog design with top module `top` (`codesign.sim.synthesis.composition`); cached by content.

    Raises:
        UserError: Yosys is not installed.
        RuntimeError: Yosys failed, or used a cell that is not in `CELLS`.
    """
    cells, paths_ns, slowest = compose(verilog, top, family, progress)
    instances = Hierarchy(modules_of(verilog), top, top).instances(top)
    modules = [ModuleResources(name, instances[name], count(held, family, name)) for name, held in cells.items()]
    modules.sort(key=lambda module: (-module.together.lut, module.name))
    total = Resources()
    for module in modules:
        total = total.plus(module.together)
    return Synthesis(top, family, total, tuple(modules), f"Yosys {yosys_version()} (pyosys)", paths_ns, slowest)


def synthesize_hardware(hw: Hardware, flow: Flow | None = None, progress: Progress | None = None) -> Synthesis:
    """Synthesize the accelerator of `hw`, by the flow of its device unless another is named."""
    from codesign.rtl.verilog import TOP, generate

    family = FAMILY[flow] if flow else hw.totals.family
    found = synthesize(generate(hw), TOP, family, progress)
    if family == hw.totals.family and found.fmax_estimate_mhz is not None:
        keep_known("estimated", hw, __name__, found.fmax_estimate_mhz)
    return found


def known_estimate(hw: Hardware) -> float | None:
    """The estimated clock in MHz of the accelerator that this version generates; None if it was not synthesized."""
    return known("estimated", hw, __name__, float)


def count(cells: Cells, family: Family, name: str) -> Resources:
    """Resources of the cells of module `name`.

    Raises:
        RuntimeError: one of them is not in `CELLS`.
    """
    total = Resources()
    for kind, number in cells.items():
        if kind not in CELLS[family]:
            raise RuntimeError(f"module {name} became a cell of an unknown kind, {kind}: it cannot be counted")
        total = total.plus(CELLS[family][kind], number)
    return total

"""How Yosys synthesizes for a device family: its own flow, but for how logic becomes look-up tables.

For 7-series, Yosys 0.70 maps logic for area alone: it gives every LUT one picosecond beside carry chains and memories
in picoseconds, and a LUT2 two fifths of the cost of a LUT6, since a vendor's tool may pack two small ones into one. So
it prefers chains of LUT2, as slow as they are long. Here logic is mapped with the delays by which the clock is
estimated (`codesign.sim.synthesis.clock_estimate`) and with the costs by which LUTs are counted
(`codesign.sim.synthesis.resources`): every LUT is one. UltraScale+ devices have the same LUTs and, as Yosys makes them,
carry chains; delays of theirs are not published, so it is those of the 7-series that their logic is mapped with. For
the ECP5 and for Gowin's devices Yosys has delays, and its flows are run as they are.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from codesign.arch.devices import Family
from codesign.sim.synthesis.clock_estimate import lut_delay_ns

_INPUTS = 6
"""Of a LUT; wider ones are several, joined by multiplexers inside the slice."""
_WIDE = 2.1
"""Levels that a wide one counts as."""
LUTS_FILE = "luts.txt"
"""Costs and delays as ABC reads them, in the job's folder."""


class LutMapping(NamedTuple):
    """What is run in place of one step of a flow.

    Attributes:
        step: its label.
        following: label of the step after it.
        commands: Yosys commands; `{luts}` stands for the file.
        luts: by number of inputs, from 1 on, the number of LUTs that one takes.
        delays: the family whose delays they have.
    """

    step: str
    following: str
    commands: tuple[str, ...]
    luts: tuple[int, ...]
    delays: Family


class Flow(NamedTuple):
    """Synthesis for a family.

    Attributes:
        command: a Yosys pass; it flattens. No pads and clock buffers: the accelerator is part of a larger design.
        memory: label of the step that maps memories, and of the one after it.
        mapping: in place of the pass's own, if any.
        no_pads: the option of the command that is left out for nextpnr, where that does not make pads itself.
    """

    command: str
    memory: tuple[str, str]
    mapping: LutMapping | None
    no_pads: str = ""

    def __str__(self) -> str:
        """What a person has to know to run it again."""
        if self.mapping is None:
            return self.command
        return f"{self.command}, with {self.mapping.step}: {'; '.join(self.mapping.commands)}"


_XILINX = LutMapping(
    "map_luts",
    "finalize",
    (
        "opt_expr -mux_undef -noclkinv",
        "scratchpad -copy abc9.script.flow3 abc9.script",  # maps several times and keeps what is best
        "abc9 -lut {luts}",
        "clean",
        "xilinx_srl -fixed -minlen 3",
        "techmap -map +/xilinx/lut_map.v -map +/xilinx/cells_map.v -D LUT_WIDTH=6",
        "xilinx_dffopt",
        "opt_lut_ins -tech xilinx",
    ),
    (1, 1, 1, 1, 1, 1, 2, 4),
    "xc7",
)
"""The pass's own step (`help synth_xilinx`) but for the LUTs. Of 7 and 8 inputs they are joined by multiplexers."""
FLOWS: dict[Family, Flow] = {
    "xc7": Flow("synth_xilinx -family xc7 -flatten -noiopad -noclkbuf", ("map_memory", "map_ffram"), _XILINX),
    "xcup": Flow("synth_xilinx -family xcup -flatten -noiopad -noclkbuf", ("map_memory", "map_ffram"), _XILINX),
    "ecp5": Flow("synth_ecp5 -noiopad", ("map_ram", "map_ffram"), None),
    "gw5a": Flow("synth_gowin -family gw5a -noiopads", ("map_ram", "map_ffram"), None, "-noiopads"),
}


def synthesis_job(
    family: Family, module: str, netlist: bool | str, looks_for_memories: bool = True, pads: bool = False
) -> dict[str, Any]:
    """A job of `codesign.sim.synthesis.yosys_job` that synthesizes.

    Args:
        family: of the device.
        module: the top module.
        netlist: whether to write the netlist; "top" leaves out what the library says of its cells.
        looks_for_memories: whether the step that maps them is left out where there are none, which saves half the
            time of a small module.
        pads: whether ports get pads where nextpnr does not make them itself.
    """
    flow = FLOWS[family]
    job: dict[str, Any] = {
        "pass": flow.command.replace(f" {flow.no_pads}", "") if pads and flow.no_pads else flow.command,
        "module": module,
        "memory": list(flow.memory) if looks_for_memories else None,
        "netlist": netlist,
        "mapping": None,
    }
    if flow.mapping is not None:
        luts = enumerate(flow.mapping.luts, 1)
        # a wide one is faster than two levels. Taken for more, it stands where there is time and saves LUTs there, but
        # adds no multiplexer to a path of few levels
        ns = lut_delay_ns(flow.mapping.delays)
        delays = [(n, taken, ns if n <= _INPUTS else _WIDE * ns) for n, taken in luts]
        job["mapping"] = flow.mapping._asdict() | {
            "luts": "".join(f"{n} {taken} {round(1e3 * delay)}\n" for n, taken, delay in delays)
        }
    return job

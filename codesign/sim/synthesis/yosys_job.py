"""One run of Yosys, as `python -m codesign.sim.synthesis.yosys_job FOLDER`; see `codesign.sim.synthesis.netlist`.

Reads design.v and job.json in FOLDER. A job that synthesizes (`codesign.sim.synthesis.flows.synthesis_job`) writes
statistics.json and, if it asks for it, netlist.json; its keys:

    pass      the synthesis flow, a Yosys command
    module    the top module
    memory    label of the flow's step that maps memories and of the one after it; null runs the flow as it is
    mapping   `codesign.sim.synthesis.flows.LutMapping`, its LUTs as ABC reads them; null keeps that of the flow
    netlist   whether to write the netlist; "top" leaves out what the library says of its cells, which is most of it

A job that takes a module apart (`codesign.sim.synthesis.composition`) has the key `split`, the module's name, and
writes split.v: the module with the registers that only delay its inputs, and NAME_core with all the rest. `primitives`
says whether it has instances of a vendor's cells.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

from codesign.sim.synthesis.flows import LUTS_FILE

LONGEST_DELAY = 64
"""Registers in a row that count as a delay of an input."""


def main(folder: Path) -> None:
    """Run the job in `folder`."""
    from pyosys import libyosys as yosys

    job = json.loads((folder / "job.json").read_text())
    os.chdir(folder)
    here = f"/proc/{os.getpid()}/cwd"  # paths in Yosys scripts cannot hold blanks: not those of its own files either
    os.environ["TMPDIR"] = here
    design = yosys.Design()
    commands = _split(job["split"], job["primitives"]) if "split" in job else _synthesis(job, here)
    yosys.run_pass("read_verilog design.v", design)
    for command in commands:
        if _MAPS_MEMORIES in command:
            cells = json.loads(Path("memories.json").read_text())["design"]["num_cells_by_type"]
            # Reading the maps of memories takes as long as all the rest of a small module: not where there is none.
            start = job["memory"][0 if any(kind.startswith("$mem") for kind in cells) else 1]
            command = command.replace(_MAPS_MEMORIES, f"-run {start}:")
        yosys.run_pass(command, design)
    if "split" in job:
        Path("unfinished.v").rename("split.v")
    else:
        Path("unfinished.json").rename("statistics.json")


_MAPS_MEMORIES = "-run memories:"
"""Stands for the label of the step from which the flow goes on once it is known whether there are any."""


def _synthesis(job: dict[str, Any], here: str) -> list[str]:
    flow = f"{job['pass']} -top {_selection(job['module'])}"
    begin, commands = "-run begin:", []
    if job["memory"] is not None:
        begin = _MAPS_MEMORIES
        commands = [f"{flow} -run begin:{job['memory'][0]}", "tee -q -o memories.json stat -json"]
    if (mapping := job["mapping"]) is None:
        commands += [f"{flow} {begin}"]
    else:
        Path(LUTS_FILE).write_text(mapping["luts"])
        commands += [f"{flow} {begin}{mapping['step']}"]
        commands += [command.format(luts=f"{here}/{LUTS_FILE}") for command in mapping["commands"]]
        commands += [f"{flow} -run {mapping['following']}:"]
    if job["netlist"]:
        alone = [f"select {_selection(job['module'])}", "write_json -selected netlist.json", "select -clear"]
        commands += alone if job["netlist"] == "top" else ["write_json netlist.json"]
    return [*commands, "tee -q -o unfinished.json stat -json"]


def _split(name: str, primitives: bool) -> list[str]:
    module = _selection(name)
    return [
        *(["read_verilog -lib +/xilinx/cells_xtra.v"] if primitives else []),  # which way their ports go
        "proc -norom -noopt",
        "opt_clean",
        f"cd {module}",
        f"select -set delays i:* %co{LONGEST_DELAY}:+$dff[D,Q] t:$dff %i",
        "select -set core t:* @delays %d",
        f"submod -name {module}_core @core",
        "cd ..",
        "opt_clean",
        "write_verilog -noattr unfinished.v",
    ]


def _selection(name: str) -> str:
    """A module name as Yosys scripts write it."""
    return name if name.isidentifier() else f"\\{name}"


if __name__ == "__main__":
    main(Path(sys.argv[1]))

"""One run of Yosys, as `python -m codesign.sim.yosys_job FOLDER`; see `codesign.sim.netlist` and `codesign.sim.flat`.

Reads design.v and job.json in FOLDER, writes statistics.json and, if the job asks for it, netlist.json. Keys of a job:

    pass      the synthesis flow, a Yosys command
    module    the top module
    memory    label of the flow's step that maps memories and of the one after it; null runs the flow as it is
    netlist   whether to write the netlist
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path


def main(folder: Path) -> None:
    """Run the job in `folder`."""
    from pyosys import libyosys as yosys

    job = json.loads((folder / "job.json").read_text())
    os.chdir(folder)  # paths in Yosys scripts cannot hold blanks
    design = yosys.Design()
    flow = f"{job['pass']} -top {_selection(job['module'])}"
    yosys.run_pass("read_verilog design.v", design)
    if job["memory"] is None:
        yosys.run_pass(flow, design)
    else:
        before, after = job["memory"]
        yosys.run_pass(f"{flow} -run begin:{before}", design)
        yosys.run_pass("tee -q -o memories.json stat -json", design)
        cells = json.loads(Path("memories.json").read_text())["design"]["num_cells_by_type"]
        # Reading the maps of memories takes as long as all the rest of a small module: not where there is none.
        start = before if any(kind.startswith("$mem") for kind in cells) else after
        yosys.run_pass(f"{flow} -run {start}:", design)
    if job["netlist"]:
        yosys.run_pass("write_json netlist.json", design)
    yosys.run_pass("tee -q -o unfinished.json stat -json", design)
    Path("unfinished.json").rename("statistics.json")


def _selection(name: str) -> str:
    """A module name as Yosys scripts write it."""
    return name if name.isidentifier() else f"\\{name}"


if __name__ == "__main__":
    main(Path(sys.argv[1]))

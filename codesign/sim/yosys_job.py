"""One synthesis job, run as `python -m codesign.sim.yosys_job FOLDER`; see `codesign.sim.netlist`.

Reads design.v and job.json in FOLDER, writes statistics.json. The modules to synthesize become instances below a
synthetic top, so that the flow keeps all of them whatever their place in the design was.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

ROOT = "codesign_synthesis_root"


def main(folder: Path) -> None:
    """Run the job in `folder`."""
    from pyosys import libyosys as yosys

    job = json.loads((folder / "job.json").read_text())
    instances = "\n".join(f"(* keep *) {_identifier(name)} i{i} ();" for i, name in enumerate(job["modules"]))
    (folder / "root.v").write_text(f"module {ROOT};\n{instances}\nendmodule\n")
    os.chdir(folder)  # paths in Yosys scripts cannot hold blanks
    design = yosys.Design()
    commands = ["read_verilog design.v", "read_verilog root.v"]
    commands += [f"blackbox {_selection(name)}" for name in job["boxes"]]
    commands += [f"{job['pass']} -top {ROOT}", "tee -q -o unfinished.json stat -json"]
    for command in commands:
        yosys.run_pass(command, design)
    Path("unfinished.json").rename("statistics.json")


def _identifier(name: str) -> str:
    """A module name as Verilog writes it."""
    return name if name.isidentifier() else f"\\{name} "


def _selection(name: str) -> str:
    """A module name as Yosys scripts select it."""
    return name if name.isidentifier() else f"\\{name}"


if __name__ == "__main__":
    main(Path(sys.argv[1]))

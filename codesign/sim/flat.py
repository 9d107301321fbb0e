"""Synthesis of a whole design as one module, its hierarchy dissolved: what a vendor's tool starts from."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

from codesign._files import cache_folder, content_hash, read_json, write_json
from codesign.arch.devices import Family
from codesign.sim.netlist import Cells, Progress, statistics, yosys_version
from codesign.sim.processes import Processes
from codesign.sim.resources import Resources, count

FLOWS: dict[Family, str] = {
    "xc7": "synth_xilinx -family xc7 -flatten -noiopad -noclkbuf",
    "ecp5": "synth_ecp5 -noiopad",
}
"""Yosys pass by device family; `synth_ecp5` flattens unless told otherwise."""


_NO_CELL = "$scopeinfo"
"""What flattening leaves of a module: its name, for debuggers."""


def run_flat(verilog: str, top: str, family: Family, folder: Path, processes: Processes, netlist: bool) -> Cells:
    """Synthesize in `folder`; with `netlist`, leave netlist.json there.

    Raises:
        RuntimeError: Yosys gave no statistics.
    """
    (folder / "design.v").write_text(verilog)
    job = {"pass": FLOWS[family], "module": top, "memory": None, "netlist": netlist}
    (folder / "job.json").write_text(json.dumps(job))
    log = folder / "yosys.log"
    status = processes.start(["-m", "codesign.sim.yosys_job", str(folder)], log).wait()
    cells = statistics(folder / "statistics.json", top, status, log)
    return {kind: number for kind, number in cells.items() if kind != _NO_CELL}


def flat_cells(verilog: str, top: str, family: Family, progress: Progress | None = None) -> Cells:
    """Cells of the flattened design by type, cached by content.

    Raises:
        UserError: Yosys is not installed.
        RuntimeError: Yosys failed.
    """
    path = cache_folder() / "flat" / f"{content_hash(yosys_version(), FLOWS[family], top, verilog)}.json"
    if path.is_file():
        cached: Cells = read_json(path)
        return cached
    report = progress or (lambda phase, done, total: None)
    report("flat synthesis", 0, 1)
    with tempfile.TemporaryDirectory(prefix="codesign-flat-") as temporary, Processes() as processes:
        cells = run_flat(verilog, top, family, Path(temporary), processes, netlist=False)
    write_json(path, cells)
    report("flat synthesis", 1, 1)
    return cells


def flat_resources(verilog: str, top: str, family: Family, progress: Progress | None = None) -> Resources:
    """Resources of the flattened design; see `flat_cells`."""
    return count(flat_cells(verilog, top, family, progress), family, top)

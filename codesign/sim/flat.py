"""Synthesis of a whole design as one module, its hierarchy dissolved: what a vendor's tool starts from."""

from __future__ import annotations

from pathlib import Path

from codesign._files import cache_folder, content_hash, read_json, scratch_folder, write_json
from codesign.arch.devices import Family
from codesign.sim.netlist import FLOWS, Cells, Progress, run_yosys, statistics, yosys_version
from codesign.sim.processes import Processes
from codesign.sim.resources import Resources, count


def run_flat(verilog: str, top: str, family: Family, folder: Path, processes: Processes, netlist: bool) -> Cells:
    """Synthesize in `folder`; with `netlist`, leave netlist.json there.

    Raises:
        RuntimeError: Yosys gave no statistics.
    """
    job = {"pass": FLOWS[family], "module": top, "memory": None, "netlist": netlist}
    status, log = run_yosys(verilog, job, folder, processes)
    return statistics(folder / "statistics.json", top, status, log)


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
    with scratch_folder() as folder, Processes() as processes:
        cells = run_flat(verilog, top, family, folder, processes, netlist=False)
    write_json(path, cells)
    report("flat synthesis", 1, 1)
    return cells


def flat_resources(verilog: str, top: str, family: Family, progress: Progress | None = None) -> Resources:
    """Resources of the flattened design; see `flat_cells`."""
    return count(flat_cells(verilog, top, family, progress), family, top)

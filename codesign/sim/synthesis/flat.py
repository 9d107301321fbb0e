"""Synthesis of a whole design as one module, its hierarchy dissolved: what a vendor's tool starts from."""

from __future__ import annotations

from pathlib import Path

from codesign._files import content_hash, scratch_folder
from codesign._processes import Processes
from codesign._sources import source_hash
from codesign.arch.devices import Family
from codesign.execution.store import Cache
from codesign.sim.synthesis.flows import FLOWS, synthesis_job
from codesign.sim.synthesis.netlist import YOSYS_JOB, Cells, Progress, run_yosys, statistics, yosys_version
from codesign.sim.synthesis.resources import Resources, count


def run_flat(
    verilog: str, top: str, family: Family, folder: Path, processes: Processes, netlist: bool, pads: bool = False
) -> Cells:
    """Synthesize in `folder`; with `netlist`, leave netlist.json there; with `pads`, as nextpnr needs them.

    Raises:
        RuntimeError: Yosys gave no statistics.
    """
    job = synthesis_job(family, top, netlist, looks_for_memories=False, pads=pads)
    status, log = run_yosys(verilog, job, folder, processes)
    return statistics(folder / "statistics.json", top, status, log)


def flat_cells(verilog: str, top: str, family: Family, progress: Progress | None = None) -> Cells:
    """Cells of the flattened design by type, cached by content.

    Raises:
        UserError: Yosys is not installed.
        RuntimeError: Yosys failed.
    """
    sources = source_hash(__name__, YOSYS_JOB, given=("codesign.arch", "codesign.sim.synthesis.resources"))
    key = content_hash(yosys_version(), sources, repr(FLOWS[family]), top, verilog)
    if (stored := Cache().get("flat", key, Cells)) is not None:
        return stored
    report = progress or (lambda phase, done, total: None)
    report("flat synthesis", 0, 1)
    with scratch_folder() as folder, Processes() as processes:
        cells = run_flat(verilog, top, family, folder, processes, netlist=False)
    Cache().put("flat", key, cells)
    report("flat synthesis", 1, 1)
    return cells


def flat_resources(verilog: str, top: str, family: Family, progress: Progress | None = None) -> Resources:
    """Resources of the flattened design; see `flat_cells`."""
    return count(flat_cells(verilog, top, family, progress), family, top)

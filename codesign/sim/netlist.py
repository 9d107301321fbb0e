"""Cells of every module of a Verilog design after synthesis, by Yosys, cached by module.

A design is synthesized as a hierarchy: each distinct module once, without looking across module borders. The figures
are therefore those of an out-of-context run, an upper bound on what a flat run gives; in return a module whose text
and flow are unchanged is never synthesized again, whatever design it appears in.

Yosys runs in subprocesses (`codesign.sim.yosys_job`): a crash or an interrupt cannot take the caller with it, and the
modules are shared out among the processor's cores.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import version
from pathlib import Path

from codesign._files import cache_folder, content_hash, write_json
from codesign.arch.devices import Family
from codesign.errors import UserError

Cells = dict[str, int]
"""How many cells of each type a module holds itself; instances of other modules are among them."""

Progress = Callable[[str, int, int], None]
"""Called with (phase, done, total)."""

FLOWS: dict[Family, str] = {
    "xc7": "synth_xilinx -family xc7 -noiopad -noclkbuf",
    "ecp5": "synth_ecp5 -noflatten -noiopad",
}
"""Yosys pass by device family. No pads and clock buffers: the accelerator is a block inside a larger design."""

JOB_CHARACTERS = 20_000
"""Text that is worth a process of its own; starting one costs as much as synthesizing this much."""

_MODULE = re.compile(r"^module\s+(\\\S+|\w+).*?^endmodule", re.MULTILINE | re.DOTALL)


def modules_of(verilog: str) -> dict[str, str]:
    """Text of every module, by name without the backslash of an escaped identifier."""
    return {match[1].removeprefix("\\"): match[0] for match in _MODULE.finditer(verilog)}


def synthesize_modules(verilog: str, family: Family, progress: Progress | None = None) -> dict[str, Cells]:
    """Cells of every module of `verilog`.

    Raises:
        UserError: Yosys is not installed.
        RuntimeError: Yosys failed, or gave no statistics; the message ends with the last lines of its log.
    """
    modules = modules_of(verilog)
    tool = yosys_version()
    folder = cache_folder() / "synthesis"
    files = {name: folder / f"{content_hash(tool, FLOWS[family], text)}.json" for name, text in modules.items()}
    cells = {name: cached for name, path in files.items() if (cached := _cached(path)) is not None}
    missing = {name: len(text) for name, text in modules.items() if name not in cells}
    report = progress or (lambda phase, done, total: None)
    report("synthesis", len(cells), len(modules))
    if missing:
        jobs = _share_out(missing, min(os.cpu_count() or 1, 8, 1 + sum(missing.values()) // JOB_CHARACTERS))
        with ThreadPoolExecutor(len(jobs)) as pool, _Processes() as processes:
            for result in pool.map(lambda names: _run(verilog, names, list(modules), family, processes), jobs):
                for name, counts in result.items():
                    write_json(files[name], counts)
                    cells[name] = counts
                report("synthesis", len(cells), len(modules))
    return cells


def yosys_version() -> str:
    """Version of the installed pyosys; UserError when there is none."""
    try:
        return version("pyosys")
    except ModuleNotFoundError:
        raise UserError("Yosys is not installed; install the package 'pyosys' with pip") from None


def _cached(path: Path) -> Cells | None:
    try:
        counts = json.loads(path.read_text())
    except (OSError, ValueError):
        return None
    return counts if isinstance(counts, dict) else None


def _share_out(sizes: dict[str, int], count: int) -> list[list[str]]:
    """The modules in at most `count` lists of about equal text."""
    lists: list[list[str]] = [[] for _ in range(min(count, len(sizes)))]
    loads = [0] * len(lists)
    for name in sorted(sizes, key=lambda n: (-sizes[n], n)):
        least = loads.index(min(loads))
        lists[least].append(name)
        loads[least] += sizes[name]
    return lists


class _Processes(contextlib.AbstractContextManager["_Processes"]):
    """The running Yosys processes; all are ended when the block is left by an exception."""

    def __init__(self) -> None:
        self.running: list[subprocess.Popen[bytes]] = []

    def __exit__(self, kind: object, *rest: object) -> None:
        if kind is not None:
            for process in self.running:
                process.kill()


def _run(
    verilog: str, names: Sequence[str], all_names: Sequence[str], family: Family, processes: _Processes
) -> dict[str, Cells]:
    """Synthesize the modules `names`; all others are boxes without content."""
    with tempfile.TemporaryDirectory(prefix="codesign-synthesis-") as temporary:
        folder = Path(temporary)
        (folder / "design.v").write_text(verilog)
        job = {"pass": FLOWS[family], "modules": list(names), "boxes": sorted(set(all_names) - set(names))}
        (folder / "job.json").write_text(json.dumps(job))
        log = folder / "yosys.log"
        with log.open("wb") as output:
            process = subprocess.Popen(
                [sys.executable, "-m", "codesign.sim.yosys_job", str(folder)],
                stdout=output,
                stderr=subprocess.STDOUT,
                env=os.environ | {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
            )
            processes.running.append(process)
            status = process.wait()
        return _statistics(folder / "statistics.json", names, status, log)


def _statistics(path: Path, names: Sequence[str], status: int, log: Path) -> dict[str, Cells]:
    """What `stat -json` said of `names`; an exit status of 0 alone proves nothing."""
    try:
        modules = json.loads(path.read_text())["modules"]
        counts = {name: modules[f"\\{name}"]["num_cells_by_type"] for name in names}
    except (OSError, ValueError, KeyError) as error:
        tail = " | ".join(log.read_text(errors="replace").strip().splitlines()[-3:])
        raise RuntimeError(f"Yosys gave no statistics (exit status {status}, {error!r}): {tail}") from None
    return {name: {kind.removeprefix("\\"): int(n) for kind, n in cells.items()} for name, cells in counts.items()}

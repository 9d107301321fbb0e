"""Cells of every module of a Verilog design after synthesis, by Yosys, cached by module.

A design is synthesized as a hierarchy: each distinct module once, by itself, with the modules inside it as boxes. The
figures are therefore those of an out-of-context run, an upper bound on what a flat run gives. In return a module
whose text, boxes and flow are unchanged is never synthesized again, whatever design it appears in, and its figures
never depend on that design: Yosys numbers everything it reads, and optimises in the order of the numbers.

Every module has its own process (`codesign.sim.yosys_job`): a crash or an interrupt cannot take the caller with it,
and the modules are shared out among the processor's cores.
"""

from __future__ import annotations

import json
import os
import re
import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, as_completed
from importlib.metadata import version
from pathlib import Path

from codesign._files import cache_folder, content_hash, write_json
from codesign.arch.devices import Family
from codesign.errors import UserError
from codesign.sim.processes import Processes, last_lines

Cells = dict[str, int]
"""How many cells of each type a module holds itself; instances of other modules are among them."""

Progress = Callable[[str, int, int], None]
"""Called with (phase, done, total)."""

FLOWS: dict[Family, str] = {
    "xc7": "synth_xilinx -family xc7 -noiopad -noclkbuf",
    "ecp5": "synth_ecp5 -noflatten -noiopad",
}
"""Yosys pass by device family. No pads and clock buffers: the accelerator is a block inside a larger design."""

MEMORY_STEPS: dict[Family, tuple[str, str]] = {"xc7": ("map_memory", "map_ffram"), "ecp5": ("map_ram", "map_ffram")}
"""Label of the flow's step that maps memories, and of the one after it."""

_MODULE = re.compile(r"^module\s+(\\\S+|\w+).*?^endmodule", re.MULTILINE | re.DOTALL)
_HEADER = re.compile(r"module\s.*?\)\s*;", re.DOTALL)
_PORT = re.compile(r"^\s*(?:input|output|inout)\b[^;]*;", re.MULTILINE)


def modules_of(verilog: str) -> dict[str, str]:
    """Text of every module, by name without the backslash of an escaped identifier."""
    return {match[1].removeprefix("\\"): match[0] for match in _MODULE.finditer(verilog)}


def boxes_of(module: str, modules: dict[str, str]) -> str:
    """Text of the modules that `module` instantiates, with ports but without content."""
    words = set(re.findall(r"^\s*(\\\S+|\w+)\s", modules[module], re.MULTILINE))
    names = sorted({word.removeprefix("\\") for word in words} & set(modules) - {module})
    boxes = []
    for name in names:
        header = _HEADER.match(modules[name])
        if header is not None:
            ports = "\n".join(_PORT.findall(modules[name], header.end()))
            boxes.append(f"(* blackbox *)\n{header[0]}\n{ports}\nendmodule\n")
    return "".join(boxes)


def synthesize_modules(verilog: str, family: Family, progress: Progress | None = None) -> dict[str, Cells]:
    """Cells of every module of `verilog`.

    Raises:
        UserError: Yosys is not installed.
        RuntimeError: Yosys failed, or gave no statistics; the message ends with the last lines of its log.
    """
    modules = modules_of(verilog)
    texts = {name: f"{text}\n{boxes_of(name, modules)}" for name, text in modules.items()}
    tool = yosys_version()
    folder = cache_folder() / "synthesis"
    files = {name: folder / f"{content_hash(tool, FLOWS[family], text)}.json" for name, text in texts.items()}
    cells = {name: cached for name, path in files.items() if (cached := _cached(path)) is not None}
    missing = sorted((name for name in modules if name not in cells), key=lambda name: -len(texts[name]))
    report = progress or (lambda phase, done, total: None)
    report("synthesis", len(cells), len(modules))
    with ThreadPoolExecutor(os.cpu_count() or 1) as pool, Processes() as processes:
        jobs = {pool.submit(_run, name, texts[name], family, processes): name for name in missing}
        for job in as_completed(jobs):
            name = jobs[job]
            cells[name] = job.result()
            write_json(files[name], cells[name])
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


def _run(name: str, text: str, family: Family, processes: Processes) -> Cells:
    """Synthesize one module in a process of its own."""
    with tempfile.TemporaryDirectory(prefix="codesign-synthesis-") as temporary:
        folder = Path(temporary)
        (folder / "design.v").write_text(text)
        job = {"pass": FLOWS[family], "module": name, "memory": MEMORY_STEPS[family], "netlist": False}
        (folder / "job.json").write_text(json.dumps(job))
        log = folder / "yosys.log"
        status = processes.start(["-m", "codesign.sim.yosys_job", str(folder)], log).wait()
        return statistics(folder / "statistics.json", name, status, log)


def statistics(path: Path, name: str, status: int, log: Path) -> Cells:
    """What `stat -json` said of the module; an exit status of 0 alone proves nothing."""
    try:
        counts = json.loads(path.read_text())["modules"][f"\\{name}"]["num_cells_by_type"]
    except (OSError, ValueError, KeyError) as error:
        raise RuntimeError(
            f"Yosys gave no statistics of {name} (exit status {status}, {type(error).__name__}): {last_lines(log)}"
        ) from None
    return {kind.removeprefix("\\"): int(number) for kind, number in counts.items()}

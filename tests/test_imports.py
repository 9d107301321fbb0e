"""The architecture of the package: who may import whom, and what starts without torch."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import codesign

PACKAGE = Path(codesign.__file__).parent

MECHANISMS: dict[str, set[str]] = {
    "errors": set(),
    "_typing": set(),
    "_text": set(),
    "_extras": {"errors"},
    "_keeper": set(),
    "_processes": {"_keeper"},
    "_reading": {"errors"},
    "_yaml": {"errors"},
    "_files": {"errors", "_reading"},
    "_folders": {"errors", "_files"},
    "_new_folder": {"errors", "_files"},
    "_sources": {"_files"},
    "_kept": {"errors", "_files", "_reading"},
}
"""What every room may use, and what these use of each other."""
ANYWHERE = set(MECHANISMS)
MODELS = {"arch", "workload", "formats", "integer"}
"""What describes hardware and networks, and needs numpy only."""
SIMULATORS = {"sim", "sim.timing", "sim.cosim", "sim.synthesis"}

MAY_IMPORT: dict[str, set[str]] = {
    **MECHANISMS,
    "arch": set(),
    "provenance": {"arch"},
    "execution": set(),
    "workload": set(),
    "formats": {"arch", "workload"},
    "integer": {"arch", "workload", "formats"},
    "data": set(),
    "quant": MODELS | {"data", "execution"},
    "interchange": MODELS,
    "rtl": {"provenance", "arch", "rtl.array"},
    "rtl.array": {"arch", "rtl"},
    "program": MODELS | {"provenance", "rtl", "rtl.array"},
    "sim": MODELS | {"rtl", "program", "sim.timing", "sim.synthesis"},
    "sim.timing": MODELS | {"rtl", "program"},
    "sim.cosim": MODELS | {"execution", "rtl", "rtl.array", "program", "sim", "sim.timing"},
    "sim.synthesis": {"execution", "arch", "rtl", "rtl.array", "sim"},
    "sim.ideal": {"arch", "workload"},
    "sim.amed": {"arch", "workload", "sim.ideal"},
    "allocation": MODELS | {"program", "sim", "sim.timing", "allocation.solvers"},
    "allocation.sensitivities": MODELS | {"data", "quant", "allocation", "allocation.relaxations"},
    "allocation.relaxations": MODELS | {"quant", "allocation"},
    "allocation.methods": MODELS
    | {"quant", "allocation", "allocation.solvers", "allocation.sensitivities", "allocation.relaxations"},
    "allocation.solvers": {"allocation"},
    "verify": MODELS | SIMULATORS | {"execution", "provenance", "rtl", "rtl.array", "program"},
    "search": MODELS | SIMULATORS | {"execution", "provenance", "data", "quant", "program"},
    "report": MODELS | SIMULATORS | {"execution", "provenance", "data", "program", "search", "allocation"},
    "api": MODELS
    | SIMULATORS
    | {"sim.ideal", "sim.amed", "execution", "provenance", "data", "quant", "interchange", "rtl", "program"}
    | {"search", "report", "verify", "allocation", "allocation.solvers"}
    | {"allocation.sensitivities", "allocation.methods"},
}
"""What each room may import; a room within a room is one of its own."""
CLI_MAY_IMPORT = {"api", "errors", "_files", "_text", "__version__"}
"""The roof: parses options, calls the API, prints answers and writes them (`_files`), with nothing hidden (`_text`)."""


def room_of(path: Path) -> str:
    """The room of a file or module path within the package: `sim.timing` for sim/timing/reader.py."""
    parts = path.with_suffix("").parts
    for depth in range(len(parts), 0, -1):
        if ".".join(parts[:depth]) in MAY_IMPORT:
            return ".".join(parts[:depth])
    return parts[0]


def imports_of(path: Path) -> set[str]:
    """Rooms of codesign that a file imports, anywhere in it."""
    rooms = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module:
            names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
            names = [name for name in names if name != "codesign" and _is_module(name)] or names[1:]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        else:
            continue
        rooms |= {room_of(Path(*name.split(".")[1:])) for name in names if name.startswith("codesign.")}
    return rooms


def _is_module(name: str) -> bool:
    place = PACKAGE.parent.joinpath(*name.split("."))
    return place.with_suffix(".py").is_file() or place.is_dir()


def files_of(room: str) -> list[Path]:
    """The files of a room that lie in no room within it."""
    place = PACKAGE.joinpath(*room.split("."))
    found = list(place.rglob("*.py")) or [place.with_suffix(".py")]
    return [path for path in found if room_of(path.relative_to(PACKAGE)) == room]


@pytest.mark.parametrize("room", MAY_IMPORT)
def test_imports_run_one_way(room: str) -> None:
    files = files_of(room)
    assert files
    for path in files:
        wrong = imports_of(path) - MAY_IMPORT[room] - {room, "__version__"} - (set() if room in ANYWHERE else ANYWHERE)
        assert not wrong, f"{path.relative_to(PACKAGE)} imports {', '.join(sorted(wrong))}"


def test_the_command_line_is_a_thin_layer_on_the_api() -> None:
    for path in (PACKAGE / "cli").glob("*.py"):
        wrong = imports_of(path) - CLI_MAY_IMPORT - {"cli"}
        assert not wrong, f"cli/{path.name} imports {', '.join(sorted(wrong))}"


def test_every_room_is_listed() -> None:
    rooms = {p.stem for p in PACKAGE.iterdir() if p.suffix == ".py" or (p / "__init__.py").is_file()}
    assert rooms - {"__init__", "__main__", "cli"} == {room for room in MAY_IMPORT if "." not in room}
    within = {p.parent.relative_to(PACKAGE).as_posix() for p in PACKAGE.glob("*/*/__init__.py")}
    assert within == {room.replace(".", "/") for room in MAY_IMPORT if "." in room}


def test_what_needs_no_torch_cannot_import_what_does() -> None:
    for room in ("formats", "integer", "data", "program", "sim", "interchange", "rtl", "execution", "verify"):
        assert "quant" not in MAY_IMPORT[room]


@pytest.mark.parametrize(
    "module",
    [
        "codesign.arch.load",
        "codesign.rtl.verilog",
        "codesign.sim.timing.plan_timing",
        "codesign.cli.main",
        "codesign.program",
        "codesign.api.cosimulation",
        "codesign.api.board",
        "codesign.api.simulation",
        "codesign.api.sweeping",
    ],
)
def test_starts_without_torch(module: str) -> None:
    code = f"import sys, {module}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0

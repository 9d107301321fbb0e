"""The architecture of the package: who may import whom, and what starts without torch."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import codesign

PACKAGE = Path(codesign.__file__).parent

ANYWHERE = {"errors", "_reading", "_yaml"}
KEEPING = {"_kept", "_sources"}
BELOW_SEARCH = {"provenance", "arch", "workload", "quant", "rtl", "program", "sim"}
MAY_IMPORT = {
    "errors": set[str](),
    "_reading": {"errors"},
    "_yaml": {"errors"},
    "_files": {"errors"},
    "_folders": {"errors", "_files"},
    "_keeper": set[str](),
    "_processes": {"_keeper"},
    "_text": set[str](),
    "_sources": {"_files"},
    "_kept": {"_files"},
    "arch": {"errors"},
    "provenance": {"arch"},
    "workload": {"errors", "_files"},
    "quant": {"errors", "_files", *KEEPING, "arch", "workload"},
    "interchange": {"errors", "_files", "arch", "workload", "quant"},
    "rtl": {"errors", "_files", "_folders", "_processes", "provenance", "arch"},
    "program": {"errors", "_files", "_folders", "provenance", "arch", "workload", "quant", "rtl"},
    "sim": {"errors", "_files", "_processes", *KEEPING, "arch", "workload", "quant", "rtl", "program"},
    "verify": {"errors", "_files", "_processes", *KEEPING, *BELOW_SEARCH},
    "search": {"errors", "_files", "_processes", *KEEPING, *BELOW_SEARCH},
    "report": {"errors", "_text", "provenance", "arch", "workload", "quant", "rtl", "program", "sim", "search"},
}


def imports_of(path: Path) -> set[str]:
    """Rooms of codesign that a file imports, anywhere in it."""
    rooms = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module:
            names = [node.module] if node.module != "codesign" else [f"codesign.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        else:
            continue
        rooms |= {name.split(".")[1] for name in names if name.startswith("codesign.")}
    return rooms


@pytest.mark.parametrize("room", MAY_IMPORT)
def test_imports_run_one_way(room: str) -> None:
    files = list((PACKAGE / room).rglob("*.py")) or [PACKAGE / f"{room}.py"]
    for path in files:
        wrong = imports_of(path) - MAY_IMPORT[room] - {room, "__version__"} - (set() if room in ANYWHERE else ANYWHERE)
        assert not wrong, f"{path.relative_to(PACKAGE)} imports {', '.join(sorted(wrong))}"


def test_every_room_is_listed() -> None:
    rooms = {p.stem for p in PACKAGE.iterdir() if p.suffix == ".py" or (p / "__init__.py").is_file()}
    assert rooms - {"__init__", "__main__", "cli"} == set(MAY_IMPORT)


@pytest.mark.parametrize(
    "module",
    [
        "codesign.arch.load",
        "codesign.rtl.verilog",
        "codesign.sim.timing.plan_timing",
        "codesign.cli.main",
        "codesign.program",
    ],
)
def test_starts_without_torch(module: str) -> None:
    code = f"import sys, {module}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0

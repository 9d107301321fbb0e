"""The key of what is kept: the sources that compute it, all of them and no others."""

from __future__ import annotations

import ast
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from codesign import _sources
from codesign._sources import ROOT, source_files, source_hash


def modules() -> list[str]:
    """Dotted names of all modules."""
    found = []
    for path in sorted(ROOT.rglob("*.py")):
        parts = path.relative_to(ROOT.parent).with_suffix("").parts
        found.append(".".join(parts[:-1] if parts[-1] == "__init__" else parts))
    return found


def parsed(name: str) -> set[str]:
    """Modules that the syntax tree of a module imports."""
    path = _sources._path(name)
    assert path is not None
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {item.name for item in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0 and node.module is not None
            found |= {node.module, *(f"{node.module}.{item.name}" for item in node.names)}
    return {item for item in found if item.split(".")[0] == "codesign" and _sources._path(item) is not None}


def test_carriers_are_modules() -> None:
    assert all(name in modules() for name in _sources.CARRIERS)


@pytest.mark.parametrize("name", ["codesign.sim.nothing", "codesign.nothing", "sim.energy", "codesign.sim.energy.x"])
def test_a_stale_name_is_refused_where_it_would_not_be_followed(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match=f"^{name}: no such module, but named among those that are not followed"):
        source_files("codesign.sim.energy", given=("codesign.rtl", name))
    assert source_files("codesign.sim.energy", given=("codesign.rtl",))
    monkeypatch.setattr(_sources, "CARRIERS", (*_sources.CARRIERS, name))
    with pytest.raises(ValueError, match="no such module"):
        source_files("codesign.sim.energy")


def test_imports_are_those_of_the_syntax_tree() -> None:
    """Of every module; besides them only modules that are named as ones to run."""
    for name in modules():
        path = _sources._path(name)
        assert path is not None
        text = path.read_text()
        found = set(_sources._imported(text))
        assert parsed(name) <= found, name
        extras = found - parsed(name) - {"codesign"}  # which examples in docstrings import
        assert all(f'"{extra}"' in text for extra in extras), name


def test_what_is_handed_on_is_in_no_key() -> None:
    files = {path.relative_to(ROOT).parts[0] for path in source_files("codesign.sim.energy")}
    assert not files & {"__init__.py", "api", "cli", "report", "search", "quant"} and {"sim", "program"} <= files


def test_a_run_executes_no_other_source(tmp_path: Path) -> None:
    """What Python loads for a job is in the closure of its module."""
    code = """
import sys
from codesign.arch.load import load_hardware
from codesign.program import plan_network
from codesign.integer.random_network import random_network
from codesign.sim.signals import measure
from codesign.search.space import band_ratio
from codesign.sim.energy import unit_energies
from codesign.workload import zoo
hw = load_hardware("tiny")
measure(plan_network(random_network(zoo.get("smallcnn"), band_ratio(hw), hw.act_bits), hw), unit_energies())
print(*[m.__file__ for name, m in sys.modules.items() if name.startswith("codesign")])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = {Path(name) for name in done.stdout.split()} - {_sources._path(name) for name in _sources.CARRIERS}
    names = ("codesign.sim.signals", "codesign.search.space", "codesign.integer.random_network", "codesign.program")
    assert len(loaded) > 40 and loaded <= set(source_files(*names))


def test_every_data_file_belongs_to_a_module() -> None:
    whole = set(source_files(*modules()))
    for path in ROOT.rglob("*"):
        if path.is_file() and path.suffix not in (".py", ".pyc") and path.name not in ("LICENSE", "py.typed"):
            assert path in whole, path
    assert ROOT / "sim" / "synthesis" / "predictor.json" in source_files("codesign.sim.synthesis.predictor")


@pytest.fixture
def copy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The sources in another place, where they may be changed."""
    root = tmp_path / "codesign"
    shutil.copytree(ROOT, root, ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setattr(_sources, "ROOT", root)
    return root


def fresh(*names: str, given: tuple[str, ...] = ()) -> str:
    _sources._data_files.cache_clear()
    return source_hash.__wrapped__(*names, given=given)


def test_a_change_is_seen_where_it_matters(copy: Path) -> None:
    timing, training, synthesis = (
        fresh(name)
        for name in ("codesign.sim.timing.plan_timing", "codesign.quant.pipeline", "codesign.sim.synthesis.composition")
    )
    reader = copy / "sim" / "timing" / "reader.py"
    reader.write_text(reader.read_text() + "# changed\n")
    assert fresh("codesign.sim.timing.plan_timing") != timing
    assert fresh("codesign.quant.pipeline") == training and fresh("codesign.sim.synthesis.composition") == synthesis
    job = copy / "sim" / "synthesis" / "yosys_job.py"  # run by name in a process of its own
    job.write_text(job.read_text() + "# changed\n")
    assert fresh("codesign.sim.synthesis.composition") != synthesis
    predicted = fresh("codesign.sim.synthesis.predictor")
    (copy / "sim" / "synthesis" / "predictor.json").write_text("{}")
    assert fresh("codesign.sim.synthesis.predictor") != predicted


def test_rooms_within_rooms_are_seen(copy: Path) -> None:
    before = fresh("codesign.rtl")
    inner = copy / "rtl" / "inner" / "deeper"
    inner.mkdir(parents=True)
    for folder in (inner.parent, inner):
        (folder / "__init__.py").write_text("")
    (inner / "core.py").write_text("WIDTH = 1\n")
    nested = fresh("codesign.rtl")
    assert nested != before
    (inner / "core.py").write_text("WIDTH = 2\n")
    assert fresh("codesign.rtl") not in (before, nested)
    single = fresh("codesign.rtl.verilog")
    (copy / "rtl" / "verilog.py").write_text(
        (copy / "rtl" / "verilog.py").read_text() + "def late():\n    from codesign.rtl.inner.deeper import (\n"
        "        core,  # inside\n    )\n    return core\n"
    )
    (inner / "core.py").write_text("WIDTH = 3\n")
    changed = fresh("codesign.rtl.verilog")
    (inner / "core.py").write_text("WIDTH = 4\n")
    assert len({single, changed, fresh("codesign.rtl.verilog")}) == 3


def test_what_is_given_by_value_is_not_followed(copy: Path) -> None:
    files = {
        path.relative_to(copy).as_posix()
        for path in source_files("codesign.sim.synthesis.place_route", given=("codesign.rtl",))
    }
    assert "sim/synthesis/yosys_job.py" in files and not any(name.startswith("rtl/") for name in files)
    with pytest.raises(ValueError, match="codesign.sim.nothing: no such module"):
        source_files("codesign.sim.nothing")

"""Tutorials do what they say: their files are written, their commands run in order, what they show is what is printed.

In a tutorial a line such as "`mine.yaml`:" in front of a block says which file the block is. A block `console` has
commands behind `$ ` and lines of what each prints, in order; `...` stands for lines left out.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import needs_icarus
from tests.test_guides import GUIDES, ROOT, blocks

NOTEBOOKS = GUIDES.parent / "notebooks"
NUMBERS = re.compile(r"[\d.,]+")
VARIES = re.compile(
    r"accuracy|cycles/s|predicted|same class|^(test|validation|right|loss) |^(codesign_top|driver|registers)\."
)
"""Lines whose numbers come of a training, or are a clock predicted, a speed, the size of a generated file."""
LOSSES = re.compile(r"^(\w+) [\d.e-]+ [\d.e-]+( 0\.\d+ 0\.\d+)$|^(\w+ w\da\d) [\d.e-]+( .*)$")
"""Lines of tables with losses, which come of a training, before costs, which do not."""


def plain(line: str) -> str:
    """Without columns' widths, and without numbers where they vary."""
    line = " ".join(line.split())
    return NUMBERS.sub("#", line) if VARIES.search(line) else LOSSES.sub(r"\1\3 #\2\4", line)


def environment(folder: Path) -> dict[str, str]:
    """Where `codesign` and `python` are those of this package."""
    programs = folder / "programs"
    programs.mkdir()
    for name, command in (("codesign", f"{sys.executable} -m codesign"), ("python", sys.executable)):
        (programs / name).write_text(f'#!/bin/sh\nexec {command} "$@"\n')
        (programs / name).chmod(0o755)
    path = f"{programs}{os.pathsep}{os.environ['PATH']}"
    return os.environ | {"PATH": path, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}


def follow(name: str, folder: Path, recorded: Path | None = None) -> Path:
    """Do what a tutorial says in a new folder, with the files `recorded` in it; gives that folder."""
    text = (GUIDES / name).read_text()
    work = folder / "work"
    work.mkdir()
    if recorded is not None:
        (work / recorded.name).write_bytes(recorded.read_bytes())
    outside = environment(folder)
    files = re.findall(r"^`([\w.]+)`:\n\n```\w*\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    for file, content in files:
        (work / file).write_text(content)
    status = 0
    for block in blocks(text, "console"):
        for part in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
            command, *shown = part.rstrip("\n").split("\n")
            assert status == 0 or command == "echo $?", f"{name} says nothing of exit status {status} before: {command}"
            run = subprocess.run(
                ["sh", "-c", f"(exit {status})\n{command}"],
                stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False, cwd=work, env=outside,
            )  # fmt: skip
            status = run.returncode
            printed = iter([plain(line) for line in run.stdout.splitlines()])
            for line in filter(None, map(plain, shown)):
                assert line == "..." or line in printed, (
                    f"{command} does not print, in this order: {line}\n{run.stdout}"
                )
    assert status == 0, name
    return work


@pytest.mark.slow
@needs_icarus
def test_a_co_search(tmp_path: Path) -> None:
    work = follow("co-search.md", tmp_path)
    assert (work / "run" / "report.html").stat().st_size < 2_000_000


@pytest.mark.slow
def test_a_first_accelerator(tmp_path: Path) -> None:
    work = follow("first-accelerator.md", tmp_path)
    assert json.loads((work / "answer.json").read_text())["total_cycles"] > 0
    assert (work / "accelerator" / "codesign_top.v").is_file()


@pytest.mark.slow
def test_from_scale_sim(tmp_path: Path) -> None:
    work = follow("from-scale-sim.md", tmp_path)
    ideal = json.loads((work / "corrected.json").read_text())["total_cycles"]
    exact = json.loads((work / "rtl.json").read_text())
    assert exact["exact"] and exact["total_cycles"] < ideal


@pytest.mark.slow
def test_a_model_and_data_of_ones_own(tmp_path: Path) -> None:
    follow("own-model-and-data.md", tmp_path)


@pytest.mark.slow
def test_limits_and_methods(tmp_path: Path) -> None:
    follow("limits-and-methods.md", tmp_path)


@pytest.mark.slow
def test_from_brevitas(tmp_path: Path) -> None:
    recorded = Path(__file__).parent / "interchange" / "data" / "digits_qonnx_w4a4.onnx"
    follow("from-brevitas.md", tmp_path, recorded)


def executed(name: str, folder: Path, checks: str) -> None:
    """Run a notebook's cells of code one after the other, and `checks` behind them."""
    cells = json.loads((NOTEBOOKS / name).read_text())["cells"]
    code = [cell for cell in cells if cell["cell_type"] == "code"]
    assert all(not cell["outputs"] and cell["execution_count"] is None for cell in code), f"{name} has outputs"
    program = "\n\n".join(["".join(cell["source"]) for cell in code] + [checks])
    (folder / "work").mkdir()
    run = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False,
        cwd=folder / "work", env=environment(folder),
    )  # fmt: skip
    assert run.returncode == 0, run.stderr


@pytest.mark.slow
def test_the_notebook_of_a_first_accelerator(tmp_path: Path) -> None:
    executed("first-accelerator.ipynb", tmp_path, "assert Path('accelerator/codesign_top.v').is_file()")
    (yaml,) = re.findall(
        r"^`mine.yaml`:\n\n```yaml\n(.*?)^```$", (GUIDES / "first-accelerator.md").read_text(), re.M | re.S
    )
    assert (tmp_path / "work" / "mine.yaml").read_text() == yaml


def test_the_notebook_of_bits_and_cycles(tmp_path: Path) -> None:
    checks = "assert len(bars.data) == 4 and len(points.data[0].y) == 16\nassert min(totals) < max(totals) / 2"
    executed("bits-and-cycles.ipynb", tmp_path, checks)

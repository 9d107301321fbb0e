"""Guides do what they say: their changes are made to a copy of the package, and their programs run on it."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import codesign

ROOT = Path(codesign.__file__).parents[1]
GUIDES = Path(__file__).parents[1] / "docs" / "guide"


def blocks(text: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


def changed(folder: Path, change: str) -> None:
    """Make a change of a guide: hunks by their context, which must be found once."""
    path = folder / change.split("\n+++ b/")[1].split("\n")[0]
    text = path.read_text()
    for hunk in change.split("\n@@\n")[1:]:
        lines = hunk.rstrip("\n").split("\n")
        before = "\n".join(line[1:] for line in lines if not line.startswith("+"))
        after = "\n".join(line[1:] for line in lines if not line.startswith("-"))
        assert text.count(before) == 1, f"{path.name} has not once: {before}"
        text = text.replace(before, after)
    path.write_text(text)


def changed_copy(folder: Path, *guides: str) -> dict[str, str]:
    """A copy of the project with the changes of some guides, in their order; the environment of its commands."""
    for name in ("codesign", "hw_configs", "tests"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", folder)
    for guide in guides:
        for change in blocks((GUIDES / guide).read_text(), "diff"):
            changed(folder, change)
    return os.environ | {"PYTHONPATH": str(folder)}


def output(command: list[str], folder: Path, environment: dict[str, str]) -> str:
    """What a program prints that ends well."""
    run = subprocess.run(command, capture_output=True, text=True, check=False, cwd=folder, env=environment)
    assert run.returncode == 0, run.stdout + run.stderr
    return run.stdout


def test_a_format_of_ones_own(tmp_path: Path) -> None:
    environment = changed_copy(tmp_path, "own-format.md")
    (program,) = blocks((GUIDES / "own-format.md").read_text(), "python")
    printed = output([sys.executable, "-c", program], tmp_path, environment)
    assert re.fullmatch(r"[1-9]\d+ \(1, 10\)|[1-9]\d+ \(1, 10, 1, 1\)", printed.strip())


@pytest.mark.slow
def test_a_core_of_ones_own(tmp_path: Path) -> None:
    """Every product of the core, and a network on the generated RTL."""
    environment = changed_copy(tmp_path, "own-format.md", "own-core.md")
    text = (GUIDES / "own-core.md").read_text()
    (configuration,) = blocks(text, "yaml")
    (tmp_path / "triple.yaml").write_text(configuration)
    (products,) = re.findall(r"^python (-m pytest .*)$", text, re.MULTILINE)
    assert "6 passed" in output([sys.executable, *products.split()], tmp_path, environment)
    generate, cosim = re.findall(r"^codesign ((?:generate|cosim) .*)$", text, re.MULTILINE)
    for command in (generate, cosim):
        printed = output([sys.executable, "-m", "codesign", *command.split()], tmp_path, environment)
    assert re.search(r"^equal +yes *$", printed, re.MULTILINE)
    assert "_magnitude" in (tmp_path / "rtl" / "codesign_top.v").read_text()


def test_from_a_module_and_arrays_to_an_accelerator(tmp_path: Path) -> None:
    program = "\n".join(blocks((GUIDES / "python.md").read_text(), "python"))
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    run = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False, cwd=tmp_path, env=environment
    )
    assert run.returncode == 0, run.stderr
    *_, equal, accuracy = run.stdout.strip().splitlines()
    assert equal.split() == ["equal", "yes"]
    assert float(accuracy) > 0.6
    assert (tmp_path / "accelerator" / "codesign_top.v").is_file()


def test_a_method_of_ones_own(tmp_path: Path) -> None:
    """The guide's file and its first command, with a short training."""
    text = (GUIDES / "own-method.md").read_text()
    (program,) = blocks(text, "python")
    assert len(program.splitlines()) <= 40
    (tmp_path / "mine.py").write_text(program)
    (allocate,) = re.findall(r"^codesign allocate .*$", text, re.MULTILINE)
    run = subprocess.run(
        [sys.executable, "-m", *allocate.split(), "--float-epochs", "1", "--json", "answer.json"],
        capture_output=True, text=True, check=False, cwd=tmp_path, env=os.environ | {"PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert run.returncode == 0, run.stderr
    answer = json.loads((tmp_path / "answer.json").read_text())
    assert answer["method"] == "mine" and answer["costs"]["size_mib"] <= 0.005
    assert (tmp_path / "assignment.json").is_file()

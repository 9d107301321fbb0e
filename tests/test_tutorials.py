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

from tests.test_guides import GUIDES, ROOT, blocks

VARIES = re.compile(r"accura|cycles/s|predicted|same class|^(test|validation)|^right|^codesign_top|^driver|^registers")
"""Lines whose numbers are those of a training, a clock predicted, a speed, or the size of a generated file."""


def plain(line: str) -> str:
    """Without columns' widths, and without numbers where they vary."""
    line = " ".join(line.split())
    return re.sub(r"[\d.,]+", "#", line) if VARIES.search(line) else line


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


def test_a_first_accelerator(tmp_path: Path) -> None:
    work = follow("first-accelerator.md", tmp_path)
    assert json.loads((work / "answer.json").read_text())["total_cycles"] > 0
    assert (work / "accelerator" / "codesign_top.v").is_file()


def test_from_scale_sim(tmp_path: Path) -> None:
    work = follow("from-scale-sim.md", tmp_path)
    ideal = json.loads((work / "corrected.json").read_text())["total_cycles"]
    exact = json.loads((work / "rtl.json").read_text())
    assert exact["exact"] and exact["total_cycles"] < ideal


def test_a_model_and_data_of_ones_own(tmp_path: Path) -> None:
    follow("own-model-and-data.md", tmp_path)

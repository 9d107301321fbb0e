"""Every kind of cache, damaged in several ways, gives the same answers again, from the real tools."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from codesign._files import cache_folder
from codesign.arch.load import load_hardware
from codesign.sim.cosim import verilator
from codesign.sim.synthesis import place_route
from codesign.sim.synthesis.composition import compose
from codesign.sim.synthesis.flat import flat_cells
from codesign.sim.synthesis.resources import known_estimate, synthesize_hardware
from tests import damage
from tests.sim.synthesis.test_composition import array
from tests.sim.synthesis.test_place_route import ECP5, chain

pytestmark = pytest.mark.usefixtures("own_cache")


def heals(job: Callable[[], Any], folder: Path, ways: Sequence[Callable[[Path], None]], rounds: int = 1) -> None:
    """Damage all files of a folder, each round every file in another way, and do the job again."""
    for path in folder.glob("*.json"):  # of other tests: this job does not make them again
        path.unlink()
    expected = job()
    files = sorted(folder.glob("*.json"))
    assert files
    content = {path: path.read_bytes() for path in files}
    for first in range(rounds):
        for index, path in enumerate(files):
            ways[(first + index) % len(ways)](path)
        assert job() == expected
        assert sorted(folder.glob("*.json")) == files
        assert all(path.stat().st_size > len(content[path]) // 2 for path in files), "kept again"


def test_synthesis_by_composition() -> None:
    """Split modules, the shell, cores in their contexts."""
    heals(lambda: compose(array(2, 3, True), "top", "ecp5"), cache_folder() / "synthesis", damage.JSON)


@pytest.mark.slow
def test_every_tool_in_every_way() -> None:
    for job, name in (
        (lambda: compose(array(3, 2, True), "top", "ecp5"), "synthesis"),
        (lambda: flat_cells(chain(2), "top", "ecp5"), "flat"),
        (lambda: place_route.route(chain(2), "top", ECP5, 100.0).path, "routed"),
    ):
        heals(job, cache_folder() / name, damage.JSON, rounds=len(damage.JSON))


def test_flat_synthesis() -> None:
    heals(lambda: flat_cells(chain(1), "top", "ecp5"), cache_folder() / "flat", damage.JSON)


@pytest.mark.slow
def test_place_and_route() -> None:
    def job() -> Any:
        found = place_route.route(chain(1), "top", ECP5, 100.0)
        return found.fmax_mhz, found.path, found.used

    heals(job, cache_folder() / "routed", damage.JSON)


@pytest.mark.slow
def test_what_is_known_of_an_accelerator() -> None:
    hw = load_hardware("tiny")
    expected = synthesize_hardware(hw)
    (path,) = (cache_folder() / "estimated" / "by_hardware").glob("*.json")
    for hurt in (damage.empty, damage.cut, damage.other_value):
        assert known_estimate(hw) == expected.fmax_estimate_mhz
        hurt(path)
        assert known_estimate(hw) is None
        assert synthesize_hardware(hw) == expected


VERILOG = "module top(input clk, output reg [7:0] count); always @(posedge clk) count <= count + 1; endmodule\n"
MAIN = """
#include "Vtop.h"
#include <cstdio>
int main() {
  Vtop top;
  for (int i = 0; i < 20; i++) { top.clk = i & 1; top.eval(); }
  printf("%d\\n", top.count);
}
"""


def counted() -> str:
    folder = verilator.build({"top.v": VERILOG}, "top", (), main=MAIN)
    return subprocess.run([folder / "top"], capture_output=True, text=True, check=True).stdout


def no_program_bit(path: Path) -> None:
    path.chmod(0o644)


def other_made(path: Path) -> None:
    path.with_name("top.made").write_text("{}")


def only_a_file(path: Path) -> None:
    shutil.rmtree(path.parent)
    path.parent.write_text("")


def only_sources(path: Path) -> None:
    """A build that was killed."""
    for each in path.parent.iterdir():
        if each.suffix not in (".v", ".vlt", ".cpp"):
            each.unlink()


def left_behind(path: Path) -> None:
    """By a killed build: its lock file, its workplace and a program that is cut in half."""
    path.parent.with_name(path.parent.name + ".lock").write_text("4711")
    (path.parent.parent / f".{path.parent.name}.abcdef").mkdir()
    damage.cut(path)


BUILDS = (*damage.ANY, no_program_bit, other_made, only_a_file, only_sources, left_behind)


@pytest.mark.parametrize("hurt", [left_behind, *(pytest.param(each, marks=pytest.mark.slow) for each in BUILDS[:-1])])
def test_a_build(hurt: Callable[[Path], None], monkeypatch: pytest.MonkeyPatch) -> None:
    expected = counted()
    assert int(expected) == 10
    (program,) = (cache_folder() / "verilator").glob("*/top")
    before = program.stat().st_ino
    assert counted() == expected and program.stat().st_ino == before, "found"
    hurt(program)
    monkeypatch.setattr(verilator, "_built", {})  # as a new process
    assert counted() == expected
    assert not [path.name for path in program.parent.parent.iterdir() if path.name.startswith(".")]
    assert program.stat().st_mode & 0o100


def test_a_failed_build_leaves_its_log() -> None:
    with pytest.raises(RuntimeError, match="verilator failed with status .*; see ") as caught:
        verilator.build({"top.v": "module top; nonsense endmodule\n"}, "top", (), main=MAIN)
    assert "%Error" in Path(str(caught.value).rpartition("see ")[2]).read_text()

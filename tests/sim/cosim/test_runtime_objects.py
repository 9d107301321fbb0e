"""Verilator's run-time library is compiled once for all builds with the same switches, and again when it is damaged."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from codesign._files import cache_folder
from codesign.sim.cosim import verilator
from codesign.sim.cosim.runtime_objects import FOLDER, RuntimeObjects
from tests import damage
from tests.sim.test_damaged_caches import MAIN

pytestmark = pytest.mark.usefixtures("own_cache")


def built(step: int) -> set[str]:
    """Objects of the library that the build of a small design compiled; the design works, and is another each time."""
    source = (
        f"module top(input clk, output reg [7:0] count = 0); always @(posedge clk) count <= count + {step}; endmodule"
    )
    folder = verilator.build({"top.v": source}, "top", (), main=MAIN)
    printed = subprocess.run([folder / "top"], capture_output=True, text=True, check=True).stdout
    assert int(printed) == 10 * step
    log = (folder / "build.log").read_text()
    return {path.stem for path in objects() if f" -c -o {path.name} " in log}


def objects() -> list[Path]:
    return sorted((cache_folder() / FOLDER).glob("*/*.o"))


@pytest.mark.slow
def test_the_library_is_compiled_once_for_the_same_switches() -> None:
    everything = built(1)
    assert "verilated" in everything
    first = objects()
    assert not built(2) and objects() == first
    for number, hurt in enumerate((damage.other_bit, damage.missing), 3):
        hurt(first[0])
        assert built(number) == {first[0].stem}
    assert objects() == first and not built(5)


def test_other_switches_have_other_objects(tmp_path: Path) -> None:
    (tmp_path / "top.v").write_text("module top(input clk); endmodule")
    keys = []
    for flags in ((), ("--trace-vcd",)):
        command = ["verilator", "-cc", "--exe", "--prefix", "Vtop", "-Mdir", tmp_path, *flags, tmp_path / "top.v"]
        subprocess.run(command, check=True, env=verilator.environment())
        keys.append(RuntimeObjects(tmp_path, "Vtop.mk", verilator.environment()).keys)
        assert "verilated.o" in keys[-1]
    assert keys[0]["verilated.o"] != keys[1]["verilated.o"]
    assert "verilated_vcd_c.o" in keys[1] and "verilated_vcd_c.o" not in keys[0]

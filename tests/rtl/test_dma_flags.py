"""The DMA's registers that stand for comparisons are equal to them in every cycle: proven by induction, by Yosys."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from codesign.rtl.dma import ResultWriter, StreamReader
from codesign.rtl.geometry import Geometry
from codesign.rtl.latencies import STORE_LATENCY
from codesign.rtl.modules import convert
from codesign.sim.synthesis.netlist import modules_of
from tests.rtl.test_modules import SHAPES


def proven(verilog: str, top: str, claims: str, folder: Path) -> bool:
    """Whether `claims`, assertions and assumptions inside of `top`, hold in all states that can be reached."""
    module = modules_of(verilog)[top]
    text = verilog.replace(module, module.removesuffix("endmodule") + f"always @* begin\n{claims}\nend\nendmodule")
    (folder / "top.v").write_text(text)
    commands = [
        "read_verilog -formal -noautowire top.v",
        f"hierarchy -top {top}",
        "proc",
        f"select -module {top}",
        f"delete t:{top}__*",  # FIFOs: what they answer is assumed
        "select -clear",
        "opt_clean",
        "chformal -lower",
        f"tee -o said.txt sat -tempinduct -prove-asserts -set-assumes -seq 1 -maxsteps 4 -set-at 1 rst 1 {top}",
    ]
    script = f"""
from pyosys import libyosys
design = libyosys.Design()
for command in {commands}:
    libyosys.run_pass(command, design)
"""
    done = subprocess.run([sys.executable, "-c", script], cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    return "Induction step proven: SUCCESS!" in (folder / "said.txt").read_text()


@pytest.mark.parametrize("name", ["tiny", "odd"])
def test_a_reader_knows_what_is_requested_and_what_has_room(name: str, tmp_path: Path) -> None:
    memory = SHAPES[name].memory
    depth, burst = memory.read_fifo_beats, memory.burst_beats
    verilog = convert(StreamReader(Geometry(SHAPES[name])), "reader")
    claims = f"""
    assume (!(taken && room == {depth}));  // what is taken was requested
    assert (room <= {depth});
    assert (all_requested == (remaining == 0));
    assert (all_taken == (room == {depth}));
    assert (has_room == (room >= {burst}));
"""
    assert proven(verilog, "reader", claims, tmp_path)
    wrong = claims.replace(f"room >= {burst}", f"room > {burst}")
    assert not proven(verilog, "reader", wrong, tmp_path)


@pytest.mark.parametrize("name", ["tiny", "odd"])
def test_a_writer_knows_what_waits(name: str, tmp_path: Path) -> None:
    geometry = Geometry(SHAPES[name])
    verilog = convert(ResultWriter(geometry), "writer")
    depth = 2 * (STORE_LATENCY + geometry.load_beats + 1)

    def pin(fifo: str, port: str) -> str:
        instance = re.search(rf"writer__{fifo} {fifo} \((.*?)\);", verilog, re.S)
        found = instance and re.search(rf"\.{port}\((.*?)\)", instance[1])
        assert found, f"{fifo} has no {port}"
        return found[1]

    claims = f"""
    assume (outstanding != 16'hffff);
    assume (!({pin("beats", "r_rdy")} && beats_held == 0) && !({pin("fifo", "r_rdy")} && results_held == 0));
    assume (!({pin("beats", "w_rdy")} && beats_held == {depth}));
    assume (!({pin("fifo", "w_rdy")} && results_held == {geometry.rows + 4}));
    assert (beats_held <= {depth} && results_held <= {geometry.rows + 4});
    assert (all_answered == (outstanding == 0));
    assert (beats_at_least_1 == (beats_held != 0));
    assert (results_at_least_1 == (results_held != 0));
    assert (crowded == (beats_held >= {depth // 2}));
"""
    assert proven(verilog, "writer", claims, tmp_path)
    assert not proven(verilog, "writer", claims.replace(f">= {depth // 2}", f"> {depth // 2}"), tmp_path)

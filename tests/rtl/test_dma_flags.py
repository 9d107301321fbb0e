"""The DMA's registers that stand for comparisons are equal to them in every cycle: proven by induction, by Yosys."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from codesign.rtl.dma import ResultWriter, StreamReader
from codesign.rtl.geometry import Geometry
from codesign.rtl.latencies import STORE_LATENCY
from codesign.rtl.modules import convert
from tests.rtl.proofs import proven
from tests.rtl.test_modules import SHAPES


@pytest.mark.parametrize("name", ["tiny", "odd", "two ports", "four ports"])
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
    if memory.ports > 1:
        claims = f"""
    assume (!start || nothing == (bursts == 0));  // both were there a cycle before
    assume (!more || nothing_more == (more_bursts == 0));
{claims}"""
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

"""The DMA's registers that stand for comparisons are equal to them in every cycle: proven by induction, by Yosys."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from codesign.rtl.dma import MANY_RESULTS, MOST_OUTSTANDING, ResultWriter, StreamReader
from codesign.rtl.geometry import Geometry
from codesign.rtl.lanes import names
from codesign.rtl.latencies import STORE_LATENCY
from codesign.rtl.modules import convert
from tests.rtl.proofs import proven
from tests.rtl.test_modules import SHAPES


@pytest.mark.parametrize("name", ["tiny", "odd", "two ports", "four ports"])
def test_a_reader_knows_what_is_requested_and_what_has_room(name: str, tmp_path: Path) -> None:
    geometry = Geometry(SHAPES[name])
    burst = geometry.hw.memory.burst_beats
    depth = geometry.hw.memory.read_fifo_beats // burst
    verilog = convert(StreamReader(geometry), "reader")
    claims = f"""
    assume (!(taken && room == {depth}));  // what is taken was requested
    assert (room <= {depth});
    assert (all_requested == (remaining == 0));
    assert (all_taken == (room == {depth}));
    assert (has_room == (room != 0));
    assume (!start || nothing == (bursts == 0));  // both were there a cycle before
    assume (!more || nothing_more == (more_bursts == 0));
"""
    if burst > 1:
        claims += f"""
    assert (completes == (room_beats == {burst - 1}));
    assert (room != {depth} || room_beats == 0);
"""
    for open_bursts, awaits, opened, last, position in zip(
        *(
            names(name, geometry)
            for name in ("open_bursts", "awaits", "requested" if geometry.ports == 1 else "opened", "last", "position")
        ),
        strict=True,
    ):
        claims += f"""
    assume (!({opened} && {open_bursts} == {depth}));  // for each there was room
    assert ({open_bursts} <= {depth});
    assert ({awaits} == ({open_bursts} != 0));
"""
        if burst > 1:
            claims += f"    assert ({last} == ({position} == {burst - 1}));\n"
    assert proven(verilog, "reader", claims, tmp_path)
    for right, wrong in (("has_room == (room != 0)", "has_room == (room > 1)"), ("remaining == 0", "remaining == 1")):
        assert not proven(verilog, "reader", claims.replace(right, wrong), tmp_path)


@pytest.mark.parametrize("name", ["tiny", "odd", "four ports", "images"])
def test_a_writer_knows_what_waits(name: str, tmp_path: Path) -> None:
    geometry = Geometry(SHAPES[name])
    verilog = convert(ResultWriter(geometry), "writer")
    depth = 2 * (STORE_LATENCY + geometry.load_beats + 1)

    def offers(fifo: str) -> str:
        instance = re.search(rf"writer__{fifo} {fifo} \((.*?)\);", verilog, re.S)
        found = instance and re.search(r"\.r_rdy\((.*?)\)", instance[1])
        assert found, f"{fifo} has no r_rdy"
        return found[1]

    claims = f"""
    assume (!({offers("beats")} && beats_held == 0));
    assume (!(store_valid && beats_held == {depth}));
    assert (beats_held <= {depth});
    assert (crowded == (beats_held >= {depth // 2}));
"""
    for outstanding, all_answered in zip(
        *(names(name, geometry) for name in ("outstanding", "all_answered")), strict=True
    ):
        claims += f"""
    assume ({outstanding} != {MOST_OUTSTANDING});
    assert ({all_answered} == ({outstanding} == 0));
"""
    if geometry.hw.images:
        claims += f"""
    assume (!({offers("fifo")} && results_held == 0));
    assume (!(valid && results_held > {geometry.rows + 4}));
    assert (results_crowded == (results_held >= {MANY_RESULTS}));
"""
    assert proven(verilog, "writer", claims, tmp_path)
    assert not proven(verilog, "writer", claims.replace(f">= {depth // 2}", f"> {depth // 2}"), tmp_path)
    assert not proven(verilog, "writer", claims.replace(" == 0));", " == 1));"), tmp_path)

"""Builds of simulations: those that cannot be are refused before anything is written, and what is kept of others."""

from pathlib import Path

import pytest

from codesign.errors import UserError
from codesign.sim.cosim.verilator import build


def test_a_cache_with_blanks_in_its_name_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = tmp_path / "a b"
    monkeypatch.setenv("CODESIGN_CACHE", str(cache))
    with pytest.raises(UserError, match=r"a b/verilator: a simulation cannot be built .* set CODESIGN_CACHE"):
        build({"top.v": "module top; endmodule"}, "top", ())
    assert not cache.exists()


def test_what_is_kept_of_a_build_is_its_program_and_what_it_is_made_of() -> None:
    """Not objects and precompiled headers, which are a hundred times as large."""
    verilog = "module kept(input clk, output reg [7:0] count); always @(posedge clk) count <= count + 1; endmodule"
    folder = build({"kept.v": verilog}, "kept", ("clk", "count"))
    assert {path.name for path in folder.iterdir()} == {"kept", "kept.made", "kept.v", "public.vlt", "build.log"}
    assert sum(path.stat().st_size for path in folder.iterdir()) < 5_000_000
    assert build({"kept.v": verilog}, "kept", ("clk", "count")) == folder

"""Logic is mapped for the delays of the clock's estimate, each LUT counted as one, wherever temporary files lie."""

from pathlib import Path

import pytest

from codesign._files import scratch_folder
from codesign._processes import Processes
from codesign.sim.synthesis.clock_estimate import slowest_path_ns
from codesign.sim.synthesis.flat import run_flat
from codesign.sim.synthesis.flows import FLOWS, synthesis_job

WIDE = """
module top(input clk, input [35:0] a, input [35:0] b, output reg any);
  reg [35:0] x, y;
  always @(posedge clk) begin
    x <= a;
    y <= b;
    any <= |(x & y) ^ (&x);
  end
endmodule
"""


def synthesized(verilog: str, with_mapping: bool, monkeypatch: pytest.MonkeyPatch) -> tuple[int, float]:
    """LUTs, and nanoseconds of the slowest path."""
    import json

    if not with_mapping:
        plain = FLOWS["xc7"]._replace(mapping=None)
        monkeypatch.setitem(FLOWS, "xc7", plain)
    with scratch_folder() as folder, Processes() as processes:
        cells = run_flat(verilog, "top", "xc7", folder, processes, netlist=True)
        netlist = json.loads((folder / "netlist.json").read_text())["modules"]["top"]["cells"]
    return sum(count for kind, count in cells.items() if kind.startswith("LUT")), slowest_path_ns(netlist, "xc7")


def test_the_mapping_is_for_delay_and_for_luts_as_they_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    ours, ours_ns = synthesized(WIDE, True, monkeypatch)
    theirs, theirs_ns = synthesized(WIDE, False, monkeypatch)
    assert ours_ns < theirs_ns
    assert ours <= theirs


def test_luts_are_costed_by_what_they_take() -> None:
    lines = [line.split() for line in synthesis_job("xc7", "top", False)["mapping"]["luts"].splitlines()]
    assert [(int(inputs), int(taken)) for inputs, taken, _ in lines] == [*((n, 1) for n in range(1, 7)), (7, 2), (8, 4)]
    assert [int(delay) for *_, delay in lines] == [1722] * 6 + [3616] * 2  # wide ones as two levels and a bit
    assert synthesis_job("ecp5", "top", False)["mapping"] is None


def test_temporary_files_may_lie_in_a_folder_with_blanks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "a b"
    folder.mkdir()
    with Processes() as processes:
        cells = run_flat(WIDE, "top", "xc7", folder, processes, netlist=False)
    assert cells["FDRE"] == 73
    assert not list(folder.glob("yosys-abc*"))

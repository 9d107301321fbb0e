"""Composition gives what flat synthesis gives, does no work twice, and knows the contexts of its boxes."""

import random
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from codesign.arch.devices import Family
from codesign.execution.executor import Job, WorkerThreads
from codesign.sim.synthesis import composition
from codesign.sim.synthesis.composition import Context, compose
from codesign.sim.synthesis.flat import flat_resources
from codesign.sim.synthesis.resources import count, synthesize

ELEMENT = """
module element(input clk, input [7:0] a, input [7:0] w, input first, input done, input [13:0] left,
               output reg [7:0] a_out, output reg [7:0] w_out, output reg first_out, output reg done_out,
               output reg [13:0] result, output reg [13:0] right);
  reg [13:0] total;
  wire [13:0] step = {a_out ^ w_out, a_out[5:0] & w_out[7:2]} + left;
  always @(posedge clk) begin
    a_out <= a;
    w_out <= w;
    first_out <= first;
    done_out <= done;
    right <= step ^ 14'h155;
    total <= first_out ? step : total + step;
    result <= done_out ? total : 14'b0;
  end
LOGIC
endmodule
"""


def array(rows: int, columns: int, constant_left: bool, seed: int = 0) -> str:
    """An array of elements with delays before the first ones, whose last outputs nobody reads."""
    rng = random.Random(seed)
    logic = [f"  // {rng.random():.17f} keeps the module above the size that is worth a synthesis" for _ in range(25)]
    body, result = [], []
    for r in range(rows):
        for c in range(columns):
            a = f"a_{r - 1}_{c}" if r else f"late_{c}"
            first, done = (f"{x}_{r}_{c - 1}" if c else f"{x}_in[{r}]" for x in ("first", "done"))
            w = f"w_{r}_{c - 1}" if c else f"w_in[{8 * r} +: 8]"
            left = f"right_{r}_{c - 1}" if c else ("14'd0" if constant_left else f"{{6'b0, w_in[{8 * r} +: 8]}}")
            here = f"{r}_{c}"
            body.append(
                f"  wire [7:0] a_{here}, w_{here}; wire first_{here}, done_{here}; "
                f"wire [13:0] result_{here}, right_{here};\n"
                f"  element element_{here} (\n    .clk(clk), .a({a}), .w({w}), .first({first}), .done({done}), "
                f".left({left}), .a_out(a_{here}), .w_out(w_{here}), .first_out(first_{here}), "
                f".done_out(done_{here}), .result(result_{here}), .right(right_{here}));"
            )
            result.append(f"result_{here}")
    delays = "\n".join(
        f"  reg [7:0] early_{c}, late_{c};\n"
        f"  always @(posedge clk) begin early_{c} <= a_in[{8 * c} +: 8]; late_{c} <= early_{c}; end"
        for c in range(columns)
    )
    top = (
        f"module top(input clk, input [{8 * columns - 1}:0] a_in, input [{8 * rows - 1}:0] w_in,\n"
        f"           input [{rows - 1}:0] first_in, input [{rows - 1}:0] done_in, output [13:0] y);\n"
        + delays
        + "\n"
        + "\n".join(body)
        + f"\n  assign y = {' | '.join(result)};\nendmodule\n"
    )
    return ELEMENT.replace("LOGIC", "\n".join(logic)) + top


@pytest.mark.parametrize(
    ("family", "constant_left"), [("ecp5", True), pytest.param("xc7", False, marks=pytest.mark.slow)]
)
def test_composition_is_flat_synthesis(family: Family, constant_left: bool) -> None:
    """Equal delays of different elements, ends that nobody reads, shift registers and constants at the borders."""
    text = array(3, 4, constant_left)
    found = synthesize(text, "top", family)
    assert {module.name: module.instances for module in found.modules} == {"element": 12, "top": 1}
    flat = flat_resources(text, "top", family)
    assert found.total[1:] == flat[1:]
    # elements of 50 LUTs have more border than real ones: benchmarks/composition.py measures those
    assert found.total.lut == pytest.approx(flat.lut, rel=0.05)


def test_cores_are_synthesized_once_for_each_context_and_never_twice(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("CODESIGN_CACHE", str(tmp_path))
    ran: list[str] = []
    run = composition.run_yosys

    def recorded(text: str, job: dict[str, object], *rest: object) -> object:
        ran.append(str(job.get("split") or job["module"]))
        return run(text, job, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(composition, "run_yosys", recorded)
    first = compose(array(2, 3, constant_left=True), "top", "ecp5")
    assert Counter(ran) == {"element": 1, "top": 1, "element_core_in_context": len(ran) - 2}
    assert len(ran) - 2 < 6  # of six elements
    ran.clear()
    assert compose(array(2, 3, constant_left=True), "top", "ecp5") == first
    assert ran == []
    compose(array(3, 3, constant_left=True), "top", "ecp5")
    assert ran == ["top"]  # another number of rows has no new kind of element


def test_what_is_found_does_not_lean_on_which_core_is_done_first(monkeypatch: pytest.MonkeyPatch) -> None:
    """Cores in several contexts have paths that are equally slow: the one that is told is always the same."""
    run = WorkerThreads.map
    found = []
    for backwards in (False, True):

        def in_order(self: WorkerThreads, jobs: Sequence[Job[Any]], backwards: bool = backwards) -> Iterator[Any]:
            yield from sorted(run(self, jobs), key=lambda outcome: outcome.index, reverse=backwards)

        with monkeypatch.context() as patched:
            patched.setattr(WorkerThreads, "map", in_order)
            found.append(compose(array(2, 3, constant_left=True), "top", "ecp5"))
    assert found[0].slowest[-1].where == "element"
    assert found[0] == found[1]


def test_every_module_gets_its_own_registers() -> None:
    cells = compose(array(3, 4, constant_left=True), "top", "ecp5").cells
    of_element, of_top = count(cells["element"], "ecp5", "element"), count(cells["top"], "ecp5", "top")
    assert of_top.ff == 4 * 2 * 8  # the delays before the first row
    # operands, sums, totals and results; first and done have a register in every element, sums one in all but the last
    assert of_element.ff == 12 * (8 + 8 + 1 + 1 + 14 + 14) + 9 * 14


def test_a_wrapper_ties_what_is_constant_and_leaves_open_what_nobody_reads() -> None:
    ports = (("a", "input", "-0x1"), ("y", "output", "n-"), ("clk", "input", "-"))
    text = composition._wrapper(Context("part", ports), "whole")
    assert "{\\a [3], 1'b0, 1'bx, 1'b1}" in text
    assert "assign \\y = {1'b0, \\inner_y [0]};" in text

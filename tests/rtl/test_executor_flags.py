"""The executor's registers that stand for comparisons are equal to them whenever they matter: proven by induction."""

from __future__ import annotations

from pathlib import Path

import pytest
from amaranth.hdl import Fragment

from codesign.rtl.executor import Executor
from codesign.rtl.geometry import Geometry
from codesign.rtl.modules import convert
from tests.rtl.proofs import proven
from tests.rtl.test_modules import SHAPES


@pytest.mark.parametrize("name", ["tiny", "every kind"])
def test_ends_of_counts_are_known(name: str, tmp_path: Path) -> None:
    geometry = Geometry(SHAPES[name])
    states = Fragment.get(Executor(geometry), None).generated["executor"].encoding
    verilog = convert(Executor(geometry), "executor")
    fields = geometry.pass_header.fields
    first = sum(field.bits for field in fields[: [field.name for field in fields].index("gap")])
    header_gap = f"header[{first} +: {geometry.pass_header.bits_of('gap')}]"

    def within(*names: str) -> str:
        return " || ".join(f"executor_state == {states[name]}" for name in names)

    claims = f"""
    assume (executor_state <= {max(states.values())});
    if ({within("START", "RUN", "GAP", "DRAIN")}) assert (no_passes == (passes == 0));
    if ({within("GAP")}) assert (gap_over == (gap == 0));
    if ({within("GAP", "DRAIN")}) assert (drain_over == (drain == 0));
    if ({within("RUN", "GAP")}) assert (has_gap == ({header_gap} != 0));
"""
    assert proven(verilog, "executor", claims, tmp_path)
    for right, wrong in (("passes == 0", "passes == 1"), ("gap == 0", "gap == 1"), ("drain == 0", "drain == 1")):
        assert not proven(verilog, "executor", claims.replace(right, wrong), tmp_path)

"""The executor's registers that stand for comparisons are equal to them whenever they matter: proven by induction."""

from __future__ import annotations

from pathlib import Path

import pytest
from amaranth.hdl import Fragment

from codesign.rtl.executor import Executor
from codesign.rtl.geometry import Geometry
from codesign.rtl.layout import Layout, Op
from codesign.rtl.modules import convert
from tests.rtl.proofs import proven
from tests.rtl.test_modules import SHAPES


def field(layout: Layout, name: str) -> str:
    """Where a field is."""
    fields = layout.fields
    first = sum(each.bits for each in fields[: [each.name for each in fields].index(name)])
    return f"[{first} +: {layout.bits_of(name)}]"


@pytest.mark.parametrize("name", ["tiny", "every kind"])
def test_ends_of_counts_and_kinds_of_operations_are_known(name: str, tmp_path: Path) -> None:
    geometry = Geometry(SHAPES[name])
    states = Fragment.get(Executor(geometry), None).generated["executor"].encoding
    verilog = convert(Executor(geometry), "executor")
    header_gap = f"header{field(geometry.pass_header, 'gap')}"
    op = f"current{field(geometry.descriptor, 'op')}"
    bare = f"({op} == {Op.MAX_POOL:d} || {op} == {Op.STORE:d})"

    def within(*names: str) -> str:
        return " || ".join(f"executor_state == {states[name]}" for name in names)

    claims = f"""
    assert ({within(*states)});
    assert (bare == {bare});
    assert (storing == ({op} == {Op.STORE:d}));
    if ({within("START", "RUN", "GAP", "DRAIN")}) assert (last_pass == (bare || passes == 0));
    if ({within("GAP")}) assert (gap_over == (gap == 0));
    if ({within("GAP", "DRAIN")}) assert (drain_over == (drain == 0));
    if ({within("RUN", "GAP")}) assert (has_gap == ({header_gap} != 0));
    if ({within("RUN", "GAP")}) assert (gap_is_one == ({header_gap} == 1));
    assert (loaded != 2 && running_passes != 2);
"""
    assert proven(verilog, "executor", claims, tmp_path)
    wrongs = (
        ("passes == 0", "passes == 1"),
        ("gap == 0", "gap == 1"),
        ("drain == 0", "drain == 1"),
        (f"{op} == {Op.STORE:d}", f"{op} == {Op.CONV:d}"),
        (f"executor_state == {states['WAIT' if 'WAIT' in states else 'GAP']}", "0"),
    )
    for right, wrong in wrongs:
        assert not proven(verilog, "executor", claims.replace(right, wrong), tmp_path), wrong

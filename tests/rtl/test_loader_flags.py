"""The loader's registers that stand for comparisons are equal to them when they are looked at: proven by induction."""

from __future__ import annotations

from pathlib import Path

import pytest
from amaranth.hdl import Fragment

from codesign.arch.depthwise import Depthwise
from codesign.rtl.geometry import Geometry
from codesign.rtl.loader import Loader
from codesign.rtl.modules import convert
from tests.rtl.bench import FIXED4, geometry, rows
from tests.rtl.proofs import proven
from tests.rtl.test_modules import SHAPES

DEPTHWISE = geometry(rows(FIXED4, 2), columns=2, dot=2, depthwise=Depthwise(taps=4)).hw


@pytest.mark.parametrize("name", ["tiny", "odd", "every kind", "depthwise"])
def test_states_and_ends_of_counts_are_known(name: str, tmp_path: Path) -> None:
    shape = Geometry({**SHAPES, "depthwise": DEPTHWISE}[name])
    depth = shape.weight_depth
    states = Fragment.get(Loader(shape), None).generated["loader"].encoding
    fields = shape.pass_header.fields
    first = sum(field.bits for field in fields[: [field.name for field in fields].index("steps")])
    given = f"header[{first} +: {shape.pass_header.bits_of('steps')}]"
    taps = ["TAPS"] if "TAPS" in states else []
    blocks = " | ".join(str(states[state]) for state in ("DESCRIPTOR", "SKIP", "LOAD", "HEADER", *taps))
    others = ["STOP", "PARAMETERS"]
    claims = f"""
    assume ({given} <= {depth});  // a pass fits the ring
    assert (steps <= {depth});
    assert (loader_state != 0 && (loader_state & (loader_state - 1'b1)) == 0);
    assert (receives == ((loader_state & ({blocks} | {" | ".join(str(states[state]) for state in others)})) != 0));
    if (loader_state & ({blocks}))
      assert (last_beat == &beats);
    if (loader_state == {states["WEIGHTS"]}) begin
      assert ({given} != 0 && steps == {given} && step < steps);
      assert (step_last == (step + 1'b1 == steps));
      assert (room == (alone || left != 0));
    end
"""
    verilog = convert(Loader(shape), "loader")
    assert proven(verilog, "loader", claims, tmp_path)
    for right, wrong in (("left != 0", "left > 1"), ("&beats", "~|beats"), ("step + 1'b1", "step")):
        assert not proven(verilog, "loader", claims.replace(right, wrong), tmp_path)

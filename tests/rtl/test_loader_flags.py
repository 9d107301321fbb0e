"""The loader's register that stands for a comparison is equal to it whenever it is looked at: proven by induction."""

from __future__ import annotations

from pathlib import Path

import pytest
from amaranth.hdl import Fragment

from codesign.rtl.geometry import Geometry
from codesign.rtl.loader import Loader
from codesign.rtl.modules import convert
from tests.rtl.proofs import proven
from tests.rtl.test_modules import SHAPES


@pytest.mark.parametrize("name", ["tiny", "odd", "every kind"])
def test_room_in_the_ring_is_known(name: str, tmp_path: Path) -> None:
    geometry = Geometry(SHAPES[name])
    depth = geometry.weight_depth
    states = Fragment.get(Loader(geometry), None).generated["loader"].encoding
    fields = geometry.pass_header.fields
    first = sum(field.bits for field in fields[: [field.name for field in fields].index("steps")])
    given = f"header[{first} +: {geometry.pass_header.bits_of('steps')}]"
    claims = f"""
    assume ({given} <= {depth});  // a pass fits the ring
    assert (steps <= {depth});
    assert (free <= {depth});
    assert (free_before == free - 1'b1);
    if (loader_state == {states["WEIGHTS"]}) begin
      assert ({given} != 0 && steps == {given} && last_step == {given} - 1'b1);
      assert (step <= last_step);
      assert (room == (step != free));
    end
    assume (loader_state <= {max(states.values())});
"""
    assert proven(convert(Loader(geometry), "loader"), "loader", claims, tmp_path)
    wrong = claims.replace("step != free", "step + 1'b1 != free")
    assert not proven(convert(Loader(geometry), "loader"), "loader", wrong, tmp_path)

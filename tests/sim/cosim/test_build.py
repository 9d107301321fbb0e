"""Builds of simulations that cannot be, said before anything is written."""

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

"""`codesign demo`: once through, and again from what is there."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.api.test_kit import BARE, made
from tests.conftest import Run, needs_icarus


@pytest.mark.slow
@needs_icarus
def test_the_demo_ends_with_a_page_and_a_kit_that_passes(tmp_path: Path, run: Run) -> None:
    out = tmp_path / "demo"
    status, _, err = run("demo", "-o", out, "--json", tmp_path / "first.json")
    assert status == 0, err
    found = json.loads((tmp_path / "first.json").read_text())
    assert found["front"] and all(point["rtl"]["exact"] for point in found["front"])
    assert found["chosen"]["validation_accuracy"] == max(point["validation_accuracy"] for point in found["front"])
    assert (out / "report.html").stat().st_size < 2_000_000
    ran = made(out / "kit", "icarus", BARE)
    assert ran.returncode == 0 and "PASS" in ran.stdout
    kit = (out / "kit" / "kit.json").stat()
    status, _, err = run("demo", "-o", out, "--json", tmp_path / "second.json")
    assert status == 0, err
    again = json.loads((tmp_path / "second.json").read_text())
    assert again | {"seconds": 0} == found | {"seconds": 0}
    assert (out / "kit" / "kit.json").stat() == kit, "a kit is not written twice"


def test_a_folder_of_something_else_is_refused(tmp_path: Path, run: Run) -> None:
    (tmp_path / "mine").write_text("")
    status, out, err = run("demo", "-o", tmp_path)
    assert (status, out) == (2, "") and "holds other files" in err

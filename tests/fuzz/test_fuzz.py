"""Some of the changed files against every reader; `make fuzz` tries thousands."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("onnx", reason="needs onnx")
pytest.importorskip("onnxruntime", reason="needs onnxruntime")
pytest.importorskip("tflite", reason="needs tflite")

from tests.fuzz.campaign import BAD, run, table


def test_changed_files_are_refused_in_one_line_or_read_rightly(tmp_path: Path) -> None:
    results = run(84, 1, tmp_path, shell=1, beside=False)
    assert len(results) > 80
    assert not [item for item in results if item.outcome in BAD], table(results)
    assert {item.outcome for item in results} >= {"refused", "equal", "accepted"}

"""Random ONNX graphs, float and QDQ: equal to ONNX Runtime, or refused in one line.

`make random-graphs` runs thousands of them and prints what became of each kind.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

pytest.importorskip("onnx", reason="needs onnx")
pytest.importorskip("onnxruntime", reason="needs onnxruntime")

from tests.interchange.random_graphs import EQUAL, WRONG, Outcome, float_outcome, outcomes, qdq_outcome, table

LEAST_ACCEPTED = 1 / 3


def check(one: Callable[..., Outcome], seeds: range, folder: Path, least: float, **options: Any) -> None:
    torch.set_num_threads(1)
    found = list(outcomes(one, seeds, folder, **options))
    kinds = Counter(item.kind for item in found)
    assert kinds[WRONG] == 0 and kinds[EQUAL] >= least * len(found), table(one.__name__, found)


def test_float_graphs(tmp_path: Path) -> None:
    check(float_outcome, range(100), tmp_path, LEAST_ACCEPTED)


def test_quantized_graphs(tmp_path: Path) -> None:
    check(qdq_outcome, range(40), tmp_path, LEAST_ACCEPTED)


def test_unknown_attributes_are_refused(tmp_path: Path) -> None:
    check(float_outcome, range(50), tmp_path, 0.0, mutate=True)


@pytest.mark.slow
def test_many_float_graphs(tmp_path: Path) -> None:
    check(float_outcome, range(10_000, 11_500), tmp_path, LEAST_ACCEPTED)


@pytest.mark.slow
def test_many_quantized_graphs(tmp_path: Path) -> None:
    check(qdq_outcome, range(10_000, 11_000), tmp_path, LEAST_ACCEPTED)

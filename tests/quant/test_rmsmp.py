"""RMSMP: eigenvalues against dense Hessians, the assignment rule, refresh."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional as F

from codesign.formats.assignment import Assignment
from codesign.formats.ratio import parse_ratio, row_counts
from codesign.formats.row_format import FIXED4, FIXED8, POT4, RowFormat
from codesign.quant import curvature, rmsmp
from codesign.quant.module import build_module
from codesign.quant.qat import QatNetwork
from codesign.workload import Network, zoo
from tests.allocation.subjects import TINY

FIXED6 = RowFormat.parse("fixed6")
POT3 = RowFormat.parse("pot3")


def model_of(network: Network, seed: int = 0) -> QatNetwork:
    return QatNetwork(network, build_module(network, seed).state_dict(), Assignment.uniform(network, FIXED4, 4))


def dense_largest(model: QatNetwork, images: torch.Tensor, labels: torch.Tensor, layer: str, row: int) -> float:
    """Largest eigenvalue of the filter's block by twice differentiating the loss."""
    model.quantized = False
    weight = model.conv(layer).weight
    (first,) = torch.autograd.grad(F.cross_entropy(model(images), labels), weight, create_graph=True)
    rows = [torch.autograd.grad(g, weight, retain_graph=True)[0][row].flatten() for g in first[row].flatten()]
    model.quantized = True
    return float(torch.linalg.eigvalsh(torch.stack(rows).double())[-1])


@pytest.mark.parametrize("seed", [0, pytest.param(1, marks=pytest.mark.slow)])
def test_eigenvalues_equal_those_of_the_dense_hessian(seed: int) -> None:
    model = model_of(TINY, seed)
    images = np.random.default_rng(seed).random((9, 2, 6, 6)).astype(np.float32)
    found = curvature.filter_eigenvalues(model, images, count=9, iterations=60, seed=seed)
    assert list(found) == ["a", "b", "fc"]
    # The labels do not matter to the block.
    for labels in (torch.zeros(9, dtype=torch.long), torch.arange(9) % 3):
        for name, values in found.items():
            for row in range(len(values)):
                expected = dense_largest(model, torch.from_numpy(images), labels, name, row)
                assert float(values[row]) == pytest.approx(expected, rel=0.01, abs=1e-7), (name, row)


def test_eigenvalues_from_few_images_and_filters_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    model = model_of(TINY, 1)
    images = np.random.default_rng(1).random((7, 2, 6, 6)).astype(np.float32)
    found = curvature.filter_eigenvalues(model, images, count=7, iterations=60)
    monkeypatch.setattr(curvature, "MOST_CHUNK_BYTES", 1)  # an image and a filter
    for name, values in curvature.filter_eigenvalues(model, images, count=7, iterations=60).items():
        assert torch.allclose(values, found[name], rtol=1e-4)
    monkeypatch.setattr(curvature, "MOST_FLOAT_BYTES", 0)  # kept in 16 bits
    for name, values in curvature.filter_eigenvalues(model, images, count=7, iterations=60).items():
        assert torch.allclose(values, found[name], rtol=0.02) and not torch.equal(values, found[name])


def test_drawn_classes_estimate_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    model = model_of(TINY)
    images = np.random.default_rng(3).random((300, 2, 6, 6)).astype(np.float32)
    exact = curvature.filter_eigenvalues(model, images, count=300)
    monkeypatch.setattr(curvature, "EXACT_CLASSES", 2)
    drawn = curvature.filter_eigenvalues(model, images, count=300)
    for name in exact:
        assert torch.allclose(drawn[name], exact[name], rtol=0.2, atol=0.02 * float(exact[name].max()))
        assert not torch.equal(drawn[name], exact[name])


def test_dead_filters_and_the_models_state() -> None:
    model = model_of(TINY)
    with torch.no_grad():
        model.conv("a").bias[1] = -100.0
    before = {name: value.clone() for name, value in model.state_dict().items()}
    images = np.random.default_rng(0).random((5, 2, 6, 6)).astype(np.float32)
    values = curvature.filter_eigenvalues(model, images)
    assert float(values["a"][1]) == 0
    assert float(values["a"][0]) > 0
    assert model.quantized
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    again = curvature.filter_eigenvalues(model, images)
    assert all(torch.equal(values[name], again[name]) for name in values)


def test_the_rule_of_algorithm_1() -> None:
    eigenvalues = np.array([1.0, 9.0, 2.0, 3.0, 0.5])
    variances = np.array([0.3, 0.1, 0.5, 0.2, 0.4])
    # 5 % of 5 rows is one: the largest eigenvalue. Of the rest, 3 of low variance are PoT.
    assert rmsmp.assign_rows(eigenvalues, variances, rmsmp.PAPER_RATIO) == (POT4, FIXED8, FIXED4, POT4, POT4)
    # Several precise formats take the largest eigenvalues, widest first; narrow PoT takes the lowest variance.
    ratio = {FIXED4: 1.0, POT3: 1.0, FIXED8: 1.0, FIXED6: 1.0, POT4: 1.0}
    assert rmsmp.assign_rows(eigenvalues, variances, ratio) == (POT3, FIXED8, FIXED4, FIXED6, POT4)


@given(
    rows=st.sampled_from([1, 2, 7, 16, 61]),
    ratio=st.dictionaries(st.sampled_from([POT3, POT4, FIXED4, FIXED6, FIXED8]), st.floats(0.01, 9), min_size=1),
    seed=st.integers(0, 99),
)
def test_assigned_rows_have_the_counts_and_the_order(rows: int, ratio: dict[RowFormat, float], seed: int) -> None:
    rng = np.random.default_rng(seed)
    eigenvalues, variances = rng.random(rows), rng.random(rows)
    formats = rmsmp.assign_rows(eigenvalues, variances, ratio)
    assert {form: formats.count(form) for form in ratio} == row_counts(rows, ratio)
    fixed = sorted({form.bits for form in ratio if form.scheme == "fixed"})
    precise = [row for row in range(rows) if formats[row].scheme == "fixed" and formats[row].bits in fixed[1:]]
    others = [row for row in range(rows) if row not in precise]
    if precise and others:
        assert min(eigenvalues[precise]) >= max(eigenvalues[others])
    pot = [row for row in others if formats[row].scheme == "pot"]
    rest = [row for row in others if formats[row].scheme == "fixed"]
    if pot and rest:
        assert max(variances[pot]) <= min(variances[rest])


def test_assignment_of_a_model() -> None:
    network = zoo.smallcnn(width=10).folded()
    model = model_of(network)
    with torch.no_grad():
        model.conv("conv1").weight[:5] *= 0.1
    images = np.random.default_rng(1).random((20, 1, 8, 8)).astype(np.float32)
    assignment = rmsmp.assign(model, images, rmsmp.PAPER_RATIO)
    assignment.check(network)
    assert assignment == rmsmp.assign(model, images, rmsmp.PAPER_RATIO)
    for name, counts in assignment.counts_by_layer().items():
        rows = network.weight_shape(name)[0]
        assert counts == {form: n for form, n in row_counts(rows, rmsmp.PAPER_RATIO).items() if n}
    top = int(curvature.filter_eigenvalues(model, images)["conv1"].argmax())
    assert assignment["conv1"][top] == FIXED8
    assert all(assignment["conv1"][row] == POT4 for row in range(5) if row != top)


def test_without_high_precision_no_hessian_is_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(rmsmp, "filter_eigenvalues")
    model = model_of(TINY)
    images = np.zeros((2, 2, 6, 6), dtype=np.float32)
    assert rmsmp.assign(model, images, parse_ratio("pot4:1,fixed4:1")).counts_by_layer()["a"] == {FIXED4: 2, POT4: 2}


def test_refresher_assigns_every_so_many_epochs(monkeypatch: pytest.MonkeyPatch) -> None:
    model = model_of(TINY)
    images = np.random.default_rng(0).random((4, 2, 6, 6)).astype(np.float32)
    calls: list[int] = []
    original = rmsmp.assign

    def counted(*args: object, seed: int, **options: object) -> Assignment:
        calls.append(seed)
        return original(*args, seed=seed, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(rmsmp, "assign", counted)
    refresh = rmsmp.refresher(model, images, rmsmp.PAPER_RATIO, every=3, seed=10)
    for epoch in range(8):
        refresh(epoch)
    assert calls == [13, 16]
    assert FIXED8 in model.assignment["a"]

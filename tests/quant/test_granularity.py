"""Shared scales: equal where they must be, of least error among equal ones, and worse the more rows share one."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from codesign.errors import UserError
from codesign.formats.assignment import Assignment
from codesign.formats.ratio import parse_ratio
from codesign.formats.row_format import EVERY_FORMAT, FIXED4, POT4, fit_scale, squared_error
from codesign.quant.granularity import group_alphas, share_scales
from codesign.quant.lower import lower
from codesign.quant.module import build_module
from codesign.quant.qat import QatNetwork
from codesign.workload import zoo
from codesign.workload.fold import fold_batchnorm


@settings(max_examples=20, deadline=None)
@given(form=st.sampled_from(EVERY_FORMAT), seed=st.integers(0, 99))
def test_a_group_of_equal_formats_is_one_long_row(form: object, seed: int) -> None:
    assert form in EVERY_FORMAT
    forms = [form] * 4
    weights = np.random.default_rng(seed).normal(size=(4, 30)) * [[1], [2], [0.5], [3]]
    alphas = group_alphas(weights, forms, 2)  # type: ignore[arg-type]
    assert alphas[0] == alphas[1]
    assert alphas[2] == alphas[3]
    largest = form.largest  # type: ignore[attr-defined]
    for start in (0, 2):
        long = weights[start : start + 2].reshape(1, -1)
        fitted = squared_error(long, fit_scale(long, [form]), [form])[0]  # type: ignore[list-item]
        found = squared_error(long, alphas[start : start + 1] / largest, [form])[0]  # type: ignore[list-item]
        # `fit_scale` ends with a least-squares scale on top of the same search.
        assert fitted <= found * (1 + 1e-9) + 1e-12
        whole = squared_error(long, np.abs(long).max(axis=1) / largest, [form])[0]  # type: ignore[list-item]
        assert found <= min(1.5 * fitted, whole) + 1e-12


def test_mixed_formats_share_alpha_not_the_step() -> None:
    weights = np.random.default_rng(0).normal(size=(2, 500))
    alphas = group_alphas(weights, [FIXED4, POT4], 2)
    assert alphas[0] == alphas[1]

    def error(alpha: float) -> float:
        return float(squared_error(weights, [alpha / 7, alpha / 64], [FIXED4, POT4]).sum())

    assert error(alphas[0]) <= 1.005 * min(error(alpha) for alpha in np.linspace(0.5, 6, 1500))


def test_error_grows_with_the_number_of_rows_that_share() -> None:
    folded, state = fold_batchnorm(zoo.resnet8(), build_module(zoo.resnet8(), 0).state_dict())
    generator = torch.Generator().manual_seed(1)
    for value in state.values():
        value *= torch.randn(len(value), generator=generator).exp().reshape(-1, *[1] * (value.dim() - 1))
    model = QatNetwork(folded, state, Assignment.random(folded, parse_ratio("pot4:1,fixed4:1"), 4, 0))
    errors = []
    for granularity in ("row", "group", "layer", "network"):
        share_scales(model, granularity)  # type: ignore[arg-type]
        alphas = [model.conv(item.name).log_alpha.detach() for item in model.fused.convs]
        if granularity == "network":
            assert len(torch.cat(alphas).unique()) == 1
        elif granularity == "layer":
            assert all(len(alpha.unique()) == 1 for alpha in alphas)
        elif granularity == "group":
            assert torch.equal(alphas[0].reshape(-1, 4), alphas[0][::4, None].expand(-1, 4))
        total = 0.0
        for item in model.fused.convs:
            conv = model.conv(item.name)
            weight = conv.weight.detach().double().flatten(1)
            error = squared_error(weight.numpy(), conv.row_scale.double().numpy(), conv.formats)
            total += float(error.sum() / weight.square().sum())
        errors.append(total)
    assert errors[0] < 0.8 * errors[1]
    assert errors == sorted(errors)
    model.calibrate(torch.rand(4, 3, 32, 32))
    lower(model)


def test_unknown_granularity() -> None:
    folded, state = fold_batchnorm(zoo.smallcnn(), build_module(zoo.smallcnn(), 0).state_dict())
    model = QatNetwork(folded, state, Assignment.uniform(folded, FIXED4, 4))
    with pytest.raises(UserError, match="'filter' is unknown; there are row, group, layer, network"):
        share_scales(model, "filter")  # type: ignore[arg-type]
    with pytest.raises(UserError, match="groups of 0 rows"):
        share_scales(model, "group", 0)

"""Every sensitivity against a dense or brute-force reference, on the layers themselves instead of the fused passes."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.func import functional_call, hessian, jacrev
from torch.nn import functional as F

from codesign.allocation.sensitivities import hessian as second_order
from codesign.allocation.sensitivities.catalog import SENSITIVITIES
from codesign.allocation.sensitivities.hessian import hutchinson, layer_eigenvalues, map_traces, warnings_of
from codesign.allocation.sensitivities.noise_gain import NoiseGain, gains
from codesign.allocation.sensitivities.subject import Subject
from codesign.allocation.sensitivities.weights import gaussian_error
from codesign.errors import UserError
from codesign.formats.row_format import RowFormat, dequantize, fit_scale, quantize
from tests.allocation.subjects import subject_of

LAYERS = ("a", "b", "fc")


def loss_of(subject: Subject, layer: str, weight: Tensor) -> Tensor:
    changed = {f"{layer}.weight": weight}
    return F.cross_entropy(functional_call(subject.module, changed, (subject.images,)), subject.labels)


def results_of(subject: Subject, changed: dict[str, Tensor]) -> Tensor:
    return functional_call(subject.module, changed, (subject.images,)).detach()  # type: ignore[no-any-return]


def weight_of(subject: Subject, layer: str) -> Tensor:
    return subject.module.get_parameter(f"{layer}.weight").detach()


def jacobian_of(subject: Subject, layer: str) -> Tensor:
    """Of the results by the layer's weights, (images, classes, *weights)."""

    def run(weight: Tensor) -> Tensor:
        return functional_call(subject.module, {f"{layer}.weight": weight}, (subject.images,))  # type: ignore[no-any-return]

    return jacrev(run)(weight_of(subject, layer))  # type: ignore[no-any-return]


def dense(subject: Subject, layer: str) -> np.ndarray:
    """The layer's block of the Hessian, (weights, weights)."""
    weight = weight_of(subject, layer)
    block = hessian(lambda w: loss_of(subject, layer, w))(weight)
    return block.reshape(weight.numel(), -1).double().numpy()  # type: ignore[no-any-return]


def errors_of(subject: Subject, layer: str) -> list[np.ndarray]:
    """Of every choice the layer's quantized less float weights, by the formats' own functions."""
    weight = weight_of(subject, layer).flatten(1).double().numpy()
    found = []
    for choice in subject.space.choices:
        forms = [choice.form] * len(weight)
        scale = fit_scale(weight, forms)
        found.append(dequantize(quantize(weight, scale, forms), scale) - weight)
    return found


class TestConformance:
    """What every implementation of `Sensitivity` keeps."""

    @pytest.mark.parametrize("name", SENSITIVITIES)
    def test_losses_are_numbers_that_fall_with_bits_and_nothing_is_changed(self, name: str) -> None:
        subject = subject_of("w2a8,w4a8,w8a8")
        before = {key: value.clone() for key, value in subject.model.state_dict().items()}
        losses = SENSITIVITIES[name].losses(subject)
        assert losses.shape == (3, 3) and np.isfinite(losses).all() and (losses >= 0).all()
        # eight bits lose next to nothing of what two bits lose; LSQ's steps start at 1 over the root of the codes
        share = 127**-0.5 * 1.1 if name == "learned-steps" else 0.05
        assert (losses[:, 2] <= share * losses[:, 0] + 1e-12).all() and losses.any()
        assert subject.model.quantized
        assert all(torch.equal(value, before[key]) for key, value in subject.model.state_dict().items())
        assert (SENSITIVITIES[name].losses(subject_of("w2a8,w4a8,w8a8")) == losses).all()

    @pytest.mark.parametrize("name", SENSITIVITIES)
    def test_rows_are_told_apart_or_refused(self, name: str) -> None:
        subject = subject_of("w2,w4", "row")
        if not SENSITIVITIES[name].rows:
            with pytest.raises(
                UserError, match=f"sensitivity '{name}': (runs the network once for every group|a map is read by all)"
            ):
                SENSITIVITIES[name].losses(subject)
            return
        losses = SENSITIVITIES[name].losses(subject)
        assert losses.shape == (11, 2) and (losses >= 0).all()
        if name in ("weight-error", "weight-variance", "noise-gain"):  # sums over weights
            whole = SENSITIVITIES[name].losses(subject_of("w2,w4"))
            assert losses[:4].sum(axis=0) == pytest.approx(whole[0])
        assert len(set(losses[:4, 0].tolist())) == 4


def test_errors_and_variances_of_weights() -> None:
    subject = subject_of()
    found = SENSITIVITIES["weight-error"].losses(subject)
    variance = SENSITIVITIES["weight-variance"].losses(subject)
    for number, layer in enumerate(LAYERS):
        assert found[number] == pytest.approx([(e * e).sum() for e in errors_of(subject, layer)], rel=1e-5)
        weight = weight_of(subject, layer).flatten(1).double().numpy()
        spread = sum(((row - row.mean()) ** 2).sum() for row in weight)
        expected = [spread * gaussian_error(choice.form) for choice in subject.space.choices]
        assert variance[number] == pytest.approx(expected)


@pytest.mark.parametrize(
    ("form", "error"), [("fixed4", 0.01301), ("pot4", 0.03771), ("fixed5", 0.00372), ("fixed3", 0.04734)]
)
def test_the_error_of_gaussian_weights_is_the_known_one(form: str, error: float) -> None:
    """Normalised errors of Gaussian rows at the best scale, as found by an integral apart from this package."""
    assert gaussian_error(RowFormat.parse(form)) == pytest.approx(error, rel=0.02)


def test_results_with_one_group_quantized() -> None:
    """By changing weights of the layers and rounding the maps between them by hand."""
    subject = subject_of()
    exact = results_of(subject, {}).double()
    for name, distance in (
        ("output-error", lambda got: (got - exact).square().sum(1).mean()),
        ("kl", lambda got: F.kl_div(got.log_softmax(1), exact.softmax(1), reduction="batchmean")),
    ):
        found = SENSITIVITIES[name].losses(subject)
        for number, layer in enumerate(LAYERS):
            source = {"a": "input", "b": "p", "fc": "f"}[layer]
            for place, choice in enumerate(subject.space.choices):
                quantizer = subject.quantizer(layer, choice.act_bits)
                step, top = quantizer.scale, quantizer.high

                def rounded(module: object, args: tuple[Tensor, ...], step: float = step, top: int = top) -> Tensor:
                    return torch.floor(args[0] / step + 0.5).clamp(0, top) * step

                weight = weight_of(subject, layer)
                error = torch.from_numpy(errors_of(subject, layer)[place]).reshape(weight.shape).float()
                part = subject.module.get_submodule(layer)
                hook = part.register_forward_pre_hook(rounded)
                got = results_of(subject, {f"{layer}.weight": weight + error}).double()
                hook.remove()
                assert found[number, place] == pytest.approx(float(distance(got)), rel=1e-3, abs=1e-7), (source, place)


def test_the_first_order_is_that_of_small_differences() -> None:
    subject = subject_of()
    found = SENSITIVITIES["taylor"].losses(subject)
    for number, layer in enumerate(LAYERS):
        weight = weight_of(subject, layer)
        for place, error in enumerate(errors_of(subject, layer)):
            gradient = jacrev(lambda w, layer=layer: loss_of(subject, layer, w))(weight).flatten(1).double().numpy()
            assert found[number, place] == pytest.approx(abs((gradient * error).sum()), rel=1e-3, abs=1e-8)


def test_eigenvalues_of_layers_are_those_of_the_dense_hessian() -> None:
    subject = subject_of()
    found = layer_eigenvalues(subject, iterations=100)
    losses = second_order.Eigenvalue(100).losses(subject)
    for number, layer in enumerate(LAYERS):
        values = np.linalg.eigvalsh(dense(subject, layer))
        largest = values[np.abs(values).argmax()]
        assert found[layer] == pytest.approx(largest, rel=0.01)
        squared = [(e * e).sum() for e in errors_of(subject, layer)]
        assert losses[number] == pytest.approx(max(largest, 0) * np.array(squared), rel=0.02)


def test_traces_are_those_of_the_dense_hessian_within_their_error() -> None:
    subject = subject_of()
    trace = hutchinson(subject, 400)
    for layer in LAYERS:
        block = dense(subject, layer)
        assert abs(trace.mean[layer].sum() - np.trace(block)) < 4 * trace.error[layer] + 1e-7
        rows = np.diag(block).reshape(len(trace.mean[layer]), -1).sum(1)
        assert trace.mean[layer] == pytest.approx(rows, abs=6 * trace.error[layer] + 1e-6)
        assert trace.error[layer] < 0.2 * np.abs(rows).sum() + 1e-6


def test_the_mean_trace_weights_the_error() -> None:
    subject = subject_of()
    trace = hutchinson(subject, 50)
    found = SENSITIVITIES["hessian-trace"].losses(subject)
    for number, layer in enumerate(LAYERS):
        mean = max(trace.mean[layer].sum() / weight_of(subject, layer).numel(), 0)
        assert found[number] == pytest.approx([mean * (e * e).sum() for e in errors_of(subject, layer)], rel=1e-5)


def test_traces_of_maps_are_those_of_the_dense_hessian() -> None:
    """Of what the last layer and the middle one read, by functions of these maps written anew."""
    subject = subject_of(images=5)
    weights = {name: weight_of(subject, name) for name in LAYERS}
    bias = {name: subject.module.get_parameter(f"{name}.bias").detach() for name in LAYERS}

    def behind(pooled: Tensor) -> Tensor:
        both = torch.relu(F.conv2d(F.pad(pooled, (0, 1, 1, 1)), weights["b"], bias["b"], groups=2) + pooled)
        return both.mean((2, 3))

    pooled = F.max_pool2d(torch.relu(F.conv2d(subject.images, weights["a"], bias["a"], padding=1)), 2, 2).detach()
    last = behind(pooled).detach()
    assert torch.allclose(F.linear(last, weights["fc"], bias["fc"]), results_of(subject, {}), atol=1e-5)
    losses = {
        "b": (pooled, lambda x: F.cross_entropy(F.linear(behind(x), weights["fc"], bias["fc"]), subject.labels)),
        "fc": (last, lambda x: F.cross_entropy(F.linear(x, weights["fc"], bias["fc"]), subject.labels)),
    }
    found = map_traces(subject, 2000)
    for layer, (values, loss) in losses.items():
        block = hessian(loss)(values).reshape(values.numel(), values.numel())
        # a residual sum reads the middle map, too
        assert found[layer] == pytest.approx(float(block.diagonal().sum()) / values.numel(), rel=0.1), layer


def test_a_network_that_is_not_trained_is_told_so() -> None:
    """Gradients of a loss that is far from its minimum."""
    subject = subject_of()
    with torch.no_grad():
        subject.model.conv("fc").weight.mul_(100)
        subject.model.conv("a").weight.mul_(0.01)
    says = warnings_of(subject, hutchinson(subject, 2))
    assert any("not trained" in text for text in says)


def test_gauss_newton_is_the_dense_jacobian() -> None:
    subject = subject_of()
    found = SENSITIVITIES["gauss-newton"].losses(subject)
    exact = results_of(subject, {}).double()
    p = exact.softmax(1).numpy()
    for number, layer in enumerate(LAYERS):
        jacobian = jacobian_of(subject, layer)
        flat = jacobian.reshape(*exact.shape, -1).double().numpy()
        for place, error in enumerate(errors_of(subject, layer)):
            total = 0.0
            for n in range(len(p)):
                inner = np.diag(p[n]) - np.outer(p[n], p[n])
                total += error.ravel() @ flat[n].T @ inner @ flat[n] @ error.ravel() / 2
            assert found[number, place] == pytest.approx(total / len(p), rel=1e-3)


def test_gauss_newton_of_a_piecewise_linear_layer_is_its_hessian() -> None:
    """Results are linear in the last layer's weights, so the dense Hessian itself gives the same."""
    subject = subject_of()
    found = SENSITIVITIES["gauss-newton"].losses(subject)[2]
    block = dense(subject, "fc")
    expected = [e.ravel() @ block @ e.ravel() / 2 for e in errors_of(subject, "fc")]
    assert found == pytest.approx(expected, rel=1e-3)


def test_noise_gains_are_squared_gradients_of_margins() -> None:
    subject = subject_of()
    found = gains(subject)
    z = results_of(subject, {}).double()
    own = z.argmax(1)
    for layer in LAYERS:
        weight = weight_of(subject, layer)
        jacobian = jacobian_of(subject, layer)
        total = torch.zeros_like(weight, dtype=torch.float64)
        for n in range(len(z)):
            for i in range(z.shape[1]):
                if i != own[n]:
                    slope = (jacobian[n, i] - jacobian[n, own[n]]).double()
                    total += slope.square() / (z[n, i] - z[n, own[n]]) ** 2
        assert torch.allclose(found[layer], (total / len(z)).flatten(1), rtol=1e-3, atol=1e-9)
    losses = SENSITIVITIES["noise-gain"].losses(subject)
    expected = [0.5 * (found["b"].numpy() * e * e).sum() for e in errors_of(subject, "b")]
    assert losses[1] == pytest.approx(expected, rel=1e-4)


def test_noise_of_decisions_adds_what_margins_really_change_by() -> None:
    """Of the last layer's map by hand: its values rounded, the layer applied, margins compared image by image.

    Close margins count as a tenth of the largest one.
    """
    subject = subject_of("w4a3,w4a8,w8a8")
    losses = SENSITIVITIES["decision-noise"].losses(subject)
    of_weights = NoiseGain(least_margin=0.1).losses(subject)
    exact = results_of(subject, {}).double()
    least = 0.1 * float((exact.max(1).values - exact.min(1).values).max())
    assert (exact.topk(2).values.diff().abs() < least).any()
    values = subject.maps["fc"]
    weight, bias = weight_of(subject, "fc").flatten(1), subject.module.get_parameter("fc.bias").detach()
    for place, choice in enumerate(subject.space.choices):
        with torch.no_grad():
            read = subject.quantizer("fc", choice.act_bits)(values).flatten(1)
        changed = F.linear(read, weight, bias).double()
        total = 0.0
        for n in range(len(exact)):
            own = int(exact[n].argmax())
            for i in range(exact.shape[1]):
                if i != own:
                    margin = max(exact[n, own] - exact[n, i], least)
                    moved = (changed[n, i] - changed[n, own]) - (exact[n, i] - exact[n, own])
                    total += 0.5 * float(moved / margin) ** 2
        assert losses[2, place] - of_weights[2, place] == pytest.approx(total / len(exact), rel=1e-3, abs=1e-12)
    of_maps = losses - of_weights
    assert (of_maps[:, 0] > 10 * of_maps[:, 1]).all()
    assert of_maps[:, 1] == pytest.approx(of_maps[:, 2])


def test_only_the_smallest_margins_count() -> None:
    subject = subject_of()
    one = gains(subject, classes=1)
    assert all((one[layer] <= gains(subject)[layer] + 1e-12).all() for layer in LAYERS)
    assert float(one["fc"].sum()) > 0

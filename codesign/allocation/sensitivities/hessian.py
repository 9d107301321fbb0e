"""Second order: the Hessian of the mean cross entropy, by its largest eigenvalue, its trace, or along the error itself.

HAWQ: largest eigenvalue times squared error (Dong et al. 2019). HAWQ-V2 and V3: mean trace times squared error (Dong
et al. 2020; Yao et al. 2021). MPQNNCO: half the error's own curvature by Gauss and Newton (Chen et al. 2021).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from codesign._typing import FloatArray
from codesign.allocation.sensitivities.gradients import hessian_products, loss_gradient, results_along
from codesign.allocation.sensitivities.subject import BATCH, Subject
from codesign.errors import UserError
from codesign.integer.layer_bits import maps_read
from codesign.quant.curvature import filter_eigenvalues
from codesign.quant.placing import array, generator

STEEP = 0.1
"""Share of the weights by which a step along the gradient would change them, above which the loss is at no minimum."""


def layer_eigenvalues(subject: Subject, iterations: int = 20) -> dict[str, float]:
    """The largest eigenvalue of every layer's block of the Hessian, by power iteration (HAWQ).

    All layers are iterated on their own, their blocks alone: the Rayleigh quotient of the last vector.
    """
    draws = generator(subject.seed)
    found = {}
    for name in subject.space.convs:
        vector = torch.randn(subject.weights(name).shape, generator=draws, device="cpu").to(subject.images.device)
        vector = vector / vector.norm()
        value = 0.0
        for _ in range(iterations):
            product = hessian_products(subject, {name: vector})[name]
            value = float((vector * product).sum())
            length = float(product.norm())
            if length < 1e-30:
                break
            vector = product / length
        found[name] = value
    return found


@dataclass(frozen=True)
class Trace:
    """A trace by Hutchinson's estimate.

    Attributes:
        mean: by layer, (rows,) traces of the rows' blocks.
        error: by layer, the standard error of the sum of the rows'.
    """

    mean: dict[str, FloatArray]
    error: dict[str, float]


def hutchinson(subject: Subject, probes: int = 50) -> Trace:
    """Traces of all rows' blocks of the Hessian from the same products: the mean of v . Hv over random signs v."""
    draws = generator(subject.seed)
    sums: dict[str, list[Tensor]] = {name: [] for name in subject.space.convs}
    for _ in range(probes):
        signs = {
            name: (2.0 * torch.randint(0, 2, subject.weights(name).shape, generator=draws, device="cpu") - 1.0).to(
                subject.images.device
            )
            for name in sums
        }
        for name, product in hessian_products(subject, signs).items():
            sums[name].append((signs[name] * product).double().sum(1))
    mean, error = {}, {}
    for name, parts in sums.items():
        stacked = torch.stack(parts)
        mean[name] = array(stacked.mean(0))
        error[name] = float(stacked.sum(1).std(correction=1)) / probes**0.5 if probes > 1 else float("inf")
    return Trace(mean, error)


def steepness(subject: Subject) -> float:
    """The gradient's length over the weights' length: of a trained network it is far below 1."""
    gradient = loss_gradient(subject)
    length = sum(float(part.double().square().sum()) for part in gradient.values()) ** 0.5
    weights = sum(float(subject.weights(name).double().square().sum()) for name in gradient) ** 0.5
    return float(length / max(weights, 1e-30))


def warnings_of(subject: Subject, trace: Trace | None = None) -> list[str]:
    """What a user must know of second-order sensitivities of this network."""
    found = []
    if (steep := steepness(subject)) > STEEP:
        found.append(
            f"the loss's gradient is {steep:.2g} of the weights' length: the network is not trained, and its Hessian "
            "says little"
        )
    for name, error in (trace.error if trace else {}).items():
        assert trace is not None
        total = float(trace.mean[name].sum())
        if error > 0.5 * abs(total):
            found.append(f"layer '{name}': trace {total:.3g} +- {error:.2g}, not converged: take more probes")
    return found


@dataclass(frozen=True)
class Eigenvalue:
    """Largest eigenvalue times squared error; of rows by the blocks that RMSMP looks at.

    Attributes:
        iterations: of the power method.
    """

    iterations: int = 20

    name = "hessian-eigenvalue"
    summary = "largest Hessian eigenvalue times squared error of the weights"
    paper = "HAWQ, Dong et al. 2019; RMSMP, Chang et al. 2021"
    measures = "weights"
    images = True
    rows = True

    def losses(self, subject: Subject) -> FloatArray:
        groups, errors = subject.space.groups, subject.squared_errors()
        if subject.space.granularity == "layer":
            of_layer = layer_eigenvalues(subject, self.iterations)
            values = np.array([of_layer[group.layer] for group in groups])
        else:
            images = array(subject.images)
            of_rows = filter_eigenvalues(
                subject.model, images, count=len(images), iterations=self.iterations, seed=subject.seed
            )
            values = np.array([float(of_rows[group.layer][group.rows[0]]) for group in groups])
        found: FloatArray = np.maximum(values, 0.0)[:, None] * errors
        return found


@dataclass(frozen=True)
class MeanTrace:
    """Mean Hessian trace (over a group's weights) times squared error; a trace below 0 counts as 0.

    Attributes:
        probes: of Hutchinson's estimate.
    """

    probes: int = 50

    name = "hessian-trace"
    summary = "mean Hessian trace (Hutchinson) times squared error of the weights"
    paper = "HAWQ-V2, Dong et al. 2020; HAWQ-V3, Yao et al. 2021"
    measures = "weights"
    images = True
    rows = True

    def losses(self, subject: Subject) -> FloatArray:
        trace = hutchinson(subject, self.probes)
        means = []
        for group in subject.space.groups:
            rows = trace.mean[group.layer][slice(*group.rows)]
            means.append(float(rows.sum()) / (len(rows) * subject.weights(group.layer).shape[1]))
        if not any(mean > 0 for mean in means):
            raise UserError(
                f"sensitivity '{self.name}': no group's trace is above 0: the network is not trained, or there are too "
                f"few images ({len(subject.images)})"
            )
        found: FloatArray = np.maximum(means, 0.0)[:, None] * subject.squared_errors()
        return found


def map_traces(subject: Subject, probes: int = 50) -> dict[str, float]:
    """Mean Hessian trace of each map that a weighted layer reads, over its values, by layer (HAWQ-V2).

    Images are independent, so the trace by all of their values is the sum of theirs.
    """
    draws = generator(subject.seed)
    names = list(subject.space.convs)
    maps: dict[str, Tensor] = {}
    hooks = []

    def keeps(name: str) -> Callable[..., None]:
        def keep(_: torch.nn.Module, args: tuple[Tensor, ...]) -> None:
            maps[name] = args[0]

        return keep

    for name in names:
        hooks.append(subject.model.conv(name).register_forward_pre_hook(keeps(name)))
    sums = dict.fromkeys(names, 0.0)
    try:
        with subject.in_float() as model, torch.enable_grad():
            for images, labels in zip(
                torch.split(subject.images, BATCH), torch.split(subject.labels, BATCH), strict=True
            ):
                results = model(images.clone().requires_grad_(True)).flatten(1)
                loss = functional.cross_entropy(results, labels, reduction="sum") / len(subject.images)
                inner = [maps[name] for name in names]
                gradients = torch.autograd.grad(loss, inner, create_graph=True)
                for _ in range(probes):
                    signs = [
                        (2.0 * torch.randint(0, 2, x.shape, generator=draws, device="cpu") - 1.0).to(x.device)
                        for x in inner
                    ]
                    along = torch.stack([(g * s).sum() for g, s in zip(gradients, signs, strict=True)]).sum()
                    products = torch.autograd.grad(along, inner, retain_graph=True, allow_unused=True)
                    for name, sign, product in zip(names, signs, products, strict=True):
                        if product is not None:
                            sums[name] += float((sign * product).double().sum()) / probes
    finally:
        for hook in hooks:
            hook.remove()
    return {name: total / (maps[name][0].numel() * len(subject.images)) for name, total in sums.items()}


@dataclass(frozen=True)
class TracesOfBoth:
    """Mean traces times squared errors, of weights and of the map that a layer reads, added up.

    A map that several layers read counts once, with the first of them.

    Attributes:
        probes: of Hutchinson's estimates.
    """

    probes: int = 50

    name = "hessian-trace-both"
    summary = "mean Hessian trace times squared error, of weights and of activations"
    paper = "HAWQ-V2, Dong et al. 2020"
    measures = "both"
    images = True
    rows = False

    def losses(self, subject: Subject) -> FloatArray:
        if subject.space.granularity == "row":
            raise UserError(f"sensitivity '{self.name}': a map is read by all rows of a layer; must be with layers")
        found = MeanTrace(self.probes).losses(subject)
        traces, seen = map_traces(subject, self.probes), set[str]()
        for number, group in enumerate(subject.space.groups):
            tensor = maps_read(subject.space.fused)[group.layer]
            if tensor in seen:
                continue
            seen.add(tensor)
            values = subject.maps[group.layer]
            for place, choice in enumerate(subject.space.choices):
                with torch.no_grad():
                    error = (subject.quantizer(group.layer, choice.act_bits)(values) - values).double()
                found[number, place] += max(traces[group.layer], 0.0) * float(error.square().sum())
        return found


class GaussNewton:
    """Half the error's curvature, 1/2 e' J' (diag p - p p') J e, mean over images: Gauss-Newton, so never below 0."""

    name = "gauss-newton"
    summary = "half the curvature of the loss along the weights' error (Gauss-Newton)"
    paper = "MPQNNCO, Chen et al. 2021"
    measures = "weights"
    images = True
    rows = False

    def losses(self, subject: Subject) -> FloatArray:
        subject.need_rows(self.name)
        probability = subject.float_results.double().softmax(1)
        found = np.zeros((len(subject.space.groups), len(subject.space.choices)))
        for number, group in enumerate(subject.space.groups):
            for place, choice in enumerate(subject.space.choices):
                moved = results_along(subject, {group.layer: subject.error(group.layer, choice.form)}).double()
                mean = (probability * moved).sum(1)
                found[number, place] = float(((probability * moved.square()).sum(1) - mean.square()).mean()) / 2
        return np.maximum(found, 0.0)

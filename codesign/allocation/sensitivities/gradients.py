"""Gradients of the cross entropy and of results by the weights, without building second derivatives."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor
from torch.func import functional_call, jvp
from torch.nn import functional

from codesign.allocation.sensitivities.subject import BATCH, Subject


def loss_gradient(subject: Subject) -> dict[str, Tensor]:
    """The gradient of the mean cross entropy of all images by the weights, (rows, weights of a row) by layer."""
    parameters = subject.parameters
    found = {name: torch.zeros_like(weight) for name, weight in parameters.items()}
    with subject.in_float() as model, torch.enable_grad():
        for images, labels in zip(torch.split(subject.images, BATCH), torch.split(subject.labels, BATCH), strict=True):
            loss = functional.cross_entropy(model(images).flatten(1), labels, reduction="sum") / len(subject.images)
            for name, part in zip(found, torch.autograd.grad(loss, list(parameters.values())), strict=True):
                found[name] += part
    return {name: gradient.flatten(1) for name, gradient in found.items()}


def hessian_products(subject: Subject, vectors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The Hessian of the mean cross entropy by the weights of these layers, times vectors of their shapes.

    Args:
        subject: with labels.
        vectors: (rows, weights of a row) by layer; layers that are not named are held fixed.
    """
    layers = [subject.model.conv(name).weight for name in vectors]
    directions = [vector.reshape(weight.shape) for vector, weight in zip(vectors.values(), layers, strict=True)]
    found = {name: torch.zeros_like(weight) for name, weight in zip(vectors, layers, strict=True)}
    with subject.in_float() as model, torch.enable_grad():
        for images, labels in zip(torch.split(subject.images, BATCH), torch.split(subject.labels, BATCH), strict=True):
            loss = functional.cross_entropy(model(images).flatten(1), labels, reduction="sum") / len(subject.images)
            gradients = torch.autograd.grad(loss, layers, create_graph=True)
            along = torch.stack([(g * d).sum() for g, d in zip(gradients, directions, strict=True)]).sum()
            for name, part in zip(found, torch.autograd.grad(along, layers, allow_unused=True), strict=True):
                if part is not None:
                    found[name] += part
    return {name: product.flatten(1).detach() for name, product in found.items()}


def results_along(subject: Subject, direction: Mapping[str, Tensor]) -> Tensor:
    """(images, classes) change of the results to first order along changes of the weights (rows, weights of a row)."""
    names = {name: f"convs.{subject.model._conv_of[name]}.weight" for name in direction}
    given = dict(subject.model.named_parameters())
    weights = {names[name]: given[names[name]].detach() for name in direction}
    moves = {names[name]: move.reshape(weights[names[name]].shape) for name, move in direction.items()}
    parts = []
    with subject.in_float() as model, torch.no_grad():  # what is differentiated is told by `jvp`
        for images in torch.split(subject.images, BATCH):

            def run(some: dict[str, Tensor], images: Tensor = images) -> Tensor:
                found: Tensor = functional_call(model, some, (images,))
                return found.flatten(1)

            parts.append(jvp(run, (weights,), (moves,))[1])
    return torch.cat(parts)

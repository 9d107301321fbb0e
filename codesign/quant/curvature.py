"""Largest Hessian eigenvalue of every filter (RMSMP Algorithm 1, lines 3-8, after HAWQ), all filters at once.

For filter j with weights w_j, H_jj is the block of the Hessian of the mean cross entropy that belongs to w_j. The
paper runs a power iteration of Hessian-vector products per filter and takes "max(v)", which is not an eigenvalue;
this is the Rayleigh quotient v'H_jj v of the last v.

No second differentiation is needed. In a network of convolutions, ReLU and pooling the logits are piecewise linear
in the weights of one filter, so almost everywhere the block equals its Gauss-Newton matrix

    H_jj = 1/N sum_n J_n' (diag(p_n) - p_n p_n') J_n = 1/N sum_n sum_c p_nc g_nc g_nc',   g_nc = J_n' (e_c - p_n)

with J_n the Jacobian of image n's logits by w_j and p_n its class probabilities. The gradients g_nc of all filters
of all layers come from one backward pass per class; with them an iteration costs one forward and one weight
gradient of each layer, whatever the number of filters. The matrix is positive semi-definite and needs no labels.
For many classes the sum over c is replaced by its mean over classes drawn from p_n, which is unbiased.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from codesign.data.sources import Images
from codesign.quant.placing import generator as make_generator
from codesign.quant.placing import placed
from codesign.quant.qat import QatNetwork, QuantConv
from codesign.quant.training import threads

EXACT_CLASSES = 16
"""Up to this many classes the sum over them is exact."""
DRAWN_CLASSES = 8
"""Classes drawn per image where there are more."""


def filter_eigenvalues(
    model: QatNetwork, images: Images, *, count: int = 64, iterations: int = 20, seed: int = 0
) -> dict[str, Tensor]:
    """Eigenvalues (filters,) of every weighted layer of the float network behind `model`, by layer name.

    Args:
        model: its float weights are used, without quantizers; it is not changed.
        images: of which `count` are drawn at random.
        iterations: of the power method.
        seed: draws images, start vectors and classes.
    """
    chosen = np.random.default_rng(seed).permutation(len(images))[:count]
    generator = make_generator(seed)
    with threads(1):
        layers = _linearize(model, placed(images[chosen]), generator)
        return {name: _largest(layer, iterations, generator) for name, layer in layers.items()}


class _Layer:
    """A convolution around one batch: its input, and the weighted gradients at its output, one per class."""

    def __init__(self, conv: QuantConv, source: Tensor, gradients: Tensor) -> None:
        self.conv = conv
        self.source = source
        self.gradients = gradients

    def product(self, vectors: Tensor) -> Tensor:
        """H_jj v_j of every filter j, for (filters, weights of a filter) vectors."""
        with torch.enable_grad():
            weight = vectors.clone().requires_grad_(True)
            moved = self.conv.convolve(self.source, weight, None)
            # Inner product of each image's and class's gradient with the filter's direction, over the pixels.
            along = torch.einsum("cnmhw,nmhw->cnm", self.gradients, moved.detach())
            back = torch.einsum("cnm,cnmhw->nmhw", along, self.gradients)
            (result,) = torch.autograd.grad(moved, weight, grad_outputs=back)
        return result.detach()


def _linearize(model: QatNetwork, images: Tensor, generator: torch.Generator) -> dict[str, _Layer]:
    convs = {item.name: model.conv(item.name) for item in model.fused.convs}
    sources: list[Tensor] = []
    outputs: list[Tensor] = []

    def keep(_: nn.Module, args: tuple[Tensor, ...], output: Tensor) -> None:
        sources.append(args[0].detach())
        outputs.append(output)

    hooks = [conv.register_forward_hook(keep) for conv in convs.values()]
    was, model.quantized = model.quantized, False
    try:
        logits = model(images).flatten(1)
    finally:
        model.quantized = was
        for hook in hooks:
            hook.remove()
    probability = logits.detach().softmax(1)
    seeds = _directions(probability, generator) / math.sqrt(len(images))
    parts = [torch.autograd.grad(logits, outputs, grad_outputs=seed, retain_graph=True) for seed in seeds]
    return {
        name: _Layer(conv, source, torch.stack([part[index] for part in parts]))
        for index, ((name, conv), source) in enumerate(zip(convs.items(), sources, strict=True))
    }


def _directions(probability: Tensor, generator: torch.Generator) -> Tensor:
    """(directions, N, classes): their outer products sum to diag(p) - pp' (in expectation, if drawn)."""
    images, classes = probability.shape
    if classes <= EXACT_CLASSES:
        unit = torch.eye(classes)[:, None, :].expand(classes, images, classes)
        weighted: Tensor = (unit - probability) * probability.T[:, :, None].sqrt()
        return weighted
    drawn = torch.multinomial(probability.cpu(), DRAWN_CLASSES, replacement=True, generator=generator).T
    drawn = drawn.to(probability.device)
    directions: Tensor = functional.one_hot(drawn, classes) - probability
    return directions / math.sqrt(DRAWN_CLASSES)


def _largest(layer: _Layer, iterations: int, generator: torch.Generator) -> Tensor:
    shape = (len(layer.conv.weight), layer.conv.weight[0].numel())
    vectors = _unit(torch.randn(shape, generator=generator, device="cpu").to(layer.source.device))
    for _ in range(iterations):
        vectors = _unit(layer.product(vectors))
    return torch.einsum("fk,fk->f", vectors, layer.product(vectors))


def _unit(vectors: Tensor) -> Tensor:
    # A filter that no image turns on has a zero block: any direction is an eigenvector, of eigenvalue 0.
    unit: Tensor = vectors / torch.linalg.vector_norm(vectors, dim=1, keepdim=True).clamp(min=1e-30)
    return unit

"""Largest Hessian eigenvalue of every filter (RMSMP Algorithm 1, lines 3-8, after HAWQ), all filters at once.

For filter j with weights w_j, H_jj is the block of the Hessian of the mean cross entropy that belongs to w_j. The
paper runs a power iteration of Hessian-vector products per filter and takes "max(v)", which is not an eigenvalue;
this is the Rayleigh quotient v'H_jj v of the last v.

No second differentiation is needed. In a network of convolutions, ReLU and pooling the logits are piecewise linear
in the weights of one filter, so almost everywhere the block equals its Gauss-Newton matrix

    H_jj = 1/N sum_n J_n' (diag(p_n) - p_n p_n') J_n = 1/N sum_n sum_c p_nc g_nc g_nc',   g_nc = J_n' (e_c - p_n)

with J_n the Jacobian of image n's logits by w_j and p_n its class probabilities. The gradients g_nc of all filters
of all layers come from one backward pass per class. The gradients of a filter are the rows of a matrix G_j, with which
H_jj v = G_j' (G_j v): they are made once, for some filters at a time, and an iteration then costs two products with a
vector. The matrix is positive semi-definite and needs no labels. For many classes the sum over c is replaced by its
mean over classes drawn from p_n, which is unbiased.

What grows with images, classes and the size of maps are the gradients at the outputs of layers: they are made for some
images at a time, and kept in 16 bits (bfloat16) where they would else take more than `MOST_FLOAT_BYTES`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.hooks import RemovableHandle

from codesign.data.sources import Images
from codesign.quant.placing import generator as make_generator
from codesign.quant.placing import placed
from codesign.quant.qat import QatNetwork, QuantConv
from codesign.quant.training import threads

EXACT_CLASSES = 16
"""Up to this many classes the sum over them is exact."""
DRAWN_CLASSES = 8
"""Classes drawn per image where there are more."""
IMAGES = 8
"""Images of one forward pass and its backward passes."""
MOST_FLOAT_BYTES = 1 << 30
"""Inputs and gradients of all layers that are kept in 32 bits: more are kept in 16."""
MOST_CHUNK_BYTES = 64 << 20
"""Gradients by weights, or patches of inputs, that are looked at at a time."""


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
        found: dict[str, Tensor] = {}
        for name in list(layers):
            found[name] = layers.pop(name).largest(iterations, generator)  # its gradients are not needed any more
        return found


class _Layer:
    """A convolution around all images: its input, and the weighted gradients at its output, one per class.

    Attributes:
        conv: whose filters are looked at.
        source: (N, channels, height, width).
        gradients: (classes, N, filters, height, width).
    """

    def __init__(self, conv: QuantConv, source: Tensor, gradients: Tensor) -> None:
        self.conv = conv
        self.source = source
        self.gradients = gradients

    def largest(self, iterations: int, generator: torch.Generator) -> Tensor:
        """The eigenvalue of every filter (filters,)."""
        filters, size = len(self.conv.weight), self.conv.weight[0].numel()
        vectors = _unit(torch.randn((filters, size), generator=generator, device="cpu").to(self.source.device))
        found: list[Tensor] = []
        each = 4 * size * self.gradients.shape[0] * self.gradients.shape[1]
        step = max(1, MOST_CHUNK_BYTES // each)
        groups = self.conv.item.groups
        in_group = filters // groups
        for group in range(groups):
            for start in range(group * in_group, (group + 1) * in_group, step):
                end = min(start + step, (group + 1) * in_group)
                for matrix, vector in zip(self._matrices(start, end, group), vectors[start:end], strict=True):
                    v = vector
                    for _ in range(iterations):
                        v = _unit((matrix.T @ (matrix @ v))[None])[0]
                    found.append(torch.linalg.vector_norm(matrix @ v) ** 2)
        return torch.stack(found)

    def _matrices(self, start: int, end: int, group: int) -> Tensor:
        """Gradients by the weights of some filters of a group: (filters, classes x N, weights of a filter)."""
        classes, images = self.gradients.shape[:2]
        size = self.conv.weight[0].numel()
        found = self.source.new_empty((end - start, classes, images, size), dtype=torch.float32)
        pixels = self.gradients.shape[3] * self.gradients.shape[4]
        step = max(1, MOST_CHUNK_BYTES // (4 * pixels * max(size, classes * (end - start))))
        for first in range(0, images, step):
            last = min(first + step, images)
            patches = self.conv.patches(self.source[first:last].float(), group)
            along = self.gradients[:, first:last, start:end].float().flatten(3)
            found[:, :, first:last] = torch.einsum("cnmp,nkp->mcnk", along, patches)
        return found.flatten(1, 2)


def _linearize(model: QatNetwork, images: Tensor, generator: torch.Generator) -> dict[str, _Layer]:
    convs = {item.name: model.conv(item.name) for item in model.fused.convs}
    sources: list[Tensor] = []
    outputs: list[Tensor] = []

    def keep(_: nn.Module, args: tuple[Tensor, ...], output: Tensor) -> None:
        sources.append(args[0].detach())
        outputs.append(output)

    was, model.quantized = model.quantized, False
    hooks: list[RemovableHandle] = []
    try:
        with torch.no_grad():
            parts = [model(part).flatten(1) for part in torch.split(images, IMAGES)]
        seeds = _directions(torch.cat(parts).softmax(1), generator) / math.sqrt(len(images))
        hooks += [conv.register_forward_hook(keep) for conv in convs.values()]
        layers: dict[str, _Layer] = {}
        for first in range(0, len(images), IMAGES):
            part = slice(first, min(first + IMAGES, len(images)))
            sources.clear()
            outputs.clear()
            logits = model(images[part]).flatten(1)
            if not layers:
                layers = _empty(convs, sources, outputs, len(seeds), len(images))
            for layer, source in zip(layers.values(), sources, strict=True):
                layer.source[part] = source.to(layer.source.dtype)
            for number, seed in enumerate(seeds):
                found = torch.autograd.grad(logits, outputs, grad_outputs=seed[part], retain_graph=True)
                for layer, gradient in zip(layers.values(), found, strict=True):
                    layer.gradients[number, part] = gradient.to(layer.gradients.dtype)
    finally:
        model.quantized = was
        for hook in hooks:
            hook.remove()
    return layers


def _empty(
    convs: Mapping[str, QuantConv], sources: Sequence[Tensor], outputs: Sequence[Tensor], classes: int, images: int
) -> dict[str, _Layer]:
    """Room for what all images give, by layer."""
    numbers = sum(
        images * (source[0].numel() + classes * output[0].numel())
        for source, output in zip(sources, outputs, strict=True)
    )
    kind = torch.float32 if 4 * images * numbers <= MOST_FLOAT_BYTES else torch.bfloat16
    return {
        name: _Layer(
            conv,
            source.new_empty((images, *source.shape[1:]), dtype=kind),
            output.detach().new_empty((classes, images, *output.shape[1:]), dtype=kind),
        )
        for (name, conv), source, output in zip(convs.items(), sources, outputs, strict=True)
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


def _unit(vectors: Tensor) -> Tensor:
    # A filter that no image turns on has a zero block: any direction is an eigenvector, of eigenvalue 0.
    unit: Tensor = vectors / torch.linalg.vector_norm(vectors, dim=1, keepdim=True).clamp(min=1e-30)
    return unit

"""Random small torch modules, exported, saved and read back: what is accepted computes what torch computes."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from codesign.errors import UserError
from codesign.quant.module import build_module
from codesign.workload.exported import load_exported_end

Step = Callable[[list[Tensor]], Tensor]


class Random(nn.Module):
    """A random chain of operations with shared readers, views, operations in place and random arguments."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        self.rng = np.random.default_rng(seed)
        torch.manual_seed(seed)
        size = (int(self.rng.integers(1, 5)), int(self.rng.integers(4, 10)), int(self.rng.integers(4, 10)))
        self.sample = torch.randn(2, *size)
        self.steps: list[Step] = []
        self.eval()
        wanted = int(self.rng.integers(2, 8))
        while len(self.steps) < wanted:
            values = self.run(self.sample.clone())
            step = self._draw(values)
            if step is None:
                continue
            try:
                with torch.no_grad():
                    step([value.clone() for value in values])
            except (RuntimeError, ValueError, IndexError):
                continue
            self.steps.append(step)

    def run(self, x: Tensor) -> list[Tensor]:
        values = [x]
        for step in self.steps:
            values.append(step(values))
        return values

    def forward(self, x: Tensor) -> Tensor:
        return self.run(x)[-1]

    def _part(self, module: nn.Module) -> nn.Module:
        for name, buffer in module.named_buffers():
            if name in ("running_mean", "running_var"):
                buffer.copy_(torch.rand_like(buffer) + 0.3)
        self.add_module(f"part{len(self._modules)}", module.eval())
        return module

    def _draw(self, values: list[Tensor]) -> Step | None:
        rng = self.rng
        at = len(values) - 1 if rng.random() < 0.75 else int(rng.integers(0, len(values)))
        x = values[at]
        pick = rng.integers
        if x.dim() == 2:
            return self._on_vector(at, x)
        if x.dim() != 4:
            return None
        channels, height, width = x.shape[1:]
        kernel = (int(pick(1, 4)), int(pick(1, 4)))
        stride = (int(pick(1, 3)), int(pick(1, 3)))
        around = (int(pick(0, kernel[0])), int(pick(0, kernel[1])))
        half = (kernel[0] // 2 * int(pick(0, 2)), kernel[1] // 2 * int(pick(0, 2)))
        flag = bool(rng.random() < 0.3)
        kind = int(pick(0, 20))
        if kind <= 3:
            groups = int(rng.choice([1, 1, channels])) if channels > 1 else 1
            rows = groups * int(pick(1, 4))
            if rng.random() < 0.2:
                text = str(rng.choice(["same", "valid"]))
                steps = (1, 1) if text == "same" else stride
                part = nn.Conv2d(channels, rows, kernel, steps, text, groups=groups, bias=flag)
            else:
                dilation = 2 if rng.random() < 0.05 else 1
                mode = "zeros" if rng.random() < 0.95 else "reflect"
                part = nn.Conv2d(
                    channels, rows, kernel, stride, around, dilation, groups, bias=not flag, padding_mode=mode
                )
            part = self._part(part)
            return lambda values: part(values[at])
        if kind == 4:
            norm = self._part(
                nn.BatchNorm2d(channels, eps=float(rng.uniform(1e-5, 0.1)), affine=not flag, momentum=0.3)
            )
            return lambda values: norm(values[at])
        if kind in (5, 6):
            spelled = [
                lambda values: F.relu(values[at]),
                lambda values: F.relu_(values[at].clone()),
                lambda values: values[at].relu_(),
                lambda values: F.relu6(values[at]),
                lambda values: F.hardtanh(values[at], 0.0, 0.7),
                lambda values: F.hardtanh(values[at], -1.0, 0.7),
                lambda values: values[at].clamp(0, 0.4),
                lambda values: values[at].clamp(min=0),
                lambda values: values[at].clamp_(0, float("inf")),
                lambda values: F.leaky_relu(values[at], 0.1),
            ]
            return spelled[int(pick(0, len(spelled)))]
        if kind == 7:
            count = bool(rng.random() < 0.7)
            divisor = int(rng.choice([kernel[0] * kernel[1], 3])) if rng.random() < 0.2 else None
            return lambda values: F.avg_pool2d(values[at], kernel, stride, half, flag, count, divisor)
        if kind in (8, 9):
            dilation = 2 if rng.random() < 0.05 else 1
            return lambda values: F.max_pool2d(values[at], kernel, stride, half, dilation, flag)
        if kind == 10:
            target = [(1, 1), (2, 2), (None, 1), (height, width), (3, 3)][int(pick(0, 5))]
            return lambda values: F.adaptive_avg_pool2d(values[at], target)
        if kind in (11, 12):
            same = [i for i, value in enumerate(values) if value.shape == x.shape]
            other, alpha = int(rng.choice(same)), 1 if rng.random() < 0.85 else 2
            if flag:
                return lambda values: values[at].add_(values[other], alpha=alpha)
            return lambda values: torch.add(values[at], values[other], alpha=alpha)
        if kind == 13:
            sizes = tuple(int(item) for item in pick(-1 if rng.random() < 0.1 else 0, 3, int(rng.choice([2, 4]))))
            fill = float(rng.choice([0.0, 0.0, 0.0, 1.0, -np.inf]))
            mode = "constant" if rng.random() < 0.9 else "reflect"
            return lambda values: F.pad(values[at], sizes, mode, fill if mode == "constant" else None)
        if kind == 14:
            shapes = [(channels, 1, 1), (1,), (), (1, channels, 1, 1), (width,), (channels, height, width)]
            shape = shapes[int(pick(0, len(shapes)))]
            name = f"constant{len(self._parameters)}"
            self.register_parameter(name, nn.Parameter(torch.randn(shape)))
            if flag:
                return lambda values: values[at] - getattr(self, name)
            return lambda values: getattr(self, name) + values[at]
        if kind == 15:
            dims = [(2, 3), (-1, -2), [3, 2], (1, 2), (2,)][int(pick(0, 5))]
            return lambda values: values[at].mean(dims, keepdim=flag)
        if kind in (16, 17):
            count = channels * height * width
            spelled = [
                lambda values: values[at].flatten(1),
                lambda values: values[at].flatten(1, -1),
                lambda values: values[at].flatten(2),
                lambda values: values[at].view(values[at].size(0), -1),
                lambda values: values[at].reshape(-1, count),
                lambda values: values[at].reshape(values[at].shape[0], height, -1),
                lambda values: values[at].reshape(values[at].shape),
                lambda values: values[at].permute(0, 2, 3, 1).flatten(1),
            ]
            return spelled[int(pick(0, len(spelled)))]
        if kind == 18:
            return lambda values: F.dropout(values[at], 0.4, False)
        return lambda values: values[at].transpose(2, 3) if flag else values[at].contiguous()

    def _on_vector(self, at: int, x: Tensor) -> Step:
        rng, features = self.rng, x.shape[1]
        kind = int(rng.integers(0, 8))
        if kind <= 2:
            part = self._part(nn.Linear(features, int(rng.integers(1, 6)), bias=bool(rng.random() < 0.7)))
            return lambda values: part(values[at])
        if kind == 3:
            norm = self._part(nn.BatchNorm1d(features))
            return lambda values: norm(values[at])
        if kind == 4:
            weight = nn.Parameter(torch.randn(features, 3))
            name = f"matrix{len(self._parameters)}"
            self.register_parameter(name, weight)
            beta = 1 if rng.random() < 0.7 else 2
            if rng.random() < 0.5:
                return lambda values: values[at] @ getattr(self, name)
            return lambda values: torch.addmm(torch.ones(3), values[at], getattr(self, name), beta=beta)
        if kind == 5:
            return lambda values: F.relu(values[at])
        if kind == 6:
            return lambda values: values[at] + 0.5
        ends = [
            lambda values: values[at].softmax(1),
            lambda values: F.log_softmax(values[at], -1),
            lambda values: torch.sigmoid(values[at]),
            lambda values: values[at].softmax(0),
        ]
        return ends[int(rng.integers(0, len(ends)))]


ENDS: dict[str | None, Callable[[Tensor], Tensor]] = {
    None: lambda x: x,
    "softmax": lambda x: x.softmax(1),
    "log_softmax": lambda x: x.log_softmax(1),
    "sigmoid": torch.sigmoid,
    "argmax": lambda x: x.argmax(1),
}


def attempt(seed: int, path: Path, refused: Counter[str]) -> str:
    """Accepted, refused or what is wrong."""
    module = Random(seed)
    dynamic = ({0: torch.export.Dim.DYNAMIC},) if seed % 2 else None
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        try:
            program: Any = torch.export.export(module, (module.sample.clone(),), dynamic_shapes=dynamic)
            if seed % 3 == 0:
                program = program.run_decompositions()
            torch.export.save(program, path)
        except Exception as error:  # what torch itself cannot export
            refused[f"torch: {type(error).__name__}"] += 1
            return "refused"
        expected = module(module.sample.clone())
    try:
        network, state, end = load_exported_end(path)
    except UserError as error:
        text = str(error)
        assert "\n" not in text and len(text) < 700, text
        refused[text.split("' ", 2)[-1][:50]] += 1
        return "refused"
    again = build_module(network, seed=0).eval()
    again.load_state_dict(state)
    with torch.no_grad():
        result = ENDS[end](again(module.sample.clone()))
    if result.numel() != expected.numel():
        return f"seed {seed}: {tuple(result.shape)} instead of {tuple(expected.shape)}"
    close = torch.allclose(result.reshape(expected.shape), expected, rtol=1e-4, atol=1e-5 * float(expected.abs().max()))
    return "accepted" if close else f"seed {seed}: other values"


def check(seeds: range, path: Path) -> None:
    refused: Counter[str] = Counter()
    found = Counter(attempt(seed, path, refused) for seed in seeds)
    wrong = [text for text in found if text.startswith("seed")]
    assert not wrong, wrong[:5]
    assert found["accepted"] >= len(seeds) / 4, refused.most_common(10)


@pytest.mark.parametrize("first", [0, 20])
def test_random_modules(first: int, tmp_path: Path) -> None:
    check(range(first, first + 20), tmp_path / "a.pt2")


@pytest.mark.slow
def test_many_random_modules(tmp_path: Path) -> None:
    check(range(1000, 1400), tmp_path / "a.pt2")

"""Torch modules in every spelling that readers of torch programs understand."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Spelled(nn.Module):
    """A convolution, then whatever a test gives, and a second convolution for what must be left over."""

    def __init__(self, rest: Callable[[Any, Tensor], Tensor], **parts: nn.Module) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, padding=1)
        self.rest = rest
        for name, part in parts.items():
            self.add_module(name, part)

    def forward(self, x: Tensor) -> Tensor:
        return self.rest(self, self.conv(x))


SPELLINGS: list[Callable[[Any, Tensor], Tensor]] = [
    lambda self, x: F.relu(x),
    lambda self, x: torch.relu(x),
    lambda self, x: x.relu(),
    lambda self, x: x.relu_(),
    lambda self, x: F.relu(x, inplace=True),
    lambda self, x: F.relu6(x),
    lambda self, x: F.hardtanh(x, 0, 0.5),
    lambda self, x: x.clamp(0, 0.25),
    lambda self, x: x.clamp(min=0),
    lambda self, x: x.clip(0.0, max=1),
    lambda self, x: x.clamp_(0, 1),
    lambda self, x: torch.clamp(x, 0, 0.3),
    lambda self, x: x + x,
    lambda self, x: x + F.relu(x),
    lambda self, x: torch.add(F.relu(x), x),
    lambda self, x: x.add(F.relu(x)),
    lambda self, x: F.relu(x).add_(x),
    lambda self, x: F.max_pool2d(x, 2),
    lambda self, x: F.max_pool2d(x, (3, 2), stride=1, padding=(1, 0)),
    lambda self, x: F.max_pool2d(x, 2, ceil_mode=True),
    lambda self, x: F.max_pool2d(F.pad(F.relu(x), (1, 0, 0, 2)), 3, 2),
    lambda self, x: F.max_pool2d(F.pad(x, (0, 1, 0, 1), value=float("-inf")), 3, 2),
    lambda self, x: F.avg_pool2d(x, 2),
    lambda self, x: F.avg_pool2d(x, (8, 6)),
    lambda self, x: F.avg_pool2d(x, x.shape[2:]),
    lambda self, x: F.avg_pool2d(x, x.size(3) // 2),
    lambda self, x: F.avg_pool2d(F.pad(x, (1, 1)), 2),
    lambda self, x: F.avg_pool2d(x, 3, 1, 1),
    lambda self, x: F.adaptive_avg_pool2d(x, 1),
    lambda self, x: F.adaptive_avg_pool2d(x, (4, None)),
    lambda self, x: F.adaptive_avg_pool2d(x, (2, 3)),
    lambda self, x: x.mean((2, 3)),
    lambda self, x: x.mean(dim=[-1, -2], keepdim=True),
    lambda self, x: torch.mean(x, (2, 3)),
    lambda self, x: torch.flatten(x, 1),
    lambda self, x: x.flatten(1).flatten(1),
    lambda self, x: x.view(x.size(0), -1),
    lambda self, x: x.view(x.shape[0], -1).contiguous(),
    lambda self, x: x.reshape(-1, 4 * 8 * 6),
    lambda self, x: torch.reshape(x, (x.size()[0], -1)),
    lambda self, x: x.view(-1, x.size(1) * x.size(2) * x.size(3)),
    lambda self, x: F.dropout(x, training=self.training),
    lambda self, x: x,
]

PARTS: list[nn.Module] = [
    nn.ReLU(),
    nn.ReLU6(),
    nn.Hardtanh(0, 0.5),
    nn.MaxPool2d(3, 2, 1),
    nn.MaxPool2d(2),
    nn.AvgPool2d(2),
    nn.AvgPool2d((3, 1), 1, (1, 0)),
    nn.AdaptiveAvgPool2d(1),
    nn.AdaptiveAvgPool2d((2, 2)),
    nn.Flatten(),
    nn.Sequential(nn.Dropout(), nn.Identity(), nn.Dropout2d()),
    nn.BatchNorm2d(4, eps=1e-2),
    nn.Conv2d(4, 6, 3, stride=2, padding=1, groups=2),
    nn.Conv2d(4, 4, 3, padding=1, groups=4, bias=False),
    nn.Conv2d(4, 2, (5, 1), padding="valid"),
    nn.Conv2d(4, 2, (3, 4), padding="same"),
    nn.Sequential(nn.ZeroPad2d((0, 1, 0, 1)), nn.Conv2d(4, 2, 3, stride=2)),
    nn.Sequential(nn.ConstantPad2d((2, 1, 0, 3), 0.0), nn.AvgPool2d(2)),
    nn.Sequential(nn.Flatten(), nn.Linear(192, 5), nn.BatchNorm1d(5), nn.ReLU(), nn.Linear(5, 2, bias=False)),
]

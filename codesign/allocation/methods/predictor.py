"""A network that predicts accuracies of policies (Wang et al., APQ, CVPR 2020): one for float, one that grows from it.

Three layers of 400 units. The first is of the architecture alone; bits join it as a second sum, so that what was learnt
of float networks, of which many can be measured, stays where quantized ones, of which few are, are learnt from.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

from codesign._typing import FloatArray
from codesign.quant.training import threads

HIDDEN, LAYERS = 400, 3
RATE, STEPS = 1e-3, 200


class Predictor(nn.Module):
    """Accuracies from features.

    Args:
        widths, choices: numbers that say the architecture, and the bits.
        seed: of the weights.
        hidden: units of a layer.
    """

    def __init__(self, widths: int, choices: int, seed: int, hidden: int = HIDDEN) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.first = nn.Linear(max(widths, 1), hidden)
            self.rest = nn.Sequential(
                *(layer for _ in range(LAYERS - 1) for layer in (nn.Linear(hidden, hidden), nn.ReLU())),
                nn.Linear(hidden, 1),
            )
            self.bits = nn.Linear(choices, hidden)
            for parameter in self.bits.parameters():  # what was learnt of float networks is where it starts
                nn.init.zeros_(parameter)

    def forward(self, widths: Tensor, choices: Tensor | None) -> Tensor:
        """(policies,) accuracies; of float networks without choices."""
        seen = torch.relu(self.first(widths))
        if choices is not None:
            seen = seen + self.bits(choices)
        found: Tensor = self.rest(seen)[:, 0]
        return found

    def fit(self, features: Sequence[tuple[FloatArray, FloatArray | None]], accuracies: Sequence[float]) -> float:
        """Learn all of them in every step, by squared error; of float networks all features are without choices.

        Returns:
            The mean squared error at last.
        """
        seen, wanted = _tensors(features), torch.tensor(list(accuracies), dtype=torch.float32)
        steps = torch.optim.Adam(self.parameters(), RATE)
        with threads(1), torch.enable_grad():
            for _ in range(STEPS):
                loss = (self(*seen) - wanted).square().mean()
                steps.zero_grad()
                loss.backward()
                steps.step()
            with torch.no_grad():
                return float((self(*seen) - wanted).square().mean())

    @torch.no_grad()
    def predict(self, features: Sequence[tuple[FloatArray, FloatArray | None]]) -> FloatArray:
        """(policies,) accuracies."""
        with threads(1):
            found: FloatArray = self(*_tensors(features)).double().numpy()
        return found


def _tensors(features: Sequence[tuple[FloatArray, FloatArray | None]]) -> tuple[Tensor, Tensor | None]:
    """Of architectures, a single 1 where there is nothing to decide, and of choices, if there are any."""
    widths = np.stack([one[0] if len(one[0]) else np.ones(1) for one in features])
    choices = [one[1] for one in features if one[1] is not None]
    return torch.from_numpy(widths).float(), torch.from_numpy(np.stack(choices)).float() if choices else None

"""Networks small enough for dense references."""

from __future__ import annotations

import numpy as np
import torch

from codesign.allocation.sensitivities.subject import Subject
from codesign.allocation.space import Granularity, Space, parse_choices
from codesign.formats.assignment import Assignment
from codesign.formats.row_format import FIXED4
from codesign.quant.module import build_module
from codesign.quant.qat import QatNetwork
from codesign.workload import Add, AvgPool, Conv, Flatten, Input, Linear, MaxPool, Network, Relu

TINY = Network(
    "tiny",
    (
        Input("input", (), channels=2, height=6, width=6),
        Conv("a", ("input",), out_channels=4, kernel=(3, 3), padding=(1, 1, 1, 1)),
        Relu("r", ("a",)),
        MaxPool("p", ("r",)),
        Conv("b", ("p",), out_channels=4, kernel=(3, 2), padding=(1, 1, 0, 1), groups=2),
        Add("s", ("b", "p")),
        Relu("t", ("s",)),
        AvgPool("g", ("t",)),
        Flatten("f", ("g",)),
        Linear("fc", ("f",), out_features=3),
    ),
)


def subject_of(
    choices: str = "w2a4,w4a4,w8a8", granularity: Granularity = "layer", seed: int = 0, images: int = 9
) -> Subject:
    module = build_module(TINY, seed).requires_grad_(False)
    model = QatNetwork(TINY, module.state_dict(), Assignment.uniform(TINY, FIXED4, 4))
    rng = np.random.default_rng(seed)
    pixels = torch.from_numpy(rng.random((images, 2, 6, 6)).astype(np.float32))
    labels = torch.from_numpy(rng.integers(0, 3, images))
    return Subject(Space(TINY, parse_choices(choices, 4), granularity), model, module, pixels, labels, seed)

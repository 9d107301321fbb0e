"""A training run of a small network, as checkpoints are of."""

from __future__ import annotations

import numpy as np
import torch

from codesign.quant.checkpoint import Run
from codesign.quant.module import build_module
from codesign.workload import zoo


def training_run() -> Run:
    """After one step, so that the optimizer has a state."""
    module = build_module(zoo.get("smallcnn", width=2), seed=1)
    optimizer = torch.optim.Adam(module.parameters(), lr=1e-3)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda epoch: 0.5**epoch)
    module(torch.zeros(2, 1, 8, 8)).sum().backward()
    optimizer.step()
    schedule.step()
    return Run(module, optimizer, schedule, np.random.default_rng(0), {"epochs": 4, "phase": "float", "seed": 0})

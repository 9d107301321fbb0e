"""Training throughput with mixed quantized rows over plain float training of the same network, images a second.

    python benchmarks/training_throughput.py [NETWORK ...] [--batch 64] [--steps 8] [--repeats 3] [--threads 1]

Float training is torch's on the module as users have it (batch norms included); quantized training is that of
RMSMP's 65:30:5 and of four formats in every layer. Steps alternate between the three so that a busy machine hits
all alike; the figure is the median of the repeats' ratios, behind it the least and the largest. Exit status 1 if the
median is below 0.5.
"""

from __future__ import annotations

import argparse
import math
import statistics
import sys
import time

import torch
from torch import nn
from torch.nn import functional as F

from codesign.formats.assignment import Assignment
from codesign.formats.ratio import parse_ratio
from codesign.quant.module import build_module
from codesign.quant.qat import QatNetwork
from codesign.workload import zoo
from codesign.workload.fold import fold_batchnorm

RATIOS = {"rmsmp": "pot4:65,fixed4:30,fixed8:5", "four formats": "pot4:1,apot4:1,ternary:1,fixed4:1"}
BAR = 0.5


def seconds(module: nn.Module, x: torch.Tensor, y: torch.Tensor, steps: int) -> float:
    """Time of some training steps (forward, backward, AdamW)."""
    optimizer = torch.optim.AdamW(module.parameters(), 1e-4)
    start = time.perf_counter()
    for _ in range(steps):
        loss = F.cross_entropy(module(x), y)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    return time.perf_counter() - start


def measure(name: str, batch: int, steps: int, repeats: int) -> dict[str, float]:
    """Images a second by kind of training; the ratios under `<kind> ratio`, `<kind> least` and `<kind> largest`."""
    network = zoo.get(name)
    module = build_module(network, 0).train()
    folded, state = fold_batchnorm(network, module.state_dict())
    x = torch.rand(batch, *network.shapes[network.input.name])
    y = torch.arange(batch) % math.prod(network.shapes[network.output.name])
    models: dict[str, nn.Module] = {"float": module}
    for kind, ratio in RATIOS.items():
        model = QatNetwork(folded, state, Assignment.random(folded, parse_ratio(ratio), 4, 0))
        model.calibrate(x[:8])
        models[kind] = model.train()
    for model in models.values():
        seconds(model, x, y, 1)
    times = {kind: [seconds(model, x, y, steps) for kind_, model in models.items() if kind_ == kind] for kind in models}
    for _ in range(repeats - 1):
        for kind, model in models.items():
            times[kind].append(seconds(model, x, y, steps))
    result = {kind: batch * steps / statistics.median(values) for kind, values in times.items()}
    for kind in RATIOS:
        ratios = [plain / quantized for plain, quantized in zip(times["float"], times[kind], strict=True)]
        result |= {f"{kind} ratio": statistics.median(ratios), f"{kind} least": min(ratios)}
        result[f"{kind} largest"] = max(ratios)
    return result


def main() -> int:
    """Measure, print a line per network, compare with the bar."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("networks", nargs="*", default=["resnet8"])
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    slow = False
    for name in arguments.networks:
        result = measure(name, arguments.batch, arguments.steps, arguments.repeats)
        parts = [f"float {result['float']:.0f} images/s"]
        for kind in RATIOS:
            ratio = result[f"{kind} ratio"]
            spread = f"{result[f'{kind} least']:.2f} to {result[f'{kind} largest']:.2f}"
            parts.append(f"{kind} {result[kind]:.0f} ({ratio:.2f} of float, {spread})")
            slow |= ratio < BAR
        print(f"{name}: {', '.join(parts)}")  # noqa: T201
    return int(slow)


if __name__ == "__main__":
    sys.exit(main())

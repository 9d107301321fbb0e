"""The largest Hessian eigenvalue of every filter: processor time on one thread, and the most memory.

    python benchmarks/eigenvalues.py [--network resnet18] [--images 64] [--iterations 20]

The network has random weights and looks at random images of its own size; neither changes what there is to compute.
"""

from __future__ import annotations

import argparse
import resource
import time

import numpy as np
import torch
from rich.console import Console

from codesign.formats.assignment import Assignment
from codesign.formats.row_format import FIXED4
from codesign.quant.curvature import filter_eigenvalues
from codesign.quant.module import build_module
from codesign.quant.qat import QatNetwork
from codesign.workload import zoo
from codesign.workload.fold import fold_batchnorm


def main() -> None:
    """Print one line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--network", default="resnet18")
    parser.add_argument("--images", type=int, default=64)
    parser.add_argument("--iterations", type=int, default=20)
    given = parser.parse_args()
    torch.set_num_threads(1)
    network = zoo.get(given.network)
    folded, state = fold_batchnorm(network, build_module(network, 0).state_dict())
    model = QatNetwork(folded, state, Assignment.uniform(folded, FIXED4, 4))
    shape = network.shapes[network.input.name]
    images = np.random.default_rng(0).standard_normal((given.images, *shape), dtype=np.float32)
    began = time.process_time()
    found = filter_eigenvalues(model, images, count=given.images, iterations=given.iterations)
    took = time.process_time() - began
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1 << 20)
    filters = sum(len(values) for values in found.values())
    Console(soft_wrap=True, highlight=False).print(
        f"{given.network}, {filters:,} filters, {given.images} images of {shape[1]} x {shape[2]}: {took:.0f} s of a "
        f"processor, at most {most:.2f} GiB"
    )


if __name__ == "__main__":
    main()

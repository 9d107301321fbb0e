"""Accuracies of the number formats on real data: post-training and trained, mean and deviation over seeds.

    python benchmarks/formats_table.py [--data digits] [--network smallcnn] [--seeds 3] [--float-epochs 20]
        [--epochs 8] [--post-training bias] [--only-seeds K ...] [--train-images N] [--validation-images N]
        [--test-images N] [--device cuda] [--folder DIR] [--jobs N] [--lines NAME ...]

With --folder every epoch and every accuracy is kept, and the same command continues from there; with --jobs N seeds run
beside each other; with --only-seeds K on machines of their own, and the command without it then prints them all. The
table that compares with RMSMP's table 1 takes a GPU:

    python benchmarks/formats_table.py --data cifar10 --network resnet8 --float-epochs 100 --epochs 40 --seeds 3
        --device cuda --folder results/cifar10

Accuracies are those of the integer networks, which is what the accelerator computes. Lines are compared on validation
images; the last column is on test images, measured once for each line and seed.
"""

from __future__ import annotations

import argparse
import sys
import time
from functools import partial
from pathlib import Path

from codesign.data.sources import Dataset, load_dataset
from codesign.execution.executor import Local
from codesign.quant.comparison import TABLE, as_text, compare
from codesign.search.space import zoo_network

WORKER_BYTES = 2 << 30
"""Memory of a process that trains."""


def load(arguments: argparse.Namespace, seed: int) -> Dataset:
    """The data for a seed."""
    dataset = load_dataset(arguments.data, arguments.data_dir, seed)
    return dataset.part(arguments.train_images, arguments.test_images, arguments.validation_images)


def main() -> None:
    """Run the comparison and print its table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="digits")
    parser.add_argument("--data-dir", type=Path, default=None)
    parser.add_argument("--network", default="smallcnn")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--only-seeds", type=int, nargs="*", default=None)
    parser.add_argument("--float-epochs", type=int, default=20)
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--post-training", nargs="*", choices=("equalize", "adaround", "bias"), default=["bias"])
    parser.add_argument("--train-images", type=int, default=None)
    parser.add_argument("--validation-images", type=int, default=None)
    parser.add_argument("--test-images", type=int, default=None)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--folder", type=Path, default=None)
    parser.add_argument("--jobs", type=int, default=1, help="seeds at a time, each in a process")
    parser.add_argument("--lines", nargs="*", choices=[entry.name for entry in TABLE], default=None)
    arguments = parser.parse_args()
    start = time.perf_counter()

    def report(line: str) -> None:
        sys.stderr.write(f"{time.perf_counter() - start:6.0f} s  {line}\n")

    seeds = list(range(arguments.seeds)) if arguments.only_seeds is None else arguments.only_seeds
    table = compare(
        zoo_network(arguments.network),
        partial(load, arguments),
        entries=[entry for entry in TABLE if arguments.lines is None or entry.name in arguments.lines],
        device=arguments.device,
        folder=arguments.folder,
        seeds=seeds,
        float_epochs=arguments.float_epochs,
        epochs=arguments.epochs,
        post_training=arguments.post_training,
        report=report,
        executor=Local(arguments.jobs, WORKER_BYTES),
    )
    done = ", ".join(arguments.post_training) or "calibration only"
    sys.stdout.write(
        f"{arguments.network} on {load(arguments, 0)}\n"
        f"seeds {', '.join(map(str, seeds))}; {arguments.float_epochs} float epochs, "
        f"{arguments.epochs} with quantizers; post-training: {done}\n"
        f"{as_text(table)}\n"
    )


if __name__ == "__main__":
    main()

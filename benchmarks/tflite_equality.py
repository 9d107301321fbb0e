"""MLPerf Tiny's int8 reference models, imported, beside LiteRT: the table of docs/reference/interchange.md.

    python benchmarks/tflite_equality.py [--data-dir DIR] [--scale 1.0] [--multiplier-bits 24]

Anomaly detection reads random codes, visual wake words CIFAR images enlarged to 96x96: equality needs no labels.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from codesign.data.sources import data_folder
from codesign.integer.network import MULTIPLIERS
from codesign.interchange.litert import compare_with_litert

MODELS = {"kws_ref_model": 200, "pretrainedResnet_quant": 50, "vww_96_int8": 30, "ad01_int8": 200}


def main() -> None:
    """Compare the models and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-dir", type=Path, default=None)
    parser.add_argument("--scale", type=float, default=1.0, help="of the number of images")
    parser.add_argument("--multiplier-bits", type=int, choices=tuple(MULTIPLIERS), default=16)
    options = parser.parse_args()
    multiplier = MULTIPLIERS[options.multiplier_bits]
    folder = data_folder(options.data_dir)
    pixels = np.load(folder / "cifar10_small.npz")["x_test"].astype(np.int64) - 128
    inputs = {
        "kws_ref_model": np.load(folder / "mlperf_tiny_kws01.npz")["x"],
        "pretrainedResnet_quant": pixels.astype(np.int8),
        "vww_96_int8": pixels[:200].repeat(3, axis=1).repeat(3, axis=2).astype(np.int8),
        "ad01_int8": np.random.default_rng(0).integers(-128, 128, (1000, 640)).astype(np.int8),
    }
    table = Table(
        "model", "images", "numbers of all layers", "differ", "by more than 1", "results", "equal", "within 1"
    )
    for model, count in MODELS.items():
        batch = inputs[model][: max(1, round(count * options.scale))]
        found = compare_with_litert(folder / "mlperf_tiny_models" / f"{model}.tflite", batch, multiplier)
        layers = found.layers.values()
        total, result = sum(item.total for item in layers), found.result
        row = [len(batch), total, total - sum(item.equal for item in layers)]
        row += [total - sum(item.within_one for item in layers), result.total, result.equal, result.within_one]
        table.add_row(model, *(f"{number:,}" for number in row))
    Console(width=110).print(table)


if __name__ == "__main__":
    main()

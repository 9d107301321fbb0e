"""Networks that Brevitas trained on handwritten digits, run here: classes of all test images beside Brevitas' own.

    python benchmarks/brevitas_equality.py

The files and what Brevitas computes lie in tests/interchange/data; its make_files.py trains and writes them.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np

from codesign.integer.network import IntegerConv
from codesign.interchange.exact_bias import BiasRule
from codesign.interchange.load import import_integer
from codesign.sim.functional import classes, predict, prepare

DATA = Path(__file__).resolve().parents[1] / "tests" / "interchange" / "data"
NETWORKS = ("w2a2", "w2a4", "w4a4", "w8a8")


def line(bits: str, form: str, keep: bool) -> str:
    """A row of the table."""
    test, theirs = np.load(DATA / "digits_test.npz"), np.load(DATA / f"digits_{bits}.npz")["y"].argmax(axis=1)
    network = import_integer(DATA / f"digits_{form}_{bits}.onnx", rule=BiasRule(keep))
    ours = classes(network, predict(network, prepare(network, test["x"].astype(np.float32) / 16)))
    wide = [
        weight > int(bits[1]) for layer in network.layers if isinstance(layer, IntegerConv)
        for weight in layer.weight_bits
    ]  # fmt: skip
    accuracy = [f"{100 * (found == test['labels']).mean():.2f} %" for found in (theirs, ours)]
    cells = [bits.upper(), form.upper(), "kept" if keep else "rounded", *accuracy]
    cells += [f"{(ours != theirs).sum()} of {len(ours)}", f"{sum(wide)} of {len(wide)}"]
    return f"| {' | '.join(cells)} |"


def main() -> None:
    """Print the table."""
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    columns = ("network", "file", "biases", "Brevitas", "here", "images that differ", "rows of wider weights")
    lines = [f"| {' | '.join(columns)} |", "|---" * len(columns) + "|"]
    for bits in NETWORKS:
        lines += [line(bits, form, True) for form in ("qonnx", "qcdq")]
        lines.append(line(bits, "qonnx", False))
    sys.stdout.write("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()

"""Networks beside the two runtimes that own ONNX's quantized forms: the second table of docs/reference/interchange.md.

    python benchmarks/onnx_equality.py [--data-dir DIR] [--images 8]

QDQ: what ONNX Runtime's static quantizer (INT8, scales per channel) makes of a float network is imported and run on the
integer model, beside ONNX Runtime: every layer on ONNX Runtime's own inputs, and the whole network.
QONNX: the imported network leaves as QONNX and runs on qonnx's executor, one image; its results beside the integers.
Integers: it leaves as integer arithmetic in ONNX and runs on ONNX Runtime and on qonnx.

Weights are MLPerf Tiny's where its models are there (ResNet-8, DS-CNN, autoencoder), else random.
"""

from __future__ import annotations

import argparse
import logging
import math
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from codesign.data.sources import data_folder
from codesign.interchange.onnx_integer import export_integer_onnx
from codesign.interchange.onnx_oracles import (
    as_codes,
    compare_with_onnxruntime,
    input_codes,
    quantize_with_onnxruntime,
    run_integers,
    run_with_onnxruntime,
    run_with_qonnx,
)
from codesign.interchange.onnx_qdq_export import export_quantized_onnx
from codesign.interchange.onnx_quantized import import_quantized_onnx
from codesign.interchange.tflite_float import import_float_tflite
from codesign.quant.module import build_module
from codesign.sim.functional import predict
from codesign.workload import Network, zoo

Case = tuple[str, Network, dict[str, torch.Tensor], NDArray[Any]]


def cases(folder: Path, count: int) -> Iterator[Case]:
    """(name, network, weights, images), residual and depthwise networks among them."""
    rng = np.random.default_rng(0)
    pixels = np.load(folder / "cifar10_small.npz")["x_test"][:count].transpose(0, 3, 1, 2).astype(np.float32)
    sound = np.load(folder / "mlperf_tiny_kws01.npz")
    codes = sound["x"][:count].transpose(0, 3, 1, 2).astype(np.float32)
    features = ((codes - sound["in_zero"]) * sound["in_scale"]).astype(np.float32)
    trained = {
        "ResNet-8": ("pretrainedResnet", pixels),
        "DS-CNN": ("kws_ref_model_float32", features),
        "autoencoder": ("ad01_fp32", 10 * rng.standard_normal((count, 640, 1, 1)).astype(np.float32)),
    }
    for name, (file, images) in trained.items():
        yield name, *import_float_tflite(folder / "mlperf_tiny_models" / f"{file}.tflite"), images
    for name, size in (("mobilenetv1_025", 96), ("mobilenetv2", 32), ("resnet18", 32)):
        network = zoo.get(name, size=size)
        images = pixels.repeat(3, axis=2).repeat(3, axis=3) if size == 96 else pixels
        yield f"{name} (random)", network, build_module(network, seed=0).state_dict(), images / 255


def row(case: Case, folder: Path) -> list[str]:
    """What the table says of one network."""
    name, network, state, images = case
    path = folder / "model.onnx"
    quantize_with_onnxruntime(network, state, images, path, per_channel=True)
    found = compare_with_onnxruntime(path, images)
    layers, result = found.layers.values(), found.result
    total = sum(item.total for item in layers)
    integers = import_quantized_onnx(path)
    codes = input_codes(integers, images)
    export_quantized_onnx(integers, folder / "real.onnx", "qonnx")
    theirs = as_codes(integers, run_with_qonnx(folder / "real.onnx", images[:1]))
    steps = np.abs(theirs.reshape(-1) - run_integers(integers, codes[:1]).reshape(-1))
    export_integer_onnx(integers, folder / "plain.onnx")
    export_integer_onnx(integers, folder / "quant.onnx", "qonnx")
    ours, floats = predict(integers, codes), codes.astype(np.float32)
    runtime = run_with_onnxruntime(folder / "plain.onnx", floats)[0]
    executor = run_with_qonnx(folder / "quant.onnx", floats[:1])
    return [
        name,
        f"{total:,}",
        f"{sum(item.within_one - item.equal for item in layers):,}",
        f"{total - sum(item.within_one for item in layers):,}",
        f"{result.equal:,} / {result.within_one:,} of {result.total:,}",
        f"{int((steps == 0).sum()):,} / {int((steps <= 1).sum()):,} of {steps.size:,}",
        f"{int((runtime == ours).sum()):,} of {ours.size:,}",
        f"{int((executor == ours[:1]).sum()):,} of {math.prod(ours.shape[1:]):,}",
    ]


def main() -> None:
    """Compare the networks and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-dir", type=Path, default=None)
    parser.add_argument("--images", type=int, default=8)
    options = parser.parse_args()
    logging.disable(logging.WARNING)
    torch.set_num_threads(1)
    table = Table(
        "network", "numbers of all layers", "differ by 1", "by more", "results equal / within 1",
        "QONNX equal / within 1", "integers, ONNX Runtime", "integers, qonnx",
    )  # fmt: skip
    for case in cases(data_folder(options.data_dir), options.images):
        with tempfile.TemporaryDirectory() as folder:
            table.add_row(*row(case, Path(folder)))
    Console(width=170).print(table)


if __name__ == "__main__":
    main()

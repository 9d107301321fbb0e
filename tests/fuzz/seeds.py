"""Good files to begin with, by kind: made here by the tools that users have, and those of the tests and of hw_configs.

Nothing outside the repository is needed; what lies in a data folder or beside the checkout is taken, too.
"""

from __future__ import annotations

import io
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parents[2]
MOST_BYTES = 200_000
"""Of a seed: mutating large files is slow, and finds nothing that small ones do not."""


def make_seeds(folder: Path, beside: bool = True) -> None:
    """Write all seeds below `folder`, one folder for each kind; what is there already stays.

    With `beside` those of the folder `shared` beside the checkout, too, if there is one.
    """
    logging.disable(logging.WARNING)  # ONNX Runtime's quantizer gives advice
    folder.mkdir(parents=True, exist_ok=True)
    for kind, make in _MAKERS.items():
        place = folder / kind
        if place.is_dir():
            continue
        fresh = folder / f".{kind}"
        fresh.mkdir(parents=True, exist_ok=True)
        make(fresh)
        if beside:
            _copied(fresh, _BESIDE.get(kind, ()), ROOT.parent / "shared")
        fresh.rename(place)
    logging.disable(logging.NOTSET)


def seeds_of(folder: Path, kind: str) -> list[Path]:
    """The seeds of a kind, sorted; files of its folder, or folders in it."""
    return sorted(folder.joinpath(kind).iterdir())


def _copied(place: Path, patterns: tuple[str, ...], base: Path = ROOT) -> None:
    for pattern in patterns:
        for path in sorted(base.glob(pattern)):
            if path.is_file() and path.stat().st_size <= MOST_BYTES:
                (place / path.name).write_bytes(path.read_bytes())


def _hardware(place: Path) -> None:
    _copied(place, ("hw_configs/*.yaml",))


def _search(place: Path) -> None:
    _copied(place, ("hw_configs/search/*.yaml",))


def _sweep(place: Path) -> None:
    _copied(place, ("hw_configs/sweep/*.yaml",))


def _amed(place: Path) -> None:
    _copied(place, ("hw_configs/amed/*.yaml",))


def _energy(place: Path) -> None:
    _copied(place, ("hw_configs/energy/*.yaml",))


def _small() -> list[Any]:
    from codesign.workload import zoo

    return [zoo.get("smallcnn", width=4), zoo.get("resnet8", size=8), zoo.get("autoencoder")]


def _float_onnx(place: Path) -> None:
    from codesign.interchange.onnx_float_export import export_float_onnx
    from tests.interchange.networks import random_state

    for network in _small():
        export_float_onnx(network, random_state(network), place / f"{network.name}.onnx")


def _qdq(place: Path) -> None:
    from tests.interchange.networks import images, quantized_by_onnxruntime

    work = place.parent / ".qdq-work"
    work.mkdir(exist_ok=True)
    for network in _small():
        for per_channel in (False, True):
            path = quantized_by_onnxruntime(network, work, images(network, 8), per_channel=per_channel)
            (place / f"{network.name}{per_channel}.onnx").write_bytes(path.read_bytes())
    _copied(place, ("tests/interchange/data/*qcdq*.onnx", "tests/interchange/data/pytorch_qat.onnx"))


def _qonnx(place: Path) -> None:
    _copied(place, ("tests/interchange/data/*qonnx*.onnx",))


def _tflite(place: Path) -> None:
    _copied(place, ("tests/interchange/data/*.tflite",))


def _pt2(place: Path) -> None:
    import torch

    from codesign.quant.module import build_module
    from codesign.workload import zoo

    for network in (zoo.get("smallcnn", width=4), zoo.get("resnet8", size=8)):
        source = network.shapes[network.input.name]
        program = torch.export.export(build_module(network, seed=1).eval(), (torch.zeros(1, *source),), strict=False)
        torch.export.save(program, place / f"{network.name}.pt2")


def _integer_networks() -> list[Any]:
    from codesign.formats.ratio import parse_ratio
    from codesign.integer.random_network import random_network

    ratio = parse_ratio("pot4:50,fixed4:40,fixed8:10")
    return [random_network(network, ratio, 4, seed=1) for network in _small()]


def _network(place: Path) -> None:
    from codesign.integer.storage import save_network

    for network in _integer_networks():
        save_network(network, place / f"{network.name}.codesign")


def _arrays(place: Path) -> None:
    """A folder for each: the .npz and its .json."""
    from codesign.interchange.description import export_arrays

    for network in _integer_networks():
        (place / network.name).mkdir()
        export_arrays(network, place / network.name / "net.npz")


def _integer_onnx(place: Path) -> None:
    from codesign.interchange.onnx_integer import export_integer_onnx

    for network in _integer_networks():
        for dialect in ("onnx", "qonnx"):
            export_integer_onnx(network, place / f"{network.name}_{dialect}.onnx", dialect)  # type: ignore[arg-type]


def _dataset(place: Path) -> None:
    rng = np.random.default_rng(0)
    pixels, labels = rng.integers(0, 256, (20, 5, 6), dtype=np.uint8), np.arange(20) % 2
    np.savez(place / "gray.npz", x=pixels, y=labels)
    np.savez_compressed(place / "colour.npz", x=rng.integers(0, 256, (20, 4, 4, 3), dtype=np.uint8), y=labels)
    real = rng.standard_normal((8, 2, 5, 6)).astype(np.float32)
    np.savez(place / "parts.npz", x_train=real, y_train=np.arange(8) % 4, x_test=real[:2], y_test=np.arange(2))


def _known_data(place: Path) -> None:
    """Folders that stand for a data folder, with small files of the known names."""
    rng = np.random.default_rng(0)
    for name in ("cifar10_small.npz", "fsdd_mfcc49x10.npz", "mlperf_tiny_kws01.npz", "cifar10_jpeg.tar.xz"):
        (place / name.partition(".")[0]).mkdir()
    labels = np.arange(6)
    images = rng.integers(0, 256, (6, 4, 3, 3), dtype=np.uint8)
    arrays = {"x_train": images, "y_train": labels, "x_test": images, "y_test": labels}
    np.savez(place / "cifar10_small" / "cifar10_small.npz", **arrays)  # type: ignore[arg-type]
    features = rng.standard_normal((12, 49, 10)).astype(np.float32)
    digits = np.arange(12) % 10
    np.savez(place / "fsdd_mfcc49x10" / "fsdd_mfcc49x10.npz", x=features, y=digits, index=digits)
    codes = rng.integers(-128, 128, (6, 49, 10, 1), dtype=np.int8)
    where = place / "mlperf_tiny_kws01" / "mlperf_tiny_kws01.npz"
    np.savez(where, x=codes, y=labels, in_scale=np.float32(0.5), in_zero=np.int64(3))
    import tarfile

    from PIL import Image

    with tarfile.open(place / "cifar10_jpeg" / "cifar10_jpeg.tar.xz", "w:xz") as tape:
        for part in ("train", "test"):
            for index in range(2):
                buffer = io.BytesIO()
                Image.fromarray(rng.integers(0, 256, (8, 8, 3), dtype=np.uint8)).save(buffer, "JPEG")
                info = tarfile.TarInfo(f"{part}/cat/{index:04d}.jpg")
                info.size = buffer.tell()
                buffer.seek(0)
                tape.addfile(info, buffer)


def _assignment(place: Path) -> None:
    from codesign.formats.assignment import Assignment
    from codesign.formats.ratio import parse_ratio
    from codesign.workload import zoo

    ratio = parse_ratio("pot4:50,fixed4:40,fixed8:10")
    text = Assignment.random(zoo.get("smallcnn"), ratio, 4, 0).to_json()
    (place / "mixed.json").write_text(text)
    text = Assignment.uniform(zoo.get("smallcnn"), next(iter(ratio)), 4).to_json()
    (place / "uniform.json").write_text(text)


def _topology(place: Path) -> None:
    from codesign.workload import zoo
    from codesign.workload.topology import topology_of, topology_text

    for network in (zoo.get("smallcnn"), zoo.get("mobilenetv1_025")):
        (place / f"{network.name}.csv").write_text(topology_text(topology_of(network)))
    (place / "gemm.csv").write_text("Layer, M, N, K,\nfirst, 1, 64, 128,\nsecond, 1, 10, 64,\n")
    (place / "products.csv").write_text("Layer, M, N, K,\nqk, 128, 128, 64,\nav, 128, 64, 128,\n")


CONFIG = """[general]
run_name = small

[architecture_presets]
ArrayHeight:    16
ArrayWidth:     8
IfmapSramSzkB:    64
FilterSramSzkB:   64
OfmapSramSzkB:    32
IfmapOffset:    0
Dataflow : ws
Bandwidth : 10

[run_presets]
InterfaceBandwidth: CALC
"""


def _config(place: Path) -> None:
    (place / "calc.cfg").write_text(CONFIG)
    (place / "user.cfg").write_text(CONFIG.replace("CALC", "USER").replace("ws", "os"))


def _images(place: Path) -> None:
    """Folders of pictures of two classes."""
    from PIL import Image

    rng = np.random.default_rng(0)
    pictures: dict[str, Callable[[], Any]] = {
        "rgb.png": lambda: rng.integers(0, 256, (4, 6, 3), dtype=np.uint8),
        "gray.bmp": lambda: rng.integers(0, 256, (4, 6), dtype=np.uint8),
        "deep.png": lambda: rng.integers(0, 65536, (4, 6), dtype=np.uint16),
        "photo.jpg": lambda: rng.integers(0, 256, (8, 8, 3), dtype=np.uint8),
        "old.gif": lambda: rng.integers(0, 256, (4, 6), dtype=np.uint8),
        "scan.tif": lambda: rng.integers(0, 256, (4, 6, 3), dtype=np.uint8),
        "web.webp": lambda: rng.integers(0, 256, (4, 6, 3), dtype=np.uint8),
        "plain.ppm": lambda: rng.integers(0, 256, (4, 6, 3), dtype=np.uint8),
    }
    for name, draw in pictures.items():
        for label in ("cat", "dog"):
            folder = place / name.partition(".")[0] / label
            folder.mkdir(parents=True)
            for index in range(5):
                Image.fromarray(draw()).save(folder / f"{index}.{name.rpartition('.')[2]}")


def _checkpoint(place: Path) -> None:
    from tests.fuzz.training import training_run

    run = training_run()
    run.save(place / "float.safetensors", [{"loss": 1.0}])


def _arguments(place: Path) -> None:
    (place / "none").mkdir()


_BESIDE = {
    "hardware": ("cases/hardware/*.yaml",),
    "sweep": ("cases/hardware/sw*.yaml",),
    "onnx": ("cases/import/[cf]_*.onnx", "cases/import/z_lenet_t.onnx", "cases/import/z_norm*.onnx"),
    "qdq": ("cases/import/q_*.onnx", "cases/import/o_*.onnx", "cases/import/z_preact*.onnx"),
    "qonnx": ("cases/import/b_*.onnx", "cases/import/trained_w2a2.onnx"),
    "tflite": ("cases/import/*.tflite", "data/mlperf_tiny_models/*.tflite"),
    "topology": ("cases/scalesim/*.csv", "cases/hardware/*.csv"),
}
"""Patterns of files beside the checkout."""

_MAKERS: dict[str, Callable[[Path], None]] = {
    "hardware": _hardware,
    "search": _search,
    "sweep": _sweep,
    "amed": _amed,
    "energy": _energy,
    "onnx": _float_onnx,
    "qdq": _qdq,
    "qonnx": _qonnx,
    "integer_onnx": _integer_onnx,
    "tflite": _tflite,
    "pt2": _pt2,
    "network": _network,
    "arrays": _arrays,
    "dataset": _dataset,
    "known_data": _known_data,
    "images": _images,
    "checkpoint": _checkpoint,
    "assignment": _assignment,
    "topology": _topology,
    "config": _config,
    "arguments": _arguments,
}
KINDS = tuple(_MAKERS)

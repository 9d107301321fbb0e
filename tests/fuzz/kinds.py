"""One case of each kind: a changed file, the reader or command that meets it, and what judges what was accepted."""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import socket
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from tests.fuzz import mutate
from tests.fuzz.case import Case, Judge, NoJudge, command
from tests.fuzz.seeds import seeds_of


def case_of(kind: str, number: int, seeds: Path, folder: Path) -> Case:
    """The case of a kind with a number: writes its files into `folder`, which is empty."""
    rng = random.Random(f"{kind}:{number}")
    found = seeds_of(seeds, kind)
    if not found:
        raise FileNotFoundError(kind)
    return _KINDS[kind](rng, found, folder)


def _pair(rng: random.Random, found: list[Path]) -> tuple[Path, bytes]:
    return rng.choice(found), rng.choice(found).read_bytes()


def _written(folder: Path, name: str, data: bytes, rng: random.Random) -> Path:
    """The file of a case; now and then something else lies in its place."""
    path = folder / name
    if rng.random() < 0.02:
        _no_file(path, rng)
    else:
        path.write_bytes(data)
    return path


def _no_file(path: Path, rng: random.Random) -> None:
    kind = rng.randrange(8)
    if kind == 0:
        os.mkfifo(path)
    elif kind == 1:
        path.mkdir()
    elif kind == 2:
        path.symlink_to(path)
    elif kind == 3:
        path.symlink_to(rng.choice(("/dev/zero", "/dev/urandom", "/dev/full", "/proc/self/environ")))
    elif kind == 4:
        with path.open("wb") as file:
            file.truncate(300 * 2**30)
    elif kind == 5:
        path.write_bytes(b"")
    elif kind == 6:
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as server:
            server.bind(str(path))


def _yaml(rng: random.Random, found: list[Path], folder: Path) -> tuple[Path, str]:
    path = rng.choice(found)
    return _written(folder, "x.yaml", mutate.as_yaml(rng, path.read_text()), rng), path.stem


def _hardware(rng: random.Random, found: list[Path], folder: Path) -> Case:
    path, _ = _yaml(rng, found, folder)
    if rng.random() < 0.5:
        return command("simulate", path, rng.choice(("smallcnn", "resnet8", "dscnn")))

    def read() -> Judge:
        from codesign.arch.load import load_hardware, parse_hardware

        hw = load_hardware(path)
        return lambda: None if parse_hardware(hw.to_yaml(), "again", hw.name) == hw else "another when read again"

    return Case(f"load_hardware({str(path)!r})", read)


def _search(rng: random.Random, found: list[Path], folder: Path) -> Case:
    path, _ = _yaml(rng, found, folder)

    def read() -> None:
        from codesign.search.space import load_space, zoo_network

        space = load_space(path)
        space.hardware()
        zoo_network(space.network)

    return Case(f"load_space({str(path)!r}).hardware()", read)


def _sweep(rng: random.Random, found: list[Path], folder: Path) -> Case:
    path, _ = _yaml(rng, found, folder)

    def read() -> None:
        from codesign.search.sweep_space import load_sweep_space

        load_sweep_space(path).variants()

    return Case(f"load_sweep_space({str(path)!r}).variants()", read)


def _amed(rng: random.Random, found: list[Path], folder: Path) -> Case:
    path, _ = _yaml(rng, found, folder)
    return command("amed", "latency", "resnet18", "--bits", "8", "--on", path)


def _energy(rng: random.Random, found: list[Path], folder: Path) -> Case:
    path, _ = _yaml(rng, found, folder)
    return command("simulate", "tiny", "smallcnn", "--energy", path)


def _onnx(rng: random.Random, found: list[Path], folder: Path) -> Case:
    from tests.fuzz.judges import judge_float
    from tests.fuzz.mutate_onnx import as_onnx

    source, other = _pair(rng, found)
    path = _written(folder, "x.onnx", as_onnx(rng, source.read_bytes(), other), rng)

    def read() -> Judge:
        from codesign.interchange.load import import_float

        network, state = import_float(path)
        return lambda: judge_float(path, network, state)

    return Case(f"codesign simulate tiny {str(path)!r} (import_float)", read)


def _quantized(rng: random.Random, found: list[Path], folder: Path, judge: Callable[..., str | None]) -> Case:
    from tests.fuzz.mutate_onnx import as_onnx

    source, other = _pair(rng, found)
    path = _written(folder, "x.onnx", as_onnx(rng, source.read_bytes(), other), rng)
    return _integers(path, judge)


def _integers(path: Path, judge: Callable[..., str | None]) -> Case:
    def read() -> Judge:
        from codesign.interchange.load import import_integer

        network = import_integer(path)
        return lambda: judge(path, network)

    return Case(f"codesign import {str(path)!r} -o net.codesign (import_integer)", read)


def _qdq(rng: random.Random, found: list[Path], folder: Path) -> Case:
    from tests.fuzz.judges import judge_qdq

    return _quantized(rng, found, folder, judge_qdq)


def _qonnx(rng: random.Random, found: list[Path], folder: Path) -> Case:
    from tests.fuzz.judges import judge_qonnx

    return _quantized(rng, found, folder, judge_qonnx)


def _integer_onnx(rng: random.Random, found: list[Path], folder: Path) -> Case:
    from tests.fuzz.judges import judge_integer_onnx

    return _quantized(rng, found, folder, judge_integer_onnx)


def _tflite(rng: random.Random, found: list[Path], folder: Path) -> Case:
    from tests.fuzz.judges import judge_tflite

    source, other = _pair(rng, found)
    path = _written(folder, "x.tflite", mutate.octets(rng, source.read_bytes(), other), rng)

    def read() -> Judge:
        from codesign.interchange.load import import_float, import_integer, is_float

        network = import_float(path) if is_float(path) else import_integer(path)
        return lambda: judge_tflite(path, network)

    return Case(f"codesign simulate tiny {str(path)!r} (import_float or import_integer)", read)


def _pt2(rng: random.Random, found: list[Path], folder: Path) -> Case:
    from tests.fuzz.judges import judge_pt2

    source, other = _pair(rng, found)
    path = _written(folder, "x.pt2", mutate.as_zip(rng, source.read_bytes(), other), rng)

    def read() -> Judge:
        from codesign.interchange.load import import_float

        network, state = import_float(path)
        return lambda: judge_pt2(path, network, state)

    return Case(f"codesign simulate tiny {str(path)!r} (import_float)", read)


def _network(rng: random.Random, found: list[Path], folder: Path) -> Case:
    from tests.fuzz.judges import judge_saved

    source, other = _pair(rng, found)
    path = _written(folder, "x.codesign", mutate.as_zip(rng, source.read_bytes(), other), rng)
    if rng.random() < 0.3:
        return command("simulate", "tiny", path)
    return _integers(path, judge_saved)


def _arrays(rng: random.Random, found: list[Path], folder: Path) -> Case:
    from tests.fuzz.judges import judge_saved

    source = rng.choice(found)
    npz, text = (source / "net.npz").read_bytes(), (source / "net.json").read_text()
    changed = rng.random() < 0.5
    path = _written(folder, "net.npz", mutate.as_zip(rng, npz) if changed else npz, rng)
    _written(folder, "net.json", text.encode() if changed else mutate.as_json(rng, text), rng)
    return _integers(path, judge_saved)


def _data(arguments: tuple[Any, ...]) -> Case:
    def read() -> Judge:
        from codesign.data.sources import load_dataset

        found = load_dataset(*arguments)

        def judge() -> str | None:
            for images, labels in ((found.train_images, found.train_labels), (found.test_images, found.test_labels)):
                if images.dtype != np.float32 or len(images) != len(labels) or not np.isfinite(images).all():
                    return f"images {images.dtype} {images.shape}, labels {labels.shape}"
                if labels.size and not 0 <= labels.min() <= labels.max() < found.classes:
                    return f"labels {labels.min()} to {labels.max()} of {found.classes} classes"
            raise NoJudge

        return judge

    return Case(f"load_dataset{arguments!r}", read)


def _dataset(rng: random.Random, found: list[Path], folder: Path) -> Case:
    path = _written(folder, "x.npz", mutate.as_zip(rng, rng.choice(found).read_bytes()), rng)
    return _data((str(path),))


def _known_data(rng: random.Random, found: list[Path], folder: Path) -> Case:
    source = rng.choice(found)
    (original,) = source.iterdir()
    data = original.read_bytes()
    _written(
        folder, original.name, mutate.octets(rng, data) if original.suffix == ".xz" else mutate.as_zip(rng, data), rng
    )
    os.environ["XDG_CACHE_HOME"] = str(folder / "cache")
    names = {"cifar10_small.npz": "cifar10_small", "fsdd_mfcc49x10.npz": "fsdd", "mlperf_tiny_kws01.npz": "kws01"}
    return _data((names.get(original.name, "cifar10"), str(folder)))


def _images(rng: random.Random, found: list[Path], folder: Path) -> Case:
    source = rng.choice(found)
    shutil.copytree(source, folder / "set")
    files = sorted(path for path in (folder / "set").rglob("*") if path.is_file())
    other = rng.choice(files).read_bytes()
    for path in rng.sample(files, rng.choice((1, 1, 2))):
        kind = rng.randrange(8)
        if kind == 0:
            path.unlink()
            _no_file(path, rng)
        elif kind == 1:
            path.write_bytes(_png(rng))
        elif kind == 2:
            from PIL import Image

            with contextlib.suppress(Exception):
                mode = rng.choice(("1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "I", "F", "I;16", "YCbCr"))
                Image.new(mode, rng.choice(((6, 4), (1, 1), (4000, 3)))).save(path)
        elif kind == 3:
            path.rename(path.with_suffix(rng.choice((".png", ".tif", ".ppm", ".webp", ".bmp", ".gif", ".jpg"))))
        else:
            path.write_bytes(mutate.octets(rng, path.read_bytes(), other))
    return _data((str(folder / "set"),))


def _png(rng: random.Random) -> bytes:
    """A picture of any size and depth, with little in it."""
    import zlib

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    width, height = rng.choice(((6, 4), (50_000, 50_000), (2**31 - 1, 1), (0, 0), (12_000, 12_000), (4096, 4096)))
    header = struct.pack(">IIBBBBB", width, height, rng.choice((1, 8, 16, 32)), rng.choice((0, 2, 3, 4, 6)), 0, 0, 0)
    text = zlib.compress(bytes(rng.choice((10, 20_000_000))))
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + (chunk(b"zTXt", b"Comment\0\0" + text) if rng.random() < 0.3 else b"")
        + chunk(b"IDAT", zlib.compress(bytes(rng.choice((28, 100, 30_000_000)))))
        + chunk(b"IEND", b"")
    )


def _checkpoint(rng: random.Random, found: list[Path], folder: Path) -> Case:
    import json

    data = rng.choice(found).read_bytes()
    length = int.from_bytes(data[:8], "little")
    kind = rng.randrange(4)
    if kind == 0:
        data = mutate.octets(rng, data)
    else:
        header = json.loads(data[8 : 8 + length])
        if kind == 1:
            facts = json.loads(header["__metadata__"]["codesign"])
            header["__metadata__"]["codesign"] = json.dumps(mutate.structure(rng, facts))
        else:
            header = mutate.structure(rng, header)
        text = json.dumps(header).encode()
        data = (len(text) if rng.random() < 0.9 else 2**62).to_bytes(8, "little") + text + data[8 + length :]
    path = _written(folder, "x.safetensors", data, rng)

    def read() -> None:
        from tests.fuzz.training import training_run

        training_run().restore(path)

    return Case(f"codesign quantize, continued from {str(path)!r} (Run.restore)", read)


def _assignment(rng: random.Random, found: list[Path], folder: Path) -> Case:
    data = mutate.as_json(rng, rng.choice(found).read_text())
    if rng.random() < 0.05:
        rows = ",".join(['"999999*pot4"'] * 3000)
        data = f'{{"format": "codesign assignment", "act_bits": 4, "layers": {{"conv1": [{rows}]}}}}'.encode()
    path = _written(folder, "x.json", data, rng)
    if rng.random() < 0.5:
        return command("simulate", "tiny", "smallcnn", "--assignment", path)

    def read() -> Judge:
        from codesign.api.networks import read_assignment
        from codesign.formats.assignment import Assignment

        value = read_assignment(path)
        return lambda: None if Assignment.from_json(value.to_json()) == value else "another when read again"

    return Case(f"codesign simulate tiny smallcnn --assignment {str(path)!r} (Assignment.from_json)", read)


def _topology(rng: random.Random, found: list[Path], folder: Path) -> Case:
    path = _written(folder, "x.csv", mutate.encoded(rng, mutate.text(rng, rng.choice(found).read_text())), rng)
    if rng.random() < 0.6:
        return command("simulate", "--ideal", "32x32", "--dataflow", rng.choice(("os", "ws", "is")), path)
    return command("simulate", rng.choice(("tiny", "xc7z020")), path)


def _config(rng: random.Random, found: list[Path], folder: Path) -> Case:
    path = _written(folder, "x.cfg", mutate.encoded(rng, mutate.text(rng, rng.choice(found).read_text())), rng)
    return command("simulate", "--config", path, "smallcnn")


COMMANDS: tuple[tuple[str, ...], ...] = (
    ("simulate", "tiny", "smallcnn"),
    ("simulate", "tiny", "smallcnn:width=4", "--batch", "2"),
    ("simulate", "xc7z020", "resnet8", "--bits", "4/4", "--seed", "1"),
    ("simulate", "tiny", "smallcnn", "--ratio", "pot4:60,fixed4:40"),
    ("simulate", "tiny", "smallcnn", "--predict"),
    ("simulate", "--ideal", "32x32", "--dataflow", "os", "resnet8"),
    ("simulate", "--ideal", "16x8", "--dataflow", "ws", "smallcnn", "--clock", "200", "--corrected"),
    ("simulate", "xc7z020", "bert_tiny:sequence=16"),
    ("amed", "latency", "resnet18", "--bits", "8", "--on", "scale_sim"),
    ("amed", "table", "resnet18"),
    ("evaluate", "none.codesign", "--data", "digits"),
    ("import", "none.onnx", "-o", "net.codesign"),
    ("export", "none.codesign", "--to", "qdq", "-o", "out.onnx"),
    ("compile", "tiny", "none.codesign", "-o", "folder"),
    ("report", "none"),
    ("--version",),
)


def _arguments(rng: random.Random, found: list[Path], folder: Path) -> Case:
    arguments = list(rng.choice(COMMANDS))
    for _ in range(rng.choice((1, 1, 2, 3))):
        kind = rng.randrange(6)
        at = rng.randrange(len(arguments))
        value = (
            str(rng.choice((*mutate.TOKENS, *mutate.NUMBERS, *mutate.TEXTS))).replace("\0", "").replace("\ufeff", "")
        )
        if kind <= 2:
            arguments[at] = value
        elif kind == 3:
            options = (
                "--seed",
                "--batch",
                "--bits",
                "--ratio",
                "--ideal",
                "--clock",
                "--energy",
                "--json",
                "--nothing",
            )
            arguments += [rng.choice(options), value]
        elif kind == 4 and len(arguments) > 1:
            del arguments[at]
        elif "=" in arguments[at] or ":" in arguments[at]:
            arguments[at] = mutate.text(rng, arguments[at]).replace("\0", "")
        else:
            arguments[at] = arguments[at] + rng.choice(
                (":size=99999999999", ":size=0", ":width=-1", ":a=b", "/", ":size=100000")
            )
    slow = {"synth", "cosim", "verify", "demo", "doctor", "sweep", "search", "quantize", "generate"} & set(
        arguments[:1]
    )
    if slow or "--resources" in arguments:
        arguments = ["simulate", *arguments]
    return command(*arguments)


_KINDS: dict[str, Callable[[random.Random, list[Path], Path], Case]] = {
    "hardware": _hardware,
    "search": _search,
    "sweep": _sweep,
    "amed": _amed,
    "energy": _energy,
    "onnx": _onnx,
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

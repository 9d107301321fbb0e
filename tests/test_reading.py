"""Files are believed only so far: what is no file, too large, or unfolds to too much, is refused in one line."""

from __future__ import annotations

import io
import os
import resource
import socket
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from codesign._reading import MOST_YAML, Archive, archive, parse_json, parse_npy, read_bytes, read_text
from codesign._yaml import load_yaml
from codesign.api.networks import read_network
from codesign.arch.load import load_hardware
from codesign.data.images import read_image
from codesign.data.sources import load_dataset
from codesign.errors import UserError
from codesign.formats.assignment import Assignment
from codesign.workload import zoo
from codesign.workload.layers import Conv, Flatten, Input, Linear
from codesign.workload.network import Network
from codesign.workload.topology import CONV_HEADER, GEMM_HEADER, parse_topology

BOMB = (
    "columns: &a [&b [&c [&d [&e [&f [&g [&h [x,x,x,x,x,x,x,x,x],*h,*h,*h,*h,*h,*h,*h,*h,],*g,*g,*g,*g,*g,*g,*g,*g,],"
    "*f,*f,*f,*f,*f,*f,*f,*f,],*e,*e,*e,*e,*e,*e,*e,*e,],*d,*d,*d,*d,*d,*d,*d,*d,],*c,*c,*c,*c,*c,*c,*c,*c,],"
    "*b,*b,*b,*b,*b,*b,*b,*b,]"
)


def message(read: Callable[[], Any]) -> str:
    with pytest.raises(UserError) as caught:
        read()
    text = str(caught.value)
    assert "\n" not in text and len(text) < 1000
    return text


def no_files(folder: Path) -> dict[str, Path]:
    """What stands where a file should."""
    os.mkfifo(folder / "fifo")
    (folder / "folder").mkdir()
    (folder / "loop").symlink_to(folder / "loop")
    (folder / "device").symlink_to("/dev/zero")
    with (folder / "sparse").open("wb") as file:
        file.truncate(2**40)
    (folder / "empty").write_bytes(b"")
    with socket.socket(socket.AF_UNIX) as server:
        before = Path.cwd()
        os.chdir(folder)  # the address of a socket is short
        server.bind("socket")
        os.chdir(before)
    return {path.name: path for path in folder.iterdir()} | {"long": folder / ("x" * 5000), "missing": folder / "none"}


READERS: dict[str, Callable[[Path], Any]] = {
    "yaml": load_hardware,
    "csv": lambda path: read_network(str(path)),
    "onnx": lambda path: read_network(str(path)),
    "tflite": lambda path: read_network(str(path)),
    "pt2": lambda path: read_network(str(path)),
    "codesign": lambda path: read_network(str(path)),
    "npz": lambda path: load_dataset(str(path)),
}


@pytest.mark.parametrize("suffix", READERS)
def test_no_reader_waits_for_what_is_no_file(suffix: str, tmp_path: Path) -> None:
    (tmp_path / "things").mkdir()
    for name, path in no_files(tmp_path / "things").items():
        place = path.with_name(f"{path.name}.{suffix}")
        if name not in ("long", "missing"):
            path.rename(place)
        if suffix == "npz" and name == "folder":
            continue  # is one of images
        text = message(lambda place=place: READERS[suffix](place))
        assert name in ("empty", "long") or f"{place}: " in text, text


def test_kinds_of_things_are_named(tmp_path: Path) -> None:
    found = no_files(tmp_path)
    for name, said in {
        "fifo": "is a FIFO, must be a file",
        "folder": "is a folder, must be a file",
        "device": "is a device, must be a file",
        "socket": "is a socket, must be a file",
        "sparse": "has 1,099,511,627,776 bytes, must have at most 1,000",
        "missing": "no such file",
    }.items():
        assert message(lambda name=name: read_bytes(found[name], 1000)) == f"{found[name]}: {said}"
    assert "over 10 bytes" in message(lambda: read_bytes("/proc/self/status", 10))


@pytest.mark.parametrize("data", ["a: 1".encode("utf-16"), b"a: \xff", b"a: \0"])
def test_other_encodings(data: bytes, tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(data)
    assert "x: not YAML: not a text file" in message(lambda: read_text(tmp_path / "x", MOST_YAML, "YAML"))
    (tmp_path / "x").write_bytes("a: é".encode("utf-8-sig"))
    assert read_text(tmp_path / "x", MOST_YAML, "YAML") == "a: é"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (BOMB, "more than 20,000 values"),
        ("a: &x [*x]", "stands for what it is part of"),
        ("a: &x {b: [1, *x]}", "stands for what it is part of"),
        ("a: " + "[" * 100_000, "within each other"),
        ("a: " + "{b: " * 1000, "within each other"),
        ("- " * 1000, "within each other"),
        ("a: [" + "1," * 30_000 + "]", "more than 20,000 values"),
        ("a: !!int x", "tag"),
        ("a: !!set x", "tag"),
        ("a: !!timestamp 2001-13-45", "tag"),
        ("a: !!python/object/apply:os.system ['true']", "tag"),
        ("<<: {a: 1}", "merges keys"),
        ("a: 1\na: 2", "given twice"),
        ("? [1]\n: 2", "a key must be a text"),
        ("a: " + "9" * 5000, "a number of 5,000 digits"),
        ("a: 0x" + "f" * 5000, "digits"),
        ("a: 0x_", "is no number"),
        ("a: 1:30", "is no number"),
    ],
)
def test_yaml_that_is_refused(text: str, said: str) -> None:
    with pytest.raises(ValueError, match="not YAML: ") as caught:
        load_yaml(text)
    assert said in str(caught.value) and "\n" not in str(caught.value) and len(str(caught.value)) < 300


def test_plain_yaml_is_read() -> None:
    assert load_yaml("a: &x [1, 2.5, text, null, true]\nb: *x\nc: 2001-13-45\nd: '1'") == {
        "a": [1, 2.5, "text", None, True],
        "b": [1, 2.5, "text", None, True],
        "c": "2001-13-45",
        "d": "1",
    }
    assert load_yaml("") is None


@pytest.mark.parametrize("text", ["[" * 100_000, '{"a": 1, "a": 2}', "NaN", "[1, Infinity]", "9" * 5000, "{"])
def test_json_that_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="."):
        parse_json(text)


def npy(header: bytes, data: bytes = b"") -> bytes:
    return b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header + data


@pytest.mark.parametrize(
    "data",
    [
        npy(b"(" * 9000 + b"\n"),
        npy(b"{'descr': '<f8', 'fortran_order': False, 'shape': (99999999999,), }\n"),
        npy(b"{'descr': '<f8', 'fortran_order': False, 'shape': (0, 99999999999999999999999), }\n"),
        npy(b"{'descr': '<f8', 'fortran_order': False, 'shape': (-1,), }\n", bytes(8)),
        npy(b"{'descr': '|O', 'fortran_order': False, 'shape': (), }\n", bytes(8)),
        npy(b"{'descr': '<U4', 'fortran_order': False, 'shape': (), }\n", bytes(16)),
        npy(b"{'descr': [('a', '<i4')], 'fortran_order': False, 'shape': (), }\n", bytes(4)),
        npy(b"{'descr': '<f8', 'fortran_order': False, 'shape': (2,), }\n", bytes(17)),
        b"\x93NUMPY\x09\x00",
        b"",
    ],
)
def test_arrays_that_are_refused(data: bytes) -> None:
    with pytest.raises(ValueError, match="."):
        parse_npy(data)


def test_arrays_are_numpys() -> None:
    swapped = np.arange(6, dtype=">i4").reshape(2, 3)
    for values in (swapped, np.asfortranarray(np.eye(3)), np.array(3), np.zeros((0, 4))):
        buffer = io.BytesIO()
        np.save(buffer, values)
        found = parse_npy(buffer.getvalue())
        assert np.array_equal(found, values) and found.dtype == values.dtype.newbyteorder("=")
        assert found.flags.writeable


def zipped(members: dict[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as file:
        for name, data in members.items():
            file.writestr(name, data)
    return buffer.getvalue()


def test_archives_unfold_to_a_bounded_size() -> None:
    bomb = zipped({"x.npy": bytes(10_000_000)})
    assert len(bomb) < 20_000
    with pytest.raises(ValueError, match="unfolds to 10,000,000 bytes"):
        Archive(io.BytesIO(bomb), 1_000_000)
    # Its directory and its header say that it is small.
    lie = bomb.replace((10_000_000).to_bytes(4, "little"), (1000).to_bytes(4, "little"))
    with pytest.raises(ValueError, match="damaged"):
        Archive(io.BytesIO(lie), 1_000_000).read("x.npy")
    with pytest.raises(ValueError, match="compressed by method 14"):
        Archive(io.BytesIO(zipped({"x": b"1"}, zipfile.ZIP_LZMA)), 1000).read("x")
    with pytest.raises(ValueError, match="no complete zip"):
        Archive(io.BytesIO(bomb[:-10]), 10**9)


def test_archives_of_the_command_line_name_the_file(tmp_path: Path) -> None:
    (tmp_path / "x.npz").write_bytes(zipped({"y.npy": b""}))
    with pytest.raises(UserError, match=r"x\.npz: damaged, or not a set \(without 'x\.npy'\)"):
        with archive(tmp_path / "x.npz", 10**6, "a set") as found:
            found.array("x")


@pytest.mark.parametrize(
    "rows",
    [
        ",".join(['"999999*pot4"'] * 3000),
        '"999999999*pot4"',
        ",".join(['"262144*pot4"'] * 2),
        '"1e9*pot4"',
        "3",
        '{"a": 1}',
    ],
)
def test_assignments_are_bounded(rows: str) -> None:
    text = f'{{"format": "codesign assignment", "act_bits": 4, "layers": {{"conv1": [{rows}]}}}}'
    assert "layer 'conv1'" in message(lambda: Assignment.from_json(text))
    many = ",".join(f'"l{index}": ["262144*pot4"]' for index in range(17))
    text = f'{{"format": "codesign assignment", "act_bits": 4, "layers": {{{many}}}}}'
    assert "more than 4,194,304 rows" in message(lambda: Assignment.from_json(text))


@pytest.mark.parametrize(
    ("header", "line", "said"),
    [
        (CONV_HEADER, "a,1000000000,1000000000,1000000000,1000000000,1000000000,1000000000,1,", "IFMAP Height"),
        (CONV_HEADER, "a,100000,100000,3,3,3,64,1,", "a map of 100,000x100,000x3"),
        (CONV_HEADER, "a,8,8,3,3,3,500000,1,", "500,000 filters, must be at most 262,144"),
        (CONV_HEADER, "DP,8,8,3,3,200000000,1,1,", "a map of"),
        (GEMM_HEADER, "a,100,100000,100000,", "10,000,000,000 weights"),
        (GEMM_HEADER, "a,-1,1,1,", "'-1' given"),
        (GEMM_HEADER, "a,nan,1,1,", "'nan' given"),
        (GEMM_HEADER, "a,1e3,1,1,", "'1e3' given"),
        (GEMM_HEADER, "a,٣,1,1,", "given, must be a whole number"),
        (GEMM_HEADER, "a," + "9" * 5000 + ",1,1,", "given, must be a whole number"),
        (GEMM_HEADER, "a,1,1,1,\n" * 10_001, "10,001 layers"),
        (GEMM_HEADER, "x" * 100_000, "is missing"),
    ],
)
def test_topologies_are_bounded(header: str, line: str, said: str) -> None:
    text = message(lambda: parse_topology(f"{header}\n{line}\n", "net.csv", "net"))
    assert text.startswith("net.csv: ") and said in text


def test_networks_are_bounded_and_real_ones_are_not_refused() -> None:
    source = Input("input", (), 3, 224, 224)
    for layers, said in (
        ((Input("input", (), 3, 100_000, 100_000),), "a map of 3x100,000x100,000"),
        ((source, Conv("c", ("input",), 10**6, (224, 224))), "1,000,000 filters"),
        ((source, Conv("c", ("input",), 4096, (224, 224))), "weights"),
        ((source, Flatten("f", ("input",)), Linear("l", ("f",), 10**5)), "weights"),
    ):
        assert said in message(lambda layers=layers: Network("net", layers))
    wide: list[Any] = [Input("input", (), 4096, 1, 1), Flatten("f", ("input",))]
    wide += [Linear(f"l{index}", (wide[-1].name if index == 0 else f"l{index - 1}",), 4096) for index in range(40)]
    assert Network("wide", tuple(wide)).parameters > 600_000_000
    assert zoo.get("resnet50").macs > 4 * 10**9
    assert parse_topology(f"{GEMM_HEADER}\nvocabulary,1,250002,1024,\n", "x", "x").macs == 250002 * 1024


def png(width: int, height: int, depth: int, colour: int, raw: bytes) -> bytes:
    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(raw)) + chunk(b"IEND", b"")


DEEP = np.array([[0, 300, 40_000, 65_535]], dtype=np.uint16)


@pytest.mark.parametrize("form", ["png", "tif", "little.tif", "pgm", "plain.pgm"])
def test_sixteen_bits_keep_their_values(form: str, tmp_path: Path) -> None:
    path = tmp_path / f"x.{form}"
    if form == "png":
        path.write_bytes(png(4, 1, 16, 0, b"\0" + DEEP.astype(">u2").tobytes()))
    elif form == "pgm":
        path.write_bytes(b"P5 4 1 65535\n" + DEEP.astype(">u2").tobytes())
    elif form == "plain.pgm":
        path.write_bytes(b"P2 4 1 65535\n0 300 40000 65535\n")
    else:
        Image.fromarray(DEEP if form == "little.tif" else DEEP.astype(">u2")).save(path)
    found = read_image(path)
    assert found.shape == (1, 1, 4) and np.array_equal(np.rint(found * 65535), DEEP[None])


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (png(1, 1, 16, 2, bytes(7)), "16 bits"),
        (png(1, 1, 16, 6, bytes(9)), "16 bits"),
        (b"P6 1 1 65535\n" + bytes(6), "16 bits"),
        (png(50_000, 50_000, 8, 0, bytes(10)), "damaged"),
        (png(12_000, 12_000, 1, 0, bytes(10)), "must be at most 16,777,216"),
        (png(1, 1, 8, 6, b"\0\1\2\3\4"), "transparent"),
        (png(1, 1, 8, 4, b"\0\1\2"), "transparent"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 1 1\n", "not an image"),
    ],
)
def test_pictures_that_would_lose_something_are_refused(data: bytes, said: str, tmp_path: Path) -> None:
    (tmp_path / "x.png").write_bytes(data)
    assert said in message(lambda: read_image(tmp_path / "x.png"))


def test_opaque_alpha_and_palettes_are_colours(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (3, 4, 3), dtype=np.uint8)
    image = Image.fromarray(pixels)
    image.convert("RGBA").save(tmp_path / "alpha.png")
    image.quantize(256).save(tmp_path / "palette.png")
    for name in ("alpha.png", "palette.png"):
        found = np.rint(read_image(tmp_path / name) * 255)
        assert np.array_equal(found, np.asarray(Image.open(tmp_path / name).convert("RGB")).transpose(2, 0, 1))
    frames = [Image.fromarray(pixels), Image.fromarray(255 - pixels)]
    frames[0].save(tmp_path / "two.gif", save_all=True, append_images=frames[1:])
    assert "several pictures" in message(lambda: read_image(tmp_path / "two.gif"))


def test_a_folder_with_a_fifo_does_not_wait(tmp_path: Path) -> None:
    for name in ("cat", "dog"):
        (tmp_path / name).mkdir()
        Image.fromarray(np.zeros((4, 4), dtype=np.uint8)).save(tmp_path / name / "0.png")
    os.mkfifo(tmp_path / "cat" / "1.png")
    assert "1.png: is a FIFO" in message(lambda: load_dataset(str(tmp_path)))


@pytest.mark.parametrize(
    ("arrays", "said"),
    [
        ({"x": np.zeros((4, 2, 2), np.uint8), "y": np.array([0, 1, 0, 2**62])}, "below 65,536"),
        ({"x": np.zeros((4, 2, 2), np.uint8), "y": np.array([0, 1, 0, 2**63], dtype=np.uint64)}, "below 65,536"),
        ({"x": np.uint8(3), "y": np.array([0])}, "must be uint8"),
        ({"x": np.zeros((2, 2, 2), np.uint8), "y": np.int64(1)}, "one for each image"),
        ({"x": np.zeros((5, 0, 2), np.uint8), "y": np.zeros(5, np.int64)}, "is empty"),
        ({"x": np.array([None, {}], dtype=object), "y": np.array([0, 1])}, "plain numbers"),
        ({"x": np.full((5, 1, 2, 2), 1e300), "y": np.zeros(5, np.int64)}, "NaN or infinite"),
    ],
)
def test_data_sets_that_are_none(arrays: dict[str, Any], said: str, tmp_path: Path) -> None:
    np.savez(tmp_path / "x.npz", **arrays)
    assert said in message(lambda: load_dataset(str(tmp_path / "x.npz")))


def test_a_data_set_that_unfolds_to_gigabytes_takes_no_memory(tmp_path: Path) -> None:
    header = b"{'descr': '|u1', 'fortran_order': False, 'shape': (2000000000,), }\n"
    with zipfile.ZipFile(tmp_path / "x.npz", "w", zipfile.ZIP_DEFLATED) as file, file.open("x.npy", "w") as member:
        member.write(npy(header))
        for _ in range(100):
            member.write(bytes(10_000_000))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert "unfolds to 1,000,00" in message(lambda: load_dataset(str(tmp_path / "x.npz")))
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200_000


def test_a_tape_that_unfolds_to_gigabytes_ends(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "cifar10_jpeg.tar.xz", "w:xz") as tape:
        info = tarfile.TarInfo("train/cat/0000.jpg")
        info.size = 40_000_000
        tape.addfile(info, io.BytesIO(bytes(info.size)))
    assert "unfolds to more" in message(lambda: load_dataset("cifar10", tmp_path))

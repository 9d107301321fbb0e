"""Kits: what is in them works without codesign, and finds what differs."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnxruntime
import pytest

import codesign
from codesign._new_folder import new_folder
from codesign.api.networks import integer_network
from codesign.arch.load import load_hardware
from codesign.errors import UserError
from codesign.integer.network import IntegerNetwork
from codesign.integer.storage import load_network, save_network
from codesign.sim import functional
from codesign.sim.cosim import verilator
from tests.conftest import Run, needs_icarus

NETWORK = "smallcnn:size=8,width=4"
BARE = {"PATH": os.defpath}
"""An environment without Python's path, or anything of this one."""


@pytest.fixture(scope="module")
def network() -> IntegerNetwork:
    return integer_network(NETWORK, load_hardware("tiny"))


@pytest.fixture(scope="module")
def kit(network: IntegerNetwork, tmp_path_factory: pytest.TempPathFactory) -> codesign.Kit:
    return codesign.export_kit(network, "tiny", tmp_path_factory.mktemp("kit") / "new" / "kit", data="digits", images=3)


def made(folder: Path, target: str, environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    command = ["make", "-C", str(folder / "simulation"), target]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


@needs_icarus
def test_the_bench_passes_in_icarus_and_finds_a_wrong_value_and_a_wrong_cycle(
    kit: codesign.Kit, tmp_path: Path
) -> None:
    folder = shutil.copytree(kit.folder, tmp_path / "elsewhere")
    ran = made(folder, "icarus", BARE)
    assert ran.returncode == 0, ran.stderr
    cycles = codesign.simulate("tiny", folder / "model" / "network.codesign").timing.total_cycles
    assert f"PASS: 3 images, 10 words of results and {cycles} cycles each" in ran.stdout

    results = folder / "simulation" / "results.hex"
    text = results.read_text()
    results.write_text(text[:-2] + ("0" if text[-2] != "0" else "1") + "\n")  # the last word of the last image
    ran = made(folder, "icarus", BARE)
    assert ran.returncode != 0 and "image 2, word 9 is" in ran.stdout and "PASS" not in ran.stdout
    results.write_text(text)
    bench = folder / "simulation" / "bench.sv"
    bench.write_text(bench.read_text().replace(f"CYCLES = {cycles}", f"CYCLES = {cycles + 1}"))
    ran = made(folder, "icarus", BARE)
    assert ran.returncode != 0 and f"image 0 took {cycles} cycles, must take {cycles + 1}" in ran.stdout


@needs_icarus
def test_a_kit_has_the_models_of_primitives_that_its_bench_needs(network: IntegerNetwork, tmp_path: Path) -> None:
    hw = load_hardware("tiny").model_copy(update={"device": "xck26"})
    kit = codesign.export_kit(network, hw, tmp_path / "kit", images=1)
    assert "module DSP48E2 " in (kit.folder / "accelerator" / "DSP48E2.v").read_text()
    assert "module DSP48E2 " not in (kit.folder / "accelerator" / "codesign_top.v").read_text()
    ran = made(kit.folder, "icarus", BARE)
    assert ran.returncode == 0 and "PASS: 1 images" in ran.stdout, ran.stderr


@pytest.mark.slow
def test_the_bench_passes_in_verilator(kit: codesign.Kit, tmp_path: Path) -> None:
    folder = shutil.copytree(kit.folder, tmp_path / "kit")
    found = verilator.environment()
    environment = {name: found[name] for name in ("PATH", "VERILATOR_ROOT", "MAKEFLAGS")}
    ran = made(folder, "verilator", environment)
    assert ran.returncode == 0, ran.stderr
    assert "PASS: 3 images" in ran.stdout


def test_its_files_are_as_the_manifest_says(kit: codesign.Kit) -> None:
    manifest = json.loads((kit.folder / "kit.json").read_text())
    listed = {item["name"]: item["sha256"] for item in manifest["files"]}
    there = {str(path.relative_to(kit.folder)): path for path in kit.folder.rglob("*") if path.is_file()}
    assert listed.keys() | {"kit.json"} == there.keys()
    assert all(hashlib.sha256(there[name].read_bytes()).hexdigest() == digest for name, digest in listed.items())
    assert [path.name for path in kit.folder.parent.iterdir()] == ["kit"], "nothing is left beside it"
    for path in there.values():  # nothing says on whose machine it was made
        for place in (kit.folder.parent, Path.home(), Path(codesign.__file__).parent):
            assert f"{place}/".encode() not in path.read_bytes(), path


def test_its_network_and_images_are_those_of_the_search(kit: codesign.Kit, network: IntegerNetwork) -> None:
    stored = load_network(kit.folder / "model" / "network.codesign")
    session = onnxruntime.InferenceSession(kit.folder / "model" / "network.onnx", providers=["CPUExecutionProvider"])
    (taken,) = session.get_inputs()
    program = json.loads((kit.folder / "program" / "program.json").read_text())
    for case in program["images"]:
        codes = np.fromfile(kit.folder / "program" / case["input"], np.uint8).reshape(network.input.shape)
        expected = np.fromfile(kit.folder / "program" / case["results"], "<i4")
        assert np.array_equal(functional.run(stored, codes.astype(np.int64))[stored.output.name].ravel(), expected)
        kind = np.uint8 if "uint8" in taken.type else np.float32
        assert np.array_equal(np.ravel(session.run(None, {taken.name: codes[None].astype(kind)})[0]), expected)


def test_its_driver_needs_nothing(kit: codesign.Kit) -> None:
    code = (
        "import sys; sys.path.insert(0, 'accelerator'); from driver import Compiled; "
        "network = Compiled('program'); print(len(list(network.images)), 'codesign' in sys.modules)"
    )
    command = [sys.executable, "-I", "-S", "-c", code]
    ran = subprocess.run(command, cwd=kit.folder, env=BARE, capture_output=True, text=True, check=False)
    assert (ran.stdout, ran.stderr) == ("3 False\n", "")


def test_the_same_is_written_for_the_same(kit: codesign.Kit, network: IntegerNetwork, tmp_path: Path) -> None:
    again = codesign.export_kit(network, "tiny", tmp_path / "kit", data="digits", images=3)
    assert again.manifest == kit.manifest


def test_nothing_is_replaced_and_nothing_half_written(
    network: IntegerNetwork, tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "net.codesign"
    save_network(network, file)
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "mine").write_text("mine")
    status, out, err = run("export", file, "--hw", "tiny", "-o", tmp_path / "taken")
    assert (
        (status, out) == (2, "")
        and "taken" in err
        and [*(tmp_path / "taken").iterdir()] == [tmp_path / "taken" / "mine"]
    )
    monkeypatch.setattr("codesign.api.kit._readme", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        codesign.export_kit(network, "tiny", tmp_path / "new" / "kit")
    assert not (tmp_path / "new").exists()


def test_left_overs_of_who_is_gone_are_removed_and_those_of_others_stay(tmp_path: Path) -> None:
    left = tmp_path / ".codesign-0123456789abcdef.new"
    left.mkdir()
    (left / "file").write_text("")
    others = [tmp_path / ".codesign-mine.new", tmp_path / "0123456789abcdef.new"]
    for each in others:
        each.mkdir()
    with new_folder(tmp_path / "one") as first:
        (first / "file").write_text("1")
        with new_folder(tmp_path / "two") as second:
            assert first.exists() and second.exists() and not left.exists()
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(["one", "two", *(each.name for each in others)])
    (tmp_path / "link").symlink_to(tmp_path / "one")
    with pytest.raises(UserError, match="link: holds files"), new_folder(tmp_path / "link"):
        pass
    with pytest.raises(FileNotFoundError), new_folder(tmp_path / "three"):  # of what was read, not of the folder
        Path("/nowhere/at/all").read_bytes()
    assert not (tmp_path / "three").exists()
    with pytest.raises(UserError, match="file: is a file"), new_folder(tmp_path / "one" / "file"):
        pass


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((), "--to (a file), --hw (a kit) or --point (a kit, of a co-search): one of them must be given"),
        (("--to", "npz", "--hw", "tiny"), "one of them must be given"),
        (("--to", "npz", "--images", "3"), "--images: has no effect on a file; it is for a kit"),
        (("--hw", "tiny", "--data-dir", "."), "--data-dir: has no effect without --data"),
        (("--hw", "tiny", "--images", "1000", "--data", "digits"), "must be at most 355"),
        (("--hw", "nothing"), "nothing: no such configuration"),
        (("--point", "1"), "holds no finished co-search"),
    ],
)
def test_what_is_wrong_is_said(
    network: IntegerNetwork, tmp_path: Path, run: Run, arguments: tuple[str, ...], said: str
) -> None:
    file = tmp_path / "net.codesign"
    save_network(network, file)
    status, out, err = run("export", file, *arguments, "-o", tmp_path / "out.npz")
    assert (status, out) == (2, "") and said in err
    assert not (tmp_path / "out.npz").exists()

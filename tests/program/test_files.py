"""`codesign compile`: what a board is given; the driver without codesign lays images out as the compiler does."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from codesign.arch.hardware import Hardware
from codesign.arch.load import load_hardware
from codesign.errors import UserError
from codesign.program import compile_network
from codesign.program.files import write_program
from codesign.rtl.host_files import host_files
from codesign.sim import functional
from codesign.verify.hardware import random_hardware
from tb.case import driver_module
from tests.sim.strategies import networks

Run = Callable[..., tuple[int, str, str]]


@settings(deadline=None, max_examples=40)
@given(data=st.data(), seed=st.integers(0, 10_000))
def test_the_driver_writes_images_and_reads_outputs_as_the_compiler_does(data: st.DataObject, seed: int) -> None:
    hw = random_hardware(np.random.default_rng(seed), "drawn")
    network = data.draw(networks(hw))
    try:
        program = compile_network(network, hw)
    except UserError:
        return  # it does not fit
    source = network.input
    image = np.random.default_rng(seed).integers(0, 1 << source.bits, source.shape)
    output = functional.run(network, image)[network.output.name]
    with TemporaryDirectory() as name:
        folder = Path(name)
        write_program(folder / "p", program, image[None], [output], {"note": "x"})
        (folder / "driver.py").write_text(host_files(hw)["driver.py"])
        compiled = driver_module(folder / "driver.py").Compiled(folder / "p")
    assert compiled.program == program.stream.tobytes() and compiled.facts["note"] == "x"
    (again, results), *others = compiled.images
    assert not others and list(again) == image.reshape(-1).tolist()
    beat = program.geometry.beat_bytes
    pieces = zip(program.pieces, program.encode_input(image), strict=True)
    assert compiled.encode(again) == {piece.beat * beat: words.tobytes() for piece, words in pieces}
    assert compiled.result_words == len(results) == program.result_words
    unsigned = struct.unpack(f"<{len(results)}I", struct.pack(f"<{len(results)}i", *results))
    assert np.array_equal(program.decode_results(np.array(unsigned, dtype=np.int64)), output)
    assert compiled.decode(results) == output.reshape(-1).tolist()
    with pytest.raises(ValueError, match="codes, must be"):
        compiled.encode(image.reshape(-1)[1:].tolist())


def test_the_command(run: Run, tmp_path: Path) -> None:
    """The same bytes again; for another accelerator it is refused; nothing is written over other files."""
    out = tmp_path / "a"
    status, text, err = run("compile", "tiny", "smallcnn", "-o", out, "--images", 2, "--json", tmp_path / "a.json")
    assert status == 0 and "cycles" in text, err
    manifest = json.loads((out / "program.json").read_text())
    assert manifest == json.loads((tmp_path / "a.json").read_text())
    assert manifest["cycles"] > 1000 and len(manifest["images"]) == 2
    assert run("compile", "tiny", "smallcnn", "-o", tmp_path / "b", "--images", 2)[0] == 0
    for file in out.iterdir():
        assert file.read_bytes() == (tmp_path / "b" / file.name).read_bytes()
    assert run("compile", "tiny", "smallcnn", "-o", out, "--images", 0)[0] == 0
    assert sorted(file.name for file in out.iterdir()) == ["program.bin", "program.json"]

    def driver(hw: Hardware, name: str) -> object:
        (tmp_path / name).write_text(host_files(hw)["driver.py"])
        return driver_module(tmp_path / name)

    assert driver(load_hardware("tiny"), "tiny.py").Compiled(out).images == []  # type: ignore[attr-defined]
    other = driver(load_hardware("xc7z020"), "other.py")
    with pytest.raises(other.AcceleratorError, match="for another accelerator, 'tiny'"):  # type: ignore[attr-defined]
        other.Compiled(out)  # type: ignore[attr-defined]

    (tmp_path / "c").mkdir()
    (tmp_path / "c" / "mine").write_text("")
    status, _, err = run("compile", "tiny", "smallcnn", "-o", tmp_path / "c")
    assert status == 2 and "holds other files" in err and "codesign compile" in err
    status, _, err = run("compile", "xc7z020_w8a8", "bert_tiny", "-o", tmp_path / "d")
    assert status == 2 and "one by one" in err and not (tmp_path / "d").exists()

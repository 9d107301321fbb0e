"""`codesign compile`: what a board is given; the driver without codesign lays images out as the compiler does."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from codesign.api.networks import integer_network
from codesign.arch.hardware import Hardware
from codesign.arch.load import load_hardware
from codesign.errors import UserError
from codesign.program import compile_network
from codesign.program.files import write_program
from codesign.rtl.host_files import host_files
from codesign.sim import functional
from codesign.verify.hardware import random_hardware
from tb.case import driver_module
from tests.sim.strategies import networks, networks_with_tails

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


@settings(deadline=None, max_examples=30)
@given(data=st.data(), seed=st.integers(0, 10_000), images=st.integers(2, 4))
def test_the_driver_writes_many_images_where_the_compiler_has_them(data: st.DataObject, seed: int, images: int) -> None:
    """Each at its own place inside the program, and its results behind those of the image before."""
    hw = random_hardware(np.random.default_rng(seed), "drawn")
    network = data.draw(networks_with_tails(hw))
    try:
        program = compile_network(network, hw, images)
    except UserError:
        return  # it does not fit
    source = network.input
    given = np.random.default_rng(seed).integers(0, 1 << source.bits, (images, *source.shape))
    with TemporaryDirectory() as name:
        folder = Path(name)
        write_program(folder / "p", program, given[:0], [], {})
        (folder / "driver.py").write_text(host_files(hw)["driver.py"])
        compiled = driver_module(folder / "driver.py").Compiled(folder / "p")
    assert compiled.batch == images
    beat, used = program.geometry.beat_bytes, np.zeros(program.stream.size, dtype=np.int64)
    wanted = [words.tobytes() for image in given for words in program.encode_input(image)]
    found = [compiled.encode(image.reshape(-1).tolist(), number) for number, image in enumerate(given)]
    assert [words for pieces in found for words in pieces.values()] == wanted
    assert [offset for pieces in found for offset in pieces] == [piece.beat * beat for piece in program.pieces]
    for pieces in found:
        for offset, words in pieces.items():
            used[offset : offset + len(words)] += 1
    assert used.max() == 1 and not program.stream[used > 0].any()
    last = compiled.result_offset + 4 * compiled.result_words * images
    assert program.stream.size <= compiled.result_offset < last == program.memory_bytes


class Recorded:
    """An accelerator whose runs give what lies in the slots of a program."""

    def __init__(self, module: Any, words: int) -> None:
        self.runs: list[dict[int, bytes]] = []
        self.words = words
        registers = dict.fromkeys(module.REGISTERS.values(), 0)
        registers |= {module.REGISTERS[name]: value for name, value in module.CONSTANTS.items()}
        self.accelerator = module.Accelerator(registers.__getitem__, registers.__setitem__)
        self.accelerator.run = lambda inputs, timeout: self.runs.append(inputs)
        self.accelerator.results = lambda offset, count: [len(self.runs), offset, count]


def test_a_series_of_images_takes_as_many_starts_as_it_needs(tmp_path: Path) -> None:
    hw = load_hardware("tiny")
    network = integer_network("smallcnn", hw)
    program = compile_network(network, hw, 3)
    write_program(tmp_path / "p", program, np.zeros((0, *network.input.shape), dtype=np.int64), [], {})
    (tmp_path / "driver.py").write_text(host_files(hw)["driver.py"])
    module = driver_module(tmp_path / "driver.py")
    compiled = module.Compiled(tmp_path / "p")
    recorded = Recorded(module, program.result_words)
    images = [[number % 16] * int(np.prod(network.input.shape)) for number in range(7)]
    found = recorded.accelerator.infer_many(compiled, images)
    first, size = compiled.result_offset, compiled.result_words
    assert found == [[1 + i // 3, first + 4 * size * (i % 3), size] for i in range(7)]
    each = len(compiled.encode(images[0]))
    assert [len(run) for run in recorded.runs] == [3 * each, 3 * each, each]
    assert recorded.runs[2] == compiled.encode(images[6], 0)
    assert recorded.accelerator.infer_many(compiled, []) == []


@pytest.mark.parametrize(
    "change",
    [
        lambda facts: facts.pop("slots"),
        lambda facts: facts.update(slots=facts["slots"][:1]),
        lambda facts: facts.update(slots=[slot[1:] for slot in facts["slots"]]),
        lambda facts: facts.update(slots=[[offset + (1 << 30) for offset in slot] for slot in facts["slots"]]),
        lambda facts: facts.update(batch=5),
        lambda facts: facts.update(batch="3"),
    ],
)
def test_the_driver_refuses_places_that_are_not_those_of_its_images(
    change: Callable[[dict[str, Any]], None], tmp_path: Path
) -> None:
    hw = load_hardware("tiny")
    network = integer_network("smallcnn", hw)
    folder = tmp_path / "p"
    write_program(folder, compile_network(network, hw, 3), np.zeros((0, *network.input.shape), dtype=np.int64), [], {})
    (tmp_path / "driver.py").write_text(host_files(hw)["driver.py"])
    module = driver_module(tmp_path / "driver.py")
    assert module.Compiled(folder).batch == 3
    facts = json.loads((folder / "program.json").read_text())
    change(facts)
    (folder / "program.json").write_text(json.dumps(facts))
    with pytest.raises(module.AcceleratorError, match="'slots' has places of"):
        module.Compiled(folder)


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

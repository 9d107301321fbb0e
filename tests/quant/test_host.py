"""The host's work: kept in files, done by the numpy model and by the generated driver alike."""

from __future__ import annotations

import dataclasses
import json
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from codesign.arch.load import load_hardware
from codesign.errors import UserError
from codesign.formats.row_format import RowFormat
from codesign.integer.checks import check_network
from codesign.integer.host import (
    ArgMax,
    Arithmetic,
    Dequantize,
    HostWork,
    Offset,
    Quantize,
    Reshape,
    RoundResults,
    Sigmoid,
    Softmax,
    Step,
    apply_steps,
)
from codesign.integer.network import IntegerNetwork
from codesign.integer.random_network import random_network
from codesign.integer.storage import load_network, save_network
from codesign.rtl.host_files import host_files
from codesign.sim import functional
from codesign.workload import zoo
from tb.case import driver_module

REALS = st.floats(-1e4, 1e4, width=32)
SCALES = st.floats(2.0**-10, 4.0, width=32)
ROUNDINGS = st.sampled_from(["up", "even", "away"])
CODES = st.builds(
    lambda scale, low, size, place, rounding: Quantize(scale, low + place % (size + 1), low, low + size, rounding),
    SCALES, st.integers(0, 100), st.integers(1, 155), st.integers(0, 255), ROUNDINGS,
)  # fmt: skip


@cache
def driver() -> ModuleType:
    with TemporaryDirectory() as folder:
        path = Path(folder, "driver.py")
        path.write_text(host_files(load_hardware("tiny"))["driver.py"])
        return driver_module(path)


NOTHING = HostWork()


def network(host: HostWork = NOTHING) -> IntegerNetwork:
    made = random_network(zoo.get("smallcnn"), {RowFormat.parse("fixed4"): 1.0}, 4)
    return dataclasses.replace(made, host=host)


@st.composite
def befores(draw: st.DrawFn, channels: int) -> tuple[Step, ...]:
    number = st.floats(0.0625, 64, width=32) | st.floats(-64, -0.0625, width=32)
    steps = st.builds(
        Arithmetic,
        st.sampled_from(["add", "subtract", "multiply", "divide"]),
        st.sampled_from([1, channels]).flatmap(lambda count: st.tuples(*[number] * count)),
    )
    return (*draw(st.lists(steps, max_size=3)), draw(CODES))


@st.composite
def afters(draw: st.DrawFn, shape: tuple[int, ...]) -> tuple[Step, ...]:
    steps: list[Step] = [draw(st.builds(Dequantize, SCALES, st.integers(-200, 200)))]
    if draw(st.booleans()):
        steps.insert(0, RoundResults(draw(st.integers(0, 16)), draw(st.integers(0, 255)), 0, 255))
    for _ in range(draw(st.integers(0, 3))):
        axis = draw(st.integers(0, len(shape) - 1))
        steps.append(
            draw(
                st.sampled_from(
                    [
                        Softmax(axis, draw(st.sampled_from([1.0, 0.5])), draw(st.booleans())),
                        ArgMax(axis, True, draw(st.booleans())),
                        Sigmoid(),
                        Reshape((int(np.prod(shape)),)),
                        draw(CODES),
                    ]
                )
            )
        )
        shape = HostWork(after=(steps[-1],)).result_shape(shape)
    return tuple(steps)


@settings(deadline=None, max_examples=150)
@given(data=st.data(), seed=st.integers(0, 10_000))
def test_the_driver_does_what_the_model_of_the_host_does(data: st.DataObject, seed: int) -> None:
    rng = np.random.default_rng(seed)
    shape = tuple(int(size) for size in rng.integers(1, 5, 3))
    host = HostWork(data.draw(befores(shape[0])), data.draw(afters(shape)))
    assert HostWork.from_json(json.loads(json.dumps(host.to_json()))) == host
    plain = host.to_json()
    values = rng.normal(0, 20, shape).astype(np.float32)
    codes = apply_steps(host.before, values[None])
    assert driver().do_steps(plain["before"], values.reshape(-1).tolist(), shape) == codes.reshape(-1).tolist()
    results = rng.integers(-(2**20), 2**20, shape)
    ours = apply_steps(host.after, results[None]).reshape(-1)
    theirs = driver().do_steps(plain["after"], results.reshape(-1).tolist(), shape)
    kinds = [type(step) for step in host.after]
    exact = not {Softmax, Sigmoid} & set(kinds)
    # exp of numpy and of the C library differ in the last place; a code or an index made of it may then, too.
    close = np.isclose(theirs, ours, rtol=1e-5, atol=1e-6)
    assert (theirs == ours).all() if exact else close.all() or kinds[-1] in (Quantize, ArgMax, Dequantize)


@settings(deadline=None, max_examples=200)
@given(value=REALS, scale=SCALES, rounding=ROUNDINGS)
@example(value=2.5, scale=1.0, rounding="even")
@example(value=-2.5, scale=1.0, rounding="away")
@example(value=-2.5, scale=1.0, rounding="up")
def test_quantizers_round_halves_as_they_say(value: float, scale: float, rounding: Any) -> None:
    found = int(Quantize(scale, 30_000, 0, 60_000, rounding).apply(np.float32([value]))[0]) - 30_000
    exact = value / scale
    if rounding != "up":
        exact = float(np.float32(exact))
    assert abs(found) == 30_000 or abs(found - exact) <= 0.5
    if abs(exact) < 29_000 and exact % 1 == 0.5:
        assert found == {"up": np.floor(exact + 0.5), "even": np.rint(exact)}.get(
            rounding, np.copysign(np.floor(abs(exact) + 0.5), exact)
        )


def test_files_keep_the_work_and_older_files_say_it_in_their_provenance(tmp_path: Path) -> None:
    host = HostWork((Offset(128),), (Dequantize(0.5), Softmax(0)), "int8")
    save_network(dataclasses.replace(network(host), input=dataclasses.replace(network().input, bits=8)), tmp_path / "a")
    assert load_network(tmp_path / "a").host == host
    old = dataclasses.replace(network(), provenance={"mean": [0.5], "std": [0.25], "on_host": ["SOFTMAX"]})
    save_network(old, tmp_path / "b")
    import zipfile

    with zipfile.ZipFile(tmp_path / "b") as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    structure = json.loads(members["network.json"])
    structure["version"] = 1
    del structure["host"]
    members["network.json"] = json.dumps(structure).encode()
    with zipfile.ZipFile(tmp_path / "c", "w") as archive:
        for name, body in members.items():
            archive.writestr(name, body)
    again = load_network(tmp_path / "c").host
    assert [type(step) for step in again.before] == [Arithmetic, Arithmetic, Quantize] and again.after == (Softmax(0),)
    image = np.random.default_rng(0).random((1, *old.input.shape), dtype=np.float32)
    expected = functional.quantize_input(old.input, (image - np.float32(0.5)) / np.float32(0.25))
    assert np.array_equal(functional.prepare(dataclasses.replace(old, host=again), image), expected)


@pytest.mark.parametrize(
    ("host", "says"),
    [
        (HostWork((Arithmetic("divide", (0.0,)), Quantize(1, 0, 0, 15))), "divides the input by 0"),
        (HostWork((Arithmetic("add", (1.0, 2.0, 3.0, 4.0, 5.0)), Quantize(1, 0, 0, 15))), "5 numbers to add"),
        (HostWork((Arithmetic("add", (1.0,)),)), "nothing makes codes"),
        (HostWork((Quantize(1, 0, 0, 255),)), "does not hold"),
        (HostWork((Quantize(1, 0, 0, 15), Arithmetic("add", (1.0,)))), "must be the last step"),
        (HostWork((Softmax(0),)), "cannot be done before"),
        (HostWork((Offset(3),)), "no step quantizes"),
        (HostWork((Quantize(float("nan"), 0, 0, 15),)), "positive and finite"),
        (HostWork((), (Softmax(3),)), "does not suit the shape"),
        (HostWork((), (Reshape((3,)),)), "does not suit the shape"),
        (HostWork((), (Dequantize(1), RoundResults(1, 0, 0, 3))), "must be the first"),
    ],
)
def test_work_that_cannot_be_done_is_refused(host: HostWork, says: str) -> None:
    with pytest.raises(UserError, match=says):
        check_network(network(host))

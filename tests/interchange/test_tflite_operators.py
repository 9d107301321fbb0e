"""Single operators, options and types of .tflite: used, or refused by name; and the host's part, beside LiteRT."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from codesign.errors import UserError

pytest.importorskip("tflite", reason="reading .tflite needs the package tflite")

from codesign.integer.host import apply_steps
from codesign.integer.network import PRECISE
from codesign.interchange.load import float_host, import_float, import_integer, is_float
from codesign.interchange.tflite import import_tflite
from codesign.sim.functional import finish, predict, prepare
from tests.data_files import data_file
from tests.interchange.tflite_files import SAME, VALID, File

WINDOW = {"StrideH": 1, "StrideW": 1, "DilationHFactor": 1, "DilationWFactor": 1}


def activation(file: File, shape: tuple[int, ...], scale: float = 0.05, zero: int = -5, kind: str = "INT8") -> int:
    return file.tensor(shape, kind, scale, zero)


def conv(
    file: File, source: int, shape: tuple[int, ...], padding: int = VALID, changes: Any = None, **options: Any
) -> int:
    """A 3x3 convolution of 2 filters with 2 scales; `changes` to the tensor of its weights."""
    rng = np.random.default_rng(len(file.tensors))
    depth = file.tensors[source]["shape"][3]
    source_scale = float(file.tensors[source]["scales"][0])
    scales = np.asarray([0.01, 0.02], np.float32)
    weights = file.tensor((2, 3, 3, depth), "INT8", scales, data=rng.integers(-127, 128, (2, 3, 3, depth)))
    file.tensors[weights] |= changes or {}
    bias = file.tensor((2,), "INT32", source_scale * scales, data=rng.integers(-99, 99, 2))
    target = activation(file, shape)
    return file.add("CONV_2D", [source, weights, bias], target, Padding=padding, **(WINDOW | options))


def start() -> tuple[File, int]:
    file = File()
    return file, activation(file, (1, 6, 6, 2), 0.02, 7)


def litert(data: bytes, batch: NDArray[Any]) -> NDArray[Any]:
    pytest.importorskip("ai_edge_litert", reason="needs ai-edge-litert")
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_content=data, num_threads=1)
    interpreter.allocate_tensors()
    results = []
    for image in batch:
        interpreter.set_tensor(interpreter.get_input_details()[0]["index"], image[None])
        interpreter.invoke()
        results.append(interpreter.get_tensor(interpreter.get_output_details()[0]["index"]).copy())
    return np.concatenate(results)


def whole(path: Path, batch: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
    """What the network with its host's steps gives, and LiteRT; maps are (N, H, W, C)."""
    network = import_tflite(path, multiplier=PRECISE)
    channels_first = batch.transpose(0, 3, 1, 2) if batch.ndim == 4 else batch.reshape(*batch.shape, 1, 1)
    ours = finish(network, predict(network, prepare(network, channels_first)))
    return ours.transpose(0, 2, 3, 1) if ours.ndim == 4 else ours, litert(path.read_bytes(), batch)


def test_a_pad_that_two_read_and_same_behind_it(tmp_path: Path) -> None:
    file, source = start()
    table = file.tensor((4, 2), "INT32", data=np.asarray([[0, 0], [1, 0], [0, 2], [0, 0]]))
    padded = file.add("PAD", [source, table], activation(file, (1, 7, 8, 2), 0.02, 7))
    first = conv(file, padded, (1, 4, 4, 2), SAME, StrideH=2, StrideW=2)
    second = conv(file, padded, (1, 7, 8, 2), SAME)
    third = conv(file, second, (1, 4, 4, 2), SAME, StrideH=2, StrideW=2)
    total = file.add("ADD", [first, third], activation(file, (1, 4, 4, 2), 0.1, 3))
    path = tmp_path / "model.tflite"
    path.write_bytes(file.finish(source, total))
    batch = np.random.default_rng(0).integers(-128, 128, (3, 6, 6, 2)).astype(np.int8)
    ours, theirs = whole(path, batch)
    assert np.array_equal(ours, theirs)


def test_a_dead_operator_and_an_output_in_the_middle(tmp_path: Path) -> None:
    file, source = start()
    result = conv(file, source, (1, 4, 4, 2))
    file.add("TANH", [result], activation(file, (1, 4, 4, 2)))
    path = tmp_path / "model.tflite"
    path.write_bytes(file.finish(source, result))
    assert len(import_tflite(path).layers) == 1


@pytest.mark.parametrize("alone", [True, False])
@pytest.mark.parametrize("equal", [True, False])
def test_a_standalone_relu(alone: bool, equal: bool, tmp_path: Path) -> None:
    file, source = start()
    before = conv(file, source, (1, 4, 4, 2))
    shape = (1, 4, 4, 2)
    relu = file.add("RELU6", [before], activation(file, shape) if equal else activation(file, shape, 0.03, -128))
    result = relu if alone else file.add("ADD", [before, relu], activation(file, shape, 0.1, 0))
    path = tmp_path / "model.tflite"
    path.write_bytes(file.finish(source, result))
    assert len(import_tflite(path).layers) == (1 if alone and equal else 2 if alone else 3)
    ours, theirs = whole(path, np.random.default_rng(0).integers(-128, 128, (3, 6, 6, 2)).astype(np.int8))
    assert np.abs(ours - theirs).max() <= (0 if equal else 1)


def test_uint8_in_and_out_by_the_host(tmp_path: Path) -> None:
    path = tmp_path / "model.tflite"
    for scale, zero in [(0.02, 135), (0.01, 118), (0.04, 0)]:
        file = File()
        outside = activation(file, (1, 6, 6, 2), scale, zero, "UINT8")
        source = file.add("QUANTIZE", [outside], activation(file, (1, 6, 6, 2), 0.02, 7))
        result = conv(file, source, (1, 4, 4, 2))
        result = file.add("QUANTIZE", [result], activation(file, (1, 4, 4, 2), 0.05, 123, "UINT8"))
        path.write_bytes(file.finish(outside, result))
        network = import_integer(path)
        assert network.host.takes == "uint8" and network.host.words["before"].startswith("takes uint8")
        ours, theirs = whole(path, np.random.default_rng(0).integers(0, 256, (3, 6, 6, 2)).astype(np.uint8))
        assert np.array_equal(ours, theirs), scale


@pytest.mark.parametrize("kind", ["SOFTMAX", "LOGISTIC", "ARG_MAX", "DEQUANTIZE", "QUANTIZE"])
def test_what_ends_a_model_is_the_hosts(kind: str, tmp_path: Path) -> None:
    file, source = start()
    middle = conv(file, source, (1, 4, 4, 2))
    axes = file.tensor((2,), "INT32", data=np.asarray([-3, -2]))
    # No mean lies half way between two codes of this scale, where an accelerator rounds otherwise.
    pooled = file.add("MEAN", [middle, axes], activation(file, (1, 2), 0.0231, 4), KeepDims=False)
    weights = file.tensor((5, 2), "INT8", 0.02, data=np.random.default_rng(1).integers(-127, 128, (5, 2)))
    result = file.add("FULLY_CONNECTED", [pooled, weights, -1], activation(file, (1, 5), 0.03, -9))
    if kind == "ARG_MAX":
        axis = file.tensor((1,), "INT32", data=np.asarray([-1]))
        result = file.add(kind, [result, axis], file.tensor((1,), "INT32"), OutputType=2)
    elif kind == "DEQUANTIZE":
        result = file.add(kind, [result], file.tensor((1, 5), "FLOAT32"))
    elif kind == "QUANTIZE":
        result = file.add(kind, [result], activation(file, (1, 5), 0.03, 119, "UINT8"))
    else:
        options = {"Beta": 0.5} if kind == "SOFTMAX" else {}
        result = file.add(kind, [result], activation(file, (1, 5), 1 / 256, -128), **options)
    path = tmp_path / "model.tflite"
    path.write_bytes(file.finish(source, result))
    network = import_integer(path)
    assert network.provenance["on_host"] == [kind]
    ours, theirs = whole(path, np.random.default_rng(0).integers(-128, 128, (20, 6, 6, 2)).astype(np.int8))
    assert ours.shape == theirs.shape
    # LiteRT's tables of int8 functions are a step apart now and then.
    assert np.abs(ours - theirs).max() <= (1 if kind in ("SOFTMAX", "LOGISTIC") else 1e-6)


def test_constants_of_float16_and_int8_become_floats(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    path = tmp_path / "model.tflite"
    for kind, data, scales in [("FLOAT16", rng.normal(size=(3, 12)), ()), ("INT8", rng.integers(-9, 9, (3, 12)), 0.1)]:
        file = File()
        source = file.tensor((1, 12), "FLOAT32")
        stored = file.tensor((3, 12), kind, scales, data=data)
        weights = file.add("DEQUANTIZE", [stored], file.tensor((3, 12), "FLOAT32"), version=2)
        bias = file.tensor((3,), "FLOAT32", data=rng.normal(size=3))
        result = file.add("FULLY_CONNECTED", [source, weights, bias], file.tensor((1, 3), "FLOAT32"))
        path.write_bytes(file.finish(source, result))
        assert is_float(path)
        _, state = import_float(path)
        real = state[next(key for key in state if key.endswith("weight"))].numpy()
        image = rng.normal(size=(1, 12)).astype(np.float32)
        mine = image @ real.T + file.tensors[bias]["data"]
        assert np.allclose(mine, litert(path.read_bytes(), image), atol=1e-4)


def reshaped(file: File, source: int, shape: tuple[int, ...]) -> int:
    table = file.tensor((len(shape),), "INT32", data=np.asarray(shape))
    target = activation(file, tuple(abs(size) for size in shape), 0.02, 7)
    return file.add("RESHAPE", [source, table], target)


REFUSED: list[tuple[str, Callable[[File, int], int]]] = [
    ("reshapes (1, 6, 6, 2) to (2, 36)", lambda f, s: reshaped(f, s, (2, 36))),
    ("reshapes (1, 6, 6, 2) to (1, 2, 6, 6)", lambda f, s: reshaped(f, s, (1, 2, 6, 6))),
    ("2 scales along axis 1", lambda f, s: conv(f, s, (1, 4, 4, 2), changes={"axis": 1})),
    ("have a zero point", lambda f, s: conv(f, s, (1, 4, 4, 2), changes={"zeros": np.asarray([0, 1])})),
    ("scale that is not positive", lambda f, s: conv(f, s, (1, 4, 4, 2), changes={"scales": np.zeros(2, np.float32)})),
    ("is of version 99; versions up to", lambda f, s: conv_of_version(f, s, 99)),
    ("dilation is not supported", lambda f, s: conv(f, s, (1, 2, 2, 2), DilationHFactor=2, DilationWFactor=2)),
    ("must be positive", lambda f, s: conv(f, s, (1, 4, 4, 2), StrideH=0)),
    ("the file states (1, 6, 6, 2)", lambda f, s: conv(f, s, (1, 6, 6, 2))),
    ("sizes must be positive", lambda f, s: conv(f, s, (1, 1 << 20, 1 << 20, 2))),
    ("padding 7; SAME and VALID", lambda f, s: conv(f, s, (1, 4, 4, 2), padding=7)),
    ("quantized_bias_type 4", lambda f, s: conv(f, s, (1, 4, 4, 2), QuantizedBiasType=4)),
    ("changes scale and zero point", lambda f, s: pool(f, s, activation(f, (1, 6, 6, 2), 0.03, 7))),
    ("only convolutions can", lambda f, s: pool(f, padded(f, s, 7), activation(f, (1, 8, 8, 2), 0.02, 7))),
    ("pads with", lambda f, s: conv(f, padded(f, s, 6), (1, 6, 6, 2))),
    ("a constant, as a feature map", lambda f, s: f.add("ADD", [s, constant(f)], activation(f, (1, 6, 6, 2)))),
    ("SPLIT", lambda f, s: f.add("SPLIT", [s, s], activation(f, (1, 6, 6, 2)))),
    ("keep_dims 0 gives", lambda f, s: mean(f, s, [1, 2], (1, 1, 1, 2))),
    ("other axes than height", lambda f, s: mean(f, s, [2, 3], (1, 6))),
    ("other axes than height", lambda f, s: mean(f, s, [1, 6], (1, 2))),
]


def conv_of_version(file: File, source: int, version: int) -> int:
    result = conv(file, source, (1, 4, 4, 2))
    file.operators[-1]["version"] = version
    return result


def constant(file: File) -> int:
    return file.tensor((1, 6, 6, 2), "INT8", 0.1, data=np.ones((1, 6, 6, 2)))


def pool(file: File, source: int, target: int) -> int:
    options = {"StrideH": 1, "StrideW": 1, "FilterHeight": 3, "FilterWidth": 3, "Padding": SAME}
    return file.add("MAX_POOL_2D", [source], target, **options)


def padded(file: File, source: int, value: int) -> int:
    table = file.tensor((4, 2), "INT32", data=np.asarray([[0, 0], [1, 1], [1, 1], [0, 0]]))
    fill = file.tensor((1,), "INT8", 0.02, 7, data=np.asarray([value]))
    return file.add("PADV2", [source, table, fill], activation(file, (1, 8, 8, 2), 0.02, 7))


def mean(file: File, source: int, axes: list[int], shape: tuple[int, ...]) -> int:
    table = file.tensor((2,), "INT32", data=np.asarray(axes))
    return file.add("MEAN", [source, table], activation(file, shape), KeepDims=False)


@pytest.mark.parametrize(("message", "build"), REFUSED, ids=lambda item: item[:30] if isinstance(item, str) else "")
def test_what_is_not_known_is_named(message: str, build: Callable[[File, int], int], tmp_path: Path) -> None:
    file, source = start()
    result = build(file, source)
    if message.startswith("reshapes"):
        weights = file.tensor((2, 36), "INT8", 0.1, data=np.ones((2, 36)))
        result = file.add("FULLY_CONNECTED", [result, weights, -1], activation(file, (2, 2)))
    path = tmp_path / "model.tflite"
    path.write_bytes(file.finish(source, result))
    with pytest.raises(UserError) as caught:
        import_tflite(path)
    text = str(caught.value)
    assert text.startswith(f"{path}: ") and message in text and "\n" not in text and len(text) < 400


def test_bytes_that_do_not_make_the_tensor_are_damage(tmp_path: Path) -> None:
    file, source = start()
    result = conv(file, source, (1, 4, 4, 2), changes={"data": np.ones(7)})
    path = tmp_path / "model.tflite"
    path.write_bytes(file.finish(source, result))
    with pytest.raises(UserError, match="7 bytes, must have 36"):
        import_tflite(path)


def test_changed_bytes_end_in_one_line(tmp_path: Path) -> None:
    data = data_file("mlperf_tiny_models/kws_ref_model.tflite").read_bytes()
    rng = np.random.default_rng(5)
    path = tmp_path / "model.tflite"
    # Tables lie at both ends of the file, weights between them.
    places = [*rng.integers(0, 2000, 15), *(len(data) - 1 - rng.integers(0, 9000, 35))]
    for place in places:
        changed = bytearray(data)
        changed[place] = int(rng.integers(0, 256))
        path.write_bytes(changed)
        try:
            import_tflite(path)
        except UserError as error:
            text = str(error)
        else:
            continue
        assert "\n" not in text and len(text) < 700, text


@pytest.mark.parametrize("kind", ["SOFTMAX", "LOGISTIC", "ARG_MAX"])
def test_what_ends_a_float_model_is_the_hosts(kind: str, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    file = File()
    source = file.tensor((1, 12), "FLOAT32")
    weights = file.tensor((3, 12), "FLOAT32", data=rng.normal(size=(3, 12)))
    result = file.add("FULLY_CONNECTED", [source, weights, -1], file.tensor((1, 3), "FLOAT32"))
    axis = file.tensor((1,), "INT32", data=np.asarray([1]))
    inputs = [result, axis] if kind == "ARG_MAX" else [result]
    options = {"SOFTMAX": {"Beta": 2.0}, "LOGISTIC": {}, "ARG_MAX": {"OutputType": 2}}[kind]
    shape, type_ = ((1,), "INT32") if kind == "ARG_MAX" else ((1, 3), "FLOAT32")
    path = tmp_path / "model.tflite"
    path.write_bytes(file.finish(source, file.add(kind, inputs, file.tensor(shape, type_), **options)))
    network, state = import_float(path)
    images = rng.normal(size=(9, 12)).astype(np.float32)
    scores = images @ state[network.layers[-1].name + ".weight"].numpy().T
    ours = apply_steps(float_host(path), scores)
    assert np.allclose(ours, litert(path.read_bytes(), images), atol=1e-5)

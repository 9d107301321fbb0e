"""What says whether an accepted file was read rightly: the runtimes of its format, or saving and reading again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from codesign.integer.network import IntegerConv, IntegerNetwork
from tests.fuzz.case import NoJudge

MOST_MACS = 50_000_000
"""Of networks that are run."""
TOLERANCE = 1e-3
"""Of the largest number of a float result."""
STEPS = 2
"""By which a code of a layer may differ from the runtime's on the same inputs: halves are rounded otherwise."""
HOST = {"Softmax", "ArgMax", "Sigmoid", "LogSoftmax"}


def judge_float(path: Path, network: Any, state: Any) -> str | None:
    """ONNX Runtime computes the same numbers."""
    import onnx

    operators = {node.op_type for node in onnx.load(str(path)).graph.node}
    return _same_floats(network, state, lambda batch: _onnxruntime(path, batch, network), operators & HOST)


def _onnxruntime(path: Path, batch: Any, network: Any) -> Any:
    from codesign.interchange.onnx_oracles import run_with_onnxruntime

    return run_with_onnxruntime(path, batch, optimized=False)[0]


def _same_floats(network: Any, state: Any, run: Any, host: set[str], tolerance: float = TOLERANCE) -> str | None:
    import torch

    from codesign.quant.module import NetworkModule

    source = network.shapes[network.input.name]
    if network.macs > MOST_MACS or max(map(np.prod, network.shapes.values())) > 1_000_000 or host - {"Softmax"}:
        raise NoJudge
    batch = np.random.default_rng(0).standard_normal((2, *source)).astype(np.float32)
    try:
        expected = run(batch)
    except Exception:
        raise NoJudge from None
    module = NetworkModule(network)
    module.load_state_dict(state, strict=False)
    with torch.no_grad():
        found = module.eval()(torch.from_numpy(batch))
        if host:
            found = torch.softmax(found, 1)
    ours = found.numpy()
    if not np.isfinite(expected).all() or np.abs(expected).max() > 1e20:
        raise NoJudge
    if sorted(size for size in ours.shape if size > 1) != sorted(size for size in expected.shape if size > 1):
        return f"shape {ours.shape} instead of {expected.shape}"
    if ours.shape != expected.shape and ours.ndim == expected.ndim == 4:
        expected = expected.transpose(0, 3, 1, 2)
    error = float(np.abs(ours - expected.reshape(ours.shape)).max())
    limit = tolerance * float(np.abs(expected).max()) + 1e-5
    return None if error <= limit else f"differs by {error:.3g}, results up to {np.abs(expected).max():.3g}"


def _inputs(network: IntegerNetwork, count: int = 2) -> Any:
    """What the model takes."""
    rng = np.random.default_rng(0)
    if (takes := network.host.takes) != "float32":
        limits = np.iinfo(takes)
        return rng.integers(limits.min, limits.max + 1, (count, *network.input.shape)).astype(takes)
    source = network.input
    codes = rng.integers(0, 2**source.bits, (count, *source.shape))
    return ((codes - source.zero_point) * source.scale).astype(np.float32)


def _check_size(network: IntegerNetwork) -> None:
    maps = [layer.output.height * layer.output.width for layer in network.layers]
    weights = [layer.weight.size if isinstance(layer, IntegerConv) else 1 for layer in network.layers]
    work = sum(size * count for size, count in zip(maps, weights, strict=True))
    if work > MOST_MACS or max(np.prod(layer.output.shape) for layer in network.layers) > 1_000_000:
        raise NoJudge


def _same_results(network: IntegerNetwork, run: Any) -> str | None:
    """The model's results, but for what a rounding that one layer does otherwise makes of those after it."""
    from codesign.sim.functional import dequantize, finish, predict, prepare

    batch = _inputs(network)
    try:
        theirs = run(batch)
    except Exception:
        raise NoJudge from None
    codes = predict(network, prepare(network, batch))
    ours = np.asarray(finish(network, codes) if network.host.after else dequantize(network.output, codes))
    raw, real = theirs if isinstance(theirs, tuple) else (theirs, theirs)
    expected = np.asarray(raw if network.host.after and ours.dtype.kind != "f" else real, dtype=np.float64)
    if not np.isfinite(expected).all() or not np.abs(expected).max() < 1e20:
        raise NoJudge
    if sorted(size for size in ours.shape if size > 1) != sorted(size for size in expected.shape if size > 1):
        return f"shape {ours.shape} instead of {expected.shape}"
    if ours.size == len(ours):  # one number, or a class
        raise NoJudge
    if ours.shape != expected.shape and ours.ndim == expected.ndim == 4:
        expected = expected.transpose(0, 3, 1, 2)
    largest = np.abs(expected).max()
    error = np.abs(ours - expected.reshape(ours.shape))
    step = network.output.scale if ours.dtype.kind == "f" else 1
    if np.median(error) <= 0.05 * largest + 1.01 * step:
        return None
    return f"half of the results differ by {np.median(error):.3g} or more, results up to {largest:.3g}"


def judge_qdq(path: Path, network: IntegerNetwork) -> str | None:
    """ONNX Runtime's results; where all codes have 8 bits, its codes of every layer on its own inputs."""
    from codesign.interchange.onnx_oracles import compare_with_onnxruntime, run_with_onnxruntime

    _check_size(network)
    wrong = _same_results(network, lambda batch: run_with_onnxruntime(path, batch, optimized=False)[0])
    if (
        wrong is not None
        or {layer.output.bits for layer in network.layers} - {8, 32}
        or network.host.takes != "float32"
    ):
        return wrong
    try:
        found = compare_with_onnxruntime(path, _inputs(network))
    except Exception:
        return None
    for name, difference in found.layers.items():
        if difference.largest > STEPS:
            return f"layer '{name}' differs by {difference.largest} steps"
    return None


def judge_qonnx(path: Path, network: IntegerNetwork) -> str | None:
    """The results of qonnx' executor."""
    from codesign.interchange.onnx_oracles import run_with_qonnx

    _check_size(network)
    return _same_results(network, lambda batch: run_with_qonnx(path, batch))


def judge_integer_onnx(path: Path, network: IntegerNetwork) -> str | None:
    """ONNX Runtime computes the very integers."""
    from codesign.integer.arithmetic import execute
    from codesign.interchange.onnx_oracles import run_with_onnxruntime, run_with_qonnx

    _check_size(network)
    source = network.input
    codes = np.random.default_rng(0).integers(0, 2**source.bits, (2, *source.shape))
    for run in (
        lambda: run_with_onnxruntime(path, codes.astype(np.float32), optimized=False)[0],
        lambda: run_with_qonnx(path, codes.astype(np.float32)),
    ):
        try:
            theirs = run()
            break
        except Exception:
            continue
    else:
        raise NoJudge
    *_, (_, results) = execute(network, codes)
    ours = results.reshape(len(codes), -1)
    theirs = theirs.reshape(len(codes), -1)
    if ours.shape != theirs.shape:
        return f"shape {ours.shape} instead of {theirs.shape}"
    return None if np.array_equal(ours, theirs) else f"{int((ours != theirs).sum())} of {ours.size} results differ"


def judge_tflite(path: Path, network: Any) -> str | None:
    """LiteRT computes the same, layer by layer for int8."""
    from codesign.interchange.litert import compare_with_litert
    from codesign.interchange.tflite_reader import read_tflite

    if not isinstance(network, IntegerNetwork):
        found, state = network
        kinds = {item.kind for item in read_tflite(path).operators}
        host = {
            name
            for kind, name in (("SOFTMAX", "Softmax"), ("ARG_MAX", "ArgMax"), ("LOGISTIC", "Sigmoid"))
            if kind in kinds
        }
        # LiteRT computes on int8 activations where the weights are int8
        return _same_floats(found, state, lambda batch: _litert(path, batch)[1], host, 0.03)
    _check_size(network)
    wrong = _same_results(network, lambda batch: _litert(path, batch))
    if wrong is not None or network.host.takes == "uint8":
        return wrong
    channels, height, width = network.input.shape
    shape = (2, height, width, channels) if height * width > 1 else (2, channels)
    batch = np.random.default_rng(0).integers(-128, 128, shape).astype(np.int8)
    try:
        layers = compare_with_litert(path, batch).layers
    except Exception:
        return None
    for name, difference in layers.items():
        if difference.largest > STEPS:
            return f"layer '{name}' differs by {difference.largest} steps"
    return None


def _litert(path: Path, batch: Any) -> tuple[Any, Any]:
    """Results of a model, and those of integers as the real numbers that they stand for."""
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_content=path.read_bytes(), num_threads=1)
    interpreter.allocate_tensors()
    (source,), (result,) = interpreter.get_input_details(), interpreter.get_output_details()
    outputs = []
    for image in batch:
        value = image.transpose(1, 2, 0) if len(source["shape"]) == 4 else image.reshape(-1)
        scale, zero = source["quantization"]
        if value.dtype.kind == "f" and np.issubdtype(source["dtype"], np.integer):
            limits = np.iinfo(source["dtype"])
            value = np.clip(np.rint(value / scale) + zero, limits.min, limits.max)
        interpreter.set_tensor(source["index"], value[None].astype(source["dtype"]))
        interpreter.invoke()
        outputs.append(interpreter.get_tensor(result["index"]).copy())
    found = np.concatenate(outputs)
    scale, zero = result["quantization"]
    return found, found if found.dtype.kind == "f" or not scale else (found.astype(np.float64) - zero) * scale


def judge_pt2(path: Path, network: Any, state: Any) -> str | None:
    """Torch computes the same; what holds pickled objects is not handed to it."""
    import torch

    from tests.fuzz.mutate import members

    for name, content in members(path.read_bytes()).items():
        if b'pickle": true' in content or (name.endswith(".pt") and "sample_inputs" not in name):
            raise NoJudge
    try:
        program = torch.export.load(str(path))
    except Exception:
        raise NoJudge from None

    def run(batch: Any) -> Any:
        with torch.no_grad():
            module = program.module()
            return np.concatenate([module(torch.from_numpy(image[None])).numpy() for image in batch])

    return _same_floats(network, state, run, set())


def judge_saved(path: Path, network: IntegerNetwork) -> str | None:
    """What was read is the same when it is saved and read again, and runs."""
    from codesign.integer.arithmetic import execute
    from codesign.integer.checks import same_network
    from codesign.integer.storage import load_network, save_network

    again = path.with_name("again.codesign")
    save_network(network, again)
    if not same_network(load_network(again), network):
        return "another network when saved and read again"
    try:
        _check_size(network)
    except NoJudge:
        return None
    for _ in execute(network, np.zeros((1, *network.input.shape), dtype=np.int64)):
        pass
    return None

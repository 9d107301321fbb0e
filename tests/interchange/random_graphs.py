"""Random ONNX graphs, each read by codesign and run by ONNX Runtime with its optimizer off: equal, or refused.

`make random-graphs` runs this as a program and prints a table. The same seeds give the same graphs.
"""

from __future__ import annotations

import argparse
import re
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import torch
from numpy.typing import NDArray
from onnxruntime.capi import onnxruntime_pybind11_state as ort_errors

from codesign.errors import UserError
from codesign.integer.arithmetic import run_layer
from codesign.integer.host import apply_steps
from codesign.integer.network import IntegerConv, IntegerLayer, IntegerNetwork, IntegerTensor
from codesign.interchange.onnx_float import read_float_onnx
from codesign.interchange.onnx_graph import Node
from codesign.interchange.onnx_oracles import input_codes
from codesign.interchange.onnx_prepare import needed
from codesign.interchange.onnx_quantized import import_quantized_onnx
from codesign.quant.module import NetworkModule
from tests.interchange.onnx_builder import Builder
from tests.interchange.random_float import random_float
from tests.interchange.random_qdq import NothingLeftError, QdqGraph, Stored, random_qdq

Array = NDArray[Any]
EQUAL, REFUSED, WRONG = "accepted and equal", "refused", "WRONG"
UNRUN = "not run by ONNX Runtime either"
ORT_ERRORS = (ort_errors.NotImplemented, ort_errors.InvalidGraph, ort_errors.Fail, ort_errors.InvalidArgument)
FLOAT_TOLERANCE = 1e-4
"""Of the largest number of a result."""


@dataclass(frozen=True)
class Outcome:
    """What became of a graph: `kind`, and why."""

    seed: int
    kind: str
    reason: str = ""


def float_outcome(seed: int, folder: Path, mutate: bool = False) -> Outcome:
    """One random float graph; with `mutate` one that has an attribute too many, which must be refused."""
    model, builder = random_float(seed)
    if mutate and not with_unknown_attribute(model, builder):
        return Outcome(seed, REFUSED, "nothing to change")
    path = folder / f"float{seed}.onnx"
    onnx.save(model, str(path))
    try:
        network, state, steps = read_float_onnx(path)
    except UserError as error:
        return Outcome(seed, REFUSED, reason_of(error, path))
    if mutate:
        return Outcome(seed, WRONG, f"accepted with an unknown attribute: {path}")
    batch = np.random.default_rng(seed).normal(size=(2, *builder.input_shape)).astype(np.float32)
    try:
        (expected,) = run(model, batch, live_only=True)
    except ORT_ERRORS as error:
        return Outcome(seed, WRONG, f"ONNX Runtime refuses {path}: {str(error).splitlines()[0][:200]}")
    module = NetworkModule(network)
    module.load_state_dict(state, strict=False)
    with torch.no_grad():
        images = torch.from_numpy(batch.reshape(len(batch), *network.shapes[network.input.name]))
        result = module.eval()(images)
    found = apply_steps(steps, result.numpy())
    if len(found) != len(expected) or [s for s in found.shape[1:] if s > 1] != [s for s in expected.shape[1:] if s > 1]:
        return Outcome(seed, WRONG, f"{found.shape} instead of {expected.shape}: {path}")
    found = found.reshape(expected.shape)
    error_of = float(np.abs(found - expected).max())
    if not error_of <= FLOAT_TOLERANCE * float(np.abs(expected).max()) + 1e-6:
        return Outcome(seed, WRONG, f"differs by {error_of:.3g}: {path}")
    return Outcome(seed, EQUAL)


def qdq_outcome(seed: int, folder: Path, four_bits: bool = True) -> Outcome:
    """One random QDQ graph: the integers of every layer, on ONNX Runtime's own inputs, and the result."""
    try:
        model, graph = random_qdq(seed, run, four_bits)
    except (*ORT_ERRORS, NothingLeftError) as error:
        return Outcome(seed, UNRUN, str(error).splitlines()[0][:80])
    path = folder / f"qdq{seed}.onnx"
    onnx.save(model, str(path))
    try:
        network = import_quantized_onnx(path, wide=False)
    except UserError as error:
        return Outcome(seed, REFUSED, reason_of(error, path))
    try:
        return Outcome(seed, EQUAL, _compare_integers(network, model, graph))
    except AssertionError as error:
        return Outcome(seed, WRONG, f"{error}: {path}")


def _compare_integers(network: IntegerNetwork, model: Any, graph: QdqGraph) -> str:
    """AssertionError with what differs.

    A code may differ by 1 where the real number that ONNX Runtime quantizes lies at a boundary: it rounds halves to
    even, an accelerator up, with a factor of 16 bits; a float bias may lie half an accumulator unit off.
    """
    stored = {
        layer.output.name: next((s for s in graph.records.stored.get(layer.name, []) if _means(s, layer.output)), None)
        for layer in network.layers
    }
    first = next((s for s in graph.records.stored["x"] if s.real == "x" and _means(s, network.input)), None)
    assert first is not None, "no quantizer of the file makes the input's codes"
    known = {name: item for name, item in stored.items() if item is not None} | {network.input.name: first}
    names = list(
        dict.fromkeys(
            [name for item in known.values() for name in (item.real, graph.dequantized[item.integers])] + [graph.output]
        )
    )
    found = dict(zip(names, run(model, graph.batch, names), strict=True))
    tensors = {layer.output.name: layer.output for layer in network.layers} | {network.input.name: network.input}
    theirs = {
        name: np.rint(found[graph.dequantized[item.integers]] / item.scale).astype(np.int64) + tensors[name].zero_point
        for name, item in known.items()
    }
    theirs = {name: value.reshape(len(value), *tensors[name].shape) for name, value in theirs.items()}
    assert np.array_equal(input_codes(network, graph.batch), theirs[network.input.name]), "codes of the input differ"
    values, boundary = dict(theirs), 0
    for layer in network.layers:
        name, output = layer.output.name, layer.output
        ours = run_layer(network, layer, values)
        slack = graph.records.slack.get(layer.name, 0.0)
        if name in known:
            steps = (found[known[name].real].astype(np.float64) / known[name].scale).reshape(ours.shape)
            room = 1e-3 + _factor_error(network, layer, steps, values) + 0.51 * slack / known[name].scale
            edge = np.abs(steps - np.floor(steps) - 0.5) <= room
            wrong = (ours != theirs[name]) & ~(edge & (np.abs(ours - theirs[name]) <= 1 + 0.51 * slack / output.scale))
            assert not wrong.any(), f"{int(wrong.sum())} of {wrong.size} codes of '{layer.name}' differ"
            boundary += int((ours != theirs[name]).sum())
        values.setdefault(name, ours)
    last = network.output
    real = (run_layer(network, network.layers[-1], values) - last.zero_point) * last.scale
    expected = found[graph.output]
    if expected.dtype.kind != "f":
        kept = next(item for items in graph.records.stored.values() for item in items if item.integers == graph.output)
        expected = (expected.astype(np.float64) - kept.zero_point) * kept.scale
    expected = expected.reshape(real.shape)
    tolerance = 1e-3 * np.abs(expected).max() + slack + 1e-6 if last.wide else 1.001 * last.scale + slack
    assert np.abs(real - expected).max() <= tolerance, f"the result differs by {np.abs(real - expected).max():.3g}"
    return f"{boundary} at a boundary" if boundary else ""


def _factor_error(network: IntegerNetwork, layer: IntegerLayer, steps: Array, values: dict[str, Array]) -> Array:
    """How far a code may be off since factors have 16 bits: of each of the two parts where a map is added.

    The larger of two factors keeps its bits, and the other one may have few.
    """
    if not isinstance(layer, IntegerConv) or layer.residual is None:
        return np.abs(steps) * 2.0**-15
    other = network.tensor(layer.residual)
    added = np.abs(values[other.name] - other.zero_point) * other.scale / layer.output.scale
    return (np.abs(steps) + 2 * added) * min(1 / int(layer.mult.min()), 2.0**-9)


def _means(stored: Stored, tensor: IntegerTensor) -> bool:
    """Whether a quantizer of the file makes the codes of a tensor."""
    return bool(np.isclose(stored.scale, tensor.scale, rtol=1e-6)) and (
        (tensor.zero_point - stored.zero_point) == (0 if stored.kind.startswith("u") else 2 ** (tensor.bits - 1))
    )


def run(model: Any, batch: Array, outputs: list[str] | None = None, live_only: bool = False) -> list[Array]:
    """Outputs of a model for each image, stacked, by ONNX Runtime without its optimizer.

    `live_only` drops nodes that the output does not need: ONNX Runtime runs them, too, and stops at their mistakes.
    """
    model = onnx.ModelProto.FromString(model.SerializeToString())
    if live_only:
        kept = [model.graph.node[node.index] for node in _live(model)]
        del model.graph.node[:]
        model.graph.node.extend(kept)
    if outputs is not None:
        del model.graph.output[:]
        model.graph.output.extend([onnx.ValueInfoProto(name=name) for name in outputs])
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 4
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(model.SerializeToString(), options)
    name = session.get_inputs()[0].name
    results = [session.run(None, {name: image[None]}) for image in batch]
    return [np.concatenate(parts) for parts in zip(*results, strict=True)]


def _live(model: Any) -> tuple[Node, ...]:
    """The nodes that the output needs."""
    plain = [
        Node(index, item.name, item.op_type, tuple(item.input), tuple(item.output), {})
        for index, item in enumerate(model.graph.node)
    ]
    return needed(plain, model.graph.output[0].name)


def with_unknown_attribute(model: Any, builder: Builder) -> bool:
    """Give a node that the output needs an attribute that its operator does not have; whether there is one."""
    live = [node for node in _live(model) if node.op != "Constant"]
    if not live:
        return False
    proto = model.graph.node[builder.pick(live).index]
    key, value = builder.pick([("frobnicate", 1), ("axiss", 0), ("to", 1), ("perm", [0, 1]), ("fused", "Relu")])
    if key in onnx.defs.get_schema(proto.op_type, builder.opset, "").attributes:
        return False
    proto.attribute.append(onnx.helper.make_attribute(key, value))
    return True


def reason_of(error: UserError, path: Path) -> str:
    """An error's kind: its text without names and numbers."""
    text = str(error).removeprefix(f"{path}: ")
    assert "\n" not in text
    if text.startswith("node '"):
        text = re.sub(r"^node '[^']*' ", "", text)
    text = re.sub(r"'[^']*'", "'..'", text).split("; ")[0]
    text = re.sub(r"joins a constant to .*", "joins a constant to something without weights, or read by others", text)
    text = re.sub(r"\[[^]]*\]|\([-\d, ]*\)|-?\d+(x\d+)+|(?<![\w=])-?\d[\d.,e-]*\b", "#", text)
    return re.sub(r"#( \w+ |, )#(, #)*", "#", text)[:90]


def outcomes(one: Callable[..., Outcome], seeds: Iterable[int], folder: Path, **options: Any) -> Iterator[Outcome]:
    """What became of each seed; files of wrong graphs stay in `folder`."""
    for seed in seeds:
        outcome = one(seed, folder, **options)
        if outcome.kind != WRONG:
            for kind in ("float", "qdq"):
                (folder / f"{kind}{seed}.onnx").unlink(missing_ok=True)
        yield outcome


def table(title: str, found: list[Outcome]) -> str:
    """Counts, and reasons of refusals with how often each occurred."""
    kinds = Counter(item.kind for item in found)
    lines = [f"{title}: {len(found):,} graphs"]
    lines += [f"  {kinds[kind]:6,}  {kind}" for kind in (EQUAL, REFUSED, UNRUN, WRONG)]
    reasons = Counter(item.reason for item in found if item.kind == REFUSED)
    lines += ["  refused:"] + [f"  {count:6,}  {reason}" for reason, count in reasons.most_common()]
    lines += [f"  WRONG seed {item.seed}: {item.reason}" for item in found if item.kind == WRONG]
    return "\n".join(lines)


def main() -> int:
    """Status 1 if a graph is wrong, or fewer than a third are accepted."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--graphs", type=int, default=1000, help="of each kind")
    parser.add_argument("--first", type=int, default=0, help="seed of the first graph")
    parser.add_argument("--kind", default="", help="float or QDQ alone")
    options = parser.parse_args()
    torch.set_num_threads(1)
    folder = Path(tempfile.mkdtemp(prefix="random-graphs-"))
    seeds = range(options.first, options.first + options.graphs)
    status = 0
    runs: list[tuple[str, Callable[..., Outcome], dict[str, Any], range, float]] = [
        ("float", float_outcome, {}, seeds, 1 / 3),
        ("QDQ", qdq_outcome, {}, seeds, 1 / 3),
        ("float, with an unknown attribute", float_outcome, {"mutate": True}, seeds[: len(seeds) // 4], 0.0),
    ]
    runs = [item for item in runs if options.kind in item[0]]
    for title, one, arguments, which, least in runs:
        found = list(outcomes(one, which, folder, **arguments))
        sys.stdout.write(table(title, found) + "\n")
        kinds = Counter(item.kind for item in found)
        status |= int(kinds[WRONG] > 0 or kinds[EQUAL] < least * len(found))
    return status


if __name__ == "__main__":
    sys.exit(main())

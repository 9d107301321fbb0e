"""Random .tflite models beside LiteRT: what is accepted computes what LiteRT computes, layer by layer."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from codesign.errors import UserError
from codesign.integer.network import PRECISE, IntegerPool
from codesign.interchange.litert import compare_with_litert
from codesign.interchange.tflite import import_tflite
from codesign.interchange.tflite_float import import_float_tflite
from codesign.quant.module import build_module

pytest.importorskip("tflite", reason="reading .tflite needs the package tflite")
pytest.importorskip("ai_edge_litert", reason="needs ai-edge-litert")

from ai_edge_litert.interpreter import Interpreter

from tests.interchange.tflite_files import RandomFile


@dataclass
class Tally:
    """What became of random models."""

    accepted: int = 0
    refused: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)
    numbers: int = 0
    equal: int = 0

    def refuse(self, error: UserError) -> None:
        """Count an error, which must be one short line."""
        assert "\n" not in str(error) and len(str(error)) < 500, str(error)
        self.refused[str(error).split(": ", 1)[1][:60]] += 1


def runs(data: bytes) -> bool:
    """Whether LiteRT runs the model at all."""
    try:
        Interpreter(model_content=data, num_threads=1).allocate_tensors()
    except (RuntimeError, ValueError):
        return False
    return True


def try_quantized(seed: int, path: Path, tally: Tally) -> None:
    made = RandomFile(seed, quantized=True)
    path.write_bytes(made.bytes)
    try:
        network = import_tflite(path, wide=False, multiplier=PRECISE)
    except UserError as error:
        tally.refuse(error)
        return
    if not runs(made.bytes):
        tally.refused["LiteRT refuses it"] += 1
        return
    tally.accepted += 1
    batch = np.random.default_rng(seed).integers(-128, 128, (2, *made.shape(made.source)[1:])).astype(np.int8)
    found = compare_with_litert(path, batch, PRECISE)
    for layer in network.layers:
        difference = found.layers[layer.name]
        # A mean half way between two codes goes down on an accelerator, away from zero in LiteRT.
        halves = isinstance(layer, IntegerPool) and layer.kind == "avg"
        tally.numbers += 0 if halves else difference.total
        tally.equal += 0 if halves else difference.equal
        if difference.largest > 1 or (not halves and difference.equal < 0.9 * difference.total - 2):
            tally.wrong.append(f"seed {seed}, {layer.name}: {difference}")


def try_float(seed: int, path: Path, tally: Tally) -> None:
    made = RandomFile(seed, quantized=False)
    path.write_bytes(made.bytes)
    try:
        network, state = import_float_tflite(path)
    except UserError as error:
        tally.refuse(error)
        return
    if not runs(made.bytes):
        tally.refused["LiteRT refuses it"] += 1
        return
    tally.accepted += 1
    module = build_module(network, seed=0).eval()
    module.load_state_dict(state)
    interpreter: Any = Interpreter(model_content=made.bytes, num_threads=1)
    interpreter.allocate_tensors()
    image = np.random.default_rng(seed).normal(size=made.shape(made.source)).astype(np.float32)
    interpreter.set_tensor(interpreter.get_input_details()[0]["index"], image)
    interpreter.invoke()
    theirs = interpreter.get_tensor(interpreter.get_output_details()[0]["index"])
    with torch.no_grad():
        ours = module(torch.from_numpy(image).permute(0, 3, 1, 2)).numpy()
    kind = made.file.operators[-1]["kind"]
    ours = ours.transpose(0, 2, 3, 1) if ours.ndim == 4 else ours
    if kind == "SOFTMAX":
        powers = np.exp(ours - ours.max(axis=-1, keepdims=True))
        ours = powers / powers.sum(axis=-1, keepdims=True)
    elif kind == "LOGISTIC":
        ours = 1 / (1 + np.exp(-ours))
    elif kind == "ARG_MAX":
        ours = ours.argmax(axis=-1)
    tally.numbers += ours.size
    if not np.allclose(ours.reshape(theirs.shape), theirs, rtol=1e-3, atol=1e-3 * float(np.abs(theirs).max() + 1e-3)):
        tally.wrong.append(f"seed {seed}")


def check(tally: Tally, count: int) -> None:
    assert not tally.wrong, tally.wrong[:3]
    assert tally.accepted >= count / 3, tally.refused.most_common(8)
    assert tally.equal in (0, tally.numbers) or tally.equal >= 0.999 * tally.numbers, tally


@pytest.mark.parametrize("attempt", [try_quantized, try_float], ids=["int8", "float"])
def test_random_models(attempt: Any, tmp_path: Path) -> None:
    tally = Tally()
    for seed in range(60):
        attempt(seed, tmp_path / "model.tflite", tally)
    check(tally, 60)


@pytest.mark.slow
@pytest.mark.parametrize("attempt", [try_quantized, try_float], ids=["int8", "float"])
def test_many_random_models(attempt: Any, tmp_path: Path) -> None:
    tally = Tally()
    for seed in range(1000, 2000):
        attempt(seed, tmp_path / "model.tflite", tally)
    check(tally, 1000)

"""An imported TFLite model beside LiteRT's interpreter: how many numbers are equal, layer by layer and at the end."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from codesign.errors import UserError
from codesign.integer.arithmetic import execute, run_layer
from codesign.integer.network import NARROW, IntArray, Multiplier
from codesign.interchange.tflite import import_tflite, input_codes
from codesign.interchange.tflite_reader import read_tflite


@dataclass(frozen=True)
class Difference:
    """Steps between our numbers and LiteRT's: how many there are, how many are equal or one apart, the largest."""

    total: int
    equal: int
    within_one: int
    largest: int

    @classmethod
    def between(cls, ours: IntArray, theirs: IntArray) -> Difference:
        """Of two arrays of codes."""
        steps = np.abs(ours - theirs)
        return cls(steps.size, int((steps == 0).sum()), int((steps <= 1).sum()), int(steps.max(initial=0)))


@dataclass(frozen=True)
class Comparison:
    """`layers`: each layer on LiteRT's own inputs, by name. `result`: the whole network."""

    layers: dict[str, Difference]
    result: Difference


def litert_codes(path: str | Path, tensor: str, batch: NDArray[np.int8]) -> IntArray:
    """Codes (N, C, H, W) of one tensor of a model, computed by LiteRT with its default kernels.

    Those kernels keep no tensor but the output, so the model is run with `tensor` as its output.
    """
    try:
        from ai_edge_litert.interpreter import Interpreter
    except ImportError:
        raise UserError("comparing with LiteRT needs the package ai-edge-litert") from None
    import tflite

    names = {f"{item.name}#{item.index}": item.index for item in read_tflite(path).tensors}
    index = names.get(tensor, next((found for name, found in names.items() if name.rpartition("#")[0] == tensor), None))
    if index is None:
        raise UserError(f"{path}: has no tensor '{tensor}'")
    data = bytearray(Path(path).read_bytes())
    table = tflite.Model.GetRootAs(data, 0).Subgraphs(0)._tab
    # Field 2 of a SubGraph, at slot 4 + 2 * 2 of its table, is the vector of outputs.
    start = table.Vector(table.Offset(8))
    data[start : start + 4] = index.to_bytes(4, "little")
    interpreter = Interpreter(model_content=bytes(data), num_threads=1)
    interpreter.allocate_tensors()
    source, result = interpreter.get_input_details()[0]["index"], interpreter.get_output_details()[0]["index"]
    outputs = []
    for image in batch:
        interpreter.set_tensor(source, image[None])
        interpreter.invoke()
        outputs.append(input_codes(interpreter.get_tensor(result).copy())[0])
    return np.stack(outputs)


def compare_with_litert(path: str | Path, batch: NDArray[np.int8], multiplier: Multiplier = NARROW) -> Comparison:
    """Run `batch`, (N, H, W, C) or (N, features), through the imported network and through LiteRT."""
    network = import_tflite(path, wide=False, multiplier=multiplier)
    values = {network.input.name: input_codes(batch)}
    for layer in network.layers:
        values[layer.output.name] = litert_codes(path, layer.output.name, batch)
    layers = {
        layer.name: Difference.between(run_layer(network, layer, values), values[layer.output.name])
        for layer in network.layers
    }
    *_, (_, result) = execute(network, values[network.input.name])
    return Comparison(layers, Difference.between(result, values[network.output.name]))

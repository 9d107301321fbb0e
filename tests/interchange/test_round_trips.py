"""Export, import, export: the same integers, over random networks with awkward shapes."""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from codesign.arch.load import load_hardware
from codesign.formats.row_format import RowFormat
from codesign.integer.arithmetic import execute
from codesign.integer.checks import same_network
from codesign.integer.network import IntArray, IntegerNetwork, Measured
from codesign.integer.random_network import random_network
from codesign.interchange.description import export_arrays, import_arrays
from codesign.interchange.load import import_integer
from codesign.interchange.onnx_integer import export_integer_onnx
from codesign.interchange.onnx_qdq_export import export_quantized_onnx
from codesign.interchange.onnx_quantized import import_quantized_onnx
from codesign.workload import Add, AvgPool, Conv, Flatten, Input, Layer, Linear, MaxPool, Network, Relu
from tests.interchange.networks import run_onnx
from tests.sim.strategies import networks

pytest.importorskip("onnx", reason="needs onnx")
MEASURED = Measured(0.5, 0.75, 0.5, 1.0, 4)
UNHURRIED = settings(deadline=None, max_examples=15, suppress_health_check=list(HealthCheck))


def results(network: IntegerNetwork, codes: IntArray) -> IntArray:
    *_, (_, values) = execute(network, codes)
    return values


@given(networks(load_hardware("tiny")), st.sampled_from(["onnx", "qonnx"]))
@UNHURRIED
def test_integer_graphs_come_back_whole(network: IntegerNetwork, dialect: Literal["onnx", "qonnx"]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        first, second = Path(folder) / "first.onnx", Path(folder) / "second.onnx"
        network = replace(network, validation=MEASURED, bias_report="2 biases are rounded")
        export_integer_onnx(network, first, dialect)
        again = import_integer(first)
        assert same_network(again, network)
        export_integer_onnx(again, second, dialect)
        assert first.read_bytes() == second.read_bytes()
        codes = np.random.default_rng(0).integers(0, 2**network.input.bits, (2, *network.input.shape))
        if dialect == "onnx":
            (found,) = run_onnx(first, codes.astype(np.float32))
            assert np.array_equal(found, results(network, codes))


@given(networks(load_hardware("tiny")))
@UNHURRIED
def test_arrays_come_back_whole(network: IntegerNetwork) -> None:
    with tempfile.TemporaryDirectory() as folder:
        network = replace(network, test=MEASURED)
        npz, _ = export_arrays(network, Path(folder) / "network")
        assert same_network(import_arrays(npz), network)


@st.composite
def layered(draw: st.DrawFn) -> Network:
    """A network with odd maps, groups, strides, one-sided padding, sums, both poolings."""
    channels = draw(st.integers(1, 5))
    layers: list[Layer] = [Input("input", (), channels, draw(st.integers(3, 9)), draw(st.integers(3, 9)))]
    for index in range(draw(st.integers(1, 3))):
        source = layers[-1].name
        kind = draw(st.sampled_from(["conv", "depthwise", "residual", "max", "avg"]))
        shape = Network("", tuple(layers)).shapes[source]
        groups = shape[0] if kind in ("depthwise", "residual") else 1
        if kind in ("max", "avg"):
            if min(shape[1:]) < 2:
                continue
            pool = MaxPool if kind == "max" else AvgPool
            layers.append(pool(f"{kind}{index}", (source,), (2, 2), (2, 2) if min(shape[1:]) > 3 else (1, 1)))
            continue
        filters = shape[0] if kind == "residual" else shape[0] * draw(st.integers(1, 3))
        kernel = draw(st.sampled_from([(1, 1), (3, 3), (1, 3)]))
        around = (kernel[0] // 2, kernel[0] // 2, kernel[1] // 2, kernel[1] // 2)
        stride = (1, 1)
        if kind != "residual":
            around = (around[0], draw(st.integers(0, 1)) if kernel[0] > 1 else 0, *around[2:])
            stride = draw(st.sampled_from([(1, 1), (2, 2), (1, 2)]))
        if shape[1] + around[0] + around[1] < kernel[0] or shape[2] + around[2] + around[3] < kernel[1]:
            continue
        layers.append(Conv(f"conv{index}", (source,), filters, kernel, stride, around, groups, True))
        if kind == "residual":
            layers.append(Add(f"add{index}", (f"conv{index}", source)))
        if draw(st.booleans()):
            layers.append(Relu(f"relu{index}", (layers[-1].name,), draw(st.sampled_from([None, 6.0]))))
    layers.append(Flatten("flatten", (layers[-1].name,)))
    layers.append(Linear("head", ("flatten",), draw(st.integers(1, 4))))
    return Network("drawn", tuple(layers))


@given(
    layered(),
    st.sampled_from(["fixed8", "fixed4", "pot4 fixed4 fixed8"]),
    st.integers(2, 8),
    st.sampled_from(["qdq", "qonnx"]),
    st.integers(0, 99),
)
@UNHURRIED
def test_real_valued_graphs_come_back_with_the_same_integers(
    source: Network, formats: str, bits: int, form: Literal["qdq", "qonnx"], seed: int
) -> None:
    network = random_network(source, {RowFormat.parse(part): 1.0 for part in formats.split()}, bits, seed=seed)
    codes = np.random.default_rng(seed).integers(0, 2**bits, (3, *network.input.shape))
    with tempfile.TemporaryDirectory() as folder:
        first, second = Path(folder) / "first.onnx", Path(folder) / "second.onnx"
        export_quantized_onnx(network, first, form)
        again = import_quantized_onnx(first)
        export_quantized_onnx(again, second, form)
        assert np.array_equal(results(import_quantized_onnx(second), codes), results(again, codes))

"""Float ONNX in and out, against ONNX Runtime and torch."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from codesign.interchange.onnx_float import import_float_onnx
from codesign.interchange.onnx_float_export import export_float_onnx
from codesign.quant.module import NetworkModule
from codesign.workload import Network, zoo
from tests.interchange.networks import images, random_state, run_onnx

pytest.importorskip("onnx", reason="needs onnx")


@pytest.mark.parametrize(
    ("name", "options"), [("resnet8", {"size": 16}), ("dscnn", {}), ("mobilenetv1_025", {"size": 32})]
)
def test_export_and_import_give_the_same_network(name: str, options: dict[str, int], tmp_path: Path) -> None:
    network = zoo.get(name, **options)
    state = random_state(network)
    path = tmp_path / "model.onnx"
    export_float_onnx(network, state, path)
    again, weights = import_float_onnx(path)
    assert again == Network(network.name, again.layers)
    assert [type(layer) for layer in again.layers] == [type(layer) for layer in network.layers]
    assert again.shapes == {
        ("input" if key == network.input.name else key): shape for key, shape in network.shapes.items()
    }
    for key, value in weights.items():
        assert torch.equal(value, state[key])


def test_onnxruntime_computes_what_the_module_does(tmp_path: Path) -> None:
    network = zoo.get("resnet8", size=16)
    state = random_state(network)
    path = tmp_path / "model.onnx"
    export_float_onnx(network, state, path)
    again, weights = import_float_onnx(path)
    module = NetworkModule(again)
    module.load_state_dict(weights, strict=False)
    module.eval()
    batch = images(network, 3)
    with torch.no_grad():
        expected = module(torch.from_numpy(batch)).numpy()
    (result,) = run_onnx(path, batch)
    assert np.abs(result - expected).max() < 1e-4 * np.abs(expected).max()


class Small(nn.Module):
    """What exporters make into Pad, BatchNormalization, ReduceMean, Gemm and Add nodes."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3, stride=2)
        self.norm = nn.BatchNorm2d(8)
        self.branch = nn.Conv2d(8, 8, 3, padding=1, groups=8)
        self.head = nn.Linear(8, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = functional.relu(self.norm(self.conv(functional.pad(x, (0, 1, 0, 1)))))
        x = functional.relu(x + self.branch(x))
        head: torch.Tensor = self.head(x.mean((2, 3)))
        return head


def test_a_model_of_torchs_exporter_is_read(tmp_path: Path) -> None:
    pytest.importorskip("onnxscript", reason="torch's exporter needs onnxscript")
    torch.manual_seed(0)
    module = Small().eval()
    batch = torch.rand(2, 3, 12, 12)
    path = tmp_path / "small.onnx"
    torch.onnx.export(module, (batch,), str(path), dynamo=True, external_data=False, verbose=False)
    network, state = import_float_onnx(path)
    again = NetworkModule(network)
    again.load_state_dict(state, strict=False)
    with torch.no_grad():
        assert torch.allclose(again.eval()(batch), module(batch), atol=1e-5)

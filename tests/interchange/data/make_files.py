"""Write the files of this folder: small residual, depthwise networks as Brevitas and PyTorch export them.

    python make_files.py     (with brevitas 0.13.4 and torch 2.13 installed)

Beside each model stands what the tool itself computes: images `x` and results `y` in an .npz.
"""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import brevitas.nn as qnn
import numpy as np
import onnx
import torch
from brevitas.export import export_onnx_qcdq, export_qonnx
from brevitas.quant import Int8ActPerTensorFloat, Int8WeightPerChannelFloat, Int32Bias
from torch import Tensor, nn
from torch.ao import quantization
from torch.ao.quantization.quantize_fx import prepare_qat_fx

HERE = Path(__file__).parent


class BrevitasNet(nn.Module):
    def __init__(self, weight_bits: int, act_bits: int) -> None:
        super().__init__()
        row: dict[str, Any] = {
            "weight_quant": Int8WeightPerChannelFloat,
            "weight_bit_width": weight_bits,
            "bias_quant": Int32Bias,
        }
        signed: dict[str, Any] = {"act_quant": Int8ActPerTensorFloat, "return_quant_tensor": True}
        self.image = qnn.QuantIdentity(bit_width=8, **signed)
        self.conv = qnn.QuantConv2d(3, 8, 3, padding=1, **row)
        self.relu1 = qnn.QuantReLU(bit_width=act_bits, return_quant_tensor=True)
        self.depthwise = qnn.QuantConv2d(8, 8, 3, padding=1, groups=8, **row)
        self.relu2 = qnn.QuantReLU(bit_width=act_bits, return_quant_tensor=True)
        self.pointwise = qnn.QuantConv2d(8, 8, 1, **row)
        self.shared = qnn.QuantIdentity(bit_width=act_bits, **signed)
        self.relu3 = qnn.QuantReLU(bit_width=act_bits, return_quant_tensor=True)
        self.pool = nn.MaxPool2d(2)
        self.head = qnn.QuantLinear(128, 10, bias=True, **row)

    def forward(self, x: Tensor) -> Tensor:
        x = self.relu1(self.conv(self.image(x)))
        y = self.shared(self.pointwise(self.relu2(self.depthwise(x))))
        x = self.pool(self.relu3(self.shared(x) + y))
        result: Tensor = self.head(x.flatten(1))
        return result


class TorchNet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.relu = nn.Conv2d(3, 8, 3, padding=1), nn.ReLU()
        self.depthwise, self.pool = nn.Conv2d(8, 8, 3, padding=1, groups=8), nn.AdaptiveAvgPool2d(1)
        self.head = nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.relu(self.conv(x))
        x = self.relu(x + self.depthwise(x))
        result: Tensor = self.head(torch.flatten(self.pool(x), 1))
        return result


def save(name: str, model: onnx.ModelProto, images: Tensor, results: Tensor) -> None:
    for node in model.graph.node:
        node.doc_string = ""
    del model.metadata_props[:]
    onnx.save(model, str(HERE / f"{name}.onnx"))
    np.savez_compressed(HERE / f"{name}.npz", x=images.numpy(), y=results.detach().numpy())


def brevitas(weight_bits: int, act_bits: int) -> None:
    torch.manual_seed(0)
    module = BrevitasNet(weight_bits, act_bits).train()
    for _ in range(5):
        module(torch.randn(8, 3, 8, 8))
    module.eval()
    images = torch.randn(4, 3, 8, 8)
    for name, export in (("qonnx", export_qonnx), ("qcdq", export_onnx_qcdq)):
        path = HERE / f"brevitas_{name}_w{weight_bits}a{act_bits}.onnx"
        export(module, args=images[:1], export_path=str(path), opset_version=17, dynamo=False)
        save(path.stem, onnx.load(str(path)), images, module(images))


def pytorch() -> None:
    torch.manual_seed(0)
    images = torch.rand(8, 3, 8, 8)
    fake = quantization.FakeQuantize.with_args
    mapping = quantization.QConfigMapping().set_global(
        quantization.QConfig(
            activation=fake(
                observer=quantization.MovingAverageMinMaxObserver, quant_min=0, quant_max=255, dtype=torch.quint8
            ),
            weight=fake(
                observer=quantization.PerChannelMinMaxObserver,
                quant_min=-128,
                quant_max=127,
                dtype=torch.qint8,
                qscheme=torch.per_channel_symmetric,
            ),
        )
    )
    module = prepare_qat_fx(TorchNet().train(), mapping, (images,))
    module(images)
    module.eval()
    module.apply(quantization.disable_observer)
    file = io.BytesIO()
    torch.onnx.export(module, (images[:1],), file, dynamo=False, opset_version=17)
    save("pytorch_qat", onnx.load_from_string(file.getvalue()), images, module(images))


if __name__ == "__main__":
    brevitas(4, 4)
    brevitas(2, 6)
    pytorch()

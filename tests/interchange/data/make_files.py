"""Write the files of this folder: small networks as Brevitas and PyTorch export them.

    python make_files.py     (with brevitas 0.13.4, torch 2.13 and scikit-learn installed)

Beside each model stands what the tool itself computes: images `x` and results `y` in an .npz. The networks trained on
handwritten digits share the test images in digits_test.npz, 16 times the pixels as bytes.
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
from brevitas.quant import Int8ActPerTensorFloat, Int8WeightPerChannelFloat, Int32Bias, Uint8ActPerTensorFloat
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.ao import quantization
from torch.ao.quantization.quantize_fx import prepare_qat_fx

from codesign.data.user_data import split

HERE = Path(__file__).parent
EPOCHS = 20


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


class DigitsNet(nn.Module):
    """Float biases and batch norms behind few-bit convolutions, as most of Brevitas's users have them."""

    def __init__(self, weight_bits: int, act_bits: int) -> None:
        super().__init__()
        row: dict[str, Any] = {"weight_quant": Int8WeightPerChannelFloat, "weight_bit_width": weight_bits}

        def block(channels: int, rows: int) -> nn.Sequential:
            conv = qnn.QuantConv2d(channels, rows, 3, padding=1, bias=False, **row)
            return nn.Sequential(conv, nn.BatchNorm2d(rows), qnn.QuantReLU(bit_width=act_bits))

        self.image = qnn.QuantIdentity(act_quant=Uint8ActPerTensorFloat, bit_width=8)
        self.a, self.pool, self.b, self.c = block(1, 12), nn.MaxPool2d(2), block(12, 16), block(16, 16)
        self.head = qnn.QuantLinear(256, 10, bias=True, weight_bit_width=weight_bits)

    def forward(self, x: Tensor) -> Tensor:
        x = self.c(self.b(self.pool(self.a(self.image(x)))))
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


def digits() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """(training images, labels, test images, labels), the split of codesign's data set "digits" with seed 0."""
    bunch = load_digits()
    images = torch.from_numpy(bunch.images.astype(np.float32) / 16)[:, None]
    labels = torch.from_numpy(bunch.target.astype(np.int64))
    kept, chosen = split(bunch.target.astype(np.int64), 0)
    return images[kept], labels[kept], images[chosen], labels[chosen]


def trained(weight_bits: int, act_bits: int) -> None:
    torch.manual_seed(0)
    images, labels, test, expected = digits()
    module = DigitsNet(weight_bits, act_bits)
    optimizer = torch.optim.Adam(module.parameters(), 3e-3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, EPOCHS)
    for _ in range(EPOCHS):
        module.train()
        for part in torch.randperm(len(images)).split(64):
            optimizer.zero_grad()
            nn.functional.cross_entropy(module(images[part]), labels[part]).backward()
            optimizer.step()
        schedule.step()
    module.eval()
    with torch.no_grad():
        results = module(test)
    for name, export in (("qonnx", export_qonnx), ("qcdq", export_onnx_qcdq)):
        path = HERE / f"digits_{name}_w{weight_bits}a{act_bits}.onnx"
        export(module, args=test[:1], export_path=str(path), opset_version=17, dynamo=False)
        model = onnx.load(str(path))
        for node in model.graph.node:
            node.doc_string = ""
        del model.metadata_props[:]
        onnx.save(model, str(path))
    np.savez_compressed(HERE / f"digits_w{weight_bits}a{act_bits}.npz", y=results.numpy())
    pixels = (test.numpy() * 16).astype(np.uint8)
    np.savez_compressed(HERE / "digits_test.npz", x=pixels, labels=expected.numpy())


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
    for bits in ((2, 2), (2, 4), (4, 4), (8, 8)):
        trained(*bits)
    pytorch()

"""A user's own residual network as a `.pt2`, their folder of images, their limit: through a co-search to a kit."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
import yaml
from PIL import Image
from sklearn.datasets import load_digits
from torch import Tensor, nn

from tests.conftest import Run

pytestmark = pytest.mark.slow


class Block(nn.Module):
    """Two convolutions beside a way past them."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.first = nn.Sequential(
            nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU()
        )
        self.second = nn.Sequential(nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False), nn.BatchNorm2d(outputs))
        self.past: nn.Module = nn.Identity()
        if stride > 1:
            self.past = nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))
        self.relu = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.relu(self.second(self.first(x)) + self.past(x))
        return out


class Net(nn.Module):
    """A small ResNet of three channels in, ten classes out."""

    def __init__(self) -> None:
        super().__init__()
        stem = nn.Sequential(nn.Conv2d(3, 8, 3, 1, 1, bias=False), nn.BatchNorm2d(8), nn.ReLU())
        self.features = nn.Sequential(stem, Block(8, 8, 1), Block(8, 16, 2), Block(16, 32, 2), nn.AdaptiveAvgPool2d(1))
        self.classifier = nn.Linear(32, 10)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.classifier(self.features(x).flatten(1))
        return out


def test_own_network_own_images_own_limit(tmp_path: Path, run: Run) -> None:
    digits = load_digits()
    for number, (pixels, label) in enumerate(zip(digits.images, digits.target, strict=True)):
        folder = tmp_path / "pictures" / ("train" if number < 1400 else "test") / f"class {label}"
        folder.mkdir(parents=True, exist_ok=True)
        image = Image.fromarray((pixels * 15).astype("uint8")).resize((16, 16)).convert("RGB")
        image.save(folder / f"{number}.png")
    torch.manual_seed(0)
    program = torch.export.export(Net().eval(), (torch.zeros(1, 3, 16, 16),))
    torch.export.save(program, tmp_path / "net.pt2")
    space = {
        "network": str(tmp_path / "net.pt2"),
        "data": str(tmp_path / "pictures"),
        "hardware": {"base": "league/fixed", "vary": {"columns": [1, 2]}},
        "model": {"choices": "w4a4,w8a8", "shares": [0.3, 1.0]},
        "training": {"float_epochs": 4, "epochs": [0, 2], "keep": 0.5},
        "constraints": ["latency_ms <= 2", "lut <= 53200"],
        "images": 2,
    }
    (tmp_path / "space.yaml").write_text(yaml.safe_dump(space))
    status, _, err = run("cosearch", tmp_path / "space.yaml", "-o", tmp_path / "run", "--json", tmp_path / "out.json")
    assert status == 0, err
    front = json.loads((tmp_path / "out.json").read_text())["front"]
    assert front and all(each["latency_ms"] <= 2 and each["lut"] <= 53200 and each["rtl"]["exact"] for each in front)
    assert max(each["test_accuracy"] for each in front) > 0.6, "of ten classes"
    assert run("report", tmp_path / "run", "-o", tmp_path / "page.html")[0] == 0
    status, _, err = run("export", tmp_path / "run", "--point", "1", "-o", tmp_path / "kit")
    assert status == 0 and (tmp_path / "kit" / "README.md").is_file(), err

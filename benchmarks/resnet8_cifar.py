"""MLPerf Tiny's ResNet-8 with its own weights, and CIFAR-10's images: what benchmarks of allocation share.

Weights are in the data folder (`mlperf_tiny_models/pretrainedResnet.tflite`). A seed draws the images that are looked
at and calibrated with, and splits off validation images; the weights are the same for all seeds.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path
from statistics import mean, stdev

import numpy as np
import torch
from torch import Tensor

from codesign.allocation.sensitivities.preparing import subject_on
from codesign.allocation.sensitivities.subject import BATCH, Subject
from codesign.allocation.space import Space
from codesign.api.modules import FloatModel
from codesign.api.networks import float_model
from codesign.api.reading import Reading
from codesign.data.sources import Images, Labels, load_dataset
from codesign.formats.assignment import Assignment
from codesign.quant.module import build_module
from codesign.quant.options import RunOptions
from codesign.quant.qat import QatNetwork
from codesign.workload.layers import BatchNorm, Conv, Layer

MODEL = "mlperf_tiny_models/pretrainedResnet.tflite"


def options(doc: str | None, images: int) -> argparse.ArgumentParser:
    """What all of these benchmarks are asked: data, seeds, and how many images are looked at."""
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-dir", type=Path, default=Path("../shared/data"))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--images", type=int, default=images, help="that losses and calibration look at")
    parser.add_argument("--test-images", type=int, default=10_000, help="and half as many for validation")
    return parser


def resnet8(folder: Path) -> FloatModel:
    """The network for pixels from 0 to 1; its own takes them to 255."""
    found = float_model(str(folder / MODEL), Reading())
    assert found is not None
    first = found.network.layers[1].name
    (name,) = (name for name in found.state if name.startswith(first) and name.endswith("weight"))
    return replace(found, state={**found.state, name: found.state[name] * 255})


def with_batch_norms(model: FloatModel, images: Images) -> FloatModel:
    """The same function with a batch norm behind every convolution, which files of inference have lost.

    Its statistics are those of the convolution's results on the images, and its scale and shift undo them. Some methods
    look at such statistics: ZeroQ distils images from them.
    """
    module = build_module(model.network)
    module.load_state_dict(dict(model.state))
    results: dict[str, Tensor] = {}
    convs = [layer.name for layer in model.network.layers if isinstance(layer, Conv)]
    for name in convs:
        module.get_submodule(name).register_forward_hook(lambda *of, name=name: results.update({name: of[2]}))
    with torch.no_grad():
        module.eval()(torch.from_numpy(np.asarray(images)))
    norms = {name: f"{name}/norm" for name in convs}
    layers: list[Layer] = []
    state = dict(model.state)
    for layer in model.network.layers:
        layers.append(replace(layer, inputs=tuple(norms.get(name, name) for name in layer.inputs)))
        if (norm := norms.get(layer.name)) is None:
            continue
        layers.append(BatchNorm(norm, (layer.name,)))
        mean_of = results[layer.name].mean(dim=(0, 2, 3))
        variance = results[layer.name].var(dim=(0, 2, 3))
        state |= {
            f"{norm}.weight": (variance + BatchNorm.eps).sqrt(),
            f"{norm}.bias": mean_of,
            f"{norm}.running_mean": mean_of,
            f"{norm}.running_var": variance,
            f"{norm}.num_batches_tracked": torch.tensor(1),
        }
    return replace(model, network=replace(model.network, name="resnet8", layers=tuple(layers)), state=state)


class Bench:
    """Images of a seed, and the accuracy of calibrated assignments on them."""

    def __init__(self, folder: Path, seed: int, images: int, test_images: int) -> None:
        """Read the images.

        Args:
            folder: of the data.
            seed: of the split and of what is drawn.
            images: that losses and calibration look at.
            test_images: and half as many for validation.
        """
        self.seed, self.images = seed, images
        self.data = data = load_dataset("cifar10", folder, seed)
        self._sets = {
            "validation": _some(data.validation_images, data.validation_labels, test_images // 2),
            "test": _some(data.test_images, data.test_labels, test_images),
        }
        self._known: dict[str, dict[str, float]] = {}

    def subject(self, model: FloatModel, space: Space) -> Subject:
        """The network with images to look at."""
        run = RunOptions(self.seed, None)
        return subject_on(space, self.data, float_state=model.state, images=self.images, run=run)

    def accuracy(self, subject: Subject, assignment: Assignment) -> dict[str, float]:
        """Validation and test accuracy of the calibrated network, nothing trained."""
        if (key := assignment.content_hash) not in self._known:
            model = QatNetwork(
                subject.model.network, subject.state, assignment, input_signed=subject.model.fused.input.signed
            )
            model.eval()
            model.calibrate(subject.images)
            self._known[key] = {kind: _right(model, *held) for kind, held in self._sets.items()}
        return self._known[key]


def _some(images: Images, labels: Labels, count: int) -> tuple[Tensor, Tensor]:
    return torch.from_numpy(np.asarray(images[:count])), torch.from_numpy(np.asarray(labels[:count]))


@torch.no_grad()
def _right(model: QatNetwork, images: Tensor, labels: Tensor) -> float:
    classes = [model(some).flatten(1).argmax(1) for some in torch.split(images, 4 * BATCH)]
    return float((torch.cat(classes) == labels).double().mean())


def spread(values: list[float]) -> str:
    """Mean and deviation of shares, in percent."""
    deviation = f" ± {100 * stdev(values):.1f}" if len(values) > 1 else ""
    return f"{100 * mean(values):.1f}{deviation} %"

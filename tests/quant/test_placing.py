"""Training on another device, shown without one: torch's meta device has no numbers but refuses mixed devices."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from codesign.data.sources import load_dataset
from codesign.errors import UserError
from codesign.formats.assignment import Assignment
from codesign.formats.row_format import RowFormat
from codesign.quant.distill import Distillation
from codesign.quant.module import build_module
from codesign.quant.options import RunOptions
from codesign.quant.pipeline import quantize
from codesign.quant.placing import generator, on, uniform
from codesign.quant.qat import QatNetwork
from codesign.quant.training_rules import TRAINING_RULES, training_rule
from codesign.workload import zoo
from codesign.workload.fold import fold_batchnorm

FORMATS = ("pot4", "fixed4", "fixed8", "apot4", "ternary", "binary", "midrise4", "full4")


@pytest.mark.parametrize("name", TRAINING_RULES)
def test_a_pass_of_training_stays_on_its_device(name: str) -> None:
    network = zoo.get("smallcnn", width=8)
    module = build_module(network, seed=0).eval()
    folded, state = fold_batchnorm(network, module.state_dict())
    rows = [RowFormat.parse(FORMATS[row % len(FORMATS)]) for row in range(64)]
    assignment = Assignment.of([(item.name, rows[: folded.weight_shape(item.name)[0]]) for item in folded.weighted], 4)
    model = QatNetwork(folded, state, assignment, training_rule(name))

    def moved(part: nn.Module) -> None:
        """The module as if it had been made on a GPU, tables of formats included."""
        for holder in part.modules():
            for key, value in vars(holder).items():
                if hasattr(value, "nearest"):
                    vars(holder)[key] = type(value)(value.formats)
            for key, parameter in list(holder._parameters.items()):
                if parameter is not None:
                    holder._parameters[key] = nn.Parameter(torch.empty(parameter.shape))
            for key, buffer in list(holder._buffers.items()):
                if buffer is not None:
                    holder._buffers[key] = torch.empty(buffer.shape, dtype=buffer.dtype)

    with torch.device("meta"):
        moved(model)
        moved(module)
        x, y = torch.empty(6, 1, 8, 8), torch.zeros(6, dtype=torch.int64)
        model.train()
        scores = model(x)
        assert scores.device.type == "meta"
        loss = Distillation(module, share=0.5).loss(scores, x, y)
        penalty = model.penalty()
        loss = loss if penalty is None else loss + penalty
        loss.backward()  # type: ignore[no-untyped-call]
        assert all(p.grad is None or p.grad.device.type == "meta" for p in model.parameters())
        torch.optim.AdamW(model.parameters()).step()


def test_the_same_numbers_are_drawn_everywhere() -> None:
    with torch.device("meta"):
        assert uniform((3, 2), generator(5)).device.type == "meta"
    assert torch.equal(uniform((3, 2), generator(5)), torch.rand(3, 2, generator=torch.Generator().manual_seed(5)))


def test_a_device_that_is_not_there_is_one_line() -> None:
    with pytest.raises(UserError, match="device 'nonsense' cannot be used: "), on("nonsense"):
        pass
    if not torch.cuda.is_available():
        with pytest.raises(UserError, match="device 'cuda' cannot be used: ") as caught:
            quantize(zoo.get("smallcnn"), load_dataset("digits"), run=RunOptions(device="cuda"))
        assert "\n" not in str(caught.value)

"""Programs of torch.export, as saved and as taken apart, with torch itself as the judge; and the errors."""

from __future__ import annotations

import io
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from codesign.errors import UserError
from codesign.quant.module import build_module
from codesign.workload import Network, zoo
from codesign.workload.exported import load_exported, read_exported
from codesign.workload.trace import trace
from tests.workload.modules import PARTS, SPELLINGS, Spelled

SIZE = (3, 8, 6)


def exported(module: nn.Module, size: tuple[int, ...] = SIZE, dynamic: bool = True) -> Any:
    torch.manual_seed(0)
    # torch takes a size of 1 for a fixed one.
    batch = torch.randn(2, *size)
    shapes = ({0: torch.export.Dim.DYNAMIC},) if dynamic else None
    return torch.export.export(module.eval(), (batch,), dynamic_shapes=shapes, strict=False)


def equals(network: Network, state: dict[str, Tensor], module: nn.Module, batch: int = 2) -> None:
    again = build_module(network, seed=1).eval()
    again.load_state_dict(state)
    images = torch.randn(batch, *network.shapes[network.input.name], generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected = module(images)
        result = again(images)
    # The same kernels, but torch may take a mean where the module pools.
    torch.testing.assert_close(result.reshape(expected.shape), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("rest", SPELLINGS)
def test_every_spelling_computes_what_torch_computes(rest: Callable[[Any, Tensor], Tensor]) -> None:
    module = Spelled(rest)
    program = exported(module)
    equals(*read_exported(program), module)
    equals(*read_exported(program.run_decompositions()), module)


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel")
@pytest.mark.parametrize("part", PARTS, ids=lambda part: type(part).__name__)
def test_every_module_computes_what_torch_computes(part: nn.Module) -> None:
    module = Spelled(lambda self, x: self.part(x), part=part)
    program = exported(module)
    network, state = read_exported(program)
    equals(network, state, module)
    equals(*read_exported(program.run_decompositions()), module)
    traced = trace(module, SIZE)
    assert [type(layer) for layer in network.layers] == [type(layer) for layer in traced.layers]
    assert [layer.name for layer in network.weighted] == [layer.name for layer in traced.weighted]


@pytest.mark.parametrize("name", ["resnet8", "mobilenetv2"])
def test_files_of_whole_networks(name: str, tmp_path: Path) -> None:
    network = zoo.get(name, size=32)
    module = build_module(network, seed=3).eval()
    torch.export.save(exported(module, (3, 32, 32), dynamic=False), tmp_path / f"{name}.pt2")
    found, state = load_exported(tmp_path / f"{name}.pt2")
    assert found.name == name
    assert found.macs == network.macs and found.parameters == network.parameters
    assert [type(layer) for layer in found.layers] == [type(layer) for layer in network.layers]
    equals(found, state, module)


def test_a_vector_is_a_map_of_one_pixel() -> None:
    module = nn.Sequential(nn.Linear(12, 5), nn.ReLU(), nn.Linear(5, 2)).eval()
    network, state = read_exported(exported(module, (12,)))
    assert network.shapes["input"] == (12, 1, 1)
    assert [layer.name for layer in network.weighted] == ["0", "2"]
    again = build_module(network, seed=1).eval()
    again.load_state_dict(state)
    x = torch.randn(3, 12)
    assert torch.equal(again(x[:, :, None, None]), module(x))


def test_a_last_softmax_stays_on_the_host() -> None:
    body = nn.Sequential(nn.Flatten(), nn.Linear(144, 5))
    for last in (nn.Softmax(1), nn.LogSoftmax(1)):
        for program in (exported(nn.Sequential(body, last)), exported(nn.Sequential(body, last)).run_decompositions()):
            network, state = read_exported(program)
            assert [type(layer).__name__ for layer in network.layers] == ["Input", "Flatten", "Linear"]
            assert torch.equal(state["0.1.weight"], body[1].weight)
    with pytest.raises(UserError, match="leave it to the host, behind the last layer"):
        read_exported(exported(nn.Sequential(body, nn.Softmax(1), nn.ReLU())))


def test_batch_norm_without_affine_gets_ones_and_zeros() -> None:
    module = Spelled(lambda self, x: self.part(x), part=nn.BatchNorm2d(4, affine=False))
    equals(*read_exported(exported(module)), module)


class Shared(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(self.conv(x))


class Twice(nn.Module):
    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        return x + y


REFUSED: list[tuple[Callable[[Any, Tensor], Tensor], str]] = [
    (
        lambda self, x: torch.sigmoid(x),
        "node 'sigmoid' calls 'aten.sigmoid.default', which is not supported; what would replace it: ReLU, and",
    ),
    (lambda self, x: F.conv_transpose2d(x, torch.ones(4, 2, 2, 2)), "conv_transpose2d"),
    (lambda self, x: x @ x.transpose(2, 3), "node"),
    (
        lambda self, x: torch.cat([x, x], 1),
        "aten.cat.default', which is not supported; what would replace it: a sum of convolutions",
    ),
    (lambda self, x: x.permute(0, 2, 3, 1), "transposes a computed tensor"),
    (lambda self, x: x[:, :2], "aten.slice"),
    (lambda self, x: F.leaky_relu(x), "what would replace it: ReLU"),
    (lambda self, x: torch.erf(x), "what would replace it: one of: Conv2d"),
    (lambda self, x: x + 1, "takes 1"),
    (lambda self, x: F.conv2d(x, torch.ones(1, 4, 2, 2)), "weights that are computed"),
]


@pytest.mark.parametrize(("rest", "message"), REFUSED)
def test_unsupported_operations_are_named(rest: Callable[[Any, Tensor], Tensor], message: str) -> None:
    with pytest.raises(UserError) as caught:
        read_exported(exported(Spelled(rest)), "mine")
    assert str(caught.value).startswith("network 'mine': ") and message in str(caught.value)


def test_other_programs_are_refused() -> None:
    with pytest.raises(UserError, match="has dilation"):
        read_exported(exported(nn.Conv2d(3, 2, 2, dilation=2)))
    with pytest.raises(UserError, match="'conv' again; layers that share weights"):
        read_exported(exported(Shared()))
    program = torch.export.export(Twice(), (torch.ones(1, 3, 4, 4), torch.ones(1, 3, 4, 4)))
    with pytest.raises(UserError, match="has 2 inputs and 1 outputs"):
        read_exported(program)
    height = torch.export.Dim("height", min=4, max=64)
    program = torch.export.export(nn.Conv2d(3, 2, 3), (torch.ones(2, 3, 8, 8),), dynamic_shapes=({2: height},))
    with pytest.raises(UserError, match=r"dynamic shape .* all but the batch must be numbers"):
        read_exported(program)
    broken = nn.Conv2d(3, 2, 3)
    with torch.no_grad():
        broken.weight[0, 0] = float("nan")
    with pytest.raises(UserError, match="9 of the 54 numbers of 'weight' NaN"):
        read_exported(exported(broken))


def test_a_module_in_training_mode_is_refused() -> None:
    module = Spelled(lambda self, x: self.part(x), part=nn.BatchNorm2d(4)).train()
    program = torch.export.export(module, (torch.randn(2, *SIZE),))
    with pytest.raises(UserError, match="call eval"):
        read_exported(program)


def test_damaged_files_are_one_line(tmp_path: Path) -> None:
    path = tmp_path / "a.pt2"
    torch.export.save(exported(build_module(zoo.get("smallcnn"), seed=0), (1, 8, 8)), path)
    data = path.read_bytes()
    for share in (0.0, 0.3, 0.9):
        path.write_bytes(data[: int(share * len(data))])
        with pytest.raises(UserError, match="cut short") as caught:
            load_exported(path)
        assert str(caught.value).startswith(f"{path}: ") and "\n" not in str(caught.value)
    with pytest.raises(UserError, match="no such file"):
        load_exported(tmp_path / "none.pt2")
    torch.save({"a": torch.ones(1)}, path)
    with pytest.raises(UserError, match=r"no program of torch.export"):
        load_exported(path)


class Touch:
    """Makes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return (Path.touch, (self.path,))


def test_pickled_objects_are_not_executed(tmp_path: Path) -> None:
    path, proof = tmp_path / "a.pt2", tmp_path / "executed"
    torch.export.save(exported(build_module(zoo.get("smallcnn"), seed=0), (1, 8, 8)), path)
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    buffer = io.BytesIO()
    torch.save(Touch(proof), buffer)
    sample = next(name for name in members if "sample_inputs" in name)
    config = next(name for name in members if name.endswith("weights_config.json"))
    weight = next(name for name in members if name.endswith("weight_0"))
    poisoned = {
        "sample": members | {sample: buffer.getvalue()},
        "plain pickle": members | {sample: pickle.dumps(Touch(proof))},
        "weight": members
        | {weight: buffer.getvalue(), config: members[config].replace(b'"use_pickle": false', b'"use_pickle": true')},
    }
    for content in poisoned.values():
        assert content != members
        with zipfile.ZipFile(path, "w") as archive:
            for name, data in content.items():
                archive.writestr(name, data)
        with pytest.raises(UserError, match="would be executed; not read"):
            load_exported(path)
        assert not proof.exists()

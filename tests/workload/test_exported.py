"""Programs of torch.export, as saved and as taken apart, with torch itself as the judge; and the errors."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from codesign.errors import UserError
from codesign.integer.host import apply_steps
from codesign.interchange.load import float_host
from codesign.quant.module import build_module
from codesign.workload import Network, zoo
from codesign.workload.exported import load_exported, read_exported
from codesign.workload.exported_ops import OPERATIONS
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


def test_what_ends_a_program_is_kept_for_the_host(tmp_path: Path) -> None:
    body = nn.Sequential(nn.Flatten(), nn.Linear(144, 5)).eval()
    images = torch.randn(4, *SIZE)
    for last in (nn.Softmax(1), nn.LogSoftmax(-1), nn.Sigmoid(), Largest()):
        whole = nn.Sequential(body, last).eval()
        torch.export.save(exported(whole), tmp_path / "a.pt2")
        ours = apply_steps(float_host(tmp_path / "a.pt2"), body(images).detach().numpy())
        assert torch.allclose(torch.from_numpy(ours).double(), whole(images).double(), atol=1e-6)


class Largest(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.argmax(1)


class Adds(nn.Module):
    """Adds constants of its own at places where a bias can take them."""

    def __init__(self, *shape: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, bias=False)
        self.norm = nn.BatchNorm2d(4)
        self.more = nn.Parameter(torch.randn(shape))
        self.fc = nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.norm(self.conv(x) + self.more) - self.more)
        return self.fc(x.mean((2, 3))) + 0.25


@pytest.mark.parametrize("shape", [(4, 1, 1), (1, 4, 1, 1), (1,), ()])
def test_constants_are_added_to_biases(shape: tuple[int, ...]) -> None:
    torch.manual_seed(1)
    module = Adds(*shape).eval()
    network, state = read_exported(exported(module))
    assert [type(layer).__name__ for layer in network.layers[1:4]] == ["Conv", "BatchNorm", "Relu"]
    assert "BatchNorm" not in [type(layer).__name__ for layer in network.folded().layers]
    equals(network, state, module)


def test_constants_that_no_bias_holds_are_named() -> None:
    with pytest.raises(UserError, match="differs from place to place") as caught:
        read_exported(exported(Adds(6, 4)))
    assert len(str(caught.value)) < 300
    branching = Spelled(lambda self, x: F.relu(x) + (x + 1.0))
    network, state = read_exported(exported(branching))
    equals(network, state, branching)
    with pytest.raises(UserError, match="BatchNorm can only be folded into a Conv or Linear that nothing else reads"):
        network.folded()


def _changes_a_view(self: nn.Module, x: Tensor) -> Tensor:
    x.flatten(1).relu_()
    return x + x


def _changes_the_map_of_a_view(self: nn.Module, x: Tensor) -> Tensor:
    flat = x.flatten(1)
    x.relu_()
    return flat + flat


def _changes_what_is_read_again(self: nn.Module, x: Tensor) -> Tensor:
    same = F.dropout(x, training=False)
    F.relu_(x)
    return same + x


@pytest.mark.parametrize("rest", [_changes_a_view, _changes_the_map_of_a_view, _changes_what_is_read_again])
def test_operations_in_place_change_every_view(rest: Callable[[Any, Tensor], Tensor]) -> None:
    module = Spelled(rest)
    try:
        network, state = read_exported(exported(module))
    except UserError as error:
        assert "changed it in place" in str(error)  # noqa: PT017
    else:
        equals(network, state, module)


def test_every_argument_of_torchs_operators_is_known() -> None:
    for name, (_, arguments) in OPERATIONS.items():
        _, title, overload = name.split(".")
        schema = getattr(getattr(torch.ops.aten, title), overload)._schema
        assert arguments.split() == [item.name for item in schema.arguments], name


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
        lambda self, x: torch.tanh(x),
        "node 'tanh' calls 'aten.tanh.default', which is not supported; what would replace it: ReLU, and",
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
    (lambda self, x: x.softmax(3), "is over axis 3"),
    (lambda self, x: torch.sigmoid(x) + x, "aten.sigmoid.default', which is not supported"),
    (lambda self, x: x * 2, "what would replace it: batch norm"),
    (lambda self, x: 1 - x, "calls 'aten.rsub"),
    (lambda self, x: x + torch.arange(6.0), "node"),
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

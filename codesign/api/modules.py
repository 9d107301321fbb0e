"""Torch modules as networks: read through `torch.export`, as .pt2 files are; their weights are kept."""

from __future__ import annotations

import copy
import sys
import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeGuard

from codesign.errors import UserError, option

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor, nn
    from torch.export import ExportedProgram

    from codesign.integer.host import Step
    from codesign.workload.network import Network


@dataclass(frozen=True, eq=False)
class FloatModel:
    """A network with float weights.

    Attributes:
        network: its layers.
        state: its weights, under the names of the layers.
        steps: what the host computes of its result, such as a softmax; mostly nothing.
    """

    network: Network
    state: Mapping[str, Tensor]
    steps: tuple[Step, ...] = ()

    @property
    def name(self) -> str:
        """Of the network."""
        return self.network.name

    def __str__(self) -> str:
        return f"{self.network}, with weights"


def is_module(value: object) -> TypeGuard[nn.Module | ExportedProgram]:
    """Whether it is a torch module or an exported program; torch is not imported to find out."""
    torch = sys.modules.get("torch")
    if torch is None:
        return False
    export = sys.modules.get("torch.export")
    return isinstance(value, torch.nn.Module) or (export is not None and isinstance(value, export.ExportedProgram))


def read_module(module: nn.Module | ExportedProgram, input_shape: tuple[int, ...] | None = None) -> FloatModel:
    """The layers and weights of a module, which is left as it is.

    Args:
        module: its forward takes one (N, C, H, W) or (N, features) tensor and returns one; or a program of it.
        input_shape: (channels, height, width) or (features,) of one image; a program has its own.

    Raises:
        UserError: no shape, the forward cannot be exported, or it uses what no accelerator here runs.
    """
    import torch

    from codesign.interchange.load import exported_steps
    from codesign.workload.exported import read_exported_end

    if not isinstance(module, torch.nn.Module):
        if input_shape is not None:
            raise UserError(f"{option('input_shape')}: has no effect on an exported program, which has its own shape")
        network, state, end = read_exported_end(module)
        return FloatModel(network, state, exported_steps(network, end))
    name = type(module).__name__.lower()
    if input_shape is None:
        raise UserError(
            f"{option('input_shape')}: nothing given, must be (channels, height, width) of what {name} takes"
        )
    still: Any = copy.deepcopy(module).cpu().eval()
    example = torch.zeros(1, *input_shape)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            program = torch.export.export(still, (example,))
        # Whatever a module's own code does with the example may end in any exception.
        except Exception as error:
            lines = str(error).strip().splitlines()
            raise UserError(
                f"network '{name}': torch.export cannot export it for images of {input_shape}: "
                f"{lines[0] if lines else type(error).__name__}"
            ) from error
    network, state, end = read_exported_end(program, name)
    return FloatModel(network, state, exported_steps(network, end))

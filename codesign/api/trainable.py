"""What quantizing starts from: a network to train, with weights if it brings some, and its training in float."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from math import prod
from typing import TYPE_CHECKING

from codesign.api.given import refuse
from codesign.api.modules import FloatModel, read_module
from codesign.api.networks import float_model, name_of, read_network
from codesign.api.reading import NOTHING, Reading
from codesign.data.dataset import Dataset
from codesign.errors import UserError
from codesign.formats.ratio import parse_ratio
from codesign.integer.network import IntegerNetwork
from codesign.workload.network import Network

if TYPE_CHECKING:
    from torch import Tensor, nn
    from torch.export import ExportedProgram

    from codesign.api.networks import NetworkLike
    from codesign.quant.options import FloatOptions, RunOptions


def model_to_train(network: NetworkLike, input_shape: tuple[int, ...] | None) -> FloatModel | Network:
    """The network, with its weights if it brings some; UserError for one that has integers, or no layers to train."""
    found = float_model(network, Reading(input_shape=input_shape))
    if found is not None:
        return found
    refuse({"input_shape": input_shape}, f"on {name_of(network)}, which is no file")
    layers = read_network(network, NOTHING)
    if not isinstance(layers, Network):
        name = name_of(network)
        if isinstance(layers, IntegerNetwork):
            raise UserError(f"{name}: quantized already; codesign import {name} -o FILE gives its integers")
        raise UserError(
            f"{name}: a topology, which has no weights to train; must be a network, a float model, a module"
        )
    return layers


def module_for(module: nn.Module | ExportedProgram, dataset: Dataset) -> FloatModel:
    """A module, read for the images of a data set; features are no images. A program has a shape of its own."""
    import torch

    if not isinstance(module, torch.nn.Module):
        return read_module(module)
    shape = dataset.shape
    return read_module(module, shape[:1] if shape[1:] == (1, 1) else shape)


def with_classes(dataset: Dataset, network: Network) -> Dataset:
    """Of arrays the labels may not show every class that the network tells apart."""
    results = prod(network.shapes[network.output.name])
    return replace(dataset, classes=max(results, dataset.classes))


def float_weights(
    network: Network,
    dataset: Dataset,
    floats: FloatOptions,
    state: Mapping[str, Tensor] | None,
    run: RunOptions,
) -> Mapping[str, Tensor]:
    """Weights after the training in float that the pipeline begins with; `state` if nothing is trained."""
    from codesign.quant.options import NO_TRAINING, FormatOptions, QuantizeOptions
    from codesign.quant.pipeline import prepared

    if state is not None and not floats.continued:
        return state
    options = QuantizeOptions(FormatOptions("fixed", parse_ratio("fixed8:1"), 8), floats, training=NO_TRAINING)
    module = prepared(network, dataset, options, float_state=state, run=run).module
    return {name: value.detach().cpu() for name, value in module.state_dict().items()}

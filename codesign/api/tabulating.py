"""Tables of what every choice of a network's layers or rows loses and costs on an accelerator."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from codesign._extras import require
from codesign.allocation.costs import UNITS, Costs
from codesign.allocation.problem import Problem
from codesign.allocation.space import Granularity, Space, parse_choices
from codesign.allocation.table import LOSS
from codesign.allocation.table import Table as AllocationTable
from codesign.allocation.tabulating import base_of, tabulated
from codesign.api.answer import Answer
from codesign.api.blocks import Block, Facts, Line, Table
from codesign.api.datasets import load_dataset
from codesign.api.files import check_folder
from codesign.api.given import check_data_dir, refuse
from codesign.api.modules import FloatModel, is_module
from codesign.api.networks import HardwareLike, hardware_of
from codesign.api.notes import Report, note
from codesign.api.quantizing import DEFAULT_FLOAT_EPOCHS
from codesign.api.trainable import model_to_train, module_for
from codesign.arch.checks import did_you_mean
from codesign.data.dataset import Dataset
from codesign.errors import UserError, option
from codesign.provenance import provenance
from codesign.workload.network import Network

if TYPE_CHECKING:
    from codesign.allocation.sensitivities.protocol import Sensitivity
    from codesign.allocation.sensitivities.subject import Subject
    from codesign.api.datasets import DatasetLike
    from codesign.api.networks import NetworkLike

DEFAULT_IMAGES = 64
MOST_ROWS = 40
"""Groups that are printed; the file has all."""


@dataclass(frozen=True, eq=False, repr=False)
class Tabulated(Answer):
    """A table, and where it was saved.

    Attributes:
        table: for `codesign.solve`.
        file: where it was saved, if it was.
        seed: of training and of what the sensitivity drew.
    """

    table: AllocationTable
    file: Path | None
    seed: int

    @property
    def summary(self) -> str:
        return str(self.table)

    def to_json(self) -> dict[str, Any]:
        table = self.table
        return {
            **{key: value for key, value in table.provenance.items() if key not in ("versions", "seed")},
            "groups": len(table.groups),
            "choices": list(dict.fromkeys(name for group in table.groups for name in group.names)),
            "metrics": list(table.metrics),
            "ties": [list(names) for names in table.ties],
            "file": None if self.file is None else str(self.file),
        } | provenance(seed=self.seed)

    def blocks(self) -> Sequence[Block]:
        groups, given = self.table.groups, self.table.provenance
        names = groups[0].names
        rows = [
            (group.name, *(choice.loss for choice in group.choices), *_spread(group.choices, "latency_ms"))
            for group in groups[:MOST_ROWS]
        ]
        more = "" if len(groups) <= MOST_ROWS else f", the first {MOST_ROWS} of {len(groups):,}"
        found: list[Block] = [
            Table(
                f"{LOSS} of every choice{more}",
                ("group", *names, *(f"ms {name}" for name in names)),
                rows,
            ),
            Facts({key: value for key, value in given.items() if key not in ("versions", "seed", "units")}),
        ]
        if self.table.ties:
            found.append(Line("tied, since they read the same map: " + "; ".join(map(", ".join, self.table.ties))))
        return [*found, *([] if self.file is None else [Facts({"file": self.file})])]


def table(
    hw: HardwareLike,
    network: NetworkLike,
    *,
    data: DatasetLike | None = None,
    sensitivity: str | Sensitivity = "noise-gain",
    choices: str = "w4a4,w8a8",
    granularity: Granularity = "layer",
    base: str | None = None,
    pin: Mapping[str, str] | None = None,
    images: int | None = None,
    out: str | Path | None = None,
    float_epochs: int | None = None,
    data_dir: str | Path | None = None,
    seed: int = 0,
    progress: Report | None = None,
) -> Tabulated:
    """What every choice loses and costs: losses by a sensitivity, latencies by the exact timing model.

    Args:
        hw: the accelerator that latencies are of.
        network: as `quantize` takes it; one without weights is trained on the data.
        data: whatever `load_dataset` takes; not needed by a sensitivity of weights alone if the network brings its own.
        sensitivity: a name that `codesign table --help` lists, or one of your own.
        choices: such as `w4a4,w8a8` or `pot4,fixed4,fixed8` (see `codesign.allocation.space`).
        granularity: `layer` or `row`.
        base: the choice that all other groups have while one is timed; the widest one.
        pin: choices by group that are given.
        images: training images that the sensitivity sees; 64.
        out: the file to save the table in.
        float_epochs: of training in float; 20, none where the network brings its weights.
        data_dir, seed, progress: as `quantize` takes them.

    Raises:
        UserError: something cannot be used or does not go together, or a choice cannot run on the accelerator.
    """
    require("torch", "a sensitivity")
    accelerator = hardware_of(hw)
    chosen = sensitivity_of(sensitivity)
    check_data_dir(data, data_dir)
    model, dataset = model_and_data(network, data, data_dir, seed)
    source = model.network if isinstance(model, FloatModel) else model
    if out is not None:
        check_folder(out)
    space = Space(source, parse_choices(choices, accelerator.act_bits), granularity)
    costs = Costs(space, accelerator)
    start = base_of(space, base)
    if data is None and chosen.images:
        raise UserError(f"{option('data')}: must be given for the sensitivity '{chosen.name}', which looks at images")
    if not chosen.images:
        refuse({"images": images}, f"on the sensitivity '{chosen.name}', which looks at no images")
    costs.additive(start)  # what cannot run is said before anything is trained
    if dataset is None and data is not None:
        dataset = load_dataset(data, data_dir, seed)
    subject = subject_for(space, model, dataset, images=images, float_epochs=float_epochs, seed=seed, progress=progress)
    losses = chosen.losses(subject)
    given = {
        "hardware": accelerator.name,
        "network": source.name,
        "data": None if dataset is None else dataset.name,
        "sensitivity": chosen.name,
        "measures": chosen.measures,
        "granularity": granularity,
        "base": space.names[int(start[0])],
        "images": len(subject.images),
        "clock": str(costs.clock),
        "units": UNITS,
        **provenance(accelerator, seed),
    }
    found = tabulated(space, losses, costs, start, pins=pin, provenance=given)
    Problem.of(found)  # pins and ties that contradict each other
    if out is not None:
        found.write(out)
    return Tabulated(found, None if out is None else Path(out), seed)


def model_and_data(
    network: NetworkLike, data: DatasetLike | None, data_dir: str | Path | None, seed: int
) -> tuple[FloatModel | Network, Dataset | None]:
    """The network to train or with its weights, and the data, if they had to be read to know a module's input."""
    if not is_module(network):
        return model_to_train(network, None), None
    if data is None:
        raise UserError(f"{option('data')}: must be given with a torch module, which is read for its images")
    dataset = load_dataset(data, data_dir, seed)
    return module_for(network, dataset), dataset


def sensitivity_of(sensitivity: str | Sensitivity) -> Sensitivity:
    """The sensitivity of a name; UserError lists those there are."""
    from codesign.allocation.sensitivities.catalog import SENSITIVITIES

    if not isinstance(sensitivity, str):
        return sensitivity
    if sensitivity not in SENSITIVITIES:
        hint = did_you_mean(sensitivity, SENSITIVITIES)
        raise UserError(f"{option('sensitivity')}: '{sensitivity}' given, must be {', '.join(SENSITIVITIES)}{hint}")
    return SENSITIVITIES[sensitivity]


def subject_for(
    space: Space,
    model: FloatModel | Network,
    dataset: Dataset | None,
    *,
    images: int | None,
    float_epochs: int | None,
    seed: int,
    progress: Report | None,
) -> Subject:
    """The trained network with images of the data; see `table`."""
    from codesign.allocation.sensitivities.hessian import STEEP, steepness
    from codesign.allocation.sensitivities.preparing import subject_on, subject_without_data
    from codesign.quant.options import FloatOptions, RunOptions

    state = model.state if isinstance(model, FloatModel) else None
    if dataset is None:
        refuse({"float_epochs": float_epochs}, f"without {option('data')}")
        if state is None:
            raise UserError(f"{option('data')}: must be given to train {space.network.name}, which has no weights")
        return subject_without_data(space, state)
    floats = FloatOptions(
        DEFAULT_FLOAT_EPOCHS if float_epochs is None else float_epochs,
        continued=state is not None and float_epochs is not None,
    )
    subject = subject_on(
        space,
        dataset,
        float_state=state,
        floats=floats,
        images=DEFAULT_IMAGES if images is None else images,
        run=RunOptions(seed, progress),
    )
    if (steep := steepness(subject)) > STEEP:
        note(
            f"{space.network.name}: the gradient of the loss is {steep:.2g} of the weights' length: the network is not "
            "trained to a minimum, and what sensitivities say of it may mislead"
        )
    return subject


def _spread(choices: Sequence[Any], metric: str) -> list[float]:
    return [choice.costs[metric] for choice in choices]

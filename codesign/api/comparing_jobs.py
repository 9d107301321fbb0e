"""The jobs of a comparison: a float network of a seed, and what a method within a limit makes of it."""

from __future__ import annotations

import io
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from codesign._files import atomic_write, write_text
from codesign._reading import MOST_MODEL, read_arrays
from codesign.allocation.comparison import Entry, Result, Rtl
from codesign.api.modules import FloatModel
from codesign.api.quantizing import DEFAULT_RATE
from codesign.arch.hardware import Hardware
from codesign.data.sources import load_dataset
from codesign.errors import UserError
from codesign.sim.clock import Clock
from codesign.workload.network import Network

if TYPE_CHECKING:
    from codesign.allocation.methods.protocol import Method, Round
    from codesign.api.notes import Report


@dataclass(frozen=True, eq=False)
class Setting:
    """What all jobs of a comparison share; it can be pickled.

    Attributes:
        model: a network, or one with its weights.
        hw: the accelerator.
        data, data_dir: a data set's name or file, which every job loads again.
        epochs: with quantizers, `float_epochs` before, None as `quantize` has them.
        learning_rate: of these epochs; None as `quantize` has it.
        search_epochs: of methods that train while they choose; None for each method's own number.
        folder: of what is made.
        floats: folder of the float networks, if it is another one.
        tested: whether accuracies are measured on test images, too; a search must not look at them.
        clock: of latencies; by default that of the best evidence at hand.
    """

    model: FloatModel | Network
    hw: Hardware
    data: str
    data_dir: Path | None
    epochs: int
    float_epochs: int | None
    learning_rate: float | None
    search_epochs: int | None
    folder: Path
    floats: Path | None = None
    tested: bool = True
    clock: Clock | None = None

    @property
    def network(self) -> Network:
        """Its layers."""
        return self.model.network if isinstance(self.model, FloatModel) else self.model


def float_file(seed: int) -> str:
    """Where in the folder the weights of a seed's float network are."""
    return f"float/seed{seed}.npz"


def file_of(entry: Entry) -> str:
    """What files of an entry are called."""
    method = "-".join(re.sub(r"[^\w-]", "_", one) for one in (entry.method, entry.choices) if one is not None)
    return f"{method}-{entry.limit.metric}-{entry.limit.bound:.10g}-{entry.seed}"


def network_file(entry: Entry) -> str:
    """Where in the folder an entry's integer network is."""
    return f"networks/{file_of(entry)}.codesign"


def trained_in_float(setting: Setting, seed: int, report: Report) -> None:
    """Train the float network of a seed and write its weights."""
    from codesign.api.quantizing import DEFAULT_FLOAT_EPOCHS
    from codesign.api.trainable import float_weights
    from codesign.quant.options import FloatOptions, RunOptions

    model = setting.model
    state = model.state if isinstance(model, FloatModel) else None
    floats = FloatOptions(
        DEFAULT_FLOAT_EPOCHS if setting.float_epochs is None else setting.float_epochs,
        continued=state is not None and setting.float_epochs is not None,
    )
    dataset = load_dataset(setting.data, setting.data_dir, seed)
    found = float_weights(setting.network, dataset, floats, state, RunOptions(seed, report))
    arrays: dict[str, Any] = {name: np.asarray(value) for name, value in found.items()}
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    path = _floats(setting, seed)
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(path) as file:
        file.write(buffer.getvalue())


def _floats(setting: Setting, seed: int) -> Path:
    """The file of a seed's float network."""
    return (setting.floats or setting.folder) / float_file(seed)


def evaluated(setting: Setting, method: str | Method, entry: Entry, report: Report) -> Result:
    """What a method gives: its assignment, trained and measured; it and the integer network are written beside.

    A method that knows no limits chooses without; what it chooses has to keep the limit all the same.

    Raises:
        UserError: it gives nothing that keeps the limit, or training diverged.
    """
    import torch

    from codesign.allocation.methods.protocol import missed
    from codesign.api.allocating import carried_out
    from codesign.api.planning import method_of, planned
    from codesign.api.quantization import quantize
    from codesign.api.tabulating import subject_for

    chosen = method_of(method)
    limits = {entry.limit.metric: entry.limit.bound} if chosen.limited else {}
    search_epochs = setting.search_epochs if hasattr(chosen, "with_epochs") else None
    plan = planned(
        setting.network,
        chosen,
        setting.hw,
        at_most=limits,
        choices=entry.choices,
        search_epochs=search_epochs,
        clock=setting.clock,
    )
    dataset = load_dataset(setting.data, setting.data_dir, entry.seed)
    if not setting.tested:
        dataset = dataset.part(test=0)
    arrays = read_arrays(_floats(setting, entry.seed), MOST_MODEL, "the weights of a comparison")
    steps = setting.model.steps if isinstance(setting.model, FloatModel) else ()
    model = FloatModel(setting.network, {name: torch.from_numpy(value) for name, value in arrays.items()}, steps)
    subject = subject_for(plan.space, model, dataset, images=None, float_epochs=None, seed=entry.seed, progress=None)
    found = carried_out(plan, subject, dataset, entry.seed, report)
    if lines := missed(plan.costs, [entry.limit], found.assignment):
        raise UserError(f"{lines[0]}: the method '{chosen.name}' knows no limits, and what it gives misses this one")
    path = _place(setting, f"assignments/{file_of(entry)}.json")
    write_text(path, found.assignment.to_json())
    made = quantize(
        model,
        dataset,
        assignment=found.assignment,
        hardware=setting.hw,
        weights=found.allocation.weights,
        out=_place(setting, network_file(entry)),
        epochs=setting.epochs,
        learning_rate=_learning_rate(setting),
        seed=entry.seed,
        progress=report,
    )
    return Result(
        made.validation.accuracy,
        None if made.test is None else made.test.accuracy,
        made.validation.float_accuracy,
        found.costs,
        found.allocation.loss,
        found.search_s,
        _additive(found.allocation.rounds, entry.limit.metric),
    )


def _additive(rounds: Sequence[Round], metric: str) -> dict[str, Any] | None:
    """What the first additive table said of its solution, and what is true; None where there was none."""
    if not rounds or metric not in rounds[0].additive:
        return None
    first = rounds[0]
    return {"metric": metric, "claimed": first.additive[metric], "exact": first.exact[metric], "kept": first.kept}


def _learning_rate(setting: Setting) -> float | None:
    """That of `quantize` on the model as the user gave it: here it always brings weights."""
    if not setting.epochs or setting.learning_rate is not None or isinstance(setting.model, FloatModel):
        return setting.learning_rate
    return DEFAULT_RATE


def on_rtl(setting: Setting, entry: Entry, images: int, report: Report) -> Rtl:
    """An entry's integer network with its first test images on the generated RTL, compared with the models.

    Raises:
        UserError: the network does not run on the accelerator.
    """
    from codesign.api.cosimulation import cosim

    network = setting.folder / network_file(entry)
    found = cosim(
        setting.hw,
        network,
        images=images,
        data=setting.data,
        data_dir=setting.data_dir,
        seed=entry.seed,
        elements="rtl",
        progress=report,
    )
    result = found.result
    return Rtl(
        images, result.rtl_cycles, result.model_cycles, result.compared_values, result.mismatched_values, found.exact
    )


def _place(setting: Setting, file: str) -> Path:
    """A file of the folder, whose own folder exists."""
    path = setting.folder / file
    path.parent.mkdir(parents=True, exist_ok=True)
    return path

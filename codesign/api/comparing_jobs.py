"""The jobs of a comparison: a float network of a seed, and what a method within a limit makes of it."""

from __future__ import annotations

import io
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from codesign._files import atomic_write, write_text
from codesign._reading import MOST_MODEL, read_arrays
from codesign.allocation.comparison import Entry, Result
from codesign.api.modules import FloatModel
from codesign.arch.hardware import Hardware
from codesign.data.sources import load_dataset
from codesign.errors import UserError
from codesign.workload.network import Network

if TYPE_CHECKING:
    from codesign.allocation.methods.protocol import Method
    from codesign.api.notes import Report


@dataclass(frozen=True, eq=False)
class Setting:
    """What all jobs of a comparison share; it can be pickled.

    Attributes:
        model: a network, or one with its weights.
        hw: the accelerator.
        data, data_dir: a data set's name or file, which every job loads again.
        epochs: with quantizers, `float_epochs` before, None as `quantize` has them.
        folder: of the run.
    """

    model: FloatModel | Network
    hw: Hardware
    data: str
    data_dir: Path | None
    epochs: int
    float_epochs: int | None
    folder: Path

    @property
    def network(self) -> Network:
        """Its layers."""
        return self.model.network if isinstance(self.model, FloatModel) else self.model


def float_file(seed: int) -> str:
    """Where in the folder the weights of a seed's float network are."""
    return f"float/seed{seed}.npz"


def file_of(entry: Entry) -> str:
    """What files of an entry are called."""
    method = re.sub(r"[^\w-]", "_", entry.method)
    return f"{method}-{entry.limit.metric}-{entry.limit.bound:.10g}-{entry.seed}"


def trained_in_float(setting: Setting, seed: int, report: Report) -> None:
    """Train the float network of a seed and write its weights."""
    from codesign.api.quantization import float_weights
    from codesign.api.quantizing import DEFAULT_FLOAT_EPOCHS
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
    path = setting.folder / float_file(seed)
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(path) as file:
        file.write(buffer.getvalue())


def evaluated(setting: Setting, method: str | Method, entry: Entry, report: Report) -> Result:
    """What a method gives: its assignment, which is written beside, trained and measured.

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
    plan = planned(setting.network, chosen, setting.hw, at_most=limits)
    dataset = load_dataset(setting.data, setting.data_dir, entry.seed)
    arrays = read_arrays(setting.folder / float_file(entry.seed), MOST_MODEL, "the weights of a comparison")
    steps = setting.model.steps if isinstance(setting.model, FloatModel) else ()
    model = FloatModel(setting.network, {name: torch.from_numpy(value) for name, value in arrays.items()}, steps)
    subject = subject_for(plan.space, model, dataset, images=None, float_epochs=None, seed=entry.seed, progress=None)
    found = carried_out(plan, subject, dataset, entry.seed, report)
    if lines := missed(plan.costs, [entry.limit], found.assignment):
        raise UserError(f"{lines[0]}: the method '{chosen.name}' knows no limits, and what it gives misses this one")
    path = setting.folder / "assignments" / f"{file_of(entry)}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, found.assignment.to_json())
    made = quantize(
        model,
        dataset,
        assignment=found.assignment,
        hardware=setting.hw,
        epochs=setting.epochs,
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
    )

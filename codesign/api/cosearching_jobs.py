"""The jobs of a co-search: an accelerator screened, a candidate trained, a point on test images."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from codesign._files import write_bytes
from codesign.allocation.comparison import Entry
from codesign.allocation.costs import Costs
from codesign.allocation.space import Space
from codesign.api.comparing_jobs import Setting, evaluated, network_file
from codesign.api.planning import choices_of, method_of
from codesign.arch.hardware import Hardware
from codesign.errors import UnavailableError, UserError
from codesign.integer.storage import load_network
from codesign.program import plan_network
from codesign.search.study import Shared, Study, StudyPlace, Trial
from codesign.sim.clock import predicted_clock
from codesign.sim.energy import unit_energies
from codesign.sim.signals import measure
from codesign.workload.network import Network

if TYPE_CHECKING:
    from codesign.api.notes import Report


class Screened(NamedTuple):
    """What an accelerator's uniform choices cost, latencies by the exact timing model at its predicted clock.

    Attributes:
        fastest_ms: the least latency.
        least, most: in the metric of the methods' limits.
    """

    fastest_ms: float
    least: float
    most: float


def screened(
    network: Network, hw: Hardware, methods: Sequence[str], choices: str | None, metric: str, report: Report
) -> Screened | str:
    """What the uniform choices that some method has cost, or why the network does not run."""
    latencies: list[float] = []
    limited: list[float] = []
    said = ""
    for name in methods:
        method = method_of(name)
        try:
            space = Space(network, choices_of(method, choices, network, hw))
            costs = Costs(space, hw, predicted_clock(hw))
            for place in range(len(space.choices)):
                found = costs.of(space.assignment([place] * len(space.groups)), ("latency_ms", metric))
                latencies.append(found["latency_ms"])
                limited.append(found[metric])
        except UserError as error:
            said = said or f"{name}: {error}"
    return Screened(min(latencies), min(limited), max(limited)) if latencies else said


def read_screened(stored: Any) -> Screened | str:
    """What `screened` gave, as JSON keeps it."""
    return stored if isinstance(stored, str) else Screened(*map(float, stored))


def tried(setting: Setting, entry: Entry, report: Report) -> dict[str, Any]:
    """What a candidate gives: `Result` and `Signals`, as JSON; its integer network is written beside.

    If it gives nothing, as it keeps no limit or training diverged: `failed`, and why.
    """
    try:
        result = evaluated(setting, entry.method, entry, report)
    except UnavailableError:
        raise
    except UserError as error:
        return {"failed": str(error)}
    network = load_network(setting.folder / network_file(entry))
    signals = measure(plan_network(network, setting.hw), unit_energies())
    return {"result": asdict(result), "signals": signals.to_json()}


def tried_once(
    place: StudyPlace, trial: Trial, by: str, setting: Setting, entry: Entry, report: Report
) -> dict[str, Any] | None:
    """What a candidate of a shared study gives, as `tried`; None if another worker is at work on it.

    Args:
        place: of the study, where what it gives is kept for all.
        trial: the candidate's, in a round.
        by: whose work it is.
        setting, entry: as for `tried`.
        report: is told how it goes on.
    """
    path, study = setting.folder / network_file(entry), Study(place)
    try:
        number = study.claim(trial, by)
        if number is None:
            known = study.result(trial.key)
            return None if known is None else fetched(known, path)
        try:
            with study.held(number):
                value = tried(setting, entry, report)
                file = None if "failed" in value else path.read_bytes()
                return fetched(study.put(trial.key, value, file), path)
        except BaseException:
            with contextlib.suppress(UnavailableError):
                study.give_up(number)
            raise
    finally:
        study.close()


def fetched(shared: Shared, path: Path) -> dict[str, Any]:
    """The value that a study has; its file is written to `path` if it has one."""
    if shared.file is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_bytes(path, shared.file)
    return shared.value


def tested(setting: Setting, entry: Entry) -> float | None:
    """Accuracy of a candidate's integer network on the test images; None where there are none."""
    from codesign.api.evaluation import evaluate
    from codesign.data.sources import load_dataset

    if not len(load_dataset(setting.data, setting.data_dir, entry.seed).test_labels):
        return None
    file = setting.folder / network_file(entry)
    return evaluate(file, setting.data, data_dir=setting.data_dir, seed=entry.seed).accuracy

"""The jobs of a co-search: an accelerator screened, a candidate trained, a point on test images."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
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
from codesign.sim.clock import at_predicted_clock, predicted_clock
from codesign.sim.energy import unit_energies
from codesign.sim.signals import Signals, measure
from codesign.workload.network import Network

if TYPE_CHECKING:
    from codesign.api.notes import Report


class Screened(NamedTuple):
    """What an accelerator's uniform choices cost, latencies by the exact timing model at its predicted clock.

    Attributes:
        fastest_ms: the least latency.
        uniform: in the metric of the methods' limits, by name of the choice, for each of the space's `choices` that
            runs.
    """

    fastest_ms: float
    uniform: tuple[tuple[str | None, Mapping[str, float]], ...]


def screened(
    network: Network,
    hw: Hardware,
    methods: Sequence[str],
    choices: Sequence[str | None],
    metric: str,
    report: Report,
) -> Screened | str:
    """What the uniform choices that some method has cost, or why the network does not run."""
    fastest: list[float] = []
    found: list[tuple[str | None, Mapping[str, float]]] = []
    said = ""
    for some in choices:
        costs: dict[str, float] = {}
        for name in methods:
            try:
                uniform = _uniform(network, hw, name, some, metric)
            except UserError as error:
                said = said or f"{name}: {error}"
                continue
            fastest.append(min(latency for latency, _ in uniform.values()))
            costs |= {choice: cost for choice, (_, cost) in uniform.items()}
        if costs:
            found.append((some, costs))
    return Screened(min(fastest), tuple(found)) if found else said


def _uniform(
    network: Network, hw: Hardware, method: str, choices: str | None, metric: str
) -> dict[str, tuple[float, float]]:
    """The latency of each uniform choice, and its cost in a metric; UserError if the network does not run so."""
    space = Space(network, choices_of(method_of(method), choices, network, hw))
    costs = Costs(space, hw, predicted_clock(hw))
    found: dict[str, tuple[float, float]] = {}
    for place, name in enumerate(space.names):
        each = costs.of(space.assignment([place] * len(space.groups)), ("latency_ms", metric))
        found[name] = each["latency_ms"], each[metric]
    return found


def read_screened(stored: Any) -> Screened | str:
    """What `screened` gave, as JSON keeps it."""
    if isinstance(stored, str):
        return stored
    fastest, uniform = stored
    return Screened(
        float(fastest), tuple((some, {name: float(costs[name]) for name in costs}) for some, costs in uniform)
    )


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
    signals = measure(plan_network(network, at_predicted_clock(setting.hw)), unit_energies())
    return {"result": asdict(result), "signals": signals.to_json()}


def measured(file: Path, hw: Hardware) -> Signals:
    """Of a candidate's integer network on its accelerator at a clock that has become known."""
    return measure(plan_network(load_network(file), hw), unit_energies())


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

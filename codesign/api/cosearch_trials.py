"""What the candidates of a co-search give: kept in its folder, made by an executor, written down in a study.

A study in a database that others see, too, is shared: each candidate is made by one of those that work on it, and all
read what it gave. They ask for the same candidates in the same order, so that all find the same front, which is the one
that a single process finds.
"""

from __future__ import annotations

import contextlib
import json
import socket
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from codesign._files import content_hash
from codesign._sources import source_hash, tool_versions
from codesign.allocation.comparison import Result
from codesign.api.comparing_jobs import Setting, float_file, network_file, trained_in_float
from codesign.api.cosearch_points import Candidate, CoPoint
from codesign.api.cosearched import network_folder, round_folder
from codesign.api.cosearching_jobs import fetched, measured, tried, tried_once
from codesign.api.modules import FloatModel
from codesign.api.notes import Report, note
from codesign.api.trainable import model_to_train
from codesign.arch.hardware import Hardware
from codesign.data.sources import data_hash
from codesign.errors import UnavailableError
from codesign.execution.executor import Executor, Job
from codesign.execution.store import RunFolder
from codesign.search.cospace import MORE, CoSpace, Share, folder_name
from codesign.search.pareto import front
from codesign.search.study import GRACE_S, HEARTBEAT_S, DamagedStudyError, Study, StudyPlace, Trial
from codesign.sim.clock import predicted_clock
from codesign.sim.energy import unit_energies
from codesign.sim.signals import Signals, with_resources
from codesign.sim.synthesis.resource_levels import KnownResources
from codesign.workload.network import Network

STUDY = "study.db"
"""The study in a run's folder, where it is not shared."""
JOBS = "codesign.api.cosearching_jobs"
NETWORK, METHOD, CHOICES, SHARE, EPOCHS = "network", "model.method", "model.choices", "model.share", "epochs"
"""Axes of a study beside the keys that the hardware varies in."""
WAIT_S = 2.0
"""Between two looks at what others are at work on."""
Grid = dict[tuple[str, str, str, str | None, Share], Candidate]
"""Candidates by network, accelerator, method, choices and share."""


@dataclass
class Found:
    """What a round of some candidates gave.

    Attributes:
        points: of those that gave one.
        failed: what is said of those that gave nothing.
        late: how many were not begun in time.
    """

    points: dict[Candidate, CoPoint]
    failed: list[str]
    late: int = 0

    def add(self, other: Found) -> None:
        """What another one found, too."""
        self.points |= other.points
        self.failed += other.failed
        self.late += other.late


class CandidateTrials:
    """Candidates in rounds, in one folder.

    Args:
        space: of the search.
        folder: of the run.
        data_dir: folder with the files of the data set.
        executor: makes what is not there.
        report: is told how it goes on.
        url: of a database whose study is shared; None for one in the folder.
    """

    def __init__(
        self,
        space: CoSpace,
        folder: Path,
        data_dir: Path | None,
        executor: Executor,
        report: Report,
        url: str | None,
    ) -> None:
        self.space, self.folder, self.url = space, folder, url
        self.kept = RunFolder(folder)
        self.known = KnownResources(self.kept, report, "front")
        self._data_dir, self.executor, self._report = data_dir, executor, report
        self._models = {name: model_to_train(name, None) for name in space.network}
        common = (
            source_hash(JOBS),
            tool_versions("numpy", "scipy", "scikit-learn", "torch"),
            data_hash(space.data, data_dir),
            str(space.training.float_epochs),
            unit_energies().model_dump_json(),
        )
        self.common = {name: content_hash(*common, *_content(model)) for name, model in self._models.items()}
        self._values: dict[Candidate, Mapping[str, Any]] = {}
        self._by = f"{socket.gethostname()}:{folder.resolve()}"
        self._study: Study | None = None

    @property
    def shared(self) -> bool:
        """Whether others may work on the same study."""
        return self.url is not None

    def open(self, grid: Grid, choices: Mapping[str, Mapping[str, Any]]) -> None:
        """Open the study.

        Args:
            grid: all candidates there are.
            choices: of every accelerator, by name, the values of the keys that it varies in.
        """
        space = self.space
        axes = axes_of(space)
        for (network, name, method, of, share), candidate in grid.items():
            values = {NETWORK: network, **choices[name], METHOD: method, CHOICES: of, SHARE: share}
            self._values.setdefault(candidate, {axis: values[axis] for axis in axes})
        axes[EPOCHS] = space.training.epochs
        same = json.dumps([*axes.items(), space.objectives], default=list)
        place = StudyPlace(
            self.url or f"sqlite:///{(self.folder / STUDY).resolve()}",
            f"{folder_name(space.network[0])}-{content_hash(*self.common.values(), str(space.seed), same)[:12]}",
            {name: name in MORE for name in space.objectives},
            axes,
            HEARTBEAT_S,
            GRACE_S,
        )
        self.folder.mkdir(parents=True, exist_ok=True)
        self._study = self._opened(place)
        self._study.take_back(self._by)  # of this folder one process is at work, and it is this one

    def close(self) -> None:
        """Give the study's connections back."""
        if self._study is not None:
            self._study.close()

    def setting(self, network: str, hw: Hardware, epochs: int) -> Setting:
        """For the jobs of a network, an accelerator and a round."""
        return Setting(
            self._models[network],
            hw,
            self.space.data,
            self._data_dir,
            epochs,
            self.space.training.float_epochs,
            self.space.training.learning_rate if epochs else None,
            None,
            round_folder(self.folder, network, hw, epochs),
            network_folder(self.folder, network),
            tested=False,
            clock=predicted_clock(hw),  # one that no synthesis in between changes
        )

    def network(self, candidate: Candidate, epochs: int) -> str:
        """Where in the folder a candidate's integer network lies."""
        folder = round_folder(self.folder, candidate.network, candidate.hardware, epochs).relative_to(self.folder)
        return f"{folder}/{network_file(candidate.entry)}"

    def train(self, network: str) -> None:
        """The float network that all candidates of a network begin with."""
        seed = self.space.seed
        key = content_hash(self.common[network], str(seed))
        path = network_folder(self.folder, network) / float_file(seed)
        place = path.relative_to(self.folder).as_posix()
        if self.kept.file(place, key) is not None:
            return
        shared = self._study.result(key) if self._study is not None and self.shared else None
        if shared is None:
            setting = self.setting(network, self.space.accelerators.base_hardware, 0)
            with contextlib.closing(
                self.executor.map([partial(trained_in_float, setting, seed)], self._report)
            ) as done:
                for outcome in done:
                    outcome.result()
            if self._study is not None and self.shared:  # another may have been faster, with other last bits
                shared = self._study.put(key, {"float": str(path.name)}, path.read_bytes())
        if shared is not None:
            fetched(shared, path)
        self.kept.keep_file(place, key)

    def round_of(self, candidates: Sequence[Candidate], epochs: int, until: float | None = None) -> Found:
        """What so many epochs make of candidates.

        Args:
            candidates: different ones.
            epochs: with quantizers.
            until: the time (`time.time`) after which none is begun any more.
        """
        found = Found({}, [])
        waiting: list[Candidate] = []
        for each in candidates:
            place, key = self._file(each, epochs)
            stored = self.kept.get(place, key, dict)
            if stored is not None and ("failed" in stored or self.kept.file(self.network(each, epochs), key)):
                self._take(each, epochs, stored, found)
            else:
                waiting.append(each)
        what, total = f"candidates, {epochs} epochs", len(candidates)
        self._report(what, total - len(waiting), total)
        while waiting:
            elsewhere: list[Candidate] = []
            jobs = [self._job(each, epochs, until) for each in waiting]
            with contextlib.closing(self.executor.map(jobs)) as outcomes:
                for outcome in outcomes:
                    each = waiting[outcome.index]
                    stored = outcome.result()
                    if stored is None:
                        elsewhere.append(each)
                    elif "late" in stored:
                        found.late += 1
                    else:
                        self._keep(each, epochs, stored, found)
                    self._report(what, len(found.points) + len(found.failed), total, self._best_of(found))
            waiting = self._waited(elsewhere, epochs, found)
            self._report(what, len(found.points) + len(found.failed), total)
        found.points = {each: found.points[each] for each in candidates if each in found.points}
        return found

    def different(self, points: Mapping[Candidate, CoPoint], epochs: int) -> dict[Candidate, CoPoint]:
        """Of candidates that have become the same integer network on the same accelerator only the first."""
        found: dict[tuple[str, Hardware], Candidate] = {}
        for each in points:
            file = self.folder / self.network(each, epochs)
            found.setdefault((content_hash(file.read_bytes()), each.hardware), each)
        return {each: points[each] for each in found.values()}

    def broken(self, point: CoPoint) -> dict[str, float]:
        """By how much a point breaks each constraint; 0 or less if it does not."""
        return {
            str(one): (point.metric(one.metric) - one.bound) * (1 if one.sense == "<=" else -1)
            for one in self.space.constraints
        }

    def _best_of(self, found: Found) -> dict[str, float]:
        """For those who watch: the best value of each objective, and how many points are on the front."""
        points = list(found.points.values())
        if not points:
            return {}
        best = {
            name: (max if name in MORE else min)(point.metric(name) for point in points)
            for name in self.space.objectives
        }
        return {"front": len(front([point.costs(self.space.objectives) for point in points]))} | best

    def _opened(self, place: StudyPlace) -> Study:
        """The study; one in the folder that is damaged is begun anew, as all it says is known from results."""
        try:
            return Study(place)
        except DamagedStudyError:
            file = self.folder / STUDY
            if self.shared:
                raise
            file.unlink()
            note(f"{file}: damaged, is written again")
            return Study(place)

    def _job(self, candidate: Candidate, epochs: int, until: float | None) -> Job[dict[str, Any] | None]:
        setting = self.setting(candidate.network, candidate.hardware, epochs)
        job: Job[dict[str, Any] | None] = partial(tried, setting, candidate.entry)
        if self._study is not None and self.shared:
            trial = self._trial(candidate, epochs)
            job = partial(tried_once, self._study.place, trial, self._by, setting, candidate.entry)
        return job if until is None else partial(_in_time, until, job)

    def _waited(self, candidates: Sequence[Candidate], epochs: int, found: Found) -> list[Candidate]:
        """Take what others make of candidates as it comes; those that nobody makes any more."""
        left = list(candidates)
        while left and self._study is not None:
            for each in list(left):
                shared = self._study.result(self._file(each, epochs)[1])
                if shared is not None:
                    left.remove(each)
                    value = fetched(shared, self.folder / self.network(each, epochs))
                    self._keep(each, epochs, value, found)
            held = self._study.held_by_others([self._file(each, epochs)[1] for each in left])
            free = [each for each in left if self._file(each, epochs)[1] not in held]
            if free:
                return [*free, *(each for each in left if each not in free)]
            if left:
                self._report(f"candidates, {epochs} epochs, made elsewhere", 0, len(left))
                time.sleep(WAIT_S)
        return left

    def resourced(self, signals: Signals, candidate: Candidate, epochs: int) -> Signals:
        """The signals of a candidate with what is known of its accelerator."""
        again = partial(measured, self.folder / self.network(candidate, epochs))
        return with_resources(signals, candidate.hardware, self.known, again)

    def _keep(self, candidate: Candidate, epochs: int, stored: Mapping[str, Any], found: Found) -> None:
        self._take(candidate, epochs, stored, found)  # first: what cannot be read is not kept
        place, key = self._file(candidate, epochs)
        if "failed" not in stored:
            self.kept.keep_file(self.network(candidate, epochs), key)
        self.kept.put(place, key, stored)

    def _take(self, candidate: Candidate, epochs: int, stored: Mapping[str, Any], found: Found) -> None:
        if "failed" in stored:
            found.failed.append(f"{candidate.name}: {stored['failed']}")
            if self._study is not None:
                self._study.record(self._trial(candidate, epochs), stored["failed"])
            return
        try:
            signals = self.resourced(Signals.from_json(stored["signals"]), candidate, epochs)
            point = CoPoint(candidate, epochs, Result.from_json(stored["result"]), signals)
        except (LookupError, TypeError, ValueError):
            raise UnavailableError(f"{candidate.name}: the study has a result of it that cannot be read") from None
        found.points[candidate] = point
        if self._study is not None:
            values = [point.metric(name) for name in self.space.objectives]
            self._study.record(self._trial(candidate, epochs), values, self.broken(point))

    def _trial(self, candidate: Candidate, epochs: int) -> Trial:
        _, key = self._file(candidate, epochs)
        values = {**self._values[candidate], EPOCHS: epochs}
        return Trial(key, values, {"accelerator": candidate.hardware.name, "limit": candidate.entry.limit.words})

    def _file(self, candidate: Candidate, epochs: int) -> tuple[str, str]:
        """Where a candidate's result is kept, and under which key."""
        entry = candidate.entry
        asked = [entry.method, entry.limit.words, str(entry.seed), str(epochs), str(entry.choices)]
        if epochs:  # else nothing is trained
            asked.append(str(self.space.training.learning_rate))
        key = content_hash(self.common[candidate.network], candidate.hardware.canonical_json(), *asked)
        return f"{self.network(candidate, epochs)}.json", key


def axes_of(space: CoSpace) -> dict[str, Sequence[Any]]:
    """What candidates differ in, and the values."""
    networks = {NETWORK: space.network} if len(space.network) > 1 else {}
    choices = {CHOICES: space.model.choices} if len(space.model.choices) > 1 else {}
    return {**networks, **space.accelerators.vary, METHOD: space.model.methods, **choices, SHARE: space.model.shares}


def _content(model: FloatModel | Network) -> list[str | bytes]:
    """A network, with its weights if it brings some, as a key takes it."""
    layers = model.network if isinstance(model, FloatModel) else model
    found: list[str | bytes] = [json.dumps(layers.to_json(), sort_keys=True)]
    if isinstance(model, FloatModel):
        for name, value in model.state.items():
            found += [name, value.numpy().tobytes()]
    return found


def _in_time(until: float, job: Any, report: Report) -> Any:
    """What a job gives, if it is begun in time."""
    return job(report) if time.time() < until else {"late": True}

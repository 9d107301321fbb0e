"""Co-search: accelerators of a space, bits by methods on each, trained in rounds; a front that ran on the RTL.

Stages, each of which says how many it saw, kept, and why not the others:

1. *screen*: every accelerator by prediction and exact timing of uniform choices. Nothing is trained.
2. *rounds*: each candidate (an accelerator, a method, a limit on the latency) gets its bits and is trained for the
   round's epochs; the best go on to the next round, as successive halving has it (Jamieson and Talwalkar,
   "Non-stochastic best arm identification and hyperparameter optimization", AISTATS 2016).
3. *synthesis* of the accelerators on the front, until the front has no other.
4. *RTL*: every point of the front runs there, value by value; then its accuracy on test images is measured, once.

All before the last step looks at training and validation images alone.
"""

from __future__ import annotations

import contextlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import yaml

from codesign._extras import require
from codesign._files import content_hash, write_json
from codesign._sources import source_hash, tool_versions
from codesign.allocation.comparison import Entry, Result, Rtl
from codesign.allocation.problem import Limit
from codesign.api.comparing_jobs import Setting, float_file, network_file, on_rtl, trained_in_float
from codesign.api.cosearch_points import Candidate, CoPoint, Stage
from codesign.api.cosearched import RESULT, CoSearched, round_folder
from codesign.api.cosearching_jobs import Screened, screened, tested, tried
from codesign.api.given import check_data_dir
from codesign.api.modules import FloatModel
from codesign.api.notes import Report, silent
from codesign.api.planning import method_of
from codesign.api.trainable import model_to_train
from codesign.api.workers import workers
from codesign.arch.hardware import Hardware
from codesign.data.sources import data_hash
from codesign.errors import UserError
from codesign.execution.executor import Executor
from codesign.execution.folder import claim, locked
from codesign.execution.store import RunFolder
from codesign.search.cospace import ACCURACY, RESOURCES, CoSpace, load_cospace, parse_cospace
from codesign.search.pareto import front
from codesign.search.proposals import BATCH, Proposal, Proposer, Sampler, optuna_for
from codesign.search.sweep_space import variant_title
from codesign.sim.clock import predicted_clock
from codesign.sim.energy import unit_energies
from codesign.sim.signals import Signals, with_resources
from codesign.sim.synthesis.predictor import NotFittedError
from codesign.sim.synthesis.resource_levels import KnownResources

WORKER_BYTES = 2 << 30
"""Memory of a process that trains a network, with room to spare."""
STUDY = "study.db"
"""Of a sampler: what it proposed and was told, as optuna-dashboard opens it."""
JOBS = "codesign.api.cosearching_jobs"
METHOD, SHARE = "model.method", "model.share"
"""Axes of proposals beside the keys that the hardware varies in."""
_BATCHES = 4
"""Batches for each candidate that may be tried: a sampler proposes what it knows, too."""
Grid = dict[tuple[str, str, float], Candidate]
"""Candidates by accelerator, method and share."""


def cosearch(
    space: CoSpace | str | Path,
    out: str | Path,
    *,
    data_dir: str | Path | None = None,
    jobs: int | None = 1,
    progress: Report | None = None,
) -> CoSearched:
    """Find accelerators and bits together: a front of objectives, within constraints, every point run on the RTL.

    Args:
        space: the space, a YAML file, or a name in hw_configs/cosearch.
        out: run folder; an old one of the same space is continued, or of one that had less in it.
        data_dir: folder with the files of the space's data set.
        jobs: candidates that are trained at a time, in processes; None for one for each processor.
        progress: told how the stages go on.

    Raises:
        UserError: the space cannot be used, the folder holds something else, or nothing keeps the constraints.
        RuntimeError: a tool failed, or a point differs on the RTL.
    """
    require("torch", "training the networks of a search")
    loaded = space if isinstance(space, CoSpace) else load_cospace(space)
    check_data_dir(loaded.data, data_dir)
    for name in loaded.model.methods:
        method_of(name)
    if loaded.proposals != "all":
        optuna_for(loaded.proposals)
    folder = Path(out)
    where = None if data_dir is None else Path(data_dir)
    search = _CoSearch(loaded, folder, where, workers(jobs, WORKER_BYTES), progress or silent)

    def grown(earlier: str) -> bool:
        try:
            return loaded.continues(parse_cospace(earlier, "space.yaml"))
        except UserError:  # a file of something else, or of another version
            return False

    claim(folder, "space.yaml", yaml.safe_dump(loaded.text(), sort_keys=False), "search", grown)
    with locked(folder):
        return search.run()


class _CoSearch:
    """One search in one folder."""

    def __init__(self, space: CoSpace, folder: Path, data_dir: Path | None, executor: Executor, report: Report) -> None:
        self.space, self.folder = space, folder
        self._executor, self._report = executor, report
        self._kept = RunFolder(folder)
        self._known = KnownResources(self._kept, report, "front")
        self._model = model_to_train(space.network, None)
        self._data_dir = data_dir
        weights: list[str | bytes] = []
        if isinstance(self._model, FloatModel):
            for name, value in self._model.state.items():
                weights += [name, value.numpy().tobytes()]
        network = self._setting(space.accelerators.base_hardware, 0).network
        self._common = content_hash(
            source_hash(JOBS),
            tool_versions("numpy", "scipy", "scikit-learn", "torch"),
            json.dumps(network.to_json(), sort_keys=True),
            *weights,
            data_hash(space.data, data_dir),
            str(space.training.float_epochs),
            unit_energies().model_dump_json(),
        )
        self._stages: list[Stage] = []

    def run(self) -> CoSearched:
        """All stages; what is there is not made again."""
        self._kept.made_again.clear()
        points = self._rounds(self._grid(self._screen()))
        on_front, known = self._synthesized(list(points.values()))
        on_front = self._verified(on_front)
        found = CoSearched(self.space, on_front, known, tuple(self._stages), self.folder, self._kept.said())
        write_json(self.folder / RESULT, found.to_json())
        return found

    def _setting(self, hw: Hardware, epochs: int) -> Setting:
        """For the jobs of an accelerator and a round."""
        return Setting(
            self._model,
            hw,
            self.space.data,
            self._data_dir,
            epochs,
            self.space.training.float_epochs,
            None,
            None,
            round_folder(self.folder, hw, epochs),
            self.folder,
            self.space.model.choices,
            tested=False,
            clock=predicted_clock(hw),  # one that no synthesis in between changes
        )

    def _done(self, stage: str, seen: int, kept: int, why: Mapping[str, int]) -> None:
        self._stages.append(Stage(stage, seen, kept, why))

    def _screen(self) -> dict[Hardware, Screened]:
        """Accelerators that may have a point on the front, with what their uniform choices cost.

        Raises:
            UserError: there is none.
        """
        variants = self.space.accelerators.variants()
        why: dict[str, int] = {}
        if variants.refused:
            why["cannot be built"] = len(variants.refused)
        if variants.excluded:
            why["excluded by conditions"] = variants.excluded
        reasons = [f"{name}: {reason}" for name, reason in variants.refused.items()]
        found: dict[Hardware, Screened] = {}
        model = self.space.model
        seen = len(variants.hardware) + len(variants.refused) + variants.excluded
        for number, hw in enumerate(variants.hardware):
            self._report("screen", number, len(variants.hardware))
            outcome = screened(self._setting(hw, 0).network, hw, model.methods, model.choices, model.metric)
            reason = self._misfit(hw, outcome)
            if reason is None:
                assert isinstance(outcome, Screened)
                found[hw] = outcome
                continue
            kind, said = reason
            why[kind] = why.get(kind, 0) + 1
            reasons.append(f"{hw.name}: {said}")
        self._report("screen", len(variants.hardware), len(variants.hardware))
        self._done("screen", seen, len(found), why)
        if not found:
            raise UserError(f"no accelerator of {seen} is left: {reasons[0]}")
        return found

    def _misfit(self, hw: Hardware, outcome: Screened | str) -> tuple[str, str] | None:
        """Why an accelerator is left behind, in general and in particular; None if it is not."""
        if isinstance(outcome, str):
            return "do not run the network", outcome
        try:
            used = self._known.of(hw).resources
        except NotFittedError as error:
            return "cannot be predicted", str(error)
        if not used.fits(hw.totals):
            return "do not fit their device", f"needs {used.lut:,} LUTs, {used.dsp} DSPs, {used.bram36} BRAM36"
        for name in RESOURCES:
            bound, value = self.space.bound(name), getattr(used, name)
            if bound is not None and value > bound:
                return f"break {name} <= {bound:g}", f"{name} is {value:g}"
        bound = self.space.bound("latency_ms")
        if bound is not None and outcome.fastest_ms > bound:
            return f"break latency_ms <= {bound:g}", f"its fastest choice takes {outcome.fastest_ms:.4g} ms"
        return None

    def _grid(self, spans: Mapping[Hardware, Screened]) -> Grid:
        """Every accelerator with every method and limit, by names and shares."""
        found: Grid = {}
        metric = self.space.model.metric
        for hw, (_, least, most) in spans.items():
            bound = self.space.bound(metric)
            top = most if bound is None else max(least, min(most, bound))
            for method in self.space.model.methods:
                for share in self.space.model.shares:
                    limit = least + share * (top - least)
                    rounded = math.ceil(limit * 1e6) / 1e6  # a name for people, and never below what must be kept
                    entry = Entry(method, Limit(metric, rounded), self.space.seed)
                    found[hw.name, method, share] = Candidate(hw, entry)
        return found

    def _drawn(self, grid: Grid) -> list[Candidate]:
        """All candidates, or so many of them as may be tried."""
        found = list(dict.fromkeys(grid.values()))
        if len(found) <= self.space.trials:
            self._done("candidates", len(found), len(found), {})
            return found
        # by their own names, so that those of a space that grew are mostly drawn again
        seed = str(self.space.seed)
        drawn = set(sorted(found, key=lambda each: content_hash(seed, each.name))[: self.space.trials])
        kept = [each for each in found if each in drawn]
        self._done("candidates", len(found), len(kept), {"not drawn": len(found) - len(kept)})
        return kept

    def _proposed(self, sampler: Sampler, grid: Grid, epochs: int) -> tuple[dict[Candidate, CoPoint], list[str]]:
        """What a round of so many epochs makes of candidates that a sampler proposes; as `_round_of`."""
        model, objectives = self.space.model, self.space.objectives
        axes = {**self.space.accelerators.vary, METHOD: model.methods, SHARE: model.shares}
        proposer = Proposer(sampler, axes, {name: name == ACCURACY for name in objectives}, self.space.seed)
        points: dict[Candidate, CoPoint] = {}
        said: list[str] = []
        tried: set[Candidate] = set()
        for _ in range(_BATCHES * self.space.trials):
            if len(tried) >= min(self.space.trials, len(set(grid.values()))):
                break
            batch = [(proposal, self._of(proposal, grid)) for proposal in (proposer.ask() for _ in range(BATCH))]
            going = list(dict.fromkeys(each for _, each in batch if each is not None and each not in tried))
            going = going[: self.space.trials - len(tried)]
            found, failed = self._round_of(going, epochs)
            tried |= set(going)
            points |= found
            said += failed
            for proposal, each in batch:
                point = None if each is None else points.get(each)
                values = None if point is None else [point.metric(name) for name in objectives]
                proposer.tell(proposal, values, None if point is None else self._broken(point))
        proposer.save(self.folder / STUDY)
        count = len(set(grid.values()))
        self._done("candidates", count, len(tried), {"not proposed": count - len(tried)} if count > len(tried) else {})
        return points, said

    @staticmethod
    def _of(proposal: Proposal, grid: Grid) -> Candidate | None:
        """The candidate that is proposed; None if the screen left its accelerator behind."""
        values = dict(proposal.values)
        method, share = values.pop(METHOD), values.pop(SHARE)
        return grid.get((variant_title(values), method, share))

    def _broken(self, point: CoPoint) -> dict[str, float]:
        """By how much a point breaks each constraint; 0 or less if it does not."""
        return {
            str(one): (point.metric(one.metric) - one.bound) * (1 if one.sense == "<=" else -1)
            for one in self.space.constraints
        }

    def _train(self) -> None:
        """The float network."""
        seed = self.space.seed
        key = content_hash(self._common, str(seed))
        if self._kept.file(float_file(seed), key) is not None:
            return
        setting = self._setting(self.space.accelerators.base_hardware, 0)
        with contextlib.closing(self._executor.map([partial(trained_in_float, setting, seed)], self._report)) as done:
            for outcome in done:
                outcome.result()
        self._kept.keep_file(float_file(seed), key)

    def _rounds(self, grid: Grid) -> dict[Candidate, CoPoint]:
        """The points of all candidates that gave one, each by its last round."""
        self._train()
        points: dict[Candidate, CoPoint] = {}
        sampler, rounds = self.space.proposals, self.space.training.epochs
        going = self._drawn(grid) if sampler == "all" else []
        for number, epochs in enumerate(rounds):
            if sampler != "all" and number == 0:
                found, failed = self._proposed(sampler, grid, epochs)
                seen = len(found) + len(failed)
            else:
                found, failed = self._round_of(going, epochs)
                seen = len(going)
            for each, point in found.items():
                earlier = points[each].rounds if each in points else ()
                points[each] = replace(point, rounds=(*earlier, (epochs, point.result.validation_accuracy)))
            if not points:
                raise UserError(f"no candidate gives a network; {next(iter(failed))}")
            final = number == len(rounds) - 1
            kept = list(found) if final else self._best(found)
            why = {"gave nothing": len(failed)} if failed else {}
            if len(found) > len(kept):
                why["beaten by others"] = len(found) - len(kept)
            self._done(f"round of {epochs} epochs", seen, len(kept), why)
            going = kept
        return points

    def _round_of(self, candidates: Sequence[Candidate], epochs: int) -> tuple[dict[Candidate, CoPoint], list[str]]:
        """What so many epochs make of candidates, and what is said of those that give nothing."""
        found: dict[Candidate, CoPoint] = {}
        failed: list[str] = []
        missing: list[Candidate] = []
        for each in candidates:
            place, key = self._file(each, epochs)
            stored = self._kept.get(place, key, dict)
            if stored is not None and ("failed" in stored or self._kept.file(self._network(each, epochs), key)):
                self._take(each, epochs, stored, found, failed)
            else:
                missing.append(each)
        what = f"candidates, {epochs} epochs"
        self._report(what, len(candidates) - len(missing), len(candidates))
        jobs = [partial(tried, self._setting(each.hardware, epochs), each.entry) for each in missing]
        with contextlib.closing(self._executor.map(jobs)) as outcomes:
            for count, outcome in enumerate(outcomes, len(candidates) - len(missing) + 1):
                each = missing[outcome.index]
                place, key = self._file(each, epochs)
                if outcome.error is None:
                    stored = outcome.result()
                    self._kept.keep_file(self._network(each, epochs), key)
                elif isinstance(outcome.error, UserError):
                    stored = {"failed": str(outcome.error)}
                else:
                    outcome.result()
                    raise AssertionError
                self._kept.put(place, key, stored)
                self._take(each, epochs, stored, found, failed)
                self._report(what, count, len(candidates))
        return {each: found[each] for each in candidates if each in found}, failed

    def _take(
        self,
        candidate: Candidate,
        epochs: int,
        stored: Mapping[str, Any],
        found: dict[Candidate, CoPoint],
        failed: list[str],
    ) -> None:
        if "failed" in stored:
            failed.append(f"{candidate.name}: {stored['failed']}")
            return
        signals = with_resources(Signals.from_json(stored["signals"]), candidate.hardware, self._known)
        found[candidate] = CoPoint(candidate, epochs, Result.from_json(stored["result"]), signals)

    def _network(self, candidate: Candidate, epochs: int) -> str:
        folder = round_folder(self.folder, candidate.hardware, epochs).relative_to(self.folder)
        return f"{folder}/{network_file(candidate.entry)}"

    def _file(self, candidate: Candidate, epochs: int) -> tuple[str, str]:
        """Where a candidate's result is kept, and under which key."""
        entry = candidate.entry
        asked = (entry.method, entry.limit.words, str(entry.seed), str(epochs), str(self.space.model.choices))
        key = content_hash(self._common, candidate.hardware.canonical_json(), *asked)
        return f"{self._network(candidate, epochs)}.json", key

    def _best(self, points: Mapping[Candidate, CoPoint]) -> list[Candidate]:
        """The share that goes on: front by front, of the last one those with the best accuracy."""
        count = max(1, math.ceil(self.space.training.keep * len(points)))
        left = list(points)
        kept: list[Candidate] = []
        while left and len(kept) < count:
            places = {*front([points[each].costs(self.space.objectives) for each in left])}
            layer = sorted((left[i] for i in places), key=lambda each: -points[each].metric(ACCURACY))
            kept += layer if not kept else layer[: count - len(kept)]  # nobody on the first front is left behind
            left = [each for i, each in enumerate(left) if i not in places]
        return [each for each in points if each in kept]

    def _front(self, points: Sequence[CoPoint]) -> tuple[tuple[CoPoint, ...], dict[str, int]]:
        """The front of the points that keep all constraints; why others do not.

        Raises:
            UserError: none does.
        """
        why: dict[str, int] = {}
        held: list[CoPoint] = []
        for point in points:
            broken = [str(one) for one in self.space.constraints if not one.holds(point.metric(one.metric))]
            if not point.signals.resources.fits:
                broken.append("the device's size")
            for each in broken:
                why[f"break {each}"] = why.get(f"break {each}", 0) + 1
            if not broken:
                held.append(point)
        if not held:
            nearest = {
                str(one): (max if one.sense == ">=" else min)(point.metric(one.metric) for point in points)
                for one in self.space.constraints
            }
            said = ", ".join(f"of {name} the nearest is {value:.4g}" for name, value in nearest.items())
            raise UserError(f"none of {len(points)} points keeps all constraints: {said}")
        places = front([point.costs(self.space.objectives) for point in held])
        if len(held) > len(places):
            why["beaten by others"] = len(held) - len(places)
        return tuple(sorted((held[i] for i in places), key=lambda point: point.costs(self.space.objectives))), why

    def _synthesized(self, points: Sequence[CoPoint]) -> tuple[tuple[CoPoint, ...], tuple[CoPoint, ...]]:
        """The front, all of whose accelerators are synthesized, and all points with what is known then."""
        while True:
            found, why = self._front(points)
            if not self._known.propose(point.candidate.hardware for point in found):
                self._done("front, synthesized", len(points), len(found), why)
                return found, tuple(points)
            points = [
                replace(point, signals=with_resources(point.signals, point.candidate.hardware, self._known))
                for point in points
            ]

    def _verified(self, points: Sequence[CoPoint]) -> tuple[CoPoint, ...]:
        """The points with what they did on the RTL, and then on test images.

        Raises:
            RuntimeError: one differs.
        """
        found: list[CoPoint] = []
        for number, point in enumerate(points):
            self._report("points on RTL", number, len(points))
            setting = self._setting(point.candidate.hardware, point.epochs)
            entry = point.candidate.entry
            place = f"{self._network(point.candidate, point.epochs)}.rtl.json"
            network = (setting.folder / network_file(entry)).read_bytes()
            key = content_hash(self._common, setting.hw.canonical_json(), network, str(self.space.images))
            stored = self._kept.get(place, key, dict)
            if stored is None:
                rtl = on_rtl(setting, entry, self.space.images, self._report)
                if not rtl.exact:
                    raise RuntimeError(
                        f"{point.candidate.name}: the RTL differs from the models: {rtl.different} of {rtl.values} "
                        f"values, {rtl.cycles} cycles instead of {rtl.model_cycles}"
                    )
                stored = {"rtl": rtl.to_json(), "test_accuracy": tested(setting, entry)}
                self._kept.put(place, key, stored)
            rtl = Rtl.from_json(stored["rtl"])
            found.append(replace(point, rtl=rtl, test_accuracy=stored["test_accuracy"]))
        self._report("points on RTL", len(points), len(points))
        self._done("on RTL", len(points), len(found), {})
        return tuple(found)

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
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import yaml

from codesign._extras import require
from codesign._files import content_hash, write_json
from codesign.allocation.comparison import Entry, Rtl
from codesign.allocation.problem import Limit
from codesign.api.comparing_jobs import network_file, on_rtl
from codesign.api.cosearch_points import Candidate, CoPoint, Stage
from codesign.api.cosearch_trials import CHOICES, METHOD, NETWORK, SHARE, CandidateTrials, Found, Grid, axes_of
from codesign.api.cosearched import RESULT, CoSearched, network_folder
from codesign.api.cosearching_jobs import Screened, read_screened, screened, tested
from codesign.api.given import check_data_dir
from codesign.api.notes import Report, silent
from codesign.api.planning import method_of
from codesign.api.workers import Backend, backend_workers
from codesign.arch.hardware import Hardware
from codesign.errors import UserError
from codesign.execution.executor import InProcess
from codesign.execution.folder import claim, locked
from codesign.search.cospace import ACCURACY, MORE, RESOURCES, CoSpace, Share, load_cospace, parse_cospace
from codesign.search.pareto import front
from codesign.search.proposals import BATCH, Proposal, Proposer, Sampler, optuna_for
from codesign.search.sweep_space import variant_title
from codesign.sim.synthesis.predictor import NotFittedError

WORKER_BYTES = 2 << 30
"""Memory of a process that trains a network, with room to spare."""
MANY = 8
"""Accelerators for which it is worth while to begin other processes that screen them."""
_BATCHES = 4
"""Batches for each candidate that may be tried: a sampler proposes what it knows, too."""


def cosearch(
    space: CoSpace | str | Path,
    out: str | Path,
    *,
    data_dir: str | Path | None = None,
    jobs: int | None = 1,
    study: str | None = None,
    backend: Backend = "local",
    address: str | None = None,
    progress: Report | None = None,
) -> CoSearched:
    """Find accelerators and bits together: a front of objectives, within constraints, every point run on the RTL.

    Args:
        space: the space, a YAML file, or a name in hw_configs/cosearch.
        out: run folder; an old one of the same space is continued, or of one that had less in it.
        data_dir: folder with the files of the space's data set.
        jobs: candidates that are trained at a time, in processes; None for one for each processor, or for as many as a
            cluster holds.
        study: a database's address, `postgresql://user@host/database` or `sqlite:////a/file`, where the study is shared
            with all who search the same space; by default it lies in the run folder, and is this search's alone.
        backend: who trains: processes of this machine, or `ray`, a cluster; the run folder is then on a disk that all
            its nodes see.
        address: of the cluster's head, `host:port`; None starts one on this machine.
        progress: told how the stages go on.

    Raises:
        UserError: the space cannot be used, the folder holds something else, nothing keeps the constraints, or the
            database or the cluster cannot be reached.
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
    executor = backend_workers(backend, address, jobs, WORKER_BYTES)
    report = progress or silent
    search = _CoSearch(CandidateTrials(loaded, folder, where, executor, report, study), report)

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

    def __init__(self, trials: CandidateTrials, report: Report) -> None:
        self.space, self.folder, self._report = trials.space, trials.folder, report
        self._trials = trials
        self._known = trials.known
        self._stages: list[Stage] = []
        self._choices: Mapping[str, Mapping[str, Any]] = {}
        self._begun = time.time()

    def run(self) -> CoSearched:
        """All stages; what is there is not made again."""
        self._trials.kept.made_again.clear()
        points = self.trained()
        on_front, known = self._synthesized(list(points.values()))
        on_front = self._verified(on_front)
        found = CoSearched(self.space, on_front, known, tuple(self._stages), self.folder, self._trials.kept.said())
        write_json(self.folder / RESULT, found.to_json())
        return found

    def trained(self) -> dict[Candidate, CoPoint]:
        """The points of the candidates, by their last round: all stages before the front's."""
        grid = self._grid(self._screen())
        try:
            self._trials.open(grid, self._choices)
            return self._rounds(grid)
        finally:
            self._trials.close()

    def _done(self, stage: str, seen: int, kept: int, why: Mapping[str, int]) -> None:
        self._stages.append(Stage(stage, seen, kept, why))

    def _screen(self) -> dict[tuple[str, Hardware], Screened]:
        """Networks and accelerators that may have a point on the front, with what their uniform choices cost.

        Raises:
            UserError: there is none.
        """
        variants = self.space.accelerators.variants()
        self._choices = variants.choices
        why: dict[str, int] = {}
        if variants.refused:
            why["cannot be built"] = len(variants.refused)
        if variants.excluded:
            why["excluded by conditions"] = variants.excluded
        reasons = [f"{name}: {reason}" for name, reason in variants.refused.items()]
        found: dict[tuple[str, Hardware], Screened] = {}
        networks = self.space.network
        seen = len(networks) * len(variants.hardware) + len(variants.refused) + variants.excluded
        for (network, hw), outcome in self._screened(list(product(networks, variants.hardware))).items():
            reason = self._misfit(hw, outcome)
            if reason is None:
                assert isinstance(outcome, Screened)
                found[network, hw] = outcome
                continue
            kind, said = reason
            why[kind] = why.get(kind, 0) + 1
            reasons.append(f"{network} on {hw.name}: {said}")
        self._done("screen", seen, len(found), why)
        if not found:
            raise UserError(f"no accelerator of {seen} is left: {reasons[0]}")
        return found

    def _screened(self, pairs: Sequence[tuple[str, Hardware]]) -> dict[tuple[str, Hardware], Screened | str]:
        """What a network's uniform choices cost on an accelerator, or why it does not run there, of all pairs."""
        model, trials = self.space.model, self._trials
        asked = (*model.methods, *map(str, model.choices), model.metric)
        found: dict[tuple[str, Hardware], Screened | str] = {}
        keys: dict[tuple[str, Hardware], tuple[str, str]] = {}
        for network, hw in pairs:
            place = (network_folder(self.folder, network) / "screen" / f"{hw.name}.json").relative_to(self.folder)
            key = content_hash(trials.common[network], hw.canonical_json(), *asked)
            keys[network, hw] = place.as_posix(), key
            if (stored := trials.kept.get(*keys[network, hw], read_screened)) is not None:
                found[network, hw] = stored
        missing = [pair for pair in pairs if pair not in found]
        jobs = [
            partial(screened, trials.setting(network, hw, 0).network, hw, model.methods, model.choices, model.metric)
            for network, hw in missing
        ]
        executor = trials.executor if len(jobs) >= MANY else InProcess()
        with contextlib.closing(executor.map(jobs)) as outcomes:
            for outcome in outcomes:
                pair = missing[outcome.index]
                found[pair] = outcome.result()
                trials.kept.put(*keys[pair], found[pair])
                self._report("screen", len(found), len(pairs))
        return {pair: found[pair] for pair in pairs}

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

    def _grid(self, spans: Mapping[tuple[str, Hardware], Screened]) -> Grid:
        """Every network on every accelerator with every method and limit, by names and shares."""
        found: Grid = {}
        metric = self.space.model.metric
        for (network, hw), outcome in spans.items():
            for choices, uniform in outcome.uniform:
                limits = limits_of(self.space.model.shares, uniform, self.space.bound(metric))
                for method, (share, limit) in product(self.space.model.methods, limits.items()):
                    entry = Entry(method, Limit(metric, limit), self.space.seed, choices)
                    found[network, hw.name, method, choices, share] = Candidate(network, hw, entry)
        names = dict.fromkeys(name for one in spans.values() for _, uniform in one.uniform for name in uniform)
        for share in self.space.model.shares:
            if isinstance(share, str) and share not in names:
                raise UserError(
                    f"model.shares: '{share}' given, must be one of {', '.join(names)}, or a number from 0 to 1"
                )
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

    def _proposed(self, sampler: Sampler, grid: Grid, epochs: int, until: float | None) -> Found:
        """What a round of so many epochs makes of candidates that a sampler proposes."""
        objectives = self.space.objectives
        proposer = Proposer(sampler, axes_of(self.space), {name: name in MORE for name in objectives}, self.space.seed)
        all_found = Found({}, [])
        tried: set[Candidate] = set()
        for _ in range(_BATCHES * self.space.trials):
            if all_found.late or len(tried) >= min(self.space.trials, len(set(grid.values()))):
                break
            batch = [(proposal, self._of(proposal, grid)) for proposal in (proposer.ask() for _ in range(BATCH))]
            going = list(dict.fromkeys(each for _, each in batch if each is not None and each not in tried))
            going = going[: self.space.trials - len(tried)]
            found = self._trials.round_of(going, epochs, until)
            tried |= set(going)
            all_found.add(found)
            for proposal, each in batch:
                point = None if each is None else all_found.points.get(each)
                values = None if point is None else [point.metric(name) for name in objectives]
                proposer.tell(proposal, values, None if point is None else self._trials.broken(point))
        count = len(set(grid.values()))
        self._done("candidates", count, len(tried), {"not proposed": count - len(tried)} if count > len(tried) else {})
        return all_found

    def _of(self, proposal: Proposal, grid: Grid) -> Candidate | None:
        """The candidate that is proposed; None if the screen left its accelerator behind."""
        values = dict(proposal.values)
        network = values.pop(NETWORK, self.space.network[0])
        method, share = values.pop(METHOD), values.pop(SHARE)
        choices = values.pop(CHOICES, self.space.model.choices[0])
        return grid.get((network, variant_title(values), method, choices, share))

    def _rounds(self, grid: Grid) -> dict[Candidate, CoPoint]:
        """The points of all candidates that gave one, each by its last round."""
        for network in self.space.network:
            self._trials.train(network)
        points: dict[Candidate, CoPoint] = {}
        sampler, rounds = self.space.proposals, self.space.training.epochs
        going = self._drawn(grid) if sampler == "all" else []
        for number, epochs in enumerate(rounds):
            until = self._until((number + 1) / len(rounds))
            if sampler != "all" and number == 0:
                of_round = self._proposed(sampler, grid, epochs, until)
            else:
                of_round = self._trials.round_of(going, epochs, until)
            found, failed, late = self._trials.different(of_round.points, epochs), of_round.failed, of_round.late
            for each, point in found.items():
                earlier = points[each].rounds if each in points else ()
                points[each] = replace(point, rounds=(*earlier, (epochs, point.result.validation_accuracy)))
            if not points:
                said = failed[0] if failed else f"minutes: {self.space.minutes:g} given, none was begun in time"
                raise UserError(f"no candidate gives a network; {said}")
            final = number == len(rounds) - 1
            kept = list(found) if final else self._best(found)
            why = {"gave nothing": len(failed)} if failed else {}
            if late:
                why["not begun in time"] = late
            if len(of_round.points) > len(found):
                why["the same as others"] = len(of_round.points) - len(found)
            if len(found) > len(kept):
                why["beaten by others"] = len(found) - len(kept)
            seen = len(of_round.points) + len(failed) + late
            self._done(f"round of {epochs} epochs", seen, len(kept), why)
            going = kept
        return points

    def _until(self, share: float) -> float | None:
        """When a share of the time that the search has is over; None if it has all there is."""
        return None if self.space.minutes is None else self._begun + 60 * self.space.minutes * share

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
                replace(point, signals=self._trials.resourced(point.signals, point.candidate, point.epochs))
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
            name, entry = point.candidate.network, point.candidate.entry
            setting = self._trials.setting(name, point.candidate.hardware, point.epochs)
            place = f"{self._trials.network(point.candidate, point.epochs)}.rtl.json"
            network = (setting.folder / network_file(entry)).read_bytes()
            key = content_hash(self._trials.common[name], setting.hw.canonical_json(), network, str(self.space.images))
            stored = self._trials.kept.get(place, key, dict)
            if stored is None:
                rtl = on_rtl(setting, entry, self.space.images, self._report)
                if not rtl.exact:
                    raise RuntimeError(
                        f"{point.candidate.name}: the RTL differs from the models: {rtl.different} of {rtl.values} "
                        f"values, {rtl.cycles} cycles instead of {rtl.model_cycles}"
                    )
                stored = {"rtl": rtl.to_json(), "test_accuracy": tested(setting, entry)}
                self._trials.kept.put(place, key, stored)
            rtl = Rtl.from_json(stored["rtl"])
            found.append(replace(point, rtl=rtl, test_accuracy=stored["test_accuracy"]))
        self._report("points on RTL", len(points), len(points))
        self._done("on RTL", len(points), len(found), {})
        return tuple(found)


def limits_of(shares: Sequence[Share], uniform: Mapping[str, float], bound: float | None) -> dict[Share, float]:
    """The limits of methods on an accelerator, by share.

    Args:
        shares: of the way from the least uniform choice to the greatest, or to the bound if that is less; or the name
            of a uniform choice, whose cost is the limit, or the bound if that is less.
        uniform: costs of uniform choices by name.
        bound: what must be kept, if there is such a limit.
    """
    least, most = min(uniform.values()), max(uniform.values())
    top = most if bound is None else max(least, min(most, bound))
    found: dict[Share, float] = {}
    for share in shares:
        if isinstance(share, str) and share not in uniform:
            continue
        limit = min(uniform[share], top) if isinstance(share, str) else least + share * (top - least)
        found[share] = math.ceil(limit * 1e6) / 1e6  # a name for people, and never below what must be kept
    return found

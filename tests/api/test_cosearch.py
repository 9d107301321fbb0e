"""Co-search: what a space says, what stages leave behind and why, and a whole run that is interrupted and goes on."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

import codesign
from codesign.allocation.comparison import Entry, Result
from codesign.allocation.problem import Limit
from codesign.api import cosearching
from codesign.api.cosearch_points import Candidate, CoPoint
from codesign.api.cosearch_trials import CandidateTrials
from codesign.api.cosearching import limits_of
from codesign.api.cosearching_jobs import Screened
from codesign.api.notes import Report, silent
from codesign.errors import UserError, command_line
from codesign.execution.executor import Executor, InProcess
from codesign.search.cospace import CoSpace, load_cospace
from codesign.sim.clock import Clock
from codesign.sim.signals import ResourceUse, Signals
from tests.conftest import Run

BASE = Path(__file__).parents[2] / "hw_configs" / "league" / "fixed.yaml"
SPACE: dict[str, Any] = {
    "network": "smallcnn:size=8,width=4",
    "data": "digits",
    "hardware": {"base": str(BASE), "vary": {"columns": [1, 2]}},
    "model": {"choices": "w4a4,w8a8", "shares": [0.0, 1.0]},
    "training": {"float_epochs": 8, "epochs": [0, 2], "keep": 0.5},
    "images": 2,
}

QUICK = {"methods": ["hawq-v3"], "choices": "w4a4,w8a8", "shares": [0.0, 1.0]}
"""A method that takes a moment."""


def space(folder: Path, **changes: object) -> Path:
    """A file of `SPACE` with other values of some keys."""
    path = folder / "space.yaml"
    path.write_text(yaml.safe_dump(SPACE | changes))
    return path


def stop(phase: str, done: int, total: int, metrics: Mapping[str, float] | None = None) -> None:
    """An interrupt in the middle of the first round."""
    if phase == "candidates, 0 epochs" and done == 2:
        raise KeyboardInterrupt


def made(folder: Path) -> dict[Path, int]:
    """The results of candidates that are kept, and when they were made."""
    return {path: path.stat().st_mtime_ns for path in folder.rglob("rounds/**/*.codesign.json")}


def search_of(
    space: CoSpace, folder: Path, data_dir: Path | None, executor: Executor, report: Report, url: str | None = None
) -> Any:
    """A search in a folder, that has not begun."""
    return cosearching._CoSearch(CandidateTrials(space, folder, data_dir, executor, report, url), report)


def trained(file: Path, folder: Path, report: Report = silent) -> list[dict[str, Any]]:
    """What the rounds of a search give, without synthesis and RTL."""
    search = search_of(load_cospace(file), folder, None, InProcess(), report)
    return [point.to_json() for point in search.trained().values()]


@pytest.mark.slow
def test_rounds_that_were_interrupted_go_on_to_what_undisturbed_ones_give(tmp_path: Path) -> None:
    file = space(tmp_path, model=QUICK)
    with pytest.raises(KeyboardInterrupt):
        trained(file, tmp_path / "a", stop)
    kept = made(tmp_path / "a")
    assert len(kept) == 2
    found = trained(file, tmp_path / "a")
    assert kept.items() <= made(tmp_path / "a").items()
    assert found == trained(file, tmp_path / "b") and {point["epochs"] for point in found} == {0, 2}


@pytest.mark.slow
def test_an_interrupted_run_goes_on_to_what_an_undisturbed_one_finds(tmp_path: Path) -> None:
    file = space(tmp_path, constraints=["accuracy >= 0.2", "latency_ms <= 5"])
    with pytest.raises(KeyboardInterrupt):
        codesign.cosearch(file, tmp_path / "a", progress=stop)
    kept = made(tmp_path / "a")
    assert len(kept) == 2
    found = codesign.cosearch(file, tmp_path / "a")
    assert kept.items() <= made(tmp_path / "a").items()
    assert without_folder(found) == without_folder(codesign.cosearch(file, tmp_path / "b"))

    assert [(one.name, one.seen, one.kept) for one in found.stages[:2]] == [("screen", 2, 2), ("candidates", 4, 4)]
    assert found.front and all(point.rtl is not None and point.rtl.exact for point in found.front)
    assert all(point.test_accuracy is not None and point.signals.resources.synthesized for point in found.front)
    costs = [point.costs(found.space.objectives) for point in found.points]
    for point in found.front:
        mine = point.costs(found.space.objectives)
        assert not any(all(a <= b for a, b in zip(each, mine, strict=True)) and each != mine for each in costs)
        assert codesign.evaluate(found.network_file(point), "digits").accuracy == point.test_accuracy
    assert json.loads((tmp_path / "a" / "result.json").read_text())["chosen_by"] == "validation images"

    again = codesign.cosearch(
        file, tmp_path / "a", progress=lambda phase, *_: pytest.fail(phase) if _ is None else None
    )
    assert without_folder(again) == without_folder(found)
    with pytest.raises(UserError, match="holds another search"):
        codesign.cosearch(space(tmp_path, seed=3), tmp_path / "a")


def without_folder(found: codesign.CoSearched) -> Any:
    """What was found, but for where it lies and for seconds that were measured."""
    text = json.dumps(found.to_json(), sort_keys=True).replace(str(found.folder), "RUN")
    return json.loads(text)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"constraints": ["latency_ms <= 0.001"]}, "no accelerator of 2 is left: .*its fastest choice takes"),
        ({"constraints": ["lut <= 100"]}, "no accelerator of 2 is left: .*lut is"),
        ({"network": "resnet9000"}, "resnet9000: no such network"),
        ({"network": []}, "network: .* given, must be the name of a network, or a list"),
        ({"network": ["smallcnn", 3]}, "network: .* given, must be the name of a network, or a list"),
        ({"network": ["a/net.pt2", "b/net.pt2"]}, "a/net.pt2.* and .*b/net.pt2.* given, must be different"),
        ({"model": {"methods": ["hawk"]}}, "'hawk' given, must be .*did you mean 'hawq'"),
        ({"objectives": ["accuracy", "speed"]}, "objectives: 'speed' given, must be one of accuracy, latency_ms"),
        ({"objectives": ["accuracy"]}, "objectives: accuracy alone given"),
        ({"constraints": ["accuracy <= 0.9"]}, "constraints: 'accuracy <= 0.9' given, accuracy must be >= a number"),
        ({"constraints": ["lut <= 1", "lut <= 2"]}, "constraints: two limits on one metric"),
        ({"constraints": ["latency_ms < 2"]}, "must be a metric, <= or >=, and a number"),
        ({"training": {"epochs": [3, 0]}}, r"training.epochs: \[3, 0\] given, must go up"),
        ({"hardware": {"base": "tiny", "vary": {"columns": [1]}, "where": ["columns > 3"]}}, "where: none of 1"),
        ({"surprise": 1}, "surprise"),
    ],
)
def test_what_cannot_be_searched_is_said_before_anything_is_trained(
    tmp_path: Path, changes: Mapping[str, object], said: str
) -> None:
    with pytest.raises(UserError, match=said):
        codesign.cosearch(space(tmp_path, **changes), tmp_path / "run", progress=_no_training)


def _no_training(phase: str, done: int, total: int, metrics: Mapping[str, float] | None = None) -> None:
    assert phase == "screen"


def point(accuracy: float, latency_ms: float, lut: int, fits: bool = True) -> CoPoint:
    hw = codesign.load_hardware("tiny")
    cycles = round(latency_ms * 1e5)
    used = ResourceUse("synthesized", 8, lut, 100, 2.0, fits)
    signals = Signals(cycles, Clock(100.0, "estimated", 100.0), used, 0.5, 0.1, 1, 1, 1)
    entry = Entry(f"{accuracy}", Limit("latency_ms", latency_ms), 0)
    return CoPoint(
        Candidate(str(SPACE["network"]), hw, entry),
        0,
        Result(accuracy, None, 1.0, {"size_mib": 1.0}, None, 0.0),
        signals,
    )


def search(tmp_path: Path, **changes: object) -> Any:
    loaded = load_cospace(space(tmp_path, **changes))
    return search_of(loaded, tmp_path / "run", None, InProcess(), lambda *_: None)


def test_the_front_is_of_those_that_keep_all_constraints(tmp_path: Path) -> None:
    points = [point(0.9, 1.0, 500), point(0.8, 0.5, 500), point(0.7, 0.6, 400), point(0.95, 3.0, 500)]
    points += [point(0.99, 0.1, 10, fits=False)]
    found, why = search(tmp_path, constraints=["latency_ms <= 2"])._front(points)
    assert [each.result.validation_accuracy for each in found] == [0.9, 0.8]
    assert why == {"break latency_ms <= 2": 1, "break the device's size": 1, "beaten by others": 1}
    objectives = {"objectives": ["accuracy", "latency_ms", "lut"]}
    assert len(search(tmp_path, **objectives)._front(points)[0]) == 4
    with pytest.raises(
        UserError, match="none of 5 points keeps all constraints: of accuracy >= 0.999 the nearest is 0.99"
    ):
        search(tmp_path, constraints=["accuracy >= 0.999"])._front(points)


def test_networks_may_vary_too(tmp_path: Path) -> None:
    """Two widths, each with float weights of its own; the one that was there before is not trained again."""
    rounds = {"training": {"float_epochs": 8, "epochs": [0]}, "model": QUICK}
    first = trained(space(tmp_path, **rounds), tmp_path / "a")
    kept = made(tmp_path / "a")
    wide = "smallcnn:size=8,width=8"
    both = space(tmp_path, **rounds, network=["smallcnn:size=8,width=4", wide])
    found = trained(both, tmp_path / "a")
    assert kept.items() <= made(tmp_path / "a").items()
    assert [each for each in found if each["network_name"] != wide] == first
    others = [each for each in found if each["network_name"] == wide]
    assert len(others) == 4 and min(each["size_mib"] for each in others) > max(each["size_mib"] for each in first) / 2
    assert sorted(path.parent.parent.name for path in (tmp_path / "a").rglob("float/seed0.npz")) == [
        "smallcnn-size-8-width-4",
        "smallcnn-size-8-width-8",
    ]
    assert {each["float_accuracy"] for each in others}.isdisjoint({each["float_accuracy"] for each in first})


def test_of_images_a_second_more_is_better(tmp_path: Path) -> None:
    points = [point(0.9, 1.0, 500), point(0.8, 0.5, 600), point(0.7, 4.0, 400), point(0.95, 5.0, 700)]
    rate = {"objectives": ["accuracy", "images_per_s", "lut"], "constraints": ["images_per_s >= 220"]}
    ours = search(tmp_path, **rate)
    found, why = ours._front(points)
    assert {round(each.metric("images_per_s")) for each in found} == {1000, 2000, 250}
    assert why == {"break images_per_s >= 220": 1}
    assert ours.space.bound("latency_ms") == pytest.approx(1000 / 220)
    both = search(tmp_path, constraints=["images_per_s >= 220", "latency_ms <= 2"])
    assert both.space.bound("latency_ms") == 2 and both.space.bound("lut") is None
    with pytest.raises(UserError, match="'images_per_s <= 3' given, images_per_s must be >= a number"):
        search(tmp_path, constraints=["images_per_s <= 3"])


def test_points_say_what_the_additive_table_would_have_chosen(tmp_path: Path) -> None:
    rounds = {"training": {"float_epochs": 8, "epochs": [0]}}
    found = trained(space(tmp_path, model=QUICK | {"shares": [0.3, 1.0]}, **rounds), tmp_path / "a")
    for each in found:
        said = each["additive"]
        limit = float(each["limit"].rpartition("=")[2].rpartition(" ")[2])
        assert said["metric"] == "latency_ms" and said["kept"] == (said["exact"] <= limit * (1 + 1e-9))
        assert said["claimed"] <= limit * (1 + 1e-9), "by the table it keeps the limit"
        assert said["kept"] is False or each["latency_ms"] <= limit * (1 + 1e-9)


def test_a_round_keeps_its_front_and_then_the_best_of_the_next(tmp_path: Path) -> None:
    values = [(0.9, 1.0), (0.8, 0.5), (0.85, 1.1), (0.7, 0.6), (0.6, 2.0), (0.88, 1.2)]
    points = {each.candidate: each for each in (point(accuracy, ms, 500) for accuracy, ms in values)}
    kept = search(tmp_path, training={"keep": 0.5})._best(points)
    # the first two are the front, and of the next one, 0.85 and 0.7 and 0.88, the most accurate goes on
    assert [points[each].result.validation_accuracy for each in kept] == [0.9, 0.8, 0.88]


@pytest.mark.parametrize(
    ("changes", "goes_on"),
    [
        ({"hardware": {"base": str(BASE), "vary": {"columns": [1, 2, 4]}}}, True),
        ({"model": {"choices": "w4a4,w8a8", "shares": [0.0, 0.5, 1.0], "methods": ["codesign", "hawq-v3"]}}, True),
        ({"constraints": ["latency_ms <= 1"], "trials": 7, "training": {"float_epochs": 8, "epochs": [0, 9]}}, True),
        ({"hardware": {"base": str(BASE), "vary": {"columns": [2]}}}, False),
        ({"hardware": {"base": str(BASE), "vary": {"columns": [1, 2], "dot": [2]}}}, False),
        ({"hardware": {"base": "tiny", "vary": {"columns": [1, 2]}}}, False),
        ({"model": {"choices": "w4a4,w8a8", "shares": [0.0]}}, False),
        ({"seed": 1}, False),
        ({"network": ["smallcnn:size=8,width=8", "smallcnn:size=8,width=4"]}, True),
        ({"network": "smallcnn:size=8,width=8"}, False),
        ({"training": {"float_epochs": 9, "epochs": [0, 2]}}, False),
    ],
)
def test_a_space_may_grow(tmp_path: Path, changes: Mapping[str, object], goes_on: bool) -> None:
    earlier, now = load_cospace(space(tmp_path)), load_cospace(space(tmp_path, **changes))
    assert now.continues(earlier) == goes_on and earlier.continues(earlier)


def test_what_was_done_for_a_smaller_space_is_not_done_again(tmp_path: Path) -> None:
    smaller = {"hardware": {"base": str(BASE), "vary": {"columns": [1]}}, "model": QUICK}
    larger = {"model": QUICK | {"shares": [0.0, 0.5, 1.0]}}
    rounds = {"training": {"float_epochs": 8, "epochs": [0]}}
    trained(space(tmp_path, **smaller, **rounds), tmp_path / "a")
    kept = made(tmp_path / "a")
    found = trained(space(tmp_path, **larger, **rounds), tmp_path / "a")
    assert kept.items() <= made(tmp_path / "a").items() and len(kept) < len(made(tmp_path / "a"))
    assert found == trained(space(tmp_path, **larger, **rounds), tmp_path / "b")


@pytest.mark.parametrize("sampler", ["nsga2", pytest.param("tpe", marks=pytest.mark.slow)])
def test_proposals_of_an_interrupted_search_are_those_of_an_undisturbed_one(tmp_path: Path, sampler: str) -> None:
    import optuna

    file = space(
        tmp_path,
        hardware={"base": str(BASE), "vary": {"columns": [1, 2, 4], "rows": [4, 8]}},
        model=QUICK | {"shares": [0.0, 0.5, 1.0]},
        training={"float_epochs": 8, "epochs": [0]},
        constraints=["accuracy >= 0.2"],
        proposals=sampler,
        trials=10,
    )
    with pytest.raises(KeyboardInterrupt):
        trained(file, tmp_path / "a", stop)
    kept = made(tmp_path / "a")
    found = trained(file, tmp_path / "a")
    assert kept and kept.items() <= made(tmp_path / "a").items()
    assert found == trained(file, tmp_path / "b") and 8 <= len(found) <= 10
    study = optuna.load_study(study_name=None, storage=f"sqlite:///{tmp_path / 'a' / 'study.db'}")
    told = {trial.values[1] for trial in study.trials if trial.values}
    assert told == {point["latency_ms"] for point in found} and len(study.trials) == 10
    assert study.best_trials and study.user_attrs["objectives"] == ["accuracy", "latency_ms"]


def test_no_more_candidates_than_may_be_tried_are_drawn(tmp_path: Path) -> None:
    few = search(tmp_path, trials=3)
    hardware = few.space.accelerators.variants().hardware
    network = few.space.network[0]
    costs = Screened(1.0, (("w4a4,w8a8", {"w4a4": 1.0, "w8a8": 2.0}),))
    grid = few._grid(dict.fromkeys(((network, hw) for hw in hardware), costs))
    drawn = few._drawn(grid)
    assert len(drawn) == 3 and few._stages[-1].why == {"not drawn": 1}
    assert drawn == search(tmp_path, trials=3)._drawn(grid)
    limits = {each.entry.limit.bound for each in search(tmp_path)._grid({(network, hardware[0]): costs}).values()}
    assert limits == {1.0, 2.0}


def test_limits_are_shares_of_a_way_or_those_of_uniform_choices() -> None:
    uniform = {"w2a4": 1.0, "w4a4": 2.0, "w8a8": 5.0}
    assert limits_of((0.0, "w4a4", 0.5, "w2a8", 1.0), uniform, None) == {0.0: 1.0, "w4a4": 2.0, 0.5: 3.0, 1.0: 5.0}
    assert limits_of((0.0, "w4a4", 0.5, 1.0), uniform, 1.5) == {0.0: 1.0, "w4a4": 1.5, 0.5: 1.25, 1.0: 1.5}


def test_several_choices_are_all_tried(tmp_path: Path) -> None:
    """Each with its own uniform choices; of the narrow ones also the pooled map has four bits."""
    some = {"methods": ["uniform"], "choices": ["w2a4,w4a4", "w4a4,w8a8"], "shares": ["w4a4", 1.0]}
    ours = search(tmp_path, hardware={"base": str(BASE), "vary": {"columns": [1]}}, model=some)
    grid = ours._grid(ours._screen())
    assert len(grid) == 4 and {choices for _, _, _, choices, _ in grid} == set(some["choices"])
    narrow, wide = ({key[4]: grid[key].entry.limit.bound for key in grid if key[3] == each} for each in some["choices"])
    assert narrow["w4a4"] == narrow[1.0] < wide["w4a4"] < wide[1.0], "a pooled map of 4 bits, one of 8"
    ours = search(tmp_path, model=some | {"choices": "w2a4,w4a4", "shares": ["w8a8"]})
    spans = ours._screen()
    with pytest.raises(UserError, match="model.shares: 'w8a8' given, must be one of w2a4, w4a4, or a number from 0"):
        ours._grid(spans)
    for given, says in (
        ({"shares": ["w4a4", "w4a4"]}, "must be different"),
        ({"shares": [2]}, "must be numbers from 0 to 1, or names of choices such as w4a4"),
        ({"choices": ["w4a4", "w4a4"]}, "must be different"),
        ({"choices": []}, "must be choices such as w4a4,w8a8, or a list of such"),
    ):
        with pytest.raises(UserError, match=says):
            search(tmp_path, model=given)


def test_limits_may_be_on_what_knows_no_hardware(tmp_path: Path) -> None:
    ours = search(tmp_path, model={"choices": "w4a4,w8a8", "metric": "bops", "shares": [0.0, 1.0]})
    limits = [each.entry.limit for each in ours._grid(ours._screen()).values()]
    assert {limit.metric for limit in limits} == {"bops"}
    small, large = sorted({limit.bound for limit in limits})  # the same on every accelerator
    assert large == pytest.approx(4 * small), "twice the bits of both"


def test_what_is_kept_is_found_by_python_and_by_the_command_line(tmp_path: Path) -> None:
    """Messages name limits in two ways; files and keys in one."""
    limit, ours = Limit("latency_ms", 0.5), search(tmp_path)
    candidate = point(0.9, 1.0, 500).candidate
    found = str(limit), limit.words, ours._trials._file(candidate, 0), candidate.name
    with command_line():
        again = str(limit), limit.words, ours._trials._file(candidate, 0), candidate.name
    assert found[0] != again[0] and found[1:] == again[1:]


def test_a_learning_rate_makes_other_results_of_the_rounds_that_train_alone(tmp_path: Path) -> None:
    ours, slower = (
        search(tmp_path, training={"float_epochs": 8, "epochs": [0, 2], "learning_rate": rate})._trials
        for rate in (None, 1e-4)
    )
    candidate = point(0.9, 1.0, 500).candidate
    assert ours.common == slower.common, "the float network is the same"
    assert ours._file(candidate, 0) == slower._file(candidate, 0)
    assert ours._file(candidate, 2)[1] != slower._file(candidate, 2)[1]


def test_shipped_spaces_can_be_read() -> None:
    for path in (BASE.parents[1] / "cosearch").glob("*.yaml"):
        loaded = load_cospace(path.stem)
        assert isinstance(loaded, CoSpace) and loaded.accelerators.variants().hardware


def test_the_command_says_what_is_wrong(run: Run, tmp_path: Path) -> None:
    status, out, err = run("cosearch", str(space(tmp_path, objectives=["speed"])), "-o", str(tmp_path / "run"))
    assert (status, out) == (2, "") and "objectives: 'speed' given" in err
    assert not (tmp_path / "run").exists()


def test_what_two_ask_for_alike_is_trained_once(tmp_path: Path) -> None:
    """Uniform bits within a wide limit and within a narrower one that they keep, too."""
    some = {"methods": ["uniform"], "choices": "w4a4", "shares": ["w4a4", 0.5]}
    hardware = {"base": str(BASE), "vary": {"columns": [1, 2]}}
    file = space(tmp_path, hardware=hardware, model=some | {"choices": ["w4a4", "w2a4,w4a4"]}, images=1)
    found = codesign.cosearch(file, tmp_path / "run", jobs=1)
    first, second = (stage for stage in found.stages if stage.name.startswith("round of"))
    assert first.seen == 4 and first.why["the same as others"] == 2 and len(found.points) == 2
    assert second.seen == first.kept and len(made(tmp_path / "run")) == 4 + second.seen

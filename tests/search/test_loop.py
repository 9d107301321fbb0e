"""A whole small search with real training, synthesis and RTL; interrupted, continued, reported."""

from __future__ import annotations

from pathlib import Path

import pytest

from codesign.arch.load import load_hardware
from codesign.errors import UserError
from codesign.execution.executor import WorkerProcesses
from codesign.execution.store import RunFolder
from codesign.program import Plan
from codesign.report.page import render
from codesign.report.style import PLOTLY
from codesign.search import loop as search_run
from codesign.search import networks
from codesign.search.loop import RESULT, Search
from codesign.search.point import Point, choose, pareto
from codesign.search.space import Space
from codesign.sim.clock import Clock, predicted_clock
from codesign.sim.energy import UnitEnergies
from codesign.sim.signals import ResourceUse, Signals
from codesign.sim.synthesis import predictor, resource_levels
from codesign.sim.synthesis.predictor import NotFittedError, predict
from codesign.sim.synthesis.resource_levels import KnownResources
from codesign.sim.synthesis.resources import synthesize_hardware

SPACE = Space(
    network="smallcnn:width=4",
    data="digits",
    base="tiny",
    ratios=("pot4:60,fixed4:35,fixed8:5", "pot4:100"),
    rows=(3,),
    columns=(2,),
    dot=(2,),
    float_epochs=3,
    epochs=1,
    images=2,
)


def point(latency: float, accuracy: float, lut: int, fits: bool = True) -> Point:
    hw = load_hardware("tiny")
    use = ResourceUse("predicted", dsp=1, lut=lut, ff=10, bram36=1.0, fits=fits)
    return Point(hw, accuracy, 100, Signals(int(latency * 1e5), Clock(hw.clock_mhz), use, 0.5, 0.1, 900, 100, 800))


def test_the_fastest_point_that_is_accurate_enough_is_chosen() -> None:
    fast, good, best = point(1, 0.90, 500), point(2, 0.96, 400), point(3, 0.965, 600)
    misfit, beaten = point(0.5, 0.99, 300, fits=False), point(2.5, 0.95, 700)
    everything = [best, beaten, fast, misfit, good]
    assert pareto(everything) == [fast, good, best]
    assert choose(everything, 0.01) == good
    assert choose(everything, 0.0) == best
    assert choose(everything, 0.5) == fast
    with pytest.raises(UserError, match="no hardware of the space fits"):
        choose([misfit], 0.01)


@pytest.mark.slow
def test_search_is_resumable_deterministic_and_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "run"
    measure = search_run.measure
    calls: list[str] = []

    def interrupted(plan: Plan, units: UnitEnergies) -> Signals:
        if calls:
            raise KeyboardInterrupt
        calls.append("measured")
        return measure(plan, units)

    monkeypatch.setattr(search_run, "measure", interrupted)
    with pytest.raises(KeyboardInterrupt):
        Search(SPACE, folder).run()
    assert len(list((folder / "points").glob("*.json"))) == 1
    assert not (folder / RESULT).exists()
    first = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}

    monkeypatch.setattr(search_run, "measure", measure)
    result = Search(SPACE, folder).run()
    assert all(path.read_bytes() == content for path, content in first.items()), "nothing was done twice"
    assert len(result.points) == 2
    assert result.chosen in result.front and result.made_again == ""
    assert [p.test_accuracy is not None for p in result.points] == [p in result.front for p in result.points]
    assert all(p.test_images == 355 for p in result.front)
    assert all(p.signals.resources.synthesized for p in result.front), "what is proposed was synthesized"
    assert [p.signals.resources.synthesized for p in result.points] == [p in result.front for p in result.points]
    assert result.rtl["mismatched_values"] == 0 < result.rtl["compared_values"]
    assert result.rtl["rtl_cycles"] == result.rtl["model_cycles"] == result.chosen.signals.cycles
    assert all(p.signals.clock.evidence == "estimated" for p in result.front)
    assert all(p.validation_accuracy > 0.3 and p.validation_images == 285 and p.costs[2] > 1000 for p in result.points)

    again = Search(SPACE, tmp_path / "again", executor=WorkerProcesses(2)).run()
    assert again.points == result.points, "wherever networks are trained and points are evaluated"

    def nothing(*_: object, **__: object) -> object:
        raise AssertionError("a complete search is only read")

    for module, name in (
        (resource_levels, "synthesize_hardware"),
        (search_run, "run_network"),
        (networks, "load_dataset"),
    ):
        monkeypatch.setattr(module, name, nothing)
    read = Search(SPACE, folder).run()
    assert read.to_json() == result.to_json()

    page = render(read, {"accuracy": "99 %"}, "A <title>")
    assert "A &lt;title&gt;" in page
    assert "accuracy" in page
    assert read.chosen.hardware.content_hash in page
    own = page.replace(PLOTLY.read_text(), "")
    assert len(own) < len(page) / 2
    assert "http" not in own, "nothing is loaded from elsewhere"
    assert own.count("Plotly.newPlot") == 5
    for name in ("conv1", "fc", "pot4"):
        assert name in page


def test_a_folder_of_another_search_is_refused(tmp_path: Path) -> None:
    Search(SPACE, tmp_path / "run")
    with pytest.raises(UserError, match="holds another search"):
        Search(SPACE.model_copy(update={"seed": 1}), tmp_path / "run")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "file").write_text("")
    with pytest.raises(UserError, match="holds other files"):
        Search(SPACE, tmp_path / "other")


def test_a_network_that_fits_no_variant_is_one_line(tmp_path: Path) -> None:
    space = SPACE.model_copy(update={"network": "nothing"})
    with pytest.raises(UserError, match="'nothing' is not in the zoo"):
        Search(space, tmp_path / "run").run()


@pytest.mark.slow
def test_what_nothing_was_fitted_to_is_synthesized(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Once: what a folder holds is not synthesized again."""
    hw = load_hardware("tiny")
    known = KnownResources(RunFolder(tmp_path), lambda *_: None)
    assert known.of(hw) == (predict(hw), predicted_clock(hw)) and not known.is_synthesized(hw)
    monkeypatch.setattr(predictor, "_coefficients", lambda: {hw.totals.family: {}})
    with pytest.raises(NotFittedError, match="tiny: resources cannot be predicted"):
        predict(hw)
    found = known.of(hw)
    synthesis = synthesize_hardware(hw)
    assert known.is_synthesized(hw) and found.resources == synthesis.total
    assert found.clock == Clock(hw.clock_mhz, "estimated", synthesis.fmax_estimate_mhz)
    assert not known.synthesize([hw])
    monkeypatch.setattr(resource_levels, "synthesize_hardware", None)
    again = KnownResources(RunFolder(tmp_path), lambda *_: None)
    assert again.synthesize([hw]) and again.of(hw) == found

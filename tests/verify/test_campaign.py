"""`codesign verify` on real RTL: nothing differs; a fault is found, made smaller, kept, and found again by `cosim`."""

from __future__ import annotations

import json
import shlex
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from codesign.program import Program
from codesign.program.compiler import plan_network
from codesign.rtl.layout import Op
from codesign.sim.cosim import run as cosim
from codesign.sim.timing import plan_timing as timing
from codesign.verify import campaign
from codesign.verify.campaign import Plan, check, draw_case
from tests.conftest import Run


def answer(path: Path) -> dict[str, Any]:
    value = json.loads(path.read_text())
    assert isinstance(value, dict)
    return value


@pytest.mark.slow
def test_random_pairs_are_exact_and_a_campaign_continues(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = ("--seed", 1, "--per-hardware", 2, "-o", tmp_path / "run", "--json", tmp_path / "a.json")
    status, out, err = run("verify", "--runs", 2, *options)
    assert status == 0, err
    assert "2 of 2 exact" in out
    monkeypatch.setattr(campaign, "run_network", None)  # what is done is not done again
    assert run("verify", "--runs", 2, *options)[0] == 0
    found = answer(tmp_path / "a.json")
    assert found["exact_pairs"] == found["pairs"] == 2 and found["failures"] == []
    assert all(pair["compared_values"] > 0 for pair in found["hardware"][0]["pairs"])
    status, _, err = run("verify", "--runs", 2, "--seed", 2, "-o", tmp_path / "run")
    assert status == 2 and "holds another campaign" in err


@pytest.mark.slow
def test_a_fault_is_found_and_made_smaller(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The timing model loses a cycle of every program with a max pooling; the RTL is right."""

    def pools(program: Program) -> bool:
        return any(plan.op == Op.MAX_POOL for plan in program.steps)

    def wrong(program: Program) -> timing.Timing:
        right = timing.estimate(program)
        return replace(right, total_cycles=right.total_cycles - 1) if pools(program) else right

    plans = (Plan(runs=1, per_hardware=1, seed=seed) for seed in range(100))
    plan = next(p for p in plans if any(block.kind == "max" for block in draw_case(p, 0, 0).recipe.blocks))
    monkeypatch.setattr(cosim, "estimate", wrong)
    options = ("--runs", 1, "--per-hardware", 1, "--seed", plan.seed, "--shrink-builds", 0)
    status, out, _ = run("verify", *options, "-o", tmp_path / "run", "--json", tmp_path / "a.json")
    assert status == 1
    assert "0 of 1 exact" in out
    (folder,) = answer(tmp_path / "a.json")["failures"]
    kept = answer(Path(folder) / "failure.json")
    recipe = kept["smallest"]["recipe"]
    assert [block["kind"] for block in recipe["blocks"]] == ["max"]
    assert recipe["shape"] == [1, 1, 1] and recipe["classes"] == 1
    result = kept["smallest"]["result"]
    assert result["rtl_cycles"] == result["model_cycles"] + 1 and result["mismatched_values"] == 0
    assert np.load(Path(folder) / "image.npy").shape == (1, 1, 1, 1)
    status, out, _ = run(*shlex.split(kept["command"])[1:], "--json", tmp_path / "b.json")
    assert status == 1 and answer(tmp_path / "b.json")["rtl_cycles"] == result["rtl_cycles"]
    monkeypatch.undo()
    assert run(*shlex.split(kept["command"])[1:])[0] == 0


@pytest.mark.slow
def test_a_fault_of_several_images_is_found_and_shown_again(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The timing model gives every start of several images a cycle too much: two of them show it."""

    def wrong(program: Program) -> timing.Timing:
        right = timing.estimate(program)
        return replace(right, total_cycles=right.total_cycles + (program.images > 1))

    plans = (Plan(runs=1, per_hardware=1, seed=seed) for seed in range(100))
    plan = next(p for p in plans if draw_case(p, 0, 0).images > 2)
    monkeypatch.setattr(cosim, "estimate", wrong)
    options = ("--runs", 1, "--per-hardware", 1, "--seed", plan.seed, "--shrink-builds", 0)
    assert run("verify", *options, "-o", tmp_path / "run", "--json", tmp_path / "a.json")[0] == 1
    (folder,) = answer(tmp_path / "a.json")["failures"]
    kept = answer(Path(folder) / "failure.json")
    assert kept["first"]["result"]["images"] > kept["smallest"]["result"]["images"] == 2
    assert np.load(Path(folder) / "image.npy").shape == (2, 1, 1, 1)
    assert run(*shlex.split(kept["command"])[1:], "--json", tmp_path / "b.json")[0] == 1
    found = answer(tmp_path / "b.json")
    assert found["images"] == 2 and found["rtl_cycles"] == kept["smallest"]["result"]["rtl_cycles"]
    monkeypatch.undo()
    assert run(*shlex.split(kept["command"])[1:])[0] == 0


def test_a_folder_of_something_else_is_refused(run: Run, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    status, out, err = run("verify", "--runs", 1, "-o", tmp_path)
    assert (status, out) == (2, "") and "holds other files" in err and err.count("\n") == 1


def test_sets_cut_to_single_tiles_and_whole_ones_share_a_layer() -> None:
    """The first set of a grouped layer exceeds its rows' rings, the last one does not: its pass walks all tiles."""
    case = draw_case(Plan(runs=30, per_hardware=3, seed=7162), 2, 1)
    network = case.recipe.build()
    planned = plan_network(network, case.hardware)
    assert any(len({item.single for item in step.passes}) == 2 for step in planned.steps)
    assert check(case).exact

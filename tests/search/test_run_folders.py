"""Run folders: nothing of another version or damaged is used, one process works in one at a time."""

from __future__ import annotations

import json
import multiprocessing
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from codesign._files import write_text
from codesign.api.networks import network_plan
from codesign.errors import UserError
from codesign.execution.executor import InProcess
from codesign.execution.folder import claim, locked
from codesign.search import sweep as search_sweep
from codesign.search.sweep import Sweep, SweepResult
from codesign.search.sweep_space import SweepSpace
from codesign.sim.energy import unit_energies
from codesign.workload.topology import CONV_HEADER
from tests import damage

SPACE = SweepSpace(base="tiny", vary={"columns": (1, 2), "dot": (2, 4), "memory.latency": (5, 90)}, resources="none")


def sweep(folder: Path, networks: tuple[str, ...] = ("smallcnn",)) -> SweepResult:
    load = partial(network_plan, seed=0)
    return Sweep(SPACE, networks, folder, load, unit_energies(), executor=InProcess()).run("csv")


def cycles(result: SweepResult) -> dict[str, int]:
    return {point.hardware.name: point.signals.cycles for point in result.points}


def test_points_of_other_sources_are_evaluated_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A timing that changes: no old cycles under the new version's name, and it is said."""
    right = cycles(sweep(tmp_path / "right"))
    measure = search_sweep.measure

    def old(*arguments: Any) -> Any:
        found = measure(*arguments)
        return replace(found, cycles=found.cycles + 1000)

    with monkeypatch.context() as older:
        older.setattr(search_sweep, "measure", old)
        older.setattr(search_sweep, "source_hash", lambda *_, **__: "older sources")
        wrong = sweep(tmp_path / "run")
        assert cycles(wrong) == {name: count + 1000 for name, count in right.items()} and not wrong.made_again
        older.setattr(search_sweep, "source_hash", lambda *_, **__: "other sources")
        stopped = 0

        def stop(*arguments: Any) -> Any:
            nonlocal stopped
            stopped += 1
            if stopped == 3:
                raise KeyboardInterrupt
            return old(*arguments)

        older.setattr(search_sweep, "measure", stop)
        with pytest.raises(KeyboardInterrupt):
            sweep(tmp_path / "run")
    again = sweep(tmp_path / "run")
    assert cycles(again) == right
    assert again.made_again.endswith("another version of codesign or its input: 8 in points")
    assert not sweep(tmp_path / "run").made_again


def test_another_content_of_a_networks_file_is_another_network(tmp_path: Path) -> None:
    chain = tmp_path / "chain.csv"
    chain.write_text(f"{CONV_HEADER}\na, 9, 9, 3, 3, 2, 5, 2,\nfc, 1, 1, 1, 1, 80, 4, 1,\n")
    first = cycles(sweep(tmp_path / "run", (str(chain),)))
    chain.write_text(f"{CONV_HEADER}\na, 9, 9, 3, 3, 2, 9, 2,\nfc, 1, 1, 1, 1, 144, 4, 1,\n")
    second = sweep(tmp_path / "run", (str(chain),))
    assert all(cycles(second)[name] > count for name, count in first.items()) and "8 in points" in second.made_again
    assert cycles(second) == cycles(sweep(tmp_path / "fresh", (str(chain),)))


def test_damaged_points_are_evaluated_again(tmp_path: Path) -> None:
    expected = sweep(tmp_path / "run").to_json()
    points = sorted((tmp_path / "run" / "points").iterdir())
    for first in range(2):
        for index, path in enumerate(points):
            damage.JSON[(index + 5 * first) % len(damage.JSON)](path)
        found = sweep(tmp_path / "run")
        assert found.to_json() == expected and " in points" in found.made_again
    (tmp_path / "run" / "result.json").write_text("{")
    (tmp_path / "run" / "points.csv").write_text("")
    assert sweep(tmp_path / "run").to_json() == expected
    assert json.loads((tmp_path / "run" / "result.json").read_text()) == expected


def hold(folder: str, connection: Any) -> None:
    with locked(Path(folder)):
        connection.send("locked")
        connection.recv()


def test_a_second_process_gets_one_line(tmp_path: Path, run: Callable[..., tuple[int, str, str]]) -> None:
    folder = tmp_path / "run"
    expected = sweep(folder).to_json()
    context = multiprocessing.get_context("spawn")
    mine, other = context.Pipe()
    process = context.Process(target=hold, args=(str(folder), other))
    process.start()
    try:
        assert mine.recv() == "locked"
        space = tmp_path / "space.yaml"
        space.write_text(json.dumps(SPACE.model_dump(mode="json")))
        status, out, err = run("sweep", space, "smallcnn", "-o", folder, "--jobs", 1)
        assert (status, out) == (2, "")
        assert err.splitlines()[-1].startswith(f"codesign: {folder}: another codesign is at work in it")
    finally:
        process.kill()  # the lock ends with the process, however that ends
        process.join()
    assert sweep(folder).to_json() == expected


def test_two_commands_at_once(tmp_path: Path) -> None:
    """Both start in one new folder: one does it, the other one says so, or comes late and only reads."""
    space = tmp_path / "space.yaml"
    space.write_text(json.dumps(SPACE.model_dump(mode="json")))
    command = [sys.executable, "-m", "codesign", "sweep", str(space), "smallcnn", "-o", str(tmp_path / "run")]
    started = [
        subprocess.Popen([*command, "--jobs", "1", "--table", "csv"], stderr=subprocess.PIPE, stdout=subprocess.PIPE)
        for _ in range(2)
    ]
    ended = [(process.communicate(timeout=120)[1].decode(), process.returncode) for process in started]
    assert 0 in {status for _, status in ended}
    for said, status in ended:
        assert status == 0 or (status == 2 and "another codesign is at work in it" in said.splitlines()[-1]), said
    assert len(list((tmp_path / "run" / "points").iterdir())) == 8


def test_what_another_process_begins_with_is_nobodys_file(tmp_path: Path) -> None:
    """It has the lock, and files, before the one that says what was asked for is there."""
    with locked(tmp_path):
        (tmp_path / "points").mkdir()
        with pytest.raises(UserError, match="another codesign is at work"):
            claim(tmp_path, "space.yaml", "text", "sweep")


def test_what_killed_writers_left_blocks_nothing(tmp_path: Path) -> None:
    folder, name = tmp_path / "run", ".codesign-0123456789abcdef.tmp"
    (folder / "points").mkdir(parents=True)
    (folder / name).write_text("half")
    with pytest.raises(UserError, match="holds other files"):
        claim(folder, "space.yaml", "text", "search")  # a folder of somebody's beside it
    (folder / "points").rmdir()
    (folder / name).write_text("half")
    claim(folder, "space.yaml", "text", "search")
    (folder / "points").mkdir()
    for place in (folder, folder / "points"):
        (place / name).write_text("{")
    with locked(folder):
        assert sorted(os.listdir(folder)) == ["points", "space.yaml"] and not os.listdir(folder / "points")
    write_text(tmp_path / "own" / ".notes.tmp", "a user's")
    with pytest.raises(UserError, match="holds other files"):
        claim(tmp_path / "own", "space.yaml", "text", "search")

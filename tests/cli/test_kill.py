"""A command that is killed at any moment leaves no process and nothing that blocks the next run."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.processes import left_of, processes_of


def environment(folder: Path) -> dict[str, str]:
    (folder / "tmp").mkdir(exist_ok=True)
    return os.environ | {"CODESIGN_CACHE": str(folder / "cache"), "TMPDIR": str(folder / "tmp")}


def kill_after(
    phase: str, seconds: float, number: int, arguments: list[str], folder: Path, *, children: bool = False
) -> int:
    """Start a command, send it alone a signal some time after the line of `phase`; how many processes there were.

    With `children`, that time begins when it has some.
    """
    with subprocess.Popen(
        [sys.executable, "-m", "codesign", *arguments],
        cwd=folder,
        env=environment(folder),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        assert process.stderr is not None
        for line in process.stderr:
            if line.startswith(phase):
                break
        deadline = time.monotonic() + 120
        while children and len(processes_of(process.pid)) < 2 and time.monotonic() < deadline:
            time.sleep(0.02)
        time.sleep(seconds)
        count = len(processes_of(process.pid))
        process.send_signal(number)
    assert not left_of(process.pid), f"{number} after {seconds:.2f} s of {phase}"
    return count


def succeeds(arguments: list[str], folder: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "codesign", *arguments],
        cwd=folder,
        env=environment(folder),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    left = [path for path in folder.rglob("*") if path.name.endswith(".tmp") or path.parent == folder / "tmp"]
    assert not left, "what the killed commands had begun"


SPACE = """
base: {base}
vary:
  columns: [2, 3, 4, 5]
  dot: [2, 4]
resources: none
"""


def test_sweep(tmp_path: Path) -> None:
    base = Path(__file__).parents[2] / "hw_configs" / "tiny.yaml"
    (tmp_path / "space.yaml").write_text(SPACE.format(base=base))
    command = ["sweep", "space.yaml", "resnet8", "-o", "run", "--jobs", "2", "--table", "csv"]
    rng = random.Random(0)
    seen = [
        kill_after("variants", rng.uniform(0, 1.5), number, command, tmp_path)
        for number in (signal.SIGKILL, signal.SIGHUP)
    ]
    assert max(seen) > 1 or len(list((tmp_path / "run" / "points").glob("*"))) == 8
    succeeds(command, tmp_path)
    assert len(list((tmp_path / "run" / "points").glob("*.json"))) == 8


@pytest.mark.slow
@pytest.mark.parametrize(
    ("phase", "command"),
    [
        ("synthesis", ["synth", "tiny", "--json", "out.json"]),
        ("build", ["cosim", "tiny", "smallcnn", "--json", "out.json"]),
        ("", ["search", "digits", "-o", "run"]),
    ],
)
def test_kill_at_random_moments(phase: str, command: list[str], tmp_path: Path) -> None:
    rng = random.Random(1)
    most = 0
    for index in range(3):
        children = command[0] != "search" and index > 0
        most = max(most, kill_after(phase, rng.uniform(0, 3), signal.SIGKILL, command, tmp_path, children=children))
        assert not (tmp_path / "out.json").exists()
    if command[0] == "search":
        return  # its next run takes minutes; `synth` and `cosim` are what it consists of
    assert most > 1, "no child was running"
    succeeds(command, tmp_path)
    assert (tmp_path / "out.json").is_file()

"""`kill -9` at random moments of `search`, `cosearch` and `sweep`, each then continued to what undisturbed runs give.

    python tests/search/killing.py [--kills 10] [--seed 0] [--warm]

Only the command itself is killed, as a machine that runs out of memory does; what it had started must end by itself.
Each run has a cache of its own, so that kills hit training, synthesis and builds of simulations, too; with --warm it
begins as a copy of what the undisturbed run left, so that they hit training and the study. Exit status 1 if
a continued run gives anything else, or if a process or a half-written file is left.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from tests.postgresql import Server, server
from tests.processes import left_of

SEARCH = """network: "smallcnn:width=4"
data: digits
base: tiny
ratios: [pot4:100, fixed4:100]
rows: [2]
columns: [1, 2]
dot: [2]
float_epochs: 2
epochs: 1
accuracy_loss: 1.0
images: 1
"""
SWEEP = """base: tiny
vary:
  columns: {from: 1, to: 8, step: 1}
  dot: {from: 2, to: 4, times: 2}
  memory.latency: [5, 30, 90]
resources: none
"""
COSEARCH = """network: smallcnn:size=8,width=4
data: digits
hardware:
  base: league/fixed
  vary: {columns: [1, 2], rows: [2, 4]}
model: {methods: [hawq-v3], choices: "w4a4,w8a8", shares: [0.0, 1.0]}
training: {float_epochs: 8, epochs: [0, 1], keep: 0.5}
proposals: tpe
trials: 6
images: 1
"""
TAKES = ("build_s", "wall_s", "sim_cycles_per_s")
"""Of an answer: what differs from run to run."""


@dataclass(frozen=True)
class Job:
    """A command that writes the folder `run`, and its space; with a server each folder has a database of its own."""

    name: str
    space: str
    arguments: tuple[str, ...]
    server: Server | None = None

    @property
    def command(self) -> str:
        """Of codesign."""
        return self.name.partition("-")[0]

    def start(self, folder: Path, cache: Path) -> subprocess.Popen[bytes]:
        """Begin or continue in `folder`, in a session of its own."""
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "space.yaml").write_text(self.space)
        (folder / "tmp").mkdir(exist_ok=True)
        study = () if self.server is None else ("--study", self.server.new(f"{self.name} {folder.name}"))
        with (folder / "log").open("ab") as log:
            return subprocess.Popen(
                [sys.executable, "-m", "codesign", self.command, "space.yaml", *self.arguments, *study, "-o", "run"],
                cwd=folder,
                env=os.environ | {"CODESIGN_CACHE": str(cache), "TMPDIR": str(folder / "tmp")},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def finish(self, folder: Path, cache: Path) -> float:
        """Run to the end; the seconds it took."""
        began = time.perf_counter()
        if status := self.start(folder, cache).wait():
            raise RuntimeError(f"{self.name}: exit status {status}: {(folder / 'log').read_text()[-2000:]}")
        return time.perf_counter() - began


POSTGRESQL = "cosearch-postgresql"
JOBS = {
    "search": Job("search", SEARCH, ()),
    "cosearch": Job("cosearch", COSEARCH, ()),
    POSTGRESQL: Job(POSTGRESQL, COSEARCH, ()),
    "cosearch-ray": Job("cosearch-ray", COSEARCH, ("--backend", "ray")),
    "sweep": Job("sweep", SWEEP, ("smallcnn", "resnet8", "--jobs", "2", "--table", "csv")),
}


@dataclass(frozen=True)
class Outcome:
    """What a kill and its continuation did.

    Attributes:
        after_s: when it was killed; `files` how many files the run folder had by then.
        equal: whether the continued run gave what the undisturbed one had given.
        processes, left: command lines and files that were left.
    """

    after_s: float
    files: int
    continued_s: float
    equal: bool
    processes: tuple[str, ...]
    left: tuple[str, ...]

    @property
    def good(self) -> bool:
        """Whether nothing differs and nothing is left."""
        return self.equal and not self.processes and not self.left


def answer(folder: Path) -> dict[str, Any]:
    """All that a finished run says: its result, points and networks, without the time that things took."""
    run = folder / "run"
    found: dict[str, Any] = {"result": json.loads((run / "result.json").read_text())}
    for path in sorted(run.rglob("*")):
        if path.is_file() and path.parent.name in ("points", "resources", "tested", "verified", "hardware"):
            found[path.relative_to(run).as_posix()] = json.loads(path.read_text()) if path.suffix == ".json" else ""
        elif path.suffix in (".codesign", ".csv"):
            found[path.relative_to(run).as_posix()] = path.read_bytes()
    return without(found)


def without(value: Any) -> Any:
    """A value without the keys of `TAKES`, and without hashes of what has them."""
    if isinstance(value, dict):
        timed = isinstance(value.get("value"), dict) and any(key in value["value"] for key in TAKES)
        dropped = (*TAKES, "content") if timed else TAKES
        return {key: without(item) for key, item in value.items() if key not in dropped}
    return [without(item) for item in value] if isinstance(value, list) else value


def kill(job: Job, folder: Path, cache: Path, after_s: float, expected: dict[str, Any]) -> Outcome:
    """Kill a run after some seconds, continue it, and compare."""
    process = job.start(folder, cache)
    try:
        process.wait(after_s)
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGKILL)
        process.wait()
    files = sum(path.is_file() for path in (folder / "run").rglob("*"))
    processes = left_of(process.pid, 90)  # agents of a cluster look every half a minute whether it is still there
    continued_s = job.finish(folder, cache)
    left = [path for path in (folder / "run").rglob("*") if path.name.endswith((".tmp", ".lock"))]
    names = tuple(path.relative_to(folder).as_posix() for path in left)
    return Outcome(after_s, files, continued_s, answer(folder) == expected, tuple(processes), names)


def main() -> None:
    """Kill and continue, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--warm", action="store_true")
    parser.add_argument("--jobs", nargs="*", choices=list(JOBS), default=list(JOBS))
    arguments = parser.parse_args()
    rng = np.random.default_rng(arguments.seed)
    bad = 0
    sys.stdout.write("command              killed after  files then  continued in  equal  processes left  files left\n")
    with tempfile.TemporaryDirectory(prefix="codesign-kill-") as name, contextlib.ExitStack() as stack:
        for job in (JOBS[item] for item in arguments.jobs):
            if job.name == POSTGRESQL:
                job = replace(job, server=stack.enter_context(server()))
            whole = Path(name) / job.name
            cache = whole / "cache"
            took_s = job.finish(whole, cache)
            if arguments.warm:
                whole = Path(name) / f"{job.name}-warm"
                took_s = job.finish(whole, cache)
            expected = answer(whole)
            sys.stdout.write(f"{job.name:19}  never                     {took_s:8.1f} s\n")
            for number in range(arguments.kills):
                folder = Path(name) / f"{job.name}{number}"
                if arguments.warm:
                    shutil.copytree(cache, folder / "cache")
                found = kill(job, folder, folder / "cache", float(rng.uniform(0.2, 1) * took_s), expected)
                bad += not found.good
                sys.stdout.write(
                    f"{job.name:19}  {found.after_s:10.2f} s  {found.files:10}  {found.continued_s:10.1f} s  "
                    f"{'yes' if found.equal else 'NO':5}  {len(found.processes):14}  {len(found.left):10}\n"
                )
                sys.stdout.flush()
    sys.exit(1 if bad else 0)


if __name__ == "__main__":
    main()

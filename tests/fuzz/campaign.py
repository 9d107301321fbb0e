"""Thousands of changed files against every reader: `python -m tests.fuzz.campaign`, `make fuzz`.

A case is a kind and a number; the same ones give the same files. Cases run in processes that live on from case to case,
in a limited space of addresses; one that takes too long, or ends its process, is found by the process that began it.
A share of the commands is run once more as a shell would, in a process of its own. What fails stays as files.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import select
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path

from tests.fuzz.seeds import KINDS, ROOT, make_seeds, seeds_of
from tests.fuzz.worker import MOST_BYTES

SECONDS = 20.0
"""Of processor time that a case may take: a machine that does other things, too, is not the reader's fault."""
PATIENCE = 240.0
"""Seconds by the clock after which a case waits for something that never comes."""
SHARES = {"onnx": 5, "qdq": 4, "qonnx": 3, "integer_onnx": 2, "arguments": 4, "hardware": 4, "images": 4, "topology": 3}
"""Cases of a kind for one of other kinds."""
COLUMNS = ("tried", "refused", "equal", "accepted", "wrong", "traceback", "memory", "time")
TITLES = (
    *("class", "tried", "refused in one line", "accepted, equal to an oracle", "accepted, no oracle"),
    *("wrong", "traceback", "memory over 2 GiB", "over 20 s"),
)
BAD = COLUMNS[4:]


@dataclass(frozen=True)
class Result:
    """What became of a case: one of COLUMNS but the first."""

    kind: str
    number: int
    outcome: str
    detail: str
    command: str


class Worker:
    """A process that tries cases, begun again where one ends it."""

    def __init__(self, seeds: Path, folder: Path) -> None:
        self.seeds, self.folder = seeds, folder
        self._process: subprocess.Popen[bytes] | None = None
        self._buffer = b""

    def try_case(self, kind: str, number: int) -> Result:
        """The result of one case."""
        if self._process is None:
            self._begin()
        process = self._process
        assert process is not None and process.stdin is not None
        process.stdin.write(f"{kind} {number}\n".encode())
        process.stdin.flush()
        begun, spent, stage = time.monotonic(), _spent(process.pid), "made"
        while True:
            line = self._line(0.2)
            if line in ("read", "judge"):
                stage, spent, begun = line, _spent(process.pid), time.monotonic()
            elif line:
                found = json.loads(line)
                outcome = "time" if found["seconds"] > SECONDS else found["outcome"]
                return Result(kind, number, outcome, found["detail"], found["command"])
            elif process.poll() is not None:
                self._process = None
                outcome = "accepted" if stage == "judge" else "traceback"
                return Result(kind, number, outcome, f"the process ended with {process.returncode} ({stage})", "")
            elif _spent(process.pid) - spent > 2 * SECONDS or time.monotonic() - begun > PATIENCE:
                self.end()
                outcome = "accepted" if stage == "judge" else "time"
                return Result(kind, number, outcome, f"stopped ({stage})", "")

    def _begin(self) -> None:
        environment = os.environ | {"PYTHONPATH": str(ROOT), "PYTHONHASHSEED": "0", "OMP_NUM_THREADS": "1"}
        command = [sys.executable, "-m", "tests.fuzz.worker", str(self.seeds), str(self.folder)]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        self._process = subprocess.Popen(command, cwd=ROOT, env=environment, **pipes)  # type: ignore[call-overload]
        self._buffer = b""
        while (line := self._line(600)) != "ready":
            if not line:
                assert self._process is not None and self._process.stderr is not None
                self._process.kill()
                raise RuntimeError(self._process.stderr.read().decode()[-3000:])

    def _line(self, seconds: float) -> str:
        """The next line, or nothing after so many seconds, or at the end."""
        assert self._process is not None and self._process.stdout is not None
        handle = self._process.stdout.fileno()
        until = time.monotonic() + seconds
        while b"\n" not in self._buffer:
            ready, _, _ = select.select([handle], [], [], max(0.0, until - time.monotonic()))
            data = os.read(handle, 65536) if ready else b""
            if not data:
                return ""
            self._buffer += data
        line, _, self._buffer = self._buffer.partition(b"\n")
        return line.decode()

    def end(self) -> None:
        """End the process."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None


def _spent(pid: int) -> float:
    """Seconds of processor time of a process."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def cases(count: int, seed: int, kinds: Iterable[str]) -> Iterator[tuple[str, int]]:
    """About `count` cases, kinds by their shares, in turn."""
    chosen = list(kinds)
    whole = sum(SHARES.get(kind, 1) for kind in chosen)
    left = {kind: max(1, round(count * SHARES.get(kind, 1) / whole)) for kind in chosen}
    number = seed * 1_000_000
    while any(left.values()):
        for kind in chosen:
            if left[kind]:
                left[kind] -= 1
                yield kind, number
        number += 1


def run(
    count: int,
    seed: int,
    folder: Path,
    jobs: int = 1,
    kinds: Iterable[str] = KINDS,
    shell: int = 0,
    beside: bool = True,
) -> list[Result]:
    """Try cases; what fails stays in `folder`/failures.

    Args:
        count: of cases, about.
        seed: of all of them.
        folder: for seeds, files of cases and failures.
        jobs: processes at once.
        kinds: to try; those without a seed are left out.
        beside: begin with files beside the checkout, too.
        shell: how many commands are run as a shell would, too.
    """
    for name in ("seeds", "work", "failures"):
        shutil.rmtree(folder / name, ignore_errors=True)
    seeds = folder / "seeds"
    make_seeds(seeds, beside)
    todo = list(cases(count, seed, [kind for kind in kinds if seeds_of(seeds, kind)]))
    results: list[Result] = []

    def share(index: int) -> None:
        worker = Worker(seeds, folder / "work" / str(index))
        try:
            for done, (kind, number) in enumerate(todo[index::jobs]):
                result = worker.try_case(kind, number)
                results.append(result)
                if result.outcome in BAD:
                    keep(result, worker.folder, folder / "failures")
                if done % 200 == 199:
                    sys.stderr.write(f"{len(results):,} of {len(todo):,}\n")
        finally:
            worker.end()

    with ThreadPoolExecutor(jobs) as pool:
        list(pool.map(share, range(jobs)))
    lines = (json.dumps(asdict(result)) for result in results)
    (folder / "results.jsonl").write_text("\n".join(lines) + "\n")
    results.sort(key=lambda result: (KINDS.index(result.kind), result.number))
    return results + _through_a_shell(results, seeds, folder, shell)


def _through_a_shell(results: list[Result], seeds: Path, folder: Path, count: int) -> list[Result]:
    """Some of the commands in processes of their own: they end as they did."""
    from tests.fuzz.kinds import case_of

    found = [
        item
        for item in results
        if item.command.startswith("codesign ") and not item.command.endswith(")") and item.outcome not in BAD
    ]
    again = []
    for result in found[:: max(1, len(found) // count) if count else len(found) + 1][:count]:
        place = folder / "work" / "shell"
        shutil.rmtree(place, ignore_errors=True)
        place.mkdir(parents=True)
        before = Path.cwd()
        os.chdir(place)
        try:
            case = case_of(result.kind, result.number, seeds, place)
        finally:
            os.chdir(before)
        if not case.arguments:
            continue
        status, detail = _command(list(case.arguments), place)
        expected = 2 if result.outcome == "refused" else 0
        bad = detail if detail in ("memory", "time") else "" if status == expected else "traceback"
        again.append(Result("commands in a shell", result.number, bad or result.outcome, detail, case.command))
        if bad:
            keep(again[-1], place, folder / "failures")
    return again


def _command(arguments: list[str], place: Path) -> tuple[int, str]:
    """Exit status of a command, and what it printed, or `memory` or `time`."""

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_AS, (4 * 2**30, 4 * 2**30))
        resource.setrlimit(resource.RLIMIT_CPU, (int(2 * SECONDS), int(2 * SECONDS) + 1))

    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "codesign", *arguments]
    with (place / "stderr.txt").open("wb") as errors:
        process = subprocess.Popen(
            command, cwd=place, env=environment, stdout=subprocess.DEVNULL, stderr=errors, preexec_fn=limit
        )
        try:
            process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            process.kill()
            return -1, "time"
    said = (place / "stderr.txt").read_text(errors="replace")
    if process.returncode < 0:
        return process.returncode, "time"
    return process.returncode, "memory" if "MemoryError" in said else said[-1500:]


def keep(result: Result, source: Path, failures: Path) -> None:
    """The files of a failing case, what failed, and the command that repeats it."""
    place = failures / f"{result.kind}-{result.number}".replace(" ", "_")
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir(parents=True)
    for path in sorted(source.rglob("*")):
        if path.is_file() and not path.is_symlink() and path.stat().st_size < 50_000_000:
            target = place / path.relative_to(source)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, target)
    text = [result.outcome, result.detail, "", result.command.replace(str(source), str(place)), "", "again:"]
    text.append(f"{sys.executable} -m tests.fuzz.campaign --repeat {result.kind}:{result.number}")
    (place / "what.txt").write_text("\n".join(text) + "\n")


def table(results: list[Result]) -> str:
    """Counts by kind and outcome."""
    counts: dict[str, Counter[str]] = {}
    for result in results:
        counts.setdefault(result.kind, Counter())[result.outcome] += 1
    rows = [[kind, sum(found.values()), *(found[name] for name in COLUMNS[1:])] for kind, found in counts.items()]
    rows.append(["all", *(sum(int(row[at]) for row in rows) for at in range(1, len(TITLES)))])
    lines = [list(TITLES), *([str(row[0]), *(f"{cell:,}" for cell in row[1:])] for row in rows)]
    widths = [max(len(line[at]) for line in lines) for at in range(len(TITLES))]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if at == 0 else cell.rjust(width)
            for at, (cell, width) in enumerate(zip(line, widths, strict=True))
        )
        for line in lines
    )


def say(line: str) -> None:
    """A line on stdout."""
    sys.stdout.write(line + "\n")


def main() -> int:
    """Status 1 if a case failed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cases", type=int, default=6000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--shell", type=int, default=100, help="commands that are run in processes of their own")
    parser.add_argument("--kinds", default=",".join(KINDS))
    parser.add_argument("--out", type=Path, default=None, help="folder for seeds and failures")
    parser.add_argument("--repeat", default="", metavar="KIND:NUMBER", help="one case alone")
    options = parser.parse_args()
    folder = (options.out or Path(tempfile.mkdtemp(prefix="codesign-fuzz-"))).resolve()
    if options.repeat:
        kind, _, number = options.repeat.partition(":")
        make_seeds(folder / "seeds")
        worker = Worker(folder / "seeds", folder / "work" / "repeat")
        result = worker.try_case(kind, int(number))
        worker.end()
        say(f"{result.outcome}\n{result.detail}\n{result.command}")
        return int(result.outcome in BAD)
    begun = time.monotonic()
    results = run(options.cases, options.seed, folder, options.jobs, options.kinds.split(","), options.shell)
    say(table(results))
    bad = [result for result in results if result.outcome in BAD]
    for result in bad:
        say(f"{result.outcome}: {result.kind}:{result.number}: {result.detail.strip().splitlines()[-1:]}")
    spent = time.monotonic() - begun
    limits = f"{MOST_BYTES / 2**30:g} GiB, {SECONDS:g} s"
    say(f"{len(results):,} cases of seed {options.seed} in {spent:.0f} s; limits: {limits}")
    if bad:
        say(f"what failed lies in {folder / 'failures'}")
    return int(bool(bad))


if __name__ == "__main__":
    sys.exit(main())

"""What the commands print: tables on stdout, progress on stderr, JSON in a file."""

from __future__ import annotations

import contextlib
import logging
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from codesign._files import write_json
from codesign._text import one_line, visible
from codesign.api.answer import Answer
from codesign.api.blocks import WIDTH, Facts, Line, Table, print_blocks
from codesign.api.blocks import percent as percent
from codesign.api.blocks import shown as shown
from codesign.api.notes import LOGGER, Report

console = Console() if sys.stdout.isatty() else Console(width=WIDTH)
notes = Console(stderr=True)


class Notes(logging.Handler):
    """Prints what jobs note, each once: many jobs of a search have the same to say."""

    def __init__(self) -> None:
        super().__init__()
        self._said: set[str] = set()

    def emit(self, record: logging.LogRecord) -> None:
        text = record.getMessage()
        if text not in self._said:
            self._said.add(text)
            note(text)


@contextlib.contextmanager
def noting() -> Iterator[None]:
    """Within the block, what jobs note is printed on stderr as `note` does."""
    handler, handed_on = Notes(), LOGGER.propagate
    LOGGER.addHandler(handler)
    LOGGER.propagate = False
    try:
        yield
    finally:
        LOGGER.removeHandler(handler)
        LOGGER.propagate = handed_on


@contextlib.contextmanager
def progress() -> Iterator[Report]:
    """A display of progress on stderr: a bar for each phase, or a line for each when stderr is no terminal."""
    if not notes.is_terminal:
        seen: set[str] = set()

        def begun(phase: str, done: int, total: int, metrics: Mapping[str, float] | None = None) -> None:
            if phase not in seen and done < total:
                seen.add(phase)
                note(f"{phase} ...")

        yield begun
        return
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}", markup=False),
    )
    with Progress(*columns, console=notes, transient=True) as bars:
        tasks: dict[str, TaskID] = {}

        def bar(phase: str, done: int, total: int, metrics: Mapping[str, float] | None = None) -> None:
            if phase not in tasks:
                tasks[phase] = bars.add_task(visible(phase), total=total, note="")
            note = ", ".join(f"{key} {value:.3g}" for key, value in (metrics or {}).items())
            bars.update(tasks[phase], completed=done, total=total, note=note)

        yield bar


def show(answer: Answer) -> None:
    """Print an answer: where no terminal is, `str` of it."""
    print_blocks(answer.blocks(), console)


def table(title: str, columns: Sequence[str], rows: Iterable[Sequence[object]], total: Sequence[object] = ()) -> None:
    """Print a table; columns of numbers are aligned to the right."""
    print_blocks([Table(title, columns, list(rows), total)], console)


def facts(pairs: Mapping[str, object]) -> None:
    """Print names and values, one pair a line."""
    print_blocks([Facts(pairs)], console)


def line(text: str, style: str = "") -> None:
    """Print a line on stdout, as it is: no markup, nothing that controls a terminal."""
    print_blocks([Line(text, style)], console)


def note(text: str) -> None:
    """Print a line on stderr, as it is; of a very long one the middle is left out.

    A stderr that takes nothing is no reason to give a job up.
    """
    with contextlib.suppress(OSError):
        notes.print(Text(one_line(text)), highlight=False)


def save(path: Path | None, answer: dict[str, Any]) -> None:
    """Write the machine-readable answer where `--json` says, if it was given."""
    if path is not None:
        write_json(path, answer)
        note(f"wrote {path}")

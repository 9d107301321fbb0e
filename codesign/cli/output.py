"""What the commands print: tables on stdout, progress on stderr, JSON in a file."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from rich import box
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from codesign._files import write_json
from codesign._text import LINE, one_line, visible

WIDTH = 140
"""Columns of the output when it goes to a file or a pipe."""

console = Console() if sys.stdout.isatty() else Console(width=WIDTH)
notes = Console(stderr=True)


class Report(Protocol):
    """How jobs tell their progress."""

    def __call__(self, phase: str, done: int, total: int, metrics: Mapping[str, float] | None = None) -> None:
        """`done` of `total` steps of `phase` are finished."""


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


def table(title: str, columns: Sequence[str], rows: Iterable[Sequence[object]], total: Sequence[object] = ()) -> None:
    """Print a table; columns of numbers are aligned to the right."""
    rows = list(rows)
    grid = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_footer=bool(total), footer_style="bold")
    for index, name in enumerate(columns):
        footer = _text(total[index]) if total else ""
        numbers = index > 0 and all(_is_number(row[index]) for row in rows)
        grid.add_column(_text(name), footer, justify="right" if numbers else "left", no_wrap=index == 0)
    for row in rows:
        grid.add_row(*(_text(value) for value in row))
    line(title, "bold")
    console.print(grid)


def facts(pairs: Mapping[str, object]) -> None:
    """Print names and values, one pair a line."""
    grid = Table.grid(padding=(0, 2))
    for name, value in pairs.items():
        grid.add_row(_text(name), _text(value, "bold"))
    console.print(grid)


def line(text: str, style: str = "") -> None:
    """Print a line on stdout, as it is: no markup, nothing that controls a terminal."""
    console.print(Text(visible(text), style), highlight=False, soft_wrap=True)


def note(text: str) -> None:
    """Print a line on stderr, as it is; of a very long one the middle is left out.

    A stderr that takes nothing is no reason to give a job up.
    """
    with contextlib.suppress(OSError):
        notes.print(Text(one_line(text)), highlight=False)


def _text(value: object, style: str = "") -> Text:
    """A cell, as it is: no markup, nothing that controls a terminal, no megabytes."""
    text = visible(shown(value))
    return Text(text if len(text) <= LINE else one_line(text), style)


def shown(value: object) -> str:
    """A cell as people read it: thousands separated, four significant digits, nothing for None."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"
    return str(value)


def _is_number(value: object) -> bool:
    return value is None or isinstance(value, int | float) or shown(value)[:1].isdigit()


def percent(share: float, digits: int = 1) -> str:
    """A share of 1 as percent."""
    return f"{100 * share:.{digits}f} %"


def save(path: Path | None, answer: dict[str, Any]) -> None:
    """Write the machine-readable answer where `--json` says, if it was given."""
    if path is not None:
        write_json(path, answer)
        note(f"wrote {path}")

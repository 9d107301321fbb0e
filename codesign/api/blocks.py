"""What answers consist of for people: tables, facts and lines, as text, on a terminal, or as HTML.

Everything is shown as it is: no markup, nothing that controls a terminal, no megabytes.
"""

from __future__ import annotations

import html
import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from codesign._text import LINE, one_line, visible

if TYPE_CHECKING:
    from rich.console import Console

WIDTH = 140
"""Columns of what goes to a file, a pipe or a string."""

_WORDS = 16
"""Columns that text has at least where it is as long; it goes on in the next line."""
_WIDEST = 1000
"""Columns of the widest table."""
_NAME = 48
"""Characters of the longest name in a first column that is kept in one line."""


@dataclass(frozen=True)
class Table:
    """Rows under a title; columns of numbers are aligned to the right. `total` is a last row, if there is one."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[object]]
    total: Sequence[object] = ()


@dataclass(frozen=True)
class Facts:
    """Names and values, one pair a line."""

    pairs: Mapping[str, object]


@dataclass(frozen=True)
class Line:
    """A line of text; `style` is for terminals, such as `bold`."""

    text: str
    style: str = ""


Block = Table | Facts | Line


def print_blocks(blocks: Iterable[Block], console: Console) -> None:
    """Print them."""
    from rich import box
    from rich.measure import Measurement
    from rich.table import Table as Grid
    from rich.text import Text

    def cell(value: object, style: str = "") -> Text:
        return Text(_cell(value), style)

    def print_line(text: str, style: str) -> None:
        console.print(Text(visible(text), style), highlight=False, soft_wrap=True)

    for block in blocks:
        if isinstance(block, Line):
            print_line(block.text, block.style)
        elif isinstance(block, Facts):
            grid = Grid.grid(padding=(0, 2))
            for name, value in block.pairs.items():
                grid.add_row(cell(name), cell(value, "bold"))
            console.print(grid)
        else:
            grid = Grid(box=box.SIMPLE_HEAD, pad_edge=False, show_footer=bool(block.total), footer_style="bold")
            for index, name in enumerate(block.columns):
                footer = cell(block.total[index]) if block.total else ""
                widest = max((len(_cell(row[index])) for row in (*block.rows, block.total) if row), default=0)
                least = max(widest, *map(len, name.split()), 0)
                if _is_numeric(block, index):  # of a number no digit is left out
                    grid.add_column(cell(name), footer, justify="right", min_width=least)
                else:
                    kept = index == 0 and widest <= _NAME
                    grid.add_column(cell(name), footer, no_wrap=kept, min_width=min(least, _WORDS))
            for row in block.rows:
                grid.add_row(*(cell(value) for value in row))
            print_line(block.title, "bold")
            least = Measurement.get(console, console.options.update(max_width=_WIDEST), grid).minimum
            console.print(grid, width=max(console.width, least), crop=False)  # rather wide than without its end


def as_text(blocks: Iterable[Block]) -> str:
    """What `print_blocks` prints where no terminal is, without the last line's end."""
    from rich.console import Console

    text = io.StringIO()
    print_blocks(blocks, Console(file=text, width=WIDTH, color_system=None, force_terminal=False))
    return text.getvalue().removesuffix("\n")


def as_html(blocks: Iterable[Block]) -> str:
    """The same for notebooks: tables without style but for the alignment of numbers, everything escaped."""
    return "\n".join(_html(block) for block in blocks)


def _html(block: Block) -> str:
    if isinstance(block, Line):
        return f"<p>{html.escape(visible(block.text))}</p>"
    if isinstance(block, Facts):
        pairs = (f"<tr><th>{_escaped(name)}</th><td>{_escaped(value)}</td></tr>" for name, value in block.pairs.items())
        return f"<table>{''.join(pairs)}</table>"
    align = [' style="text-align: right"' if _is_numeric(block, i) else "" for i in range(len(block.columns))]

    def row(tag: str, cells: Sequence[object]) -> str:
        inner = (f"<{tag}{style}>{_escaped(value)}</{tag}>" for style, value in zip(align, cells, strict=True))
        return f"<tr>{''.join(inner)}</tr>"

    head = f"<thead>{row('th', block.columns)}</thead>"
    body = f"<tbody>{''.join(row('td', cells) for cells in block.rows)}</tbody>"
    foot = f"<tfoot>{row('th', block.total)}</tfoot>" if block.total else ""
    return f"<table><caption>{html.escape(visible(block.title))}</caption>{head}{body}{foot}</table>"


def _is_numeric(table: Table, column: int) -> bool:
    """Whether a column is one of numbers; the first one holds names."""
    return column > 0 and all(_is_number(row[column]) for row in table.rows)


def _is_number(value: object) -> bool:
    return value is None or isinstance(value, int | float) or shown(value)[:1].isdigit()


def _cell(value: object) -> str:
    text = visible(shown(value))
    return text if len(text) <= LINE else one_line(text)


def _escaped(value: object) -> str:
    return html.escape(_cell(value))


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


def percent(share: float, digits: int = 1) -> str:
    """A share of 1 as percent."""
    return f"{100 * share:.{digits}f} %"

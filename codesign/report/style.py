"""How pages and figures look: colours, layout, and one file with everything in it."""

from __future__ import annotations

import datetime
import html
from pathlib import Path
from typing import Any

import jinja2
import plotly.graph_objects as go

from codesign._text import visible
from codesign.provenance import provenance

INK, GRID, ACCENT = "#75828f", "#8c98a433", "#d1495b"
"""Of lines and of the grid: to be seen on white and on black."""
COMPUTE, STALL = "#2a7f9e", "#f2b134"
SERIES = ("#2a7f9e", "#8cb369", "#d1495b", "#7768ae", "#f2b134")

PLOTLY = Path(__file__).with_name("plotly") / "plotly-basic.min.js"
"""Plotly's own bundle for scatter plots, bars and pies (npm plotly.js-basic-dist-min, of the version of the Python
package), which is a quarter of the whole one: pages are to be sent."""

Chart = tuple[str, str, go.Figure]
"""Heading, a sentence, the figure."""


def page(template: str, title: str, summary: dict[str, str], charts: list[Chart], **values: Any) -> str:
    """A self-contained HTML page.

    Args:
        template: file beside this one; it extends `base.html.j2`.
        title: heading of the page.
        summary: names and values shown first; they are printed as they are.
        charts: the figures, in order.
        values: what else the template takes; `provenance` is that of this package unless it is among them.
    """
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        finalize=_shown,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
    )
    return environment.get_template(template).render(
        title=title,
        date=datetime.datetime.now(tz=datetime.UTC).strftime("%Y-%m-%d %H:%M UTC"),
        plotly=PLOTLY.read_text(),
        summary=summary,
        charts=[(heading, note, _html(figure)) for heading, note, figure in charts],
        **({"provenance": provenance()} | values),
    )


def literal(text: str) -> str:
    """Text of users for a figure: Plotly takes its strings for HTML of its own kind."""
    return html.escape(visible(text), quote=False)


def _shown(value: Any) -> Any:
    """What a template prints: no control characters; markup is what this package says is markup."""
    return visible(value) if type(value) is str else value


def styled(figure: go.Figure, height: int) -> go.Figure:
    """The figure in the colours and margins of the page."""
    figure.update_layout(
        template="none",  # pages set what depends on light and dark
        height=height,
        margin={"l": 10, "r": 10, "t": 10, "b": 10},
        paper_bgcolor="rgba(0,0,0,0)",
        plot_bgcolor="rgba(0,0,0,0)",
        font={"family": "system-ui, sans-serif", "size": 13},
        # rows of the legend grow upwards, and the margin with them: on narrow pages there are several
        legend={"orientation": "h", "yanchor": "bottom", "y": 1.02, "x": 0},
        coloraxis={"colorscale": "Viridis", "colorbar": {"title": "LUT", "thickness": 14}},
    )
    figure.update_xaxes(gridcolor=GRID, zerolinecolor=GRID, automargin=True)
    figure.update_yaxes(gridcolor=GRID, zerolinecolor=GRID, automargin=True)
    return figure


def _html(figure: go.Figure) -> str:
    text: str = figure.to_html(
        full_html=False, include_plotlyjs=False, config={"displayModeBar": False, "responsive": True}
    )
    return text

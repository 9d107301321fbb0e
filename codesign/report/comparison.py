"""The page of a comparison of methods: accuracy against what is limited, and a table of all rows."""

from __future__ import annotations

from collections.abc import Sequence

import plotly.graph_objects as go

from codesign.allocation.comparison import Point, Row, Spread, rows_of
from codesign.report.style import SERIES, literal, page, styled

SYMBOLS = ("circle", "square", "diamond", "triangle-up", "star", "x", "cross", "pentagon")
"""Methods have one of these in one of the colours, so forty can be told apart."""
COLUMNS = ("validation_accuracy", "test_accuracy", "latency_ms", "size_mib", "search_s")


def render_comparison(points: Sequence[Point], title: str, data: str) -> str:
    """The self-contained HTML page of a finished comparison."""
    rows = rows_of(points)
    metric = rows[0].limit.metric
    seeds = max(row.seeds for row in rows)
    note = (
        f"means over {seeds} seeds, bars are deviations; a point is the network trained with a method's bits within a "
        "limit, at what it really costs; compare by validation images"
    )
    cells = [
        (
            *(row.method, row.limit.words, f"{row.seeds - row.failed} of {row.seeds}"),
            *(shown(name, row.numbers.get(name)) for name in COLUMNS),
            ran_on_rtl(row),
            row.why,
        )
        for row in rows
    ]
    return page(
        "figures.html.j2",
        title,
        {"data": data, "methods": str(len({row.method for row in rows})), "seeds": str(seeds)},
        [("Accuracy", note, comparison_figure(rows, metric))],
        tables=[
            (
                "All rows",
                "search_s: seconds of a processor, from the trained float network to the assignment",
                ("method", "limit", "seeds", *COLUMNS, "on RTL", ""),
                cells,
            )
        ],
    )


def comparison_figure(rows: Sequence[Row], metric: str) -> go.Figure:
    """Validation accuracy against the metric, a line for each method."""
    figure = go.Figure()
    for number, method in enumerate(dict.fromkeys(row.method for row in rows)):
        mine = sorted(
            (row for row in rows if row.method == method and row.numbers), key=lambda row: row.numbers[metric].mean
        )
        if not mine:
            continue
        accuracy = [row.numbers["validation_accuracy"] for row in mine]
        figure.add_scatter(
            x=[row.numbers[metric].mean for row in mine],
            y=[100 * found.mean for found in accuracy],
            error_y={"array": [100 * (found.deviation or 0.0) for found in accuracy], "thickness": 1},
            mode="lines+markers",
            name=literal(method),
            line={"color": SERIES[number % len(SERIES)], "width": 1.5},
            marker={"symbol": SYMBOLS[number // len(SERIES) % len(SYMBOLS)], "size": 9},
            text=[literal(row.limit.words) for row in mine],
            hovertemplate="%{text}<br>%{x:.4g}, %{y:.2f} %",
        )
    figure.update_xaxes(title=metric)
    figure.update_yaxes(title="validation accuracy of the integers, %")
    return styled(figure, height=520)


def ran_on_rtl(row: Row) -> str:
    """How many networks of a row did the same on the RTL as in the models; empty if none was to run there."""
    return f"{row.exact} of {row.on_rtl} exact" if row.on_rtl else ""


def shown(name: str, found: Spread | None) -> str:
    """Mean and deviation, accuracies in percent; empty without any."""
    if found is None:
        return ""
    if name.endswith("accuracy"):
        return f"{_spread(found, 100.0, '.2f', '.2f')} %"
    return _spread(found, 1.0, ".4g", ".2g")


def _spread(found: Spread, factor: float, mean: str, deviation: str) -> str:
    text = format(factor * found.mean, mean)
    return text if found.deviation is None else f"{text} ± {format(factor * found.deviation, deviation)}"

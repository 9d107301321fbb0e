"""The page of a sweep: all points, with axes that the reader chooses, and the commands that make them again."""

from __future__ import annotations

from typing import Any

import plotly.graph_objects as go

from codesign.report.style import INK, SERIES, Chart, literal, page, styled
from codesign.search.sweep import FRONT_AXES, SweepPoint, SweepResult

LABELS = {
    "latency_ms": "latency of one image, ms",
    "lut": "LUTs",
    "dsp": "DSPs",
    "energy_mj": "energy of one image, mJ",
}


def render_sweep(result: SweepResult, title: str) -> str:
    """The self-contained HTML page of a finished sweep."""
    networks = sorted({point.network for point in result.points})
    charts: list[Chart] = []
    for network in networks:
        points = [point for point in result.points if point.network == network]
        front = [point for point in result.front if point.network == network]
        note = (
            f"{len(points)} points; the {len(front)} ringed ones are beaten by no other in "
            f"{', '.join(known_axes(points))} together; choose the axes above the plot"
        )
        charts.append((network, note, sweep_figure(points, front)))
    columns = ("hardware", "network", "cycles", "ms", "clock", "LUT", "DSP", "BRAM36", "mJ", "makes it again")
    rows = [
        (
            *(point.hardware.name, point.network, f"{point.signals.cycles:,}", f"{point.signals.latency_ms:.4g}"),
            str(point.signals.clock),
            *("" if x is None else f"{x:,}" for x in (used.lut, used.dsp, used.bram36)),
            f"{point.signals.energy_mj:.4g}",
            point.command,
        )
        for point in result.front
        for used in (point.signals.resources,)
    ]
    others = [(name, why) for name, why in (*result.refused.items(), *result.rejected.items())]
    return page(
        "figures.html.j2",
        title,
        {
            "base": result.space.base,
            "combinations": f"{result.space.size:,}",
            "points": f"{len(result.points):,}, {len(result.front)} on a front",
            "excluded by conditions": f"{result.excluded:,}",
            "cannot be built or cannot run": f"{len(others):,}",
        },
        charts,
        tables=[
            ("Fronts", f"mJ are an estimate from counts of operations and {result.energy_source}", columns, rows),
            *([("Cannot be built, or cannot run", "", ("variant", "why"), others[:100])] if others else []),
        ],
    )


def known_axes(points: list[SweepPoint]) -> list[str]:
    """The axes of the front of which there are numbers."""
    return [axis for axis in FRONT_AXES if all(point.signals.metric(axis) is not None for point in points)]


def sweep_figure(points: list[SweepPoint], ringed: list[SweepPoint]) -> go.Figure:
    """Points of one network and those on its front; two menus choose what is on the axes, colours are DSPs."""
    axes = known_axes(points)
    texts = [_text(point) for point in points]
    figure = go.Figure()
    figure.add_scatter(
        **_coordinates(points, axes[0], axes[1]),
        mode="markers",
        name="points",
        text=texts,
        hovertemplate="%{text}<extra></extra>",
        marker={
            "size": 11,
            "color": [point.signals.resources.dsp for point in points],
            "colorscale": "Viridis",
            "colorbar": {"title": "DSP", "thickness": 14},
            "line": {"color": INK, "width": 0.5},
        },
    )
    figure.add_scatter(
        **_coordinates(ringed, axes[0], axes[1]),
        mode="markers",
        name="on the front",
        hoverinfo="skip",
        marker={"symbol": "circle-open", "size": 19, "color": SERIES[2], "line": {"width": 1.5}},
    )
    menus = []
    for place, letter in ((0.0, "x"), (0.38, "y")):
        buttons = [
            {
                "label": f"{letter}: {LABELS[axis]}",
                "method": "update",
                "args": [
                    {letter: [_coordinates(chosen, axis, axis)["x"] for chosen in (points, ringed)]},
                    {f"{letter}axis.title.text": LABELS[axis]},
                ],
            }
            for axis in axes
        ]
        active = 0 if letter == "x" else 1
        menus.append({"buttons": buttons, "active": active, "x": place, "y": 1.2, "xanchor": "left", "yanchor": "top"})
    figure = styled(figure, height=520)
    figure.update_layout(updatemenus=menus, margin={"t": 90}, legend={"y": -0.16, "yanchor": "top"})
    figure.update_xaxes(title=LABELS[axes[0]], rangemode="tozero")
    figure.update_yaxes(title=LABELS[axes[1]], rangemode="tozero")
    return figure


def _coordinates(points: list[SweepPoint], x: str, y: str) -> dict[str, list[Any]]:
    return {"x": [point.signals.metric(x) for point in points], "y": [point.signals.metric(y) for point in points]}


def _text(point: SweepPoint) -> str:
    choice = "<br>".join(literal(f"{key} {value}") for key, value in point.choice.items())
    signals, used = point.signals, point.signals.resources
    luts = "" if used.lut is None else f"{used.lut:,} LUT, "
    predicted = ", predicted" if used.evidence == "predicted" else ""
    return (
        f"{choice}<br>{signals.cycles:,} cycles, {signals.latency_ms:.4g} ms at {signals.clock}<br>"
        f"{luts}{used.dsp} DSP{predicted}, "
        f"{signals.energy_mj:.4g} mJ<br>{100 * signals.utilization:.1f} % used"
    )

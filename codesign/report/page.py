"""The HTML report of a finished search: everything inlined, so that the file can be sent to anyone."""

from __future__ import annotations

from typing import Any

import plotly.graph_objects as go

from codesign.provenance import provenance
from codesign.report.roofline import roofline_figure
from codesign.report.style import ACCENT, COMPUTE, INK, SERIES, STALL, literal, page, styled
from codesign.search.loop import SearchResult
from codesign.search.pareto import front
from codesign.search.space import describe_bands, describe_size
from codesign.sim.energy import unit_energies
from codesign.sim.synthesis.resources import Resources

_COUNTERS = {
    "issue": "array is fed",
    "gap": "tile shorter than its drain",
    "wait_pass": "waiting for weights",
    "drain": "last results on their way",
    "fetch": "no layer to run",
    "load": "input being stored",
}


def render(result: SearchResult, summary: dict[str, str], title: str) -> str:
    """The page of a search.

    Args:
        result: the finished search.
        summary: names and values shown first, such as accuracies; they are printed as they are.
        title: heading of the page.
    """
    chosen = result.chosen
    hw = chosen.hardware
    totals, used = hw.totals, chosen.signals.resources
    return page(
        "page.html.j2",
        title,
        summary,
        [
            ("Latency against accuracy", pareto_note(result), pareto_figure(result)),
            (
                "Cycles of every layer",
                f"{hw.name}: where the {chosen.signals.cycles:,} cycles of one image go",
                layers_figure(result),
            ),
            ("Utilisation of the bands", "share of all cycles in which a band computes", bands_figure(result)),
            ("What the cycles were spent on", "the accelerator's own counters", counters_figure(result)),
            (
                "Roofline",
                f"what the memory and the array of {hw.name} allow, and what every layer reaches",
                roofline_figure(hw, result.timing, chosen.signals.clock),
            ),
        ],
        device=totals.name,
        resources_from="synthesis by Yosys" if used.synthesized else "predicted from the description",
        resources=[
            (key.upper(), amount, getattr(totals, key), 100 * amount / getattr(totals, key))
            for key in Resources._fields
            for amount in (getattr(used, key),)
        ],
        points=[
            {
                "name": describe_bands(point.hardware.bands),
                "size": f"{point.hardware.rows} x {point.hardware.array_columns} x {point.hardware.dot}",
                "point": point,
                "standing": result.standing(point),
                "chosen": point == chosen,
            }
            for point in sorted(result.points, key=lambda point: point.costs)
        ],
        rejected=result.rejected,
        rtl=result.rtl,
        configuration=hw.to_yaml(),
        space=result.space.model_dump(mode="json"),
        energy_source=unit_energies().source,
        provenance=provenance(hw, result.space.seed),
    )


def pareto_note(result: SearchResult) -> str:
    """What the plot shows, in a sentence."""
    chosen = result.chosen
    return (
        f"{len(result.points)} accelerators, colour is LUTs; ringed ones are on the front of latency, accuracy and "
        f"LUTs; the star was chosen and verified on RTL. Accuracies in the plot are of {chosen.validation_images} "
        f"validation images, one of which is {100 / chosen.validation_images:.2f} %; no test image had a part in the "
        f"choice. Measured once, after it: {100 * (chosen.test_accuracy or 0):.2f} % of {chosen.test_images} test "
        "images"
    )


def pareto_figure(result: SearchResult) -> go.Figure:
    """Latency against accuracy of all points, the front, the chosen one."""
    figure = go.Figure()
    best = [point for point in result.points if point.signals.resources.fits]
    line = [best[i] for i in front([(point.signals.latency_ms, -point.validation_accuracy) for point in best])]
    line.sort(key=lambda point: point.costs)
    figure.add_scatter(
        x=[point.signals.latency_ms for point in line],
        y=[100 * point.validation_accuracy for point in line],
        mode="lines",
        line={"color": INK, "width": 1.5, "dash": "dot", "shape": "hv"},
        hoverinfo="skip",
        name="latency against accuracy alone",
    )
    figure.add_scatter(
        x=[point.signals.latency_ms for point in result.front],
        y=[100 * point.validation_accuracy for point in result.front],
        mode="markers",
        marker={"symbol": "circle-open", "size": 20, "color": INK, "line": {"width": 1.5}},
        hoverinfo="skip",
        name="on the front",
    )
    for fits, symbol, name in ((True, "circle", "fits the device"), (False, "x", "does not fit")):
        points = [point for point in result.points if point.signals.resources.fits is fits and point != result.chosen]
        if points:
            figure.add_scatter(**_markers(points), mode="markers", name=name)
            figure.data[-1].marker.update(symbol=symbol, size=13, **_scale(result))
    figure.add_scatter(**_markers([result.chosen]), mode="markers", name="chosen")
    figure.data[-1].marker.update(symbol="star", size=22, line={"color": ACCENT, "width": 2}, **_scale(result))
    figure.update_xaxes(title="latency of one image, ms", rangemode="tozero")
    figure.update_yaxes(title="validation accuracy of the integers, %")
    return styled(figure, height=430)


def layers_figure(result: SearchResult) -> go.Figure:
    """Compute and stall cycles of every layer, stacked."""
    layers = result.timing.layers
    names = [literal(layer.name) for layer in layers]
    figure = go.Figure()
    for label, color, values in (
        ("compute", COMPUTE, [layer.compute_cycles for layer in layers]),
        ("stalls", STALL, [layer.stall_cycles for layer in layers]),
    ):
        figure.add_bar(x=names, y=values, name=label, marker_color=color, hovertemplate="%{x}: %{y:,} cycles")
    figure.update_layout(barmode="stack", bargap=0.35)
    figure.update_xaxes(type="category")  # a name such as 2024-01-01 is none of a day
    figure.update_yaxes(title="cycles")
    return styled(figure, height=380)


def bands_figure(result: SearchResult) -> go.Figure:
    """Share of all cycles in which each band computed."""
    hw = result.chosen.hardware
    figure = go.Figure()
    shares = [100 * busy / result.timing.total_cycles for busy in result.timing.band_busy]
    labels = [f"{band.scheme}{band.weight_bits}, {band.rows} rows" for band in hw.bands]
    colors = [SERIES[index % len(SERIES)] for index in range(len(labels))]
    texts = [f"{share:.1f} %" for share in shares]
    figure.add_bar(x=shares, y=labels, orientation="h", marker_color=colors, text=texts, textposition="auto")
    figure.update_xaxes(title="% of all cycles", range=[0, 100])
    figure.update_yaxes(autorange="reversed", ticksuffix="  ")
    figure.update_layout(showlegend=False, bargap=0.4)
    return styled(figure, height=110 + 55 * len(labels))


def counters_figure(result: SearchResult) -> go.Figure:
    """All cycles of one image by cause, in one bar."""
    total = result.timing.total_cycles
    figure = go.Figure()
    for (name, label), color in zip(_COUNTERS.items(), (COMPUTE, *SERIES[1:], "#9aa5b1"), strict=False):
        value = result.timing.counters[name]
        figure.add_bar(
            x=[100 * value / total],
            y=["all cycles"],
            orientation="h",
            name=label,
            marker_color=color,
            hovertemplate=f"{label}: {value:,} cycles<extra></extra>",
        )
    figure.update_layout(barmode="stack", legend={"traceorder": "normal"})
    figure.update_xaxes(title="% of all cycles", range=[0, 100])
    figure.update_yaxes(showticklabels=False)
    figure = styled(figure, height=210)
    figure.update_layout(legend={"orientation": "h", "yanchor": "top", "y": -0.75, "x": 0}, margin={"b": 95})
    return figure


def _markers(points: list[Any]) -> dict[str, Any]:
    return {
        "x": [point.signals.latency_ms for point in points],
        "y": [100 * point.validation_accuracy for point in points],
        "marker": {"color": [point.signals.resources.lut for point in points]},
        "text": [
            f"{describe_bands(p.hardware.bands)}<br>{describe_size(p.hardware)}<br>{used.lut:,} LUT, {used.dsp} DSP"
            f"{'' if used.synthesized else ', predicted'}"
            for p in points
            for used in (p.signals.resources,)
        ],
        "hovertemplate": "%{text}<br>%{x:.4f} ms, %{y:.2f} %<extra></extra>",
    }


def _scale(result: SearchResult) -> dict[str, Any]:
    return {"coloraxis": "coloraxis"} if result.points else {}

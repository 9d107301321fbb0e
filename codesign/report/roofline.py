"""Rooflines: what the memory and the array allow, and what every layer reaches.

Source of the plot: Williams, Waterman, Patterson, "Roofline: an insightful visual performance model for multicore
architectures", CACM 52(4), 2009. An operation is a multiplication or an addition; a multiply-accumulate is two.
"""

from __future__ import annotations

from dataclasses import dataclass

import plotly.graph_objects as go

from codesign.arch.hardware import Hardware
from codesign.report.style import ACCENT, COMPUTE, INK, STALL, literal, styled
from codesign.sim.clock import Clock
from codesign.sim.timing.plan_timing import Timing

WHOLE = "whole network"


@dataclass(frozen=True)
class Roof:
    """What limits any network on an accelerator.

    Attributes:
        peak_gops: operations of the whole array, 10^9 a second.
        gbytes: memory bandwidth, 10^9 bytes a second.
    """

    peak_gops: float
    gbytes: float

    @classmethod
    def of(cls, hw: Hardware, clock: Clock) -> Roof:
        """The roof of an accelerator at a clock."""
        beats = clock.mhz / hw.memory.cycles_per_beat
        return cls(2e-3 * hw.macs * clock.mhz, 1e-3 * beats * hw.memory.width_bits / 8)

    @property
    def ridge(self) -> float:
        """Operations a byte from which on computing is the limit."""
        return self.peak_gops / self.gbytes

    def limit(self, intensity: float) -> float:
        """The most operations, 10^9 a second, at so many operations a byte."""
        return min(self.peak_gops, intensity * self.gbytes)


@dataclass(frozen=True)
class RooflinePoint:
    """A layer, or the whole network.

    Attributes:
        intensity: operations for each byte read or written.
        gops: operations reached, 10^9 a second.
        limit: the roof at that intensity, the same unit.
        memory_bound: whether that is the memory's roof, not the array's.
    """

    name: str
    intensity: float
    gops: float
    limit: float
    memory_bound: bool


def roofline(hw: Hardware, timing: Timing, clock: Clock) -> tuple[RooflinePoint, ...]:
    """A point for every layer that multiplies, and the last one for the whole network, all its layers included."""
    roof = Roof.of(hw, clock)
    points = []
    operations = moved = 0
    for layer in timing.layers:
        work, traffic = 2 * layer.m * layer.k * layer.n, layer.dram_read_bytes + layer.dram_write_bytes
        operations, moved = operations + work, moved + traffic
        if work:
            points.append(_point(layer.name, clock, roof, work, traffic, layer.cycles))
    points.append(_point(WHOLE, clock, roof, operations, moved, timing.total_cycles))
    return tuple(points)


def roofline_figure(hw: Hardware, timing: Timing, clock: Clock) -> go.Figure:
    """Operations a byte against operations a second, both logarithmic; the roof is a line."""
    roof, points = Roof.of(hw, clock), roofline(hw, timing, clock)
    low = min(roof.ridge, *(point.intensity for point in points)) / 2
    high = 2 * max(roof.ridge, *(point.intensity for point in points))
    figure = go.Figure()
    figure.add_scatter(
        x=[low, roof.ridge, high],
        y=[roof.limit(low), roof.peak_gops, roof.peak_gops],
        mode="lines",
        line={"color": INK, "width": 2},
        hoverinfo="skip",
        name=f"{roof.peak_gops:.4g} GOP/s, {roof.gbytes:.4g} GB/s",
    )
    groups = (
        ("layers under the memory's roof", STALL, "circle", 11, [p for p in points[:-1] if p.memory_bound]),
        ("layers under the array's roof", COMPUTE, "circle", 11, [p for p in points[:-1] if not p.memory_bound]),
        (WHOLE, ACCENT, "star", 18, [points[-1]]),
    )
    for name, color, symbol, size, chosen in groups:
        if chosen:
            figure.add_scatter(
                x=[p.intensity for p in chosen],
                y=[p.gops for p in chosen],
                mode="markers",
                name=name,
                marker={"color": color, "symbol": symbol, "size": size, "line": {"color": INK, "width": 0.5}},
                text=[f"{literal(p.name)}<br>{100 * p.gops / p.limit:.1f} % of its roof" for p in chosen],
                hovertemplate="%{text}<br>%{x:.4g} operations/byte, %{y:.4g} GOP/s<extra></extra>",
            )
    # in two lines, since one would pass the edges of a narrow page
    figure.update_xaxes(title="operations for each byte<br>of memory traffic", type="log")
    figure.update_yaxes(title="GOP/s", type="log")
    return styled(figure, height=430)


def _point(name: str, clock: Clock, roof: Roof, operations: int, moved: int, cycles: int) -> RooflinePoint:
    intensity = operations / moved
    gops = operations / (clock.milliseconds(cycles) * 1e6)
    limit = roof.limit(intensity)
    return RooflinePoint(name, intensity, gops, limit, limit < roof.peak_gops)

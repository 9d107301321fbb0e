"""Commands that draw: roofline."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from codesign.cli.options import ASSIGNMENT, BITS, HW, JSON, NETWORK, RATIO, SEED
from codesign.cli.reading import NOTHING, Reading, reads


@reads
def roofline(
    hw: HW,
    network: NETWORK,
    out: Annotated[Path | None, typer.Option("--out", "-o", metavar="FILE", help="Write the plot as HTML.")] = None,
    bits: BITS = None,
    ratio: RATIO = None,
    assignment: ASSIGNMENT = None,
    seed: SEED = 0,
    json: JSON = None,
    reading: Reading = NOTHING,
) -> None:
    """What memory and array allow each layer, and what it reaches: operations a byte against operations a second."""
    from dataclasses import asdict

    from codesign._files import write_text
    from codesign.arch.load import load_hardware
    from codesign.cli.inputs import network_plan
    from codesign.cli.output import facts, percent, save, table
    from codesign.provenance import provenance
    from codesign.report.roofline import Roof, roofline, roofline_figure
    from codesign.report.style import page
    from codesign.sim.clock import known_clock
    from codesign.sim.timing.plan_timing import estimate

    hardware = load_hardware(hw)
    plan = network_plan(network, hardware, bits=bits, ratio=ratio, assignment=assignment, seed=seed, reading=reading)
    timing, clock = estimate(plan), known_clock(hardware)
    roof, points = Roof.of(hardware, clock), roofline(hardware, timing, clock)
    columns = ("layer", "operations / byte", "GOP/s", "roof, GOP/s", "of the roof", "bound by")
    rows = [
        (p.name, p.intensity, p.gops, p.limit, percent(p.gops / p.limit), "memory" if p.memory_bound else "array")
        for p in points
    ]
    title = f"{plan.shape.name} on {hardware.name}"
    table(title, columns, rows)
    summary = {
        "clock": str(clock),
        "array": f"{roof.peak_gops:.4g} GOP/s at {clock.mhz:.4g} MHz",
        "memory": f"{roof.gbytes:.4g} GB/s",
        "ridge": f"{roof.ridge:.4g} operations/byte",
    }
    facts(summary)
    if out is not None:
        note = (
            "the line is what memory and array allow; a layer whose weights were fetched while the one before it "
            "computed may lie above the memory's part of it"
        )
        text = page(
            "figures.html.j2",
            f"Roofline: {title}",
            summary,
            [("Operations a byte, operations a second", note, roofline_figure(hardware, timing, clock))],
            tables=[("Layers", "", columns, [[x if isinstance(x, str) else f"{x:.4g}" for x in row] for row in rows])],
        )
        write_text(out, text)
        facts({"plot": out})
    answer = {"hardware": hardware.name, "network": plan.shape.name, **clock.to_json()}
    answer |= {"total_cycles": timing.total_cycles, "latency_ms": clock.milliseconds(timing.total_cycles)}
    answer |= {"roof": asdict(roof), "ridge": roof.ridge}
    save(json, answer | {"points": [asdict(point) for point in points]} | provenance(hardware, seed))

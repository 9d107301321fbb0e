"""`codesign verify`: random hardware and networks on the RTL."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from codesign.cli.options import JSON

if TYPE_CHECKING:
    from codesign.verify.campaign import HardwareResult


def verify(
    out: Annotated[Path, typer.Option("--out", "-o", metavar="DIR", help="Folder; an old one is continued.")],
    runs: Annotated[int, typer.Option(min=1, help="Pairs of hardware and network.")] = 20,
    seed: Annotated[int, typer.Option(min=0, help="The same seed draws the same pairs.")] = 0,
    per_hardware: Annotated[int, typer.Option(min=1, help="Networks on each hardware; builds take longest.")] = 10,
    dataflow: Annotated[Literal["os", "ws"] | None, typer.Option(help="Of the hardware; both unless said.")] = None,
    shrink_builds: Annotated[int, typer.Option(min=0, help="Builds that making a failure smaller may take.")] = 8,
    json: JSON = None,
) -> None:
    """Draw hardware and networks, run them on RTL, compare every value, cycle and counter with the models.

    A failure is made smaller and kept as files. Exit status 1 if there is one. Ctrl-C and start again to continue.
    """
    from dataclasses import asdict

    from codesign.cli.output import facts, progress, save
    from codesign.provenance import provenance
    from codesign.verify.campaign import Plan, run_campaign

    plan = Plan(runs, per_hardware, seed, dataflow, shrink_builds)
    with progress() as report:
        results = run_campaign(plan, out, report)
    print_campaign(results)
    pairs = [pair for result in results for pair in result.pairs]
    failures = [failure for result in results for failure in result.failures]
    exact = sum(pair.exact for pair in pairs)
    different, values = sum(pair.mismatched_values for pair in pairs), sum(pair.compared_values for pair in pairs)
    rtl, model = sum(pair.rtl_cycles for pair in pairs), sum(pair.model_cycles for pair in pairs)
    facts(
        {
            "pairs": f"{exact:,} of {len(pairs):,} exact",
            "layers": sum(pair.layers for pair in pairs),
            "values": f"{different:,} of {values:,} differ",
            "cycles": f"{rtl:,} in RTL, {model:,} in the model",
        }
        | ({"failures": ", ".join(failures)} if failures else {})
    )
    answer = {
        "plan": asdict(plan),
        "exact_pairs": exact,
        "pairs": len(pairs),
        "hardware": [asdict(result) for result in results],
        "failures": failures,
    }
    save(json, answer | provenance(seed=seed))
    if exact < len(pairs):
        raise typer.Exit(1)


def print_campaign(results: list[HardwareResult]) -> None:
    """The table of a campaign's hardware."""
    from codesign.cli.output import table

    rows = [
        (
            result.hardware,
            len(result.pairs),
            sum(pair.layers for pair in result.pairs),
            sum(pair.compared_values for pair in result.pairs),
            sum(pair.mismatched_values for pair in result.pairs),
            sum(pair.rtl_cycles for pair in result.pairs),
            sum(abs(pair.rtl_cycles - pair.model_cycles) for pair in result.pairs),
            sum(len(pair.differences) for pair in result.pairs),
        )
        for result in results
    ]
    table(
        "RTL against the models",
        ("hardware", "networks", "layers", "values", "wrong", "cycles", "off", "counters off"),
        rows,
        ("all", *(sum(int(str(row[index])) for row in rows) for index in range(1, 8))),
    )

"""Commands that choose bits: solve."""

from __future__ import annotations

import math
from typing import Annotated

import typer

from codesign.cli.options import JSON
from codesign.errors import UserError

AT_MOST = Annotated[
    list[str] | None, typer.Option("--at-most", metavar="METRIC=VALUE", help="A ceiling; may be given several times.")
]
AT_LEAST = Annotated[
    list[str] | None, typer.Option("--at-least", metavar="METRIC=VALUE", help="A floor; may be given several times.")
]
PIN = Annotated[
    list[str] | None, typer.Option("--pin", metavar="GROUP=CHOICE", help="A choice that is given; several times.")
]


def solve(
    table: Annotated[str, typer.Argument(metavar="TABLE", help="A JSON file of losses and costs by group and choice.")],
    solver: Annotated[
        str,
        typer.Option(
            metavar="NAME",
            help="milp, lagrangian, greedy, pareto, ladder, metropolis, metropolis-corrected, tournament, nsga2, tpe.",
        ),
    ] = "milp",
    at_most: AT_MOST = None,
    at_least: AT_LEAST = None,
    pin: PIN = None,
    minimize: Annotated[str, typer.Option(metavar="METRIC", help="What is made least.")] = "loss",
    setting: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="NAME=NUMBER", help="A number of the solver, such as rounds=200; several times."),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed of what the solver draws.")] = 0,
    json: JSON = None,
) -> None:
    """Choose for every group of a table so that the limits are kept and the loss is least."""
    from codesign.api.solving import solve as run
    from codesign.cli.output import save, show

    answer = run(
        table,
        solver,
        at_most=numbers_by_name("--at-most", at_most),
        at_least=numbers_by_name("--at-least", at_least),
        pin=by_name("--pin", pin, "GROUP=CHOICE"),
        minimize=minimize,
        settings=numbers_by_name("--set", setting),
        seed=seed,
    )
    show(answer)
    save(json, answer.to_json())


def by_name(option: str, given: list[str] | None, form: str) -> dict[str, str]:
    """What NAME=VALUE options say; UserError for one that is no such pair, or for a name that is given twice."""
    found: dict[str, str] = {}
    for text in given or ():
        name, equals, value = text.rpartition("=")
        if not equals or not name.strip() or not value.strip():
            raise UserError(f"{option}: '{text[:80]}' given, must be {form}")
        if name.strip() in found:
            raise UserError(f"{option}: '{name.strip()[:80]}' is given twice")
        found[name.strip()] = value.strip()
    return found


def numbers_by_name(option: str, given: list[str] | None) -> dict[str, float]:
    """The same with numbers."""
    found: dict[str, float] = {}
    for name, text in by_name(option, given, "NAME=NUMBER").items():
        try:
            found[name] = float(text)
        except ValueError:
            found[name] = math.nan
        if not math.isfinite(found[name]):
            raise UserError(f"{option}: {name[:80]}={text[:40]} given, must be NAME=NUMBER such as latency_ms=2")
    return found

"""`codesign doctor`: every tool, really run."""

from __future__ import annotations

import typer

from codesign.cli.options import JSON


def doctor(json: JSON = None) -> None:
    """Run every tool that codesign needs and print its version, or what is missing and how to install it."""
    from codesign.api.doctor import examine_tools
    from codesign.cli.output import progress, save, show

    with progress() as report:
        answer = examine_tools(report)
    show(answer)
    save(json, answer.to_json())
    if answer.missing:
        raise typer.Exit(1)

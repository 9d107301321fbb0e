"""Commands that draw: roofline."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from codesign.cli.options import ACT_BITS, ASSIGNMENT, BITS, HW, JSON, NETWORK, RATIO, SEED
from codesign.cli.reading import NOTHING, Reading, reads


@reads
def roofline(
    hw: HW,
    network: NETWORK,
    out: Annotated[Path | None, typer.Option("--out", "-o", metavar="FILE", help="Write the plot as HTML.")] = None,
    bits: BITS = None,
    ratio: RATIO = None,
    assignment: ASSIGNMENT = None,
    act_bits: ACT_BITS = None,
    seed: SEED = 0,
    json: JSON = None,
    reading: Reading = NOTHING,
) -> None:
    """What memory and array allow each layer, and what it reaches: operations a byte against operations a second."""
    from codesign.api.roofline import roofline as run
    from codesign.cli.output import save, show

    answer = run(
        hw,
        network,
        out=out,
        bits=bits,
        ratio=ratio,
        assignment=assignment,
        act_bits=act_bits,
        seed=seed,
        reading=reading,
    )
    show(answer)
    save(json, answer.to_json())

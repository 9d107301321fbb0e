"""Commands that write what a board needs: generate (the accelerator), compile (a network for it)."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from codesign.cli.options import ACT_BITS, ASSIGNMENT, BATCH, BITS, DATA, DATA_DIR, HW, JSON, NETWORK, RATIO, SEED
from codesign.cli.reading import NOTHING, Reading, reads


def generate(
    hw: HW,
    out: Annotated[Path, typer.Option("--out", "-o", metavar="DIR", help="Folder to write.")],
    json: JSON = None,
) -> None:
    """Write an accelerator's Verilog, constraints, driver, register map and manifest."""
    from codesign.api.board import generate as run
    from codesign.cli.output import save, show

    answer = run(hw, out)
    show(answer)
    save(json, answer.to_json())


@reads
def compile_(
    hw: HW,
    network: NETWORK,
    out: Annotated[Path, typer.Option("--out", "-o", metavar="DIR", help="Folder to write.")],
    images: Annotated[int, typer.Option(min=0, help="Images to write, with the results they must give.")] = 1,
    batch: BATCH = 1,
    data: DATA = None,
    data_dir: DATA_DIR = None,
    bits: BITS = None,
    ratio: RATIO = None,
    assignment: ASSIGNMENT = None,
    act_bits: ACT_BITS = None,
    seed: SEED = 0,
    json: JSON = None,
    reading: Reading = NOTHING,
) -> None:
    """Compile a network into an accelerator's memory image, for the driver that `generate` writes.

    With images, and the results of the integer model that a board must give for them, bit for bit.
    """
    from codesign.api.board import compile_for_board
    from codesign.cli.output import progress, save, show

    with progress() as report:
        answer = compile_for_board(
            hw,
            network,
            out,
            images=images,
            batch=batch,
            data=data,
            data_dir=data_dir,
            bits=bits,
            ratio=ratio,
            assignment=assignment,
            act_bits=act_bits,
            seed=seed,
            reading=reading,
            progress=report,
        )
    show(answer)
    save(json, answer.to_json())

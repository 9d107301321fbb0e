"""Commands that write what a board needs: generate (the accelerator), compile (a network for it)."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from codesign.cli.options import ASSIGNMENT, BITS, DATA, DATA_DIR, HW, JSON, NETWORK, RATIO, SEED
from codesign.cli.reading import NOTHING, Reading, reads


def generate(
    hw: HW,
    out: Annotated[Path, typer.Option("--out", "-o", metavar="DIR", help="Folder to write.")],
    json: JSON = None,
) -> None:
    """Write an accelerator's Verilog, constraints, driver, register map and manifest."""
    from codesign.arch.load import load_hardware
    from codesign.cli.output import save, table
    from codesign.rtl.export import export

    manifest = export(load_hardware(hw), out)
    table(
        f"{manifest['hardware']} in {out}",
        ("file", "bytes", "what"),
        [(file["name"], file["bytes"], file["what"]) for file in manifest["files"]],
    )
    save(json, manifest)


@reads
def compile_(
    hw: HW,
    network: NETWORK,
    out: Annotated[Path, typer.Option("--out", "-o", metavar="DIR", help="Folder to write.")],
    images: Annotated[int, typer.Option(min=0, help="Images to write, with the results they must give.")] = 1,
    data: DATA = None,
    data_dir: DATA_DIR = None,
    bits: BITS = None,
    ratio: RATIO = None,
    assignment: ASSIGNMENT = None,
    seed: SEED = 0,
    json: JSON = None,
    reading: Reading = NOTHING,
) -> None:
    """Compile a network into an accelerator's memory image, for the driver that `generate` writes.

    With images, and the results of the integer model that a board must give for them, bit for bit.
    """
    from codesign.arch.load import load_hardware
    from codesign.cli.given import check_data_dir, refuse
    from codesign.cli.inputs import encoder, input_codes, integer_network
    from codesign.cli.output import facts, progress, save, shown
    from codesign.errors import UserError
    from codesign.program import compile_network
    from codesign.program.files import check_program_folder, write_program
    from codesign.sim import functional
    from codesign.sim.clock import known_clock
    from codesign.sim.timing.plan_timing import estimate

    check_program_folder(out)
    if images == 0:
        refuse({"--data": data, "--data-dir": data_dir}, "with --images 0")
    check_data_dir(data, data_dir)
    hardware = load_hardware(hw)
    if (found := encoder(network)) is not None:
        raise UserError(f"{found.name}: its matrix products are run one by one, there is no program of the whole")
    net = integer_network(network, hardware, bits=bits, ratio=ratio, assignment=assignment, seed=seed, reading=reading)
    codes = input_codes(net, images, data, data_dir, seed)
    program = compile_network(net, hardware)
    results = []
    with progress() as report:
        for index, image in enumerate(codes):
            report("results", index, images)
            results.append(functional.run(net, image)[net.output.name])
    cycles, clock = estimate(program).total_cycles, known_clock(hardware)
    layers = [layer.name for layer in program.layers]
    manifest = write_program(out, program, codes, results, {"cycles": cycles, "layers": layers, "seed": seed})
    facts(
        {
            "program": f"{len(program.stream):,} bytes, results and spilled maps end at {manifest['memory_bytes']:,}",
            "images": shown(images),
            "cycles": f"{cycles:,} for one image",
            "clock": clock,
            "latency": f"{shown(clock.milliseconds(cycles))} ms at {clock.mhz:.4g} MHz",
            "folder": f"{out}, for the driver.py of `codesign generate {hw}`",
        }
    )
    save(json, manifest)

"""Commands about accelerators: simulate, cosim, synth."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from codesign.cli.options import (
    ACT_BITS,
    ASSIGNMENT,
    BATCH,
    BITS,
    DATA,
    DATA_DIR,
    DEFAULT_ENERGY,
    ENERGY,
    HW,
    JSON,
    NETWORK,
    RATIO,
    SEED,
)
from codesign.cli.reading import NOTHING, Reading, reads

if TYPE_CHECKING:
    from codesign.api.answer import Answer
    from codesign.api.cosimulation import Cosimulation
    from codesign.api.encoders import EncoderCosimulation

ALONE = ("assignment", "act_bits", "resources", "predict", "energy")
"""Options that say nothing to an encoder."""
WAVES = {"rich_help_panel": "Waves"}
IDEAL = {"rich_help_panel": "Ideal systolic array (SCALE-Sim)"}


@reads
def simulate(
    inputs: Annotated[
        list[str],
        typer.Argument(metavar="HW NETWORK", help="The accelerator and the network; NETWORK alone with --ideal."),
    ],
    bits: BITS = None,
    ratio: RATIO = None,
    assignment: ASSIGNMENT = None,
    act_bits: ACT_BITS = None,
    batch: BATCH = 1,
    resources: Annotated[bool, typer.Option("--resources", help="Synthesize too, for LUT, FF, DSP and BRAM.")] = False,
    predict: Annotated[bool, typer.Option("--predict", help="Predict them instead, in a millisecond.")] = False,
    energy: ENERGY = DEFAULT_ENERGY,
    bits_table: Annotated[
        bool, typer.Option("--bits-table", help="Cycles of every layer at every bits that HW has, and of their sum.")
    ] = False,
    seed: SEED = 0,
    json: JSON = None,
    ideal: Annotated[
        str | None, typer.Option(metavar="RxC", help="SCALE-Sim's systolic array of R x C instead.", **IDEAL)
    ] = None,
    dataflow: Annotated[str | None, typer.Option(help="Of the ideal array: os, ws or is.", **IDEAL)] = None,
    config: Annotated[
        Path | None, typer.Option(metavar="FILE.cfg", help="The ideal array as a SCALE-Sim configuration.", **IDEAL)
    ] = None,
    clock: Annotated[float | None, typer.Option(metavar="MHZ", help="Clock of the ideal array; 100.", **IDEAL)] = None,
    corrected: Annotated[bool, typer.Option("--corrected", help="Without SCALE-Sim's known faults.", **IDEAL)] = False,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", metavar="DIR", help="Write SCALE-Sim's three reports.", **IDEAL)
    ] = None,
    reading: Reading = NOTHING,
) -> None:
    """Cycles, stalls, utilisation and memory traffic of a network on an accelerator, exactly.

    With --ideal or --config: on SCALE-Sim's ideal systolic array, as SCALE-Sim counts.
    """
    given: dict[str, object] = {
        "bits": bits,
        "ratio": ratio,
        "assignment": assignment,
        "act_bits": act_bits,
        "resources": resources,
        "predict": predict,
        "batch": None if batch == 1 else batch,
        "energy": None if energy == DEFAULT_ENERGY else energy,
        "bits_table": bits_table,
    }
    ideals: dict[str, object] = {"dataflow": dataflow, "clock": clock, "corrected": corrected, "out": out}
    is_ideal = ideal is not None or config is not None
    hw, network = _arguments(inputs, is_ideal, given if is_ideal else ideals)
    if is_ideal:
        reading.refuse("on an ideal array, which counts sizes only")
        from codesign.cli.ideal import simulate_ideal

        simulate_ideal(
            network,
            ideal=ideal,
            dataflow=dataflow,
            config=config,
            clock_mhz=clock,
            corrected=corrected,
            out=out,
            json=json,
        )
        return
    from codesign.api.encoders import simulate_encoder
    from codesign.api.given import refuse
    from codesign.api.networks import encoder
    from codesign.api.simulation import simulate as run
    from codesign.cli.output import progress, save, show
    from codesign.errors import option

    if bits_table:
        from codesign.api.bits_table import bits_table as table_of

        refuse({name: given[name] for name in (*ALONE, "ratio", "batch")}, f"beside {option('bits_table')}")
        answer: Answer = table_of(hw, network, bits=bits, reading=reading)
        show(answer)
        save(json, answer.to_json())
        return
    with progress() as report:
        if (found := encoder(network)) is None:
            answer = run(
                hw,
                network,
                bits=bits,
                ratio=ratio,
                assignment=assignment,
                act_bits=act_bits,
                batch=batch,
                resources=resources,
                predict=predict,
                energy=energy,
                seed=seed,
                reading=reading,
                progress=report,
            )
        else:
            reading.refuse(f"on {network}, which is no model of another tool")
            refuse({name: given[name] for name in ALONE}, f"on {found.name}, whose products are timed one by one")
            answer = simulate_encoder(hw, found, bits=bits, ratio=ratio, batch=batch, seed=seed, progress=report)
    show(answer)
    save(json, answer.to_json())


@reads
def cosim(
    hw: HW,
    network: NETWORK,
    images: Annotated[int | None, typer.Option(min=1, help="How many images to run; those of one start.")] = None,
    batch: BATCH = 1,
    data: DATA = None,
    data_dir: DATA_DIR = None,
    bits: BITS = None,
    ratio: RATIO = None,
    assignment: ASSIGNMENT = None,
    act_bits: ACT_BITS = None,
    seed: SEED = 0,
    json: JSON = None,
    waves: Annotated[
        str | None,
        typer.Option(
            metavar="LAYER|FIRST:END", help="Write the waves of a layer, or of cycles, of the first image.", **WAVES
        ),
    ] = None,
    waves_out: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="Where to: .vcd or .fst, a GTKWave layout beside it; a new waves.vcd.", **WAVES
        ),
    ] = None,
    elements: Annotated[
        Literal["rtl", "twins"] | None,
        typer.Option(
            help="Processing elements as generated, or behavioural twins, some three times faster; "
            "twins where all images take more than a million cycles."
        ),
    ] = None,
    reading: Reading = NOTHING,
) -> None:
    """Run a network on the generated RTL in Verilator and compare every value and cycle with the models.

    Of an encoder (bert_tiny) every matrix product runs on the RTL, and softmax, GELU and layer norm beside it.
    Exit status 1 unless the RTL equals both models.
    """
    from codesign.api.cosimulation import cosim as run
    from codesign.api.encoders import cosim_encoder
    from codesign.api.given import refuse
    from codesign.api.networks import encoder
    from codesign.cli.output import progress, save, show

    with progress() as report:
        if (found := encoder(network)) is None:
            answer: Cosimulation | EncoderCosimulation = run(
                hw,
                network,
                images=images,
                batch=batch,
                data=data,
                data_dir=data_dir,
                bits=bits,
                ratio=ratio,
                assignment=assignment,
                act_bits=act_bits,
                seed=seed,
                waves=waves,
                waves_out=waves_out,
                elements=elements,
                reading=reading,
                progress=report,
            )
        else:
            formats = {"bits": bits, "ratio": ratio, "assignment": assignment, "act_bits": act_bits}
            reading.refuse(f"on {network}, which is no model of another tool")
            refuse(
                {"data": data, "data_dir": data_dir, **formats}, f"on {found.name}, whose weights and inputs are random"
            )
            refuse(
                {
                    "batch": None if batch == 1 else batch,
                    "waves": waves,
                    "waves_out": waves_out,
                    "elements": elements,
                },
                f"on {found.name}, whose products are programs of their own",
            )
            answer = cosim_encoder(hw, found, sequences=images or 1, seed=seed, progress=report)
    show(answer)
    save(json, answer.to_json())
    if not answer.exact:
        raise typer.Exit(1)


def synth(
    hw: HW,
    flow: Annotated[str | None, typer.Option(help="xilinx, xilinx-up, ecp5 or gowin; by default the device's.")] = None,
    pnr: Annotated[
        bool, typer.Option("--pnr", help="Place and route too (ECP5, GW5AST), for the clock: minutes to hours.")
    ] = False,
    seed: Annotated[int | None, typer.Option(min=1, help="Seed of place and route; 1.")] = None,
    time_limit: Annotated[
        float | None, typer.Option(min=1, metavar="S", help="Seconds for place and route; 7200.")
    ] = None,
    json: JSON = None,
) -> None:
    """LUT, FF, DSP and block RAM of an accelerator, per module and in total, by Yosys; its clock, by nextpnr."""
    from codesign.api.synthesis import synthesize
    from codesign.cli.output import progress, save, show

    with progress() as report:
        answer = synthesize(hw, flow=flow, pnr=pnr, seed=seed, time_limit=time_limit, progress=report)
    show(answer)
    save(json, answer.to_json())


def _arguments(inputs: list[str], ideal: bool, wrong: dict[str, object]) -> tuple[str, str]:
    """HW (empty for an ideal array) and NETWORK; UserError when there are more or fewer, or `wrong` options."""
    from codesign.errors import UserError

    for name, value in wrong.items():
        if value not in (None, False):
            says = "says nothing to an ideal array: leave it out" if ideal else "needs --ideal or --config"
            raise UserError(f"--{name.replace('_', '-')} given, but it {says}")
    if ideal:
        if len(inputs) != 1:
            raise UserError(f"'{' '.join(inputs)}' given, must be NETWORK alone: an ideal array needs no HW")
        return "", inputs[0]
    if len(inputs) != 2:
        problem = "Missing argument 'NETWORK'" if len(inputs) == 1 else f"'{' '.join(inputs)}' given"
        raise UserError(f"{problem}: must be HW and NETWORK, or NETWORK with --ideal")
    return inputs[0], inputs[1]

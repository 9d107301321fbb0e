"""Commands about accelerators: simulate, cosim, synth."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from codesign.cli.options import (
    ASSIGNMENT,
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
    from codesign.arch.hardware import Hardware
    from codesign.program import Plan
    from codesign.sim.clock import Clock
    from codesign.sim.energy import UnitEnergies
    from codesign.sim.synthesis.place_route import Routed
    from codesign.sim.timing.plan_timing import Timing
    from codesign.workload.encoder import Encoder

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
    batch: Annotated[int, typer.Option(min=1, help="Images, one after the other.")] = 1,
    resources: Annotated[bool, typer.Option("--resources", help="Synthesize too, for LUT, FF, DSP and BRAM.")] = False,
    predict: Annotated[bool, typer.Option("--predict", help="Predict them instead, in a millisecond.")] = False,
    energy: ENERGY = DEFAULT_ENERGY,
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
    plain: dict[str, object] = {
        "--bits": bits,
        "--ratio": ratio,
        "--assignment": assignment,
        "--resources": resources,
        "--predict": predict,
        "--batch": None if batch == 1 else batch,
        "--energy": None if energy == DEFAULT_ENERGY else energy,
    }
    alone = ("--assignment", "--resources", "--predict", "--energy")
    ideals: dict[str, object] = {"--dataflow": dataflow, "--clock": clock, "--corrected": corrected, "--out": out}
    is_ideal = ideal is not None or config is not None
    hw, network = _arguments(inputs, is_ideal, plain if is_ideal else ideals)
    if is_ideal:
        reading.refuse("on an ideal array, which counts sizes only")
        from codesign.cli.ideal import simulate_ideal_array

        simulate_ideal_array(
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
    from codesign.arch.load import load_hardware
    from codesign.cli.given import refuse
    from codesign.cli.inputs import encoder, planned
    from codesign.cli.output import console, facts, percent, progress, save, shown
    from codesign.errors import UserError
    from codesign.provenance import provenance
    from codesign.search.space import band_ratio
    from codesign.sim.clock import known_clock, predicted_clock, synthesized_clock
    from codesign.sim.energy import unit_energies
    from codesign.sim.hints import fetch_hints, ratio_hints, width_hints
    from codesign.sim.timing.plan_timing import estimate

    if resources and predict:
        raise UserError("--predict: cannot be combined with --resources, which synthesizes")
    hardware = load_hardware(hw)
    if (found := encoder(network)) is not None:
        refuse({name: plain[name] for name in alone}, f"on {found.name}, whose products are timed one by one")
        _simulate_encoder(hardware, found, bits, ratio, batch, seed, json)
        return
    plan = planned(network, hardware, bits=bits, ratio=ratio, assignment=assignment, seed=seed, reading=reading)
    program = plan.plan
    timing = estimate(program)
    hints = [
        *fetch_hints(program, timing.total_cycles, plan.on),
        *width_hints(hardware, plan.formats, plan.act_bits),
        *([] if plan.own else ratio_hints(program, timing.total_cycles, band_ratio(hardware))),
    ]
    units = unit_energies(energy)
    used: dict[str, Any] | None = None
    if resources:
        from codesign.sim.synthesis.resources import synthesize_hardware

        with progress() as report:
            synthesis = synthesize_hardware(hardware, progress=report)
        used = synthesis.total._asdict()
        at = synthesized_clock(hardware, synthesis.fmax_estimate_mhz)
    elif predict:
        from codesign.sim.synthesis.predictor import predict as predict_resources

        used = predict_resources(hardware)._asdict()
        at = predicted_clock(hardware)
    else:
        at = known_clock(hardware)
    answer = timing_answer(program, timing, batch, units, at) | provenance(hardware, seed)
    answer |= {"resources": used, "hints": hints}
    print_layers(program, timing)
    facts(
        {
            "hardware": hardware,
            "clock": at,
            "latency": f"{shown(answer['latency_ms'])} ms at {at.mhz:.4g} MHz"
            + (f" for {batch} images" if batch > 1 else ""),
            "throughput": f"{answer['gops']:.3g} GOP/s of {2e-3 * hardware.macs * at.mhz:.3g} at peak",
            "busy": ", ".join(
                f"{band} {percent(busy / timing.total_cycles)}"
                for band, busy in zip(hardware.bands, timing.band_busy, strict=True)
            ),
            "bytes": _bytes(answer["bytes_moved"]),
            "energy": f"{shown(answer['energy_mj'])} mJ, estimated from counts of operations"
            + (f" for {batch} images" if batch > 1 else ""),
            "unit energies": units.source,
        }
    )
    if used is not None:
        print_resources(hardware, used, "predicted" if predict else "used")
    for hint in hints:
        console.print(f"hint: {hint}", highlight=False, markup=False, soft_wrap=True)
    save(json, answer)


def _simulate_encoder(
    hw: Hardware,
    found: Encoder,
    bits: str | None,
    ratio: str | None,
    batch: int,
    seed: int,
    json: Path | None,
) -> None:
    from codesign.cli.encoder import simulate_encoder
    from codesign.cli.inputs import row_ratio
    from codesign.errors import UserError

    formats, act_bits = row_ratio(hw, bits, ratio)
    if act_bits != hw.act_bits:
        raise UserError(f"--bits: activations of {act_bits} bits given, must be the hardware's {hw.act_bits}")
    simulate_encoder(hw, found, formats, batch, seed, json)


@reads
def cosim(
    hw: HW,
    network: NETWORK,
    images: Annotated[int, typer.Option(min=1, help="How many images to run.")] = 1,
    data: DATA = None,
    data_dir: DATA_DIR = None,
    bits: BITS = None,
    ratio: RATIO = None,
    assignment: ASSIGNMENT = None,
    seed: SEED = 0,
    json: JSON = None,
    reading: Reading = NOTHING,
) -> None:
    """Run a network on the generated RTL in Verilator and compare every value and cycle with the models.

    Of an encoder (bert_tiny) every matrix product runs on the RTL, and softmax, GELU and layer norm beside it.
    Exit status 1 unless the RTL equals both models.
    """
    from codesign.arch.load import load_hardware
    from codesign.cli.encoder import cosim_encoder
    from codesign.cli.given import check_data_dir, refuse
    from codesign.cli.inputs import encoder, input_codes, integer_network
    from codesign.cli.output import facts, progress, save, shown, table
    from codesign.program import compile_network
    from codesign.provenance import provenance
    from codesign.sim.clock import known_clock
    from codesign.sim.cosim.run import run_network
    from codesign.sim.energy import unit_energies

    hardware = load_hardware(hw)
    if (found := encoder(network)) is not None:
        given = {"--data": data, "--data-dir": data_dir, "--bits": bits, "--ratio": ratio, "--assignment": assignment}
        refuse(given, f"on {found.name}, whose weights and inputs are random")
        cosim_encoder(hardware, found, images, seed, json)
        return
    check_data_dir(data, data_dir)
    net = integer_network(network, hardware, bits=bits, ratio=ratio, assignment=assignment, seed=seed, reading=reading)
    codes = input_codes(net, images, data, data_dir, seed)
    program = compile_network(net, hardware)
    with progress() as report:
        result = run_network(hardware, net, codes, report)
    clock = known_clock(hardware)
    answer = timing_answer(program, result.timing, 1, unit_energies(), clock) | provenance(hardware, seed)
    answer |= {
        "images": result.images,
        "rtl_cycles": result.rtl_cycles,
        "model_cycles": result.model_cycles,
        "mismatched_values": result.mismatched_values,
        "compared_values": result.compared_values,
        "counter_differences": [list(difference) for difference in result.counter_differences],
        "sim_cycles_per_s": result.sim_cycles_per_s,
        "build_s": result.build_s,
        "wall_s": result.wall_s,
    }
    table(
        f"{net.name} on {hardware.name}: RTL against the models",
        ("layer", "values", "different", "end in RTL", "end in model"),
        [(x.name, x.compared_values, x.mismatched_values, x.rtl_end, x.model_end) for x in result.layers],
        ("all", result.compared_values, result.mismatched_values, result.rtl_cycles, result.model_cycles),
    )
    for name, rtl, model in result.counter_differences:
        facts({f"counter {name}": f"{rtl:,} in RTL, {model:,} in the model"})
    facts(
        {
            "clock": clock,
            "latency": f"{shown(answer['latency_ms'])} ms of an image at {clock.mhz:.4g} MHz",
            "images": result.images,
            "simulation": f"{shown(result.sim_cycles_per_s)} cycles/s, {result.wall_s:.1f} s"
            f" (build {result.build_s:.1f} s)",
            "bytes": _bytes(answer["bytes_moved"]),
            "equal": result.exact,
        }
    )
    save(json, answer)
    if not result.exact:
        raise typer.Exit(1)


def synth(
    hw: HW,
    flow: Annotated[str | None, typer.Option(help="xilinx or ecp5; by default the one of the device.")] = None,
    pnr: Annotated[
        bool, typer.Option("--pnr", help="Place and route too (ECP5), for the clock: minutes to hours.")
    ] = False,
    seed: Annotated[int | None, typer.Option(min=1, help="Seed of place and route; 1.")] = None,
    time_limit: Annotated[
        float | None, typer.Option(min=1, metavar="S", help="Seconds for place and route; 7200.")
    ] = None,
    json: JSON = None,
) -> None:
    """LUT, FF, DSP and block RAM of an accelerator, per module and in total, by Yosys; its clock, by nextpnr."""
    from codesign.arch.load import load_hardware
    from codesign.cli.given import refuse
    from codesign.cli.output import facts, progress, save, table
    from codesign.errors import UserError
    from codesign.provenance import provenance
    from codesign.sim.clock import Clock, synthesized_clock
    from codesign.sim.synthesis.resources import FAMILY, synthesize_hardware

    if flow is not None and flow not in FAMILY:
        raise UserError(f"--flow: '{flow}' given, must be {' or '.join(FAMILY)}")
    if not pnr:
        refuse({"--seed": seed, "--time-limit": time_limit}, "without --pnr")
    hardware = load_hardware(hw)
    if pnr:
        from codesign.sim.synthesis.place_route import check_device

        check_device(hardware.totals)
        if flow is not None and FAMILY[flow] != hardware.totals.family:
            raise UserError(f"--flow: '{flow}' given, must be that of {hardware.totals.name} with --pnr")
    with progress() as report:
        synthesis = synthesize_hardware(hardware, flow, report)
    device = hardware.totals if hardware.totals.family == synthesis.family else None
    answer = {"hardware": hardware.name} | synthesis.to_json(device) | provenance(hardware)
    table(
        f"{hardware.name}, {synthesis.tool}, {answer['flow']}",
        ("module", "instances", "LUT", "FF", "DSP", "BRAM36"),
        [(module.name, module.instances, *module.together) for module in synthesis.modules],
        ("all", "", *synthesis.total),
    )
    if device is not None:
        print_resources(hardware, synthesis.total._asdict())
        facts({"fits": answer["fits"]})
    if device is None:  # of another family: nothing that was routed for the accelerator's own device counts
        clock = Clock(hardware.clock_mhz, "estimated", synthesis.fmax_estimate_mhz)
    else:
        clock = synthesized_clock(hardware, synthesis.fmax_estimate_mhz)
    facts(
        {
            "estimated clock": f"{synthesis.fmax_estimate_mhz:.1f} MHz, {answer['fmax_estimate_is']}",
            "slowest path": f"{synthesis.slowest_ns:.2f} ns, ends in {synthesis.slowest_module}",
        }
    )
    if pnr:
        from codesign.sim.synthesis.place_route import TIME_LIMIT_S, place_and_route

        with progress() as report:
            routed = place_and_route(hardware, report, seed or 1, time_limit or TIME_LIMIT_S)
        answer |= {"fmax_mhz": routed.fmax_mhz, "place_and_route": routed.to_json()}
        print_routed(hardware, routed)
        clock = Clock(hardware.clock_mhz, "routed", routed.fmax_mhz)
    facts({"clock": clock})
    answer |= clock.to_json()
    save(json, answer)


def _bytes(moved: dict[str, int]) -> str:
    """What was read and written, for people."""
    return ", ".join(f"{name} {count:,}" for name, count in moved.items())


def timing_answer(program: Plan, timing: Timing, batch: int, units: UnitEnergies, clock: Clock) -> dict[str, Any]:
    """The answer of `simulate` without resources; cycles, operations and energy are those of the whole batch."""
    from dataclasses import asdict

    from codesign.program.traffic import bytes_moved, traffic
    from codesign.sim.energy import estimate_energy

    hw = program.hw
    energy = estimate_energy(program, units)
    cycles = batch * timing.total_cycles
    operations = 2 * batch * sum(layer.macs for layer in program.layers)
    return {
        "hardware": hw.name,
        "network": program.shape.name,
        **clock.to_json(),
        "fmax_mhz": clock.evidenced_mhz if clock.evidence == "routed" else None,
        "batch": batch,
        "total_cycles": cycles,
        "latency_ms": clock.milliseconds(cycles),
        "gops": operations / (clock.milliseconds(cycles) * 1e6),
        "counters": timing.counters,
        "band_busy": list(timing.band_busy),
        "bytes_moved": bytes_moved(program),
        "layers": [
            {
                "name": layer.name,
                "m": layer.m,
                "k": layer.k,
                "n": layer.n,
                "cycles": layer.cycles,
                "compute_cycles": layer.compute_cycles,
                "stall_cycles": layer.stall_cycles,
                "utilization": layer.utilization,
                "dram_read_bytes": layer.dram_read_bytes,
                "dram_write_bytes": layer.dram_write_bytes,
                "traffic": asdict(moved),
                "energy_mj": spent.total_mj,
                "energy_pj": {key: value for key, value in asdict(spent).items() if key != "name"},
            }
            for layer, moved, spent in zip(timing.layers, traffic(program), energy.layers, strict=True)
        ],
        "resources": None,
        "energy_mj": batch * energy.total_mj,
        "energy_is": "an estimate from counts of operations",
        "energy_source": energy.source,
    }


def print_layers(program: Plan, timing: Timing) -> None:
    """The table of a network's layers; the last columns are bytes over the memory bus, by kind."""
    from codesign.cli.output import percent, table
    from codesign.program.traffic import Traffic, traffic

    rows, moved = timing.layers, traffic(program)
    total = sum(moved, Traffic())
    kinds = ["weights", "parameters", "inputs", "outputs", *(["spills", "reloads"] if total.spills else [])]
    table(
        f"{program.shape.name} on {program.hw.name}; weights and what follows: bytes of memory traffic",
        ("layer", "m", "k", "n", "cycles", "compute", "stalls", "used", *kinds),
        [
            (
                *(x.name, x.m, x.k, x.n, x.cycles, x.compute_cycles, x.stall_cycles, percent(x.utilization)),
                *(getattr(bytes_, kind) for kind in kinds),
            )
            for x, bytes_ in zip(rows, moved, strict=True)
        ],
        (
            "all",
            *("", "", ""),
            timing.total_cycles,
            sum(x.compute_cycles for x in rows),
            timing.total_cycles - sum(x.compute_cycles for x in rows),
            percent(sum(x.utilization * x.cycles for x in rows) / timing.total_cycles),
            *(getattr(total, kind) for kind in kinds),
        ),
    )


def print_resources(hw: Hardware, used: dict[str, Any], word: str = "used") -> None:
    """Resources against the device's."""
    from codesign.cli.output import percent, table

    totals = hw.totals
    table(
        f"{hw.name} on {totals.name}",
        ("resource", word, "device", "share"),
        [
            (key.upper(), value, getattr(totals, key), percent(value / getattr(totals, key)))
            for key, value in used.items()
        ],
    )


def _arguments(inputs: list[str], ideal: bool, wrong: dict[str, object]) -> tuple[str, str]:
    """HW (empty for an ideal array) and NETWORK; UserError when there are more or fewer, or `wrong` options."""
    from codesign.errors import UserError

    for name, value in wrong.items():
        if value not in (None, False):
            says = "says nothing to an ideal array: leave it out" if ideal else "needs --ideal or --config"
            raise UserError(f"{name} given, but it {says}")
    if ideal:
        if len(inputs) != 1:
            raise UserError(f"'{' '.join(inputs)}' given, must be NETWORK alone: an ideal array needs no HW")
        return "", inputs[0]
    if len(inputs) != 2:
        problem = "Missing argument 'NETWORK'" if len(inputs) == 1 else f"'{' '.join(inputs)}' given"
        raise UserError(f"{problem}: must be HW and NETWORK, or NETWORK with --ideal")
    return inputs[0], inputs[1]


def print_routed(hw: Hardware, routed: Routed) -> None:
    """What place and route reached, and the path that limits it."""
    from codesign.cli.output import facts, table

    table(
        f"slowest path of {hw.name}, register to register",
        ("through", "ns"),
        routed.modules(),
        ("all", sum(step.delay_ns for step in routed.path)),
    )
    wanted = "reached" if routed.fmax_mhz >= hw.clock_mhz else f"below the {hw.clock_mhz:g} MHz of clock_mhz"
    facts(
        {
            "clock": f"{routed.fmax_mhz:.1f} MHz, {wanted}",
            "device": f"{routed.device} {routed.package} grade {routed.speed_grade}, seed {routed.seed}; {routed.tool}",
            "harness": f"{routed.harness_ff:,} of {routed.used.ff:,} flip-flops belong to the test harness",
            "took": f"{routed.wall_s:.0f} s",
        }
    )

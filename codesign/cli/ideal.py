"""`codesign simulate --ideal`: SCALE-Sim's systolic array, its configuration files and its reports."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from codesign.errors import UserError

if TYPE_CHECKING:
    from codesign.sim.ideal.array import IdealArray, IdealResult

EXAMPLE = "such as --ideal 32x32 --dataflow os"


def simulate_ideal_array(
    network: str,
    *,
    ideal: str | None,
    dataflow: str | None,
    config: Path | None,
    clock_mhz: float | None,
    corrected: bool,
    out: Path | None,
    json: Path | None,
) -> None:
    """Print what SCALE-Sim says of a network; with `out`, write its three reports.

    Args:
        network: NETWORK as `codesign.cli.inputs` reads it.
        ideal, dataflow: the array, such as `32x32` and `os`; None where `config` says it.
        config: a SCALE-Sim `.cfg` file.
        clock_mhz: to convert cycles with.
        corrected: without SCALE-Sim's faults.
        out: folder of the reports.
        json: file of the answer.

    Raises:
        UserError: an option or the network cannot be used.
    """
    from codesign.cli.inputs import read_topology_or_network
    from codesign.cli.output import facts, save
    from codesign.cli.output import note as say
    from codesign.provenance import provenance
    from codesign.sim.ideal.array import DEFAULT_CLOCK_MHZ, report_of, simulate_ideal, write_reports

    array, remarks = _array(ideal, dataflow, config)
    result = simulate_ideal(read_topology_or_network(network), array, corrected=corrected)
    answer: dict[str, Any] = report_of(
        result, DEFAULT_CLOCK_MHZ if clock_mhz is None else clock_mhz, corrected=corrected
    )
    answer["notes"] = [*remarks, *answer["notes"]]
    paths = write_reports(result, out) if out is not None else []
    answer["reports"] = [str(path) for path in paths]
    print_ideal(result, corrected)
    memories = array.memories
    facts(
        {
            "array": f"{array.rows}x{array.columns} {array.dataflow}, SRAMs {memories.ifmap_kb} + "
            f"{memories.filter_kb} + {memories.ofmap_kb} KiB",
            "latency": f"{answer['latency_ms']:.4g} ms at {answer['clock_mhz']:g} MHz, {answer['gops']:.3g} GOP/s",
        }
        | ({"reports": ", ".join(map(str, paths))} if paths else {})
    )
    for note in answer["notes"]:
        say(note)
    save(json, answer | provenance())


def print_ideal(result: IdealResult, corrected: bool) -> None:
    """The table of an ideal array's layers; percentages of the last line are those of all layers together."""
    from codesign.cli.output import table

    layers = result.layers
    macs, cells = result.topology.macs, result.array.rows * result.array.columns
    table(
        f"{result.topology.name} on {result.array}, {'corrected' if corrected else 'as SCALE-Sim counts'}",
        ("layer", "M", "K", "N", "groups", "cycles", "mapping %", "compute util %", "overall util %", "bytes read"),
        [
            (
                x.layer.name,
                *(x.layer.m, x.layer.k, x.layer.n, x.layer.groups),
                x.layer.groups * x.total_cycles,
                x.mapping_efficiency,
                x.compute_utilization,
                x.overall_utilization,
                x.dram_read_words,
            )
            for x in layers
        ],
        (
            "all",
            *("", "", "", ""),
            result.total_cycles,
            "",
            "",
            100 * macs / (result.total_cycles * cells),
            None if any(x.dram_read_words is None for x in layers) else sum(x.dram_read_words or 0 for x in layers),
        ),
    )


def _array(ideal: str | None, dataflow: str | None, config: Path | None) -> tuple[IdealArray, list[str]]:
    """The array that the options mean, and what a reader of its cycles must know."""
    from codesign.sim.ideal.array import IdealArray
    from codesign.sim.ideal.config import read_config
    from codesign.sim.ideal.cycles import Dataflow

    if config is not None:
        given = [name for name, value in (("--ideal", ideal), ("--dataflow", dataflow)) if value is not None]
        if given:
            raise UserError(f"{' and '.join(given)} given beside --config, whose file says both: give one or the other")
        loaded = read_config(config)
        return loaded.array, loaded.notes()
    match = re.fullmatch(r"([0-9]{1,9})x([0-9]{1,9})", ideal or "")
    if match is None:
        shown = f"'{ideal}' given" if ideal is not None else "nothing given"
        raise UserError(f"--ideal: {shown}, must be ROWSxCOLUMNS of the array, {EXAMPLE}")
    if dataflow is None:
        raise UserError(f"--dataflow: nothing given, must be one of {', '.join(Dataflow)}, {EXAMPLE}")
    try:
        flow = Dataflow.parse(dataflow)
    except UserError:
        raise UserError(f"--dataflow: '{dataflow}' given, must be one of {', '.join(Dataflow)}") from None
    return IdealArray(int(match[1]), int(match[2]), flow), []

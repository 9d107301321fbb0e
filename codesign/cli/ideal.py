"""`codesign simulate --ideal`: SCALE-Sim's systolic array by its options, or by a configuration file."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

from codesign.errors import UserError

if TYPE_CHECKING:
    from codesign.api.ideal import IdealArray

EXAMPLE = "such as --ideal 32x32 --dataflow os"


def simulate_ideal(
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
        network: NETWORK as `codesign.api.networks` reads it.
        ideal, dataflow: the array, such as `32x32` and `os`; None where `config` says it.
        config: a SCALE-Sim `.cfg` file.
        clock_mhz: to convert cycles with.
        corrected: without SCALE-Sim's faults.
        out: folder of the reports.
        json: file of the answer.

    Raises:
        UserError: an option or the network cannot be used.
    """
    from codesign.api.ideal import DEFAULT_CLOCK_MHZ, simulate_ideal_array
    from codesign.cli.output import note, save, show

    answer = simulate_ideal_array(
        network,
        _array(ideal, dataflow, config),
        clock_mhz=DEFAULT_CLOCK_MHZ if clock_mhz is None else clock_mhz,
        corrected=corrected,
        out=out,
    )
    show(answer)
    for text in answer.notes:
        note(text)
    save(json, answer.to_json())


def _array(ideal: str | None, dataflow: str | None, config: Path | None) -> IdealArray | Path:
    """The array that the options mean, or the file that has it."""
    from codesign.api.ideal import Dataflow, IdealArray

    if config is not None:
        given = [name for name, value in (("--ideal", ideal), ("--dataflow", dataflow)) if value is not None]
        if given:
            raise UserError(f"{' and '.join(given)} given beside --config, whose file says both: give one or the other")
        return config
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
    return IdealArray(int(match[1]), int(match[2]), flow)

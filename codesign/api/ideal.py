"""A network on SCALE-Sim's ideal systolic array, as SCALE-Sim counts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from codesign.api.answer import Answer
from codesign.api.blocks import Block, Facts, Table
from codesign.api.networks import read_topology_or_network
from codesign.provenance import provenance
from codesign.sim.ideal.array import DEFAULT_CLOCK_MHZ as DEFAULT_CLOCK_MHZ
from codesign.sim.ideal.array import IdealArray as IdealArray
from codesign.sim.ideal.array import IdealResult, report_of, simulate_ideal, write_reports
from codesign.sim.ideal.config import read_config
from codesign.sim.ideal.cycles import Dataflow as Dataflow

if TYPE_CHECKING:
    from codesign.api.networks import NetworkLike


@dataclass(frozen=True, eq=False, repr=False)
class IdealSimulation(Answer):
    """What SCALE-Sim says of a network.

    Attributes:
        result: cycles and utilisation of every layer.
        clock_mhz: to convert cycles with.
        corrected: without SCALE-Sim's faults.
        remarks: what a reader of the cycles must know of the configuration.
        reports: the files of SCALE-Sim's three reports, if they were asked for.
    """

    result: IdealResult
    clock_mhz: float
    corrected: bool
    remarks: tuple[str, ...] = ()
    reports: tuple[Path, ...] = ()

    @property
    def total_cycles(self) -> int:
        """Of one image."""
        return self.result.total_cycles

    @property
    def latency_ms(self) -> float:
        """Of one image."""
        return float(self._report["latency_ms"])

    @property
    def notes(self) -> tuple[str, ...]:
        """What a reader of the cycles must know."""
        return (*self.remarks, *self._report["notes"])

    @property
    def _report(self) -> dict[str, Any]:
        return report_of(self.result, self.clock_mhz, corrected=self.corrected)

    @property
    def summary(self) -> str:
        return f"{self.result.topology.name} on {self.result.array}, {self.total_cycles:,} cycles"

    def to_json(self) -> dict[str, Any]:
        answer = self._report | {"notes": list(self.notes), "reports": [str(path) for path in self.reports]}
        return answer | provenance()

    def blocks(self) -> Sequence[Block]:
        array, answer = self.result.array, self._report
        memories = array.memories
        facts = {
            "array": f"{array.rows}x{array.columns} {array.dataflow}, SRAMs {memories.ifmap_kb} + "
            f"{memories.filter_kb} + {memories.ofmap_kb} KiB",
            "latency": f"{answer['latency_ms']:.4g} ms at {answer['clock_mhz']:g} MHz, {answer['gops']:.3g} GOP/s",
        }
        if self.reports:
            facts["reports"] = ", ".join(map(str, self.reports))
        return [_layers(self.result, self.corrected), Facts(facts)]


def simulate_ideal_array(
    network: NetworkLike,
    array: IdealArray | str | Path,
    *,
    clock_mhz: float = DEFAULT_CLOCK_MHZ,
    corrected: bool = False,
    out: str | Path | None = None,
) -> IdealSimulation:
    """Cycles, utilisation and memory traffic of a network on an ideal systolic array.

    Args:
        network: whatever `load_network` takes; only the sizes of its layers count.
        array: the array, or a SCALE-Sim `.cfg` file.
        clock_mhz: to convert cycles with.
        corrected: without SCALE-Sim's known faults.
        out: folder for SCALE-Sim's three reports.

    Raises:
        UserError: an input cannot be used.
    """
    remarks: Sequence[str] = ()
    if not isinstance(array, IdealArray):
        loaded = read_config(Path(array))
        array, remarks = loaded.array, loaded.notes()
    result = simulate_ideal(read_topology_or_network(network), array, corrected=corrected)
    reports = write_reports(result, Path(out)) if out is not None else []
    return IdealSimulation(result, clock_mhz, corrected, tuple(remarks), tuple(reports))


def _layers(result: IdealResult, corrected: bool) -> Table:
    """The array's layers; percentages of the last line are those of all layers together."""
    layers = result.layers
    macs, cells = result.topology.macs, result.array.rows * result.array.columns
    return Table(
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

"""The plain systolic array of SCALE-Sim: whole networks, its three reports, and the answer of `simulate --ideal`.

Everything is a closed form but one: DRAM reads of inputs with overlapping windows that do not fit into the active half
of their SRAM. Those are replayed request by request up to a limit, and are None (an empty field) beyond it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from codesign._files import write_text
from codesign.errors import UserError
from codesign.sim.ideal.cycles import Cycles, Dataflow, evaluate
from codesign.sim.ideal.memory import (
    Access,
    Memories,
    filter_dram,
    filter_sram,
    ifmap_dram,
    ifmap_sram,
    ofmap_dram,
    ofmap_sram,
)
from codesign.sim.ideal.replay import replay_ifmap_dram
from codesign.sim.ideal.streams import Schedule
from codesign.workload.network import Network
from codesign.workload.topology import Topology, TopologyLayer, topology_of

MOST_SIZE = 10**9
"""Of an array's side, of an SRAM in KiB, of a bandwidth: what 64 bits can still count."""

REPLAY_LIMIT = 20_000_000
"""Input words that a layer may ask its SRAM for to have its DRAM reads replayed (about half a second)."""

REPLAY_LAYERS = 20
"""As many times that of all layers of different sizes together; the largest networks of the zoo need 6."""

DEFAULT_CLOCK_MHZ = 100.0
"""Clock of an ideal array if nothing is said; SCALE-Sim has none."""

COMPUTE_HEADER = ("LayerID", "Total Cycles", "Stall Cycles", "Overall Util %", "Mapping Efficiency %", "Compute Util %")
BANDWIDTH_HEADER = (
    "LayerID",
    *(f"Avg {operand} {memory} BW" for memory in ("SRAM", "DRAM") for operand in ("IFMAP", "FILTER", "OFMAP")),
)
DETAILED_HEADER = (
    "LayerID",
    *(
        f"{memory} {operand} {what}"
        for memory in ("SRAM", "DRAM")
        for operand, access in (("IFMAP", "Reads"), ("Filter", "Reads"), ("OFMAP", "Writes"))
        for what in ("Start Cycle", "Stop Cycle", access)
    ),
)

DEFAULT_MEMORIES = Memories()

Cell = int | float | None
Table = tuple[tuple[str, ...], list[list[Cell]]]
"""Header and lines of a report."""


@dataclass(frozen=True)
class IdealArray:
    """A systolic array and its SRAMs."""

    rows: int
    columns: int
    dataflow: Dataflow
    memories: Memories = DEFAULT_MEMORIES

    def __post_init__(self) -> None:
        sizes = {
            "rows": self.rows,
            "columns": self.columns,
            "input SRAM in KB": self.memories.ifmap_kb,
            "filter SRAM in KB": self.memories.filter_kb,
            "output SRAM in KB": self.memories.ofmap_kb,
            "bandwidth": self.memories.bandwidth,
        }
        for name, value in sizes.items():
            if not 1 <= value <= MOST_SIZE:
                raise UserError(f"ideal array: {name}: {value} given, must be from 1 to {MOST_SIZE:,}")

    def __str__(self) -> str:
        return f"ideal {self.rows}x{self.columns} {self.dataflow}"


@dataclass(frozen=True)
class Traffic:
    """Accesses of one group of a layer; `ifmap_dram` is None where they have no closed form and were not replayed."""

    ifmap_sram: Access
    filter_sram: Access
    ofmap_sram: Access
    ifmap_dram: Access | None
    filter_dram: Access
    ofmap_dram: Access


@dataclass(frozen=True)
class LayerResult:
    """One layer on an array; cycles, macs and accesses are those of one of the layer's groups.

    Utilisations and the mapping efficiency are in percent.
    """

    layer: TopologyLayer
    total_cycles: int
    overall_utilization: float
    mapping_efficiency: float
    compute_utilization: float
    traffic: Traffic

    @property
    def dram_read_words(self) -> int | None:
        """Words that all groups read from DRAM."""
        inputs = self.traffic.ifmap_dram
        return None if inputs is None else self.layer.groups * (inputs.count + self.traffic.filter_dram.count)

    @property
    def dram_write_words(self) -> int:
        """Words that all groups write to DRAM."""
        return self.layer.groups * self.traffic.ofmap_dram.count


@dataclass(frozen=True)
class IdealResult:
    """A network on an ideal array."""

    topology: Topology
    array: IdealArray
    layers: tuple[LayerResult, ...]

    @property
    def total_cycles(self) -> int:
        """Cycles of all layers, one after the other."""
        return sum(layer.layer.groups * layer.total_cycles for layer in self.layers)

    def compute_report(self) -> Table:
        """SCALE-Sim's COMPUTE_REPORT: percentages, cycles."""
        return COMPUTE_HEADER, _numbered(
            [x.total_cycles, 0, x.overall_utilization, x.mapping_efficiency, x.compute_utilization]
            for x in self._runs()
        )

    def bandwidth_report(self) -> Table:
        """SCALE-Sim's BANDWIDTH_REPORT: words a cycle, over the layer (SRAM) or from first to last access (DRAM)."""
        lines: list[list[Cell]] = []
        for run in self._runs():
            traffic, cycles = run.traffic, run.total_cycles
            sram = [x.count / cycles for x in (traffic.ifmap_sram, traffic.filter_sram, traffic.ofmap_sram)]
            dram = [traffic.ifmap_dram, traffic.filter_dram, traffic.ofmap_dram]
            lines.append([*sram, *(None if x is None else x.bandwidth for x in dram)])
        return BANDWIDTH_HEADER, _numbered(lines)

    def detailed_report(self) -> Table:
        """SCALE-Sim's DETAILED_ACCESS_REPORT: first and last cycle and number of accesses, before cycle 0 negative."""
        lines: list[list[Cell]] = []
        for run in self._runs():
            t = run.traffic
            accesses = (t.ifmap_sram, t.filter_sram, t.ofmap_sram, t.ifmap_dram, t.filter_dram, t.ofmap_dram)
            lines.append([cell for x in accesses for cell in ((None,) * 3 if x is None else x)])
        return DETAILED_HEADER, _numbered(lines)

    def notes(self) -> list[str]:
        """What a reader of the reports must know: cells that are empty because they have no closed form."""
        names = [x.layer.name for x in self.layers if x.traffic.ifmap_dram is None]
        if not names:
            return []
        return [
            f"no closed form, left empty: DRAM reads of the inputs of {len(names)} of {len(self.layers)} layers, whose "
            f"windows overlap and do not fit into the input SRAM's active half ({', '.join(names[:3])}"
            f"{', ...' if len(names) > 3 else ''})"
        ]

    def _runs(self) -> Iterable[LayerResult]:
        """One result for every run: SCALE-Sim lists each group of a depthwise layer as a layer."""
        return (layer for layer in self.layers for _ in range(layer.layer.groups))


def simulate_ideal(
    network: Network | Topology,
    array: IdealArray,
    *,
    corrected: bool = False,
    replay_limit: int = REPLAY_LIMIT,
) -> IdealResult:
    """A network on an ideal array, as SCALE-Sim counts it.

    Args:
        network: a `Network` is taken with its padding, a `Topology` as it stands.
        corrected: without SCALE-Sim's faults: true cycle and write counts, true denominators of utilisations.
        replay_limit: largest number of SRAM reads of inputs of a layer for which its DRAM reads are replayed where
            they have no closed form; 0 leaves them out, and the time taken no longer depends on the layers' sizes.
    """
    topology = network if isinstance(network, Topology) else topology_of(network)
    cycles = ideal_cycles(topology, array.rows, array.columns, array.dataflow, corrected=corrected)
    layers = []
    left = REPLAY_LAYERS * replay_limit
    known: dict[TopologyLayer, Traffic] = {}
    for index, layer in enumerate(topology.layers):
        counts = (cycles.ifmap_reads[index], cycles.filter_reads[index], cycles.ofmap_writes[index])
        alike = replace(layer, name="", groups=1)
        if alike not in known:
            known[alike] = _traffic(layer, array, [int(count) for count in counts], corrected, min(left, replay_limit))
            left -= int(counts[0]) if counts[0] <= replay_limit else 0
        layers.append(
            LayerResult(
                layer,
                int(cycles.total_cycles[index]),
                float(cycles.overall_utilization[index]),
                float(cycles.mapping_efficiency[index]),
                float(cycles.compute_utilization[index]),
                known[alike],
            )
        )
    return IdealResult(topology, array, tuple(layers))


def ideal_cycles(
    topology: Topology, rows: int, columns: int, dataflow: Dataflow | str, *, corrected: bool = False
) -> Cycles:
    """Cycles and utilisation of every layer (of one group each), and nothing else: some tens of microseconds."""
    m, k, n = zip(*((layer.m, layer.k, layer.n) for layer in topology.layers), strict=True)
    return evaluate(m, k, n, rows, columns, dataflow, corrected=corrected)


def ideal_report(
    network: Network | Topology,
    rows: int,
    cols: int,
    dataflow: Dataflow | str,
    clock_mhz: float = DEFAULT_CLOCK_MHZ,
    *,
    memories: Memories | None = None,
    corrected: bool = False,
    replay_limit: int = REPLAY_LIMIT,
) -> dict[str, Any]:
    """The machine-readable answer of `simulate --ideal`, with the keys of `simulate`; see `report_of`."""
    array = IdealArray(rows, cols, Dataflow.parse(dataflow), memories or DEFAULT_MEMORIES)
    result = simulate_ideal(network, array, corrected=corrected, replay_limit=replay_limit)
    return report_of(result, clock_mhz, corrected=corrected)


def report_of(result: IdealResult, clock_mhz: float, *, corrected: bool = False) -> dict[str, Any]:
    """A result as `simulate` answers.

    `m`, `k` and `n` are SCALE-Sim's M (output pixels), K and N (filters), of one of the layer's `groups`. Words are
    bytes. An ideal array never stalls. `utilization` is a share of 1; the keys that end in `_pct` are SCALE-Sim's
    percentages. `dram_read_bytes` is None where it has no closed form and was not replayed; `notes` says so.

    Raises:
        UserError: the clock is not positive.
    """
    if not clock_mhz > 0:
        raise UserError(f"clock: {clock_mhz:g} MHz given, must be above 0")
    latency_ms = result.total_cycles / clock_mhz / 1e3
    return {
        "hardware": str(result.array),
        "network": result.topology.name,
        "clock_mhz": clock_mhz,
        "clock_evidence": "configured",
        "evidenced_mhz": None,
        "dataflow": str(result.array.dataflow),
        "mode": "corrected" if corrected else "scale-sim",
        "total_cycles": result.total_cycles,
        "latency_ms": latency_ms,
        "gops": 2 * result.topology.macs / (latency_ms * 1e6),
        "layers": [
            {
                "name": x.layer.name,
                "m": x.layer.m,
                "k": x.layer.k,
                "n": x.layer.n,
                "groups": x.layer.groups,
                "cycles": x.layer.groups * x.total_cycles,
                "compute_cycles": x.layer.groups * x.total_cycles,
                "stall_cycles": 0,
                "utilization": x.overall_utilization / 100,
                "overall_util_pct": x.overall_utilization,
                "mapping_eff_pct": x.mapping_efficiency,
                "compute_util_pct": x.compute_utilization,
                "dram_read_bytes": x.dram_read_words,
                "dram_write_bytes": x.dram_write_words,
            }
            for x in result.layers
        ],
        "resources": None,
        "energy_mj": None,
        "notes": result.notes(),
    }


def report_text(table: Table) -> str:
    """A report as CSV in SCALE-Sim's layout: ', ' between fields, a comma at the end of every line."""
    header, lines = table
    return "".join(", ".join("" if cell is None else str(cell) for cell in line) + ",\n" for line in (header, *lines))


def write_reports(result: IdealResult, folder: str | Path) -> list[Path]:
    """Write the three reports under SCALE-Sim's names into a folder, which is made if needed."""
    tables = {
        "COMPUTE_REPORT.csv": result.compute_report(),
        "BANDWIDTH_REPORT.csv": result.bandwidth_report(),
        "DETAILED_ACCESS_REPORT.csv": result.detailed_report(),
    }
    paths = []
    for name, table in tables.items():
        paths.append(Path(folder) / name)
        write_text(paths[-1], report_text(table))
    return paths


def _traffic(
    layer: TopologyLayer, array: IdealArray, sram: Sequence[int], corrected: bool, replay_limit: int
) -> Traffic:
    schedule = Schedule.of(layer, array.rows, array.columns, array.dataflow)
    memories = array.memories
    inputs = ifmap_dram(layer, schedule, memories.ifmap_kb, memories.bandwidth)
    if inputs is None and sram[0] <= replay_limit:
        inputs = replay_ifmap_dram(layer, schedule, memories.ifmap_kb, memories.bandwidth)
    return Traffic(
        ifmap_sram(layer, schedule, sram[0]),
        filter_sram(schedule, sram[1]),
        ofmap_sram(schedule, sram[2]),
        inputs,
        filter_dram(layer, schedule, memories.filter_kb, memories.bandwidth),
        ofmap_dram(schedule, memories.ofmap_kb, corrected=corrected),
    )


def _numbered(lines: Iterable[Sequence[Cell]]) -> list[list[Cell]]:
    return [[number, *line] for number, line in enumerate(lines)]

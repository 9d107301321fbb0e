"""AMED's simulator as published: its accelerators, its latency tables, its reports.

AMED (Kimhi et al., Mathematics 2024) calls the latency of a network the sum of one table entry for every layer and bit
width. An entry is the larger of the layer's cycles over the clock and of the time its outputs take to DRAM. Both come
from SCALE-Sim's reports, which have a closed form, so the tables of its three networks are computed here; they equal
the shipped ones. What it really adds up, and what must be known before using it:

* Fewer bits are fewer filters (`PublishedNetwork`); 5, 6 and 7 bits lie on the line between 4 and 8.
* The output time is 8 * bits / bandwidth cycles; it multiplies where bits are to be divided into bytes, 64 times too
  much. The paper's milliseconds are a tenth of the table's. (MobileNetV2's are another fraction, 0.0367.)
* Outputs are counted as all filters on the next table row's input. Where that row is a shortcut, this is four times
  the outputs of a second convolution.
* An entry depends on its layer alone, and the classifier has none.

`codesign.sim.amed.exact` is the same accelerators with whole networks and real bit widths.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from codesign.errors import UserError
from codesign.sim.amed.accelerator import DEFAULT, AmedAccelerator, accelerator
from codesign.sim.amed.networks import TABLE_BITS, PublishedNetwork, published_network
from codesign.sim.ideal.array import REPLAY_LIMIT, IdealResult, Table, ideal_cycles, simulate_ideal
from codesign.sim.ideal.memory import ofmap_dram
from codesign.sim.ideal.streams import Schedule

PAPER_UNIT = 0.1
"""The paper's milliseconds per unit of its tables."""

MIN_BITS, MAX_BITS = 2, 8

Allocation = int | Sequence[int] | Mapping[str, int]
"""Bits of every layer: one number for all, one for each layer in order, or by name."""

_DATA = Path(__file__).parent / "data"


def layer_bits(layers: Sequence[str], bits: Allocation, where: str) -> tuple[int, ...]:
    """The bits of each of `layers`; UserError, beginning with `where`, for a wrong count, name or width."""
    if isinstance(bits, int):
        result = (bits,) * len(layers)
    elif isinstance(bits, Mapping):
        wrong = sorted(set(layers) ^ set(bits))
        if wrong:
            state = "has no bits" if wrong[0] in layers else "is not a layer"
            raise UserError(
                f"{where}: '{wrong[0]}' {state}, must be the {len(layers)} layers {layers[0]} to {layers[-1]}"
            )
        result = tuple(bits[name] for name in layers)
    else:
        result = tuple(bits)
        if len(result) != len(layers):
            raise UserError(f"{where}: {len(result)} bit widths given, must be {len(layers)}, one for each layer")
    for name, width in zip(layers, result, strict=True):
        if not MIN_BITS <= width <= MAX_BITS:
            raise UserError(f"{where}: layer '{name}': {width} bits given, must be {MIN_BITS} to {MAX_BITS}")
    return result


@dataclass(frozen=True)
class LatencyTable:
    """AMED's table of one network on one accelerator; `entries` are in its unit, by bit width, layer by layer."""

    network: str
    layers: tuple[str, ...]
    entries: tuple[Mapping[int, float], ...]

    def layer_ms(self, bits: Allocation) -> tuple[float, ...]:
        """Latency of every layer in the paper's milliseconds, 5 to 7 bits interpolated between 4 and 8."""
        widths = layer_bits(self.layers, bits, f"AMED's table of {self.network}")
        return tuple(PAPER_UNIT * _entry(entry, width) for entry, width in zip(self.entries, widths, strict=True))

    def latency_ms(self, bits: Allocation) -> float:
        """Latency of the network as published: the sum over its layers, in the paper's milliseconds."""
        return sum(self.layer_ms(bits))

    def csv_text(self) -> str:
        """The table in the layout of AMED's CSV files."""
        lines = ["," + ",".join(f"latency_{bits}" for bits in TABLE_BITS)]
        for name, entry in zip(self.layers, self.entries, strict=True):
            lines.append(f"{name}," + ",".join(str(entry[bits]) for bits in TABLE_BITS))
        return "\n".join(lines) + "\n"


def _entry(entry: Mapping[int, float], bits: int) -> float:
    if bits in entry:
        return entry[bits]
    share = (bits - 4) / 4
    return (1 - share) * entry[4] + share * entry[8]


def published_table(network: PublishedNetwork, on: AmedAccelerator) -> LatencyTable:
    """AMED's table of a network on an accelerator, from the closed form of the reports that it was made from."""
    layers = network.topology.layers[:-1]
    following = network.topology.layers[1:]
    array = on.array
    cycles_per_ms = on.clock_mhz * 1e3
    entries: list[dict[int, float]] = [{} for _ in layers]
    for bits in TABLE_BITS:
        topology = network.at(bits)
        cycles = ideal_cycles(topology, array.rows, array.columns, array.dataflow).total_cycles
        for index, (layer, after) in enumerate(zip(layers, following, strict=True)):
            schedule = Schedule.of(topology.layers[index], array.rows, array.columns, array.dataflow)
            bandwidth = ofmap_dram(schedule, array.memories.ofmap_kb).bandwidth
            out_bits = bits * layer.filters * after.ifmap_h * after.ifmap_w
            entries[index][bits] = max(int(cycles[index]), 8 * out_bits / bandwidth) / cycles_per_ms
    return LatencyTable(network.topology.name, tuple(layer.name for layer in layers), tuple(entries))


def shipped_table() -> LatencyTable:
    """The table of ResNet-18 on `scale_sim` that AMED ships."""
    text = (_DATA / "Latency_table_resnet18.csv").read_text(encoding="utf-8")
    rows = list(csv.DictReader(io.StringIO(text)))
    entries = tuple({bits: float(row[f"latency_{bits}"]) for bits in TABLE_BITS} for row in rows)
    return LatencyTable("resnet18", tuple(row[""] for row in rows), entries)


def allocations(network: str) -> dict[str, tuple[int, ...]]:
    """The bit allocations that AMED compares itself with, by method, one width for each convolution in order."""
    return {method: tuple(bits) for method, bits in _published()["allocations"].get(network, {}).items()}


def paper_latencies(network: str) -> dict[str, float]:
    """Latencies of the paper's table 2 in milliseconds, by bit widths or method, where the allocation is known."""
    return dict(_published()["table_2_ms"].get(network, {}))


def allocation(network: str, method: str) -> Allocation:
    """The bits that a row of table 2 stands for: a method's allocation, or `8/8`, `4/4`, ... for uniform bits."""
    known = allocations(network)
    if method in known:
        return known[method]
    weight, _, act = method.partition("/")
    if weight == act and weight.isdigit() and MIN_BITS <= int(weight) <= MAX_BITS:
        return int(weight)
    raise UserError(
        f"allocation '{method}' of {network} is not known, must be one of "
        f"{', '.join((*known, '2/2', '3/3', '4/4', '8/8'))}"
    )


@lru_cache(maxsize=1)
def _published() -> Any:
    return json.loads((_DATA / "published.json").read_text(encoding="utf-8"))


def published_reports(
    network: PublishedNetwork, on: AmedAccelerator, bits: int = 8, *, replay_limit: int = REPLAY_LIMIT
) -> IdealResult:
    """AMED's three reports of a network at 2, 3, 4 or 8 bits: `compute_report()` and so on of the result."""
    return simulate_ideal(network.at(bits), on.array, replay_limit=replay_limit)


def appendix_c() -> Table:
    """The table of the paper's appendix C: MobileNetV2 at 4 bits on the 32x32 output-stationary array, 53 rows."""
    result = published_reports(published_network("mobilenetv2"), accelerator(DEFAULT), 4, replay_limit=0)
    return result.compute_report()


@dataclass(frozen=True)
class AppendixRow:
    """A row of appendix C: total cycles, stall cycles and the three percentages, computed and as published."""

    layer: str
    computed: tuple[float, ...]
    published: tuple[float, ...]

    @property
    def equal(self) -> bool:
        """Whether all five are the same in the ten digits that are published."""
        pairs = zip(self.computed, self.published, strict=True)
        return all(f"{ours:.10g}" == f"{theirs:.10g}" for ours, theirs in pairs)


def compare_appendix_c() -> tuple[AppendixRow, ...]:
    """Every row of appendix C beside what is computed here."""
    with (_DATA / "appendix_c.csv").open(encoding="utf-8", newline="") as file:
        published = list(csv.DictReader(file))
    _, lines = appendix_c()
    return tuple(
        AppendixRow(
            row["name"],
            tuple(float(cell or 0) for cell in line[1:]),
            tuple(float(row[key]) for key in _APPENDIX_COLUMNS),
        )
        for line, row in zip(lines, published, strict=True)
    )


_APPENDIX_COLUMNS = (
    "amed_total_cycles",
    "amed_stall",
    "amed_overall_util_pct",
    "amed_mapping_eff_pct",
    "amed_compute_util_pct",
)

"""AMED's accelerators: latencies as published and exact, the reports behind them, appendix C."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from codesign._files import read_json
from codesign.api.answer import Answer
from codesign.api.blocks import Block, Facts, Table, shown
from codesign.api.networks import name_of, read_network
from codesign.errors import UserError, option
from codesign.provenance import provenance
from codesign.sim.amed.accelerator import accelerator, accelerator_names
from codesign.sim.amed.exact import compare_modes, exact_latency
from codesign.sim.amed.networks import PUBLISHED_NETWORKS, TABLE_BITS, published_of
from codesign.sim.amed.published import (
    Allocation,
    allocation,
    compare_appendix_c,
    layer_bits,
    paper_latencies,
    published_reports,
    published_table,
)
from codesign.sim.clock import Clock
from codesign.sim.ideal.array import COMPUTE_HEADER, report_of, write_reports
from codesign.workload.network import Network
from codesign.workload.topology import Topology
from codesign.workload.topology_network import network_of

if TYPE_CHECKING:
    from codesign.api.networks import NetworkLike

Mode = Literal["as-published", "exact"]


@dataclass(frozen=True, eq=False, repr=False)
class AmedTable(Answer):
    """A table of AMED's, and what is to be said below it.

    Attributes:
        title: of the table.
        header, lines: its cells.
        facts: below it.
        about: the answer for machines, without versions.
        csv: the table as CSV.
        printed: the lines as people read them, where they are not those of the table.
    """

    title: str
    header: tuple[str, ...]
    lines: tuple[tuple[Any, ...], ...]
    about: dict[str, Any]
    csv: str
    facts: dict[str, object] = field(default_factory=dict)
    printed: Table | None = None

    @property
    def summary(self) -> str:
        return self.title

    def to_json(self) -> dict[str, Any]:
        return self.about | provenance()

    def blocks(self) -> Sequence[Block]:
        table = self.printed or Table(self.title, self.header, self.lines)
        return [table, *([Facts(self.facts)] if self.facts else [])]


@dataclass(frozen=True, eq=False, repr=False)
class AmedReports(Answer):
    """The reports that AMED's table entries are made from.

    Attributes:
        network: whose layers.
        cycles: of the whole network.
        paths: the files.
        about: the answer for machines, without versions.
    """

    network: str
    cycles: int
    paths: tuple[Path, ...]
    about: dict[str, Any]

    @property
    def summary(self) -> str:
        return f"{self.network}, {self.cycles:,} cycles"

    def to_json(self) -> dict[str, Any]:
        return self.about | {"reports": [str(path) for path in self.paths]} | provenance()

    def blocks(self) -> Sequence[Block]:
        paths = ", ".join(map(str, self.paths))
        return [Facts({"network": self.network, "cycles": self.cycles, "reports": paths})]


@dataclass(frozen=True, eq=False, repr=False)
class AppendixC(AmedTable):
    """AMED's appendix C, computed.

    Attributes:
        equal: how many rows are equal to the published ones, in all columns.
    """

    equal: int = 0

    @property
    def exact(self) -> bool:
        """Whether all are."""
        return self.equal == len(self.lines)


def latency(network: NetworkLike, bits: str = "8", *, mode: Mode = "exact", on: str = "scale_sim") -> AmedTable:
    """Latency of every layer with its own bits: AMED's sum of table entries, or the whole network exactly.

    Args:
        network: AMED's resnet18, resnet50, mobilenetv2, or whatever else `load_network` takes without bits.
        bits: one number, a list such as `8,4,4`, a JSON file, or a row of AMED's table 2 (`mckp`, `4/4`).
        mode: how to count.
        on: a YAML file, or a name in hw_configs/amed.

    Raises:
        UserError: an input cannot be used.
    """
    where = accelerator(on)
    graph, widths, row = _network(network, bits)
    if mode == "exact":
        exact = exact_latency(graph, where, widths)
        header, lines = exact.report()
        header = (*header, "ms")
        rows = [(*line, x.cycles / where.clock_mhz / 1e3) for line, x in zip(lines, exact.layers, strict=True)]
        total, paper = exact.latency_ms, None
    else:
        table = published_table(published_of(graph), where)
        header = ("Layer", "Bits", "ms")
        each = layer_bits(table.layers, widths, f"AMED's table of {graph.name}")
        rows = list(zip(table.layers, each, table.layer_ms(widths), strict=True))
        total = table.latency_ms(widths)
        paper = paper_latencies(graph.name).get(row or "") if on == "scale_sim" else None
    about: dict[str, Any] = {"network": graph.name, "accelerator": where.name, "mode": mode, "bits": bits}
    about |= Clock(where.clock_mhz).to_json() | {"latency_ms": total, "paper_ms": paper}
    about["layers"] = [dict(zip((_key(title) for title in header), line, strict=True)) for line in rows]
    facts: dict[str, object] = {"latency": f"{shown(total)} ms"}
    if paper:
        facts["the paper's table 2"] = f"{shown(paper)} ms"
    title = f"{graph.name} on {where}, {mode}"
    return AmedTable(title, header, tuple(rows), about, _csv(header, rows), facts)


def table(network: NetworkLike, *, on: str = "scale_sim") -> AmedTable:
    """AMED's latency table: every layer at 2, 3, 4 and 8 bits, in its own unit, a tenth of a millisecond.

    Raises:
        UserError: an input cannot be used.
    """
    where = accelerator(on)
    graph, _, _ = _network(network, "8")
    found = published_table(published_of(graph), where)
    header = ("Layer", *(f"{bits} bits" for bits in TABLE_BITS))
    entries = list(zip(found.layers, found.entries, strict=True))
    lines = [(name, *(entry[bits] for bits in TABLE_BITS)) for name, entry in entries]
    layers = [{"layer": name, "entries": {str(bits): entry[bits] for bits in TABLE_BITS}} for name, entry in entries]
    about = {"network": graph.name, "accelerator": where.name, "layers": layers}
    return AmedTable(f"{graph.name} on {where}, tenths of a ms", header, tuple(lines), about, found.csv_text())


def reports(network: NetworkLike, out: str | Path, *, bits: int = 8, on: str = "scale_sim") -> AmedReports:
    """The compute, bandwidth and detailed access reports that AMED's table entries are made from, in the folder `out`.

    Raises:
        UserError: an input cannot be used.
    """
    where = accelerator(on)
    graph, _, _ = _network(network, "8")
    result = published_reports(published_of(graph), where, bits)
    paths = tuple(write_reports(result, Path(out)))
    return AmedReports(result.topology.name, result.total_cycles, paths, report_of(result, where.clock_mhz))


def appendix_c() -> AppendixC:
    """The table of AMED's appendix C, computed, and how many of its rows are equal to the published ones."""
    rows = compare_appendix_c()
    equal = sum(row.equal for row in rows)
    header = ("Layer", *COMPUTE_HEADER[1:])
    lines = [(row.layer, int(row.computed[0]), int(row.computed[1]), *row.computed[2:]) for row in rows]
    title = "AMED, appendix C: MobileNetV2 at 4 bits on the 32x32 output-stationary array"
    printed = Table(
        title,
        (*header, "equal"),
        [
            (*line[:3], *(f"{share:.8f}" for share in line[3:]), row.equal)
            for line, row in zip(lines, rows, strict=True)
        ],
    )
    about = {
        "rows": [{"layer": x.layer, "computed": x.computed, "published": x.published, "equal": x.equal} for x in rows],
        "equal_rows": equal,
    }
    facts: dict[str, object] = {"rows equal to the published table": f"{equal} of {len(rows)}, in all five columns"}
    return AppendixC(title, header, tuple(lines), about, _csv(header, lines), facts, printed, equal)


def compare(networks: Sequence[NetworkLike] = (), bits: Sequence[str] = (), on: Sequence[str] = ()) -> AmedTable:
    """By how much the published latency of a network differs from the exact one.

    Args:
        networks: by default AMED's three.
        bits: as for `latency`; by default 8 and 4.
        on: by default all accelerators of AMED's table 1.

    Raises:
        UserError: an input cannot be used.
    """
    header = ("Network", "Accelerator", "Bits", "published ms", "exact ms", "published / exact")
    lines: list[tuple[Any, ...]] = []
    accelerators = [accelerator(name) for name in on or accelerator_names()]
    for network in networks or PUBLISHED_NETWORKS:
        for given in bits or ("8", "4"):
            graph, widths, _ = _network(network, given)
            for where in accelerators:
                found = compare_modes(graph, where, widths)
                lines.append((graph.name, where.name, given, found.published_ms, found.exact_ms, found.ratio))
    keys = ("network", "accelerator", "bits", "published_ms", "exact_ms", "ratio")
    about = {"comparisons": [dict(zip(keys, line, strict=True)) for line in lines]}
    return AmedTable("AMED's latencies, as published and exact", header, tuple(lines), about, _csv(header, lines))


def _network(given: NetworkLike, bits: str) -> tuple[Network, Allocation, str | None]:
    """The network, the bits of its layers, and the row of table 2 that they are."""
    try:
        found = read_network(given)
    except UserError as error:
        known = ", ".join(PUBLISHED_NETWORKS)
        raise UserError(f"{error}; AMED's own are {known}" if "no such network" in str(error) else str(error)) from None
    if isinstance(found, Topology):
        found = network_of(found, name_of(given))
    if not isinstance(found, Network):
        raise UserError(
            f"{name_of(given)}: a quantized network given, must be one without bits: {option('bits')} says them here"
        )
    return (found, *_bits(found.name, bits))


def _bits(network: str, text: str) -> tuple[Allocation, str | None]:
    """What `bits` says, and the row of table 2 it stands for."""
    if text.isdecimal() and len(text) < 10:
        return int(text), f"{text}/{text}"
    if text.endswith(".json"):
        return _allocation(read_json(text), text), None
    if "," in text or text.startswith("["):
        try:
            return _allocation(json.loads(text if text.startswith("[") else f"[{text}]"), option("bits")), None
        except ValueError:
            raise UserError(f"{option('bits')}: '{text}' given, must be whole numbers such as 8,4,4") from None
    return allocation(network, text), text


def _allocation(value: Any, where: str) -> Allocation:
    widths = list(value.values()) if isinstance(value, dict) else value
    if not isinstance(widths, list) or not all(isinstance(x, int) and not isinstance(x, bool) for x in widths):
        raise UserError(f"{where}: must be a list of whole numbers, or layer names and whole numbers")
    return value if isinstance(value, dict) else widths


def _key(title: str) -> str:
    return title.lower().replace(" ", "_")


def _csv(header: Sequence[str], lines: Sequence[Sequence[Any]]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows((header, *lines))
    return text.getvalue()

"""`codesign amed ...`: AMED's simulator, as published and exact."""

from __future__ import annotations

import json as json_module
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from codesign.cli.outputs import guarded

if TYPE_CHECKING:
    from codesign.sim.amed.published import Allocation
    from codesign.sim.ideal.array import Table
    from codesign.workload.network import Network

NETWORK = Annotated[
    str, typer.Argument(metavar="NETWORK", help="resnet18, resnet50, mobilenetv2 as AMED has them, or any other one.")
]
ON = Annotated[str, typer.Option("--on", metavar="NAME", help="A YAML file, or a name in hw_configs/amed/.")]
BITS = Annotated[
    str,
    typer.Option(
        metavar="BITS", help="One number, a list such as 8,4,4, a JSON file, or a row of table 2 (mckp, 4/4)."
    ),
]
JSON = Annotated[Path | None, typer.Option("--json", metavar="FILE", help="Write the answer as JSON.")]
CSV = Annotated[Path | None, typer.Option("--csv", metavar="FILE", help="Write the table as CSV.")]

app = typer.Typer(
    no_args_is_help=True, help="AMED's accelerators: latencies, reports, appendix C, and what is wrong with them."
)


@app.command()
@guarded
def latency(
    network: NETWORK,
    bits: BITS = "8",
    mode: Annotated[Literal["as-published", "exact"], typer.Option(help="How to count.")] = "exact",
    on: ON = "scale_sim",
    csv: CSV = None,
    json: JSON = None,
) -> None:
    """Latency of every layer with its own bits: AMED's sum of table entries, or the whole network exactly."""
    from codesign.cli.output import facts, save, shown
    from codesign.provenance import provenance
    from codesign.sim.amed.accelerator import accelerator
    from codesign.sim.amed.exact import exact_latency
    from codesign.sim.amed.networks import published_of
    from codesign.sim.amed.published import layer_bits, paper_latencies, published_table
    from codesign.sim.clock import Clock

    where = accelerator(on)
    graph, widths, row = _network(network, bits)
    answer: dict[str, Any] = {"network": graph.name, "accelerator": where.name, "mode": mode, "bits": bits}
    header: tuple[str, ...]
    lines: list[list[Any]]
    if mode == "exact":
        exact = exact_latency(graph, where, widths)
        header, lines = exact.report()
        total, paper = exact.latency_ms, None
        header, lines = (
            (*header, "ms"),
            [[*line, x.cycles / where.clock_mhz / 1e3] for line, x in zip(lines, exact.layers, strict=True)],
        )
    else:
        table = published_table(published_of(graph), where)
        header = ("Layer", "Bits", "ms")
        each = layer_bits(table.layers, widths, f"AMED's table of {graph.name}")
        lines = [list(line) for line in zip(table.layers, each, table.layer_ms(widths), strict=True)]
        total = table.latency_ms(widths)
        paper = paper_latencies(graph.name).get(row or "") if on == "scale_sim" else None
    answer |= Clock(where.clock_mhz).to_json() | {"latency_ms": total, "paper_ms": paper}
    answer["layers"] = [dict(zip((_key(title) for title in header), line, strict=True)) for line in lines]
    _print(f"{graph.name} on {where}, {mode}", (header, lines))
    facts({"latency": f"{shown(total)} ms"} | ({"the paper's table 2": f"{shown(paper)} ms"} if paper else {}))
    _save_csv(csv, (header, lines))
    save(json, answer | provenance())


@app.command()
@guarded
def table(network: NETWORK, on: ON = "scale_sim", csv: CSV = None, json: JSON = None) -> None:
    """AMED's latency table: every layer at 2, 3, 4 and 8 bits, in its own unit, a tenth of a millisecond."""
    from codesign._files import write_text
    from codesign.cli.output import note, save
    from codesign.provenance import provenance
    from codesign.sim.amed.accelerator import accelerator
    from codesign.sim.amed.networks import TABLE_BITS, published_of
    from codesign.sim.amed.published import published_table

    where = accelerator(on)
    graph, _, _ = _network(network, "8")
    found = published_table(published_of(graph), where)
    header = ("Layer", *(f"{bits} bits" for bits in TABLE_BITS))
    lines = [[name, *(entry[b] for b in TABLE_BITS)] for name, entry in zip(found.layers, found.entries, strict=True)]
    _print(f"{graph.name} on {where}, tenths of a ms", (header, lines))
    if csv is not None:
        write_text(csv, found.csv_text())
        note(f"wrote {csv}")
    entries = [
        {"layer": name, "entries": {str(bits): entry[bits] for bits in TABLE_BITS}}
        for name, entry in zip(found.layers, found.entries, strict=True)
    ]
    save(json, {"network": graph.name, "accelerator": where.name, "layers": entries} | provenance())


@app.command()
@guarded
def reports(
    network: NETWORK,
    out: Annotated[Path, typer.Option("--out", "-o", metavar="DIR", help="Folder of the reports.")],
    bits: Annotated[int, typer.Option(help="2, 3, 4 or 8.")] = 8,
    on: ON = "scale_sim",
    json: JSON = None,
) -> None:
    """The compute, bandwidth and detailed access reports that AMED's table entries are made from."""
    from codesign.cli.output import facts, save
    from codesign.provenance import provenance
    from codesign.sim.amed.accelerator import accelerator
    from codesign.sim.amed.networks import published_of
    from codesign.sim.amed.published import published_reports
    from codesign.sim.ideal.array import report_of, write_reports

    where = accelerator(on)
    graph, _, _ = _network(network, "8")
    result = published_reports(published_of(graph), where, bits)
    paths = write_reports(result, out)
    facts({"network": result.topology.name, "cycles": result.total_cycles, "reports": ", ".join(map(str, paths))})
    save(json, report_of(result, where.clock_mhz) | {"reports": [str(path) for path in paths]} | provenance())


@app.command("appendix-c")
@guarded
def appendix_c(csv: CSV = None, json: JSON = None) -> None:
    """The table of AMED's appendix C, computed, and how many of its rows are equal to the published ones.

    Exit status 1 if one differs.
    """
    from codesign.cli.output import facts, save
    from codesign.cli.output import table as print_table
    from codesign.provenance import provenance
    from codesign.sim.amed.published import compare_appendix_c
    from codesign.sim.ideal.array import COMPUTE_HEADER

    rows = compare_appendix_c()
    equal = sum(row.equal for row in rows)
    header = ("Layer", *COMPUTE_HEADER[1:])
    lines = [[row.layer, int(row.computed[0]), int(row.computed[1]), *row.computed[2:]] for row in rows]
    print_table(
        "AMED, appendix C: MobileNetV2 at 4 bits on the 32x32 output-stationary array",
        (*header, "equal"),
        [
            [line[0], *line[1:3], *(f"{share:.8f}" for share in line[3:]), row.equal]
            for line, row in zip(lines, rows, strict=True)
        ],
    )
    facts({"rows equal to the published table": f"{equal} of {len(rows)}, in all five columns"})
    _save_csv(csv, (header, lines))
    answer = {
        "rows": [{"layer": x.layer, "computed": x.computed, "published": x.published, "equal": x.equal} for x in rows],
        "equal_rows": equal,
    }
    save(json, answer | provenance())
    if equal < len(rows):
        raise typer.Exit(1)


@app.command()
@guarded
def compare(
    networks: Annotated[
        list[str] | None, typer.Argument(metavar="[NETWORK]...", help="By default AMED's three networks.")
    ] = None,
    bits: Annotated[list[str] | None, typer.Option(help="As for latency; may be repeated. By default 8 and 4.")] = None,
    on: Annotated[
        list[str] | None, typer.Option("--on", metavar="NAME", help="May be repeated. By default all of table 1.")
    ] = None,
    csv: CSV = None,
    json: JSON = None,
) -> None:
    """By how much the published latency of a network differs from the exact one."""
    from codesign.cli.output import save
    from codesign.provenance import provenance
    from codesign.sim.amed.accelerator import accelerator, accelerator_names
    from codesign.sim.amed.exact import compare_modes
    from codesign.sim.amed.networks import PUBLISHED_NETWORKS

    header = ("Network", "Accelerator", "Bits", "published ms", "exact ms", "published / exact")
    lines: list[list[Any]] = []
    accelerators = [accelerator(name) for name in on or accelerator_names()]
    for name in networks or PUBLISHED_NETWORKS:
        for given in bits or ("8", "4"):
            graph, widths, _ = _network(name, given)
            for where in accelerators:
                found = compare_modes(graph, where, widths)
                lines.append([graph.name, where.name, given, found.published_ms, found.exact_ms, found.ratio])
    _print("AMED's latencies, as published and exact", (header, lines))
    _save_csv(csv, (header, lines))
    keys = ("network", "accelerator", "bits", "published_ms", "exact_ms", "ratio")
    save(json, {"comparisons": [dict(zip(keys, line, strict=True)) for line in lines]} | provenance())


def _network(name: str, bits: str) -> tuple[Network, Allocation, str | None]:
    """The network, the bits of its layers, and the row of table 2 that they are."""
    from codesign.api.networks import read_network
    from codesign.errors import UserError
    from codesign.sim.amed.networks import PUBLISHED_NETWORKS
    from codesign.workload.network import Network
    from codesign.workload.topology import Topology
    from codesign.workload.topology_network import network_of

    try:
        found = read_network(name)
    except UserError as error:
        known = ", ".join(PUBLISHED_NETWORKS)
        raise UserError(f"{error}; AMED's own are {known}" if "no such network" in str(error) else str(error)) from None
    if isinstance(found, Topology):
        found = network_of(found, name)
    if not isinstance(found, Network):
        raise UserError(f"{name}: a quantized network given, must be one without bits: --bits says them here")
    return (found, *_bits(found.name, bits))


def _bits(network: str, text: str) -> tuple[Allocation, str | None]:
    """What `--bits` says, and the row of table 2 it stands for."""
    from codesign._files import read_json
    from codesign.errors import UserError
    from codesign.sim.amed.published import allocation

    if text.isdecimal() and len(text) < 10:
        return int(text), f"{text}/{text}"
    if text.endswith(".json"):
        return _allocation(read_json(text), text), None
    if "," in text or text.startswith("["):
        try:
            return _allocation(json_module.loads(text if text.startswith("[") else f"[{text}]"), "--bits"), None
        except ValueError:
            raise UserError(f"--bits: '{text}' given, must be whole numbers such as 8,4,4") from None
    return allocation(network, text), text


def _allocation(value: Any, where: str) -> Allocation:
    from codesign.errors import UserError

    widths = list(value.values()) if isinstance(value, dict) else value
    if not isinstance(widths, list) or not all(isinstance(x, int) and not isinstance(x, bool) for x in widths):
        raise UserError(f"{where}: must be a list of whole numbers, or layer names and whole numbers")
    return value if isinstance(value, dict) else widths


def _key(title: str) -> str:
    return title.lower().replace(" ", "_")


def _print(title: str, table: Table | tuple[tuple[str, ...], list[list[Any]]]) -> None:
    from codesign.cli.output import table as print_table

    print_table(title, *table)


def _save_csv(path: Path | None, table: tuple[tuple[str, ...], list[list[Any]]]) -> None:
    import csv
    import io

    from codesign._files import write_text
    from codesign.cli.output import note

    if path is not None:
        header, lines = table
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerows((header, *lines))
        write_text(path, text.getvalue())
        note(f"wrote {path}")

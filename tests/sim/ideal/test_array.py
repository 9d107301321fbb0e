"""The closed form of SCALE-Sim against its own reports, and against an enumeration request by request."""

from __future__ import annotations

import csv
import math
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from codesign.errors import UserError
from codesign.sim.amed import networks as amed_networks
from codesign.sim.ideal.array import (
    IdealArray,
    ideal_cycles,
    ideal_report,
    report_text,
    simulate_ideal,
    write_reports,
)
from codesign.sim.ideal.config import parse_config, read_config
from codesign.sim.ideal.cycles import Dataflow, evaluate
from codesign.sim.ideal.memory import Memories, active_words, filter_dram, ifmap_dram, ofmap_dram, windows
from codesign.sim.ideal.replay import replay_ifmap_dram
from codesign.sim.ideal.streams import Schedule, before_line, line_of
from codesign.workload import zoo
from codesign.workload.topology import Topology, TopologyLayer, gemm_layer, topology_of

DATA = Path(__file__).parents[1] / "data"
FLOWS = st.sampled_from(list(Dataflow))


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open() as file:
        return list(csv.DictReader(file))


# ---------------------------------------------------------------- SCALE-Sim's own numbers


def test_every_case_of_scale_sim() -> None:
    cases = rows_of(DATA / "scalesim_cases.csv")
    assert len(cases) == 60
    for case in cases:
        size = {name: int(case[name]) for name in ("M", "K", "N", "rows", "cols", "total_cycles")}
        got = evaluate(size["M"], size["K"], size["N"], size["rows"], size["cols"], case["dataflow"])
        assert got.total_cycles == size["total_cycles"], case
        assert got.overall_utilization == pytest.approx(float(case["overall_util_pct"]), rel=1e-12)
        assert got.mapping_efficiency == pytest.approx(float(case["mapping_eff_pct"]), rel=1e-12)
        assert got.compute_utilization == pytest.approx(float(case["compute_util_pct"]), rel=1e-12)


def test_reports_of_scale_sim_on_small_layers() -> None:
    """118 runs of version 2.0.2 with 1 and 2 KB memories, which fill and drain many times."""
    cases = rows_of(DATA / "scalesim_reports.csv")
    replayed = 0
    for case in cases:
        value = {name: float(number) for name, number in case.items() if name != "dataflow"}
        sizes = [int(value[name]) for name in ("h", "w", "fh", "fw", "channels", "filters", "stride", "stride")]
        layer = TopologyLayer("layer", *sizes)
        kb = int(value["kb"])
        array = IdealArray(int(value["rows"]), int(value["cols"]), Dataflow(case["dataflow"]), Memories(kb, kb, kb))
        closed = simulate_ideal(Topology("one", (layer,)), array, replay_limit=0)
        replayed += closed.layers[0].traffic.ifmap_dram is None
        result = simulate_ideal(Topology("one", (layer,)), array)
        columns = list(value)[10:]  # after the case's own: compute, bandwidth, detailed report
        expected = [value[name] for name in columns]
        tables = (result.compute_report(), result.bandwidth_report(), result.detailed_report())
        got = [cell for _, lines in tables for cell in lines[0][1:]]
        assert got == pytest.approx(expected, rel=1e-12), case
    assert 0 < replayed < len(cases) / 2


@pytest.mark.parametrize(
    ("folder", "network", "bits"),
    [("resnet18", "resnet18", 8), ("resnet18_4", "resnet18", 4), ("mobilenetv2_100_2", "mobilenetv2", 2)],
)
def test_the_report_sets_that_amed_ships(folder: str, network: str, bits: int) -> None:
    topology = amed_networks.published_network(network).at(bits)
    result = simulate_ideal(topology, IdealArray(32, 32, Dataflow.OS))
    tables = {
        "COMPUTE_REPORT.csv": result.compute_report(),
        "BANDWIDTH_REPORT.csv": result.bandwidth_report(),
        "DETAILED_ACCESS_REPORT.csv": result.detailed_report(),
    }
    for name, table in tables.items():
        golden = (DATA / "amed" / folder / name).read_text().splitlines()
        ours = report_text(table).splitlines()
        assert ours[0] == golden[0]
        assert len(ours) == len(golden) == len(topology.layers) + 1
        for mine, theirs in zip(ours[1:], golden[1:], strict=True):
            numbers = [[float(field) for field in line.removesuffix(",").split(",")] for line in (mine, theirs)]
            assert numbers[0] == pytest.approx(numbers[1], rel=1e-12), f"{folder} {name}: {theirs}"


# ---------------------------------------------------------------- enumeration, fold by fold


class Enumerated:
    """SCALE-Sim's schedule written out: every request and output with its cycle, in order."""

    def __init__(self, layer: TopologyLayer, rows: int, columns: int, flow: Dataflow) -> None:
        m, k, n = layer.m, layer.k, layer.n
        rows_dim, columns_dim, steps = {"os": (m, n, k), "ws": (k, n, m), "is": (k, m, n)}[flow]
        held = 0 if flow == "os" else rows
        self.ifmap: list[tuple[int, tuple[int, int]]] = []
        self.filters: list[tuple[int, tuple[int, int]]] = []
        self.outputs: list[int] = []
        self.cycles = 0
        mapping, busy, folds = 0.0, 0.0, 0
        for left in range(0, columns_dim, columns):
            for top in range(0, rows_dim, rows):
                high, wide = min(rows, rows_dim - top), min(columns, columns_dim - left)
                fold = held + steps + rows + columns - 2
                ifmap, filters, outputs = [], [], []
                for row in range(high):
                    for step in range(steps):
                        if flow == "os":
                            ifmap.append((step + row, row, (top + row, step)))
                        elif flow == "ws":
                            ifmap.append((rows + step + row, row, (step, top + row)))
                        else:
                            filters.append((rows + step + row, row, (top + row, step)))
                for column in range(wide):
                    for row in range(high):
                        if flow == "os":
                            outputs.append(steps - 1 + rows - 1 - row + column)
                        elif flow == "ws":
                            filters.append((rows - 1 - row, column, (top + row, left + column)))
                        else:
                            ifmap.append((rows - 1 - row, column, (left + column, top + row)))
                    for step in range(steps):
                        if flow == "os":
                            filters.append((step + column, column, (step, left + column)))
                        else:
                            outputs.append(2 * rows - 1 + step + column)
                self.ifmap += [(self.cycles + line, word) for line, _, word in sorted(ifmap)]
                self.filters += [(self.cycles + line, word) for line, _, word in sorted(filters)]
                self.outputs += [self.cycles + line for line in sorted(outputs)]
                self.cycles += fold
                folds += 1
                mapping += high * wide / (rows * columns)
                busy += high * wide * steps / (rows * columns * (fold + (0 if flow == "os" else columns - 1)))
        self.folds = folds
        self.mapping = 100 * mapping / folds
        self.busy = 100 * busy / folds


def forgetful(requests: list[tuple[int, tuple[int, int]]], capacity: int) -> tuple[int, int | None]:
    """DRAM reads of a memory that forgets everything when it holds `capacity` words, and when it last did."""
    held: set[tuple[int, int]] = set()
    count, last = 0, None
    for cycle, word in requests:
        if word not in held:
            held.add(word)
            count += 1
            if len(held) == capacity:
                held, last = set(), cycle
    return count, last


SMALL = st.integers(1, 9)


@given(SMALL, SMALL, SMALL, st.integers(1, 5), st.integers(1, 5), FLOWS)
def test_cycles_equal_an_enumeration(m: int, k: int, n: int, rows: int, columns: int, flow: Dataflow) -> None:
    listed = Enumerated(gemm_layer("g", m, n, k), rows, columns, flow)
    got = evaluate(m, k, n, rows, columns, flow)
    true = evaluate(m, k, n, rows, columns, flow, corrected=True)
    assert true.total_cycles == listed.cycles
    assert got.total_cycles == max(listed.cycles - 1, 1)
    assert got.folds == listed.folds
    assert got.mapping_efficiency == pytest.approx(listed.mapping)
    assert got.compute_utilization == pytest.approx(listed.busy)
    assert true.overall_utilization == pytest.approx(true.compute_utilization)
    assert got.ifmap_reads == len(listed.ifmap)
    assert got.filter_reads == len(listed.filters)
    assert true.ofmap_writes == len(listed.outputs)
    extra = listed.folds * (rows + columns) if flow is Dataflow.OS else 0
    assert got.ofmap_writes == len(listed.outputs) + extra


@given(SMALL, SMALL, SMALL, st.integers(1, 5), st.integers(1, 5), FLOWS)
def test_streams_equal_an_enumeration(m: int, k: int, n: int, rows: int, columns: int, flow: Dataflow) -> None:
    layer = gemm_layer("g", m, n, k)
    listed, schedule = Enumerated(layer, rows, columns, flow), Schedule.of(layer, rows, columns, flow)
    assert schedule.last_cycle == listed.cycles - 1
    assert [schedule.output(index) for index in range(schedule.outputs)] == listed.outputs
    for cycle in range(listed.cycles + 2):
        assert schedule.outputs_before(cycle) == sum(at < cycle for at in listed.outputs)
    held = {Dataflow.WS: listed.filters, Dataflow.IS: listed.ifmap}.get(flow, [])
    assert [schedule.held_operand(index) for index in range(len(held))] == [cycle for cycle, _ in held]


@given(st.integers(1, 12), st.integers(1, 12))
def test_lines_of_a_block(rows: int, columns: int) -> None:
    lines = sorted(i + j for i in range(rows) for j in range(columns))
    assert [line_of(index, rows, columns) for index in range(len(lines))] == lines
    for line in range(-1, rows + columns + 1):
        assert before_line(line, rows, columns) == sum(at < line for at in lines)


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 60), st.integers(1, 60), st.integers(1, 60), st.integers(1, 20), st.integers(1, 20), FLOWS)
def test_dram_reads_equal_an_enumeration(m: int, k: int, n: int, rows: int, columns: int, flow: Dataflow) -> None:
    layer = gemm_layer("g", m, n, k)
    listed, schedule = Enumerated(layer, rows, columns, flow), Schedule.of(layer, rows, columns, flow)
    capacity = active_words(1)
    for requests, got in (
        (listed.filters, filter_dram(layer, schedule, 1, 10)),
        (listed.ifmap, ifmap_dram(layer, schedule, 1, 10)),
        (listed.ifmap, replay_ifmap_dram(layer, schedule, 1, 10)),
    ):
        count, last = forgetful(requests, capacity)
        assert got is not None
        assert got.count == count
        assert got.stop == (-1 if last is None else last + 1)
        assert got.start == (requests[0][0] - 50 if last is not None else -math.ceil(count / 10))


@settings(max_examples=60, deadline=None)
@given(
    *(st.integers(1, 12), st.integers(1, 12), st.integers(1, 4), st.integers(1, 4)),
    *(st.integers(1, 12), st.integers(1, 9), st.integers(1, 3), st.integers(1, 8), st.integers(1, 8), FLOWS),
)
def test_the_replay_agrees_where_there_is_a_closed_form(
    h: int, w: int, fh: int, fw: int, c: int, n: int, s: int, rows: int, columns: int, flow: Dataflow
) -> None:
    layer = TopologyLayer("c", max(h, fh), max(w, fw), fh, fw, c, n, s, s)
    schedule = Schedule.of(layer, rows, columns, flow)
    closed, replayed = ifmap_dram(layer, schedule, 1, 10), replay_ifmap_dram(layer, schedule, 1, 10)
    assert closed is None or closed == replayed
    assert replayed.count >= windows(layer).distinct
    if windows(layer).distinct < active_words(1):
        assert closed is not None and closed.count == windows(layer).distinct


@given(st.integers(1, 80), st.integers(1, 5), st.integers(1, 80), st.integers(1, 8), st.integers(1, 8), FLOWS)
def test_outputs_are_all_written_and_in_time(m: int, k: int, n: int, rows: int, columns: int, flow: Dataflow) -> None:
    schedule = Schedule.of(gemm_layer("g", m, n, k), rows, columns, flow)
    as_published, true = ofmap_dram(schedule, 1), ofmap_dram(schedule, 1, corrected=True)
    assert true.count == schedule.outputs <= as_published.count < schedule.outputs + 2 * columns
    assert as_published.start == true.start <= as_published.stop <= true.stop
    assert true.start == (schedule.output(512) if schedule.outputs > 512 else schedule.last_cycle)


# ---------------------------------------------------------------- the faults, and without them


def test_the_corrected_option_leaves_three_faults_out() -> None:
    sizes = {"m": 40, "k": 30, "n": 20, "rows": 8, "columns": 4}
    for flow, faulty_denominator in ((Dataflow.OS, 0), (Dataflow.WS, 3), (Dataflow.IS, 3)):
        faulty, true = evaluate(**sizes, dataflow=flow), evaluate(**sizes, dataflow=flow, corrected=True)
        assert true.total_cycles == faulty.total_cycles + 1
        extra = faulty.folds * 12 if flow is Dataflow.OS else 0
        assert faulty.ofmap_writes == true.ofmap_writes + extra
        share = true.compute_utilization / faulty.compute_utilization
        assert share == pytest.approx((true.fold_cycles + faulty_denominator) / true.fold_cycles)
        assert true.mapping_efficiency == faulty.mapping_efficiency


def test_many_layers_on_many_arrays() -> None:
    topology = topology_of(zoo.resnet18())
    m, k, n = (np.array([getattr(layer, name) for layer in topology.layers]) for name in ("m", "k", "n"))
    sides = np.array([[8], [16], [32]])
    many = evaluate(m, k, n, sides, 2 * sides, "ws")
    assert many.total_cycles.shape == many.overall_utilization.shape == many.ifmap_reads.shape == (3, 21)
    one = evaluate(int(m[4]), int(k[4]), int(n[4]), 16, 32, "ws")
    assert many.total_cycles[1, 4] == one.total_cycles
    assert many.compute_utilization[1, 4] == one.compute_utilization
    assert ideal_cycles(topology, 16, 32, "ws").total_cycles.tolist() == many.total_cycles[1].tolist()


def test_the_time_taken_does_not_depend_on_the_sizes() -> None:
    huge = Topology("huge", (gemm_layer("g", 10**7, 10**5, 10**6), TopologyLayer("c", 9999, 9999, 5, 5, 99, 999)))
    for flow, folds, fold_cycles in ((Dataflow.WS, 7813 * 782, 10**7 + 382), (Dataflow.OS, 78125 * 782, 10**6 + 254)):
        for kib in (1, 10**4, 10**8):
            result = simulate_ideal(huge, IdealArray(128, 128, flow, Memories(kib, kib, kib)))
            assert result.layers[0].total_cycles == folds * fold_cycles - 1
            assert (result.layers[1].traffic.ifmap_dram is None) == (kib < 10**8)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((0, 1, 1, 1, 1, "os"), "M: 0 given"),
        ((1, 1, 1, 1, -3, "os"), "columns: -3 given"),
        ((1, 1.5, 1, 1, 1, "os"), r"K: 1\.5 given"),
        ((1, 1, [], 1, 1, "os"), r"N: \[\] given"),
        ((10**7, 10**7, 10**7, 1, 1, "os"), r"M \* K \* N: more than 2\^62 products"),
        ((1, 1, 1, 1, 1, "rs"), "dataflow 'rs' given, must be one of os, ws, is"),
    ],
)
def test_sizes_and_dataflow_are_checked(arguments: tuple[int, int, int, int, int, str], message: str) -> None:
    with pytest.raises(UserError, match=message):
        evaluate(*arguments)
    with pytest.raises(UserError, match="ideal array: rows: 0 given, must be from 1 to 1,000,000,000"):
        IdealArray(0, 4, Dataflow.OS)


# ---------------------------------------------------------------- answers and files


def test_the_answer_has_the_keys_of_simulate() -> None:
    network = zoo.resnet8()
    answer = ideal_report(network, 16, 8, "ws", clock_mhz=250)
    assert {"hardware", "network", "clock_mhz", "total_cycles", "latency_ms", "gops", "layers"} <= answer.keys()
    assert {"resources", "energy_mj"} <= answer.keys()
    assert (answer["hardware"], answer["network"]) == ("ideal 16x8 ws", "resnet8")
    keys = "name m k n cycles compute_cycles stall_cycles utilization dram_read_bytes dram_write_bytes"
    for layer, gemm in zip(answer["layers"], network.gemms(), strict=True):
        assert set(keys.split()) <= layer.keys()
        assert layer["cycles"] == layer["compute_cycles"] and layer["stall_cycles"] == 0
        assert (layer["name"], layer["m"] * layer["k"] * layer["n"] * layer["groups"]) == (gemm.name, gemm.macs)
        assert layer["utilization"] == pytest.approx(gemm.macs / (layer["cycles"] * 128))
        assert layer["dram_read_bytes"] > 0 and layer["dram_write_bytes"] >= gemm.m * gemm.n
    assert answer["total_cycles"] == sum(layer["cycles"] for layer in answer["layers"])
    assert answer["latency_ms"] == pytest.approx(answer["total_cycles"] / 250e3)
    assert answer["gops"] == pytest.approx(2 * network.macs / answer["latency_ms"] / 1e6)
    assert answer["notes"] == []
    with pytest.raises(UserError, match="clock: -1 MHz given, must be above 0"):
        ideal_report(network, 16, 8, "ws", clock_mhz=-1)


def test_the_example_of_the_documentation() -> None:
    text = (Path(__file__).parents[3] / "docs" / "reference" / "simulators.md").read_text()
    exec(text.split("```python\n")[1].split("```")[0], {})


def test_what_has_no_closed_form_is_empty_and_said() -> None:
    topology = topology_of(zoo.resnet8())
    answer = ideal_report(topology, 8, 8, "os", memories=Memories(1, 1, 1), replay_limit=0)
    empty = [layer["name"] for layer in answer["layers"] if layer["dram_read_bytes"] is None]
    assert "layer1.0.conv1" in empty and "fc" not in empty
    assert answer["notes"][0].startswith(f"no closed form, left empty: DRAM reads of the inputs of {len(empty)} of 10")
    result = simulate_ideal(topology, IdealArray(8, 8, Dataflow.OS, Memories(1, 1, 1)), replay_limit=0)
    line = report_text(result.detailed_report()).splitlines()[2].split(", ")
    assert line[10:13] == ["", "", ""] and line[9] != "" and line[13] != ""
    assert report_text(result.bandwidth_report()).splitlines()[2].split(", ")[4] == ""


def test_groups_run_one_after_the_other() -> None:
    layer = TopologyLayer("DP", 10, 10, 3, 3, 1, 1)
    once = simulate_ideal(Topology("one", (layer,)), IdealArray(4, 4, Dataflow.OS))
    often = simulate_ideal(Topology("many", (replace(layer, groups=7),)), IdealArray(4, 4, Dataflow.OS))
    assert often.total_cycles == 7 * once.total_cycles
    assert often.layers[0].dram_read_words == 7 * (once.layers[0].dram_read_words or math.nan)
    header, lines = often.compute_report()
    assert len(lines) == 7 and [line[0] for line in lines] == list(range(7))
    assert len(header) == len(lines[0])


def test_reports_are_written(tmp_path: Path) -> None:
    result = simulate_ideal(zoo.smallcnn(), IdealArray(4, 4, Dataflow.OS))
    paths = write_reports(result, tmp_path / "run")
    assert [path.name for path in paths] == ["COMPUTE_REPORT.csv", "BANDWIDTH_REPORT.csv", "DETAILED_ACCESS_REPORT.csv"]
    first = paths[0].read_text().splitlines()
    assert first[0] == ("LayerID, Total Cycles, Stall Cycles, Overall Util %, Mapping Efficiency %, Compute Util %,")
    assert first[1].startswith(f"0, {result.layers[0].total_cycles}, 0, ") and len(first) == 5


CONFIG = """[general]
run_name = GoogleTPU_v1_ws

[architecture_presets]
ArrayHeight:    256
ArrayWidth:     128
IfmapSramSzkB:    6144
FilterSramSzkB:   6143
OfmapSramSzkB:    2048
IfmapOffset:    0
Dataflow : ws
Bandwidth : 10, 20
MemoryBanks: 1

[run_presets]
InterfaceBandwidth: CALC
SRAM_row_size: 2
"""


def test_a_configuration_file_is_read(tmp_path: Path) -> None:
    path = tmp_path / "google.cfg"
    path.write_text(CONFIG)
    config = read_config(path)
    assert (config.name, config.user_bandwidth, config.notes()) == ("GoogleTPU_v1_ws", None, [])
    assert config.array == IdealArray(256, 128, Dataflow.WS, Memories(6144, 6143, 2048, 10))
    user = parse_config(CONFIG.replace("CALC", "user").replace("run_name = GoogleTPU_v1_ws", ""), "x.cfg", "x")
    assert (user.name, user.user_bandwidth) == ("x", (10, 20))
    assert "without stalls" in user.notes()[0]


def test_a_configuration_of_the_first_version() -> None:
    text = CONFIG.partition("[run_presets]")[0].replace("SramSzkB", "SramSz").replace("= Google", '= "Google')
    text = text.replace("v1_ws", 'v1_ws"') + '\n[network_presets]\nTopologyCsvLoc: "./topologies/yolo.csv"\n'
    config = parse_config(text, "google.cfg", "google")
    assert (config.name, config.array) == ("GoogleTPU_v1_ws", parse_config(CONFIG, "google.cfg", "google").array)
    assert "first version" in config.notes()[0]
    with pytest.raises(UserError, match=r"\[architecture_presets\] IfmapSramSz: '' given"):
        parse_config(text.replace("6144", ""), "google.cfg", "google")
    with pytest.raises(UserError, match=r"IfmapSramSzkB is missing"):  # of the later versions
        parse_config(CONFIG.replace("SramSzkB", "SramSz"), "google.cfg", "google")


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("ws\nB", "rs\nB", "[architecture_presets] Dataflow: 'rs' given, must be one of os, ws, is"),
        ("256", "-4", "[architecture_presets] ArrayHeight: '-4' given, must be a whole number from 1 to"),
        ("6144", "6.5", "[architecture_presets] IfmapSramSzkB: '6.5' given"),
        ("ArrayWidth:     128", "", "[architecture_presets] ArrayWidth is missing"),
        ("CALC", "SOME", "[run_presets] InterfaceBandwidth: 'SOME' given, must be one of CALC, USER"),
        ("[architecture_presets]", "[presets]", "section [architecture_presets] is missing"),
        ("ArrayHeight:", "Dataflow:", "line 11: [architecture_presets] dataflow is given twice"),
        ("ArrayHeight:", "ArrayHeight", "line 5: 'ArrayHeight 256"),
        ("[general]", "", "line 2: 'run_name = GoogleTPU_v1_ws' given before the first section"),
        ("[run_presets]", "[sparsity]\nSparsitySupport: True\n[run_presets]", "[sparsity] SparsitySupport: 'true'"),
    ],
)
def test_what_is_wrong_with_a_configuration(old: str, new: str, message: str) -> None:
    with pytest.raises(UserError) as caught:
        parse_config(CONFIG.replace(old, new, 1), "google.cfg", "google")
    text = str(caught.value)
    assert text.startswith("google.cfg: ") and message in text and "\n" not in text and "\\n" not in text


def test_a_configuration_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"none\.cfg: no such file"):
        read_config(tmp_path / "none.cfg")
    (tmp_path / "binary.cfg").write_bytes(b"\xff\xfe\xfa")
    with pytest.raises(UserError, match=r"binary\.cfg: not a SCALE-Sim configuration: not a text file"):
        read_config(tmp_path / "binary.cfg")


@pytest.mark.parametrize(
    "module",
    [
        "codesign.sim.ideal.array",
        "codesign.sim.ideal.config",
        "codesign.sim.amed.exact",
        "codesign.workload.topology",
    ],
)
def test_starts_without_torch(module: str) -> None:
    code = f"import sys, {module}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0

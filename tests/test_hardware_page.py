"""Timing diagrams of docs/hardware.md can be drawn, and say what geometry, timing model and RTL say of `tiny`."""

from __future__ import annotations

import json
import re
from bisect import bisect_left
from operator import itemgetter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from codesign.api.networks import network_plan
from codesign.arch.load import load_hardware
from codesign.integer.random_network import random_network
from codesign.program.plan import Plan
from codesign.program.tiling import tile_pixels
from codesign.rtl.executor import drain_cycles
from codesign.rtl.geometry import Geometry
from codesign.rtl.latencies import (
    FEED_LATENCY,
    FIFO_LATENCY,
    PARAM_LEAD,
    PASS_CYCLES,
    POST_LATENCY,
    READ_LATENCY,
    STORE_LATENCY,
    WEIGHT_LATENCY,
    WIDE_STAGE,
    WRITE_STAGE,
)
from codesign.search.space import band_ratio
from codesign.sim.cosim import run as cosim
from codesign.sim.cosim.wave_request import request
from codesign.sim.timing.plan_timing import Timing, estimate
from codesign.workload import zoo
from codesign.workload.network import Network
from tests.waves import read_vcd

PAGE = Path(__file__).parents[1] / "docs" / "hardware.md"
TEXT = PAGE.read_text()
BLOCKS = re.findall(r"^```wavedrom\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL)
TINY = load_hardware("tiny")
GEOMETRY = Geometry(TINY)
PERIOD = 10_000
"""Of the bench's clock, in ps."""
DUT = "codesign_bench.dut."

Lanes = dict[str, dict[int, str]]


def lanes(block: str) -> Lanes:
    """What every lane shows, by cycle: 0, 1, a label, or nothing where nobody looks."""
    diagram = json.loads(block)
    begin = diagram.get("head", {}).get("tick", 0)
    return {lane["name"]: {begin + cycle: shown for cycle, shown in expanded(lane)} for lane in diagram["signal"]}


def expanded(lane: dict[str, Any]) -> list[tuple[int, str]]:
    labels = iter(lane.get("data", "").split())
    found: list[tuple[int, str]] = []
    shown: str | None = None
    for cycle, mark in enumerate(lane["wave"]):
        if mark in "=35":
            shown = next(labels)
        elif mark != ".":
            shown = None if mark == "x" else mark
        if shown is not None:
            found.append((cycle, shown))
    assert next(labels, None) is None, lane["name"]
    return found


def diagram(*names: str) -> Lanes:
    """The one diagram that has lanes of these names."""
    (found,) = (each for each in map(lanes, BLOCKS) if set(names) <= set(each))
    return found


def cycles(lane: dict[int, str], label: str) -> list[int]:
    return [cycle for cycle, shown in lane.items() if shown == label]


def rows_after(title: str) -> list[list[str]]:
    """Cells of the first table whose head begins with `title`."""
    table = TEXT[TEXT.index(f"| {title} |") :].split("\n\n")[0].splitlines()
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in table[2:]]


def number(text: str) -> int:
    return int(text.replace(",", ""))


def timed(network: Network) -> tuple[Plan, Timing]:
    plan = network_plan(network, TINY)
    return plan, estimate(plan)


def test_diagrams_are_json_with_lanes_of_equal_length() -> None:
    assert len(BLOCKS) >= 5 and TEXT.count("```wavedrom") == len(BLOCKS)
    for block in BLOCKS:
        found = json.loads(block)
        assert len({len(lane["wave"]) for lane in found["signal"]}) == 1
        # pictures of a page share definitions by name, so all have one skin
        assert found["config"]["skin"] == "narrow"
        assert all(label for lane in found["signal"] for _, label in expanded(lane))


@pytest.mark.parametrize("block", BLOCKS, ids=range(len(BLOCKS)))
def test_diagrams_are_drawn(block: str) -> None:
    wavedrom = pytest.importorskip("wavedrom")
    picture = wavedrom.render(block).tostring()
    assert picture.startswith("<svg")
    assert all(lane["name"] in picture for lane in json.loads(block)["signal"])


def test_numbers_of_tiny_are_those_of_its_geometry() -> None:
    rows = rows_after("what | value")
    assert len(rows) > 10
    for name, value, _ in rows:
        assert getattr(GEOMETRY, name) == number(value), name
    bands = {(GEOMETRY.sum_latency(band), GEOMETRY.band_latency(band)) for band in TINY.bands}
    assert bands == {(4, 6)} and "take 4 cycles to the sum and 6 to the result" in " ".join(TEXT.split())


def test_way_of_a_word_has_the_latencies() -> None:
    way = {(source, target): number(said.split()[0]) for source, target, _, said in rows_after("from")}
    assert way["memory", "FIFO"] == TINY.memory.latency
    assert way["FIFO", "loader"] == FIFO_LATENCY
    assert way["window generator", "address"] + way["address", "word"] == READ_LATENCY
    assert READ_LATENCY + way["word", "first row of the array"] == FEED_LATENCY
    assert way["operands of an element", "its result"] == GEOMETRY.pe_latency
    assert way["result", "result bus"] == GEOMETRY.bus_latency
    assert way["sum", "write to the other activation memory"] == POST_LATENCY
    assert way["activation memory", "memory"] == STORE_LATENCY + FIFO_LATENCY
    t = dict(rows_after("cycle"))
    (entering,) = (at for at, what in t.items() if what.startswith("results and residual operand"))
    assert entering == f"t + {PARAM_LEAD}" and f"t + {WRITE_STAGE}" in t and WIDE_STAGE == WRITE_STAGE - 1


def steps(begin: int) -> dict[int, str]:
    """The eight steps of a tile, one a cycle."""
    return {begin + step: f"s{step}" for step in range(8)}


def test_codes_enter_with_the_skew_of_elements_columns_and_rows() -> None:
    read = diagram("advance", "word", "load 0")
    words = {cycle: f"c{cycle % TINY.columns}" for cycle in range(8)}
    for name, late in {"addr": 1, "memory": READ_LATENCY - 1, "word": READ_LATENCY}.items():
        assert read[name] == {cycle + late: column for cycle, column in words.items()}
    for column in (0, 3):
        loads = cycles(read[f"load {column}"], "1")
        assert loads[:2] == [READ_LATENCY + column + tap * GEOMETRY.groups for tap in range(2)]
    for name in ("(0,0) code 0", "(0,0) code 1", "(0,1) code 0", "(0,3) code 0", "(1,0) code 0", "(5,3) code 0"):
        row, column, element = map(int, re.findall(r"\d", name))
        assert read[name] == steps(FEED_LATENCY + row + column + GEOMETRY.skew(element)), name


def test_weights_meet_codes() -> None:
    found = diagram("row 0 step_addr")
    for row in (0, 1):
        assert found[f"row {row} step_addr"] == steps(FEED_LATENCY - WEIGHT_LATENCY + row)
    assert found["row 0 memory"] == steps(FEED_LATENCY - 1)
    assert found["row 0 read_data"] == steps(FEED_LATENCY)
    pairs = [name for name in found if " weight " in name]
    assert len(pairs) == 4
    for name in pairs:
        row, column, element = map(int, re.findall(r"\d", name))
        assert found[name] == found[name.replace("weight", "code")]
        assert found[name] == steps(FEED_LATENCY + row + column + GEOMETRY.skew(element))


def test_an_element_shows_the_sum_of_a_tile() -> None:
    found = diagram("accumulator", "done")
    assert found["code 0, weight 0"] == steps(FEED_LATENCY)
    assert found["code 1, weight 1"] == steps(FEED_LATENCY + GEOMETRY.skew(1))
    assert found["operand 0"] == steps(FEED_LATENCY + 1)
    assert found["sum of the step"] == steps(FEED_LATENCY + GEOMETRY.sum_latency(TINY.bands[0]))
    latency = GEOMETRY.pe_latency
    assert cycles(found["first"], "1") == [FEED_LATENCY + latency - 2, FEED_LATENCY + latency - 2 + 8]
    assert found["accumulator"] == {
        FEED_LATENCY + latency - 1 + step: f"s0-s{step}" if step else "s0" for step in range(8)
    }
    last = FEED_LATENCY + 7
    assert cycles(found["done"], "1") == [last + latency - 1]
    assert cycles(found["result"], "s0-s7") == [last + latency]


def test_rows_leave_one_a_cycle() -> None:
    found = diagram("bus 0", "results")
    begin, end = min(found["advance"]), max(found["advance"])
    lasts = range(7, end, 8)  # last cycles of the tiles of 8 steps
    assert cycles(found["last"], "1") == [last + 1 for last in lasts if begin <= last + 1 <= end]

    def rows(late: int) -> dict[int, str]:
        shown = {last + late + row: f"r{row}" for last in lasts for row in range(TINY.rows)}
        return {cycle: row for cycle, row in shown.items() if begin <= cycle <= end}

    def labels(lane: dict[int, str]) -> dict[int, str]:
        return {cycle: shown for cycle, shown in lane.items() if shown.startswith("r")}

    element = FEED_LATENCY + GEOMETRY.pe_latency
    for name in ("(0,0) result", "(5,0) result", "(5,3) result"):
        row, column = map(int, re.findall(r"\d", name))
        at = (last + element + row + column for last in lasts)
        assert labels(found[name]) == {cycle: f"r{row}" for cycle in at if begin <= cycle <= end}
    for column in (0, 3):
        assert labels(found[f"bus {column}"]) == rows(element + column + GEOMETRY.bus_latency)
    assert labels(found["results"]) == rows(GEOMETRY.result_latency)
    assert labels(found["parameters"]) == rows(GEOMETRY.param_latency)
    assert labels(found["write"]) == rows(GEOMETRY.param_latency + WRITE_STAGE)
    assert tile_pixels(64, 1, 1, GEOMETRY).gap == 2 and "would be followed by a `gap` of 2" in " ".join(TEXT.split())


def test_bursts_are_requested_as_the_fifo_has_room() -> None:
    found = diagram("arvalid", "rlast")
    memory, burst = TINY.memory, TINY.memory.burst_beats
    ahead = memory.read_fifo_beats // burst
    taken = list(found["beat"])
    assert cycles(found["arvalid"], "1") == [*range(ahead), taken[burst - 1] + 1]
    assert found["beat"] == {cycle: str(beat) for beat, cycle in enumerate(taken)}
    first = memory.latency
    assert min(found["rdata"]) == min(cycles(found["rvalid"], "1")) == first
    assert cycles(found["rlast"], "1") == [first + burst - 1]
    assert taken[0] == min(cycles(found["beat_valid"], "1")) == first + FIFO_LATENCY
    words = taken[GEOMETRY.descriptor_beats :]
    assert cycles(found["loader"], "LOAD") == words
    assert list(found["write"]) == [cycle + 1 for cycle in words if cycle < max(words)]
    plan, timing = timed(zoo.smallcnn())
    # the timing model's cycle 0 is the one before the counter's
    assert words[0] + plan.steps[0].load_words == timing.step_ends[0]


def test_layers_have_the_cycles_and_counters_of_the_timing_model() -> None:
    _, timing = timed(zoo.smallcnn())
    head = re.search(r"^\| layer \| cycles \| (.*) \|$", TEXT, re.MULTILINE)
    assert head
    names = head[1].split(" | ")
    rows = {name: [number(cell) for cell in cells] for name, *cells in rows_after("layer")}
    *layers, behind, every = rows
    assert [(name, rows[name][0], rows[name][1]) for name in layers] == [
        (layer.name, layer.cycles, layer.compute_cycles) for layer in timing.layers
    ]
    assert all(row[0] == sum(row[1:]) for row in rows.values())
    totals = [sum(rows[name][i] for name in [*layers, behind]) for i in range(len(names) + 1)]
    assert totals == rows[every] == [timing.total_cycles, *(timing.counters[name] for name in names)]
    (again, small), text = timed(zoo.smallcnn(size=4)), " ".join(TEXT.split())
    assert f"has {small.counters['wait_pass']} cycles of `wait_pass` in {small.total_cycles:,}" in text
    conv = again.steps[3]
    assert again.layers[conv.layer].name == "conv2"
    assert f"is computed in {conv.passes[0].tiling.issue} cycles" in text
    beats = GEOMETRY.header_beats + GEOMETRY.param_block_beats + GEOMETRY.weight_beats(conv.passes[0].steps)
    assert f"its {beats} beats" in text


def spans(found: Lanes, name: str) -> dict[int, str]:
    """First cycles of what a lane of a diagram that is not to scale shows, and what."""
    begins = [number(label) for label in found["from cycle"].values()]
    shown = dict(zip(begins, found[name].values(), strict=True))
    return {begin: what for i, (begin, what) in enumerate(shown.items()) if not i or shown[begins[i - 1]] != what}


def test_the_life_of_a_layer() -> None:
    found = diagram("wait_pass", "issue", "drain", "fetch")
    plan, timing = timed(zoo.smallcnn())
    executor, loader = spans(found, "executor"), spans(found, "loader")
    load, conv = timing.step_ends[0] - 1, timing.step_ends[1] - 1
    assert executor[conv] == "END" and list(spans(found, "layer_done")) == [0, conv]
    assert loader[load + 1] == "D"
    runs = [begin for begin, state in executor.items() if state == "RUN"]
    issue = plan.steps[1].passes[0].tiling.issue
    assert len(runs) == len(plan.steps[1].passes) == 3
    assert runs[1:] == [begin + issue + PASS_CYCLES for begin in runs[:-1]]
    (drain,) = (begin for begin, state in executor.items() if state == "DRAIN")
    assert drain == runs[-1] + issue
    assert conv - drain == GEOMETRY.param_latency + TINY.rows - 1 + WRITE_STAGE + 2 == 30
    assert list(loader.values()) == ["D", "LOAD", "D", "p0", "p1", "wait", "p2", "D"]


def test_counters_follow_the_states() -> None:
    states = {"issue": {"RUN"}, "wait_pass": {"PASS", "P"}, "drain": {"DRAIN", "END"}, "load": {"FETCH"}}
    diagrams = [found for found in map(lanes, BLOCKS) if "from cycle" in found]
    assert len(diagrams) == 2
    for found in diagrams:
        for counter in states.keys() & found.keys():
            counted = {place for place, state in found["executor"].items() if state in states[counter]}
            if counter == "load":
                counted &= {place for place, state in found["loader"].items() if state == "LOAD"}
            assert {place for place, shown in found[counter].items() if shown == "1"} == counted, counter


def test_a_short_window_is_followed_by_a_gap() -> None:
    plan, timing = timed(zoo.smallcnn(size=4))
    found = diagram("window_end", "executor")
    (step,) = (i for i, each in enumerate(plan.steps) if each.layer == 4)
    tiling = plan.steps[step].passes[0].tiling
    assert (tiling.count, tiling.cycles, tiling.gap) == (4, 4, 4)
    begin = 1 + PASS_CYCLES
    period = tiling.cycles + tiling.gap
    reads = [begin + window * period + cycle for window in range(tiling.count) for cycle in range(tiling.cycles)]
    assert cycles(found["advance"], "1") == reads == cycles(found["executor"], "RUN")
    assert cycles(found["window_end"], "1") == reads[tiling.cycles - 1 :: tiling.cycles]
    assert f"cycle {timing.step_ends[step - 1]:,} of its run" in TEXT  # one behind the end of the step before


SPILLED = zoo.smallcnn(size=64, channels=136)


def test_a_load_runs_beside_a_store() -> None:
    plan, timing = timed(SPILLED)
    ops = [step.op.name for step in plan.steps[1:4]]
    assert ops == ["CONV", "STORE", "LOAD"] and plan.steps[3].early
    conv, store, load = (end - 1 for end in timing.step_ends[1:4])
    (overlap,) = (each for each in map(lanes, BLOCKS) if "from cycle" in each and "fetch" not in each)
    executor, loader = spans(overlap, "executor"), spans(overlap, "loader")
    (begin,) = (first for first, state in loader.items() if state == "LOAD")
    assert begin + plan.steps[3].load_words - 1 == load and loader[load + 1] == "D"
    (run,) = (first for first, state in executor.items() if state == "RUN")
    (drain,) = (first for first, state in executor.items() if state == "DRAIN")
    assert run == conv + 1 + 1 + PASS_CYCLES and drain == run + plan.steps[2].store_words
    assert store == drain + drain_cycles(GEOMETRY) + 1 and executor[store + 1] == "FETCH"
    text = " ".join(TEXT.split())
    assert f"begins in cycle {begin:,}." in text
    assert f"idle, in cycle {store + 1:,}, and begun in {store + 2:,}, {store + 2 - begin} cycles later" in text
    assert f"(cycle {conv:,} of the run)" in text

    found = diagram("awvalid, wvalid", "bvalid")
    asked = run - conv
    offered = asked + STORE_LATENCY + FIFO_LATENCY
    assert min(found["word"]) == asked + READ_LATENCY and min(found["beat"]) == asked + STORE_LATENCY
    assert cycles(found["awvalid, wvalid"], "1")[0] == min(found["wdata"]) == offered
    assert cycles(found["bvalid"], "1")[0] == offered + TINY.memory.latency
    assert cycles(found["loading"], "1")[0] == begin - conv == min(found["write"]) - 1


class Signals:
    """Signals of a window of a run, by what the counter `total` shows."""

    def __init__(self, network: Network, first: int, end: int, folder: Path) -> None:
        integers = random_network(network, band_ratio(TINY), act_bits=TINY.act_bits, seed=0)
        codes = np.random.default_rng(1).integers(0, 1 << integers.input.bits, (1, *integers.input.shape))
        result = cosim.run_network(TINY, integers, codes, recording=request(f"{first}:{end}", folder / "w.vcd"))
        assert result.exact
        waves = read_vcd(folder / "w.vcd")
        self._first, self._begin = first, waves.times[0]
        self._changes = {re.sub(r"\[[\d:]*\]$", "", name): waves.changes[key] for name, key in waves.names.items()}

    def at(self, name: str, cycle: int) -> int:
        """The value in a cycle, after its first edge."""
        changes = self._changes[DUT + name]
        time = self._begin + (cycle - self._first + 1) * PERIOD
        value = changes[bisect_left(changes, time, key=itemgetter(0)) - 1][1]
        assert isinstance(value, int), (name, cycle, value)
        return value

    def agree(self, name: str, lane: dict[int, str], begin: int = 0) -> None:
        """Every 0 and 1 of a lane is what the signal has, and labels stand where it is not 0."""
        for cycle, shown in lane.items():
            found = self.at(name, begin + cycle)
            assert (found != 0) == (shown != "0"), (name, cycle, shown, found)


@pytest.fixture(scope="module")
def conv1(tmp_path_factory: pytest.TempPathFactory) -> Signals:
    return Signals(zoo.smallcnn(), 0, 620, tmp_path_factory.mktemp("hardware"))


def test_array_does_what_is_drawn(conv1: Signals) -> None:
    tau = next(cycle for cycle in range(620) if conv1.at("window.advance", cycle))
    read = diagram("advance", "word", "load 0")
    conv1.agree("window.advance", read["advance"], tau)
    for cycle, shown in read["load 0"].items():
        assert (conv1.at("array.load", tau + cycle) & 1) == int(shown)
        assert (conv1.at("array.load", tau + cycle) >> 3) == int(read["load 3"].get(cycle, "0"))
    words = [conv1.at("aligner.word", tau + cycle) for cycle in read["word"]]

    def operand(row: int, column: int, element: int, cycle: int) -> int:
        return conv1.at(f"array.row_{row}.a__{column}", tau + cycle) >> 4 * element & 15

    for name, lane in read.items():
        if " code " in name:
            row, column, element = map(int, re.findall(r"\d", name))
            for cycle, step in lane.items():
                tap, group = divmod(int(step[1:]), GEOMETRY.groups)
                word = words[tap * TINY.columns + column]
                expected = word >> GEOMETRY.group_bits * group >> 4 * element & 15
                assert operand(row, column, element, cycle) == expected, (name, cycle)

    weights = diagram("row 0 step_addr")
    base = conv1.at("array.row_0.step_addr", tau + 3)
    for row in (0, 1):
        for cycle, step in weights[f"row {row} step_addr"].items():
            assert conv1.at(f"array.row_{row}.step_addr", tau + cycle) == base + int(step[1:])
    bank = [conv1.at("array.row_0.weight_bank_0.read_data", tau + cycle) for cycle in weights["row 0 read_data"]]
    assert bank == [conv1.at("array.row_0.weight_bank_0.read__data", tau + cycle) for cycle in weights["row 0 memory"]]
    for column, element in ((0, 0), (0, 1), (1, 0)):
        seen = [
            conv1.at(f"array.row_0.pe_{column}.w", tau + cycle) >> 4 * element & 15
            for cycle in weights[f"(0,{column}) weight {element}"]
        ]
        assert seen == [word >> 4 * element & 15 for word in bank]

    sums = diagram("accumulator", "done")
    for signal in ("first", "done"):
        conv1.agree(f"array.row_0.pe_0.{signal}", sums[signal], tau)
    (seen_at,) = cycles(sums["result"], "s0-s7")
    total = list(sums["accumulator"])[-1]
    result = conv1.at("array.row_0.pe_0.result", tau + seen_at)
    assert result == conv1.at("array.row_0.pe_0.accumulator", tau + total) != 0
    assert all(conv1.at("array.row_0.pe_0.result", tau + cycle) == 0 for cycle in cycles(sums["result"], "0"))

    drain = diagram("bus 0", "results")
    conv1.agree("window.last", drain["last"], tau)
    for column in range(TINY.columns):
        lane = drain["results"]
        assert all(conv1.at(f"array.results__{column}", tau + cycle) == 0 for cycle in cycles(lane, "0"))
        for cycle in cycles(lane, "r5"):
            at_element = cycle - GEOMETRY.result_latency + FEED_LATENCY + GEOMETRY.pe_latency + column
            assert conv1.at(f"array.row_5.result__{column}", tau + at_element) == conv1.at(
                f"array.results__{column}", tau + cycle
            )
    begin, end = min(drain["advance"]), max(drain["advance"])
    for cycle in range(begin, end + 1):
        assert conv1.at("post.active", tau + cycle) == int(cycle in drain["parameters"])
        written = conv1.at("post.write_en__0", tau + cycle) != 0
        assert written == (cycle in drain["write"])


def test_bursts_and_layers_are_as_drawn(conv1: Signals) -> None:
    burst = diagram("arvalid", "rlast")
    for signal in ("arvalid", "arready", "rvalid", "rlast"):
        conv1.agree(f"m_axi_{signal}", burst[signal])
    for signal in ("beat_valid", "beat_ready"):
        conv1.agree(f"loader.{signal}", burst[signal])
    for cycle in range(len(burst["arvalid"])):
        assert conv1.at("loader.load_valid", cycle) == int(cycle in burst["write"])
    life = diagram("wait_pass", "issue", "drain", "fetch")
    begins = [number(label) for label in life["from cycle"].values()]
    counters = {"issue": 1, "wait_pass": 3, "drain": 4, "fetch": 5, "load": 6}
    for i, (begin, end) in enumerate(zip(begins, [*begins[1:], begins[-1] + 1], strict=True)):
        for name, place in counters.items():
            counter = f"executor.counters__{place}"
            counted = conv1.at(counter, end) - conv1.at(counter, begin)
            assert counted == (end - begin) * int(life[name][i]), (name, begin)
    assert [conv1.at("executor.layer_done", cycle) for cycle in (614, 615, 616)] == [0, 1, 0]
    assert [conv1.at("executor.pass_done", cycle) for cycle in (352, 353, 354)] == [0, 1, 0]


def test_gaps_are_as_drawn(tmp_path: Path) -> None:
    found = diagram("window_end", "executor")
    begin = 2003
    signals = Signals(zoo.smallcnn(size=4), begin, begin + 40, tmp_path)
    signals.agree("executor.advance", found["advance"], begin)
    for cycle in cycles(found["window_end"], "1"):
        assert signals.at("window.window_end", begin + cycle) == 1


@pytest.mark.slow
def test_store_and_load_are_as_drawn(tmp_path: Path) -> None:
    found = diagram("awvalid, wvalid", "bvalid")
    begin = 41_642
    signals = Signals(SPILLED, begin, begin + 40, tmp_path)
    for name, lane in {
        "executor.layer_done": "layer_done",
        "executor.advance": "advance",
        "m_axi_awvalid": "awvalid, wvalid",
        "m_axi_wvalid": "awvalid, wvalid",
        "m_axi_bvalid": "bvalid",
        "loader.loading": "loading",
    }.items():
        signals.agree(name, found[lane], begin)
    for name, lane in {"store.load": "word", "store.beat_valid": "beat", "loader.load_valid": "write"}.items():
        for cycle in range(len(found["advance"])):
            assert signals.at(name, begin + cycle) == int(cycle in found[lane]), (name, cycle)

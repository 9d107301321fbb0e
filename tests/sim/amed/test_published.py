"""AMED's simulator: its tables and its appendix, and the exact mode."""

from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from codesign.errors import UserError
from codesign.sim.amed import published as amed
from codesign.sim.amed.accelerator import accelerator, accelerator_names
from codesign.sim.amed.exact import EXACT_HEADER, compare_modes, exact_latency
from codesign.sim.amed.networks import PUBLISHED_NETWORKS, TABLE_BITS, published_form, published_network
from codesign.sim.amed.published import (
    LatencyTable,
    allocation,
    allocations,
    appendix_c,
    paper_latencies,
    published_reports,
    published_table,
    shipped_table,
)
from codesign.sim.ideal.array import report_text
from codesign.sim.ideal.cycles import Dataflow
from codesign.workload import Conv, Network, zoo

PUBLISHED = Path(amed.__file__).parent / "data" / "appendix_c.csv"
SCALE_SIM = accelerator("scale_sim")


def table_of(network: str) -> LatencyTable:
    return published_table(published_network(network), SCALE_SIM)


def test_appendix_c_row_by_row() -> None:
    with PUBLISHED.open() as file:
        golden = list(csv.DictReader(file))
    header, lines = appendix_c()
    assert header[1:] == ("Total Cycles", "Stall Cycles", "Overall Util %", "Mapping Efficiency %", "Compute Util %")
    assert len(lines) == len(golden) == 53
    names = ("layer_id", "amed_total_cycles", "amed_stall")
    percentages = ("amed_overall_util_pct", "amed_mapping_eff_pct", "amed_compute_util_pct")
    for line, row in zip(lines, golden, strict=True):
        assert line[:3] == [int(row[name]) for name in names]
        assert line[3:] == pytest.approx([float(row[name]) for name in percentages], rel=1e-8)


def test_the_network_of_appendix_c() -> None:
    with PUBLISHED.open() as file:
        golden = list(csv.DictReader(file))
    keys = ("ifmap_h", "ifmap_w", "filter_h", "filter_w", "channels", "num_filters", "stride", "stride")
    for layer, row in zip(published_network("mobilenetv2").at(4).layers, golden, strict=True):
        assert layer.name == row["name"]
        sizes = (layer.ifmap_h, layer.ifmap_w, layer.filter_h, layer.filter_w, layer.channels, layer.filters)
        assert (*sizes, layer.stride_h, layer.stride_w) == tuple(int(row[key]) for key in keys)


def test_the_shipped_table_is_computed() -> None:
    """All 80 entries, from sizes alone; the 2-bit column with multiplied strides instead of divided filters."""
    shipped, computed = shipped_table(), table_of("resnet18")
    assert len(shipped.layers) == len(computed.layers) == 20
    assert [name.replace("shortcut", "downsample") for name in shipped.layers] == list(computed.layers)
    for theirs, ours in zip(shipped.entries, computed.entries, strict=True):
        assert set(theirs) == set(ours) == set(TABLE_BITS)
        for bits in TABLE_BITS:
            assert ours[bits] == pytest.approx(theirs[bits], rel=1e-8)
    divided = published_table(replace(published_network("resnet18"), two_bits="filters"), SCALE_SIM)
    assert divided.entries[1][2] > 13 * shipped.entries[1][2]


@pytest.mark.parametrize(
    ("network", "layer", "entries"),
    [  # lines of Latency_table_resnet50.csv and Latency_table_mobilenetv2_100.csv
        ("resnet50", 0, (5.933039566600944, 6.950036265461825, 12.596619240704884, 12.989501100294678)),
        ("resnet50", 3, (10.451087521030457, 11.852628306398698, 18.414395425916084, 30.463143693779763)),
        ("resnet50", 13, (22.34778442140224, 32.12245854834259, 46.74139691443485, 89.61611911229348)),
        ("resnet50", 46, (7.116621933405582, 11.438504668742857, 16.849343075981306, 35.7282807707273)),
        ("resnet50", 52, (0.097575, 0.126275, 0.189415, 0.367355)),
        ("mobilenetv2", 0, (9.236491403760706, 11.496562638212318, 10.14523927448413, 10.946957343054011)),
        ("mobilenetv2", 7, (68.76371995885955, 77.91745953384878, 112.1871434203073, 199.8505700868944)),
        ("mobilenetv2", 34, (0.655745, 0.918045, 31.988546355799937, 123.59060848689366)),
        ("mobilenetv2", 51, (0.042015, 0.053475, 0.080215, 0.152795)),
    ],
)
def test_tables_of_the_other_networks(network: str, layer: int, entries: tuple[float, ...]) -> None:
    computed = table_of(network).entries[layer]
    assert [computed[bits] for bits in TABLE_BITS] == pytest.approx(entries, rel=1e-12)


@pytest.mark.parametrize("shipped", [True, False])
def test_sums_equal_table_2_of_the_paper(shipped: bool) -> None:
    table = shipped_table() if shipped else table_of("resnet18")
    paper = paper_latencies("resnet18")
    assert paper == {"8/8": 34.97, "4/4": 24.4, "hawqv2": 32.83, "mckp": 28.05, "ddq": 29.03}
    exact = {"8/8": 34.98007, "4/4": 24.46716, "hawqv2": 32.84155, "mckp": 28.06573, "ddq": 29.04725}
    for method, printed in paper.items():
        got = table.latency_ms(allocation("resnet18", method))
        assert got == pytest.approx(exact[method], abs=1e-5)
        assert abs(got - printed) < (0.1 if method == "4/4" else 0.02)  # 24.467 is printed as 24.4


def test_sums_of_the_other_networks() -> None:
    table, paper = table_of("resnet50"), paper_latencies("resnet50")
    for method, printed in paper.items():
        assert table.latency_ms(allocation("resnet50", method)) == pytest.approx(printed, abs=0.05)
    table, paper = table_of("mobilenetv2"), paper_latencies("mobilenetv2")
    for method, printed in paper.items():  # a fraction of their own, not the tenth of the others
        assert printed / table.latency_ms(allocation("mobilenetv2", method)) == pytest.approx(0.0367 * 10, rel=0.002)


def test_bits_between_are_interpolated() -> None:
    table = shipped_table()
    first = table.entries[0]
    for bits, share in ((5, 0.25), (6, 0.5), (7, 0.75)):
        expected = 0.1 * ((1 - share) * first[4] + share * first[8])
        assert table.layer_ms(bits)[0] == pytest.approx(expected)
    by_name = dict.fromkeys(table.layers, 4) | {"conv1": 2}
    assert table.latency_ms(by_name) == pytest.approx(table.latency_ms(4) - 0.1 * (first[4] - first[2]))


@pytest.mark.parametrize(
    ("bits", "message"),
    [
        (9, "layer 'conv1': 9 bits given, must be 2 to 8"),
        ([8] * 19, "19 bit widths given, must be 20"),
        ({"conv1": 8}, "has no bits, must be the 20 layers conv1 to layer4.1.conv2"),
        (dict.fromkeys(shipped_table().layers, 4) | {"stem": 3}, "'stem' is not a layer"),
    ],
)
def test_wrong_bits_are_refused(bits: amed.Allocation, message: str) -> None:
    with pytest.raises(UserError, match=f"AMED's table of resnet18: .*{message}|{message}"):
        shipped_table().latency_ms(bits)


def test_unknown_names_are_refused() -> None:
    with pytest.raises(UserError, match="tpu: no such configuration, must be .* one of eyeriss_v1, scale_sim, "):
        accelerator("tpu")
    with pytest.raises(UserError, match="AMED has no network 'vgg', must be one of resnet18, resnet50, mobilenetv2"):
        published_network("vgg")
    with pytest.raises(UserError, match="allocation '8/4' of resnet18 is not known, must be one of mckp, ddq, hawqv2"):
        allocation("resnet18", "8/4")
    with pytest.raises(UserError, match="5 bits given, must be one of 2, 3, 4, 8"):
        published_network("resnet18").at(5)
    assert allocation("resnet50", "3/3") == 3 and allocations("vgg") == {}


def test_the_accelerators_of_table_1() -> None:
    rows = {
        "scale_sim": (32, 32, "os", 64, 200.0),
        "scale_sim_low_memory": (32, 32, "os", 4, 100.0),
        "eyeriss_v1": (12, 14, "ws", 108, 200.0),
    }
    assert list(accelerator_names()) == list(rows)
    for name, (height, width, flow, kb, clock) in rows.items():
        found = accelerator(name)
        assert (found.array.rows, found.array.columns, found.array.dataflow) == (height, width, Dataflow(flow))
        memories = found.array.memories
        assert (memories.ifmap_kb, memories.filter_kb, memories.ofmap_kb) == (kb, kb, kb)
        assert (found.clock_mhz, found.bandwidth_words, found.word_bits) == (clock, 10, 16)
    assert str(accelerator("eyeriss_v1")) == "eyeriss_v1: 12x14 ws, 108 + 108 + 108 KB, 200 MHz"


def test_tables_and_reports_as_text() -> None:
    text = shipped_table().csv_text()
    assert text.splitlines()[0] == ",latency_2,latency_3,latency_4,latency_8"
    packaged = Path(amed.__file__).parent / "data"
    assert text == (packaged / "Latency_table_resnet18.csv").read_text()
    assert "MIT License" in (packaged / "LICENSE").read_text()
    result = published_reports(published_network("resnet18"), accelerator("eyeriss_v1"), 3, replay_limit=0)
    assert len(report_text(result.compute_report()).splitlines()) == 22
    assert result.topology.name == "resnet18_3" and result.topology.layers[0].filters == 22


# ---------------------------------------------------------------- exact


def chain(channels: int = 8) -> Network:
    return zoo.smallcnn(size=8, width=channels)


def test_exact_layers_by_hand() -> None:
    """conv2 of smallcnn: 16 filters of 3x3x8 on a padded 6x6 map, 4-bit weights packed in pairs, 8 columns used."""
    result = exact_latency(chain(), SCALE_SIM, {"conv1": 8, "conv2": 4, "conv3": 3, "fc": 5})
    first, second, third, last = result.layers
    assert [x.input_bits for x in result.layers] == [8, 4, 3, 5]
    assert [x.output_bits for x in result.layers] == [4, 3, 5, 16]
    assert second.compute_cycles == 72 + 32 + 32 - 2  # one fold: 16 pixels, 8 columns
    assert second.ifmap_cycles == -(-6 * 6 * 8 * 4 // 160)
    assert second.filter_cycles == -(-72 * 16 * 4 // 160)
    assert second.ofmap_cycles == -(-16 * 16 * 3 // 160)
    assert (second.cycles, second.bound) == (134, "compute")
    assert first.ifmap_cycles == -(-10 * 10 * 8 // 160) and third.bits == 3
    assert last.ofmap_cycles == -(-10 * 16 // 160)
    assert result.cycles == sum(x.cycles for x in result.layers)
    assert result.latency_ms == pytest.approx(result.cycles / 200e3)
    header, lines = result.report()
    assert header == EXACT_HEADER and all(len(line) == len(header) for line in lines)


def test_what_does_not_fit_is_fetched_again() -> None:
    network = zoo.resnet18()
    normal, low = (exact_latency(network, accelerator(name), 8) for name in ("scale_sim", "scale_sim_low_memory"))
    for large, small in zip(normal.layers, low.layers, strict=True):
        assert small.compute_cycles == large.compute_cycles
        assert small.ifmap_cycles >= large.ifmap_cycles and small.filter_cycles >= large.filter_cycles
    conv = normal.layers[6]  # layer2.0.conv2: 784 pixels, 128 filters of 1152; 147,456 bytes of weights in 4 blocks
    assert conv.name == "layer2.0.conv2"
    assert conv.filter_cycles == -(-1152 * 128 * 8 * 25 // 160)  # a block of 36 KB is not half of 64 KB: 25 row folds
    assert conv.ifmap_cycles == -(-30 * 30 * 128 * 8 * 4 // 160)


def test_depthwise_layers_are_depthwise() -> None:
    network = zoo.get("mobilenetv2")
    exact = exact_latency(network, SCALE_SIM, 8)
    assert len(exact.layers) == len(network.weighted) == 53
    depthwise = next(layer for layer in network.weighted if isinstance(layer, Conv) and layer.groups > 1)
    timed = next(x for x in exact.layers if x.name == depthwise.name)
    pixels = network.shapes[depthwise.name][1] * network.shapes[depthwise.name][2]
    assert timed.compute_cycles == depthwise.groups * -(-pixels // 32) * (9 + 62)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(2, 8), min_size=4, max_size=4), st.sampled_from(list(accelerator_names())))
def test_bits_matter_as_they_should(bits: list[int], name: str) -> None:
    network, on = chain(24), accelerator(name)
    latency = exact_latency(network, on, bits)
    for layer in latency.layers:
        assert layer.cycles == max(layer.compute_cycles, layer.ifmap_cycles, layer.filter_cycles, layer.ofmap_cycles)
        assert min(layer.compute_cycles, layer.ifmap_cycles, layer.filter_cycles, layer.ofmap_cycles) > 0
    wider = exact_latency(network, on, [min(8, width + 1) for width in bits])
    if on.array.dataflow is Dataflow.OS:
        assert wider.cycles >= latency.cycles
    assert [x.bits for x in latency.layers] == bits


def test_an_allocation_without_the_classifier() -> None:
    network = zoo.resnet18()
    with_classifier = exact_latency(network, SCALE_SIM, [*allocations("resnet18")["mckp"], 8])
    assert exact_latency(network, SCALE_SIM, allocations("resnet18")["mckp"]) == with_classifier
    with pytest.raises(UserError, match="network 'resnet18': 3 bit widths given, must be 21"):
        exact_latency(network, SCALE_SIM, [8, 8, 8])


@pytest.mark.parametrize("name", ["smallcnn", *PUBLISHED_NETWORKS])
def test_the_difference_of_the_modes(name: str) -> None:
    network = zoo.get(name)
    difference = compare_modes(network, SCALE_SIM, 8)
    assert difference.exact_ms == pytest.approx(exact_latency(network, SCALE_SIM, 8).latency_ms)
    assert difference.exact_ms == pytest.approx(sum(exact for _, _, exact in difference.layers))
    known = name in PUBLISHED_NETWORKS
    table = table_of(name) if known else published_table(published_form(network), SCALE_SIM)
    assert difference.published_ms == pytest.approx(table.latency_ms(8))
    assert difference.ratio == pytest.approx(difference.published_ms / difference.exact_ms)
    assert [layer for layer, _, _ in difference.layers] == [layer.name for layer in network.weighted]
    assert [layer for layer, published, _ in difference.layers if published is None] == [network.weighted[-1].name]


def test_any_network_in_the_form_of_amed() -> None:
    form = published_form(zoo.resnet18())
    assert form.topology == published_network("resnet18").topology
    mobile = published_form(zoo.get("mobilenetv2")).topology.layers
    assert all(layer.groups == 1 for layer in mobile)
    assert mobile[1].channels == mobile[1].filters == 32

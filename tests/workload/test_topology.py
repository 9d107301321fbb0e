from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from codesign.errors import UserError
from codesign.workload import Conv, Flatten, Input, Linear, Network, zoo
from codesign.workload.topology import (
    CONV_HEADER,
    GEMM_HEADER,
    Topology,
    TopologyLayer,
    gemm_layer,
    parse_topology,
    read_topology,
    topology_of,
    topology_text,
    write_topology,
)


def parse(*lines: str, header: str = CONV_HEADER) -> Topology:
    return parse_topology("\n".join((header, *lines)), "net.csv", "net")


def error(text: str) -> str:
    with pytest.raises(UserError) as caught:
        parse_topology(text, "net.csv", "net")
    message = str(caught.value)
    assert message.startswith("net.csv: ") and "\n" not in message
    return message


def test_convolutions_are_read() -> None:
    topology = parse("Conv1, 224, 225, 11, 7, 3, 96, 4,")
    assert topology == Topology("net", (TopologyLayer("Conv1", 224, 225, 11, 7, 3, 96, 4, 4),))
    layer = topology.layers[0]
    assert (layer.ofmap_h, layer.ofmap_w) == (55, 56)  # ceil(217 / 4), ceil(222 / 4)
    assert (layer.m, layer.k, layer.n) == (55 * 56, 231, 96)
    assert topology.macs == 55 * 56 * 231 * 96


def test_matrix_products_are_read_in_the_order_m_n_k() -> None:
    topology = parse("QKT, 10, 20, 30,", header=GEMM_HEADER)
    assert topology.layers == (gemm_layer("QKT", m=10, n=20, k=30),)
    layer = topology.layers[0]
    assert (layer.m, layer.k, layer.n, layer.macs) == (10, 30, 20, 6000)


@pytest.mark.parametrize(
    "text",
    [
        CONV_HEADER + "\nA,8,9,3,2,4,5,1,\nB,4,4,1,1,5,6,2,\n",
        "\n" + CONV_HEADER.lower() + "\r\n\r\n  A , 8 ,9,3,2,4,5,1 , \r\nB,4,4,1,1,5,6,2,# dw\n\n",
        CONV_HEADER.removesuffix(",").replace("Num Filter", "Num Filters") + "\n\tA,8,9,3,2,4,5,1\nB,4,4,1,1,5,6,2\n",
        CONV_HEADER + " Sparsity,\nA,8,9,3,2,4,5,1,1:1,\nB,4,4,1,1,5,6,2,\n",
        CONV_HEADER + " Batch size,\nA,8,9,3,2,4,5,1,1,\nB,4,4,1,1,5,6,2,\n",
        CONV_HEADER.replace("Strides", "Stride Height, Stride Width") + "\nA,8,9,3,2,4,5,1,1,\nB,4,4,1,1,5,6,2,2,",
        CONV_HEADER.replace("Channels", "channel").replace("Filter,", "filters,")
        + "\nA,8,9,3,2,4,5,1\nB,4,4,1,1,5,6,2",
        CONV_HEADER.replace("Height, IFMAP", "Width, IFMAP", 1) + "\nA,8,9,3,2,4,5,1,\nB,4,4,1,1,5,6,2,",
        CONV_HEADER.replace("Filter Height", "Filter Width") + "\nA,8,9,3,2,4,5,1,\nB,4,4,1,1,5,6,2,",
        CONV_HEADER + ",,Eh,Ew,e2\nA,8,9,3,2,4,5,1,,,6,8,48\nB,4,4,1,1,5,6,2\n",
    ],
)
def test_the_ways_a_file_is_written(text: str) -> None:
    expected = (TopologyLayer("A", 8, 9, 3, 2, 4, 5), TopologyLayer("B", 4, 4, 1, 1, 5, 6, 2, 2))
    assert parse_topology(text, "net.csv", "net").layers == expected


def test_a_layer_named_dp_runs_once_for_every_channel() -> None:
    layer = parse("Conv_DP1, 10, 10, 3, 3, 6, 2, 1,").layers[0]
    assert (layer.channels, layer.filters, layer.groups) == (1, 2, 6)
    assert layer.macs == 6 * 64 * 9 * 2


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("", ["empty", CONV_HEADER, GEMM_HEADER]),
        (" \n\n# nothing\n", ["empty"]),
        (CONV_HEADER, ["line 1", "no layer"]),
        (CONV_HEADER + "\nA,8,8,3,3,4,5\n", ["line 2", "'Strides' is missing", "7 of 8"]),
        (CONV_HEADER + "\n\nA,8,8,3,3,4,5,1,7,\n", ["line 3", "9 values given", "'7'", "must be 8"]),
        (CONV_HEADER + "\nA,8,8,3,3,-4,5,1,\n", ["line 2", "'Channels'", "'-4' given", "whole number from 1"]),
        (CONV_HEADER + "\nA,8,8,3,3,4,0,1,\n", ["line 2", "'Num Filter'", "'0' given"]),
        (CONV_HEADER + "\nA,8.5,8,3,3,4,5,1,\n", ["line 2", "'IFMAP Height'", "'8.5' given"]),
        (CONV_HEADER + "\nA,8,8,3,3,4,five,1,\n", ["line 2", "'Num Filter'", "'five' given"]),
        (CONV_HEADER + "\nA,8,8,3,3,4,,1,\n", ["line 2", "'Num Filter'", "nothing given"]),
        (CONV_HEADER + f"\nA,8,8,3,3,4,{10**12},1,\n", ["line 2", "'Num Filter'", "268,435,456"]),
        (CONV_HEADER + "\nA,8,8,9,3,4,5,1,\n", ["line 2", "'Filter Height'", "9 given", "at most the IFMAP Height, 8"]),
        (CONV_HEADER + "\nA,8,8,3,9,4,5,1,\n", ["line 2", "'Filter Width'", "9 given", "IFMAP Width, 8"]),
        (CONV_HEADER + "\n,8,8,3,3,4,5,1,\n", ["line 2", "'Layer name'", "nothing given"]),
        (CONV_HEADER.replace("Channels", "Chans") + "\n", ["line 1", "column 6 'Chans' given", "'Channels'"]),
        (CONV_HEADER.replace(" Strides,", "") + "\nA,8,8,3,3,4,5,\n", ["line 1", "column 8 missing", "'Strides'"]),
        (CONV_HEADER + " Colour,\nA,8,8,3,3,4,5,1,1,\n", ["line 1", "'Colour' given", "Sparsity, Batch size"]),
        (CONV_HEADER + " Sparsity,\nA,8,8,3,3,4,5,1,1:4,\n", ["line 2", "'Sparsity'", "'1:4' given", "must be 1:1"]),
        (CONV_HEADER + ",,Eh\nA,8,8,3,3,4,5,1,2,,6\n", ["line 2", "column 9 has no title", "'2' given"]),
        (CONV_HEADER + "\n,,,,,,,\nA,8,8,3,3,4,5,1\n", ["line 2", "nothing but commas"]),
        (
            CONV_HEADER.replace("Height, IFMAP Width", "Width, IFMAP Height", 1) + "\n",
            ["line 1", "column 2 'IFMAP Width'"],
        ),
        ("Layer, M, K, N,\nA,1,2,3,\n", ["line 1", "column 3 'K' given", "must be 'N'", GEMM_HEADER]),
        (GEMM_HEADER + "\nA,1,2,\n", ["line 2", "'K' is missing", "3 of 4"]),
        ("A,8,8,3,3,4,5,1,\n", ["line 1", "column 1 'A' given", "must be 'Layer name'"]),
    ],
)
def test_what_is_wrong_is_said_in_one_line(text: str, parts: list[str]) -> None:
    message = error(text)
    for part in parts:
        assert part in message


def test_files(tmp_path: Path) -> None:
    path = tmp_path / "some_net.csv"
    topology = topology_of(zoo.resnet8())
    write_topology(topology, path)
    assert read_topology(path) == Topology("some_net", topology.layers)
    assert path.read_text().startswith(CONV_HEADER + "\nconv1, 34, 34, 3, 3, 3, 16, 1,\n")
    with pytest.raises(UserError, match=r"missing\.csv: no such file"):
        read_topology(tmp_path / "missing.csv")
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    assert read_topology(path).layers == topology.layers  # a byte order mark, as spreadsheets write it
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UserError, match=r"some_net\.csv: not a topology: not a text file"):
        read_topology(path)


@pytest.mark.parametrize("name", zoo.names())
def test_a_network_keeps_its_products(name: str) -> None:
    network = zoo.get(name)
    topology = topology_of(network)
    gemms = network.gemms()
    assert [layer.name for layer in topology.layers] == [gemm.name for gemm in gemms]
    for layer, gemm in zip(topology.layers, gemms, strict=True):
        assert (layer.m, layer.k, layer.groups * layer.n) == (gemm.n, gemm.k, gemm.m)
    assert topology.macs == network.macs
    again = parse_topology(topology_text(topology), "text", name)
    assert again.macs == topology.macs


def test_padding_and_groups_of_a_network() -> None:
    network = Network(
        "small",
        (
            Input("image", (), channels=4, height=6, width=7),
            Conv("wide", ("image",), out_channels=8, kernel=(3, 1), stride=(2, 1), padding=(1, 0, 0, 2), groups=2),
            Conv("deep", ("wide",), out_channels=16, kernel=(2, 2), groups=8),
            Flatten("flat", ("deep",)),
            Linear("fc", ("flat",), out_features=5),
        ),
    )
    topology = topology_of(network)
    assert topology.layers[0] == TopologyLayer("wide", 7, 9, 3, 1, 2, 4, 2, 1, groups=2)
    assert topology.layers[1] == TopologyLayer("deep", 3, 9, 2, 2, 1, 2, 1, 1, groups=8)
    assert topology.layers[2] == TopologyLayer("fc", 1, 1, 1, 1, 16 * 2 * 8, 5)
    again = parse_topology(topology_text(topology), "text", "small").layers
    assert [layer.name for layer in again] == ["wide_group0", "wide_group1", "DP_deep", "fc"]
    assert (again[2].channels, again[2].groups, again[2].filters) == (1, 8, 2)
    assert sum(layer.macs for layer in again) == network.macs


def test_only_depthwise_layers_are_written_as_dp() -> None:
    text = topology_text(Topology("t", (TopologyLayer("ADP", 3, 3, 1, 1, channels=2, filters=4),)))
    assert parse_topology(text, "text", "t").layers[0] == TopologyLayer("Adp", 3, 3, 1, 1, channels=2, filters=4)


def test_a_network_without_weights_is_refused() -> None:
    network = Network("empty", (Input("image", (), channels=1, height=2, width=2), Flatten("flat", ("image",))))
    with pytest.raises(UserError, match="network 'empty': no layer with weights"):
        topology_of(network)
    with pytest.raises(UserError, match="layer 'a,b': a name in a CSV file has no comma"):
        topology_text(Topology("t", (gemm_layer("a,b", 1, 1, 1),)))


@st.composite
def layers(draw: st.DrawFn) -> TopologyLayer:
    sizes = st.integers(1, 40)
    height, width = draw(sizes), draw(sizes)
    depthwise = draw(st.booleans())
    name = draw(st.text("abDPxyz_.0123456789", min_size=1, max_size=8).filter(lambda text: "DP" not in text))
    return TopologyLayer(
        f"DP{name}" if depthwise else name,
        height,
        width,
        draw(st.integers(1, height)),
        draw(st.integers(1, width)),
        1 if depthwise else draw(sizes),
        draw(sizes),
        *(draw(sizes), draw(sizes)),
        groups=draw(sizes) if depthwise else 1,
    )


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])  # machines differ
@given(st.lists(layers(), min_size=1, max_size=6))
def test_text_is_read_back(drawn: list[TopologyLayer]) -> None:
    topology = Topology("t", tuple(drawn))
    assert parse_topology(topology_text(topology), "text", "t") == topology


def test_a_topology_prints() -> None:
    text = str(parse("Conv1, 8, 8, 3, 3, 3, 96, 1,"))
    assert text.splitlines()[0] == "net: 1 layers, 93,312 MACs"
    assert "3x8x8  3x3 /1,1 -> 96" in text

"""Topologies that are chains become networks of the same sizes; others are refused by naming the layer."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from codesign.errors import UserError
from codesign.workload import Conv, Input, Linear, Network
from codesign.workload.layers import Flatten, Layer
from codesign.workload.topology import CONV_HEADER, GEMM_HEADER, parse_topology, topology_of
from codesign.workload.topology_network import network_of


@st.composite
def chains(draw: st.DrawFn) -> Network:
    """Convolutions one after the other, depthwise ones included, and perhaps a fully connected layer."""
    side = st.integers(1, 12)
    layers: list[Layer] = [Input("input", (), draw(st.integers(1, 6)), draw(side), draw(side))]
    shape = layers[0].output_shape(())
    for index in range(draw(st.integers(1, 4))):
        kernel = (draw(st.integers(1, 4)), draw(st.integers(1, 4)))
        stride = (draw(st.integers(1, 3)), draw(st.integers(1, 3)))
        pads = tuple(draw(st.integers(0, k - 1)) if index else 0 for k in (kernel[0], kernel[0], kernel[1], kernel[1]))
        depthwise = draw(st.booleans())
        conv = Conv(
            f"conv{index}",
            (layers[-1].name,),
            shape[0] if depthwise else draw(st.integers(1, 6)),
            kernel,
            stride,
            pads,  # type: ignore[arg-type]
            shape[0] if depthwise else 1,
        )
        try:
            shape = conv.output_shape((shape,))
        except UserError:  # the window does not fit
            break
        layers.append(conv)
    if len(layers) == 1:
        layers.append(Conv("pointwise", ("input",), 3))
        shape = (3, *shape[1:])
    if draw(st.booleans()):
        layers += [Flatten("flat", (layers[-1].name,)), Linear("fc", ("flat",), draw(st.integers(1, 5)))]
    return Network("chain", tuple(layers))


@settings(deadline=None)
@given(chains())
def test_a_chain_comes_back_with_its_sizes(network: Network) -> None:
    topology = topology_of(network)
    again = network_of(topology)
    sizes = [(x.name, x.m, x.k, x.n, x.groups) for x in topology.layers]
    assert [(x.name, x.m, x.k, x.n, x.groups) for x in topology_of(again).layers] == sizes
    if any(layer.channels > 1 for layer in topology.layers):  # else it may be a list of matrix products, too
        assert topology_of(again) == topology
    assert [(g.m, g.k, g.n, g.groups) for g in again.gemms()] == [(g.m, g.k, g.n, g.groups) for g in network.gemms()]


def test_matrix_products_are_pixels() -> None:
    network = network_of(parse_topology(f"{GEMM_HEADER}\na, 7, 20, 30,\nb, 7, 5, 20,\n", "g.csv", "g"))
    assert [(g.m, g.k, g.n) for g in network.gemms()] == [(20, 30, 7), (5, 20, 7)]


def test_padding_is_the_difference_of_sizes() -> None:
    lines = "a, 8, 8, 3, 3, 2, 4, 1,\nb, 9, 8, 4, 3, 4, 5, 1,\nfc, 1, 1, 1, 1, 180, 3, 1,"
    network = network_of(parse_topology(f"{CONV_HEADER}\n{lines}\n", "n.csv", "n"))
    second = network.layer("b")
    assert isinstance(second, Conv)
    assert second.padding == (1, 2, 1, 1)
    assert isinstance(network.output, Linear)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            f"{CONV_HEADER}\na, 8, 8, 3, 3, 2, 4, 1,\nb, 3, 3, 3, 3, 4, 5, 1,\n",
            "t.csv: layer 'b' reads 4x3x3, layer 'a' before it gives 4x6x6: layers must follow each other",
        ),
        (
            f"{CONV_HEADER}\na, 8, 8, 3, 3, 2, 4, 1,\nb, 6, 6, 3, 3, 3, 5, 1,\n",
            "layer 'b' reads 3x6x6, layer 'a' before it gives 4x6x6",
        ),
        (
            f"{CONV_HEADER}\na, 8, 8, 3, 3, 2, 4, 1,\nb, 12, 12, 3, 3, 4, 5, 1,\n",
            "layer 'b' reads 4x12x12, layer 'a' before it gives 4x6x6",
        ),
        (
            f"{GEMM_HEADER}\na, 7, 20, 30,\nb, 6, 5, 20,\n",
            "layer 'b' reads 20x6x1, layer 'a' before it gives 20x7x1",
        ),
        (f"{CONV_HEADER}\na, 8, 8, 3, 3, 2, 4, 1,\na, 6, 6, 3, 3, 4, 5, 1,\n", "'a': a second layer has this name"),
    ],
)
def test_what_is_no_chain(text: str, message: str) -> None:
    with pytest.raises(UserError, match=".") as caught:
        network_of(parse_topology(text, "t.csv", "t"), "t.csv")
    assert message in str(caught.value)

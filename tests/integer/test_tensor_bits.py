"""Bits of every stored tensor: who has which, what is tied, integers and cycles with all of them different."""

from __future__ import annotations

import numpy as np
import pytest

from codesign.arch.load import load_hardware
from codesign.errors import UserError
from codesign.formats.assignment import Assignment
from codesign.formats.row_format import FIXED4, RowFormat
from codesign.integer.fusing import fuse
from codesign.integer.layer_bits import assignment_of_bits, parse_bits
from codesign.integer.network import WIDE_BITS
from codesign.integer.random_network import random_network
from codesign.integer.tensor_bits import tensor_bits
from codesign.program import Planner, plan_network
from codesign.program.dealing import row_of
from codesign.sim.timing.network_timer import network_shape
from codesign.sim.timing.plan_timing import estimate
from codesign.workload import Conv, Flatten, Input, Linear, MaxPool, Network, Relu, zoo


def pooled() -> Network:
    return Network(
        "pooled",
        (
            Input("image", (), channels=3, height=8, width=8),
            Conv("first", ("image",), out_channels=6, kernel=(3, 3), padding=(1, 1, 1, 1)),
            Relu("relu", ("first",)),
            MaxPool("pool", ("relu",), kernel=(2, 2), stride=(2, 2)),
            Flatten("flat", ("pool",)),
            Linear("fc", ("flat",), out_features=4),
        ),
    )


def assigned(network: Network, tensors: dict[str, int], act_bits: int = 4) -> Assignment:
    return Assignment.uniform(network, FIXED4, act_bits).with_tensors(tensors)


def test_bits_by_name_others_by_default_results_wide() -> None:
    network = zoo.resnet8()
    fused = fuse(network)
    names = [item.output.name for item in fused.passes][:-1]
    chosen = {name: 2 + place % 3 for place, name in enumerate(names) if place % 2}
    bits = tensor_bits(fused, assigned(network, chosen))
    assert bits == {fused.input.name: 4} | dict.fromkeys(names, 4) | chosen | {fused.passes[-1].name: WIDE_BITS}


def test_a_max_pooling_has_its_inputs_bits() -> None:
    fused = fuse(pooled())
    bits = tensor_bits(fused, assigned(pooled(), {"first": 3}))
    assert bits["first"] == bits["pool"] == 3
    assert tensor_bits(fused, assigned(pooled(), {"first": 3, "pool": 3})) == bits
    with pytest.raises(UserError, match=r"^assignment: tensor 'pool' has 2 bits, .* its input 'first', 3: give both"):
        tensor_bits(fused, assigned(pooled(), {"first": 3, "pool": 2}))


def test_tensors_that_are_not_stored_are_refused() -> None:
    fused = fuse(pooled())
    with pytest.raises(UserError, match=r"^assignment: tensor .relu. is not stored by .*; it stores image, first"):
        tensor_bits(fused, assigned(pooled(), {"relu": 3}))
    with pytest.raises(UserError, match=r"^assignment: tensor 'fc' has 8 bits, but results of 'pooled' have 32"):
        tensor_bits(fused, assigned(pooled(), {"fc": 8}))
    with pytest.raises(UserError, match=r"tensor 'first': 17 activation bits; allowed are 1 to 16"):
        assigned(pooled(), {"first": 17})


def test_random_networks_have_the_bits_and_the_planned_cycles() -> None:
    network, hw = zoo.resnet8(), load_hardware("tiny")
    fused = fuse(network)
    rng = np.random.default_rng(3)
    names = [fused.input.name, *(item.output.name for item in fused.passes[:-1])]
    assignment = assigned(network, {name: int(rng.integers(2, hw.act_bits + 1)) for name in names}, hw.act_bits)
    integers = random_network(network, assignment, seed=1)
    bits = tensor_bits(fused, assignment)
    assert {name: integers.tensor(name).bits for name in bits} == bits
    shape = network_shape(network, assignment)
    plan = Planner(shape, hw).plan([[row_of(form) for form in assignment[conv.name]] for conv in shape.convs])
    assert estimate(plan).total_cycles == estimate(plan_network(integers, hw)).total_cycles


def test_bits_layer_by_layer() -> None:
    assert parse_bits("8/4") == ((8, 4),)
    assert parse_bits("8/8, 4/3") == ((8, 8), (4, 3))
    assignment = assignment_of_bits(pooled(), ((8, 6), (3, 2)))
    assert assignment["first"] == (RowFormat.parse("fixed8"),) * 6
    assert assignment["fc"] == (RowFormat.parse("fixed3"),) * 4
    assert tensor_bits(fuse(pooled()), assignment) == {"image": 6, "first": 2, "pool": 2, "fc": WIDE_BITS}
    assert assignment_of_bits(pooled(), ((4, 4),)) == Assignment.uniform(pooled(), FIXED4, 4)


@pytest.mark.parametrize("text", ["4", "4/", "9/4", "1/4", "4/4,", "٤/4", "4/4/4", "x" * 5000])
def test_what_bits_may_be(text: str) -> None:
    with pytest.raises(UserError, match=r"^bits: '.{0,40}' given, must be WEIGHTS/ACTIVATIONS, each 2 to 8"):
        parse_bits(text)


def test_layers_that_read_one_map_agree() -> None:
    network = zoo.resnet8()
    layers = [item.name for item in fuse(network).convs]
    with pytest.raises(UserError, match=r"^bits: 2 pairs given, network 'resnet8' has \d+ layers"):
        assignment_of_bits(network, ((4, 4), (4, 4)))
    bits = tuple((4, 2 + place % 3) for place in range(len(layers)))
    with pytest.raises(UserError, match=r"^bits: layers '.*' and '.*' read the same map '.*', but are given"):
        assignment_of_bits(network, bits)

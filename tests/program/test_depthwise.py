"""Steps of the depthwise unit: which layers it takes, windows that leave sums time to leave, weights in the stream."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from codesign.arch.depthwise import Depthwise
from codesign.arch.hardware import Hardware
from codesign.arch.load import load_hardware
from codesign.arch.scheme import Scheme
from codesign.errors import UserError
from codesign.formats.row_format import RowFormat
from codesign.integer.fusing import fuse
from codesign.program.dealing import row_of
from codesign.program.depthwise import windows_of
from codesign.program.plan import Plan
from codesign.program.planner import Planner
from codesign.program.shapes import shape_of_fused
from codesign.rtl.geometry import Geometry
from codesign.rtl.layout import Op
from codesign.sim.energy import estimate_energy, unit_energies
from codesign.sim.timing.plan_timing import estimate
from codesign.workload import zoo


def hardware(**unit: int) -> Hardware:
    """The small configuration with groups of four, and a unit."""
    data = load_hardware("tiny").model_dump(mode="json") | {"dot": 4, "depthwise": unit}
    return Hardware.model_validate(data | {"buffers": data["buffers"] | {"read_ports": unit.get("readers", 1)}})


def planned(hw: Hardware, form: RowFormat, network: str = "dscnn") -> Plan:
    """The plan of a network all of whose filters have one format."""
    planner = Planner(shape_of_fused(fuse(zoo.get(network)), 4), hw)
    return planner.plan([[row_of(form)] * conv.filters for conv in planner.network.convs])


def operations(plan: Plan) -> list[Op]:
    """Of the layers' steps."""
    return [step.op for step in plan.steps if step.layer >= 0]


@settings(max_examples=300, deadline=None, derandomize=True)
@given(
    columns=st.integers(1, 16),
    more=st.integers(0, 6),
    dot=st.sampled_from([1, 2, 4, 8]),
    pixels=st.integers(1, 200),
    reads=st.integers(1, 60),
)
def test_no_tile_leaves_before_the_one_before_it_has_left(
    columns: int, more: int, dot: int, pixels: int, reads: int
) -> None:
    """Walked window by window, twice: lines of a window's sums, and channels of a tile, need as many cycles."""
    base = load_hardware("xc7z045")
    blocks = 1 << max(0, (-(-columns // dot) - 1).bit_length())
    groups = -(-(columns + more) // blocks) * blocks
    hw = base.model_copy(update={"columns": columns, "groups": groups, "dot": dot, "depthwise": Depthwise()})
    geometry = Geometry(hw)
    channels = geometry.word_elements
    windows = windows_of(pixels, reads, channels, geometry)
    assert pixels <= windows.number <= -(-pixels // columns) * columns
    assert windows.tiling.issue == windows.number * reads
    now, ends, tiles = 0, [], []
    for _ in range(2):
        for number in range(1, windows.number + 1):
            now += reads
            ends.append(now)
            over = number % columns == 0 or number == windows.number
            if over:
                tiles.append(now)
            now += windows.tiling.gap if windows.spaced or over else 0
    assert all(after - before >= geometry.channel_lines for before, after in pairwise(ends))
    assert all(after - before >= channels for before, after in pairwise(tiles))
    assert 2 * windows.tiling.length == now


def test_the_unit_takes_what_it_holds() -> None:
    fixed4, fixed8, pot5 = RowFormat(Scheme.FIXED, 4), RowFormat(Scheme.FIXED, 8), RowFormat(Scheme.POT, 5)
    depthwise = operations(planned(hardware(), fixed4)).count(Op.DEPTHWISE)
    assert depthwise == 4 + 1  # and the average at the end
    assert operations(planned(hardware(weight_bits=4), fixed8)).count(Op.DEPTHWISE) == 1
    assert operations(planned(hardware(taps=8), fixed4)).count(Op.DEPTHWISE) == 1  # 3 x 3 taps are nine
    assert Op.AVG_POOL not in operations(planned(hardware(), fixed4))
    with pytest.raises(UserError, match="pot5"):
        planned(hardware(), pot5)


def test_a_unit_makes_depthwise_layers_faster_and_two_readers_faster_still() -> None:
    form = RowFormat(Scheme.FIXED, 4)
    without = hardware().model_copy(update={"depthwise": None})
    cycles = [estimate(planned(hw, form)).total_cycles for hw in (without, hardware(), hardware(readers=2))]
    assert cycles == sorted(cycles, reverse=True)
    assert cycles[1] < 0.8 * cycles[0]


def test_energy_counts_the_units_products() -> None:
    """Places of a word times cycles, of four bits by eight: nothing of it is the array's."""
    plan = planned(hardware(), RowFormat(Scheme.FIXED, 4))
    units = unit_energies()
    energy = estimate_energy(plan, units)
    (step,) = [step for step in plan.steps if step.layer == 1]
    places = sum(item.tiling.issue for item in step.passes) * plan.hw.word_elements
    outputs = 64 * plan.layers[1].n
    requantized = outputs * (plan.hw.acc_bits + 1) * plan.hw.multiplier_bits
    expected = (places * 4 * 8 + requantized) * units.multiply_pj_per_bit2
    assert energy.layers[1].products_pj == pytest.approx(expected)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"dataflow": "ws"}, "depthwise: given, must be left out with 'dataflow: ws'"),
        ({"dot": 3}, "depthwise: given with dot 3, must be left out unless dot is a power of two"),
        ({"columns": 5, "groups": 6, "dot": 2}, "must be left out unless groups are a multiple of 4"),
        ({"acc_bits": 14}, "acc_bits: 14 given with depthwise, must be at least 15"),
        ({"depthwise": {"readers": 2}}, "depthwise.readers: 2 given, must be 1 with buffers.read_ports 1"),
        ({"depthwise": {"weight_bits": 9}}, "9 given, must be an integer from 2 to 8"),
        ({"depthwise": {"taps": 12}}, "12 given, must be a power of two from 4 to 256"),
        ({"depthwise": {"tap": 16}}, "tap"),
        ({"dot": 16, "depthwise": {"weight_bits": 8}}, "16 weights of 8 bits make 128 bits, must be at most"),
    ],
)
def test_what_cannot_be_is_said(change: dict[str, object], message: str) -> None:
    data = load_hardware("tiny").model_dump(mode="json") | {"depthwise": {}, "bands": SMALL}
    with pytest.raises(ValueError, match=message.replace("(", r"\(")):
        Hardware.model_validate(data | change)


SMALL = [{"scheme": "fixed", "weight_bits": 2, "rows": 2, "multiplier": "lut"}]


def test_a_unit_is_in_the_file_and_in_the_hash() -> None:
    plain, unit = load_hardware("tiny"), hardware()
    assert "depthwise" not in plain.to_yaml()
    assert "depthwise" not in plain.canonical_json()
    assert "depthwise" in unit.to_yaml()
    hashes = {hw.content_hash for hw in (hardware(), hardware(taps=32), hardware(readers=2), hardware(weight_bits=4))}
    assert len(hashes) == 4

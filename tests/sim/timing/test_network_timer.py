"""Many assignments at once: each as the timing of its whole plan, and dealt as filters are one by one."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

import numpy as np
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from codesign.arch.band import Band
from codesign.arch.hardware import Hardware
from codesign.arch.load import load_hardware
from codesign.arch.result_pooling import ResultPooling
from codesign.arch.scheme import Scheme
from codesign.errors import UserError
from codesign.formats.assignment import Assignment
from codesign.formats.row_format import FIXED4, FIXED8, POT4, TERNARY, RowFormat
from codesign.program import Planner
from codesign.program.dealing import Narrow, choice_of, deal_counts, deal_filters, places_of, row_of
from codesign.program.shapes import NetworkShape, shape_of, with_bits
from codesign.program.strips import Found, Schedules
from codesign.rtl.geometry import Geometry
from codesign.sim.timing.network_timer import Cycles, NetworkTimer, estimate_hardware, estimate_many, network_shape
from codesign.sim.timing.plan_timing import estimate
from codesign.workload import zoo
from tests.sim.strategies import networks, weight_formats
from tests.sim.timing.test_sequencer import hardware

SLOW = settings(
    max_examples=50, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large]
)


@st.composite
def bands(draw: st.DrawFn) -> list[Band]:
    schemes = [(Scheme.FIXED, 4), (Scheme.FIXED, 8), (Scheme.POT, 4), (Scheme.TERNARY, 2), (Scheme.FIXED, 3)]
    chosen = draw(st.lists(st.sampled_from(schemes), min_size=1, max_size=4))
    found = [Band(scheme=scheme, weight_bits=bits, rows=draw(st.integers(1, 7))) for scheme, bits in chosen]
    if paired := draw(st.integers(0, 2)):  # rows of 4 bits that also hold filters of 8 bits two by two
        place = draw(st.integers(0, len(found)))
        found.insert(place, Band(scheme=Scheme.FIXED, weight_bits=4, rows=2 * draw(st.integers(1, 4)), pairs=True))
    if paired < 2:
        found.append(Band(scheme=Scheme.FIXED, weight_bits=8, rows=draw(st.integers(1, 3))))
    return found


@settings(max_examples=300, deadline=None)
@given(given_bands=bands(), data=st.data())
def test_counts_are_dealt_as_filters_are(given_bands: list[Band], data: st.DataObject) -> None:
    formats = (FIXED4, FIXED8, POT4, TERNARY)
    counts = np.array(data.draw(st.lists(st.tuples(*[st.integers(0, 40)] * 4), min_size=1, max_size=5)))
    choices = [choice_of(row_of(form), given_bands) for form in formats]
    found = deal_counts(counts, choices, given_bands)
    for mine, of_bands in zip(counts.tolist(), found.tolist(), strict=True):
        rows = [row_of(form) for form, count in zip(formats, mine, strict=True) for _ in range(count)]
        shuffled = data.draw(st.permutations(rows))
        assert [len(filters) for filters in deal_filters("layer", shuffled, given_bands)] == of_bands


@settings(max_examples=200, deadline=None)
@given(given_bands=bands(), output=st.booleans(), data=st.data())
def test_filters_over_narrow_codes_are_dealt_as_counted(
    given_bands: list[Band], output: bool, data: st.DataObject
) -> None:
    """Two lines for a filter, where rows have one weight for a place; filters that write one place stay together."""
    narrow = Narrow(input=True, output=output)
    given_bands = [
        band.model_copy(update={"rows": 2 * band.rows, "crumbs": band.scheme is Scheme.FIXED and bool(i % 2)})
        for i, band in enumerate(given_bands)
    ]
    held = [form for form in (FIXED4, FIXED8, POT4, TERNARY) if choice_of(row_of(form), given_bands, narrow=narrow)]
    assume(held)
    form = data.draw(st.sampled_from(held))
    count = data.draw(st.integers(1, 90))
    places = places_of(given_bands, narrow)
    dealt = deal_filters("layer", [row_of(form)] * count, given_bands, narrow=narrow)
    items = -(-count // 2) if output else count
    choices = [choice_of(row_of(form), given_bands, narrow=narrow)]
    (counted,) = deal_counts(np.array([[items]]), choices, given_bands, narrow).tolist()
    assert [-(-len(filters) // 2) if output else len(filters) for filters in dealt] == counted
    assert sorted(f for filters in dealt for f in filters) == list(range(count))
    for filters, place in zip(dealt, places, strict=True):
        for begin in range(0, len(filters), max(1, place.rows)):
            rows = place.in_rows(filters[begin : begin + place.rows])
            assert len(rows) <= given_bands[place.band].rows
            used = [i for i, f in enumerate(rows) if f >= 0]
            assert used[-1] + 1 == place.used_rows(len(filters[begin : begin + place.rows]))
        if output:
            assert all(f % 2 or f + 1 in filters or f + 1 == count for f in filters)
            assert place.rows % 2 == 0


def check(timer: NetworkTimer, shape: NetworkShape, hw: Hardware, rows: list[list[RowFormat]], found: Cycles) -> None:
    """The first of `found` is the timing of the whole plan, on a sequencer that knows nothing yet."""
    timing = estimate(Planner(shape, hw).plan([[row_of(form) for form in mine] for mine in rows]))
    assert found.total[0] == timing.total_cycles
    assert found.layers[0].tolist() == [layer.cycles for layer in timing.layers]
    assert {name: values[0] for name, values in found.counters.items()} == timing.counters
    assert tuple(found.band_busy[0]) == timing.band_busy


def pooling(columns: int, words: int, ring: int, result_rows: int) -> Hardware:
    """An accelerator that pools results as they leave, on which little fits."""
    band = Band(scheme=Scheme.FIXED, weight_bits=4, rows=8, multiplier="lut")
    data = load_hardware("tiny").model_dump(mode="json") | {
        "name": "pooling",
        "columns": columns,
        "groups": columns + 1,
        "dot": 4,
        "result_rows": result_rows,
        "result_pooling": {"width": 4 * columns},
        "bands": [band.model_dump(mode="json")],
        "buffers": {"activation_words": words, "weight_words": ring, "read_ports": 1},
    }
    data["memory"] |= {"width_bits": 256}
    return Hardware.model_validate(data)


@settings(SLOW, max_examples=80)
@given(
    hw=hardware()
    | st.builds(
        pooling,
        st.sampled_from([2, 4]),
        st.sampled_from([32, 64, 256]),
        st.sampled_from([64, 256]),
        st.sampled_from([1, 2]),
    ),
    data=st.data(),
)
def test_every_assignment_is_timed_as_its_plan(hw: Hardware, data: st.DataObject) -> None:
    """Groups, strips, spilled maps, pooled results and small rings among them; one timer for several assignments."""
    shape = shape_of(data.draw(networks(hw, max_channels=24, max_side=9)))
    formats = sorted(RowFormat(scheme, bits) for scheme, bits in weight_formats(hw))
    try:
        timer = NetworkTimer(shape, hw)
    except UserError:
        return
    for _ in range(3):
        rows = [[data.draw(st.sampled_from(formats)) for _ in range(conv.filters)] for conv in shape.convs]
        assignment = Assignment.of([(c.name, mine) for c, mine in zip(shape.convs, rows, strict=True)], 8)
        ordered = [sorted(mine) for mine in rows]
        counts = np.array([[[mine.count(form) for form in formats] for mine in ordered]])
        for mine, timed in (
            (rows, partial(timer.assignment, assignment)),
            (ordered, partial(timer.cycles, formats, counts)),
        ):
            try:
                found = timed()
            except UserError:  # of either order the weights may be too many for a ring
                with pytest.raises(UserError):
                    Planner(shape, hw).plan([[row_of(form) for form in of_conv] for of_conv in mine])
                continue
            check(timer, shape, hw, mine, found)


FORMATS = {
    "xc7z020": (POT4, FIXED4, FIXED8),
    "xc7z020_ws": (POT4, FIXED4, FIXED8),
    "xc7z020_dense": tuple(RowFormat(Scheme.FIXED, bits) for bits in (2, 3, 4)),
}


@pytest.mark.parametrize(
    ("name", "base", "pools"),
    [
        *((name, base, False) for base in FORMATS for name in ("resnet8", "resnet18", "mobilenetv2")),
        ("resnet18", "xc7z020_dense", True),
        ("smallcnn", "xc7z020_dense", True),
    ],
)
def test_networks_of_the_zoo(name: str, base: str, pools: bool) -> None:
    pooling = ResultPooling(width=112) if pools else None
    hw = load_hardware(base).model_copy(update={"result_pooling": pooling})
    network = zoo.get(name)
    shape = network_shape(network, hw.act_bits)
    formats = FORMATS[base]
    rng = np.random.default_rng(1)
    counts = np.array([[rng.multinomial(conv.filters, (0.6, 0.3, 0.1)) for conv in shape.convs] for _ in range(4)])
    found = estimate_many(network, hw, formats, counts)
    for one in (0, 3):
        rows = [
            [form for form, count in zip(formats, mine, strict=True) for _ in range(count)]
            for mine in counts[one].tolist()
        ]
        timing = estimate(Planner(shape, hw).plan([[row_of(form) for form in mine] for mine in rows]))
        assert found.total[one] == timing.total_cycles
        assert tuple(found.band_busy[one]) == timing.band_busy
        idle = [layer.name for layer in timing.layers if not layer.cycles]
        assert idle == ([layer.name for layer in shape.layers if layer.name in ("pool", "maxpool")] if pools else [])


def test_many_accelerators() -> None:
    tiny = load_hardware("tiny")
    small = tiny.model_copy(update={"buffers": tiny.buffers.model_copy(update={"activation_words": 16})})
    wide = tiny.model_copy(update={"dot": 4})
    ratio = {POT4: 2.0, FIXED4: 1.0}
    found = list(estimate_hardware(zoo.get("smallcnn"), [(hw, ratio) for hw in (tiny, small, wide)]))
    assert [hw for hw, _ in found] == [tiny, small, wide]
    assert isinstance(found[1][1], UserError)
    assert isinstance(found[0][1], Cycles)
    assert isinstance(found[2][1], Cycles)
    assert found[2][1].total[0] < found[0][1].total[0]


def test_what_is_no_assignment_is_said() -> None:
    tiny, network = load_hardware("tiny"), zoo.get("smallcnn")
    timer = NetworkTimer(network, tiny)
    right = timer.counts({FIXED4: 1.0})
    with pytest.raises(UserError, match=r"^counts of shape .* must be \(assignments, \d+, 2\), none negative$"):
        timer.cycles((FIXED4, POT4), right)
    with pytest.raises(UserError, match=r"^assignment 0: layer '.*' has \d+ rows, network 'smallcnn' \d+$"):
        timer.cycles((FIXED4,), right + 1)
    with pytest.raises(UserError, match=r"a filter has fixed7 weights, .*; |fixed"):
        timer.cycles((RowFormat(Scheme.FULL, 8),), right)
    good = Assignment.uniform(network, FIXED4, 4)
    with pytest.raises(UserError, match=r"is not in it"):
        timer.assignment(Assignment.of({name: good[name] for name in list(good.rows)[1:]}, 4))
    first, rows = next(iter(good.rows)), good[next(iter(good.rows))]
    with pytest.raises(UserError, match=rf"^assignment: layer '{first}' has 1 rows"):
        timer.assignment(Assignment.of({name: good[name] for name in good.rows} | {first: rows[:1]}, 4))


def with_modes(words: int, groups: int, ports: int, ring: int, unit: bool = False) -> Hardware:
    """Codes of 4 and 8 bits, pairs of rows, and bands of other kinds; `ports` readers; perhaps a depthwise unit."""
    bands = (
        Band(scheme=Scheme.FIXED, weight_bits=4, rows=4, pairs=True),
        Band(scheme=Scheme.BINARY, weight_bits=1, rows=2),
        Band(scheme=Scheme.FIXED, weight_bits=8, rows=1),
    )
    data = load_hardware("tiny").model_dump(mode="json") | {
        "name": "modes",
        "columns": groups // 2 + 1 if ports == 2 else 2,
        "groups": groups,
        "dot": 4,
        "act_bits": 4,
        "act_modes": [4, 8],
        "bands": [band.model_dump(mode="json") for band in bands],
        "buffers": {"activation_words": words, "weight_words": ring, "read_ports": ports},
        "depthwise": {"readers": ports} if unit else None,
    }
    return Hardware.model_validate(data)


@settings(SLOW, max_examples=25)
@given(
    hw=st.builds(
        with_modes,
        st.sampled_from([32, 64, 256]),
        st.sampled_from([4, 6]),
        st.integers(1, 2),
        st.sampled_from([16, 256]),
        st.booleans(),
    ),
    data=st.data(),
)
def test_bits_of_maps_are_timed_as_their_plans(hw: Hardware, data: st.DataObject) -> None:
    """Strips, spilled and copied maps, and inputs of both widths among them; several assignments at once."""
    shape = shape_of(data.draw(networks(hw, max_channels=24, max_side=9)))
    formats = (RowFormat(Scheme.BINARY, 1), FIXED4, FIXED8)
    try:
        timer = NetworkTimer(shape, hw)
    except UserError:
        return
    size = 4
    bits = np.array(
        data.draw(
            st.lists(
                st.lists(st.integers(2, 8), min_size=len(timer.tensors), max_size=len(timer.tensors)),
                min_size=size,
                max_size=size,
            )
        )
    )
    rows = [
        [sorted(data.draw(st.sampled_from(formats)) for _ in range(conv.filters)) for conv in shape.convs]
        for _ in range(size)
    ]
    shapes = []
    for mine in bits.tolist():
        chosen = dict(zip(timer.tensors, mine, strict=True))
        for layer in shape.layers:
            if layer.output.name not in chosen and not layer.output.wide:
                chosen[layer.output.name] = chosen[layer.input]
        shapes.append(with_bits(shape, chosen))
    counts = np.array([[[of.count(form) for form in sorted(formats)] for of in mine] for mine in rows])
    plans: list[int] = []
    for one, each in enumerate(shapes):
        try:
            Planner(each, hw).plan([[row_of(form) for form in of] for of in rows[one]])
        except UserError:
            with pytest.raises(UserError):
                timer.cycles(sorted(formats), counts[one : one + 1], bits[one : one + 1])
        else:
            plans.append(one)
    if not plans:
        return
    found = timer.cycles(sorted(formats), counts[plans], bits[plans])
    for place, one in enumerate(plans):
        mine = Cycles(
            found.total[place:],
            found.layers[place:],
            {name: values[place:] for name, values in found.counters.items()},
            found.band_busy[place:],
        )
        check(timer, shapes[one], hw, rows[one], mine)


@pytest.mark.parametrize(
    ("name", "words", "ports", "unit"),
    [
        ("resnet8", 1024, 1, False),
        ("resnet8", 2048, 2, False),
        ("smallcnn", 64, 1, False),
        ("dscnn", 512, 1, False),
        ("mobilenetv1_025", 2048, 1, False),
        ("mobilenetv1_025", 2048, 2, True),
    ],
)
def test_schedules_are_found_again_by_what_decides_about_them(name: str, words: int, ports: int, unit: bool) -> None:
    """Of many widths, those met before answer for others that differ where it makes no difference."""
    geometry = Geometry(with_modes(words, 4, ports, 256, unit))
    network, rng = network_shape(zoo.get(name), 4), np.random.default_rng(0)
    names = [tensor.name for tensor in network.maps]

    def what(find: Callable[[Mapping[str, int]], Found], widths: Mapping[str, int]) -> object:
        try:
            found = find(widths)
        except UserError as error:
            return str(error)
        steps = tuple((step.index, step.rows, step.kind, step.source, step.residual) for step in found.outline.steps)
        memories = tuple(memory for memory, _ in found.places) if geometry.second_reader else ()
        return found.spilled, found.joined, found.strips, memories, steps

    together, apart = (Schedules(network, geometry, words) for _ in range(2))
    seen = set()
    for often in (0.02, 0.1, 0.5) * 70:  # wider codes
        widths = dict(zip(names, (rng.random(len(names)) < often).astype(int).tolist(), strict=True))
        expected = what(apart.find, widths)
        assert what(together.timed, widths) == expected
        seen.add(expected)
    assert len(seen) > 1


def test_bits_that_no_code_holds_are_said() -> None:
    timer = NetworkTimer(zoo.get("smallcnn"), with_modes(256, 4, 1, 256))
    counts, bits = timer.counts({FIXED4: 1.0}), np.full((1, len(timer.tensors)), 4)
    assert timer.cycles((FIXED4,), counts, bits).total == timer.cycles((FIXED4,), counts).total
    with pytest.raises(UserError, match=r"^bits of shape \(1, \d\), must be \(1, \d\), all at least 1$"):
        timer.cycles((FIXED4,), counts, bits[:, 1:])
    bits[0, 1] = 9
    with pytest.raises(UserError, match=rf"^{timer.tensors[1]}: 9-bit activations, 'modes' has act_modes: \[4, 8\]$"):
        timer.cycles((FIXED4,), counts, bits)

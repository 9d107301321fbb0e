"""Assignments: counts per ratio, JSON, checks against a network, errors."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from codesign.errors import UserError
from codesign.formats.assignment import Assignment, parse_ratio, row_counts
from codesign.formats.row_format import FIXED4, FIXED8, POT4, RowFormat
from codesign.workload import zoo

PAPER = {POT4: 65.0, FIXED4: 30.0, FIXED8: 5.0}
FORMATS = st.sampled_from(
    [RowFormat.parse(text) for text in ("pot3", "pot4", "pot5", "fixed2", "fixed4", "fixed6", "fixed8")]
)


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        (1, (0, 0, 1)),
        (2, (1, 0, 1)),
        (10, (6, 3, 1)),
        (16, (10, 5, 1)),
        (20, (13, 6, 1)),
        (21, (13, 6, 2)),
        (64, (41, 19, 4)),
        (1000, (650, 300, 50)),
    ],
)
def test_the_papers_ratio(rows: int, expected: tuple[int, int, int]) -> None:
    """5 % to Fixed-8 rounded up, the rest 65:30 by largest remainder."""
    counts = row_counts(rows, PAPER)
    assert (counts[POT4], counts[FIXED4], counts[FIXED8]) == expected


@given(
    rows=st.sampled_from([1, 2, 3, 7, 16, 64, 509]),
    ratio=st.dictionaries(FORMATS, st.floats(0, 100), min_size=1),
)
def test_counts_fill_the_layer_close_to_the_ratio(rows: int, ratio: dict[RowFormat, float]) -> None:
    whole = sum(ratio.values())
    if whole == 0:
        with pytest.raises(UserError, match="not all zero"):
            row_counts(rows, ratio)
        return
    counts = row_counts(rows, ratio)
    assert counts.keys() == ratio.keys()
    assert sum(counts.values()) == rows
    for form, share in ratio.items():
        assert counts[form] >= 0
        assert share > 0 or counts[form] == 0
        # Each high-precision format may take one row more than its share from the others.
        assert abs(counts[form] - rows * share / whole) < 1 + len(ratio)


def test_one_fixed_format_is_not_rounded_up() -> None:
    assert row_counts(16, {POT4: 99.0, FIXED4: 1.0}) == {POT4: 16, FIXED4: 0}
    assert row_counts(16, {FIXED8: 1.0}) == {FIXED8: 16}
    assert row_counts(3, {POT4: 1.0, FIXED4: 0.0, FIXED8: 0.0}) == {POT4: 3, FIXED4: 0, FIXED8: 0}


def test_random_assignment_has_the_counts_in_every_layer() -> None:
    network = zoo.resnet8()
    first = Assignment.random(network, PAPER, 4, seed=1)
    first.check(network)
    for name, counts in first.counts().items():
        assert counts == {form: n for form, n in row_counts(network.weight_shape(name)[0], PAPER).items() if n}
    assert first == Assignment.random(network, PAPER, 4, seed=1)
    assert first != Assignment.random(network, PAPER, 4, seed=2)
    assert hash(first) == hash(Assignment.random(network, PAPER, 4, seed=1))
    assert first.shares()[POT4] == pytest.approx(0.62, abs=0.03)
    assert sum(first.shares().values()) == pytest.approx(1)


@given(st.dictionaries(st.text(min_size=1), st.lists(FORMATS, min_size=1), min_size=1), st.integers(1, 16))
def test_json_round_trip(layers: dict[str, list[RowFormat]], bits: int) -> None:
    assignment = Assignment(tuple((name, tuple(rows)) for name, rows in layers.items()), bits)
    assert Assignment.from_json(assignment.to_json()) == assignment


def test_json_is_short_and_print_is_readable() -> None:
    assignment = Assignment((("conv", (POT4,) * 3 + (FIXED8,)), ("fc", (FIXED4,) * 2)), 4)
    assert json.loads(assignment.to_json())["layers"] == {"conv": ["3*pot4", "fixed8"], "fc": ["2*fixed4"]}
    assert str(assignment).splitlines() == [
        "2 layers, 4-bit activations; rows: fixed4 33.3%, fixed8 16.7%, pot4 50.0%",
        "  conv  1 fixed8, 3 pot4",
        "  fc    2 fixed4",
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "not an assignment"),
        ('{"format": "other"}', "has no"),
        ('{"format": "codesign assignment", "act_bits": "4", "layers": {}}', '"act_bits"'),
        (
            '{"format": "codesign assignment", "act_bits": 4, "layers": {"a": "pot4"}}',
            "layer 'a' needs a list",
        ),
        ('{"format": "codesign assignment", "act_bits": 4, "layers": {"a": ["x*pot4"]}}', "not of the form"),
        (
            '{"format": "codesign assignment", "act_bits": 4, "layers": {"a": ["pot9"]}}',
            "layer 'a': row format 'pot9'",
        ),
        ('{"format": "codesign assignment", "act_bits": 4, "layers": {"a": []}}', "layer 'a' has no rows"),
        ('{"format": "codesign assignment", "act_bits": 0, "layers": {"a": ["pot4"]}}', "0 activation bits"),
    ],
)
def test_texts_that_are_no_assignment(text: str, message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        Assignment.from_json(text)
    assert "\n" not in str(caught.value)


def test_check_against_a_network() -> None:
    network = zoo.smallcnn()
    good = Assignment.uniform(network, POT4, 4)
    good.check(network)
    with pytest.raises(UserError, match="layer 'fc' is not in it"):
        Assignment(good.layers[:-1], 4).check(network)
    with pytest.raises(UserError, match="layer 'conv1' has 16 rows, network 'smallcnn' 5"):
        good.check(zoo.smallcnn(width=5))
    with pytest.raises(UserError, match="layer 'extra' is no weighted layer"):
        Assignment((*good.layers, ("extra", (POT4,))), 4).check(network)
    with pytest.raises(UserError, match="named twice"):
        Assignment((good.layers[0], good.layers[0]), 4)


def test_parse_ratio() -> None:
    assert parse_ratio("pot4:65, fixed4:30,fixed8:5") == PAPER
    for text, message in [
        ("pot4", "not FORMAT:SHARE"),
        ("pot4:x", "not FORMAT:SHARE"),
        ("pot9:1", "row format 'pot9'"),
        ("pot4:1,pot4:2", "appears twice"),
        ("pot4:0", "not all zero"),
        ("pot4:-1,fixed4:3", "not negative"),
        ("pot4:inf", "finite"),
    ]:
        with pytest.raises(UserError, match=message):
            parse_ratio(text)

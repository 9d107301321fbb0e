"""Assignments: counts per ratio, JSON, checks against a network, errors."""

from __future__ import annotations

import json
import pickle

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from codesign.errors import UserError
from codesign.formats.assignment import Assignment
from codesign.formats.ratio import parse_ratio, row_counts
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
    for name, counts in first.counts_by_layer().items():
        assert counts == {form: n for form, n in row_counts(network.weight_shape(name)[0], PAPER).items() if n}
    assert first == Assignment.random(network, PAPER, 4, seed=1)
    assert first != Assignment.random(network, PAPER, 4, seed=2)
    assert hash(first) == hash(Assignment.random(network, PAPER, 4, seed=1))
    assert first.shares()[POT4] == pytest.approx(0.62, abs=0.03)
    assert sum(first.shares().values()) == pytest.approx(1)


@given(st.dictionaries(st.text(min_size=1), st.lists(FORMATS, min_size=1), min_size=1), st.integers(1, 16))
def test_json_round_trip(layers: dict[str, list[RowFormat]], bits: int) -> None:
    assignment = Assignment.of(layers, bits)
    assert Assignment.from_json(assignment.to_json()) == assignment


def test_json_is_short_and_print_is_readable() -> None:
    assignment = Assignment.of({"conv": (POT4,) * 3 + (FIXED8,), "fc": (FIXED4,) * 2}, 4, {"conv": 8, "fc": 4})
    assert json.loads(assignment.to_json()) == {
        "format": "codesign assignment",
        "version": 2,
        "act_bits": 4,
        "palette": {"a": "fixed4", "b": "fixed8", "c": "pot4"},
        "tensors": {"conv": 8},
        "rows": {"conv": "cccb", "fc": "aa"},
    }
    assert str(assignment).splitlines() == [
        "2 layers, 4-bit activations, conv 8; rows: fixed4 33.3%, fixed8 16.7%, pot4 50.0%",
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
    pairs = [(name, good[name]) for name in good.rows]
    with pytest.raises(UserError, match="layer 'fc' is not in it"):
        Assignment.of(pairs[:-1], 4).check(network)
    with pytest.raises(UserError, match="layer 'conv1' has 16 rows, network 'smallcnn' 5"):
        good.check(zoo.smallcnn(width=5))
    with pytest.raises(UserError, match="layer 'extra' is no weighted layer"):
        Assignment.of([*pairs, ("extra", (POT4,))], 4).check(network)
    with pytest.raises(UserError, match="named twice"):
        Assignment.of([pairs[0], pairs[0]], 4)


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


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"version": 3}, r"version 3; this codesign reads 1 and 2"),
        ({"version": True}, r"version True"),
        ({"extra": 1}, r"key 'extra' is not one of format, version, act_bits, palette, tensors, rows"),
        ({"palette": ["pot4"]}, r'needs a mapping "palette"'),
        ({"palette": {"ab": "pot4"}}, r"palette: key 'ab' must be one letter or digit"),
        ({"palette": {"a": "pot9"}}, r"palette: row format 'pot9'"),
        ({"palette": {"b": "pot4"}}, r"layer 'conv' has 'a', which is not in the palette"),
        ({"rows": {"conv": "aaé"}}, r"which is not in the palette"),
        ({"rows": {"conv": ["a"]}}, r"layer 'conv' needs a text"),
        ({"rows": {"conv": ""}}, r"layer 'conv' has no rows"),
        ({"tensors": {"x": 4.0}}, r'"tensors: x" must be a number'),
        ({"tensors": {"x": 0}}, r"tensor 'x': 0 activation bits"),
        ({"act_bits": True}, r'"act_bits" must be a number'),
    ],
)
def test_texts_of_version_2_that_are_no_assignment(change: dict[str, object], message: str) -> None:
    good = json.loads(Assignment.of({"conv": (POT4,) * 3}, 4).to_json())
    assert Assignment.from_json(json.dumps(good))["conv"] == (POT4,) * 3
    with pytest.raises(UserError, match=message) as caught:
        Assignment.from_json(json.dumps(good | change))
    assert "\n" not in str(caught.value)


def test_version_1_is_read() -> None:
    text = '{"format": "codesign assignment", "act_bits": 4, "layers": {"a": ["2*pot4", "fixed8"]}}'
    assert Assignment.from_json(text) == Assignment.of({"a": (POT4, POT4, FIXED8)}, 4)
    rows = json.dumps(["999999*pot4"] * 3000)
    with pytest.raises(UserError, match="layer 'a' has more than 262,144 rows"):
        Assignment.from_json(f'{{"format": "codesign assignment", "act_bits": 4, "layers": {{"a": {rows}}}}}')


def test_what_is_equal_and_what_is_written_down() -> None:
    palette = (POT4, FIXED4, FIXED8)
    one = Assignment(palette, {"a": np.array([0, 1, 0], dtype=np.uint8)}, 4, {"a": 4, "b": 8})
    assert one.palette == (FIXED4, POT4)  # ascending, and only what occurs
    assert one == Assignment.of({"a": (POT4, FIXED4, POT4)}, 4, {"b": 8})
    assert one != Assignment.of({"a": (POT4, FIXED4, POT4)}, 4)
    assert one != Assignment.of({"a": (POT4, POT4, FIXED4)}, 4, {"b": 8})
    assert pickle.loads(pickle.dumps(one)) == one
    assert one.counts().tolist() == [[1, 2]]
    assert (one.bits("a"), one.bits("b")) == (4, 8)
    with pytest.raises(ValueError, match="read-only"):
        one.rows["a"][0] = 1
    with pytest.raises(TypeError):
        one.rows["c"] = one.rows["a"]  # type: ignore[index]

"""Conditions: what they say, and that they can say nothing else."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from codesign.errors import UserError
from codesign.search.expressions import Condition

NAMES = ("rows", "columns", "dot", "dataflow")
VALUES = {"rows": 20, "columns": 4, "dot": 3, "dataflow": "ws"}


@pytest.mark.parametrize(
    ("text", "holds"),
    [
        ("rows * columns * dot <= 240", True),
        ("rows * columns * dot < 240", False),
        ("4 <= columns < 8", True),
        ("4 < columns < 8", False),
        ("dataflow == 'ws' and rows % 3 == 2", True),
        ("dataflow == 'os' or not rows >= 21", True),
        ("min(rows, columns) == 4 and max(rows, 30) == 30 and abs(-dot) == +3", True),
        ("rows // 3 / 2 == 3", True),
        ("dot", True),
        ("rows - 20", False),
    ],
)
def test_what_conditions_say(text: str, holds: bool) -> None:
    assert Condition.parse(text, NAMES).holds(VALUES) is holds


@settings(deadline=None)
@given(st.integers(-9, 9), st.integers(-9, 9), st.integers(-9, 9), st.sampled_from(["+", "-", "*"]))
def test_arithmetic_is_python_s(a: int, b: int, c: int, op: str) -> None:
    text = f"(rows {op} columns) * dot > {a}"
    values = {"rows": a, "columns": b, "dot": c, "dataflow": "os"}
    assert Condition.parse(text, NAMES).holds(values) == eval(text, {}, values)


@pytest.mark.parametrize(
    "text",
    [
        "__import__('os').system('true')",
        "rows.__class__",
        "(lambda: 1)()",
        "[x for x in (1, 2)]",
        "rows ** 9",
        "rows << 99",
        "open('x')",
        "min(*rows)",
        "min()",
        "rows if dot else columns",
        "rows[0]",
        "{1: 2}",
        "f'{rows}'",
        "True",
        "None",
        "rows is dot",
        "rows in (1, 2)",
        "(rows := 3)",
    ],
)
def test_all_else_is_refused(text: str) -> None:
    with pytest.raises(UserError, match="is not allowed|is not known"):
        Condition.parse(text, NAMES)


@pytest.mark.parametrize("text", ["rows <", "", "rows = 3", "1 +" * 300, "(" * 400, "a; b"])
def test_what_is_no_condition(text: str) -> None:
    with pytest.raises(UserError, match="is no condition|characters, must be at most"):
        Condition.parse(text, NAMES)


def test_unknown_names_are_named() -> None:
    with pytest.raises(UserError, match="'colums' is not known, must be one of rows.*did you mean 'columns'"):
        Condition.parse("colums <= 3", NAMES)


@pytest.mark.parametrize("text", ["rows / (dot - 3) > 1", "dataflow > 3", "dataflow + 1 == 2", "dataflow * 9 == 'a'"])
def test_values_that_do_not_fit(text: str) -> None:
    with pytest.raises(UserError, match="'.*': "):
        Condition.parse(text, NAMES).holds(VALUES)

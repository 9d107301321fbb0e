"""Conditions in YAML: arithmetic and comparisons of named numbers, and nothing else that Python can do."""

from __future__ import annotations

import ast
import operator
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from codesign.arch.checks import did_you_mean
from codesign.errors import UserError

_BINARY: dict[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
}
_COMPARE: dict[type[ast.cmpop], Callable[[Any, Any], bool]] = {
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
}
_CALLS: dict[str, Callable[..., Any]] = {"min": min, "max": max, "abs": abs}
ALLOWED = "numbers, names, + - * / // %, comparisons, and, or, not, min(), max(), abs()"
_MAX_LENGTH = 1000


@dataclass(frozen=True)
class Condition:
    """A condition such as `rows * columns <= 160`."""

    text: str

    @classmethod
    def parse(cls, text: str, known: Iterable[str]) -> Condition:
        """The condition in `text`; UserError (without the file's name) for what it may not hold or does not know."""
        found = cls(text)
        known = list(known)
        for name in sorted(found.names):
            if name not in known:
                raise UserError(
                    f"'{text}': '{name}' is not known, must be one of {', '.join(known)}{did_you_mean(name, known)}"
                )
        return found

    @cached_property
    def names(self) -> frozenset[str]:
        """Names of the numbers it needs."""
        found: set[str] = set()
        _check(self._tree, self.text, found)
        return frozenset(found)

    def holds(self, values: Mapping[str, float | str]) -> bool:
        """Whether it is true of `values`; UserError where it divides by zero or compares what cannot be compared."""
        try:
            return bool(_value(self._tree, values))
        except (ZeroDivisionError, TypeError, OverflowError) as error:
            raise UserError(f"'{self.text}': {error}") from None

    @cached_property
    def _tree(self) -> ast.expr:
        if len(self.text) > _MAX_LENGTH:
            raise UserError(f"'{self.text[:40]}...': {len(self.text)} characters, must be at most {_MAX_LENGTH}")
        try:
            return ast.parse(self.text.strip(), mode="eval").body
        except (SyntaxError, ValueError, RecursionError, MemoryError):
            raise UserError(f"'{self.text}' is no condition, must be of {ALLOWED}") from None


def _check(node: ast.expr, text: str, names: set[str]) -> None:
    """Refuse everything that is not allowed, and collect the names."""
    if isinstance(node, ast.Constant) and type(node.value) in (int, float, str):
        return
    if isinstance(node, ast.Name):
        names.add(node.id)
        return
    parts: list[ast.expr] | None = None
    if isinstance(node, ast.BinOp) and type(node.op) in _BINARY:
        parts = [node.left, node.right]
    elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub | ast.UAdd | ast.Not):
        parts = [node.operand]
    elif isinstance(node, ast.BoolOp):
        parts = node.values
    elif isinstance(node, ast.Compare) and all(type(op) in _COMPARE for op in node.ops):
        parts = [node.left, *node.comparators]
    elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in _CALLS:
        parts = node.args if not node.keywords and node.args else None
    if parts is None:
        shown = ast.get_source_segment(text.strip(), node) or text
        raise UserError(f"'{text}': '{shown}' is not allowed, must be of {ALLOWED}")
    for part in parts:
        _check(part, text, names)


def _value(node: ast.expr, values: Mapping[str, float | str]) -> Any:
    """The value of what `_check` let pass."""
    if isinstance(node, ast.Constant):
        return node.value
    if isinstance(node, ast.Name):
        return values[node.id]
    if isinstance(node, ast.BinOp):
        left, right = _value(node.left, values), _value(node.right, values)
        if isinstance(left, str) or isinstance(right, str):
            raise TypeError("text can be compared, not computed with")
        return _BINARY[type(node.op)](left, right)
    if isinstance(node, ast.UnaryOp):
        operand = _value(node.operand, values)
        return not operand if isinstance(node.op, ast.Not) else -operand if isinstance(node.op, ast.USub) else operand
    if isinstance(node, ast.BoolOp):
        every = isinstance(node.op, ast.And)
        return (all if every else any)(_value(part, values) for part in node.values)
    if isinstance(node, ast.Compare):
        terms = [_value(part, values) for part in (node.left, *node.comparators)]
        return all(_COMPARE[type(op)](a, b) for op, a, b in zip(node.ops, terms, terms[1:], strict=False))
    assert isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
    return _CALLS[node.func.id](*(_value(part, values) for part in node.args))

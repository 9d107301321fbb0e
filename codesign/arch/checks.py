"""Checks of single keys of the hardware description; their messages say what was given and what is allowed.

Use: `rows: Annotated[int, integer(1, 64)]`.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable
from fractions import Fraction
from typing import Any

from pydantic import BeforeValidator
from pydantic_core import PydanticCustomError


def rejected(message: str) -> PydanticCustomError:
    """The error of one key; `message` says what was given and what is allowed."""
    return PydanticCustomError("codesign", "{message}", {"message": message})


def shown(value: object) -> str:
    """A value as a person would write it in YAML, shortened."""
    if value is None:
        return "nothing"
    if isinstance(value, bool):
        return str(value).lower()
    try:
        text = f"'{value}'" if isinstance(value, str) else repr(value)
    except ValueError:
        text = "a number of thousands of digits"  # which Python does not print
    return text if len(text) <= 40 else text[:37] + "..."


def did_you_mean(word: str, allowed: Iterable[str]) -> str:
    """`; did you mean 'x'?` for a near miss, else nothing."""
    close = difflib.get_close_matches(word.lower(), list(allowed), n=1)
    return f"; did you mean '{close[0]}'?" if close else ""


def integer(low: int, high: int, *, power_of_two: bool = False) -> BeforeValidator:
    """An integer in [low, high]; no booleans, floats or digits in quotes."""
    allowed = f"{'a power of two' if power_of_two else 'an integer'} from {low} to {high}"

    def check(value: Any) -> Any:
        in_range = isinstance(value, int) and not isinstance(value, bool) and low <= value <= high
        if in_range and (value.bit_count() == 1 or not power_of_two):
            return value
        raise rejected(f"{shown(value)} given, must be {allowed}")

    return BeforeValidator(check)


def number(low: float, high: float) -> BeforeValidator:
    """A finite number with low < value <= high."""

    def check(value: object) -> float:
        if isinstance(value, bool) or not isinstance(value, int | float) or not low < value <= high:
            raise rejected(f"{shown(value)} given, must be a number above {low:g}, at most {high:g}")
        return float(value)

    return BeforeValidator(check)


def ratio(low: int, high: int, most_denominator: int) -> BeforeValidator:
    """An integer, or a fraction such as '3/2', in [low, high]; whole fractions become integers."""
    allowed = f"an integer or a fraction such as 3/2 from {low} to {high}, with a denominator up to {most_denominator}"

    def check(value: Any) -> Any:
        found = value if isinstance(value, int | Fraction) and not isinstance(value, bool) else None
        if isinstance(value, str) and re.fullmatch(r"[0-9]{1,9}/[1-9][0-9]{0,8}", value):
            found = Fraction(value)
        if found is None or not (low <= found <= high and found.denominator <= most_denominator):
            raise rejected(f"{shown(value)} given, must be {allowed}")
        return found.numerator if found.denominator == 1 else found

    return BeforeValidator(check)


def choice(*allowed: object, note: str = "") -> BeforeValidator:
    """One of `allowed`; strings match exactly, booleans are no integers. `note` says why there are no more."""
    listed = " or ".join(map(str, allowed)) if len(allowed) < 3 else ", ".join(map(str, allowed))

    def check(value: object) -> object:
        for candidate in allowed:
            if candidate == value and not isinstance(value, bool):
                return candidate
        names = [a for a in allowed if isinstance(a, str)]  # '2' is no near miss of 2
        hint = did_you_mean(value, names) if isinstance(value, str) else ""
        raise rejected(f"{shown(value)} given, must be {listed}{f' ({note})' if note else ''}{hint}")

    return BeforeValidator(check)


def file_name(value: object) -> str:
    """A name that files may have."""
    if isinstance(value, str) and re.fullmatch(r"[A-Za-z0-9_.-]+", value):
        return value
    raise rejected(f"{shown(value)} given, must be of letters, digits, '_', '-' and '.'")

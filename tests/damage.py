"""Ways in which a kept file may be damaged."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def empty(path: Path) -> None:
    path.write_bytes(b"")


def missing(path: Path) -> None:
    path.unlink()


def zeros(path: Path) -> None:
    """What some file systems leave after a power cut: the size, without the content."""
    path.write_bytes(bytes(path.stat().st_size))


def other_bit(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def no_object(path: Path) -> None:
    path.write_text("[1, null]")


def wrong_types(path: Path) -> None:
    path.write_text(json.dumps({"made_by": 7, "content": None, "value": {"cells": "many"}}))


def other_value(path: Path) -> None:
    """Whole JSON with the right key, whose value is not what was kept."""
    stored = json.loads(path.read_bytes())
    stored["value"] = dict.fromkeys(stored["value"]) if isinstance(stored["value"], dict) else 17
    path.write_text(json.dumps(stored))


def earlier_form(path: Path) -> None:
    """The value alone, as versions without keys wrote it."""
    path.write_text(json.dumps(json.loads(path.read_bytes())["value"]))


def nested(path: Path) -> None:
    path.write_text("[" * 100_000)


ANY: tuple[Callable[[Path], None], ...] = (cut, empty, missing, zeros, other_bit)
JSON: tuple[Callable[[Path], None], ...] = (*ANY, no_object, wrong_types, other_value, earlier_form, nested)

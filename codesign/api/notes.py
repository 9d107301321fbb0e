"""What a user should know although the job goes on, and how jobs tell their progress."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Protocol

from codesign._text import one_line

LOGGER = logging.getLogger("codesign")
"""Notes are its warnings: Python prints them to stderr unless a program does otherwise with them."""


class Report(Protocol):
    """How jobs tell their progress."""

    def __call__(self, phase: str, done: int, total: int, metrics: Mapping[str, float] | None = None) -> None:
        """`done` of `total` steps of `phase` are finished."""


def silent(phase: str, done: int, total: int, metrics: Mapping[str, float] | None = None) -> None:
    """A `Report` that tells nobody."""


def note(text: str) -> None:
    """Say one line, with nothing in it that controls a terminal."""
    LOGGER.warning("%s", one_line(text))

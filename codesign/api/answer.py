"""What every job gives back."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

from codesign.api.blocks import Block, as_html, as_text


class Answer(ABC):
    """The result of a job: frozen, printable, and as JSON what the command line writes with `--json`."""

    @abstractmethod
    def to_json(self) -> dict[str, Any]:
        """For machines: plain values, with the versions of all tools, and the configuration's hash and seed if any."""

    @abstractmethod
    def blocks(self) -> Sequence[Block]:
        """For people: what the command line prints."""

    @property
    @abstractmethod
    def summary(self) -> str:
        """In one line."""

    def __str__(self) -> str:
        return as_text(self.blocks())

    def __repr__(self) -> str:
        return f"<{type(self).__name__}: {self.summary}>"

    def _repr_html_(self) -> str:
        return as_html(self.blocks())

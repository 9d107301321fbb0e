"""What a sensitivity is."""

from __future__ import annotations

from typing import Protocol

from codesign._typing import FloatArray
from codesign.allocation.sensitivities.subject import Subject


class Sensitivity(Protocol):
    """Losses of a space's choices; `codesign.allocation.sensitivities.catalog` lists the implementations."""

    @property
    def name(self) -> str:
        """In commands."""

    @property
    def summary(self) -> str:
        """What it measures, in a line."""

    @property
    def paper(self) -> str:
        """Where it is from."""

    @property
    def measures(self) -> str:
        """`weights`, or `both` where bits of activations count as well."""

    @property
    def images(self) -> bool:
        """Whether it looks at images; weights alone do without data."""

    @property
    def rows(self) -> bool:
        """Whether it can tell rows of a layer apart."""

    def losses(self, subject: Subject) -> FloatArray:
        """(groups, choices) losses, 0 or more.

        Raises:
            UserError: the subject has not what it needs, such as labels.
        """

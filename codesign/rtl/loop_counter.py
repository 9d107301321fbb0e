"""A counter of a loop that knows its ends early in a cycle."""

from __future__ import annotations

from typing import Any

from amaranth.hdl import Module, Signal, Value


class LoopCounter:
    """Counts 0 to `count` - 1; whether it stands at either end is kept in registers, not found by comparing.

    A comparison would come late; and a mapper may take it out of the carry chain of the addition, later still.

    `count` is there one cycle before the first `step` and stays; it is at least 1, and at most `most`.
    """

    def __init__(self, m: Module, name: str, count: Value, most: int | None = None) -> None:
        self.value = Signal(len(count) if most is None else range(most), name=name)
        self.first = Signal(name=f"{name}_first")
        self.last = Signal(name=f"{name}_last")
        self._count = count
        self._before_last = Signal(len(self.value), name=f"{name}_before_last", reset_less=True)
        m.d.sync += self._before_last.eq(count - 2)

    def step(self) -> list[Any]:
        """Assignments that count one up."""
        return [
            self.value.eq(self.value + 1),
            self.first.eq(0),
            self.last.eq(self.value == self._before_last),
        ]

    def restart(self) -> list[Any]:
        """Assignments that go back to 0."""
        return [self.value.eq(0), self.first.eq(1), self.last.eq(self._count == 1)]

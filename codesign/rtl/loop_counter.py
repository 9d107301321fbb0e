"""A counter of a loop that knows its ends early in a cycle."""

from __future__ import annotations

from typing import Any

from amaranth.hdl import Module, Mux, Signal, Value


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


class AlternatingCounter(LoopCounter):
    """A loop whose every other round is one shorter, where `shorter`: the taps of a window's rows, two at a time.

    Of an odd number of taps the first one of the next row is read with the last one; that row has one pair less.

    `shorter` is there as long as `count`; with it `count` is at least 2.
    """

    def __init__(self, m: Module, name: str, count: Value, shorter: Value) -> None:
        super().__init__(m, name, count)
        self.short_round = Signal(name=f"{name}_short_round")
        self._shorter = shorter
        self._before_last_of_short = Signal(len(self.value), name=f"{name}_before_last_of_short", reset_less=True)
        self._short_is_one = Signal(name=f"{name}_short_is_one", reset_less=True)
        m.d.sync += [self._before_last_of_short.eq(count - 3), self._short_is_one.eq(count == 2)]

    def step(self) -> list[Any]:
        """Assignments that count one up."""
        before_last = Mux(self.short_round, self._before_last_of_short, self._before_last)
        return [self.value.eq(self.value + 1), self.first.eq(0), self.last.eq(self.value == before_last)]

    def restart(self) -> list[Any]:
        """Assignments that go back to 0, in a round that is not short."""
        return [*super().restart(), self.short_round.eq(0)]

    def next_round(self) -> list[Any]:
        """Assignments that go back to 0 in the round that follows this one."""
        short = self._shorter & ~self.short_round
        last = Mux(short, self._short_is_one, self._count == 1)
        return [self.value.eq(0), self.first.eq(1), self.short_round.eq(short), self.last.eq(last)]

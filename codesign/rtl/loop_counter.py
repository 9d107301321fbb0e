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
        self._is_one = count == 1
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
        return [self.value.eq(0), self.first.eq(1), self.last.eq(self._is_one)]


class Countdown:
    """A loop that counts what is left of it: a constant is found sooner than `count`.

    `count` is there with the first `restart`, or `early`, one cycle before it, and stays; it is at least 1.
    """

    def __init__(self, m: Module, name: str, count: Value, early: bool = False) -> None:
        self.first = Signal(name=f"{name}_first")
        self.last = Signal(name=f"{name}_last")
        self._left = Signal(len(count), name=f"{name}_left")
        self._count = count
        self.is_one: Value = count == 1
        if early:
            self.is_one = Signal(name=f"{name}_is_one", reset_less=True)
            m.d.sync += self.is_one.eq(count == 1)

    @property
    def nears(self) -> Value:
        """Whether a step would lead to the last round."""
        return self._left == 2

    def step(self) -> list[Any]:
        """Assignments that go to the next round."""
        return [self._left.eq(self._left - 1), self.first.eq(0), self.last.eq(self.nears)]

    def restart(self) -> list[Any]:
        """Assignments that go back to the first one."""
        return [self._left.eq(self._count), self.first.eq(1), self.last.eq(self.is_one)]


class NumberedCountdown(Countdown):
    """A countdown whose rounds have numbers, from 0."""

    def __init__(self, m: Module, name: str, count: Value, early: bool = False) -> None:
        super().__init__(m, name, count, early)
        self.value = Signal(len(count), name=name)

    def step(self) -> list[Any]:
        """Assignments that go to the next round."""
        return [*super().step(), self.value.eq(self.value + 1)]

    def restart(self) -> list[Any]:
        """Assignments that go back to round 0."""
        return [*super().restart(), self.value.eq(0)]


class AlternatingCounter(NumberedCountdown):
    """A loop that every other time has one round less, where `shorter`: the taps of a window's rows, two at a time.

    Of an odd number of taps the first one of the next row is read with the last one (`crosses`); that row has one pair
    less.

    `count` is there early, `shorter` as long; with it `count` is at least 2.
    """

    def __init__(self, m: Module, name: str, count: Value, shorter: Value) -> None:
        super().__init__(m, name, count, early=True)
        self.short_round = Signal(name=f"{name}_short_round")
        self.crosses = Signal(name=f"{name}_crosses")
        self._shorter = shorter
        self._less = Signal(len(count), name=f"{name}_less", reset_less=True)
        self._less_is_one = Signal(name=f"{name}_less_is_one", reset_less=True)
        m.d.sync += [self._less.eq(count - 1), self._less_is_one.eq(count == 2)]

    @property
    def next_is_one(self) -> Value:
        """Whether the loop has one round the next time."""
        return Mux(self._shorter & ~self.short_round, self._less_is_one, self.is_one)

    def step(self) -> list[Any]:
        """Assignments that go to the next round."""
        return [*super().step(), self.crosses.eq(self.nears & self._shorter & ~self.short_round)]

    def restart(self) -> list[Any]:
        """Assignments that go back to round 0 of a whole loop."""
        return [*super().restart(), self.short_round.eq(0), self.crosses.eq(0)]

    def next_loop(self) -> list[Any]:
        """Assignments that go back to round 0 of the loop that follows this one."""
        short = self._shorter & ~self.short_round
        return [
            *super().restart(),
            self._left.eq(Mux(short, self._less, self._count)),
            self.last.eq(self.next_is_one),
            self.short_round.eq(short),
            self.crosses.eq(0),
        ]

"""A counter of a loop that knows its ends early in a cycle."""

from __future__ import annotations

from typing import Any

from amaranth.hdl import Module, Mux, Signal, Value


def _is_one(m: Module, name: str, count: Value, early: bool) -> Value:
    """Whether a loop has one round; a cycle behind `count` where that comes early enough."""
    if not early:
        return count == 1
    is_one = Signal(name=f"{name}_is_one", reset_less=True)
    m.d.sync += is_one.eq(count == 1)
    return is_one


class LoopCounter:
    """Counts 0 to `count` - 1; whether it stands at either end is kept in registers, not found by comparing.

    A comparison would come late; and a mapper may take it out of the carry chain of the addition, later still.

    `count` is there one cycle before the first `step` and stays; it is at least 1, and at most `most`. If it is there
    `early`, one cycle before the first `restart`, that takes less time.
    """

    def __init__(self, m: Module, name: str, count: Value, most: int | None = None, early: bool = False) -> None:
        self.value = Signal(len(count) if most is None else range(most), name=name)
        self.first = Signal(name=f"{name}_first")
        self.last = Signal(name=f"{name}_last")
        self.is_one = _is_one(m, name, count, early)
        self._before_last = Signal(len(self.value), name=f"{name}_before_last", reset_less=True)
        m.d.sync += self._before_last.eq(count - 2)

    @property
    def nears(self) -> Value:
        """Whether a step would lead to the end."""
        return self.value == self._before_last

    def step(self) -> list[Any]:
        """Assignments that count one up."""
        return [
            self.value.eq(self.value + 1),
            self.first.eq(0),
            self.last.eq(self.nears),
        ]

    def restart(self) -> list[Any]:
        """Assignments that go back to 0."""
        return [self.value.eq(0), self.first.eq(1), self.last.eq(self.is_one)]


class Countdown:
    """A loop whose number of rounds nobody reads: it counts down to a constant, which is found sooner than `count`.

    `count` is there with the first `restart`, or `early`, one cycle before it, and stays; it is at least 1.
    """

    def __init__(self, m: Module, name: str, count: Value, early: bool = False) -> None:
        self.first = Signal(name=f"{name}_first")
        self.last = Signal(name=f"{name}_last")
        self._left = Signal(len(count), name=f"{name}_left")
        self._count = count
        self.is_one = _is_one(m, name, count, early)

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


class AlternatingCounter(LoopCounter):
    """A loop whose every other round is one shorter, where `shorter`: the taps of a window's rows, two at a time.

    Of an odd number of taps the first one of the next row is read with the last one (`crosses`); that row has one pair
    less.

    `count` is there early, `shorter` as long; with it `count` is at least 2.
    """

    def __init__(self, m: Module, name: str, count: Value, shorter: Value) -> None:
        super().__init__(m, name, count, early=True)
        self.short_round = Signal(name=f"{name}_short_round")
        self.crosses = Signal(name=f"{name}_crosses")
        self._shorter = shorter
        self._before_last_of_short = Signal(len(self.value), name=f"{name}_before_last_of_short", reset_less=True)
        self._short_is_one = Signal(name=f"{name}_short_is_one", reset_less=True)
        # of the round, chosen as it begins
        self._before_last_of_round = Signal(len(self.value), name=f"{name}_before_last_of_round", reset_less=True)
        m.d.sync += [self._before_last_of_short.eq(count - 3), self._short_is_one.eq(count == 2)]

    @property
    def nears(self) -> Value:
        """Whether a step would lead to the end of the round."""
        return self.value == self._before_last_of_round

    @property
    def next_is_one(self) -> Value:
        """Whether the round that follows this one has one step."""
        return Mux(self._shorter & ~self.short_round, self._short_is_one, self.is_one)

    def step(self) -> list[Any]:
        """Assignments that count one up."""
        return [*super().step(), self.crosses.eq(self.nears & self._shorter & ~self.short_round)]

    def restart(self) -> list[Any]:
        """Assignments that go back to 0, in a round that is not short."""
        return [
            *super().restart(),
            self.short_round.eq(0),
            self.crosses.eq(0),
            self._before_last_of_round.eq(self._before_last),
        ]

    def next_round(self) -> list[Any]:
        """Assignments that go back to 0 in the round that follows this one."""
        short = self._shorter & ~self.short_round
        return [
            self.value.eq(0),
            self.first.eq(1),
            self.short_round.eq(short),
            self.crosses.eq(0),
            self._before_last_of_round.eq(Mux(short, self._before_last_of_short, self._before_last)),
            self.last.eq(self.next_is_one),
        ]

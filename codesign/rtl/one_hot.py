"""The state of a machine, with a register for each of its states."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from amaranth.hdl import Cat, Module, Signal, Value


class OneHot:
    """A machine that knows early in a cycle which state it is in: nothing is compared to find out.

    What makes a state the next one is a sum of products, so a condition that comes late passes one LUT.

    Attributes:
        state: a bit for each state; exactly one is set. A reset leads to the first one.
        encoding: what `state` is in each, as machines of Amaranth have it.
    """

    def __init__(self, name: str, states: Sequence[str]) -> None:
        self.encoding = {state: 1 << number for number, state in enumerate(states)}
        self.state = Signal(len(states), name=f"{name}_state", init=1)
        self._numbers = {state: number for number, state in enumerate(states)}

    def __getitem__(self, state: str) -> Value:
        """Whether the machine is in a state."""
        return self.state[self._numbers[state]]

    def follow(self, m: Module, following: Mapping[str, Value]) -> None:
        """Say for each state when it is the next one; always exactly one must be."""
        m.d.sync += self.state.eq(Cat(following[state] for state in self._numbers))

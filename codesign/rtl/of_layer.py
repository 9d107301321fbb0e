"""What a layer is like, in registers."""

from __future__ import annotations

from amaranth.hdl import Module, Signal, Value


def of_layer(m: Module, value: Value, name: str) -> Signal:
    """A value that stays during a layer, a cycle behind its descriptor: long before it is asked for, and early then.

    What is found of a descriptor by comparing would else stand in front of all that leans on it, in every cycle.
    """
    register = Signal.like(value, name=name, reset_less=True)
    m.d.sync += register.eq(value)
    return register

"""Pixels of a map that a window generator stands at, and which one it goes to next."""

from __future__ import annotations

from typing import Any

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value, signed, unsigned
from amaranth.lib import data

from codesign.rtl.geometry import COORD_BITS, Geometry
from codesign.rtl.words import bits_for

_OF_ROW = ("x", "column", "edge", "near_edge", "next_addr", "next_key", "next_y")
"""Fields that every map row begins with anew, as the first one does."""


def add_modulo(a: Value, b: Value, modulus: int) -> Value:
    """(a + b) mod modulus for a, b below modulus; few bits, so in gates: into a carry chain and out takes longer."""
    if modulus == 1:
        return Const(0, 1)
    width = bits_for(modulus)
    total = _sum(a, b, width + 1)
    if modulus == 1 << width:
        return total[:width]
    less = _sum(total, Const((2 << width) - modulus, width + 1), width + 1)  # negative if the total is below
    return Mux(less[width], total[:width], less[:width])


def _sum(a: Value, b: Value, width: int) -> Value:
    """The lowest bits of a sum of unsigned numbers."""
    bits: list[Value] = []
    carry: Value = Const(0, 1)
    for i in range(width):
        x, y = (value[i] if i < len(value) else Const(0, 1) for value in (a, b))
        bits.append(x ^ y ^ carry)
        carry = (x & y) | (carry & (x ^ y))
    return Cat(bits)


class Places:
    """Registers that hold the place of an output pixel, which its window is read from.

        addr, key       of the first word of the pixel where its window begins, and how that word is rotated
        x, y            of that pixel; beyond the map where there is padding
        column          of the output, counted from the end of its row, where it is 1
        edge, near_edge whether that is the last one, and whether the one behind it is
        next_addr, next_key, next_y
                        what leads to address, key and y of the output pixel behind it

    Where a register goes in a cycle is one of four places. Sums come late, so they pass one multiplexer of four, and
    what chooses is found beside them: two bits, one pair for what begins with a row, one for what goes on.
    """

    def __init__(self, m: Module, geometry: Geometry, descriptor: data.View[Any]) -> None:
        self._m, self._groups, self._d = m, geometry.groups, descriptor
        d = descriptor
        self.layout = data.StructLayout(
            {
                "addr": unsigned(geometry.act_addr_bits),
                "key": unsigned(geometry.key_bits),
                "x": signed(COORD_BITS),
                "y": signed(COORD_BITS),
                "column": unsigned(12),
                "edge": unsigned(1),
                "near_edge": unsigned(1),
                "next_addr": unsigned(geometry.act_addr_bits),
                "next_key": unsigned(geometry.key_bits),
                "next_y": unsigned(len(descriptor.stride_y)),
            }
        )
        # of the descriptor, which stays: a cycle behind it
        one_wide = Signal(reset_less=True)
        two_wide = Signal(reset_less=True)
        m.d.sync += [one_wide.eq(d.out_w == 1), two_wide.eq(d.out_w == 2)]
        self.first = Signal(self.layout, name="first_place")
        m.d.comb += [
            self.first.addr.eq(d.start_addr),
            self.first.key.eq(d.start_key),
            self.first.x.eq(d.start_x),
            self.first.y.eq(d.start_y),
            self.first.column.eq(d.out_w),
            self.first.edge.eq(one_wide),
            self.first.near_edge.eq(two_wide),
            self.first.next_addr.eq(Mux(one_wide, d.step_row, d.step_pixel)),
            self.first.next_key.eq(Mux(one_wide, d.key_row, d.key_pixel)),
            self.first.next_y.eq(Mux(one_wide, d.stride_y, 0)),
        ]

    def behind(self, name: str, place: data.View[Any]) -> data.View[Any]:
        """The pixel behind `place`; of fields that begin with a row what they are unless one does."""
        d, following = self._d, Signal(self.layout, name=name)
        self._m.d.comb += [
            following.addr.eq(place.addr + place.next_addr),
            following.key.eq(add_modulo(place.key, place.next_key, self._groups)),
            following.x.eq(place.x + d.stride_x),
            following.y.eq(place.y + place.next_y),
            following.column.eq(place.column - 1),
            following.edge.eq(place.near_edge),
            following.near_edge.eq(place.column == 3),
            following.next_addr.eq(Mux(place.near_edge, d.step_row, d.step_pixel)),
            following.next_key.eq(Mux(place.near_edge, d.key_row, d.key_pixel)),
            following.next_y.eq(Mux(place.near_edge, d.stride_y, 0)),
        ]
        return following

    def onward(self, name: str, place: data.View[Any], behind: data.View[Any], first: data.View[Any]) -> data.View[Any]:
        """The pixel behind `place`, of which `behind` is what it is within a row and `first` how a row begins."""
        following = Signal(self.layout, name=name)
        for field in self.layout.members:
            turns = place.edge if field in _OF_ROW else Const(0, 1)
            self._m.d.comb += getattr(following, field).eq(Mux(turns, getattr(first, field), getattr(behind, field)))
        return following

    def go(
        self,
        register: data.View[Any],
        stays: data.View[Any],
        behind: tuple[Value, data.View[Any], Value],
        begins: tuple[Value, data.View[Any]],
        other: tuple[Value, data.View[Any], Value],
        if_also: Value | None = None,
        at_once: Value | None = None,
        still: Value | None = None,
    ) -> None:
        """Where `register` goes.

        Args:
            register: to be set.
            stays: where it goes if none of the others is chosen.
            behind: whether it goes on, to where, and whether it does so from the edge of a row; only if neither
                `other` is chosen nor another part of this says so.
            begins: whether it goes to the first pixel, and which that is.
            other: whether to a place that goes before `behind`, the place, and whether that begins a row.
            if_also: without it neither `behind` nor `other` is chosen. It may come late.
            at_once: whether `other` is chosen whatever that says.
            still: whether, without it, `behind` is chosen all the same.
        """
        (moves, to, at_edge), (starts, first), (others, far, far_edge) = behind, begins, other
        name, choices = Value.cast(register).name, []
        never = Const(0, 1)
        late = Const(1, 1) if if_also is None else if_also
        now, goes_on = (never if value is None else value for value in (at_once, still))
        for of_row in (False, True):
            which = f"{name}_{'of_row' if of_row else 'sums'}"
            low, high = Signal(name=f"{which}_low"), Signal(name=f"{which}_high")
            turns, far_turns = (at_edge, far_edge) if of_row else (never, never)
            self._m.d.comb += [
                low.eq(now | Mux(late, (moves & ~turns) | (others & ~far_turns), goes_on & ~turns)),
                high.eq(starts | now | Mux(late, (moves & turns) | others, goes_on & turns)),
            ]
            choices.append((low, high))
        for field in self.layout.members:
            low, high = choices[field in _OF_ROW]
            near = Mux(low, getattr(to, field), getattr(stays, field))
            self._m.d.sync += getattr(register, field).eq(
                Mux(high, Mux(low, getattr(far, field), getattr(first, field)), near)
            )

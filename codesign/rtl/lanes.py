"""Lanes: how beats lie in memory where several AXI4 ports move them side by side.

Port p moves lane p of every beat: bytes p * port_bytes and up. A burst of every port together is a block. In it lane p
lies whole behind the lanes before it, so that a port's burst is one of rising addresses, and all of a block is where
it would be with one port:

    address in one port's order    block | beat in it | lane | byte of the lane
    address in memory              block | lane | beat in it | byte of the lane

Programs, images and results are in one port's order everywhere but in memory itself: the host lays them out and reads
them back (`Lanes` in driver.py.j2). With one port both orders are the same.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import reduce
from operator import and_, or_

from amaranth.hdl import Cat, Const, Signal, Value
from amaranth.lib.wiring import Component

from codesign.rtl.axi import Members, axi4_master, prefixed
from codesign.rtl.geometry import Geometry


def names(name: str, geometry: Geometry) -> tuple[str, ...]:
    """The names of a signal that every port has: `name` itself where there is one port."""
    return (name,) if geometry.ports == 1 else tuple(f"{name}_{port}" for port in range(geometry.ports))


def memory_ports(geometry: Geometry) -> Members:
    """The accelerator's AXI4 masters: `m_axi_*`, or `m_axi_0_*` and so on."""
    masters = [prefixed(name, axi4_master(geometry.port_bits)) for name in names("m_axi", geometry)]
    return {name: member for members in masters for name, member in members.items()}


def of_port(component: Component, port: int, geometry: Geometry) -> Callable[[str], Signal]:
    """Gives a signal of one port by its name."""
    return lambda name: getattr(component, names(name, geometry)[port])


def both(values: Sequence[Value]) -> Value:
    """Whether all are high."""
    return reduce(and_, values)


def some(values: Sequence[Value]) -> Value:
    """Whether one is high."""
    return reduce(or_, values)


def lane_address(address: Value, port: int, geometry: Geometry) -> Value:
    """Where in memory a port's lane of the beat at `address` lies."""
    if geometry.ports == 1:
        return address
    byte = (geometry.port_bytes - 1).bit_length()
    lane = byte + (geometry.ports - 1).bit_length()
    block = (geometry.block_bytes - 1).bit_length()
    number = Const(port, lane - byte)
    return Cat(Const(0, byte), address[lane:block], number, address[block:])

"""The buses of the accelerator (AMBA AXI4 and AXI4-Lite, IHI 0022): an AXI4 master for memory, a slave for control.

Both are lists of flat ports with AMBA's names behind a prefix, `m_axi_araddr`, which is how tools know a bus.
"""

from __future__ import annotations

from types import SimpleNamespace

from amaranth.hdl import Module
from amaranth.lib.wiring import Component, In, Member, Out

ADDRESS_BITS = 32
CONTROL_ADDRESS_BITS = 12
"""The registers occupy 4 KiB, the smallest segment that tools assign."""

INCR = 1
"""Burst type: addresses increase."""
OKAY = 0
"""Response: accepted. All others are errors; nothing here asks for exclusive access."""
CACHEABLE = 0b0011
"""Memory attribute: bufferable and modifiable, as interconnects of Xilinx want it."""

Members = dict[str, Member]


def axi4_master(data_bits: int) -> Members:
    """Ports of an AXI4 master with `data_bits` wide data: one ID, incrementing bursts of full-width beats."""
    return {
        "arvalid": Out(1),
        "arready": In(1),
        "araddr": Out(ADDRESS_BITS),
        "arlen": Out(8),
        "arsize": Out(3),
        "arburst": Out(2),
        "arcache": Out(4),
        "arprot": Out(3),
        "rvalid": In(1),
        "rready": Out(1),
        "rdata": In(data_bits),
        "rresp": In(2),
        "rlast": In(1),
        "awvalid": Out(1),
        "awready": In(1),
        "awaddr": Out(ADDRESS_BITS),
        "awlen": Out(8),
        "awsize": Out(3),
        "awburst": Out(2),
        "awcache": Out(4),
        "awprot": Out(3),
        "wvalid": Out(1),
        "wready": In(1),
        "wdata": Out(data_bits),
        "wstrb": Out(data_bits // 8),
        "wlast": Out(1),
        "bvalid": In(1),
        "bready": Out(1),
        "bresp": In(2),
    }


def axi4_lite_slave() -> Members:
    """Ports of an AXI4-Lite slave with 32-bit data."""
    return {
        "awvalid": In(1),
        "awready": Out(1),
        "awaddr": In(CONTROL_ADDRESS_BITS),
        "awprot": In(3),
        "wvalid": In(1),
        "wready": Out(1),
        "wdata": In(32),
        "wstrb": In(4),
        "bvalid": Out(1),
        "bready": In(1),
        "bresp": Out(2),
        "arvalid": In(1),
        "arready": Out(1),
        "araddr": In(CONTROL_ADDRESS_BITS),
        "arprot": In(3),
        "rvalid": Out(1),
        "rready": In(1),
        "rdata": Out(32),
        "rresp": Out(2),
    }


def prefixed(prefix: str, members: Members) -> Members:
    """The ports with their bus's name in front."""
    return {f"{prefix}_{name}": member for name, member in members.items()}


def bus(component: Component, prefix: str, members: Members) -> SimpleNamespace:
    """The signals of one bus of a component, by AMBA's names."""
    return SimpleNamespace(**{name: getattr(component, f"{prefix}_{name}") for name in members})


def pass_on(m: Module, members: Members, outer: SimpleNamespace, inner: SimpleNamespace) -> None:
    """Connect a bus of the enclosing component to the same bus of a component inside it."""
    for name, member in members.items():
        inside, outside = getattr(inner, name), getattr(outer, name)
        m.d.comb += inside.eq(outside) if member.flow == In else outside.eq(inside)

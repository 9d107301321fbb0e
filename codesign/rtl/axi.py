"""The AXI4 master port of the accelerator (AMBA AXI4, IHI 0022): incrementing bursts, one ID, full-width beats."""

from __future__ import annotations

from amaranth.lib.wiring import In, Out, Signature

ADDRESS_BITS = 32


def axi4_master(data_bits: int) -> Signature:
    """Signature of an AXI4 master with `data_bits` wide data; Out is driven by the master."""
    return Signature(
        {
            "arvalid": Out(1),
            "arready": In(1),
            "araddr": Out(ADDRESS_BITS),
            "arlen": Out(8),
            "arsize": Out(3),
            "arburst": Out(2),
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
            "wvalid": Out(1),
            "wready": In(1),
            "wdata": Out(data_bits),
            "wstrb": Out(data_bits // 8),
            "wlast": Out(1),
            "bvalid": In(1),
            "bready": Out(1),
            "bresp": In(2),
        }
    )

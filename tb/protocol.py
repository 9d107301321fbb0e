"""Rules of AXI4 and AXI4-Lite (IHI 0022) that the accelerator must keep, checked in every cycle."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import cocotb
from cocotb.triggers import RisingEdge

OF_MASTER = {
    "ar": ("araddr", "arlen", "arsize", "arburst"),
    "aw": ("awaddr", "awlen", "awsize", "awburst"),
    "w": ("wdata", "wstrb", "wlast"),
}
OF_SLAVE = {"s_axi_ctrl_r": ("rdata", "rresp"), "s_axi_ctrl_b": ("bresp",)}
"""Channels on which the accelerator is the source, and what they carry."""

PAGE = 4096
INCR = 1


class Monitor:
    """Watches all buses of the harness `dut` until the test ends.

    Checked: a source that offers goes on offering the same until it is taken (A3.2.1); bursts are of full-width beats,
    at aligned addresses, and stay within 4 KiB (A3.4.1); every write burst has its data, WLAST with the last
    beat; nothing is answered that was not asked.

    `late` counts the cycles in which a channel had to wait, by channel: zero everywhere would prove nothing.
    """

    def __init__(self, dut: Any, masters: Sequence[str] = ("m_axi",)) -> None:
        self.dut, self.masters = dut, masters
        self.offered = {f"{bus}_{name}": payload for bus in masters for name, payload in OF_MASTER.items()} | OF_SLAVE
        self.late = dict.fromkeys(self.offered, 0)
        self.taken = dict.fromkeys(self.offered, 0)
        self.asked = {"r": 0, "b": 0}  # of the control port
        cocotb.start_soon(self._run())

    def _value(self, bus: str, name: str) -> int:
        return int(getattr(self.dut, f"{bus}_{name}").value)

    async def _run(self) -> None:
        edge = RisingEdge(self.dut.clk)
        size = len(getattr(self.dut, f"{self.masters[0]}_wdata")) // 8
        held: dict[str, tuple[int, ...]] = {}
        while True:
            await edge
            if self.dut.rst.value:
                held = {}
                continue
            for channel, payload in self.offered.items():
                bus, _, letters = channel.rpartition("_")
                valid, ready = self._value(bus, f"{letters}valid"), self._value(bus, f"{letters}ready")
                now = tuple(self._value(bus, name) for name in payload) if valid else ()
                if channel in held:
                    assert valid, f"{channel}valid fell before {channel}ready came"
                    assert now == held[channel], f"{channel} changed while it was offered: {held[channel]}, {now}"
                held.pop(channel, None)
                if valid and not ready:
                    held[channel] = now
                    self.late[channel] += 1
                if valid and ready:
                    self.taken[channel] += 1
                    if letters in ("ar", "aw"):
                        self._check_burst(channel, *now, size)
                    if letters == "w":
                        assert now[2] == 1, "bursts of writes have one beat"
            for answer, request in (("r", "ar"), ("b", "aw")):
                assert self.taken[f"s_axi_ctrl_{answer}"] <= self.asked[answer], "answered before it was asked"
                self.asked[answer] += self._value("s_axi_ctrl", f"{request}valid") & self._value(
                    "s_axi_ctrl", f"{request}ready"
                )

    def _check_burst(self, channel: str, address: int, length: int, code: int, burst: int, size: int) -> None:
        assert burst == INCR and 1 << code == size, f"{channel}: burst type {burst}, beats of {1 << code} bytes"
        assert address % size == 0, f"{channel}: address 0x{address:X} within a beat"
        assert address // PAGE == (address + (length + 1) * size - 1) // PAGE, f"{channel}: 0x{address:X} leaves 4 KiB"
        assert channel.endswith("_ar") or length == 0

    def settled(self) -> None:
        """Between runs: as many data as addresses of writes."""
        for bus in self.masters:
            assert self.taken[f"{bus}_aw"] == self.taken[f"{bus}_w"]

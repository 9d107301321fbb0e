"""The host's side of an AXI4-Lite port in Amaranth's simulator."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from amaranth.lib.wiring import Component
from amaranth.sim import SimulatorContext

from codesign.rtl.axi import axi4_lite_slave, bus

LIMIT = 200
"""Cycles after which a transfer has failed."""


@dataclass
class Host:
    """Reads and writes registers; with `ready` below 1 every channel is offered and taken late, by chance.

    Each transfer begins and ends between two clock edges.
    """

    ctx: SimulatorContext
    component: Component
    prefix: str = "s_axi_ctrl"
    ready: float = 1.0
    seed: int = 0

    def __post_init__(self) -> None:
        members = axi4_lite_slave()
        self.port: Any = bus(self.component, self.prefix, members) if self.prefix else self.component
        self.rng = np.random.default_rng(self.seed)

    def _chance(self) -> bool:
        return bool(self.rng.random() < self.ready)

    async def write(self, address: int, data: int, strobes: int = 15) -> None:
        """One write; returns in the cycle after its answer was taken."""
        ctx, port = self.ctx, self.port
        await self._transfer(
            {"aw": {"awaddr": address}, "w": {"wdata": data, "wstrb": strobes}}, port.bvalid, port.bready
        )
        assert ctx.get(port.bresp) == 0

    async def read(self, address: int) -> int:
        """One read; returns in the cycle after its answer was taken."""
        ctx, port = self.ctx, self.port
        data = await self._transfer({"ar": {"araddr": address}}, port.rvalid, port.rready, port.rdata)
        assert ctx.get(port.rresp) == 0
        return data

    async def _transfer(self, channels: dict[str, dict[str, int]], valid: Any, ready: Any, data: Any = None) -> int:
        ctx, port = self.ctx, self.port
        waiting = dict(channels)
        offered: set[str] = set()
        seen: int | None = None
        for _ in range(LIMIT):
            for name, payload in waiting.items():
                if name not in offered and self._chance():
                    offered.add(name)
                    for signal, value in payload.items():
                        ctx.set(getattr(port, signal), value)
                    ctx.set(getattr(port, f"{name}valid"), 1)
            take = self._chance()
            ctx.set(ready, int(take))
            taken = [name for name in offered if ctx.get(getattr(port, f"{name}ready"))]
            answered = ctx.get(valid)
            assert not (answered and waiting), "answered before it was asked"
            value = ctx.get(data) if data is not None else 0
            assert not answered or seen in (None, value), "an answer changed while it was offered"
            assert answered or seen is None, "an answer was withdrawn"
            seen = value if answered else None
            await ctx.tick()
            for name in taken:
                del waiting[name]
                offered.remove(name)
                ctx.set(getattr(port, f"{name}valid"), 0)
            if answered and take:
                ctx.set(ready, 0)
                return value
        raise AssertionError(f"no answer in {LIMIT} cycles")

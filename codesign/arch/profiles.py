"""Memories as devices have them: what their makers and users say in nanoseconds and bytes, in cycles of a clock."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from math import ceil, floor
from typing import Any

MOST_DENOMINATOR = 64
"""Of `cycles_per_beat`: how much time may differ between beats is part of the state that the timing model remembers."""

LEAST_MHZ = 1
"""Slowest clock of a profile: a refresh takes at least a cycle, and is to be a small part of its interval."""


@dataclass(frozen=True)
class MemoryProfile:
    """The memory of a device, and the ports on the way to it.

    Attributes:
        ports: that reach it side by side.
        port_bits: data width of each of them.
        burst_beats: most beats of a burst.
        sustained_mb_s: what all ports together read over many refreshes, 10^6 bytes a second.
        port_mb_s: most that one port reads, the same unit.
        latency_ns: from a read request to its first data, where nothing is asked before it.
        refresh_interval_ns: tREFI.
        refresh_ns: tRFC.
    """

    ports: int
    port_bits: int
    burst_beats: int
    sustained_mb_s: int
    port_mb_s: int
    latency_ns: int
    refresh_interval_ns: int
    refresh_ns: int

    def keys(self, mhz: float, said: dict[str, Any]) -> dict[str, Any]:
        """The keys of a `Memory` whose cycles are those of a clock; those of `said` are what they are there.

        Times are rounded up, the interval of refreshes down: never a memory that is faster than the profile's.
        """
        clock = Fraction(str(mhz))
        width, ports = said.get("width_bits"), said.get("ports")
        if width is None:
            width = (ports if isinstance(ports, int) else self.ports) * self.port_bits
        elif ports is None and isinstance(width, int):
            ports = min(self.ports, max(1, width // self.port_bits))
        return {
            "ports": self.ports if ports is None else ports,
            "width_bits": width,
            "burst_beats": self.burst_beats,
            "latency": ceil(self.latency_ns * clock / 1000),
            "cycles_per_beat": self._cycles_per_beat(clock, width) if isinstance(width, int) else 1,
            "refresh_interval": floor(self.refresh_interval_ns * clock / 1000),
            "refresh_cycles": ceil(self.refresh_ns * clock / 1000),
        } | said

    def _cycles_per_beat(self, clock: Fraction, width_bits: int) -> int | Fraction:
        """Cycles from beat to beat between refreshes, which take their part of the sustained bandwidth."""
        between = self.sustained_mb_s / (1 - Fraction(self.refresh_ns, self.refresh_interval_ns))
        ports = max(1, width_bits // self.port_bits)
        rate = max(Fraction(width_bits, 8) * clock / min(between, Fraction(ports * self.port_mb_s)), Fraction(1))
        slower = min(Fraction(ceil(rate * places), places) for places in range(1, MOST_DENOMINATOR + 1))
        return slower.numerator if slower.denominator == 1 else slower


PROFILES = {
    "zynq7000_ddr3": MemoryProfile(
        ports=4,
        port_bits=64,
        burst_beats=16,
        sustained_mb_s=3150,
        port_mb_s=2840,
        latency_ns=374,
        refresh_interval_ns=7800,
        refresh_ns=260,
    ),
}
"""By the name that `memory.profile` has.

`zynq7000_ddr3`: a Zynq-7000's four HP ports (AXI3) and its DDR3-1050 of 32 bits, 4,200 MB/s at peak.

* Xilinx UG585 (v1.15), "DDR Efficiency": the controller is designed for about 75 % of the peak; measured there with
  bursts of 16 on four HP ports were 97 % for sequential reads. The lower one is taken. A port reads at most 2,840 MB/s.
* github.com/ammrat13/pynqz2-ram-tester, measured on a PYNQ-Z2 (port at 100 MHz, DRAM at 525 MHz) while the processors
  kept the memory busy: 374 ns a block of 128 bytes on average, 850 ns at most. The average is taken, which has the
  transfer of the block in it.
* Micron's MT41J data sheet, table 56: tREFI of 7.8 us, and tRFC of 260 ns for 4 Gb, the slowest that boards have.
"""

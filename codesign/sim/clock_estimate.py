"""An estimate of the clock before placement: the slowest path of a mapped netlist, with one delay for every wire.

Delays of cells are published ones: for Xilinx those of Artix-7, that Project X-Ray read out of Vivado's tables, as
Yosys quotes them (share/xilinx/cells_sim.v); for the ECP5 those of nextpnr for speed grade 6, the slowest. Of a LUT
the slowest input counts. What a wire takes is known only after routing; here every wire that leaves a slice takes
`WIRE_NS`, the mean of the wires on the slowest paths of designs that nextpnr routed on an ECP5. 7-series wires are
assumed to be no slower: they are of a later process (28 instead of 40 nm). Wires inside a slice (carry chains, wide
multiplexers) take no time. Wires with many readers and detours are what such an estimate cannot see:
benchmarks/clock_estimate.py compares it with place and route.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from graphlib import CycleError, TopologicalSorter
from typing import Any, NamedTuple

from codesign.arch.devices import Family

WIRE_NS = 1.08
"""26 wires of 4 slowest paths, 28.1 ns."""


class _Delays(NamedTuple):
    """Nanoseconds. `carry_in`, `carry` and `carry_out`: into a chain, past one cell of it, out of it."""

    clock_to_output: float
    lut: float
    multiplexer: float
    carry_in: float
    carry: float
    carry_out: float
    setup: float
    memory: float
    registered_memory: float
    shift_register: float
    product: float


_DELAYS: dict[Family, _Delays] = {
    "xc7": _Delays(0.303, 0.642, 0.296, 0.528, 0.114, 0.334, 0.404, 2.454, 0.882, 1.472, 2.952),
    "ecp5": _Delays(0.525, 0.236, 0.236, 0.447, 0.071, 0.443, 0.0, 5.6, 5.6, 0.525, 3.927),
}
_FLIP_FLOPS = ("FD", "LDCE", "LDPE", "TRELLIS_FF")
_BLOCKS = ("RAMB", "DP16KD", "PDPW16KD")
_LUT_MEMORIES = ("RAM", "TRELLIS_DPR")
_READ_ADDRESSES = ("ADDR", "RAD", "DPRA")
_MULTIPLEXERS = ("MUXF", "PFUMX", "L6MUX")
_CARRY_IN = ("CI", "CIN")
_CARRY_OUT = ("CO", "COUT")
_IN_SLICE = ("S", "CI", "CIN", "CYINIT", "PCIN")
"""Inputs whose wire does not leave the slice, of carry cells and DSP cascades."""


def slowest_path_ns(cells: Mapping[str, Any], family: Family, inputs: Iterable[int] = ()) -> float:
    """Nanoseconds from register to register, of a netlist as Yosys writes it; boxes begin and end paths.

    Args:
        cells: the netlist's.
        family: whose cells they are.
        inputs: wires that come from registers outside.
    """
    network = _Network(cells, _DELAYS[family], inputs)
    return network.slowest()


class _Network:
    """Arrival times at the outputs of cells."""

    def __init__(self, cells: Mapping[str, Any], delays: _Delays, inputs: Iterable[int]) -> None:
        self._cells, self._delays = cells, delays
        self._arrival = dict.fromkeys(inputs, delays.clock_to_output)
        self._inputs = frozenset(self._arrival)
        self._driver: dict[int, str] = {}
        for name, cell in cells.items():
            for _, bits in _ports(cell, "output"):
                self._driver.update((bit, name) for bit in bits)

    def slowest(self) -> float:
        """The latest time at which an input of a register must be there, its setup included."""
        graph: dict[str, set[str]] = {}
        for name, cell in self._cells.items():
            through = (bits for port, bits in _ports(cell, "input") if self._passes(cell, port))
            graph[name] = {self._driver[bit] for bits in through for bit in bits if bit in self._driver}
        for name in _order(graph):
            self._place(self._cells[name])
        slowest = 0.0
        for cell in self._cells.values():
            for port, bits in _ports(cell, "input"):
                if not self._passes(cell, port) and any(bit in self._driver or bit in self._inputs for bit in bits):
                    slowest = max(slowest, self._at(cell, port, bits) + self._setup(cell, port))
        return slowest

    def _passes(self, cell: Mapping[str, Any], port: str) -> bool:
        """Whether a change of this input is seen at an output before the next clock edge."""
        kind = cell["type"]
        if kind.startswith(("LUT", "INV", "CARRY4", "CCU2C", *_MULTIPLEXERS)):
            return True
        if kind.startswith(_LUT_MEMORIES) and not kind.startswith(_BLOCKS):
            return port.startswith(_READ_ADDRESSES)
        return kind.startswith(("DSP48E1", "MULT18X18D")) and not _registers(cell)

    def _at(self, cell: Mapping[str, Any], port: str, bits: list[int]) -> float:
        """When the input's last bit is there."""
        kind = cell["type"]
        inside = (kind.startswith(("CARRY4", "CCU2C", "DSP48E1")) and port in _IN_SLICE) or (
            kind.startswith(_MULTIPLEXERS) and port not in ("S", "SD", "C0")
        )
        wire = 0.0 if inside else WIRE_NS
        return max((self._arrival[bit] + wire for bit in bits if bit in self._arrival), default=0.0)

    def _place(self, cell: Mapping[str, Any]) -> None:
        """Note when the outputs of a cell are there; those of its inputs that matter are known."""
        kind, delays = cell["type"], self._delays
        inputs = {port: self._at(cell, port, bits) for port, bits in _ports(cell, "input") if self._passes(cell, port)}
        latest = max(inputs.values(), default=0.0)
        for port, bits in _ports(cell, "output"):
            if kind.startswith(("CARRY4", "CCU2C")):
                chained = max((at for name, at in inputs.items() if name in _CARRY_IN), default=0.0)
                fresh = max((at for name, at in inputs.items() if name not in _CARRY_IN), default=0.0)
                step = delays.carry if port in _CARRY_OUT else delays.carry_out
                time = max(fresh + delays.carry_in, chained + step)
            elif kind.startswith(("LUT", "INV")):
                time = latest + delays.lut
            elif kind.startswith(_MULTIPLEXERS):
                time = latest + delays.multiplexer
            elif kind.startswith(_BLOCKS):
                registered = any(_parameter(cell, name) for name in ("DOA_REG", "DOB_REG"))
                time = delays.registered_memory if registered else delays.memory
            elif kind.startswith(_LUT_MEMORIES):
                time = max(latest + delays.lut, delays.shift_register)
            elif kind.startswith("SRL"):
                time = delays.shift_register
            elif kind.startswith(("DSP48E1", "MULT18X18D")):
                time = latest + delays.product if not _registers(cell) else _dsp_output(cell)
            else:  # a register, or a box, whose outputs are registers
                time = delays.clock_to_output
            for bit in bits:
                self._arrival[bit] = time

    def _setup(self, cell: Mapping[str, Any], port: str) -> float:
        kind = cell["type"]
        if kind.startswith("DSP48E1") and port in ("A", "B"):
            if _parameter(cell, f"{port}REG"):
                return 0.324
            return 1.416 if _parameter(cell, "MREG") else 2.739
        if kind.startswith(_BLOCKS):
            return 0.566 if kind.startswith("RAMB") else 0.0
        # only a flip-flop's reset takes so long; its data is there in time when it reaches the slice
        return self._delays.setup if port in ("R", "S", "LSR") and kind.startswith(_FLIP_FLOPS) else 0.0


def _order(graph: dict[str, set[str]]) -> list[str]:
    """Cells after those that drive them.

    Different bits of one cell may lie before and after another cell; such a loop is cut where it is found.
    """
    while True:
        try:
            return list(TopologicalSorter(graph).static_order())
        except CycleError as error:
            before, after, *_ = error.args[1]
            graph[after].discard(before)


def _dsp_output(cell: Mapping[str, Any]) -> float:
    """When a DSP48E1 with registers shows its result."""
    if _parameter(cell, "PREG"):
        return 0.329
    return 1.671 if _parameter(cell, "MREG") else 2.952


def _registers(cell: Mapping[str, Any]) -> bool:
    return any(_parameter(cell, name) for name in ("AREG", "BREG", "MREG", "PREG"))


def _parameter(cell: Mapping[str, Any], name: str) -> int:
    """A parameter of a cell, which Yosys writes in binary; 0 where there is none."""
    value = str(cell.get("parameters", {}).get(name, "0"))
    return int(value, 2) if value and set(value) <= {"0", "1"} else 0


def _ports(cell: Mapping[str, Any], direction: str) -> list[tuple[str, list[int]]]:
    """Ports of a cell in one direction, each with the wires it has; constants are left out."""
    return [
        (port, [bit for bit in bits if isinstance(bit, int)])
        for port, bits in cell["connections"].items()
        if cell["port_directions"].get(port) == direction
    ]

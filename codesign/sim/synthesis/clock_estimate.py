"""An estimate of the clock before placement: the slowest path of a mapped netlist, with one delay for every wire.

Delays of cells are published ones: for Xilinx those of Artix-7, that Project X-Ray read out of Vivado's tables, as
Yosys quotes them (share/xilinx/cells_sim.v); for the ECP5 those of nextpnr for speed grade 6, the slowest; for Arora V
those of Gowin's tables for grade C1/I0, as Project Apicula read them (GW5AST-138C, the latest of each cell's edges).
Of a LUT the slowest input counts. What a wire takes is known only after routing; here every wire that leaves a slice
takes `WIRE_NS`, the mean of the wires on the slowest paths of designs that nextpnr routed on an ECP5. 7-series wires
are assumed to be no slower: they are of a later process (28 instead of 40 nm). So are those of Arora V (22 nm), and
there nextpnr shows whether that holds: nothing was fitted to what it routed. Wires inside a slice (carry chains, wide
multiplexers) take no time. Wires with many readers and detours are what such an estimate cannot see:
benchmarks/clock_estimate.py compares it with place and route.

Of UltraScale+ nobody has published the delays of LUTs and carry chains (DS925 has those of whole blocks), so there is
no estimate for its devices: where no delays are known, no paths are either.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
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
    "gw5a": _Delays(0.232, 0.570, 0.269, 0.570, 0.035, 0.470, 0.035, 2.260, 0.307, 0.314, 0.0),
}
"""Arora V has none of products: they are in LUTs."""
_FLIP_FLOPS = ("FD", "LDCE", "LDPE", "TRELLIS_FF")
_BLOCKS = ("RAMB", "DP16KD", "PDPW16KD", "SP", "SDPB", "SDPX9B", "DPB", "DPX9B")
_LUT_MEMORIES = ("RAM", "TRELLIS_DPR")
_OUTPUT_REGISTERS = ("DOA_REG", "DOB_REG", "READ_MODE", "READ_MODE0", "READ_MODE1")
"""Parameters of a block RAM that has one."""
_READ_ADDRESSES = ("ADDR", "RAD", "DPRA")
_MULTIPLEXERS = ("MUXF", "PFUMX", "L6MUX", "MUX2_LUT")
_CARRIES = ("CARRY4", "CCU2C", "ALU")
_CARRY_IN = ("CI", "CIN")
_CARRY_OUT = ("CO", "COUT")
_IN_SLICE = ("S", "CI", "CIN", "CYINIT", "PCIN")
"""Inputs whose wire does not leave the slice, of carry cells and DSP cascades."""


def lut_delay_ns(family: Family) -> float:
    """Of a LUT and the wire to it."""
    return WIRE_NS + _DELAYS[family].lut


class Step(NamedTuple):
    """A cell on a path.

    Attributes:
        where: the cell's name, or that of the module which it belongs to.
        kind: of cell.
        ns: from the clock's edge until its output is there; of the last one, where the path ends, its setup included.
    """

    where: str
    kind: str
    ns: float


class Timing(NamedTuple):
    """Of a netlist.

    Attributes:
        ends_ns: for every cell where paths end, the nanoseconds of the slowest one, its setup included.
        slowest: the cells of the slowest path of all, from the register where it begins (a wire from outside has none)
            to where it ends; empty where there is none.
    """

    ends_ns: dict[str, float]
    slowest: tuple[Step, ...]


def timing(cells: Mapping[str, Any], family: Family, inputs: Iterable[int] = ()) -> Timing:
    """Of the paths from register to register of a netlist as Yosys writes it; boxes begin and end paths.

    Of a family without published delays there are none.

    Args:
        cells: the netlist's, by name.
        family: whose cells they are.
        inputs: wires that come from registers outside.
    """
    if family not in _DELAYS:
        return Timing({}, ())
    network = _Network(cells, _DELAYS[family], inputs)
    ends = network.ends()
    return Timing(ends, network.path(max(ends, key=lambda name: ends[name])) if ends else ())


def slowest_path_ns(cells: Mapping[str, Any], family: Family, inputs: Iterable[int] = ()) -> float:
    """Nanoseconds of the slowest path, see `timing`; 0 where there is none."""
    return max(timing(cells, family, inputs).ends_ns.values(), default=0.0)


class Cut(NamedTuple):
    """Where a register would shorten a path the most: behind so many of its cells, leaving ways of at most `ns`."""

    cells: int
    ns: float


def best_cut(path: Sequence[Step], family: Family) -> Cut | None:
    """Where a register would shorten a path the most; None where it would not."""
    if not path:
        return None
    whole = path[-1].ns
    cuts = [
        Cut(cells, max(step.ns + WIRE_NS, _DELAYS[family].clock_to_output + whole - step.ns))
        for cells, (step, following) in enumerate(pairwise(path), 1)
        if not (_is_carry(step.kind) and _is_carry(following.kind))  # a chain is cut where its sum leaves it
    ]
    found = min(cuts, key=lambda cut: cut.ns, default=None)
    return found if found is not None and found.ns < whole else None


def _is_carry(kind: str) -> bool:
    return kind.startswith(_CARRIES)


def is_memory(kind: str) -> bool:
    """Whether a cell is a block RAM or a RAM of LUTs."""
    return kind.startswith((*_BLOCKS, *_LUT_MEMORIES))


class _Network:
    """Arrival times at the outputs of cells."""

    def __init__(self, cells: Mapping[str, Any], delays: _Delays, inputs: Iterable[int]) -> None:
        self._cells, self._delays = cells, delays
        self._arrival = dict.fromkeys(inputs, delays.clock_to_output)
        self._driver: dict[int, tuple[str, str, int]] = {}
        """Of every wire: cell, port, and bit of the port."""
        for name, cell in cells.items():
            for port, direction in cell["port_directions"].items():
                if direction == "output" and port in cell["connections"]:
                    bits = enumerate(cell["connections"][port])
                    self._driver.update((bit, (name, port, place)) for place, bit in bits if isinstance(bit, int))
        self._sequential = frozenset(
            name for name, cell in cells.items() if not any(self._passes(cell, port) for port in cell["connections"])
        )

    def ends(self) -> dict[str, float]:
        """By register or box, the latest time at which an input of it is there, setup included."""
        ends: dict[str, float] = {}
        for name in self._cells:
            if found := self._arrivals(name):
                ends[name] = max(found)[0]
        return ends

    def _arrivals(self, name: str) -> list[tuple[float, int]]:
        """Of a cell where paths end, when each wire into it is there, setup included."""
        cell = self._cells[name]
        found: list[tuple[float, int]] = []
        for port, bits in _ports(cell, "input"):
            if not self._passes(cell, port) and any(bit in self._driver or bit in self._arrival for bit in bits):
                setup = self._setup(cell, port)
                found += [(at + setup, bit) for at, bit in self._at(cell, port, bits)] or [(setup, -1)]
        return found

    def path(self, end: str) -> tuple[Step, ...]:
        """The slowest path that ends in a cell, after `ends`."""
        ns, wire = max(self._arrivals(end))
        steps = [Step(end, self._cells[end]["type"], ns)]
        while wire in self._driver:
            name = self._driver[wire][0]
            steps.append(Step(name, self._cells[name]["type"], self._arrival[wire]))
            wire = max(self._ways(wire))[1]
        return tuple(reversed(steps))

    def _settle(self, wire: int) -> None:
        """Note when `wire` and all that it depends on are there.

        Raises:
            RuntimeError: it depends on itself.
        """
        waiting, open_ = [wire], set[int]()
        while waiting:
            bit = waiting[-1]
            if bit in self._arrival or bit not in self._driver:
                waiting.pop()
                continue
            missing = [near for near in self._sources(bit) if near not in self._arrival and near in self._driver]
            if not missing:
                self._arrival[bit] = self._time(bit)
                open_.discard(bit)
            elif bit in open_:
                raise RuntimeError(f"combinational loop through {self._driver[bit][0]}")
            else:
                open_.add(bit)
                waiting += missing

    def _sources(self, wire: int) -> list[int]:
        """The wires that a change of `wire` within a cycle may come from."""
        name, port, place = self._driver[wire]
        cell = self._cells[name]
        if name in self._sequential:
            return []
        return [bit for _, bits in self._through(cell, port, place) for bit in bits]

    def _through(self, cell: Mapping[str, Any], port: str, place: int) -> list[tuple[str, list[int]]]:
        """Input ports that bit `place` of output `port` depends on, each with those of its wires that matter."""
        kind = cell["type"]
        found = [(name, bits) for name, bits in _ports(cell, "input") if self._passes(cell, name)]
        if kind.startswith("CARRY4"):  # bits below, and of the sum's carries the one below
            cut = {name: list(cell["connections"][name]) for name, _ in found}
            last = {"S": place, "DI": place - (port == "O")}
            return [(n, [b for b in bits[: last.get(n, 3) + 1] if isinstance(b, int)]) for n, bits in cut.items()]
        if kind.startswith("CCU2C") and port == "S0":
            return [(name, bits) for name, bits in found if not name.endswith("1")]
        if kind.startswith(("RAM32M", "RAM64M")):  # four memories, each with an address of its own
            return [(name, bits) for name, bits in found if name == f"ADDR{port.removeprefix('DO')}"]
        return found

    def _passes(self, cell: Mapping[str, Any], port: str) -> bool:
        """Whether a change of this input is seen at an output before the next clock edge."""
        kind = cell["type"]
        if kind.startswith(("LUT", "INV", *_CARRIES, *_MULTIPLEXERS)):
            return True
        if kind.startswith(_LUT_MEMORIES) and not kind.startswith(_BLOCKS):
            return port.startswith(_READ_ADDRESSES)
        return kind.startswith(("DSP48E1", "MULT18X18D")) and not _registers(cell)

    def _at(self, cell: Mapping[str, Any], port: str, bits: list[int]) -> list[tuple[float, int]]:
        """When each bit of an input is there."""
        kind = cell["type"]
        inside = (kind.startswith((*_CARRIES, "DSP48E1")) and port in _IN_SLICE) or (
            kind.startswith(_MULTIPLEXERS) and port not in ("S", "SD", "C0", "S0")
        )
        wire = 0.0 if inside else WIRE_NS
        for bit in bits:
            self._settle(bit)
        return [(self._arrival[bit] + wire, bit) for bit in bits if bit in self._arrival]

    def _time(self, wire: int) -> float:
        """When an output is there; what it depends on is known."""
        return max(self._ways(wire))[0]

    def _ways(self, wire: int) -> list[tuple[float, int]]:
        """When an output could be there by each wire into the cell, and that wire; -1 stands for the cell itself."""
        name, port, place = self._driver[wire]
        cell, delays = self._cells[name], self._delays
        kind = cell["type"]
        if name in self._sequential:
            return [(self._clocked(cell, port), -1)]
        ways = [(0.0, -1)]
        for near, bits in self._through(cell, port, place):
            if _is_carry(kind):
                chained = delays.carry if port in _CARRY_OUT else delays.carry_out
                delay = chained if near in _CARRY_IN else delays.carry_in
            elif kind.startswith(_MULTIPLEXERS):
                delay = delays.multiplexer
            elif kind.startswith(("DSP48E1", "MULT18X18D")):
                delay = delays.product
            else:
                delay = delays.lut
            ways += [(at + delay, bit) for at, bit in self._at(cell, near, bits)]
        if kind.startswith(_LUT_MEMORIES):
            ways.append((delays.shift_register, -1))
        return ways

    def _clocked(self, cell: Mapping[str, Any], port: str) -> float:
        """When an output of a register, a memory or a box is there after the clock's edge."""
        kind, delays = cell["type"], self._delays
        if kind.startswith(_BLOCKS):
            registered = any(_parameter(cell, name) for name in _OUTPUT_REGISTERS)
            return delays.registered_memory if registered else delays.memory
        if kind.startswith("SRL"):
            return delays.shift_register
        if kind.startswith("DSP48E1"):
            return _dsp_output(cell)
        if kind.startswith("MULT18X18D"):
            return delays.product
        return delays.clock_to_output

    def _setup(self, cell: Mapping[str, Any], port: str) -> float:
        kind = cell["type"]
        if kind.startswith("DSP48E1") and port in ("A", "B"):
            if _parameter(cell, f"{port}REG"):
                return 0.324
            return 1.416 if _parameter(cell, "MREG") else 2.739
        if kind.startswith(_BLOCKS):
            return 0.566 if kind.startswith("RAMB") else 0.0
        if kind.startswith("DFF"):
            return self._delays.setup
        # only a flip-flop's reset takes so long; its data is there in time when it reaches the slice
        return self._delays.setup if port in ("R", "S", "LSR") and kind.startswith(_FLIP_FLOPS) else 0.0


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

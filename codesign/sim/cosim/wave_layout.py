"""What of the waves is looked at first: states and operations as text, and a GTKWave layout of the signals that matter.

The signals are ports of the accelerator's modules, with the widths that these declare: a port that is renamed is an
error here, and no row of a layout that shows nothing.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from amaranth.hdl import Fragment, Shape
from amaranth.lib.wiring import Component, Member
from vcd.gtkw import GTKWSave

from codesign._files import content_hash
from codesign.arch.hardware import Hardware
from codesign.rtl.axi import axi4_lite_slave, axi4_master
from codesign.rtl.byte_counters import ByteCounters
from codesign.rtl.counters import BYTES, COUNTERS
from codesign.rtl.executor import Executor
from codesign.rtl.geometry import Geometry
from codesign.rtl.lanes import names
from codesign.rtl.layout import Op
from codesign.rtl.loader import Loader
from codesign.rtl.postprocess import PostProcessor
from codesign.rtl.window import WindowGenerator
from codesign.sim.cosim.bench import BENCH

Format = Literal["hex", "dec", "ascii"]
OPEN = ("run", "executor", "loader", "window generator")
"""Groups of the layout that are unfolded."""


@dataclass(frozen=True)
class Text:
    """A signal of the bench that shows a number of the accelerator as text.

    Attributes:
        name: of the signal, in the bench.
        value: expression in Verilog.
        words: the text of each number.
    """

    name: str
    value: str
    words: Mapping[int, str]

    @property
    def letters(self) -> int:
        return max(map(len, self.words.values()))

    def verilog(self) -> str:
        """Declaration, and what drives it; blanks fill short words, since zeros are shown as other things."""
        cases = "\n".join(f'    {number}: {self.name} = "{self._filled(word)}";' for number, word in self.words.items())
        return f"""\
  reg [{8 * self.letters - 1}:0] {self.name};
  always @* case ({self.value})
{cases}
    default: {self.name} = "{self._filled("?")}";
  endcase"""

    def _filled(self, word: str) -> str:
        return word.ljust(self.letters)


def texts(geometry: Geometry) -> tuple[Text, ...]:
    """The operation that runs, and the states of executor and loader."""
    offset = 0
    for field in geometry.descriptor.fields:
        if field.name == "op":
            break
        offset += field.bits
    bits = geometry.descriptor.bits_of("op")
    executor, loader = _states(Executor(geometry), "executor"), _states(Loader(geometry), "loader")
    return (
        Text("op", f"dut.executor.current[{offset} +: {bits}]", {op.value: op.name for op in Op}),
        Text("executor_state", "dut.executor.executor_state", executor),
        Text("loader_state", "dut.loader.loader_state", loader),
    )


def _states(component: Component, name: str) -> dict[int, str]:
    """The states of a component's machine by their numbers."""
    machine = Fragment.get(component, None).generated[name]
    return {number: state for state, number in machine.encoding.items()}


@dataclass(frozen=True)
class Trace:
    """A row of the layout: a signal by its full name, how GTKWave shows it, and another name if that says more."""

    signal: str
    bits: int
    format: Format = "hex"
    alias: str | None = None

    @property
    def name(self) -> str:
        """As GTKWave has it: with the range of its bits, if there are several."""
        return f"{self.signal}[{self.bits - 1}:0]" if self.bits > 1 else self.signal


def traces(hw: Hardware) -> dict[str, list[Trace]]:
    """The signals that matter, group by group, first what is looked at first."""
    geometry = Geometry(hw)
    walk = _members(WindowGenerator(geometry))
    executor = _ports("dut.executor", _members(Executor(geometry)))
    loader = _ports("dut.loader", _members(Loader(geometry)))
    window = _ports("dut.window", walk)
    post = _ports("dut.post", _members(PostProcessor(geometry)))
    moved = _ports("dut.byte_counters", _members(ByteCounters(geometry)))
    masters = {bus: _ports("dut", axi4_master(geometry.port_bits), f"{bus}_") for bus in names("m_axi", geometry)}
    control = _ports("dut", axi4_lite_slave(), "s_axi_ctrl_")
    text = {item.name: Trace(f"{BENCH}.{item.name}", 8 * item.letters, "ascii") for item in texts(geometry)}
    counters = executor("counters", names=COUNTERS)
    second = [name for name in walk if name.startswith("second_")]
    channels = {"read": ("ar", "r"), "write": ("aw", "w", "b")}
    return {
        "run": [
            *(Trace(f"{BENCH}.{name}", 1) for name in ("clk", "rst")),
            Trace(f"{BENCH}.layer", 32, "dec", "steps done"),
            *counters[:1],
            *executor("start", "running", "layer_done"),
            Trace(f"{BENCH}.dut.interrupt", 1),
        ],
        "executor": [
            text["op"],
            text["executor_state"],
            *executor("descriptor_valid", "descriptor_taken", "pass_start", "advance", "window_end", "pass_end"),
            *executor("pass_done", "crowded", "idle"),
        ],
        "loader": [
            text["loader_state"],
            *loader("beat_valid", "beat_ready", "beat", "descriptor_valid", "pass_loaded", "loading"),
            *loader("load_valid", "load_target", "load_groups", "load_addr", "load_data"),
            *loader("param_write_en", "param_write_addr", "weight_write_group", "weight_write_addr"),
        ],
        "window generator": window("valid", "first", "last", "addr", "key", "pad", "step", *second),
        "post-processor": post("write_en", "write_addr", "write_data", "wide_valid", "wide_channel", "wide_data"),
        **{
            f"{bus} {name}": master(*(port for port in axi4_master(geometry.port_bits) if _channel(port) in prefixes))
            for bus, master in masters.items()
            for name, prefixes in channels.items()
        },
        "s_axi_ctrl": control(*axi4_lite_slave()),
        "counters": [*counters, *moved("counts", names=BYTES), *executor("band_busy")],
    }


def _members(component: Component) -> Mapping[str, Member]:
    """The ports of a component that is no part of a design."""
    component._MustUse__used = True  # only its ports were wanted
    members: Mapping[str, Member] = component.signature.members
    return members


def _channel(port: str) -> str:
    """The channel of AXI that a port is of: `ar` of `arvalid`."""
    return port[:2] if port[:2] in ("ar", "aw") else port[:1]


def _ports(instance: str, members: Mapping[str, Member], prefix: str = "") -> Callable[..., list[Trace]]:
    """A function from names of ports to their rows; an array has one for each element, called by `names` if given."""

    def rows(*ports: str, names: Iterable[str] | None = None) -> list[Trace]:
        return [row for port in ports for row in _rows(port, names)]

    def _rows(port: str, names: Iterable[str] | None) -> Iterator[Trace]:
        member = members[port]
        signal, bits = f"{BENCH}.{instance}.{prefix}{port}", Shape.cast(member.shape).width
        if not member.dimensions:
            yield Trace(signal, bits)
            return
        (elements,) = member.dimensions
        called = [None] * elements if names is None else [*names]
        for element, alias in zip(range(elements), called, strict=True):
            yield Trace(f"{signal}__{element}", bits, "hex" if alias is None else "dec", alias)

    return rows


def layout(hw: Hardware, waves: Path, place: Path) -> str:
    """The save file of GTKWave for the file `waves`, to be written at `place`; its first line says its hash."""
    file = io.StringIO()
    save = GTKWSave(file)
    save.dumpfile(str(waves))
    save.savefile(str(place))
    save.treeopen(f"{BENCH}.")
    save.treeopen(f"{BENCH}.dut.")
    save.sst_expanded(True)
    save.signals_width(240)
    for group, rows in traces(hw).items():
        with save.group(group, closed=group not in OPEN):
            for row in rows:
                save.trace(row.name, row.alias, datafmt=row.format)
    text = file.getvalue()
    return _mark(text) + text


def is_unchanged(place: Path) -> bool:
    """Whether a layout is as `layout` wrote it; GTKWave writes another first line when it saves one."""
    first, end, rest = place.read_bytes().decode(errors="replace").partition("\n")
    return first + end == _mark(rest)


def _mark(text: str) -> str:
    return f"[*] codesign layout {content_hash(text)}\n"

"""Twins of processing elements: beside the generated ones, cycle by cycle, and in whole networks."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator, Sequence

import numpy as np
import pytest
from amaranth.hdl import Module
from amaranth.lib.wiring import Component, In

from codesign.arch.band import Band
from codesign.arch.load import load_hardware
from codesign.arch.scheme import Scheme
from codesign.integer.random_network import random_network
from codesign.rtl.array.dsp48e2 import models
from codesign.rtl.array.packed import PackedElement
from codesign.rtl.array.processing_element import ProcessingElement
from codesign.rtl.array.row import decoded
from codesign.rtl.array.weight_stationary_row import WeightStationaryElement
from codesign.rtl.geometry import Geometry
from codesign.rtl.modules import Port, SharedModule, convert, modules_of, place, ports_of
from codesign.search.space import band_ratio
from codesign.sim.cosim import twins, verilator
from codesign.sim.cosim.run import run_network
from codesign.workload import zoo
from tests.rtl.bench import APOT4, BINARY, FIXED4, FIXED8, LUT8, PACKED4, PACKED8, POT4, POT5, TERNARY, geometry, rows

CYCLES = 4000
SETTLED = 60
"""Cycles after a reset or a change of the codes' width in which nothing is compared."""


def fixed(bits: int, **more: object) -> Band:
    return Band.model_validate({"scheme": "fixed", "weight_bits": bits, "rows": 2, "multiplier": "lut", **more})


def narrow(*bands: Band, **more: object) -> Geometry:
    """With codes of 2, 4 and 8 bits, and a band that takes two of 2 bits at once."""
    return geometry(*bands, fixed(4, crumbs=True), act_modes=(2, 4, 8), **more)  # type: ignore[arg-type]


POT3 = Band(scheme=Scheme.POT, weight_bits=3, rows=1)
APOT5 = Band(scheme=Scheme.APOT, weight_bits=5, rows=1)
SP2 = Band(scheme=Scheme.SP2, weight_bits=4, rows=1)
BOTH = (4, 8)
KINDS = {
    "pot4": geometry(POT4, dot=8),
    "pot4 over 8 bits": geometry(POT4, dot=4, act_bits=8),
    "fixed8 over 8 bits": geometry(FIXED8, LUT8, dot=4, act_bits=8),
    "pot4 over two widths": geometry(POT4, dot=8, act_modes=BOTH),
    "pot4 over three": narrow(rows(POT4, 2), dot=8),
    "pot3": geometry(POT3, dot=5),
    "apot": geometry(APOT4, APOT5, dot=6),
    "sp2 over two widths": geometry(SP2, dot=8, act_modes=BOTH),
    "ternary, binary": geometry(TERNARY, BINARY, dot=16),
    "ternary over three widths": narrow(rows(TERNARY, 2), dot=8),
    "fixed4, fixed8 in LUTs": geometry(FIXED4, LUT8, dot=3),
    "fixed over 2 bits": geometry(FIXED4, fixed(2), act_bits=2, dot=8),
    "pairs in LUTs": geometry(fixed(4, pairs=True), dot=8, act_modes=BOTH),
    "pairs over 2 bits": geometry(fixed(4, pairs=True), FIXED4, act_bits=2, dot=4),
    "crumbs": narrow(dot=8),
    "crumbs and pairs": narrow(fixed(4, crumbs=True, pairs=True), dot=8),
    "DSPs": geometry(FIXED8, fixed(5, multiplier="dsp"), dot=7),
    "pairs in DSPs": geometry(fixed(4, multiplier="dsp", pairs=True), dot=8, act_modes=BOTH),
    "four products": geometry(PACKED4, dot=8),
    "four products over two widths": geometry(PACKED4, dot=8, act_modes=BOTH),
    "four products in pairs": geometry(fixed(4, multiplier="dsp", pack=4, pairs=True), dot=8, act_modes=BOTH),
    "four products over three": narrow(fixed(4, multiplier="dsp", pack=4, rows=4), dot=8),
    "two products": geometry(PACKED8, dot=6),
    "two products in pairs": geometry(fixed(4, multiplier="dsp", pack=2, pairs=True), dot=4, act_modes=BOTH),
    "weights stay": geometry(POT4, FIXED4, TERNARY, dot=8, dataflow="ws", groups=2),
    "slices": geometry(PACKED4, PACKED8, FIXED8, dot=8, act_modes=BOTH, device="xck26"),
    "slices over 8 bits": geometry(PACKED8, dot=8, act_bits=8, device="xck26"),
    "slices hold weights": geometry(
        FIXED8,
        fixed(4, multiplier="dsp", pack=2),
        fixed(4, multiplier="dsp", pack=3, rows=3),
        dot=8,
        dataflow="ws",
        groups=2,
        device="xck26",
    ),
    "packed weights stay": geometry(
        fixed(4, multiplier="dsp", pack=2), fixed(3, multiplier="dsp", pack=3, rows=3), dot=8, dataflow="ws", groups=2
    ),
}


class Fed(Component):  # type: ignore[misc]  # Amaranth is not typed
    """A processing element behind the decoder of its row: it takes weights as they are stored."""

    def __init__(self, shape: Geometry, band: Band) -> None:
        self.shape, self.band = shape, band
        if shape.weight_stationary:
            self.element: SharedModule = WeightStationaryElement(shape, band)
        else:
            self.element = (PackedElement if band.pack > 1 else ProcessingElement)(shape, band)
        self.lines = shape.band_height(band)
        self.stored_bits = band.weight_bits * shape.weights_of_place(band)
        members = dict(self.element.signature.members)
        members["w"] = In(shape.dot * self.stored_bits).array(self.lines)
        if shape.carries(band):
            members["carry"] = In(shape.dot * shape.weights_of_place(band))
        super().__init__(members)

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.element = place(self.element)
        given = self.element.w if isinstance(self.element.w, list) else [self.element.w]
        carry = self.carry if self.shape.carries(self.band) else None
        m.d.comb += [word.eq(decoded(self.w[r], self.shape, self.band, carry)) for r, word in enumerate(given)]
        own = {port.name: port.value for port in ports_of(self)}
        for port in ports_of(self.element):
            if not port.name.startswith("w") or port.name.startswith("w_out"):
                mine = own[port.name]
                m.d.comb += port.value.eq(mine) if port.direction == "input" else mine.eq(port.value)
        return m


def legal(band: Band) -> list[int]:
    """Weights as they may be stored: a filter's own ones; of a pair, whatever there is."""
    codes = range(1 << band.weight_bits)
    if band.scheme is Scheme.TERNARY:
        return [0, 1, 3]
    if band.scheme is Scheme.FIXED and not band.pairs:
        return [code for code in codes if code != 1 << (band.weight_bits - 1)]
    return list(codes)


class Pair:
    """An element as it is generated and its twin, in one bench."""

    def __init__(self, number: int, shape: Geometry, band: Band) -> None:
        self.fed = Fed(shape, band)
        self.shape, self.band = shape, band
        (twin,) = (one for one in twins.twins_of(shape) if one.module.endswith(self.fed.element.module_name))
        generated, own = f"r{number}_", f"t{number}_"
        text = convert(self.fed, f"{generated}fed", prefix=generated)
        inner = modules_of(text)[generated + self.fed.element.module_name]
        prefix = twin.module.removesuffix(self.fed.element.module_name)
        self.verilog = f"{twin.verilog}{text}{text.replace(inner, '').replace(generated, own)}".replace(prefix, own)
        self.c = twin.c.replace(prefix, own)
        self.names = generated, own

    def signals(self) -> Iterator[str]:
        """Declarations and instances."""
        shared = [port for port in ports_of(self.fed) if port.direction == "input"]
        shown = [port for port in ports_of(self.fed) if port.direction == "output"]
        for port in shared:
            yield f"reg [{port.width - 1}:0] {self.names[0]}{port.name} = 0;"
        for name in self.names:
            for port in shown:
                yield f"wire [{port.width - 1}:0] {name}{port.name};"
            wires = [f".{port.name}({self.names[0]}{port.name})" for port in shared]
            wires += [f".{port.name}({name}{port.name})" for port in shown]
            yield f"{name}fed {name}fed_i(.clk(clk), .rst(rst), {', '.join(wires)});"
        codes = legal(self.band)
        yield f"reg [{self.band.weight_bits - 1}:0] {self.names[0]}legal [0:{len(codes) - 1}];"
        yield f"initial begin {' '.join(f'{self.names[0]}legal[{i}] = {code};' for i, code in enumerate(codes))} end"

    def driven(self) -> Iterator[str]:
        """What happens at the other edge of the clock: new inputs."""
        bits, name = self.band.weight_bits, self.names[0]
        for port in ports_of(self.fed):
            if port.direction == "input" and not port.name.startswith("w__"):
                yield f"{name}{port.name} <= {self._input(port)};"
        for i in range(self.shape.dot * self.shape.weights_of_place(self.band)):
            place = f"[{(i + 1) * bits - 1}:{i * bits}]"
            for r in range(self.fed.lines):
                yield f"{name}w__{r}{place} = {name}legal[$urandom % {len(legal(self.band))}];"
                if r and not self.band.pairs:  # less the borrow of the row that shares the multiplier
                    yield f"{name}w__{r}{place} = {name}w__{r}{place} - {name}w__{r - 1}[{(i + 1) * bits - 1}];"

    def _input(self, port: Port) -> str:
        if port.name in ("doubled", "narrow", "upper"):
            return port.name
        if port.name == "first":
            return "settling || $urandom % 8 == 0"
        if port.name in ("done", "take"):
            return "$urandom % 4 == 0"
        return f"{{{', '.join(['$urandom'] * -(-port.width // 32))}}}"

    def compared(self) -> Iterator[tuple[str, str]]:
        for port in ports_of(self.fed):
            if port.direction == "output":
                yield tuple(f"{name}{port.name}" for name in self.names)  # type: ignore[misc]


def differences(pairs: Sequence[Pair]) -> set[int]:
    """The pairs whose outputs differ, by number, in a run with random codes and weights."""
    compared = "\n".join(
        f"      if ({ours} !== {theirs}) wrong[{number}] = 1;"
        for number, pair in enumerate(pairs)
        for ours, theirs in pair.compared()
    )
    bench = f"""\
module bench;
  reg clk = 0, rst = 1, doubled = 0, narrow = 0, upper = 0, settling = 1;
  reg [{len(pairs) - 1}:0] wrong = 0;
  integer now = 0;
  always #1 clk = ~clk;
  {chr(10).join(line for pair in pairs for line in pair.signals())}
  always @(negedge clk) begin
    if (now % 400 == 0) begin
      doubled <= now / 400 % 3 == 1;
      narrow <= now / 400 % 3 == 2;
      upper <= now / 1200 % 2 == 1;
    end
    rst <= now % 400 < 3;
    settling <= now % 400 < {SETTLED};
    {chr(10).join(line for pair in pairs for line in pair.driven())}
    if (now % 400 > {SETTLED}) begin
{compared}
    end
    now <= now + 1;
    if (now == {CYCLES}) begin
      $display("wrong %b", wrong);
      $finish;
    end
  end
endmodule
"""
    main = """
#include "Vtop.h"
#include "verilated.h"
int main(int argc, char** argv) {
  VerilatedContext context;
  Vtop top(&context);
  while (!context.gotFinish()) {
    top.eval();
    if (!top.eventsPending()) break;
    context.time(top.nextTimeSlot());
  }
}
"""
    text = "\n".join(pair.verilog for pair in pairs)
    # declarations of functions come first
    declared = "\n".join(line for line in text.splitlines() if line.startswith("import"))
    rest = "\n".join(line for line in text.splitlines() if not line.startswith("import"))
    c = {twins.C_FILE: twins.C_HEAD + "".join(pair.c for pair in pairs)}
    files = {"bench.sv": f"{declared}\n{rest}\n{bench}", **models(KINDS["slices"].hw)}
    folder = verilator.build(files, "bench", (), main=main, called=c)
    said = subprocess.run([folder / "bench"], capture_output=True, text=True, check=True).stdout
    (line,) = (line for line in said.splitlines() if line.startswith("wrong"))
    return {number for number, bit in enumerate(reversed(line.split()[1])) if bit == "1"}


def test_twins_of_every_kind_of_element_show_the_same_in_every_cycle() -> None:
    bands = [(f"{kind}: {band}", shape, band) for kind, shape in KINDS.items() for band in dict.fromkeys(shape.bands)]
    pairs = [Pair(number, shape, band) for number, (_, shape, band) in enumerate(bands)]
    assert [bands[number][0] for number in differences(pairs)] == []


def test_a_twin_that_computes_something_else_is_found() -> None:
    """In one a code's lowest bit is turned, in one a step is added a cycle late."""
    pairs = [Pair(number, KINDS["pot4"], POT4) for number in range(3)]
    pairs[1].c = pairs[1].c.replace("int(a)", "int(a ^ 1)")
    pairs[2].verilog = pairs[2].verilog.replace("accumulator) + total_1;", "accumulator) + total_0;")
    assert differences(pairs) == {1, 2}


def test_products_that_do_not_fit_a_lane_have_no_twin() -> None:
    assert [twin.module for twin in twins.twins_of(geometry(POT5, POT4, dot=4, act_bits=8))] == ["codesign_pe_pot4"]
    assert twins.twins_of(geometry(POT5, dot=4, act_bits=8)) == []


def test_networks_do_the_same_with_twins() -> None:
    hw = load_hardware("tiny")
    network = random_network(zoo.get("smallcnn"), band_ratio(hw), hw.act_bits, seed=0)
    images = np.random.default_rng(0).integers(0, 1 << network.input.bits, (2, *network.input.shape))
    generated, twin = (run_network(hw, network, images, elements=each) for each in ("rtl", "twins"))
    assert twin.exact and generated.exact
    assert (generated.twins, twin.twins) == ((), tuple(f"codesign_pe_{x}" for x in ("pot4", "fixed4_lut", "fixed8")))
    assert twin.layers == generated.layers and np.array_equal(twin.outputs, generated.outputs)


def test_twins_go_with_nothing_that_they_would_spoil() -> None:
    hw = load_hardware("tiny")
    network = random_network(zoo.get("smallcnn"), band_ratio(hw), hw.act_bits, seed=0)
    image = np.zeros((1, *network.input.shape), dtype=np.int64)
    with pytest.raises(ValueError, match="defined states"):
        run_network(hw, network, image, simulator="scrambled", elements="twins")

"""DSP48E2s: their model beside the slice that Yosys knows, every product of a slice, cascades, and wide products."""

from __future__ import annotations

import re
from itertools import product as pairs_of
from pathlib import Path

import numpy as np
import pyosys
import pytest
from amaranth.hdl import Module, Signal, signed
from amaranth.lib.wiring import Component, In, Out

from codesign._files import scratch_folder
from codesign.arch.band import Band
from codesign.arch.devices import Family
from codesign.arch.scheme import Scheme
from codesign.rtl.array.dsp48e2 import MODEL_FILE, Operand, models, multiply_add
from codesign.rtl.array.multiply import registered_product
from codesign.rtl.array.packed import PackedElement
from codesign.rtl.geometry import Geometry
from codesign.sim.cosim import icarus
from codesign.verify.hardware import random_hardware
from tests.conftest import needs_icarus
from tests.rtl.array.test_packed import run
from tests.rtl.bench import as_signed, geometry, play
from tests.rtl.verilog_bench import play_verilog

DEVICE = "xck26"
MODEL = models(geometry(device=DEVICE).hw)
OFF = ("ADREG", "ALUMODEREG", "CARRYINREG", "CARRYINSELREG", "CREG", "DREG", "INMODEREG", "OPMODEREG")
ZEROS = [
    "ACIN",
    "BCIN",
    "C",
    "CARRYCASCIN",
    "CARRYIN",
    "CARRYINSEL",
    "D",
    "INMODE",
    "ALUMODE",
    "MULTSIGNIN",
    "CEA1",
    "CEB1",
    "CEAD",
    "CEALUMODE",
    "CEC",
    "CECARRYIN",
    "CECTRL",
    "CED",
    "CEINMODE",
    "RSTA",
    "RSTB",
    "RSTC",
    "RSTD",
    "RSTM",
    "RSTP",
    "RSTALLCARRYIN",
    "RSTALUMODE",
    "RSTCTRL",
    "RSTINMODE",
]


def yosys_slice() -> str:
    """Yosys's own model of a DSP48E1, its multiplier as wide as that of a DSP48E2."""
    text = (Path(pyosys.__file__).parent / "share" / "xilinx" / "cells_sim.v").read_text()
    found = re.search(r"^module DSP48E1 .*?^endmodule", text, re.MULTILINE | re.DOTALL)
    assert found is not None
    wider = found[0]
    for narrow, wide in (("[24:0]", "[26:0]"), ("25'b0", "27'b0"), ("[42:0]", "[44:0]"), ("43'b", "45'b")):
        assert narrow in wider
        wider = wider.replace(narrow, wide)
    return wider


@needs_icarus
def test_the_model_is_the_slice_that_yosys_knows() -> None:
    """Each set of registers and each sum there is, with random operands, extremes among them, and enables."""
    settings = [*pairs_of((0, 1), (0, 1), (0, 1), (0, 1), (0b000, 0b001, 0b101))]
    instances, compared = [], []
    for n, (a, b, m, p, z) in enumerate(settings):
        registers = f".AREG({a}), .ACASCREG({a}), .BREG({b}), .BCASCREG({b}), .MREG({m}), .PREG({p})"
        registers += "".join(f", .{name}(0)" for name in OFF)
        common = ".CLK(clk), .A(a), .B(b), .PCIN(pcin), .CEA2(cea), .CEB2(ceb), .CEM(1'b1), .CEP(1'b1)"
        common += "".join(f", .{name}(0)" for name in ZEROS)
        instances.append(
            f"  wire [47:0] p{n}, c{n}, q{n}, d{n};\n"
            f"  DSP48E2 #({registers}) u{n}({common}, .OPMODE({0b0101 | z << 4}), .P(p{n}), .PCOUT(c{n}));\n"
            f"  DSP48E1 #({registers}) v{n}({common}, .OPMODE({0b0101 | z << 4}), .P(q{n}), .PCOUT(d{n}));\n"
        )
        compared.append(f"      if (p{n} !== q{n} || c{n} !== d{n}) wrong = wrong + 1;\n")
    bench = f"""\
module bench;
  reg clk = 0;
  reg signed [29:0] a;
  reg [17:0] b;
  reg [47:0] pcin;
  reg cea, ceb;
  integer t, wrong = 0, unlike = 0;
{"".join(instances)}
  initial begin
    for (t = 0; t < 3000; t = t + 1) begin
      a = $signed($urandom) >>> 5;
      if ($urandom % 4 == 0) a = $urandom % 2 ? 30'h03ffffff : -30'sh04000000;
      b = $urandom;
      if ($urandom % 4 == 0) b = $urandom % 2 ? 18'h1ffff : 18'h20000;
      pcin = {{$urandom, $urandom}};
      {{cea, ceb}} = $urandom;
      #1;
{"".join(compared)}
      if (p0 !== p1) unlike = unlike + 1;
      clk = 1;
      #1 clk = 0;
    end
    if (wrong != 0 || unlike == 0) $fatal(1, "%0d differ", wrong);
    $display("%0d", t);
    $finish;
  end
endmodule
"""
    folder = icarus.build({MODEL_FILE: MODEL[MODEL_FILE], "yosys.v": yosys_slice(), "bench.sv": bench}, "bench")
    with scratch_folder() as work:
        assert icarus.run(folder, "bench", work) == 3000


@needs_icarus
@pytest.mark.parametrize("change", ['USE_SIMD("TWO24")', "AREG(2)", "CREG(1)", 'A_INPUT("CASCADE")'])
def test_what_is_not_modelled_is_refused(change: str) -> None:
    off = "".join(f".{name}(0), " for name in OFF if not change.startswith(name))
    bench = f'module bench;\n  DSP48E2 #({off}.{change}) slice();\n  initial #1 $display("1");\nendmodule\n'
    folder = icarus.build({MODEL_FILE: MODEL[MODEL_FILE], "bench.sv": bench}, "bench")
    with scratch_folder() as work, pytest.raises(RuntimeError, match="DSP48E2: .* modelled|DSP48E2: .* the same"):
        icarus.run(folder, "bench", work)


def packed_band(weight_bits: int, pack: int) -> Band:
    return Band(scheme=Scheme.FIXED, weight_bits=weight_bits, rows=pack // 2, pack=pack)


def in_icarus(shape: Geometry) -> object:
    return lambda component, drive, watch, cycles: play_verilog(component, drive, watch, cycles, shape.hw)


@needs_icarus
@pytest.mark.parametrize(
    ("weight_bits", "act_bits", "pack"),
    [(4, 4, 4), (3, 5, 4), (8, 4, 2), pytest.param(6, 4, 4, marks=pytest.mark.slow)],
)
def test_every_product_of_a_slice(weight_bits: int, act_bits: int, pack: int) -> None:
    """All codes of two columns with all weights of the rows, and so every borrow of one field from the next."""
    band, height = packed_band(weight_bits, pack), pack // 2
    shape = geometry(band, act_bits=act_bits, device=DEVICE)
    limit, codes = (1 << weight_bits - 1) - 1, np.arange(1 << act_bits)
    weights = np.arange(-limit, limit + 1)
    grid = np.meshgrid(codes, codes, *[weights] * height, indexing="ij")
    flat = np.stack([axis.reshape(-1) for axis in grid], axis=1)[:, :, None]
    idle = np.zeros((shape.band_latency(band) + 3, *flat.shape[1:]), dtype=np.int64)
    steps = np.concatenate([flat, idle])
    a, w, always = steps[:, :2], steps[:, 2:], np.ones(len(steps), dtype=np.int64)
    seen = run(shape, band, a, w, always, always, in_icarus(shape))["seen_result"]
    result = as_signed(seen, shape.acc_bits)
    for r, i in np.ndindex(height, 2):
        at = shape.band_latency(band) + r + i
        assert np.array_equal(result[at : at + len(flat), 2 * r + i], (w[:, r] * a[:, i])[: len(flat), 0]), (r, i)


CASCADES = {(4, 4, 4): 4, (5, 4, 4): 4, (6, 4, 4): 1, (4, 5, 4): 4, (5, 5, 4): 2, (8, 8, 2): 4, (8, 4, 2): 4}
"""Slices of a cascade by bits of weights and codes and products in a slice; with a DSP48E1, 2, 0, 2, 1 and 1 of the
second to the sixth."""


def test_the_wider_port_makes_longer_cascades() -> None:
    for (weight_bits, act_bits, pack), length in CASCADES.items():
        band = packed_band(weight_bits, pack)
        assert geometry(band, act_bits=act_bits, dot=4, device=DEVICE).cascade(band) == length
    older = [packed_band(w, pack).cascade_limit(a) for w, a, pack in CASCADES]
    assert older == [4, 2, 0, 2, 1, 1, 4]


@needs_icarus
@pytest.mark.parametrize(("weight_bits", "act_bits", "pack"), CASCADES)
def test_random_dot_products_of_cascades(weight_bits: int, act_bits: int, pack: int) -> None:
    """Two chains, with extremes of either sign among the operands, so that fields come to their ends."""
    rng = np.random.default_rng(weight_bits * 100 + act_bits * 10 + pack)
    band, height, steps = packed_band(weight_bits, pack), pack // 2, 500
    shape = geometry(band, act_bits=act_bits, dot=8, device=DEVICE)
    limit, top = (1 << weight_bits - 1) - 1, (1 << act_bits) - 1
    idle = shape.band_latency(band) + 3
    a, w = rng.integers(0, top + 1, (steps, 2, 8)), rng.integers(-limit, limit + 1, (steps, height, 8))
    a[:100] = rng.choice([0, top], (100, 2, 1))
    w[:100] = rng.choice([-limit, limit], (100, height, 1))
    a, w = (np.concatenate([part, np.zeros((idle, *part.shape[1:]), dtype=np.int64)]) for part in (a, w))
    always = np.ones(len(a), dtype=np.int64)
    result = as_signed(run(shape, band, a, w, always, always, in_icarus(shape))["seen_result"], shape.acc_bits)
    for r, i in np.ndindex(height, 2):
        at = shape.band_latency(band) + r + i
        assert np.array_equal(result[at : at + steps, 2 * r + i], (w[:, r] * a[:, i]).sum(axis=1)[:steps]), (r, i)


class Registered(Component):  # type: ignore[misc]  # Amaranth is not typed
    """A product two cycles after its operands."""

    def __init__(self, family: Family, a_bits: int, b_bits: int) -> None:
        self.family: Family = family
        super().__init__({"a": In(signed(a_bits)), "b": In(b_bits), "product": Out(a_bits + b_bits)})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        product = Signal(signed(len(self.product)), name="whole")
        m.d.sync += registered_product(m, self.family, self.a, self.b, product, "product")
        m.d.comb += self.product.eq(product)
        return m


@needs_icarus
@pytest.mark.parametrize(("a_bits", "b_bits"), [(25, 16), (27, 17), (28, 16), (29, 16), (25, 24), (30, 24), (12, 24)])
def test_products_in_one_slice_or_two(a_bits: int, b_bits: int) -> None:
    """As Verilog with the model, in Amaranth's simulator, and of the other families: all are the product."""
    rng = np.random.default_rng(a_bits)
    half, top = 1 << (a_bits - 1), (1 << b_bits) - 1
    a = np.append(rng.integers(-half, half, 200), [-half, half - 1, -1, 0, (1 << 17) - 1 if a_bits > 18 else 1, -half])
    b = np.append(rng.integers(0, top + 1, 200), [top, top, top, 1, top, 0])
    drive, cycles = {"a": a, "b": b}, len(a) + 2
    hw = geometry(device=DEVICE).hw
    text = play_verilog(Registered("xcup", a_bits, b_bits), drive, ["product"], cycles, hw)["product"]
    own = [play(Registered(family, a_bits, b_bits), drive, ["product"], cycles) for family in ("xcup", "xc7", "ecp5")]
    for seen in (text, *(each["product"] for each in own)):
        assert np.array_equal(as_signed(seen[2:], a_bits + b_bits), a * b)


def test_a_factor_that_is_too_wide_is_refused() -> None:
    with pytest.raises(ValueError, match="does not multiply 19 by 19 bits"):
        multiply_add(Module(), "slice", Operand(Signal(signed(19))), Operand(Signal(18)))


@pytest.mark.parametrize("seed", range(3))
def test_slices_are_as_many_as_were_counted(seed: int) -> None:
    """Instances in the Verilog of random accelerators."""
    from codesign.rtl.modules import modules_of
    from codesign.rtl.verilog import TOP, generate
    from codesign.sim.synthesis.hierarchy import Hierarchy

    hw = random_hardware(np.random.default_rng(seed), f"random{seed}", device=DEVICE)
    modules = modules_of(generate(hw))
    count = Hierarchy(modules, TOP, TOP).instances(TOP)
    assert sum(number * modules[name].count("DSP48E2 #(") for name, number in count.items()) == hw.dsp_estimate


def test_an_element_of_the_older_family_has_no_instance() -> None:
    from codesign.rtl.modules import convert

    band = packed_band(4, 4)
    texts = {d: convert(PackedElement(geometry(band, dot=4, device=d), band), "dut") for d in (DEVICE, "xc7z045")}
    assert {device: text.count("DSP48E2 #(") for device, text in texts.items()} == {DEVICE: 4, "xc7z045": 0}

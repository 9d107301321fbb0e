"""Resources of small designs whose netlist can be told by hand, the sum over a hierarchy, and the cache."""

from collections.abc import Callable
from pathlib import Path

import pytest
from amaranth.back import verilog
from amaranth.hdl import Module, Signal, unsigned
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import Component, In, Out

from codesign.arch.band import Band
from codesign.arch.devices import DEVICES, Family
from codesign.arch.load import load_hardware
from codesign.arch.scheme import Scheme
from codesign.rtl.array.packed import PackedElement
from codesign.rtl.modules import convert, modules_of
from codesign.sim.synthesis import netlist
from codesign.sim.synthesis.resources import ModuleResources, Resources, synthesize, synthesize_hardware
from tests.rtl.bench import geometry

pytestmark = pytest.mark.usefixtures("own_cache")


@pytest.fixture
def empty_cache(own_cache: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of an empty cache."""
    monkeypatch.setenv("CODESIGN_CACHE", str(tmp_path))
    return tmp_path / "synthesis"


class Multiplier(Component):
    """A registered product of two 12-bit numbers."""

    a: In(12)
    b: In(12)
    y: Out(24)

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.d.sync += self.y.eq(self.a * self.b)
        return m


class Register(Component):
    """Eight flip-flops with reset, each behind one two-input gate."""

    a: In(8)
    b: In(8)
    y: Out(8)

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.d.sync += self.y.eq(self.a & self.b)
        return m


class Storage(Component):
    """A memory of 1024 words of 36 bits with a synchronous read port: exactly one RAMB36E1."""

    address: In(10)
    write: In(1)
    data: In(36)
    out: Out(36)

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.memory = memory = Memory(shape=unsigned(36), depth=1024, init=[])
        write, read = memory.write_port(), memory.read_port()
        m.d.comb += [write.addr.eq(self.address), write.data.eq(self.data), write.en.eq(self.write)]
        m.d.comb += [read.addr.eq(self.address), read.en.eq(1), self.out.eq(read.data)]
        return m


class Everything(Component):
    """Three registers in a row, a multiplier and a memory."""

    a: In(12)
    b: In(12)
    y: Out(36)

    def elaborate(self, platform: object) -> Module:
        m = Module()
        value = Signal(8)
        m.d.comb += value.eq(self.a)
        for index in range(3):
            m.submodules[f"register_{index}"] = register = Register()
            m.d.comb += [register.a.eq(value), register.b.eq(self.b)]
            value = register.y
        m.submodules.multiplier = multiplier = Multiplier()
        m.d.comb += [multiplier.a.eq(self.a), multiplier.b.eq(value)]
        m.submodules.storage = storage = Storage()
        m.d.comb += [storage.address.eq(self.b), storage.data.eq(multiplier.y), storage.write.eq(self.a[0])]
        m.d.comb += self.y.eq(storage.out)
        return m


def written(component: Component) -> str:
    return verilog.convert(component, name="top", emit_src=False)


@pytest.mark.parametrize(
    ("component", "expected"),
    [
        (Multiplier, Resources(lut=0, ff=0, dsp=1, bram36=0)),  # the output register is inside the DSP
        (Register, Resources(lut=8, ff=8, dsp=0, bram36=0)),
        (Storage, Resources(lut=0, ff=0, dsp=0, bram36=1)),
    ],
)
def test_single_blocks_on_xilinx(component: Callable[[], Component], expected: Resources) -> None:
    assert synthesize(written(component()), "top", "xc7").total == expected


def test_blocks_on_ecp5() -> None:
    synthesis = synthesize(written(Everything()), "top", "ecp5")
    registers, product = 3 * 8, 12 + 8  # the product's register stays outside the multiplier
    assert synthesis.total == Resources(lut=registers, ff=registers + product, dsp=1, bram36=1)


def test_blocks_on_arora_v() -> None:
    """Two RAMs of 18 kbit for a memory of 36; the product is in LUTs, and nothing is a DSP."""
    storage = synthesize(written(Storage()), "top", "gw5a").total
    assert storage.bram36 == 1
    register = synthesize(written(Register()), "top", "gw5a").total
    assert register == Resources(lut=8, ff=8, dsp=0, bram36=0)
    product = synthesize(written(Multiplier()), "top", "gw5a").total
    assert product.dsp == 0 and product.ff == 24 and product.lut > 12 * 12


def test_total_is_the_sum_over_modules() -> None:
    synthesis = synthesize(written(Everything()), "top", "xc7")
    in_dsp = 8  # the last register is an operand of the multiplier, and inside the DSP
    assert synthesis.total == Resources(lut=3 * 8, ff=3 * 8 - in_dsp, dsp=1, bram36=1)
    total = Resources()
    for module in synthesis.modules:
        total = total.plus(module.together)
    assert total == synthesis.total
    names = [module.name for module in synthesis.modules]
    assert len(names) == len(set(names)) >= 6


def test_shared_modules_count_as_often_as_they_appear() -> None:
    text = """
module pair(input clk, input [3:0] a, output [3:0] y);
  wire [3:0] m;
  cell_ first (.clk(clk), .a(a), .y(m));
  cell_ second (.clk(clk), .a(m), .y(y));
endmodule
module top(input clk, input [3:0] a, output [3:0] y);
  wire [3:0] m, n;
  pair one (.clk(clk), .a(a), .y(m));
  pair two (.clk(clk), .a(m), .y(n));
  cell_ last (.clk(clk), .a(n), .y(y));
endmodule
module unused(input clk, input [3:0] a, output [3:0] y);
  cell_ it (.clk(clk), .a(a), .y(y));
endmodule
module cell_(input clk, input [3:0] a, output reg [3:0] y);
  always @(posedge clk) y <= {^a, &a, |a, a[0] ^ a[1]};
endmodule
"""
    synthesis = synthesize(text, "top", "xc7")
    all_five = next(module.together for module in synthesis.modules if module.name == "cell_")
    assert all_five.ff == 5 * 4
    assert {(module.name, module.instances) for module in synthesis.modules} == {("cell_", 5), ("pair", 2), ("top", 1)}
    assert synthesis.modules[0] == ModuleResources("cell_", 5, all_five)
    assert synthesis.total.ff == 20


def test_a_box_has_the_ports_but_no_content() -> None:
    modules = modules_of(written(Everything()))
    for name in ("top.multiplier", "top.storage"):
        text = netlist.box(modules[name])
        assert "assign" not in text
        assert "always" not in text
        for port in ("input", "output"):
            assert text.count(f"{port} ") == modules[name].count(f"{port} ")


def test_a_damaged_cache_entry_is_replaced(empty_cache: Path) -> None:
    first = synthesize(written(Register()), "top", "xc7")
    (entry,) = empty_cache.glob("*.json")
    entry.write_text("{")
    assert synthesize(written(Register()), "top", "xc7") == first
    assert entry.read_text() != "{"


def test_no_statistics_is_an_error_with_yosys_own_words(empty_cache: Path) -> None:
    with pytest.raises(RuntimeError, match=r"Yosys gave no statistics.*ERROR.*") as caught:
        synthesize("module top(input a);\n  nonsense x (.a(a));\nendmodule\n", "top", "xc7")
    assert "nonsense" in str(caught.value)
    assert not list(empty_cache.glob("*.json"))


def test_a_cell_that_cannot_be_counted_is_an_error() -> None:
    text = "module top(input d, g, output q);\n  LDPE_1 x (.D(d), .G(g), .GE(1'b1), .PRE(1'b0), .Q(q));\nendmodule\n"
    with pytest.raises(RuntimeError, match=r"Yosys gave no statistics|unknown kind, LDPE_1"):
        synthesize(text, "top", "xc7")


def test_fits_compares_every_resource() -> None:
    device = DEVICES["xc7z020"]
    full = Resources(device.lut, device.ff, device.dsp, device.bram36)
    assert full.fits(device)
    assert all(not full._replace(**{key: getattr(full, key) + 0.5}).fits(device) for key in Resources._fields)


@pytest.mark.slow
def test_tiny_accelerator() -> None:
    hw = load_hardware("tiny")
    synthesis = synthesize_hardware(hw)
    assert synthesis.total.dsp == hw.dsp_estimate
    assert synthesis.total.fits(hw.totals)
    instances = {module.name: module.instances for module in synthesis.modules}
    assert instances["codesign_pe_pot4"] == 3 * hw.columns
    assert instances["codesign_pe_fixed8"] == hw.columns
    answer = synthesis.to_json(hw.totals)
    assert answer["fits"] is True
    assert answer["lut"] == sum(row["lut"] for row in answer["per_module"])
    assert answer["slowest_path_ns"] == max(row["slowest_path_ns"] or 0.0 for row in answer["per_module"])


def test_instances_of_slices_hold_the_registers_and_sums_of_an_element() -> None:
    """What Yosys finds for the older slice by itself is not more than what an instance holds."""
    band = Band(scheme=Scheme.FIXED, weight_bits=4, rows=2, pack=4)
    used: dict[Family, Resources] = {}
    for device in (DEVICES["xc7z045"], DEVICES["xck26"]):
        element = PackedElement(geometry(band, dot=4, device=device.name), band)
        used[device.family] = synthesize(convert(element, "element"), "element", device.family).total
    assert used["xcup"].dsp == used["xc7"].dsp == 4
    assert used["xcup"].lut <= used["xc7"].lut and used["xcup"].ff <= used["xc7"].ff


def test_without_published_delays_there_is_no_clock() -> None:
    synthesis = synthesize(written(Register()), "top", "xcup")
    answer = synthesis.to_json(None)
    assert synthesis.total == Resources(lut=8, ff=8)
    assert (synthesis.fmax_estimate_mhz, synthesis.slowest_ns, synthesis.slowest_module) == (None, None, None)
    assert answer["fmax_estimate_mhz"] is answer["slowest_path_ns"] is answer["slowest_path_mended_by"] is None
    assert answer["slowest_path"] == [] and answer["fmax_estimate_is"].startswith("none: ")

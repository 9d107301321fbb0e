"""Place and route of designs small enough for seconds: the clock, the named path, the harness, cache and limits."""

import pytest

from codesign.arch.devices import DEVICES, Device
from codesign.arch.load import load_hardware
from codesign.errors import UserError
from codesign.rtl.modules import modules_of
from codesign.sim.synthesis import place_route
from codesign.sim.synthesis.flat import flat_cells
from codesign.sim.synthesis.harness import NAME, harness
from codesign.sim.synthesis.hierarchy import Hierarchy

ECP5, ARORA_V = DEVICES["lfe5u-85f"], DEVICES["gw5ast-138c"]
pytestmark = pytest.mark.usefixtures("own_cache")


def chain(adders: int) -> str:
    """A top module around one with `adders` 16-bit adders behind each other, between registers."""
    sums = "\n".join(f"  wire [15:0] s{i + 1} = (s{i} + b_q) ^ {{s{i}[7:0], s{i}[15:8]}};" for i in range(adders))
    return f"""
module adders(clk, rst, a, b, y);
  input clk;
  input rst;
  input [15:0] a;
  wire [15:0] a;
  input [15:0] b;
  output [15:0] y;
  reg [15:0] y;
  reg [15:0] a_q, b_q;
  wire [15:0] s0 = a_q;
{sums}
  always @(posedge clk) begin
    a_q <= a;
    b_q <= b;
    y <= rst ? 16'h0 : s{adders};
  end
endmodule
module top(clk, rst, a, b, y);
  input clk;
  input rst;
  input [15:0] a;
  input [15:0] b;
  output [15:0] y;
  adders chain_0 (
    .clk(clk),
    .rst(rst),
    .a(a),
    .b(b),
    .y(y)
  );
endmodule
"""


@pytest.mark.parametrize("device", [ECP5, ARORA_V], ids=lambda device: device.name)
def test_longer_logic_is_slower_and_its_module_is_named(device: Device) -> None:
    short, long = (place_route.route(chain(n), "top", device, 100.0) for n in (1, 4))
    assert 1.5 * long.fmax_mhz < short.fmax_mhz
    assert sum(step.delay_ns for step in long.path) == pytest.approx(1e3 / long.fmax_mhz, rel=1e-3)
    assert {step.kind for step in long.path} >= {"clk-to-q", "logic", "routing", "setup"}
    assert any((step.instance, step.module) == ("accelerator.chain_0", "adders") for step in long.path)
    assert long.used.ff == 3 * 16 + long.harness_ff
    assert (long.used.dsp, long.used.bram36) == (0, 0)


def test_every_adder_of_a_path_is_timed() -> None:
    """What nextpnr has no delay of ends no path: the tables alone say how slow four carry chains in a row are."""
    adders = 4
    found = place_route.route(chain(adders), "top", ARORA_V, 100.0)
    logic = sum(step.delay_ns for step in found.path if step.kind == "logic")
    assert logic > adders * (0.549 + 0.470), "into a chain and out of it"
    assert found.estimate_mhz is not None and found.fmax_mhz < 1e3 / logic


def test_a_result_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    first = place_route.route(chain(1), "top", ECP5, 100.0)
    monkeypatch.setattr(place_route, "run_flat", lambda *_, **__: pytest.fail("synthesized again"))
    assert place_route.route(chain(1), "top", ECP5, 100.0) == first
    with pytest.raises(BaseException, match="synthesized again"):
        place_route.route(chain(1), "top", ECP5, 100.0, seed=2)


def test_a_change_of_the_estimate_places_nothing_again(monkeypatch: pytest.MonkeyPatch) -> None:
    first = place_route.route(chain(1), "top", ECP5, 100.0)
    monkeypatch.setattr(place_route, "source_hash", lambda *_, **__: "other sources")
    monkeypatch.setattr(place_route, "slowest_path_ns", lambda *_, **__: 8.0)
    monkeypatch.setattr(place_route, "_nextpnr", lambda *_, **__: pytest.fail("placed again"))
    again = place_route.route(chain(1), "top", ECP5, 100.0)
    assert again.estimate_mhz == 125.0
    assert (again.fmax_mhz, again.path, again.used) == (first.fmax_mhz, first.path, first.used)


def test_time_has_an_end() -> None:
    with pytest.raises(UserError, match=r"^time_limit: .*did not end"):
        place_route.route(chain(2), "top", ECP5, 100.0, time_limit_s=0.01)


def test_other_families_are_refused_at_once() -> None:
    with pytest.raises(UserError, match=r"^pnr: xc7z020 .*must be lfe5u-85f"):
        place_route.place_and_route(load_hardware("tiny"))


def test_nothing_is_known_of_an_accelerator_that_was_not_routed() -> None:
    assert place_route.known_result(load_hardware("tiny")) is None


def test_the_harness_has_the_registers_it_says() -> None:
    text = """
module gate(clk, rst, a, b, y, z);
  input clk;
  input rst;
  input [4:0] a;
  input b;
  output [2:0] y;
  output z;
  assign y = a[2:0] ^ a[4:2];
  assign z = b & rst;
endmodule
"""
    frame = harness(modules_of(text)["gate"], "gate")
    assert (frame.inputs, frame.outputs) == (6, 4)
    cells = flat_cells(text + frame.text, NAME, "ecp5")
    assert cells["TRELLIS_FF"] == frame.flip_flops == 1 + 6 + 2 * 4


def test_cells_are_found_in_their_module() -> None:
    found = Hierarchy(modules_of(chain(2)), "top", "accelerator")
    assert found.find("accelerator.chain_0.s1_LUT4_Z") == ("accelerator.chain_0", "adders")
    assert found.find("accelerator.chain_0$12.s1") == ("accelerator.chain_0", "adders")
    assert found.find("accelerator.y_LUT4_Z") == ("accelerator", "top")
    assert found.instances("top") == {"top": 1, "adders": 1}
    assert found.find("taken_TRELLIS_FF_Q") == ("", "")

"""Rooflines: nothing is above what the memory and the array allow."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from codesign.arch.hardware import Hardware
from codesign.arch.load import load_hardware
from codesign.cli import main
from codesign.errors import UserError
from codesign.integer.random_network import random_network
from codesign.program import compile_network
from codesign.report.roofline import WHOLE, Roof, roofline, roofline_figure
from codesign.search.space import band_ratio
from codesign.sim.clock import Clock, known_clock
from codesign.sim.timing.plan_timing import Timing, estimate
from codesign.workload import zoo
from tests.conftest import CHROMIUM, needs_chromium
from tests.sim.cosim.test_random_networks import FAMILIES
from tests.sim.strategies import networks

Run = Callable[..., tuple[int, str, str]]


def timing_of(name: str, network: str) -> tuple[Hardware, Timing]:
    hw = load_hardware(name)
    integers = random_network(zoo.get(network), band_ratio(hw), hw.act_bits)
    return hw, estimate(compile_network(integers, hw))


def test_the_roof_by_hand() -> None:
    hw = load_hardware("tiny")  # 6 rows x 4 columns x 2 products at 100 MHz, 8 bytes a cycle
    roof = Roof.of(hw, Clock(hw.clock_mhz))
    assert roof.peak_gops == pytest.approx(9.6)
    assert roof.gbytes == pytest.approx(0.8)
    assert roof.ridge == pytest.approx(12)
    evidenced = Roof.of(hw, Clock(hw.clock_mhz, "estimated", 50.0))
    assert (evidenced.peak_gops, evidenced.gbytes) == pytest.approx((4.8, 0.4))
    assert (roof.limit(6), roof.limit(12), roof.limit(24)) == pytest.approx((4.8, 9.6, 9.6))
    slow = hw.model_copy(update={"memory": hw.memory.model_copy(update={"cycles_per_beat": 4})})
    assert Roof.of(slow, Clock(hw.clock_mhz)).gbytes == pytest.approx(0.2)


@settings(deadline=None)
@given(st.data(), st.sampled_from(sorted(FAMILIES)))
def test_nothing_is_above_the_roof(data: st.DataObject, family: str) -> None:
    """A layer may beat the memory's roof by what was fetched before it began; the whole network cannot."""
    hw = FAMILIES[family]
    try:
        timing = estimate(compile_network(data.draw(networks(hw, max_channels=12, max_side=8)), hw))
    except UserError:
        assume(False)
    points = roofline(hw, timing, Clock(hw.clock_mhz))
    assert points[-1].name == WHOLE and points[-1].gops <= points[-1].limit * (1 + 1e-12)
    roof = Roof.of(hw, Clock(hw.clock_mhz))
    assert all(point.gops <= roof.peak_gops * (1 + 1e-12) for point in points)
    assert [point.memory_bound for point in points] == [point.limit < roof.peak_gops for point in points]


def test_the_figure_has_every_layer() -> None:
    hw, timing = timing_of("xc7z020", "resnet8")
    points = roofline(hw, timing, Clock(hw.clock_mhz))
    assert [point.name for point in points] == [layer.name for layer in timing.layers if layer.k] + [WHOLE]
    drawn = [x for trace in roofline_figure(hw, timing, Clock(hw.clock_mhz)).data[1:] for x in trace.x]
    assert sorted(drawn) == sorted(point.intensity for point in points)


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main.run(["roofline", "tiny", "smallcnn", "-o", str(tmp_path / "r.html"), "--json", str(tmp_path / "r.json")])
    assert stopped.value.code == 0
    hw, timing = timing_of("tiny", "smallcnn")
    found = json.loads((tmp_path / "r.json").read_text())
    clock = known_clock(hw)
    assert [(x["name"], x["gops"]) for x in found["points"]] == [(x.name, x.gops) for x in roofline(hw, timing, clock)]
    assert found["latency_ms"] == clock.milliseconds(timing.total_cycles) and clock.to_json().items() <= found.items()
    text = (tmp_path / "r.html").read_text()
    assert "operations for each byte" in text and "https://cdn" not in text.partition("<script>")[0]
    assert "whole network" in capsys.readouterr().out


@needs_chromium
@pytest.mark.parametrize("width", [320, 390, 1100])
def test_the_plot_stays_on_its_card(width: int, tmp_path: Path) -> None:
    """All that is drawn and written, also at once when a window has become another one."""
    from playwright.sync_api import sync_playwright

    with pytest.raises(SystemExit):
        main.run(["roofline", "xc7z020", "resnet8", "-o", str(tmp_path / "r.html")])
    passing = """
    async () => {
      await new Promise(requestAnimationFrame);
      const card = document.querySelector(".js-plotly-plot").closest("section").getBoundingClientRect();
      const drawn = document.querySelectorAll(".js-plotly-plot .main-svg, .js-plotly-plot text");
      return [...drawn].filter((each) => {
        const box = each.getBoundingClientRect();
        return box.width > 0 && (box.left < card.left || box.right > card.right || box.bottom > card.bottom);
      }).map((each) => each.textContent);
    }
    """
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        tab = browser.new_page(viewport={"width": width, "height": 800})
        tab.goto((tmp_path / "r.html").as_uri())
        tab.wait_for_function("document.querySelectorAll('.js-plotly-plot text').length > 3")
        assert tab.evaluate("document.documentElement.scrollWidth") == width
        assert tab.evaluate(passing) == []
        tab.set_viewport_size({"width": 340, "height": 800})
        assert tab.evaluate(passing) == []
        browser.close()

"""The page of a co-search in a real browser: it loads nothing, nothing fails, menus and clicks do what they say."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import codesign
from codesign.api.cosearched import RESULT
from codesign.report.style import PLOTLY
from tests.api.test_cosearch_runs import folder as folder
from tests.conftest import CHROMIUM, needs_chromium

PLOTS = ("front", "parallel", "rounds", "layers", "bands", "roofline")


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        found = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield found
        found.close()


@pytest.fixture
def page(folder: Path) -> Path:
    return codesign.report(folder).page


def opened(browser: Any, page: Path, said: list[str], width: int = 1100, scheme: str = "light") -> Any:
    """The page, loaded; what the console says and what is asked for from elsewhere goes to `said`."""
    tab = browser.new_page(viewport={"width": width, "height": 800}, color_scheme=scheme)
    tab.on("console", lambda message: said.append(message.text))
    tab.on("pageerror", lambda error: said.append(str(error)))
    tab.on("request", lambda request: said.append(request.url) if request.url != page.as_uri() else None)
    tab.goto(page.as_uri())
    tab.wait_for_function("document.querySelectorAll('.js-plotly-plot').length == 6")
    return tab


@needs_chromium
@pytest.mark.parametrize("width", [390, 1100])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_fits_and_says_nothing(browser: Any, page: Path, width: int, scheme: str) -> None:
    said: list[str] = []
    tab = opened(browser, page, said, width, scheme)
    assert tab.evaluate("document.documentElement.scrollWidth") == width, "nothing is wider than the window"
    for plot in PLOTS:
        box = tab.locator(f"#{plot} .main-svg").first.bounding_box()
        assert box is not None and box["x"] >= 0 and box["x"] + box["width"] <= width and box["height"] > 80, plot
        legend = tab.evaluate(f"document.querySelector('#{plot} .legend')?.getBoundingClientRect().bottom ?? -1e9")
        drawn = tab.evaluate(f"document.querySelector('#{plot} .nsewdrag').getBoundingClientRect().top")
        assert legend <= drawn + 1, f"{plot}: its legend covers no points"
    ink, back = tab.evaluate("[getComputedStyle(document.body).color, getComputedStyle(document.body).backgroundColor]")
    assert (lightness(ink) < lightness(back)) == (scheme == "light")
    assert said == []
    tab.close()


@needs_chromium
def test_a_long_name_of_a_file_fits_a_narrow_window(browser: Any, folder: Path) -> None:
    space = folder / "space.yaml"
    long = "/a/folder/of/somebody/whose/folders/have/long_names_without_blanks/" + 3 * "network" + ".pt2"
    text = space.read_text()
    (line,) = [each for each in text.splitlines() if each.startswith("network:")]
    space.write_text(text.replace(line, f"network: {long}"))
    tab = opened(browser, codesign.report(folder).page, [], 390)
    assert tab.evaluate("document.documentElement.scrollWidth") == 390
    assert long in tab.inner_text(".facts") and "/a/folder" not in tab.inner_text("h1")
    tab.close()


def lightness(color: str) -> float:
    return sum(float(part) for part in color.partition("(")[2].rstrip(")").split(",")[:3])


@needs_chromium
def test_menus_clicks_and_hovers(browser: Any, page: Path) -> None:
    said: list[str] = []
    tab = opened(browser, page, said)
    tab.select_option("#x", "lut")
    assert tab.evaluate("document.getElementById('front').layout.xaxis.title.text") == "LUTs"
    assert tab.evaluate("document.getElementById('front').data[2].x") == [500, 600]
    tab.select_option("#y", "cycles")
    # fewer cycles, and fewer LUTs: one point beats all
    assert tab.evaluate("document.getElementById('front').data[0].x") == [500]
    tab.select_option("#x", "latency_ms")
    tab.select_option("#y", "accuracy")
    assert tab.evaluate("document.getElementById('front').data[0].y") == [80, 90]

    assert "80.00 %" in tab.inner_text("#facts")
    tab.select_option("#point", label=tab.locator("#point option").nth(1).inner_text())
    assert "90.00 %" in tab.inner_text("#facts") and "--point 2 " in tab.inner_text("#again")
    marks = tab.locator("#front .scatterlayer .trace").nth(2).locator(".point")
    assert marks.count() == 2
    marks.first.hover(force=True)
    assert "80.00 %" in tab.locator("#front .hoverlayer").text_content()
    marks.first.click(force=True)
    assert "80.00 %" in tab.inner_text("#facts"), "a click shows the point"
    network = codesign.show(page.parent, 1).points[0].network
    names = [layer.name for layer in network.layers]
    assert tab.evaluate("document.getElementById('layers').data[0].x") == names
    cycles = codesign.simulate("tiny", network).timing.layers
    fed, waited = (tab.evaluate(f"document.getElementById('layers').data[{i}].y") for i in (0, 1))
    assert [a + b for a, b in zip(fed, waited, strict=True)] == [layer.cycles for layer in cycles]
    assert said == []
    tab.close()


@needs_chromium
def test_hostile_names_stay_text(browser: Any, folder: Path) -> None:
    file = folder / RESULT
    name = "</script><img src=x onerror=alert(1)>"
    file.write_text(file.read_text().replace('"0.8"', f'"{name}"'))
    said: list[str] = []
    tab = opened(browser, codesign.report(folder).page, said)
    assert name in tab.inner_text("#facts") and tab.locator("img").count() == 0
    assert said == []
    tab.close()


def test_it_is_small_and_of_one_file(page: Path) -> None:
    assert page.stat().st_size < 2_000_000
    own = page.read_text().replace(PLOTLY.read_text(), "")
    assert "http" not in own


def test_plotly_s_bundle_is_of_the_python_package_s_version() -> None:
    from plotly.offline import get_plotlyjs_version

    assert f"plotly.js (basic - minified) v{get_plotlyjs_version()}" in PLOTLY.read_text()[:200]

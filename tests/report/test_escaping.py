"""Hostile names in pages: shown as text, run as nothing."""

from __future__ import annotations

import re
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path

import pytest

from codesign.report.style import literal, page, styled

Run = Callable[..., tuple[int, str, str]]

HOSTILE = [
    "</script><script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    "<!--<script>",
    '"><svg onload=alert(1)>',
    "' onmouseover='alert(1)",
    "<a href='javascript:alert(1)'>here</a>",
    "a\u2028b\u2029c",
    "\x1b[31m\x07bell",
    "{{ 7 * 7 }}%{x}$x$",
    "\udcff",
    "2024-01-01",
]


class Elements(HTMLParser):
    """Every element of a page outside of scripts, with its attributes; what scripts hold."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, tuple[str, ...]]] = []
        self.scripts: list[str] = []
        self.text = ""
        self.feed(text.partition("</head>")[2])  # before it is Plotly, megabytes

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, tuple(sorted(name for name, _ in attrs))))

    def handle_data(self, data: str) -> None:
        if self.cdata_elem == "script":
            self.scripts.append(data)
        else:
            self.text += data


def figure(name: str) -> object:
    import plotly.graph_objects as go

    drawn = go.Figure()
    drawn.add_scatter(x=[literal(name)], y=[1], text=[literal(name)], name=literal(name))
    return styled(drawn, 100)


def made(name: str) -> str:
    charts = [(name, name, figure(name))]
    tables = [(name, name, (name,), [(name,)])]
    return page("figures.html.j2", name, {name: name}, charts, tables=tables)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", HOSTILE)
def test_a_page_has_the_same_elements_whatever_names_are(name: str) -> None:
    plain, found = Elements(made("harmless")), Elements(made(name))
    assert found.tags == plain.tags
    assert len(found.scripts) == len(plain.scripts)
    assert not re.search("[\u2028\u2029\x1b\x07\udcff]", found.text + found.scripts[-1])
    for script in found.scripts:
        assert "<" not in name or name not in script
    shown = name if name.isprintable() else name.encode("unicode_escape", "surrogatepass").decode()
    assert shown in found.text


def test_roofline_of_a_network_with_hostile_names(run: Run, tmp_path: Path) -> None:
    """End to end: a topology whose layers are called so, its page and its terminal output."""
    pages = []
    hostile = [name for name in HOSTILE if name.isprintable() and "," not in name]
    for names in (hostile, [f"harmless{index}" for index in range(len(hostile))]):
        lines = [f"{name}, 1, 8, 8," for name in names]
        (tmp_path / "net.csv").write_text("\n".join(["Layer, M, N, K,", *lines, ""]))
        status, out, err = run("roofline", "tiny", tmp_path / "net.csv", "-o", tmp_path / "page.html")
        assert status == 0, err
        assert all(name in out for name in names)
        pages.append(Elements((tmp_path / "page.html").read_text()))
    assert pages[0].tags == pages[1].tags and len(pages[0].scripts) == len(pages[1].scripts)
    assert all(name in pages[0].text for name in hostile)

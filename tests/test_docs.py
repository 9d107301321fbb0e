"""The documentation as a site: `make docs` without a warning, and nothing from elsewhere in its pages."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import codesign

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("mkdocs")
    folder = tmp_path_factory.mktemp("docs") / "site"
    environment = os.environ | {"NO_MKDOCS_2_WARNING": "1"}
    run = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0 and "WARNING" not in run.stderr, run.stderr
    return folder


def test_every_page_is_in_the_site(site: Path) -> None:
    """mkdocs itself fails on links, within pages, too, that lead nowhere."""
    written = {path.relative_to(ROOT / "docs").with_suffix(".html") for path in (ROOT / "docs").rglob("*.md")}
    built = {path.relative_to(site) for path in site.rglob("*.html")}
    made = {"index", "changelog", "contributing", "reference/commands", "reference/method-list", "reference/api"}
    assert built == written | {Path(f"{name}.html") for name in made} | {Path("404.html")}


def test_pages_load_nothing_from_elsewhere(site: Path) -> None:
    loaded = re.compile(r"<(?:script|img|iframe)[^>]*\bsrc=[\"']?(https?:)?//|<link[^>]*\bhref=[\"']?(https?:)?//")
    assert [path.name for path in site.rglob("*.html") if loaded.search(path.read_text())] == []


def test_timing_diagrams_are_drawn(site: Path) -> None:
    source = (ROOT / "docs" / "hardware.md").read_text()
    page = (site / "hardware.html").read_text()
    diagrams = source.count("```wavedrom")
    assert diagrams and len(re.findall(r'<div class="wavedrom"><svg', page)) == diagrams


def test_pages_of_code_say_what_the_code_says(site: Path) -> None:
    methods = (site / "reference" / "method-list.html").read_text()
    assert all(f'id="{row["name"]}"' in methods for row in codesign.methods().to_json()["methods"])
    api = (site / "reference" / "api.html").read_text()
    for name, home in codesign._HOMES.items():
        assert f"codesign.{home}.{codesign._CALLED_OTHERWISE.get(name, name)}" in api
    commands = (site / "reference" / "commands.html").read_text()
    assert "codesign cosim" in commands and "--elements" in commands
    index = json.loads((site / "search" / "search_index.json").read_text())
    assert any("65 : 30 : 5" in page["text"] for page in index["docs"])

"""What the documentation's build adds to the pages in docs/: those that are made of code, and drawn timing diagrams.

mkdocs calls the functions `on_*`; see mkdocs.yml.
"""

from __future__ import annotations

import html
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import typer.main
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

import codesign
from codesign.cli.main import app

ROOT = Path(__file__).parents[1]
MADE = "docs/"
"""Where links of files beside it lead."""
PAGES = {"README": "index.md", "CHANGELOG": "changelog.md", "CONTRIBUTING": "contributing.md"}
NO_PAGE = re.compile(
    r"\[([^\]]*)\]\((?:\.\./)*(?:codesign/|hw_configs|benchmarks/|tests/|LICENSE|decisions(?=\)))[^)]*\)"
)
"""Links to files that are no pages."""


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Timing diagrams are drawn, and decisions listed in the order of their numbers."""
    config.mdx_configs["pymdownx.superfences"] = {
        "custom_fences": [{"name": "wavedrom", "class": "wavedrom", "format": drawn}]
    }
    assert config.nav is not None
    decisions = sorted(path.name for path in (ROOT / "docs" / "decisions").glob("*.md"))
    config.nav.append({"Decisions": [f"decisions/{name}" for name in decisions]})
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """The pages that are made of code or of files elsewhere."""
    pages = {
        "index.md": _moved(ROOT / "README.md"),
        "changelog.md": _moved(ROOT / "CHANGELOG.md"),
        "contributing.md": _moved(ROOT / "CONTRIBUTING.md"),
        "reference/commands.md": _commands(),
        "reference/method-list.md": _methods(),
        "reference/api.md": _api(),
    }
    for path, text in pages.items():
        files.append(File.generated(config, path, content=text))
    return files


def on_page_markdown(markdown: str, page: Any, config: MkDocsConfig, files: Files) -> str:
    """Links to source files are names of these: the site has pages only."""
    return NO_PAGE.sub(r"\1", markdown)


def _moved(file: Path) -> str:
    """A page that lies beside docs/: what it leads to in docs/ is beside it in the site."""
    text = file.read_text().replace(f"]({MADE}", "](")
    return re.sub(r"\]\((README|CHANGELOG|CONTRIBUTING)\.md\)", lambda link: f"]({PAGES[link[1]]})", text)


def _commands() -> str:
    """Every command with its arguments and options, as `--help` has them."""
    parts = ["# Commands", "As `codesign COMMAND --help` says them."]
    group = typer.main.get_command(app)
    for name, command in _leaves(group, "codesign"):
        parts += [f"## {name}", _prose(command.help or ""), _usage(name, command)]
        if rows := list(_parameters(command)):
            parts.append("\n".join(("| | |", "| --- | --- |", *rows)))
        if command.epilog:
            parts.append(_prose(command.epilog))
    return "\n\n".join(parts) + "\n"


def _leaves(command: Any, name: str) -> Iterator[tuple[str, Any]]:
    """The commands of a group, groups in it included."""
    if (inner := getattr(command, "commands", None)) is None:
        yield name, command
        return
    for each, one in inner.items():
        if not one.hidden:
            yield from _leaves(one, f"{name} {each}")


def _usage(name: str, command: Any) -> str:
    context = command.context_class(command, info_name=name)
    return f"```\n{' '.join((name, *command.collect_usage_pieces(context)))}\n```"


def _parameters(command: Any) -> Iterator[str]:
    context = command.context_class(command)
    for parameter in command.params:
        record = parameter.get_help_record(context)
        if record and not getattr(parameter, "hidden", False):
            name, said = (_cell(text) for text in record)
            yield f"| `{name}` | {said} |"


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|").replace("<", "&lt;")


def _prose(text: str) -> str:
    return text.replace("\b", "").replace("<", "&lt;").strip()


def _methods() -> str:
    """The methods that choose bits, as `codesign methods` says them."""
    rows = codesign.methods().to_json()["methods"]
    parts = [
        "# Methods",
        "As `codesign methods` prints them. What they are worth, on real images: [methods](methods.md); how they are "
        "put together: [allocating](allocating.md).",
        "| method | paper | decides | choices |\n| --- | --- | --- | --- |\n"
        + "\n".join(
            f"| [{row['name']}](#{row['name']}) | {_cell(row['paper'])} | {_cell(row['decides'])} "
            f"| {_cell(row['choices'] or 'those of the bands')} |"
            for row in rows
        ),
    ]
    for row in rows:
        parts += [f"## {row['name']}", _prose(row["equations"])]
        if row["deviations"]:
            parts.append("\n".join(f"* departs from it: {_prose(text)}" for text in row["deviations"]))
    return "\n\n".join(parts) + "\n"


def _api() -> str:
    """What `import codesign` gives: functions, then answers and other classes."""
    homes = {name: f"codesign.{home}" for name, home in codesign._HOMES.items()}
    names = sorted(homes, key=lambda name: (name[0].isupper(), name.lower()))
    parts = ["# Python", "What `import codesign` gives; nothing is loaded before it is used."]
    for name in names:
        own = codesign._CALLED_OTHERWISE.get(name, name)
        called = "" if own == name else f"`codesign.{name}`:\n\n"
        parts.append(f"{called}::: {homes[name]}.{own}")
    return "\n\n".join(parts) + "\n"


def drawn(source: str, language: str, css_class: str, options: Any, md: Any, **_: Any) -> str:
    """A timing diagram in WaveJSON as a picture in the page."""
    import wavedrom  # type: ignore[import-untyped]

    json.loads(source)  # what the package takes beyond JSON no other reader of the page would
    picture = wavedrom.render(source).tostring()
    return f'<div class="{html.escape(css_class)}">{picture}</div>'

"""What the README shows is so."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from codesign.arch.load import config_names, parse_hardware
from codesign.cli.main import app

README = Path(__file__).parents[1] / "README.md"


ACCELERATOR = README.parent / "docs" / "reference" / "accelerator.md"


def blocks(file: Path, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", file.read_text(), re.MULTILINE | re.DOTALL)


def test_python_runs(capsys: pytest.CaptureFixture[str]) -> None:
    (code,) = blocks(README, "python")
    exec(compile(code, str(README), "exec"), {})
    *tables, latency = capsys.readouterr().out.splitlines()
    assert any("latency" in line for line in tables) and 0 < float(latency) < 10


def test_yaml_is_a_configuration() -> None:
    text, *_ = blocks(ACCELERATOR, "yaml")
    assert parse_hardware(text, "README.md", "readme").rows == 20


def test_commands_are_those_of_the_program() -> None:
    named = set(re.findall(r"^\| `codesign (\w+)", README.read_text(), re.MULTILINE))
    offered = {
        command.name or command.callback.__name__
        for command in app.registered_commands
        if command.callback and not command.hidden
    }
    groups = {group.name for group in app.registered_groups}
    assert named == offered | groups


def test_links_lead_somewhere() -> None:
    for target in re.findall(r"\]\(([^)]+)\)", README.read_text()):
        assert (README.parent / target.partition("#")[0]).exists(), target


def test_named_configurations_exist() -> None:
    used = set(re.findall(r"codesign (?:simulate|cosim|synth|generate) ([a-z0-9_]+)", README.read_text()))
    assert used <= set(config_names())

"""What a shell is told when a command line is completed, and how the help groups commands."""

from __future__ import annotations

import os
import re
import subprocess
import sys

import pytest

from codesign.cli.main import app
from tests.conftest import Run


def completed(line: str) -> list[str]:
    """What bash is offered for the last word of a line."""
    words = line.split(" ")
    environment = os.environ | {
        "_CODESIGN_COMPLETE": "complete_bash",
        "COMP_WORDS": line,
        "COMP_CWORD": str(len(words) - 1),
    }
    run = subprocess.run(
        [sys.executable, "-c", "import sys; sys.argv[0] = 'codesign'; from codesign.__main__ import main; main()"],
        capture_output=True,
        text=True,
        check=True,
        env=environment,
    )
    return run.stdout.split()


@pytest.mark.parametrize(
    ("line", "offered"),
    [
        ("codesign sim", ["simulate"]),
        ("codesign cosim xc7z020_w", ["xc7z020_w8a8", "xc7z020_ws"]),
        ("codesign cosim tiny resnet", ["resnet8", "resnet18", "resnet50"]),
        ("codesign cosim tiny smallcnn --ele", ["--elements"]),
        ("codesign cosim tiny smallcnn --elements t", ["twins"]),
        ("codesign cosim some/file.y", []),  # files are the shell's own affair
    ],
)
def test_names_are_completed(line: str, offered: list[str]) -> None:
    assert sorted(completed(line)) == sorted(offered)


def test_every_command_is_in_a_group_of_the_help(run: Run) -> None:
    assert all(isinstance(each.rich_help_panel, str) for each in app.registered_commands if not each.hidden)
    assert all(isinstance(each.rich_help_panel, str) for each in app.registered_groups)
    status, out, _ = run("--help")
    headings = re.findall(r"^╭─ ([\w ]+?) ─", out, re.MULTILINE)
    assert status == 0 and headings == ["Options", "Accelerators", "Networks", "Bits", "Many designs", "Trust"]

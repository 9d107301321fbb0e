"""An interrupted command says so in one line, ends with status 130, and leaves no file and no process behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.processes import left_of


def start(arguments: list[str], folder: Path) -> subprocess.Popen[str]:
    """A command in a new cache, in a session of its own."""
    return subprocess.Popen(
        [sys.executable, "-m", "codesign", *arguments],
        cwd=folder,
        env=os.environ | {"CODESIGN_CACHE": str(folder / "cache"), "TMPDIR": str(folder / "tmp")},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def wait_for(phase: str, process: subprocess.Popen[str]) -> str:
    """Read stderr until the line of `phase`."""
    assert process.stderr is not None
    seen = ""
    for line in process.stderr:
        seen += line
        if line.startswith(phase):
            return seen
    raise AssertionError(f"the command ended before {phase}: {seen}")


@pytest.mark.parametrize(
    ("phase", "arguments"),
    [
        ("synthesis", ["synth", "tiny", "--json", "out.json"]),
        ("build", ["cosim", "tiny", "smallcnn", "--json", "out.json", "--waves", "fc", "--waves-out", "out.vcd"]),
        ("float", ["quantize", "smallcnn", "--data", "digits", "--float-epochs", "5000", "-o", "out.codesign"]),
        ("float", ["search", "digits", "-o", "run"]),
        ("variants", ["sweep", "small", "resnet8", "-o", "run", "--jobs", "2", "--json", "out.json"]),
    ],
)
def test_interrupt(phase: str, arguments: list[str], tmp_path: Path) -> None:
    (tmp_path / "tmp").mkdir()
    process = start(arguments, tmp_path)
    wait_for(phase, process)
    time.sleep(0.7)
    os.killpg(process.pid, signal.SIGINT)  # what a terminal does on Ctrl-C
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert err.strip().splitlines()[-1] == "codesign: interrupted"
    assert "Traceback" not in err
    assert out == ""
    assert not list(tmp_path.glob("out*"))
    assert not [p for p in tmp_path.rglob("*.tmp") if p.exists()], "half-written files"
    left = left_of(process.pid)
    assert not left, f"still running: {left}"


FINALIZED = """
class Finalized:
    def __del__(self):
        interrupt()

def job():
    Finalized()
    time.sleep(30)
"""
WRAPPED = """
def job():
    try:
        interrupt()
    except BaseException as error:  # as pybind does where a callback raises
        raise RuntimeError("a callback failed") from error
"""
FORGOTTEN = """
def job():
    ctypes.CFUNCTYPE(None)(interrupt)()  # ctypes prints what a callback raises, and goes on
    time.sleep(30)
"""


@pytest.mark.parametrize("job", [FINALIZED, WRAPPED, FORGOTTEN], ids=["finalizer", "wrapped", "callback"])
def test_an_interrupt_that_a_library_keeps_is_not_lost(job: str) -> None:
    code = f"""
import ctypes, os, signal, time
from codesign.cli import main

def interrupt():
    os.kill(os.getpid(), signal.SIGINT)
    time.sleep(0.1)
{job}
main.app.command()(job)
main.run(["job"])
"""
    began = time.monotonic()
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 130, done.stderr
    assert done.stderr == "codesign: interrupted\n"
    assert time.monotonic() - began < 20

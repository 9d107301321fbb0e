"""What is tried: a reader or a command of codesign, and how it may answer."""

from __future__ import annotations

import contextlib
import io
import shlex
from collections.abc import Callable
from dataclasses import dataclass

from codesign.errors import UserError

REFUSED, EQUAL, ACCEPTED, WRONG, TRACEBACK = "refused", "equal", "accepted", "wrong", "traceback"
LONGEST_LINE = 2000
"""Letters that a line of refusal may have."""
Judge = Callable[[], str | None]


@dataclass(frozen=True)
class Case:
    """What is tried.

    Attributes:
        command: of `codesign` that repeats it, or a description of the reader.
        read: the reader; raises UserError where it refuses, and gives what judges it: a function that gives None if
            all is well or says what is wrong, or raises `NoJudge`. None where there is none.
        arguments: of the command, if it is one.
    """

    command: str
    read: Callable[[], Judge | None]
    arguments: tuple[str, ...] = ()


class NoJudge(Exception):
    """An oracle that cannot say anything of this case."""


def command(*arguments: object) -> Case:
    """A case of one command, in this process."""

    def read() -> None:
        status, _, err = run_command([str(argument) for argument in arguments])
        if status == 0:
            return
        lines = [line for line in err.splitlines() if line.startswith("codesign: ")]
        if status == 2 and len(lines) == 1 and err.rstrip().endswith(lines[0]):
            raise UserError(lines[0])
        raise AssertionError(f"status {status}: {err[-1500:]}")

    words = tuple(map(str, arguments))
    return Case("codesign " + shlex.join(words), read, words)


def run_command(arguments: list[str]) -> tuple[int, str, str]:
    """Exit status, stdout and stderr of a command in this process."""
    from codesign.cli import main, output

    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        consoles = output.console.file, output.notes.file
        output.console.file, output.notes.file = out, err
        try:
            main.run(arguments)
        except SystemExit as stopped:
            status = stopped.code if isinstance(stopped.code, int) else 0
        else:
            status = 0
        finally:
            output.console.file, output.notes.file = consoles
    return status, out.getvalue(), err.getvalue()

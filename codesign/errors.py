"""The one exception a person is meant to read, and how it names what that person can change."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar


class UserError(Exception):
    """Input that cannot be used: a wrong YAML, a missing file, a network that does not fit.

    The message is one line that names the file or layer, the key, what was given and what is allowed.
    The command line prints it without a traceback and exits with status 2.
    """


class UnavailableError(UserError):
    """Something that the work needs is not there: a package, a program, a database that is gone.

    It says nothing of what was to be worked on: where results are kept, this is none.
    """


_AT_COMMAND_LINE: ContextVar[bool] = ContextVar("at_command_line", default=False)


def option(name: str, python: str | None = None) -> str:
    """What the reader of a message calls a parameter: `--data-dir` at the command line, `data_dir` in Python.

    Args:
        name: such as `data_dir`.
        python: its name in Python, where that is another one.
    """
    return f"--{name.replace('_', '-')}" if _AT_COMMAND_LINE.get() else python or name


@contextmanager
def command_line() -> Iterator[None]:
    """Within the block, messages name options of the command line."""
    token = _AT_COMMAND_LINE.set(True)
    try:
        yield
    finally:
        _AT_COMMAND_LINE.reset(token)

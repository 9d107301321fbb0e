"""The one exception a person is meant to read."""

from __future__ import annotations


class UserError(Exception):
    """Input that cannot be used: a wrong YAML, a missing file, a network that does not fit.

    The message is one line that names the file or layer, the key, what was given and what is allowed.
    The command line prints it without a traceback and exits with status 2.
    """

"""Options that belong together and reach a command as one record."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

C = TypeVar("C", bound=Callable[..., Any])


def grouped(command: C, parameter: str, record: Callable[..., object], options: Mapping[str, tuple[Any, Any]]) -> C:
    """The command with `options`, which it takes as one `parameter`.

    Args:
        command: a function that Typer can make a command of, but for `parameter`.
        parameter: its name.
        record: made of the options' values by name.
        options: annotation and default of each.
    """
    signature = inspect.signature(command, eval_str=True)
    own = [item for item in signature.parameters.values() if item.name != parameter]
    more = [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=kind)
        for name, (kind, default) in options.items()
    ]

    @functools.wraps(command)
    def wrapped(*arguments: Any, **given: Any) -> Any:
        found = record(**{name: given.pop(name, default) for name, (_, default) in options.items()})
        return command(*arguments, **given, **{parameter: found})

    changed: Any = wrapped
    changed.__signature__ = signature.replace(parameters=[*own, *more])
    changed.__annotations__ = {item.name: item.annotation for item in (*own, *more)} | {"return": None}
    return changed  # type: ignore[no-any-return]

"""YAML files to typed models, with one clear line for everything that can be wrong with a file."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar, get_args

from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic_core import ErrorDetails

from codesign._reading import MOST_YAML
from codesign._reading import read_text as read_bounded_text
from codesign._yaml import load_yaml
from codesign.arch.checks import did_you_mean, shown
from codesign.errors import UserError


class Model(BaseModel):
    """Immutable, and no key that is not known."""

    model_config = ConfigDict(frozen=True, extra="forbid")


M = TypeVar("M", bound=Model)


def read_text(path: Path) -> str:
    """Text of a YAML file; UserError when it is missing, too long, no file or no text."""
    return read_bounded_text(path, MOST_YAML, "YAML")


def parse(text: str, shown_as: str, model: type[M], defaults: Mapping[str, Any]) -> M:
    """The `model` that YAML `text` describes.

    Args:
        text: a mapping of keys to values.
        shown_as: names the source in errors.
        model: what it must be.
        defaults: values of keys that the text does not give.

    Raises:
        UserError: one line with the key, what was given and what is allowed.
    """
    try:
        data = load_yaml(text)
    except ValueError as error:
        raise UserError(f"{shown_as}: {error}") from None
    return checked(data, shown_as, model, defaults)


def checked(data: object, shown_as: str, model: type[M], defaults: Mapping[str, Any]) -> M:
    """The `model` of what a text says; arguments and errors as `parse`."""
    if not isinstance(data, dict):
        example = next(iter(model.model_fields))
        raise UserError(f"{shown_as}: {shown(data)} given, must be keys and values such as '{example}: ...'")
    try:
        return model.model_validate({**defaults, **data})
    except ValidationError as error:
        raise UserError(f"{shown_as}: {one_line(error, model)}") from None


def one_line(error: ValidationError, model: type[BaseModel]) -> str:
    """The key, what was given and what is allowed, of the problem that explains most."""
    problems = error.errors(include_url=False)
    problems.sort(key=lambda problem: problem["type"] != "extra_forbidden")  # a misspelt key explains a missing one
    more = len(problems) - 1
    text = _problem(problems[0], model)
    return text + (f" (and {more} more problem{'s' if more > 1 else ''})" if more else "")


def _problem(problem: ErrorDetails, model: type[BaseModel]) -> str:
    location, kind, given = problem["loc"], problem["type"], problem["input"]
    key = _key_path(location)
    if kind == "codesign":
        return f"{key}: {problem['msg']}" if key else problem["msg"]
    if kind == "extra_forbidden":
        allowed = _keys_at(model, location[:-1])
        return f"{key}: unknown key, must be {', '.join(allowed)}{did_you_mean(str(location[-1]), allowed)}"
    if kind == "missing":
        return f"{key}: missing, must be given"
    if kind in ("model_type", "model_attributes_type"):
        return f"{key}: {shown(given)} given, must be the keys {', '.join(_keys_at(model, location))}"
    if kind == "tuple_type":
        return f"{key}: {shown(given)} given, must be a list"
    return f"{key}: {shown(given)} given: {problem['msg'][0].lower()}{problem['msg'][1:]}"


def _key_path(location: tuple[int | str, ...]) -> str:
    """('bands', 1, 'rows') as a person writes it: bands[1].rows."""
    text = ""
    for part in location:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else str(part)
    return text


def _keys_at(model: type[BaseModel], location: tuple[int | str, ...]) -> list[str]:
    """The keys that the model at `location` below `model` has."""
    for part in location:
        if isinstance(part, str) and part in model.model_fields:
            annotation = model.model_fields[part].annotation
            for candidate in (annotation, *get_args(annotation)):
                if isinstance(candidate, type) and issubclass(candidate, BaseModel):
                    model = candidate
                    break
    return list(model.model_fields)

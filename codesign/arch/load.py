"""Reading hardware descriptions from YAML, with one clear line for everything that can be wrong with them."""

from __future__ import annotations

from collections.abc import Hashable
from pathlib import Path
from typing import Any, get_args

import yaml
from pydantic import BaseModel, ValidationError

from codesign.arch.checks import did_you_mean, shown
from codesign.arch.hardware import Hardware
from codesign.errors import UserError

_PACKAGE = Path(__file__).resolve().parents[1]
CONFIG_FOLDERS = (_PACKAGE.parent / "hw_configs", _PACKAGE / "hw_configs")
"""Where named configurations lie: in a checkout, and in an installed package."""


def load_hardware(path_or_name: str | Path) -> Hardware:
    """The hardware of a YAML file, or of the one called `path_or_name` in hw_configs/.

    Raises:
        UserError: the file is missing, is no YAML, or describes no accelerator.
    """
    path = find_config(path_or_name)
    return parse_hardware(_read(path), shown_as=str(path_or_name), default_name=path.stem)


def find_config(path_or_name: str | Path) -> Path:
    """The file that `path_or_name` means; UserError with the known names if there is none."""
    given = Path(path_or_name)
    is_name = given.name == str(path_or_name) and given.suffix not in (".yaml", ".yml")
    if not is_name:
        if not given.is_file():
            raise UserError(f"{given}: {'is a folder' if given.is_dir() else 'no such file'}, must be a YAML file")
        return given
    for folder in CONFIG_FOLDERS:
        if (candidate := folder / f"{given.name}.yaml").is_file():
            return candidate
    if given.is_file():
        return given
    names = config_names()
    raise UserError(
        f"{given}: no such configuration, must be a YAML file or one of {', '.join(names)}"
        f"{did_you_mean(given.name, names)}"
    )


def config_names() -> list[str]:
    """Names of the configurations in hw_configs/, sorted."""
    return sorted({path.stem for folder in CONFIG_FOLDERS for path in folder.glob("*.yaml")})


def parse_hardware(text: str, shown_as: str, default_name: str) -> Hardware:
    """The hardware that YAML `text` describes; `shown_as` names the source in errors."""
    try:
        data = yaml.load(text, _UniqueKeyLoader)  # a SafeLoader
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
        raise UserError(f"{shown_as}: {where}not YAML: {' '.join((error.problem or str(error)).split())}") from None
    except yaml.YAMLError as error:
        raise UserError(f"{shown_as}: not YAML: {' '.join(str(error).split())}") from None
    if not isinstance(data, dict):
        raise UserError(f"{shown_as}: {shown(data)} given, must be keys and values such as 'columns: 4'")
    try:
        return Hardware.model_validate({"name": default_name} | data)
    except ValidationError as error:
        raise UserError(f"{shown_as}: {_one_line(error)}") from None


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror or error}") from None
    except UnicodeDecodeError:
        raise UserError(f"{path}: not YAML: not a text file") from None


class _UniqueKeyLoader(yaml.SafeLoader):
    """A SafeLoader that refuses a key given twice, where YAML would silently take the last."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen: set[object] = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if isinstance(key, Hashable):
                if key in seen:
                    raise yaml.constructor.ConstructorError(
                        None, None, f"key {shown(key)} is given twice", key_node.start_mark
                    )
                seen.add(key)
        return super().construct_mapping(node, deep)


def _one_line(error: ValidationError) -> str:
    problems = error.errors(include_url=False)
    problems.sort(key=lambda problem: problem["type"] != "extra_forbidden")  # a misspelt key explains a missing one
    first = problems[0]
    key = _key_path(first["loc"])
    if first["type"] == "codesign":
        text = f"{key}: {first['msg']}" if key else first["msg"]
    elif first["type"] == "extra_forbidden":
        allowed = _keys_at(first["loc"][:-1])
        text = f"{key}: unknown key, must be {', '.join(allowed)}{did_you_mean(str(first['loc'][-1]), allowed)}"
    elif first["type"] == "missing":
        text = f"{key}: missing, must be given"
    elif first["type"] in ("model_type", "model_attributes_type"):
        text = f"{key}: {shown(first['input'])} given, must be the keys {', '.join(_keys_at(first['loc']))}"
    elif first["type"] == "tuple_type":
        text = f"{key}: {shown(first['input'])} given, must be a list"
    else:
        text = f"{key}: {shown(first['input'])} given: {first['msg'][0].lower()}{first['msg'][1:]}"
    more = len(problems) - 1
    return text + (f" (and {more} more problem{'s' if more > 1 else ''})" if more else "")


def _key_path(location: tuple[int | str, ...]) -> str:
    """('bands', 1, 'rows') as a person writes it: bands[1].rows."""
    text = ""
    for part in location:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else str(part)
    return text


def _keys_at(location: tuple[int | str, ...]) -> list[str]:
    """The keys that the model at `location` has."""
    model: type[BaseModel] = Hardware
    for part in location:
        if isinstance(part, str) and part in model.model_fields:
            annotation = model.model_fields[part].annotation
            models = [
                t for t in (annotation, *get_args(annotation)) if isinstance(t, type) and issubclass(t, BaseModel)
            ]
            if models:
                model = models[0]
    return list(model.model_fields)

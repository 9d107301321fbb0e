"""Hardware descriptions by file or by name."""

from __future__ import annotations

from pathlib import Path

from codesign._reading import excerpt, is_regular, what_is
from codesign.arch.checks import did_you_mean
from codesign.arch.documents import parse, read_text
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
    return parse_hardware(read_text(path), shown_as=str(path_or_name), default_name=path.stem)


def find_config(path_or_name: str | Path, below: str = "") -> Path:
    """The file that `path_or_name` means: a name in hw_configs/ or its folder `below`, such as `league/fixed`.

    UserError with the known names if there is none.
    """
    if not isinstance(path_or_name, str | Path):
        raise UserError(f"a {type(path_or_name).__name__} given, must be the path of a YAML file, or a name")
    given = Path(path_or_name)
    is_name = given.suffix not in (".yaml", ".yml") and not given.is_absolute() and ".." not in given.parts
    plain = given.name == str(path_or_name)
    if is_name and (plain or not is_regular(given)):
        for folder in CONFIG_FOLDERS:
            if is_regular(candidate := folder / below / given.parent / f"{given.name}.yaml"):
                return candidate
    if is_regular(given):
        return given
    if not (is_name and plain):
        raise UserError(f"{excerpt(given)}: {what_is(given)}, must be a YAML file")
    names = config_names(below)
    raise UserError(
        f"{excerpt(given)}: no such configuration, must be a YAML file or one of {', '.join(names)}"
        f"{did_you_mean(given.name, names)}"
    )


def config_names(below: str = "") -> list[str]:
    """Names of the configurations in hw_configs/ or its folder `below`, sorted."""
    return sorted({path.stem for folder in CONFIG_FOLDERS for path in (folder / below).glob("*.yaml")})


def parse_hardware(text: str, shown_as: str, default_name: str) -> Hardware:
    """The hardware that YAML `text` describes; `shown_as` names the source in errors."""
    return parse(text, shown_as, Hardware, {"name": default_name})

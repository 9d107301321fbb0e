"""Place and route by nextpnr: the clock that a design reaches, and the path that limits it.

The accelerator stands in a harness (`codesign.sim.synthesis.harness`) that keeps its ports on the chip. The design is
flattened, packed, placed and routed for the device's speed grade (`lfe5u-85f` has 6, the slowest); the clock is
nextpnr's worst case over temperature and voltage. Nothing is measured on a board.

Which devices there are and where nextpnr comes from, `codesign.sim.synthesis.nextpnr` says. A run takes minutes for a
small array and up to an hour for one that fills the device, so results are cached by content: text, device, seed, tool;
and what nextpnr said by what it was given, so that a change of the estimate does not place and route again.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from itertools import groupby
from pathlib import Path
from typing import Any

from codesign._files import content_hash, read_json, scratch_folder
from codesign._processes import Processes, last_lines
from codesign._sources import source_hash
from codesign.arch.devices import Device
from codesign.arch.hardware import Hardware
from codesign.errors import UserError, option
from codesign.execution.store import Cache
from codesign.rtl.modules import modules_of
from codesign.sim.synthesis.clock_estimate import slowest_path_ns
from codesign.sim.synthesis.flat import run_flat
from codesign.sim.synthesis.flows import FLOWS
from codesign.sim.synthesis.harness import INSTANCE, NAME, Harness, harness
from codesign.sim.synthesis.hierarchy import Hierarchy
from codesign.sim.synthesis.known import keep_known, known
from codesign.sim.synthesis.netlist import YOSYS_JOB, Progress, yosys_version
from codesign.sim.synthesis.nextpnr import PARTS, TOOLS, Tool
from codesign.sim.synthesis.resources import Resources

TIME_LIMIT_S = 7200.0
"""Of one run, synthesis included."""

_ARCS = re.compile(r"Routing (\d+) arcs")
_REMAINING = re.compile(r"\|\s*(\d+)\|[^|]*$")
_POLL_S = 0.3


@dataclass(frozen=True)
class Step:
    """One step of a path: `kind` is clk-to-q, logic, routing or setup, in the instance and module where it ends."""

    kind: str
    delay_ns: float
    instance: str
    module: str


@dataclass(frozen=True)
class Routed:
    """A design that was placed and routed.

    Attributes:
        fmax_mhz: the clock that the slowest path allows.
        target_mhz: the clock that was asked for.
        used: resources after packing, harness included; LUT counts those in carry chains, RAM and wide functions too.
        harness_ff: flip-flops of the harness among them.
        path: the slowest path from register to register. Logic without a name of its own is counted to the module
            of the register that it leads to: the design was flattened.
        wall_s: what the run took.
        design: name of the module that was placed and routed in the harness.
        estimate_mhz: of the clock by `codesign.sim.synthesis.clock_estimate`, from the netlist that was placed.
    """

    fmax_mhz: float
    target_mhz: float
    device: str
    package: str
    speed_grade: int
    seed: int
    used: Resources
    harness_ff: int
    path: tuple[Step, ...]
    tool: str
    wall_s: float
    design: str = ""
    estimate_mhz: float | None = None

    def to_json(self) -> dict[str, Any]:
        """The machine-readable answer."""
        return asdict(self) | {"used": self.used._asdict()}

    @classmethod
    def from_json(cls, stored: dict[str, Any]) -> Routed:
        """The inverse of `to_json`."""
        return cls(
            **stored | {"used": Resources(**stored["used"]), "path": tuple(Step(**step) for step in stored["path"])}
        )

    def modules(self) -> list[tuple[str, float]]:
        """The path's modules in its order, each with the nanoseconds spent in it and on the way to it."""
        stretches = groupby(self.path, key=lambda step: step.module)
        return [(module, sum(step.delay_ns for step in steps)) for module, steps in stretches]


def place_and_route(
    hw: Hardware, progress: Progress | None = None, seed: int = 1, time_limit_s: float = TIME_LIMIT_S
) -> Routed:
    """Place and route the accelerator of `hw` for its device, aiming at `hw.clock_mhz`.

    Raises:
        UserError: nextpnr does not know the device, a tool is not installed, the design does not fit, or time ran out.
        RuntimeError: a tool failed.
    """
    from codesign.rtl.verilog import TOP, generate

    check_device(hw.totals)
    routed = route(generate(hw), TOP, hw.totals, hw.clock_mhz, progress, seed, time_limit_s)
    keep_known("routed", hw, __name__, routed.to_json())
    return routed


def known_result(hw: Hardware) -> Routed | None:
    """The latest result for the accelerator that this version generates from `hw`; None if it was not routed here."""
    return known("routed", hw, __name__, Routed.from_json)


def check_device(device: Device) -> None:
    """UserError unless nextpnr is there and knows the device."""
    if device.name not in PARTS:
        raise UserError(
            f"{option('pnr')}: {device.name} cannot be placed and routed by nextpnr, must be {' or '.join(PARTS)}"
        )
    TOOLS[device.family].version()


def route(
    verilog: str,
    top: str,
    device: Device,
    clock_mhz: float,
    progress: Progress | None = None,
    seed: int = 1,
    time_limit_s: float = TIME_LIMIT_S,
) -> Routed:
    """Place and route any design with ports `clk` and `rst`; see `place_and_route`."""
    modules = modules_of(verilog)
    frame = harness(modules[top], top)
    text = verilog + frame.text
    nextpnr = TOOLS[device.family]
    tool = f"{nextpnr.version()}, Yosys {yosys_version()}"
    # the design is in the key as text, the device by its options
    sources = source_hash(
        __name__,
        YOSYS_JOB,
        given=("codesign.arch", "codesign.rtl", "codesign.sim.synthesis.known", "codesign.sim.synthesis.resources"),
    )
    options = [*PARTS[device.name].options, "--freq", f"{clock_mhz:g}", "--seed", str(seed)]
    key = content_hash(tool, sources, repr(FLOWS[device.family]), text, *options)
    if (stored := Cache().get("routed", key, Routed.from_json)) is not None:
        return stored
    begin = time.monotonic()
    with scratch_folder() as folder, Processes() as processes:
        report = progress or (lambda phase, done, total: None)
        report("flat synthesis", 0, 1)
        run_flat(text, NAME, device.family, folder, processes, netlist=True, pads=True)
        report("flat synthesis", 1, 1)
        whole = json.loads((folder / "netlist.json").read_text())
        cells = whole["modules"][NAME]["cells"]
        estimate_mhz = 1e3 / slowest_path_ns(cells, device.family)
        if nextpnr.prepare is not None:
            nextpnr.prepare(cells)
            (folder / "netlist.json").write_text(json.dumps(whole))
        netlist = (folder / "netlist.json").read_text()
        given = content_hash(nextpnr.version(), repr((nextpnr.options, nextpnr.files)), netlist, *options)
        before = time.monotonic() - begin
        if (answer := Cache().get("nextpnr", given, dict)) is None:
            _nextpnr(nextpnr, folder, options, device, processes, report, begin + time_limit_s)
            answer = {"report": read_json(folder / "report.json"), "wall_s": time.monotonic() - begin - before}
            Cache().put("nextpnr", given, answer)
    hierarchy = Hierarchy(modules, top, INSTANCE)
    routed = _routed(answer["report"], hierarchy, frame, device, clock_mhz, seed, tool, before + answer["wall_s"])
    routed = replace(routed, design=top, estimate_mhz=estimate_mhz)
    Cache().put("routed", key, routed.to_json())
    return routed


def _nextpnr(
    tool: Tool,
    folder: Path,
    options: list[str],
    device: Device,
    processes: Processes,
    report: Progress,
    deadline: float,
) -> None:
    """Run nextpnr in `folder`: netlist.json to report.json."""
    for name, text in tool.files.items():
        (folder / name).write_text(text)
    files = ["--json", "netlist.json", "--report", "report.json", *tool.options, "--timing-allow-fail"]
    log = folder / "nextpnr.log"
    process = processes.start([*tool.command(), *files, *options], log, folder)
    arcs = 0
    with log.open(errors="replace") as lines:
        while process.poll() is None:
            if time.monotonic() > deadline:
                process.kill()
                raise UserError(
                    f"{option('time_limit')}: place and route did not end in time; raise it, or make the array smaller"
                )
            arcs = _tell(lines, report, arcs)
            time.sleep(_POLL_S)
    said = log.read_text(errors="replace")
    if process.returncode == 0 and (folder / "report.json").is_file():
        report("routing", 1, 1)
        return
    if "Unable to place cell" in said or "no BELs remaining" in said or "Unable to find legal placement" in said:
        raise UserError(f"the design does not fit {device.name}: {last_lines(log, 1)}")
    raise RuntimeError(f"nextpnr failed (exit status {process.returncode}): {last_lines(log)}")


def _tell(lines: Iterable[str], report: Progress, arcs: int) -> int:
    """Pass on what the log's new lines say of the progress; the number of wires to route, once it is known."""
    for line in lines:
        if found := _ARCS.search(line):
            arcs = int(found[1])
        if "Creating initial analytic placement" in line:
            report("placement", 0, 2)
        elif "HeAP Placer Time" in line:
            report("placement", 1, 2)
        elif "SA placement time" in line:
            report("placement", 2, 2)
        elif arcs and (found := _REMAINING.search(line)):
            report("routing", max(0, arcs - int(found[1])), arcs)
    return arcs


def _routed(
    report: dict[str, Any],
    hierarchy: Hierarchy,
    frame: Harness,
    device: Device,
    clock_mhz: float,
    seed: int,
    tool: str,
    wall_s: float,
) -> Routed:
    """What nextpnr's report says, in terms of our modules."""
    (achieved,) = (clock["achieved"] for clock in report["fmax"].values())
    (slowest,) = (
        path["path"]
        for path in report["critical_paths"]
        if path["from"] == path["to"] and path["from"].startswith("posedge")
    )
    steps = []
    for index, step in enumerate(slowest):
        # flattened logic is named after the register that it leads to, but wires that have names keep them
        wires = [near["net"] for near in slowest[index : index + 2] if "net" in near][:1]
        places = [hierarchy.find(name) for name in (step["to"]["cell"], *wires)]
        instance, module = max(places, key=lambda place: len(place[0]))
        steps.append(Step(step["type"], step["delay"], instance, module or NAME))
    return Routed(
        fmax_mhz=achieved,
        target_mhz=clock_mhz,
        device=device.name,
        package=PARTS[device.name].package,
        speed_grade=device.speed_grade or 0,
        seed=seed,
        used=TOOLS[device.family].used(report["utilization"]),
        harness_ff=frame.flip_flops,
        path=tuple(steps),
        tool=tool,
        wall_s=wall_s,
    )

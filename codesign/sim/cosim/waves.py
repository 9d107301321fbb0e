"""Waves: the signals of a window of a run in a file, FST or VCD, with a GTKWave layout beside it.

The bench of such a run has a process more, which waits for the first cycle of the window and writes what happens up to
its last one; its file is small, whatever the length of the run. It is another text and another build than the usual
one, which stays as fast as it is. Cycles are those of the first image, as the counter `total` shows them.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from codesign._files import atomic_write, scratch_folder, write_text
from codesign.arch.hardware import Hardware
from codesign.errors import UserError, option
from codesign.program import Plan
from codesign.program.plan import owners_of
from codesign.rtl.geometry import Geometry
from codesign.sim.cosim import verilator
from codesign.sim.cosim.alone import PLUSARG, run_alone
from codesign.sim.cosim.bench import BENCH
from codesign.sim.cosim.wave_layout import is_unchanged, layout, texts
from codesign.sim.cosim.wave_request import FORMATS, WaveRequest
from codesign.sim.timing.plan_timing import Timing

FST_PACKAGES = "liblz4-dev zlib1g-dev"
_WIDEST = "65536"  # bits of a signal that is still written: a descriptor has more than Verilator's 256
_RANGE = re.compile("([0-9]{1,18}):([0-9]{1,18})")
SIGNAL = "waves"
"""Signal of the bench that is high while waves are written; the main program looks at it."""


@dataclass(frozen=True)
class Window:
    """Cycles of the first image whose waves are written.

    The first edge in the file is the one at which the counter `total` becomes `first`, the last one that at which it
    becomes `end`.

    Attributes:
        layer: whose cycles they are; None if they were given as numbers.
    """

    first: int
    end: int
    layer: str | None = None

    def __str__(self) -> str:
        of = f"layer {self.layer}, " if self.layer is not None else ""
        return f"{of}cycles {self.first:,} to {self.end:,}"


@dataclass(frozen=True)
class Recording:
    """Waves that were written.

    Attributes:
        file, layout: the waves, and the GTKWave layout beside them.
        window: of the run.
        layout_kept: a layout was there that somebody had changed; it is as it was.
    """

    file: Path
    layout: Path
    window: Window
    layout_kept: bool


def window(what: str, plan: Plan, timing: Timing) -> Window:
    """The window that `what` names: a layer of the plan, or cycles `FIRST:END` of it.

    That of a layer has as many cycles as its timing says: from the end of the step before its first step to the end of
    its last one, whose `layer_done` is high in the last cycle.

    Raises:
        UserError: neither a layer nor cycles of the run.
    """
    names = [work.name for work in plan.layers]
    if what in names:
        number = plan.computed_in[names.index(what)]
        of_first = [step.image == 0 for step in plan.steps]
        mine = [step for step, owner in enumerate(owners_of(plan.steps)) if owner == number and of_first[step]]
        first = max(timing.step_ends[: mine[0]], default=0)
        return Window(first, timing.step_ends[mine[-1]], what)
    cycles = _RANGE.fullmatch(what)
    if cycles and int(cycles[1]) < int(cycles[2]) <= timing.total_cycles:
        return Window(int(cycles[1]), int(cycles[2]))
    raise UserError(
        f"{option('waves')}: '{what}' given, must be cycles FIRST:END with 0 <= FIRST < END <= {timing.total_cycles}, "
        f"or a layer, one of {', '.join(names)}"
    )


def build(files: Mapping[str, str], file: Path, extra_flags: Sequence[str] = ()) -> Path:
    """Build `traced` sources in Verilator, so that they can write `file`; the folder.

    Raises:
        UserError: libraries are missing that this takes.
    """
    if file.suffix == ".fst":
        check_libraries()
    trace = (f"--trace-{FORMATS[file.suffix].lower()}", "--trace-max-width", _WIDEST)
    return verilator.build(files, BENCH, (SIGNAL,), (*extra_flags, *trace), _main(file.suffix))


def run(folder: Path, work: Path, plusargs: Sequence[str]) -> int:
    """Run what `build` built in the folder `work`; the cycles it took.

    Raises:
        RuntimeError: the simulation failed.
    """
    return run_alone([str(folder / BENCH), PLUSARG, *plusargs], work)


def check_libraries() -> None:
    """UserError if nothing can be built that writes FST: Verilator's writer uses lz4 and zlib."""
    source = "#include <lz4.h>\n#include <zlib.h>\nint main() { return LZ4_versionNumber() + *zlibVersion(); }\n"
    with scratch_folder() as work:
        command = ["g++", "-x", "c++", "-", "-o", str(work / "program"), "-llz4", "-lz"]
        try:
            status = subprocess.run(command, input=source, capture_output=True, text=True, check=False).returncode
        except FileNotFoundError:
            return  # the build says what is missing
    if status:
        raise UserError(
            f"waves in FST need the headers of lz4 and zlib; install them with: apt-get install {FST_PACKAGES}; "
            "or name a .vcd file, which needs neither"
        )


# ---- what the simulation does --------------------------------------------------------------------------------------


def plusargs(window: Window, file: Path) -> list[str]:
    """Arguments of a simulation of `traced` sources, which have it write `file`."""
    return [f"+waves={file}", f"+waves_first={window.first}", f"+waves_end={window.end}"]


def traced(files: Mapping[str, str], hw: Hardware) -> dict[str, str]:
    """The sources with a bench that writes waves, and has states and operations as text."""
    bench = files[f"{BENCH}.sv"]
    body, end = bench.rsplit("endmodule", 1)
    return {**files, f"{BENCH}.sv": f"{body}{_process(Geometry(hw))}endmodule{end}"}


def _process(geometry: Geometry) -> str:
    # `start` is looked at in the middle of a cycle. The last edge is in the file: it ends a moment later.
    decoded = "\n".join(text.verilog() for text in texts(geometry))
    return f"""
  // ---- waves of a window of cycles of the first image
{decoded}
  string waves_file;
  longint waves_first, waves_end, waves_cycle;
  reg {SIGNAL} = 0;  // being written
  initial if ($value$plusargs("waves=%s", waves_file)) begin
    status = $value$plusargs("waves_first=%d", waves_first);
    status = $value$plusargs("waves_end=%d", waves_end);
    while (!(recording && image == 0 && dut.executor.start)) @(negedge clk);
    for (waves_cycle = -1; waves_cycle < waves_first; waves_cycle = waves_cycle + 1) @(posedge clk);
    {SIGNAL} = 1;
    while (waves_cycle < waves_end) @(posedge clk) waves_cycle = waves_cycle + 1;
    #0.001 {SIGNAL} = 0;
  end
  always @(posedge finished) {SIGNAL} = 0;  // the run was stopped within the window
`ifndef VERILATOR  // whose main program does this
  always @(posedge {SIGNAL}) begin
    $dumpfile(waves_file);
    $dumpvars(0, {BENCH});
  end
  always @(negedge {SIGNAL}) $dumpoff;
`endif
"""


def _main(suffix: str) -> str:
    """C++ that runs the bench and writes waves while it wants them; Verilator passes over `$dumpoff`."""
    kind = FORMATS[suffix]
    signal = f"top.rootp->{BENCH}__DOT__{SIGNAL}"
    return f"""\
#include "Vtop.h"
#include "Vtop___024root.h"
#include "verilated.h"
#include "verilated_{kind.lower()}_c.h"
#include <string>
int main(int argc, char** argv) {{
  VerilatedContext context;
  context.commandArgs(argc, argv);
  context.traceEverOn(true);
  const std::string option = "+waves=";
  std::string file = context.commandArgsPlusMatch("waves=");
  if (file.size() > option.size()) file = file.substr(option.size());
  Vtop top(&context, "");  // no scope above the bench
  Verilated{kind}C writer;
  top.trace(&writer, 99);
  while (!context.gotFinish()) {{
    top.eval();
    if ({signal} && !writer.isOpen()) writer.open(file.c_str());
    if ({signal}) writer.dump(context.time());
    else if (writer.isOpen()) writer.close();
    if (!top.eventsPending()) break;
    context.time(top.nextTimeSlot());
  }}
  if (writer.isOpen()) writer.close();
  top.final();
  return 0;
}}
"""


def keep(written: Path, window: Window, asked: WaveRequest, hw: Hardware) -> Recording | None:
    """Put the waves that a simulation wrote where they were asked for, with a layout; None if there are none.

    Each file is written whole or not at all. A layout that was changed stays: it is somebody's work.

    Raises:
        UserError: a file cannot be written.
    """
    if not written.exists():
        return None
    with written.open("rb") as source, atomic_write(asked.file) as target:
        shutil.copyfileobj(source, target)
    kept = asked.layout.exists() and not is_unchanged(asked.layout)
    if not kept:
        write_text(asked.layout, layout(hw, asked.file, asked.layout))
    return Recording(asked.file, asked.layout, window, kept)

"""Components as generated Verilog in Icarus, cycle by cycle, with the models of the primitives in them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from amaranth.lib.wiring import Component
from numpy.typing import NDArray

from codesign._files import scratch_folder
from codesign.arch.hardware import Hardware
from codesign.rtl.array.dsp48e2 import models
from codesign.rtl.modules import convert, ports_of
from codesign.sim.cosim import icarus
from tests.rtl.bench import driven, ports


def play_verilog(
    component: Component,
    drive: Mapping[str, Sequence[Any] | NDArray[Any]],
    watch: Sequence[str],
    cycles: int,
    hw: Hardware,
) -> dict[str, NDArray[Any]]:
    """As `tests.rtl.bench.play`, but of the Verilog of `component`, which is a part of `hw`; no value has unknown bits.

    Other inputs than those driven are 0.
    """
    inputs = {name: ports(component, name) for name in drive}
    outputs = {name: ports(component, name) for name in watch}
    flat = {port.name: port for port in ports_of(component)}
    given = [f"{name}__{i}" if f"{name}__{i}" in flat else name for name in drive for i in range(len(inputs[name]))]
    shown = [f"{name}__{i}" if f"{name}__{i}" in flat else name for name in watch for i in range(len(outputs[name]))]
    lines = [f"{word:x}\n" for word in driven(component, drive, cycles)]
    text = convert(component, "dut")
    wires = "".join(f"  wire [{flat[name].width - 1}:0] {name};\n" for name in (*given, *shown))
    pins = ", ".join(f".{name}({name})" for name in (*given, *shown))
    pins += "".join(f", .{name}(1'b0)" for name in ("rst",) if f"input {name};" in text)
    bench = f"""\
module bench;
  reg clk = 0;
  reg [{sum(flat[name].width for name in given) - 1}:0] drive [0:{cycles - 1}];
  integer t, seen;
{wires}  assign {{{", ".join(reversed(given))}}} = drive[t];
  dut dut(.clk(clk), {pins});
  initial begin
    t = 0;
    $readmemh("drive.hex", drive);
    seen = $fopen("seen.hex", "w");
    for (t = 0; t < {cycles}; t = t + 1) begin
      #1 $fwrite(seen, "{" ".join(["%h"] * len(shown))}\\n", {", ".join(shown)});
      clk = 1;
      #1 clk = 0;
    end
    $display("%0d", t);
    $finish;
  end
endmodule
"""
    folder = icarus.build({"dut.v": text, **models(hw), "bench.sv": bench}, "bench")
    with scratch_folder() as work:
        (work / "drive.hex").write_text("".join(lines))
        icarus.run(folder, "bench", work)
        rows = [line.split() for line in (work / "seen.hex").read_text().splitlines()]
    result: dict[str, NDArray[Any]] = {}
    column = 0
    for name, parts in outputs.items():
        values = [[int(word, 16) for word in row[column : column + len(parts)]] for row in rows]
        column += len(parts)
        array = np.array(values, dtype=np.int64 if len(parts[0]) < 64 else object)
        result[name] = array if isinstance(getattr(component, name), list) else array[:, 0]
    return result

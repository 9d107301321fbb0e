"""A top module that brings every port of a design to four pins, so that place and route needs no package with them all.

The accelerator is a block inside a larger design: its buses have more wires than a package has pins. Every input is
driven by a register of a shift register, every output is taken by a register and folded into a signature that leaves
on one pin. So nothing can be optimised away, and every path of the design lies between two registers on the chip and
is timed, those of its ports included. Bits are inverted on their way through the shift register, or synthesis would
find them equal to the design's own input registers and keep only one of the two.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

NAME = "codesign_harness"
INSTANCE = "accelerator"

_PORT = re.compile(r"^\s*(input|output)\s+(?:wire\s+|reg\s+)?(?:\[(\d+):0\]\s*)?(\\\S+|\w+)\s*;", re.MULTILINE)


@dataclass(frozen=True)
class Harness:
    """Verilog of the harness, and the flip-flops it adds: one for each input bit and two for each output bit."""

    text: str
    inputs: int
    outputs: int

    @property
    def flip_flops(self) -> int:
        return 1 + self.inputs + 2 * self.outputs


def harness(module: str, top: str) -> Harness:
    """The harness of module `top`, whose text is `module`; it has ports `clk` and `rst`.

    Raises:
        ValueError: the module has no port but those.
    """
    connections: list[str] = []
    widths = {"input": 0, "output": 0}
    for direction, high, name in _PORT.findall(module):
        if name in ("clk", "rst"):
            continue
        low, width = widths[direction], int(high or 0) + 1
        connections.append(f"    .{name} ({direction}s[{low + width - 1}:{low}])")
        widths[direction] += width
    inputs, outputs = widths["input"], widths["output"]
    if not inputs or not outputs:
        raise ValueError(f"module {top} has {inputs} input and {outputs} output bits besides clock and reset")
    joined = ",\n".join(connections)
    return Harness(
        f"""
module {NAME}(input clk, input rst, input serial_in, output serial_out);
  reg reset;
  reg [{inputs - 1}:0] inputs;
  wire [{outputs - 1}:0] outputs;
  reg [{outputs - 1}:0] taken, signature;
  always @(posedge clk) begin
    reset <= rst;
    inputs <= {{~inputs, serial_in}};
    taken <= outputs;
    signature <= {{signature, signature[{outputs - 1}]}} ^ taken;
  end
  assign serial_out = signature[{outputs - 1}];
  {top} {INSTANCE} (
    .clk (clk),
    .rst (reset),
{joined}
  );
endmodule
""",
        inputs,
        outputs,
    )

"""A bench that needs nothing but a Verilog simulator: it runs a program's images and says whether all is as it must be.

The accelerator, the memory model of the cosimulation and a host that writes registers; images, the results they must
give and the cycles they must take come from files beside it. It ends with a line that begins with PASS, or fails.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from codesign._text import one_line
from codesign.program.program import Program
from codesign.rtl.registers import register_map
from codesign.sim.cosim import memory_model
from codesign.sim.cosim.bench_parts import REGISTER_TASKS, accelerator_and_memory, watchdog
from codesign.sim.cosim.run import hex_lines, image_beats

BENCH = "bench"
"""The top module."""


def self_checking(
    program: Program, images: NDArray[np.int64], results: Sequence[NDArray[np.int64]], cycles: int, accelerator: str
) -> dict[str, str]:
    """Texts by file name: the bench, the memory, what they read, and a Makefile for Icarus and Verilator.

    Args:
        program: the compiled network.
        images: input codes (N, C, H, W), one at least.
        results: the outputs (C, H, W) that they must give.
        cycles: that each must take.
        accelerator: paths of the accelerator's Verilog from where these files lie.
    """
    beat = program.geometry.beat_bytes
    encoded = np.concatenate([part for image in images for part in program.encode_input(image)])
    words = np.concatenate([program.encode_results(result).view("<u4") for result in results])
    memory_bytes = 1 << (program.memory_bytes - 1).bit_length()
    return {
        f"{BENCH}.sv": _bench(program, len(images), cycles),
        "memory.sv": memory_model.memory_model(program.hw, memory_bytes),
        "program.hex": hex_lines(program.stream, beat),
        "images.hex": hex_lines(encoded, beat),
        "results.hex": "".join(f"{word:08x}\n" for word in words.tolist()),
        "Makefile": _makefile(f"{BENCH}.sv memory.sv {accelerator}"),
    }


def _makefile(sources: str) -> str:
    return f"""\
# `make icarus` or `make verilator`: PASS and status 0, or what differs and another status.
SOURCES = {sources}

.PHONY: icarus verilator clean
icarus: {BENCH}.vvp
	vvp -N {BENCH}.vvp
{BENCH}.vvp: $(SOURCES)
	iverilog -g2012 -s {BENCH} -o $@ $(SOURCES)

verilator: obj_dir/{BENCH}
	obj_dir/{BENCH}
obj_dir/{BENCH}: $(SOURCES)
	verilator --binary --timing -O3 -Wno-lint -Wno-style --top-module {BENCH} -o {BENCH} $(SOURCES)

clean:
	rm -rf {BENCH}.vvp obj_dir
"""


def _bench(program: Program, images: int, cycles: int) -> str:
    geometry = program.geometry
    registers = register_map(geometry)
    address = {register.name: f"12'h{register.address:03x}" for register in registers.registers}
    field = registers["STATUS"]["error"]
    error = f"word[{field.low} +: {field.bits}]"
    names = one_line(program.shape.name), one_line(program.hw.name)
    copies, beats = "", 0
    for place, count in image_beats(program):
        copies += f"      for (integer i = 0; i < {count}; i = i + 1)\n"
        copies += f"        memory.mem[{place} + i] = images[image * IMAGE_BEATS + {beats} + i];\n"
        beats += count
    return f"""\
// '{names[0]}' on '{names[1]}': {images} images, each compared with {program.result_words} words of
// results, and its cycles with what the timing model says.
`timescale 1ns/1ps
module {BENCH};
  localparam BITS = {geometry.beat_bits};
  localparam IMAGES = {images}, IMAGE_BEATS = {beats}, RESULT_WORDS = {program.result_words};
  localparam RESULT_WORD = {program.output_address // 4};  // where the results begin
  localparam CYCLES = {cycles};  // that an image must take

{accelerator_and_memory(program.hw)}
{REGISTER_TASKS}
  // ---- the host: one start for each image
  reg [BITS-1:0] images [0:IMAGES*IMAGE_BEATS-1];
  reg [31:0] results [0:IMAGES*RESULT_WORDS-1];
  reg [BITS-1:0] beat;
  integer image, place, wrong = 0;
  longint began;
  initial begin
    $readmemh("program.hex", memory.mem, 0, {program.stream.size // geometry.beat_bytes - 1});
    $readmemh("images.hex", images);
    $readmemh("results.hex", results);
    @(posedge clk) #1 rst = 0;
    for (image = 0; image < IMAGES; image = image + 1) begin
{copies}      for (integer i = 0; i < RESULT_WORDS; i = i + 1) begin  // what was there before
        place = RESULT_WORD + i;
        memory.mem[place / (BITS / 32)][32 * (place % (BITS / 32)) +: 32] = 32'hdeadbeef;
      end
      poke({address["PROGRAM_ADDRESS"]}, 32'd{program.address});
      poke({address["PROGRAM_BURSTS"]}, 32'd{program.bursts});
      poke({address["INTERRUPT_ENABLE"]}, 32'd3);
{watchdog(program.hw, 6)}      while (!memory_ready) @(posedge clk) #1;
      poke({address["CONTROL"]}, 32'd1);
      began = cycle;
      while (!interrupt && !overflow && cycle - began < 2 * CYCLES + 10000) @(posedge clk) #1;
      if (!interrupt) $fatal(1, "FAIL: image %0d is not done after %0d cycles", image, cycle - began);
      peek({address["STATUS"]});
      if ({error} != 0) $fatal(1, "FAIL: image %0d: error %0d", image, {error});
      poke({address["INTERRUPT_STATUS"]}, 32'd3);
      peek({address[registers.counters[0]]});
      if (word != CYCLES) begin
        $display("image %0d took %0d cycles, must take %0d", image, word, CYCLES);
        wrong = wrong + 1;
      end
      for (integer i = 0; i < RESULT_WORDS; i = i + 1) begin
        place = RESULT_WORD + i;
        beat = memory.mem[place / (BITS / 32)];
        if (beat[32 * (place % (BITS / 32)) +: 32] !== results[image * RESULT_WORDS + i]) begin
          $display("image %0d, word %0d is %h, must be %h", image, i, beat[32 * (place % (BITS / 32)) +: 32],
                   results[image * RESULT_WORDS + i]);
          wrong = wrong + 1;
        end
      end
    end
    if (wrong != 0) $fatal(1, "FAIL: %0d of the values and cycles differ", wrong);
    $display("PASS: %0d images, %0d words of results and %0d cycles each", IMAGES, RESULT_WORDS, CYCLES);
    $finish;
  end
endmodule
"""

"""The bench: a Verilog wrapper around an accelerator, with clock, memory and recording in the HDL.

Python sleeps until an image is finished; it never sees a clock edge. The memory is that of
`codesign.sim.cosim.memory_model`.

At every `layer_done` the wrapper writes the layer's map, straight from the activation memories, and the counters. The
host's part, registers written and read, is played in the HDL too. Before an image there may be a run that a reset ends
(`Pulse`). From the first reset on no output may have an unknown bit, which a simulator of four states would show.

What goes wrong is written to the file of results, in a line that begins with `stopped:`, and ends the simulation.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from codesign.arch.hardware import Hardware
from codesign.rtl.array.dsp48e2 import MODEL_FILE, models
from codesign.rtl.counters import BYTES, COUNTERS
from codesign.rtl.geometry import Geometry
from codesign.rtl.lanes import names
from codesign.rtl.registers import register_map
from codesign.rtl.verilog import TOP, generate
from codesign.sim.cosim import memory_model
from codesign.sim.cosim.bench_parts import REGISTER_TASKS, accelerator_and_memory, outputs, watchdog

BENCH = "codesign_bench"
PUBLIC = ("images_done", "finished", "cycles")
MEMORY_BYTES = 1 << 26
"""Size of the modelled memory, unless a program needs more."""
SCRAMBLE = ("--x-initial", "unique")
_MAX_LAYERS = 1 << 16


def sources(hw: Hardware, memory_bytes: int = MEMORY_BYTES) -> dict[str, str]:
    """Verilog files of the simulation: the accelerator, the memory and the bench."""
    return {
        f"{TOP}.v": generate(hw),
        **models(hw),
        f"{memory_model.MODULE}.sv": memory_model.memory_model(hw, memory_bytes),
        f"{BENCH}.sv": bench(hw),
    }


def scrambled(files: dict[str, str]) -> dict[str, str]:
    """The sources without any initial value in the accelerator; `SCRAMBLE` lets Verilator put random bits there."""

    def without(text: str) -> str:
        text = re.sub(r"^(  (?:output )?reg [^=;]*?) = [^;]*;", r"\1;", text, flags=re.MULTILINE)
        return re.sub(r"^  initial .*\n", "", text, flags=re.MULTILINE)

    return files | {name: without(files[name]) for name in (f"{TOP}.v", MODEL_FILE) if name in files}


def recorded(hw: Hardware) -> tuple[str, ...]:
    """Names of the values in a line of the counter file, in order."""
    return (*COUNTERS, *(f"bytes_{name}" for name in BYTES), *(f"band_busy_{i}" for i in range(len(hw.bands))))


@dataclass(frozen=True)
class Pulse:
    """A reset in the middle of a run, before the run that counts.

    Attributes:
        after: cycles from the write that starts the run to the reset; 0 pulses an accelerator that has nothing to do.
        cycles: length of the reset.
        deaf: the memory is not reset and goes on answering; the host waits with the next start until it has.
    """

    after: int
    cycles: int
    deaf: bool = False


def bench(hw: Hardware) -> str:
    """SystemVerilog of the bench for `hw`."""
    geometry = Geometry(hw)
    registers = register_map(geometry)
    address = {register.name: f"12'h{register.address:03x}" for register in registers.registers}
    counters = [*(f"dut.executor.counters__{i}" for i in range(len(COUNTERS)))]
    counters += [f"dut.byte_counters.counts__{i}" for i in range(len(BYTES))]
    counters += [f"dut.executor.band_busy__{i}" for i in range(len(hw.bands))]
    read_counters = "\n".join(
        f'      peek({address[name]}); $fwrite(counter_file, "%0d ", word);' for name in registers.counters
    )
    error = registers["STATUS"]["error"]
    both = "32'd3"  # bits done and error of the interrupt registers
    groups = list(reversed(range(geometry.groups)))

    def row(memory: int) -> str:
        return "{" + ", ".join(f"dut.memory_{memory}.group_{g}.memory[a]" for g in groups) + "}"

    line = ", ".join(counters)
    format_ = " ".join(["%0d"] * len(counters))
    known = "\n".join(f'    if (^{name} === 1\'bx) unknown("{name}");' for name in outputs(hw))
    endings = names("", geometry)
    owed = "".join(
        f"""\
      reads_owed = reads_owed + (m_axi{s}_arvalid ? 1 : 0) - (rvalid{s} && rlast{s} ? 1 : 0);
      writes_owed = writes_owed + (m_axi{s}_awvalid ? 1 : 0) - (bvalid{s} ? 1 : 0);
"""
        for s in endings
    )
    active = " || ".join(f"m_axi{s}_arvalid || m_axi{s}_awvalid || m_axi{s}_wvalid" for s in endings)
    answering = " || ".join(f"rvalid{s} || bvalid{s}" for s in endings)
    return f"""\
`timescale 1ns/1ps
module {BENCH};
  localparam BITS = {geometry.beat_bits};

{accelerator_and_memory(hw)}
  integer reads_owed = 0, writes_owed = 0;  // what was asked, and is not answered
  always @(posedge clk)
    if (rst && !deaf) begin
      reads_owed = 0;
      writes_owed = 0;
    end else begin
{owed}\
    end

{REGISTER_TASKS}
  // ---- recording
  string folder;
  integer map_file, counter_file, input_file, result_file, plan_file, status;
  integer images, pieces, result_word, result_words, layers, pulses;
  longint limit;  // cycles that one image may take
  longint began;
  reg [31:0] program_address, program_bursts;
  integer plan_memory [0:{_MAX_LAYERS - 1}], plan_base [0:{_MAX_LAYERS - 1}], plan_words [0:{_MAX_LAYERS - 1}];
  integer piece_beat [0:{_MAX_LAYERS - 1}], piece_beats [0:{_MAX_LAYERS - 1}];
  integer layer = 0, image = 0;
  integer a;
  reg recording = 0, stopped = 0;

  always @(posedge clk) if (recording && dut.executor.layer_done) begin
    $fwrite(counter_file, "{format_}\\n", {line});
    for (integer i = 0; i < plan_words[layer]; i = i + 1) begin
      a = plan_base[layer] + i;
      if (plan_memory[layer] == 0) $fwrite(map_file, "%h\\n", {row(0)});
      else $fwrite(map_file, "%h\\n", {row(1)});
    end
    layer = layer + 1;
  end

  // ---- what must not be, in a simulator of four states
  reg was_reset = 0;
  task unknown(input [255:0] name);
    if (!stopped) begin
      $fwrite(result_file, "stopped: image %0d, output %0s has unknown bits in cycle %0d\\n", image, name, cycle);
      stopped = 1;
    end
  endtask
  always @(posedge clk) begin
    if (was_reset) begin
{known}
    end
    if (rst) was_reset = 1;
  end

  // ---- one start per image
  integer pulse_after, pulse_cycles, pulse_deaf;
  task reset(input integer cycles);
    rst = 1;
    repeat (cycles) @(posedge clk);
    #1 rst = 0;
  endtask
  task start;
    poke({address["PROGRAM_ADDRESS"]}, program_address);
    poke({address["PROGRAM_BURSTS"]}, program_bursts);
    poke({address["INTERRUPT_ENABLE"]}, {both});
{watchdog(hw, 4)}    while (!memory_ready) @(posedge clk) #1;
    poke({address["CONTROL"]}, 1);
  endtask
  task pulse;  // a run that a reset ends; the memory forgets with it, or is waited for
    status = $fscanf(plan_file, "%d %d %d", pulse_after, pulse_cycles, pulse_deaf);
    deaf = pulse_deaf != 0;
    if (pulse_after != 0) start;
    for (integer i = 0; i < pulse_after && !overflow; i = i + 1) @(posedge clk) #1;
    reset(pulse_cycles);
    while (deaf && (owed != 0 || {answering})) @(posedge clk) #1;
    if (interrupt || {active} || s_axi_ctrl_bvalid || s_axi_ctrl_rvalid) begin
      $fwrite(result_file, "stopped: image %0d, an output is still active after a reset\\n", image);
      stopped = 1;
    end
  endtask

  reg [31:0] images_done = 0;
  reg finished = 0;
  reg [63:0] cycles;
  assign cycles = cycle;
  reg [BITS-1:0] value;
  initial begin
    status = $value$plusargs("folder=%s", folder);
    $readmemh({{folder, "/program.hex"}}, memory.mem);
    plan_file = $fopen({{folder, "/plan.txt"}}, "r");
    status = $fscanf(plan_file, "%d %d %d %d %d %d %d %d %d", limit, images, program_address, program_bursts,
                     pieces, result_word, result_words, layers, pulses);
    for (integer i = 0; i < pieces; i = i + 1)
      status = $fscanf(plan_file, "%d %d", piece_beat[i], piece_beats[i]);
    for (integer i = 0; i < layers; i = i + 1)
      status = $fscanf(plan_file, "%d %d %d", plan_memory[i], plan_base[i], plan_words[i]);
    input_file = $fopen({{folder, "/inputs.hex"}}, "r");
    map_file = $fopen({{folder, "/maps.hex"}}, "w");
    counter_file = $fopen({{folder, "/counters.txt"}}, "w");
    result_file = $fopen({{folder, "/results.hex"}}, "w");
    reset(1);
    for (image = 0; image < images && !stopped; image = image + 1) begin
      if (image < pulses) pulse;
      for (integer piece = 0; piece < pieces; piece = piece + 1)
        for (integer i = 0; i < piece_beats[piece]; i = i + 1) begin
          status = $fscanf(input_file, "%h", value);
          memory.mem[piece_beat[piece] + i] = value;
        end
      for (integer i = 0; i < result_words; i = i + 1)
        memory.mem[(result_word + i) / (BITS / 32)][32 * ((result_word + i) % (BITS / 32)) +: 32] = 32'hdeadbeef;
      layer = 0;
      recording = 1;
      start;
      began = cycle;
      while (!interrupt && !overflow && !stopped && cycle - began < limit) @(posedge clk) #1;
      recording = 0;
      if (overflow) begin
        $fwrite(result_file, "stopped: image %0d, more than %0d read requests or %0d writes unanswered, ", image,
                memory.REQUESTS - 1, memory.WRITES - 1);
        $fwrite(result_file, "which the memory of the bench does not hold; layer %0d\\n", layer);
        stopped = 1;
      end else if (!interrupt && !stopped) begin
        $fwrite(result_file, "stopped: image %0d not done after %0d cycles, layer %0d, ", image, limit, layer);
        $fwrite(result_file, "%0d read requests and %0d writes unanswered\\n", reads_owed, writes_owed);
        stopped = 1;
      end
      peek({address["STATUS"]});
      if (word[{error.low} +: {error.bits}] != 0 && !stopped) begin
        $fwrite(result_file, "stopped: image %0d, error %0d, layer %0d, ", image,
                word[{error.low} +: {error.bits}], layer);
        $fwrite(result_file, "%0d read requests and %0d writes unanswered\\n", reads_owed, writes_owed);
        stopped = 1;
      end
      poke({address["INTERRUPT_STATUS"]}, {both});
{read_counters}
      $fwrite(counter_file, "\\n");
      for (integer i = 0; i < result_words; i = i + 1) begin
        value = memory.mem[(result_word + i) / (BITS / 32)];
        $fwrite(result_file, "%h\\n", value[32 * ((result_word + i) % (BITS / 32)) +: 32]);
      end
      images_done = images_done + 1;
    end
    $fclose(plan_file);
    $fclose(map_file);
    $fclose(counter_file);
    $fclose(result_file);
    finished = 1;
    if ($test$plusargs("alone")) begin  // nobody else ends the simulation
      $display("%0d", cycle);
      $finish;
    end
  end
endmodule
"""

"""The bench: a Verilog wrapper around an accelerator, with clock, memory and recording in the HDL.

Python sleeps until an image is finished; it never sees a clock edge. The memory answers a read request `latency`
cycles after it was accepted, one beat every `interval` cycles, in order, and acknowledges a write after `latency`
cycles: the model of `codesign.sim.timing`. In a refresh reads stand still.

At every `layer_done` the wrapper writes the layer's map, straight from the activation memories, and the counters. The
host's part, registers written and read, is played in the HDL too.
"""

from __future__ import annotations

from typing import NamedTuple

from codesign.arch.hardware import Hardware
from codesign.rtl.counters import BYTES, COUNTERS
from codesign.rtl.geometry import Geometry
from codesign.rtl.registers import register_map
from codesign.rtl.verilog import TOP, generate

BENCH = "codesign_bench"
PUBLIC = ("images_done", "finished", "cycles")
MEMORY_BYTES = 1 << 26
"""Size of the modelled memory."""
_MAX_LAYERS = 1 << 16


def sources(hw: Hardware) -> dict[str, str]:
    """Verilog files of the simulation: the accelerator and the bench."""
    return {f"{TOP}.v": generate(hw), f"{BENCH}.sv": bench(hw)}


def recorded(hw: Hardware) -> tuple[str, ...]:
    """Names of the values in a line of the counter file, in order."""
    return (*COUNTERS, *(f"bytes_{name}" for name in BYTES), *(f"band_busy_{i}" for i in range(len(hw.bands))))


class _Refresh(NamedTuple):
    """Verilog of the memory's refresh, nothing where there is none."""

    declaration: str = ""
    counting: str = ""
    condition: str = ""


def _refresh(hw: Hardware) -> _Refresh:
    """Reads stand still in the last cycles of every interval since the start: their clock is `ticks`."""
    interval, length = hw.memory.refresh_interval, hw.memory.refresh_cycles
    if interval is None or length is None:
        return _Refresh()
    return _Refresh(
        declaration="""
  integer phase = 0;  // of the cycle that begins, 0 in that of a start
  longint ticks = 0, ticks_before;""",
        counting=f"""
    phase = dut.executor.start ? 1 : phase == {interval - 1} ? 0 : phase + 1;
    ticks_before = ticks;
    if (phase < {interval - length}) ticks = ticks + 1;""",
        condition=f"phase < {interval - length} && ",
    )


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
    depth = MEMORY_BYTES // geometry.beat_bytes
    groups = list(reversed(range(geometry.groups)))

    def row(memory: int) -> str:
        return "{" + ", ".join(f"dut.memory_{memory}.group_{g}.memory[a]" for g in groups) + "}"

    line = ", ".join(counters)
    refresh = _refresh(hw)
    read_cycle = "ticks" if hw.memory.refresh_interval else "cycle"
    format_ = " ".join(["%0d"] * len(counters))
    shift = (geometry.beat_bytes - 1).bit_length()
    return f"""\
`timescale 1ns/1ps
module {BENCH};
  localparam BITS = {geometry.beat_bits}, DEPTH = {depth}, SHIFT = {shift};
  localparam LATENCY = {hw.memory.latency}, INTERVAL = {hw.memory.cycles_per_beat};

  reg clk = 0, rst = 1;
  always #5 clk = ~clk;

  // ---- accelerator
  wire interrupt;
  wire arvalid, rready, awvalid, wvalid, wlast, bready;
  wire [31:0] araddr, awaddr;
  wire [7:0] arlen, awlen;
  wire [2:0] arsize, awsize;
  wire [1:0] arburst, awburst;
  wire [BITS-1:0] wdata;
  wire [BITS/8-1:0] wstrb;
  reg rvalid = 0, rlast = 0, bvalid = 0;
  reg [BITS-1:0] rdata = 0;
  reg write_valid = 0, read_valid = 0;
  reg [11:0] register_address = 0;
  reg [31:0] register_data = 0;
  wire written, read;
  wire [31:0] read_data;
  {TOP} dut (
    .clk(clk), .rst(rst), .interrupt(interrupt),
    .s_axi_ctrl_awvalid(write_valid), .s_axi_ctrl_awready(), .s_axi_ctrl_awaddr(register_address),
    .s_axi_ctrl_awprot(3'b0), .s_axi_ctrl_wvalid(write_valid), .s_axi_ctrl_wready(),
    .s_axi_ctrl_wdata(register_data), .s_axi_ctrl_wstrb(4'b1111), .s_axi_ctrl_bvalid(written),
    .s_axi_ctrl_bready(1'b1), .s_axi_ctrl_bresp(), .s_axi_ctrl_arvalid(read_valid), .s_axi_ctrl_arready(),
    .s_axi_ctrl_araddr(register_address), .s_axi_ctrl_arprot(3'b0), .s_axi_ctrl_rvalid(read),
    .s_axi_ctrl_rready(1'b1), .s_axi_ctrl_rdata(read_data), .s_axi_ctrl_rresp(),
    .m_axi_arvalid(arvalid), .m_axi_arready(1'b1), .m_axi_araddr(araddr), .m_axi_arlen(arlen),
    .m_axi_arsize(arsize), .m_axi_arburst(arburst), .m_axi_arcache(), .m_axi_arprot(),
    .m_axi_rvalid(rvalid), .m_axi_rready(rready), .m_axi_rdata(rdata), .m_axi_rresp(2'b0), .m_axi_rlast(rlast),
    .m_axi_awvalid(awvalid), .m_axi_awready(1'b1), .m_axi_awaddr(awaddr), .m_axi_awlen(awlen),
    .m_axi_awsize(awsize), .m_axi_awburst(awburst), .m_axi_awcache(), .m_axi_awprot(),
    .m_axi_wvalid(wvalid), .m_axi_wready(1'b1), .m_axi_wdata(wdata), .m_axi_wstrb(wstrb), .m_axi_wlast(wlast),
    .m_axi_bvalid(bvalid), .m_axi_bready(bready), .m_axi_bresp(2'b0)
  );

  // ---- registers: one transfer at a time, which the slave takes at once and answers within PATIENCE cycles
  localparam PATIENCE = 16;
  reg [31:0] word = 0;
  task poke(input [11:0] address, input [31:0] data);
    register_address = address; register_data = data; write_valid = 1;
    @(posedge clk) #1 write_valid = 0;
    for (integer i = 0; i < PATIENCE && !written; i = i + 1) @(posedge clk) #1;
    if (!written) $fatal(1, "no answer to a write of register %h", address);
    @(posedge clk) #1;
  endtask
  task peek(input [11:0] address);
    register_address = address; read_valid = 1;
    @(posedge clk) #1 read_valid = 0;
    for (integer i = 0; i < PATIENCE && !read; i = i + 1) @(posedge clk) #1;
    if (!read) $fatal(1, "no answer to a read of register %h", address);
    word = read_data;
    @(posedge clk) #1;
  endtask

  // ---- memory
  reg [BITS-1:0] mem [0:DEPTH-1];
  longint cycle = 0;
  longint request_ready [0:255];
  reg [31:0] request_addr [0:255];
  reg [8:0] request_beats [0:255];
  reg [7:0] request_head = 0, request_tail = 0;
  reg [8:0] beat = 0;
  longint last_beat = -64'sd1000000;
  longint ack_ready [0:8191];
  reg [12:0] ack_head = 0, ack_tail = 0;{refresh.declaration}

  always @(posedge clk) begin
    cycle = cycle + 1;  // now the number of the cycle that begins{refresh.counting}
    if (arvalid) begin
      request_ready[request_tail] = {"ticks_before" if hw.memory.refresh_interval else "cycle - 1"} + LATENCY;
      request_addr[request_tail] = araddr;
      request_beats[request_tail] = arlen + 1;
      request_tail = request_tail + 1;
    end
    rvalid <= 0;
    rlast <= 0;
    if ({refresh.condition}request_head != request_tail && {read_cycle} >= request_ready[request_head]
        && {read_cycle} >= last_beat + INTERVAL) begin
      rvalid <= 1;
      rdata <= mem[(request_addr[request_head] >> SHIFT) + beat];
      last_beat = {read_cycle};
      beat = beat + 1;
      if (beat == request_beats[request_head]) begin
        rlast <= 1;
        beat = 0;
        request_head = request_head + 1;
      end
    end
    if (awvalid && wvalid) begin
      for (int i = 0; i < BITS / 8; i++)
        if (wstrb[i]) mem[awaddr >> SHIFT][8 * i +: 8] = wdata[8 * i +: 8];
      ack_ready[ack_tail] = cycle - 1 + LATENCY;
      ack_tail = ack_tail + 1;
    end
    bvalid <= 0;
    if (ack_head != ack_tail && cycle >= ack_ready[ack_head]) begin
      bvalid <= 1;
      ack_head = ack_head + 1;
    end
  end

  // ---- recording
  string folder;
  integer map_file, counter_file, input_file, result_file, plan_file, status;
  integer images, pieces, result_word, result_words, layers;
  longint limit;  // cycles that one image may take
  longint began;
  reg [31:0] program_address, program_bursts;
  integer plan_memory [0:{_MAX_LAYERS - 1}], plan_base [0:{_MAX_LAYERS - 1}], plan_words [0:{_MAX_LAYERS - 1}];
  integer piece_beat [0:{_MAX_LAYERS - 1}], piece_beats [0:{_MAX_LAYERS - 1}];
  integer layer = 0;
  integer a;

  always @(posedge clk) if (dut.executor.layer_done) begin
    $fwrite(counter_file, "{format_}\\n", {line});
    for (integer i = 0; i < plan_words[layer]; i = i + 1) begin
      a = plan_base[layer] + i;
      if (plan_memory[layer] == 0) $fwrite(map_file, "%h\\n", {row(0)});
      else $fwrite(map_file, "%h\\n", {row(1)});
    end
    layer = layer + 1;
  end

  // ---- one start per image
  reg [31:0] images_done = 0;
  reg finished = 0;
  reg [63:0] cycles;
  assign cycles = cycle;
  reg [BITS-1:0] value;
  initial begin
    status = $value$plusargs("folder=%s", folder);
    $readmemh({{folder, "/program.hex"}}, mem);
    plan_file = $fopen({{folder, "/plan.txt"}}, "r");
    status = $fscanf(plan_file, "%d %d %d %d %d %d %d %d", limit, images, program_address, program_bursts,
                     pieces, result_word, result_words, layers);
    for (integer i = 0; i < pieces; i = i + 1)
      status = $fscanf(plan_file, "%d %d", piece_beat[i], piece_beats[i]);
    for (integer i = 0; i < layers; i = i + 1)
      status = $fscanf(plan_file, "%d %d %d", plan_memory[i], plan_base[i], plan_words[i]);
    $fclose(plan_file);
    input_file = $fopen({{folder, "/inputs.hex"}}, "r");
    map_file = $fopen({{folder, "/maps.hex"}}, "w");
    counter_file = $fopen({{folder, "/counters.txt"}}, "w");
    result_file = $fopen({{folder, "/results.hex"}}, "w");
    repeat (4) @(posedge clk);
    #1 rst = 0;
    poke({address["PROGRAM_ADDRESS"]}, program_address);
    poke({address["PROGRAM_BURSTS"]}, program_bursts);
    poke({address["INTERRUPT_ENABLE"]}, {both});
    for (integer image = 0; image < images; image = image + 1) begin
      for (integer piece = 0; piece < pieces; piece = piece + 1)
        for (integer i = 0; i < piece_beats[piece]; i = i + 1) begin
          status = $fscanf(input_file, "%h", value);
          mem[piece_beat[piece] + i] = value;
        end
      layer = 0;
      poke({address["CONTROL"]}, 1);
      began = cycle;
      while (!interrupt && cycle - began < limit) @(posedge clk) #1;
      if (!interrupt) begin
        $fwrite(result_file, "stopped: image %0d not done after %0d cycles, layer %0d\\n", image, limit, layer);
        image = images;
      end
      peek({address["STATUS"]});
      if (word[{error.low} +: {error.bits}] != 0) begin
        $fwrite(result_file, "stopped: image %0d, error %0d, layer %0d\\n", image,
                word[{error.low} +: {error.bits}], layer);
        image = images;
      end
      poke({address["INTERRUPT_STATUS"]}, {both});
{read_counters}
      $fwrite(counter_file, "\\n");
      for (integer i = 0; i < result_words; i = i + 1) begin
        value = mem[(result_word + i) / (BITS / 32)];
        $fwrite(result_file, "%h\\n", value[32 * ((result_word + i) % (BITS / 32)) +: 32]);
      end
      images_done = images_done + 1;
    end
    $fclose(map_file);
    $fclose(counter_file);
    $fclose(result_file);
    finished = 1;
  end
endmodule
"""

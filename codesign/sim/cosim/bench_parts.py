"""What every Verilog bench has: the accelerator beside the memory model, and the host's transfers of registers."""

from __future__ import annotations

from math import ceil

from amaranth.hdl import Shape
from amaranth.lib.wiring import Out

from codesign.arch.hardware import Hardware
from codesign.arch.memory import Memory
from codesign.rtl.axi import axi4_lite_slave, axi4_master
from codesign.rtl.geometry import Geometry
from codesign.rtl.lanes import names
from codesign.rtl.registers import DEFAULT_TIMEOUT, TIMEOUT_BITS, register_map
from codesign.rtl.verilog import TOP
from codesign.sim.cosim import memory_model

REGISTER_TASKS = """\
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
"""
"""Tasks `poke(address, data)` and `peek(address)`, whose answer is in `word`, beside `accelerator_and_memory`."""


def longest_silence(memory: Memory) -> int:
    """Cycles in which a read may be answered by nothing, at most: its latency, a beat, and all refreshes in them."""
    ticks = memory.latency + ceil(memory.cycles_per_beat)
    if memory.refresh_interval is None or memory.refresh_cycles is None:
        return ticks
    return (ticks // (memory.refresh_interval - memory.refresh_cycles) + 2) * memory.refresh_interval


def watchdog(hw: Hardware, indent: int) -> str:
    """The transfer with which a host lets a run wait for so slow a memory; nothing where TIMEOUT after a reset does."""
    cycles = DEFAULT_TIMEOUT + longest_silence(hw.memory)
    if longest_silence(hw.memory) < DEFAULT_TIMEOUT // 2:
        return ""
    address = register_map(Geometry(hw))["TIMEOUT"].address
    return f"{' ' * indent}poke(12'h{address:03x}, {min(cycles, (1 << TIMEOUT_BITS) - 1)});\n"


def outputs(hw: Hardware) -> dict[str, int]:
    """Ports that the accelerator drives, and their widths."""
    geometry = Geometry(hw)
    buses = dict.fromkeys(names("m_axi", geometry), axi4_master(geometry.port_bits)) | {"s_axi_ctrl": axi4_lite_slave()}
    ports = {
        f"{prefix}_{name}": Shape.cast(member.shape).width
        for prefix, members in buses.items()
        for name, member in members.items()
        if member.flow == Out
    }
    return ports | {"interrupt": 1}


def accelerator_and_memory(hw: Hardware) -> str:
    """Clock and reset, the accelerator `dut` and the `memory`, wired; BITS is declared before."""
    ports = outputs(hw)
    geometry = Geometry(hw)
    endings = names("", geometry)
    answers, taken, memory = [], [], []
    for s in endings:
        answers.append(f"""\
  wire rvalid{s}, rlast{s}, bvalid{s};
  wire [{geometry.port_bits - 1}:0] rdata{s};
  wire [1:0] rresp{s}, bresp{s};
""")
        m = f".m_axi{s}"
        taken.append(f"""\
    {m}_arready(1'b1), {m}_rvalid(rvalid{s}), {m}_rdata(rdata{s}), {m}_rresp(rresp{s}), {m}_rlast(rlast{s}),
    {m}_awready(1'b1), {m}_wready(1'b1), {m}_bvalid(bvalid{s}), {m}_bresp(bresp{s})""")
        m = f"m_axi{s}"
        memory.append(f"""\
    .arvalid{s}({m}_arvalid), .araddr{s}({m}_araddr), .arlen{s}({m}_arlen),
    .rvalid{s}(rvalid{s}), .rlast{s}(rlast{s}), .rdata{s}(rdata{s}), .rresp{s}(rresp{s}),
    .awvalid{s}({m}_awvalid), .awaddr{s}({m}_awaddr), .wvalid{s}({m}_wvalid), .wdata{s}({m}_wdata),
    .wstrb{s}({m}_wstrb), .bvalid{s}(bvalid{s}), .bresp{s}(bresp{s}),
""")
    taken_by_memory = ",\n".join(taken)
    wires = "\n".join(f"  wire {f'[{width - 1}:0] ' if width > 1 else ''}{name};" for name, width in ports.items())
    connected = ", ".join(f".{name}({name})" for name in ports)
    return f"""\
  reg clk = 0, rst = 1;
  always #5 clk = ~clk;

  // ---- accelerator and memory
{wires}
{"".join(answers)}\
  reg write_valid = 0, read_valid = 0;
  reg [11:0] register_address = 0;
  reg [31:0] register_data = 0;
  wire written = s_axi_ctrl_bvalid, read = s_axi_ctrl_rvalid;
  wire [31:0] read_data = s_axi_ctrl_rdata;
  {TOP} dut (
    .clk(clk), .rst(rst), {connected},
    .s_axi_ctrl_awvalid(write_valid), .s_axi_ctrl_awaddr(register_address), .s_axi_ctrl_awprot(3'b0),
    .s_axi_ctrl_wvalid(write_valid), .s_axi_ctrl_wdata(register_data), .s_axi_ctrl_wstrb(4'b1111),
    .s_axi_ctrl_bready(1'b1),
    .s_axi_ctrl_arvalid(read_valid), .s_axi_ctrl_araddr(register_address), .s_axi_ctrl_arprot(3'b0),
    .s_axi_ctrl_rready(1'b1),
{taken_by_memory}
  );
  reg deaf = 0;
  longint cycle;
  integer owed;
  wire memory_ready, overflow;
  {memory_model.MODULE} memory (
    .clk(clk), .rst(rst), .deaf(deaf), .started(dut.executor.start),
{"".join(memory)}\
    .cycle(cycle), .owed(owed), .ready(memory_ready), .overflow(overflow)
  );
"""

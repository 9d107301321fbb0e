"""The memory behind the accelerator's port, in SystemVerilog.

It answers a read request `latency` cycles after it was accepted, one beat every `cycles_per_beat` cycles, in order, and
acknowledges a write after `latency` cycles: the model of `codesign.sim.timing.plan_timing`. With a fraction of N cycles
for D beats, what is due is counted in parts of a cycle, and comes in the first cycle that is not before. In a refresh
reads stand still. What was asked waits in queues that hold as much as the accelerator can ask for; a request that finds
one full is kept from being lost silently: `overflow` rises, and the bench stops.

A reset of the accelerator is one of the memory's port, too: AXI4 has one reset for both sides of an interface. What was
owed is forgotten. While `deaf` is high, it is not, and the answers still come.
"""

from __future__ import annotations

from fractions import Fraction
from typing import NamedTuple

from codesign.arch.hardware import Hardware
from codesign.rtl.geometry import Geometry
from codesign.rtl.lanes import names

MODULE = "codesign_memory"


def _capacity(entries: int) -> int:
    """Places of a ring buffer that must hold so many entries: a power of two, and one place stays free."""
    return 1 << entries.bit_length()


def read_requests(hw: Hardware) -> int:
    """Read requests that can wait for their answers: the reader's FIFO has room for so many bursts.

    Twice, since a reset may make the accelerator ask again while a deaf memory still owes.
    """
    return 2 * (hw.memory.read_fifo_beats // hw.memory.burst_beats)


def writes(hw: Hardware) -> int:
    """Writes that can wait to be acknowledged: one is accepted a cycle, and acknowledged `latency` cycles later."""
    return hw.memory.latency + 1


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
    phase = started ? 1 : phase == {interval - 1} ? 0 : phase + 1;
    ticks_before = ticks;
    if (phase < {interval - length}) ticks = ticks + 1;""",
        condition=f"phase < {interval - length} && ",
    )


def memory_model(hw: Hardware, size: int) -> str:
    """SystemVerilog of the memory module, of `size` bytes.

    Outputs beside AXI4's: `cycle`, the number of the current one; `owed`, the requests that wait for an answer;
    `ready`, whether the first beat of a request that is made now comes as early as it can; `overflow`.

    Every port of the accelerator has queues and a rate of its own, and reaches all of the memory. What lies there is
    `mem`, in one port's order (`codesign.rtl.lanes`), which is what benches write and read.
    """
    geometry = Geometry(hw)
    refresh = _refresh(hw)
    clock = "ticks" if hw.memory.refresh_interval else "cycle"
    # beats are due in parts of a cycle where their distance is no whole number of them
    rate = Fraction(hw.memory.cycles_per_beat)
    scaled = f"{rate.denominator} * {clock}" if rate.denominator > 1 else clock
    ports = [_port(hw, name, clock, scaled, refresh) for name in names("", geometry)]
    unit = f", in cycles / {rate.denominator}" if rate.denominator > 1 else ""
    return f"""\
module {MODULE} (
  input clk, input rst, input deaf, input started,
{"".join(port.pins for port in ports)}\
  output longint cycle, output integer owed, output ready, output reg overflow
);
  localparam BITS = {geometry.beat_bits}, DEPTH = {size // geometry.beat_bytes};
  localparam SHIFT = {(geometry.port_bytes - 1).bit_length()};
  localparam LATENCY = {hw.memory.latency}, INTERVAL = {rate.numerator};
  localparam REQUESTS = {_capacity(read_requests(hw))}, WRITES = {_capacity(writes(hw))};

  reg [BITS-1:0] mem [0:DEPTH-1];
  // `due` is when the next beat may come{unit}{refresh.declaration}
{"".join(port.declarations for port in ports)}\
  initial begin
    cycle = 0; owed = 0; overflow = 0;
{"".join(port.initial for port in ports)}\
  end
  assign ready = {" && ".join(port.ready for port in ports)};

  always @(posedge clk) begin
    cycle = cycle + 1;  // now the number of the cycle that begins{refresh.counting}
{"".join(port.cycle for port in ports)}\
    owed = {" + ".join(port.owed for port in ports)};
  end
endmodule
"""


class _Port(NamedTuple):
    """Verilog of one port of the memory."""

    pins: str
    declarations: str
    initial: str
    ready: str
    cycle: str
    owed: str


def _port(hw: Hardware, s: str, clock: str, scaled: str, refresh: _Refresh) -> _Port:
    """A port whose names end in `s`, beside others."""
    geometry = Geometry(hw)
    bits, accepted = geometry.port_bits, "ticks_before" if hw.memory.refresh_interval else "cycle - 1"
    parts = scaled.removesuffix(clock)
    if geometry.ports == 1:
        read, write = f"mem[(request_addr{s}[request_head{s}] >> SHIFT) + beat{s}]", f"mem[awaddr{s} >> SHIFT]["
    else:
        # the lanes of a block lie behind each other, each with the beats of a burst
        count, beats = geometry.ports, hw.memory.burst_beats

        def lane(address: str) -> str:
            line = f"({address}) / {beats * count} * {beats} + ({address}) % {beats}"
            return f"mem[{line}][{bits} * (({address}) / {beats} % {count})"

        read = lane(f"(request_addr{s}[request_head{s}] >> SHIFT) + 32'(beat{s})") + f" +: {bits}]"
        write = lane(f"(awaddr{s} >> SHIFT)") + " + "
    return _Port(
        pins=f"""\
  input arvalid{s}, input [31:0] araddr{s}, input [7:0] arlen{s},
  output reg rvalid{s}, output reg rlast{s}, output reg [{bits - 1}:0] rdata{s}, output reg [1:0] rresp{s},
  input awvalid{s}, input [31:0] awaddr{s}, input wvalid{s},
  input [{bits - 1}:0] wdata{s}, input [{bits // 8 - 1}:0] wstrb{s},
  output reg bvalid{s}, output reg [1:0] bresp{s},
""",
        declarations=f"""\
  longint request_ready{s} [0:REQUESTS-1];
  reg [31:0] request_addr{s} [0:REQUESTS-1];
  reg [8:0] request_beats{s} [0:REQUESTS-1];
  longint ack_ready{s} [0:WRITES-1];
  integer request_head{s} = 0, request_tail{s} = 0, ack_head{s} = 0, ack_tail{s} = 0;
  integer requests{s} = 0, acks{s} = 0;  // that wait
  reg [8:0] beat{s} = 0;
  longint due{s} = 0;
""",
        initial=f"""\
    rvalid{s} = 0; bvalid{s} = 0;
    rlast{s} = 1'bx; rdata{s} = {{{bits}{{1'bx}}}}; rresp{s} = 2'bx; bresp{s} = 2'bx;
""",
        ready=f"{scaled} >= due{s}",
        cycle=f"""\
    if (arvalid{s} && (deaf || !rst)) begin
      request_ready{s}[request_tail{s}] = {accepted} + LATENCY;
      request_addr{s}[request_tail{s}] = araddr{s};
      request_beats{s}[request_tail{s}] = arlen{s} + 1;
      request_tail{s} = (request_tail{s} + 1) % REQUESTS;
      requests{s} = requests{s} + 1;
      if (requests{s} == REQUESTS) overflow = 1;
    end
    rvalid{s} <= 0;
    rlast{s} <= 1'bx;  // nobody may look at what is not valid
    rdata{s} <= {{{bits}{{1'bx}}}};
    rresp{s} <= 2'bx;
    if ({refresh.condition}requests{s} != 0 && {clock} >= request_ready{s}[request_head{s}] && {scaled} >= due{s})
    begin
      rvalid{s} <= 1;
      rlast{s} <= 0;
      rresp{s} <= 0;
      rdata{s} <= {read};
      if (due{s} < {parts}request_ready{s}[request_head{s}]) due{s} = {parts}request_ready{s}[request_head{s}];
      due{s} = due{s} + INTERVAL;
      beat{s} = beat{s} + 1;
      if (beat{s} == request_beats{s}[request_head{s}]) begin
        rlast{s} <= 1;
        beat{s} = 0;
        request_head{s} = (request_head{s} + 1) % REQUESTS;
        requests{s} = requests{s} - 1;
      end
    end
    if (awvalid{s} && wvalid{s} && (deaf || !rst)) begin
      for (integer i = 0; i < {bits // 8}; i = i + 1)
        if (wstrb{s}[i]) {write}8 * i +: 8] = wdata{s}[8 * i +: 8];
      ack_ready{s}[ack_tail{s}] = cycle - 1 + LATENCY;
      ack_tail{s} = (ack_tail{s} + 1) % WRITES;
      acks{s} = acks{s} + 1;
      if (acks{s} == WRITES) overflow = 1;
    end
    bvalid{s} <= 0;
    bresp{s} <= 2'bx;
    if (acks{s} != 0 && cycle >= ack_ready{s}[ack_head{s}]) begin
      bvalid{s} <= 1;
      bresp{s} <= 0;
      ack_head{s} = (ack_head{s} + 1) % WRITES;
      acks{s} = acks{s} - 1;
    end
    if (rst && !deaf) begin
      request_head{s} = request_tail{s};
      ack_head{s} = ack_tail{s};
      requests{s} = 0;
      acks{s} = 0;
      beat{s} = 0;
      due{s} = 0;
      rvalid{s} <= 0;
      bvalid{s} <= 0;
    end
""",
        owed=f"requests{s} + acks{s}",
    )

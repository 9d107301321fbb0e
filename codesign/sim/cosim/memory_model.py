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
    """
    geometry = Geometry(hw)
    refresh = _refresh(hw)
    clock = "ticks" if hw.memory.refresh_interval else "cycle"
    accepted = "ticks_before" if hw.memory.refresh_interval else "cycle - 1"
    # beats are due in parts of a cycle where their distance is no whole number of them
    rate = Fraction(hw.memory.cycles_per_beat)
    scaled = f"{rate.denominator} * " if rate.denominator > 1 else ""
    unit = f", in cycles / {rate.denominator}" if scaled else ""
    return f"""\
module {MODULE} (
  input clk, input rst, input deaf, input started,
  input arvalid, input [31:0] araddr, input [7:0] arlen,
  output reg rvalid, output reg rlast, output reg [{geometry.beat_bits - 1}:0] rdata, output reg [1:0] rresp,
  input awvalid, input [31:0] awaddr, input wvalid,
  input [{geometry.beat_bits - 1}:0] wdata, input [{geometry.beat_bytes - 1}:0] wstrb,
  output reg bvalid, output reg [1:0] bresp,
  output longint cycle, output integer owed, output ready, output reg overflow
);
  localparam BITS = {geometry.beat_bits}, DEPTH = {size // geometry.beat_bytes};
  localparam SHIFT = {(geometry.beat_bytes - 1).bit_length()};
  localparam LATENCY = {hw.memory.latency}, INTERVAL = {rate.numerator};
  localparam REQUESTS = {_capacity(read_requests(hw))}, WRITES = {_capacity(writes(hw))};

  reg [BITS-1:0] mem [0:DEPTH-1];
  longint request_ready [0:REQUESTS-1];
  reg [31:0] request_addr [0:REQUESTS-1];
  reg [8:0] request_beats [0:REQUESTS-1];
  longint ack_ready [0:WRITES-1];
  integer request_head = 0, request_tail = 0, ack_head = 0, ack_tail = 0;
  integer requests = 0, acks = 0;  // that wait
  reg [8:0] beat = 0;
  longint due = 0;  // when the next beat may come{unit}{refresh.declaration}
  initial begin
    cycle = 0; owed = 0; overflow = 0;
    rvalid = 0; bvalid = 0;
    rlast = 1'bx; rdata = {{BITS{{1'bx}}}}; rresp = 2'bx; bresp = 2'bx;
  end
  assign ready = {scaled}{clock} >= due;

  always @(posedge clk) begin
    cycle = cycle + 1;  // now the number of the cycle that begins{refresh.counting}
    if (arvalid && (deaf || !rst)) begin
      request_ready[request_tail] = {accepted} + LATENCY;
      request_addr[request_tail] = araddr;
      request_beats[request_tail] = arlen + 1;
      request_tail = (request_tail + 1) % REQUESTS;
      requests = requests + 1;
      if (requests == REQUESTS) overflow = 1;
    end
    rvalid <= 0;
    rlast <= 1'bx;  // nobody may look at what is not valid
    rdata <= {{BITS{{1'bx}}}};
    rresp <= 2'bx;
    if ({refresh.condition}requests != 0 && {clock} >= request_ready[request_head] && {scaled}{clock} >= due) begin
      rvalid <= 1;
      rlast <= 0;
      rresp <= 0;
      rdata <= mem[(request_addr[request_head] >> SHIFT) + beat];
      if (due < {scaled}request_ready[request_head]) due = {scaled}request_ready[request_head];
      due = due + INTERVAL;
      beat = beat + 1;
      if (beat == request_beats[request_head]) begin
        rlast <= 1;
        beat = 0;
        request_head = (request_head + 1) % REQUESTS;
        requests = requests - 1;
      end
    end
    if (awvalid && wvalid && (deaf || !rst)) begin
      for (integer i = 0; i < BITS / 8; i = i + 1)
        if (wstrb[i]) mem[awaddr >> SHIFT][8 * i +: 8] = wdata[8 * i +: 8];
      ack_ready[ack_tail] = cycle - 1 + LATENCY;
      ack_tail = (ack_tail + 1) % WRITES;
      acks = acks + 1;
      if (acks == WRITES) overflow = 1;
    end
    bvalid <= 0;
    bresp <= 2'bx;
    if (acks != 0 && cycle >= ack_ready[ack_head]) begin
      bvalid <= 1;
      bresp <= 0;
      ack_head = (ack_head + 1) % WRITES;
      acks = acks - 1;
    end
    if (rst && !deaf) begin
      request_head = request_tail;
      ack_head = ack_tail;
      requests = 0;
      acks = 0;
      beat = 0;
      due = 0;
      rvalid <= 0;
      bvalid <= 0;
    end
    owed = requests + acks;
  end
endmodule
"""

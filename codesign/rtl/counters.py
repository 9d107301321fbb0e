"""What the accelerator counts: cycles, of which every one is of one kind, and bytes by kind."""

from __future__ import annotations

COUNTER_TEXT = {
    "total": "cycles from the start to the end of the run; the sum of the counters below",
    "issue": "cycles in which the window generator reads: the array or the pooling unit is fed",
    "gap": "cycles in which a tile is over and the rows of the one before still leave",
    "wait_pass": "cycles in which the next pass is not loaded yet, and the two cycles that start a pass",
    "drain": "cycles in which the last results of a layer are on their way",
    "fetch": "cycles in which there is no layer to run",
    "load": "cycles in which input rows are being stored",
}
"""Cycle counters by name."""

COUNTERS = tuple(COUNTER_TEXT)

BYTES_TEXT = {
    "program": "bytes read: descriptors, pass headers and parameters, and what fills bursts",
    "weights": "bytes read: weights of all passes",
    "maps": "bytes read: input rows, and stored maps that come back",
    "results": "bytes written: int32 results",
    "stored": "bytes written: maps that are stored",
}
"""Counters of bytes moved by name."""

BYTES = tuple(BYTES_TEXT)

RESULT_BYTES = 4
"""Bytes of one int32 result."""

BAND_BUSY = "cycles that fed the array in passes with a filter in band"
"""What the counter of a band counts; the band follows."""

"""Limits of what hardware may be that other modules count with, too."""

from __future__ import annotations

MOST_CODE_BITS = 8
"""Widest activation code."""

HALVED_BITS = (4, 8)
"""Widths of a place that two narrower codes may share: halves are whole digits of two bits."""

MOST_HALVED_DOT = 16
"""Places of a group where two codes may share one: a row's record has five bits for the number of a code."""

SUM_BITS = 10
"""Average pooling windows hold at most 2**SUM_BITS codes."""

LEAST_POOLED_ROWS = 4
"""Cycles in which the results of a tile leave, at least, where they may be pooled: what is kept is read by the next."""

LEAST_TWO_RECORDS = 256
"""Bits of a beat that holds the parameter records of two rows."""

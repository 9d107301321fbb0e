"""The reader of the program stream and its FIFO: when each beat is consumed.

A burst is requested when the FIFO has room for it; its first beat is due `latency` cycles later, or `cycles_per_beat`
after the beat before it was due; refresh stops the count. A beat arrives in the first cycle in which it is due, and one
received in cycle a is offered in a + FIFO_LATENCY. With a fraction of N cycles for D beats, what is due is counted in
parts of a cycle, D of them.

Requests need no times of their own. A burst is requested in the cycle after the one that it replaces in the FIFO was
consumed, so that its arrival is known from then on. The first ones are requested in successive cycles, which is never
slower than they arrive.
"""

from __future__ import annotations

from fractions import Fraction

from codesign.arch.memory import Memory
from codesign.rtl.latencies import FIFO_LATENCY


class ReadClock:
    """The clock of the memory's reads, which stands still in the last `refresh_cycles` of every `refresh_interval`.

    The first interval begins with the start. Both are the same function without refresh.
    """

    def __init__(self, memory: Memory) -> None:
        self.interval = memory.refresh_interval or 0
        self.active = self.interval - (memory.refresh_cycles or 0)

    def ticks(self, cycle: int) -> int:
        """Ticks from cycle 0 up to `cycle`, that one included if it is no refresh."""
        if not self.interval:
            return cycle
        whole, rest = divmod(cycle, self.interval)
        return whole * self.active + min(rest + 1, self.active)

    def cycle(self, tick: int) -> int:
        """The cycle of a tick."""
        if not self.interval:
            return tick
        whole, rest = divmod(tick - 1, self.active)
        return whole * self.interval + rest


class Reader:
    """Where the stream stands.

    Attributes:
        position: beats of the current burst that are consumed.
        first: when its first beat is due, in parts of ticks; of the last burst if there is none.
        arrivals: the same of the bursts behind it, as many as the FIFO holds.
    """

    def __init__(self, memory: Memory) -> None:
        self.clock = ReadClock(memory)
        self.ahead = memory.read_fifo_beats // memory.burst_beats
        self._burst = memory.burst_beats
        self._latency = memory.latency
        rate = Fraction(memory.cycles_per_beat)
        self._beat, self._parts = rate.numerator, rate.denominator
        self._period = self._burst * self._beat  # from a burst to the next one
        self._span = self._period - self._beat  # from the first beat of a burst to its last
        # whether the memory's rate alone decides, once bursts are a period apart and taken as they come
        waited = self._parts * (FIFO_LATENCY + 1 + self._latency) + self._span + self._parts - 1
        self._flows = waited <= self.ahead * self._period
        self.position = 0
        self.first = -self._period
        self.arrivals: list[int] = []
        self.go_on(0)

    def go_on(self, cycle: int) -> None:
        """All that was announced is consumed; more is in `cycle`."""
        period = self._period
        first = max(self._parts * (self.clock.ticks(cycle + 1) + self._latency), self.first + period)
        self.arrivals = list(range(first, first + self.ahead * period, period))

    def take(self, beats: int, ready: int) -> int:
        """Consume `beats` beats, the first not before cycle `ready`; the cycle of the last one."""
        last = ready - 1
        burst, beat, latency, clock, parts = self._burst, self._beat, self._latency, self.clock, self._parts
        still = clock.interval > 0
        period, distance = self._period, self.ahead * self._period
        if beats > 3 * burst and not still:
            self._settle(ready)
        position, first, arrivals = self.position, self.first, self.arrivals
        while beats > 0:
            if position == 0:
                first = arrivals.pop(0)
            count = min(beats, burst - position)
            position += count
            beats -= count
            arrived = -(-(first + (position - 1) * beat) // parts)
            offered = (clock.cycle(arrived) if still else arrived) + FIFO_LATENCY
            before, last = last, last + count
            if offered > last:
                last = offered
            if position < burst:
                break
            position = 0
            requested = clock.ticks(last + 1) if still else last + 1
            newest = max(arrivals[-1] + period, parts * (requested + latency))
            arrivals.append(newest)
            if newest - first != distance or beats < burst or still:
                continue
            # Arrivals are nowhere closer than a period, so here all are a period apart, and so is what is consumed:
            # everything moves by one period with every burst.
            if parts == 1:
                if last - before != period:
                    continue
                whole, beats = divmod(beats, burst)
                last += whole * period
            elif self._flows and last == offered:
                whole, beats = divmod(beats, burst)
                last = -(-(first + whole * period + self._span) // parts) + FIFO_LATENCY
            else:
                continue
            first += whole * period
            arrivals[:] = [arrival + whole * period for arrival in arrivals]
        self.position, self.first = position, first
        return last

    def key(self, ready: int) -> tuple[int, ...]:
        """What decides about the future, relative to `ready`, before which nothing more is consumed."""
        self._settle(ready)
        clock = self.clock
        base = self._parts * clock.ticks(ready)
        phase = ready % clock.interval if clock.interval else 0
        return phase, self.position, self.first - base, *[arrival - base for arrival in self.arrivals]

    def _settle(self, ready: int) -> None:
        """Raise arrivals that are too early to delay anything to the latest one of that kind.

        Beat i of the m-th burst from now is consumed at the earliest in cycle `ready` + the beats before it; if the
        last beat of a burst is offered by then, all are. The newest arrival also limits the next one, which is no
        earlier than what the next burst to be consumed gives room for; where all are consumed, the last one limits what
        is due after a pause.
        """
        clock, burst, span, arrivals, parts = self.clock, self._burst, self._span, self.arrivals, self._parts
        left = burst - self.position if self.position else 0
        due = ready + left - FIFO_LATENCY - 1  # when a burst's last beat is to be there, and arrived by
        behind = range(due + burst, due + (len(arrivals) + 1) * burst, burst)
        if clock.interval:
            latest = [parts * clock.ticks(cycle) - span for cycle in behind]
        else:
            latest = [parts * cycle - span for cycle in behind]
        newest = arrivals[-1]
        shown = parts * (clock.ticks(ready + left + 1) + self._latency) - self._period  # what shows after a pause
        self.first = max(self.first, min(shown, parts * clock.ticks(due) - span) if left else shown)
        if self._beat > parts * self._latency:
            after = (clock.ticks(cycle + FIFO_LATENCY + 2) + self._latency for cycle in behind)
            latest = [min(late, parts * tick - self._period) for late, tick in zip(latest, after, strict=True)]
        self.arrivals = [a if a > b else b for a, b in zip(arrivals, latest, strict=True)]
        if clock.interval or self._beat > 1:
            room = parts * (clock.ticks(ready + (left or burst)) + self._latency) - self._period
            self.arrivals[-1] = max(newest, min(self.arrivals[-1], room))

    def restore(self, key: tuple[int, ...]) -> int:
        """Go to where `key` was taken; the cycle `ready` in which that is."""
        ready, self.position, first, *arrivals = key
        base = self._parts * self.clock.ticks(ready)
        self.first = first + base
        self.arrivals = [arrival + base for arrival in arrivals] if base else arrivals
        return ready

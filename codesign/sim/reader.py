"""The reader of the program stream and its FIFO: when each beat is consumed.

A burst is requested when the FIFO has room for it; its first beat arrives `latency` cycles later, or `cycles_per_beat`
after the beat before it; refresh stops the count. A beat received in cycle a is offered in a + FIFO_LATENCY.

Requests need no times of their own. A burst is requested in the cycle after the one that it replaces in the FIFO was
consumed, so that its arrival is known from then on. The first ones are requested in successive cycles, which is never
slower than they arrive.
"""

from __future__ import annotations

from collections import deque

from codesign.arch.hardware import Memory
from codesign.rtl.geometry import FIFO_LATENCY


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
        first: arrival of its first beat, in ticks.
        arrivals: the same of the bursts behind it, as many as the FIFO holds.
    """

    def __init__(self, memory: Memory) -> None:
        self.clock = ReadClock(memory)
        self.ahead = memory.read_fifo_beats // memory.burst_beats
        self._burst = memory.burst_beats
        self._latency = memory.latency
        self._beat = memory.cycles_per_beat
        self._span = (self._burst - 1) * self._beat  # from the first beat of a burst to its last
        self.position = 0
        self.first = 0
        self.arrivals: deque[int] = deque(maxlen=self.ahead)
        self.go_on(0)

    def go_on(self, cycle: int) -> None:
        """All that was announced is consumed; more is in `cycle`."""
        first = self.clock.ticks(cycle + 1) + self._latency
        self.arrivals.clear()
        self.arrivals.extend(range(first, first + self.ahead * self._burst * self._beat, self._burst * self._beat))

    def take(self, beats: int, ready: int) -> int:
        """Consume `beats` beats, the first not before cycle `ready`; the cycle of the last one."""
        last = ready - 1
        burst, beat, latency, arrivals, clock = self._burst, self._beat, self._latency, self.arrivals, self.clock
        still = clock.interval > 0
        period = same = 0  # cycles from burst to burst, and for how many bursts it was the same
        while beats > 0:
            if self.position == 0:
                self.first = arrivals.popleft()
            count = min(beats, burst - self.position)
            self.position += count
            beats -= count
            arrived = self.first + (self.position - 1) * beat
            before, last = last, max(last + count, (clock.cycle(arrived) if still else arrived) + FIFO_LATENCY)
            if self.position < burst:
                break
            self.position = 0
            newest = arrivals[-1]
            requested = clock.ticks(last + 1) if still else last + 1
            arrivals.append(max(newest + burst * beat, requested + latency))
            if still or count < burst:
                continue
            if last - before != period or arrivals[-1] - newest != period:
                period, same = last - before, 0
                continue
            same += 1
            if same > self.ahead and beats >= burst:  # everything moves by one period, and so does what comes of it
                whole, beats = divmod(beats, burst)
                last += whole * period
                for index in range(len(arrivals)):
                    arrivals[index] += whole * period
        return last

    def key(self, ready: int) -> tuple[int, ...]:
        """What decides about the future, relative to `ready`, before which nothing more is consumed.

        An arrival too early to delay anything is as good as the latest one of that kind. Beat i of the m-th burst from
        now is consumed at the earliest `ready` + the beats before it; if the last beat of a burst is offered by then,
        all are. The newest arrival also limits the next one, which is no earlier than what the next burst to be
        consumed gives room for.
        """
        clock, burst = self.clock, self._burst
        left = burst - self.position if self.position else 0
        base = clock.ticks(ready)
        found = [ready % clock.interval if clock.interval else 0, self.position]
        due = ready + left - FIFO_LATENCY - 1
        found.append(max(self.first, clock.ticks(due) - self._span) - base if left else 0)
        for arrival in self.arrivals:
            due += burst
            found.append(max(arrival, clock.ticks(due) - self._span) - base)
        if clock.interval or self._beat > 1:
            room = clock.ticks(ready + (left or burst)) + self._latency - burst * self._beat - base
            found[-1] = max(self.arrivals[-1] - base, min(found[-1], room))
        return tuple(found)

    def restore(self, key: tuple[int, ...]) -> int:
        """Go to where `key` was taken; the cycle `ready` in which that is."""
        ready, self.position, first, *arrivals = key
        base = self.clock.ticks(ready)
        self.first = first + base
        self.arrivals.clear()
        self.arrivals.extend(arrival + base for arrival in arrivals)
        return ready

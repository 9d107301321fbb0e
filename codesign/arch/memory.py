"""Memories of an accelerator: on the chip, and the one behind the AXI4 port."""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction
from typing import Annotated, Any

from pydantic import PlainSerializer, SerializerFunctionWrapHandler, model_serializer, model_validator

from codesign.arch.checks import choice, integer, ratio, rejected, shown
from codesign.arch.documents import Model
from codesign.arch.profiles import LEAST_MHZ, MOST_DENOMINATOR, PROFILES

AXI_BOUNDARY_BYTES = 4096
"""No AXI4 burst may cross an address that is a multiple of this (AMBA AXI4, A3.4.1)."""


LEAST_PORT_BITS = 32
"""Narrowest AXI4 port that a word of a result fits."""


class Buffers(Model):
    """On-chip memories.

    Attributes:
        activation_words: depth of each of the two activation memories, in words of `Hardware.word_elements` codes.
        weight_words: depth of each row's weight ring, in words of `Hardware.dot` weights.
        read_ports: with 2, the write port of the memory that windows are read from, idle then, reads as well. Windows
            of maps whose channels fill at most half a word are then read two words a cycle (`Hardware.half_words`).
    """

    activation_words: Annotated[int, integer(16, 1 << 18, power_of_two=True)]
    weight_words: Annotated[int, integer(16, 1 << 16, power_of_two=True)]
    read_ports: Annotated[int, choice(1, 2)] = 1


class Memory(Model):
    """External memory behind the AXI4 port, as cosimulation and timing model it.

    Attributes:
        profile: key of `codesign.arch.profiles.PROFILES`, from which all keys are that nobody gives. They are cycles of
            the clock that `Hardware` gives it, and only what was written is written again.
        ports: AXI4 masters of the accelerator, each as wide as its part of `width_bits`: the ports of a device are
            narrower than what it has to move. Together they move a beat.
        width_bits: data width of all ports together; one beat.
        latency: cycles from an accepted read request to its first beat.
        cycles_per_beat: 1 is full bandwidth. With a fraction, beats are due at such distances and come in the first
            cycle that is not before.
        burst_beats: beats of one read request.
        fifo_beats: depth of the read FIFO; by default as deep as `read_fifo_beats` says.
        refresh_interval: cycles from the end of one refresh to the end of the next, tREFI of a DRAM's data sheet in
            cycles of `clock_mhz`; no refresh if it is not given.
        refresh_cycles: cycles of a refresh, tRFC: nothing is read in them, and latencies and distances of beats that
            have begun stand still. Writes are posted and go on.
    """

    profile: str | None = None
    ports: Annotated[int, choice(1, 2, 4)] = 1
    width_bits: Annotated[int, choice(32, 64, 128, 256, 512)]
    latency: Annotated[int, integer(1, 4096)]
    cycles_per_beat: Annotated[
        int | Fraction,
        ratio(1, 1024, MOST_DENOMINATOR),
        PlainSerializer(lambda value: value if isinstance(value, int) else str(value), when_used="json"),
    ] = 1
    burst_beats: Annotated[int, integer(1, 256, power_of_two=True)] = 16
    fifo_beats: Annotated[int, integer(2, 1 << 16)] | None = None
    refresh_interval: Annotated[int, integer(2, 1 << 20)] | None = None
    refresh_cycles: Annotated[int, integer(1, 1 << 16)] | None = None

    @model_validator(mode="after")
    def _check(self) -> Memory:
        burst_bytes = self.burst_beats * self.width_bits // 8
        if burst_bytes > AXI_BOUNDARY_BYTES:
            allowed = AXI_BOUNDARY_BYTES * 8 // self.width_bits
            raise rejected(
                f"burst_beats {self.burst_beats} given, must be at most {allowed} with width_bits {self.width_bits}"
                f" (an AXI4 burst stays within {AXI_BOUNDARY_BYTES} bytes)"
            )
        least = max(8, 2 * self.burst_beats)
        if self.fifo_beats is not None and (self.fifo_beats < least or self.fifo_beats % self.burst_beats):
            raise rejected(
                f"fifo_beats {self.fifo_beats} given, must be a multiple of burst_beats, {self.burst_beats}, and at "
                f"least {least}"
            )
        if (self.refresh_interval is None) != (self.refresh_cycles is None):
            key = "refresh_cycles" if self.refresh_cycles is None else "refresh_interval"
            raise rejected(f"{key}: nothing given, must be given with the other key of refresh")
        if self.refresh_interval and self.refresh_cycles and self.refresh_cycles >= self.refresh_interval:
            raise rejected(
                f"refresh_cycles {self.refresh_cycles} given, must be below refresh_interval, {self.refresh_interval}"
            )
        if self.width_bits // self.ports < LEAST_PORT_BITS:
            raise rejected(
                f"ports: {self.ports} given, must be at most {self.width_bits // LEAST_PORT_BITS} with width_bits "
                f"{self.width_bits}: a port has at least {LEAST_PORT_BITS} bits"
            )
        self._check_profile()
        return self

    def _check_profile(self) -> None:
        """What the device's ports cannot do."""
        if self.profile is None:
            return
        found = PROFILES[self.profile]
        if self.burst_beats > found.burst_beats:
            raise rejected(
                f"burst_beats {self.burst_beats} given, must be at most {found.burst_beats} with profile {self.profile}"
            )
        if self.ports > found.ports or self.width_bits > self.ports * found.port_bits:
            ports = "port" if self.ports == 1 else "ports"
            raise rejected(
                f"width_bits {self.width_bits} given for {self.ports} {ports}, must be at most {found.port_bits} for "
                f"each of {found.ports} ports with profile {self.profile}"
            )

    @model_serializer(mode="wrap")
    def _written(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """With a profile what was given beside it, else all but the profile."""
        data: dict[str, Any] = handler(self)
        if self.profile is None:
            data.pop("profile", None)
            if self.ports == 1:
                data.pop("ports", None)
            return data
        return {key: value for key, value in data.items() if key in self.model_fields_set}

    @classmethod
    def completed(cls, data: Mapping[str, Any], mhz: float) -> dict[str, Any]:
        """All keys of a memory with a profile, in cycles of a clock.

        Raises:
            PydanticCustomError: there is no such profile, or none at so slow a clock.
        """
        name = data["profile"]
        if not isinstance(name, str) or name not in PROFILES:
            raise rejected(f"profile: {shown(name)} given, must be {' or '.join(PROFILES)}")
        if mhz < LEAST_MHZ:
            raise rejected(f"profile: {name} given with a clock_mhz of {mhz:g}, must be at least {LEAST_MHZ}")
        return PROFILES[name].keys(mhz, {key: value for key, value in data.items() if value is not None})

    def said(self, given: Mapping[str, Any]) -> Memory:
        """The same, of which only the keys of `given` count as given."""
        return Memory.model_construct(_fields_set={key for key in given if given[key] is not None}, **dict(self))

    def at(self, mhz: float, fifo_beats: int | None = None) -> Memory:
        """The same memory in cycles of another clock, behind a FIFO of any depth; itself without a profile."""
        if self.profile is None:
            return self
        given = {key: value for key, value in self if key in self.model_fields_set}
        found = Memory(**self.completed(given, mhz)).said(given)
        return found if fifo_beats is None else found.model_copy(update={"fifo_beats": fifo_beats}).said(given)

    def canonical(self) -> dict[str, Any]:
        """All keys for JSON; what few memories have is in it only where it is."""
        data = self.said(Memory.model_fields).model_dump(mode="json")
        if self.refresh_interval is None:
            del data["refresh_interval"], data["refresh_cycles"]
        if self.ports == 1:
            data.pop("ports", None)
        return data

    def __str__(self) -> str:
        """One line for people."""
        ports = f"{self.ports} ports, " if self.ports > 1 else ""
        refresh = f", refresh {self.refresh_cycles} of {self.refresh_interval}" if self.refresh_interval else ""
        beat = f"{float(self.cycles_per_beat):.4g} a beat"
        name = f"{self.profile}: " if self.profile else ""
        return f"{name}{ports}{self.width_bits} bits; cycles: latency {self.latency}, {beat}{refresh}"

    @property
    def read_fifo_beats(self) -> int:
        """Depth of the read FIFO: enough to keep two bursts in flight over the latency, unless it was given."""
        if self.fifo_beats is not None:
            return self.fifo_beats
        return 1 << (self.latency + 2 * self.burst_beats + 8 - 1).bit_length()

"""The register map of the control port: one description for RTL, bench, driver, C header and documentation.

Pure Python. Addresses are byte offsets; every register has 32 bits and an address of its own.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum, StrEnum

from codesign.rtl.counters import BAND_BUSY, BYTES_TEXT, COUNTER_TEXT
from codesign.rtl.geometry import Geometry

MAGIC = int.from_bytes(b"cdsn", "little")
"""What register MAGIC holds."""
VERSION = (1, 1)
"""Version of this map: a new first number when a driver must change, a new second one when something was added."""
DEFAULT_TIMEOUT = 1 << 20
"""Cycles without progress after which a run ends, unless the host writes another number."""
TIMEOUT_BITS = 24
BURSTS_BITS = 24
LAYERS_BITS = 16


class Access(StrEnum):
    """What the host may do with a field."""

    READ = "read only"
    WRITE = "read, write while idle"
    ENABLE = "read, write"
    TRIGGER = "write 1 to act, reads 0"
    CLEAR = "read, write 1 to clear"


class Error(IntEnum):
    """Why a run ended early: field `error` of STATUS."""

    NONE = 0
    READ_RESPONSE = 1
    READ_LENGTH = 2
    WRITE_RESPONSE = 3
    DESCRIPTOR = 4
    TIMEOUT = 5
    STOPPED = 6


ERROR_TEXT = {
    Error.NONE: "no error",
    Error.READ_RESPONSE: "the memory answered a read with an error; is there memory where the program should be?",
    Error.READ_LENGTH: "the memory ended a burst of data at the wrong beat",
    Error.WRITE_RESPONSE: "the memory answered a write with an error; may the results be written behind the program?",
    Error.DESCRIPTOR: "the program is damaged, or for other hardware, or does not lie at PROGRAM_ADDRESS",
    Error.TIMEOUT: "nothing moved for TIMEOUT cycles; the memory is silent, or PROGRAM_BURSTS too small",
    Error.STOPPED: "the host stopped the run",
}
"""What each of them means, for people."""


@dataclass(frozen=True)
class BitField:
    """Bits `low` .. `low + bits - 1` of a register; `reset` is what they hold after reset (or always)."""

    name: str
    low: int
    bits: int
    access: Access
    what: str
    reset: int = 0

    @property
    def mask(self) -> int:
        """Its bits in place."""
        return ((1 << self.bits) - 1) << self.low


@dataclass(frozen=True)
class Register:
    """A 32-bit register; bits outside its fields read 0."""

    name: str
    address: int
    fields: tuple[BitField, ...]
    what: str

    def __getitem__(self, name: str) -> BitField:
        """The field of that name."""
        return next(field for field in self.fields if field.name == name)

    @property
    def reset(self) -> int:
        """What it reads after reset."""
        return sum(field.reset << field.low for field in self.fields)


@dataclass(frozen=True)
class RegisterMap:
    """All registers, by rising address."""

    registers: tuple[Register, ...]
    counters: tuple[str, ...]
    """Names of the registers that count, in the order of the RTL's counters: of cycles, of bytes, of the bands."""

    def __getitem__(self, name: str) -> Register:
        """The register of that name."""
        return next(register for register in self.registers if register.name == name)


def _whole(name: str, address: int, what: str, access: Access = Access.READ, reset: int = 0) -> Register:
    return Register(name, address, (BitField("value", 0, 32, access, what, reset),), what)


def register_map(geometry: Geometry) -> RegisterMap:
    """The registers of one accelerator."""
    digest = int(geometry.hw.content_hash, 16)
    burst_bits = (geometry.hw.memory.burst_beats * geometry.beat_bytes).bit_length() - 1
    done = "the run is over and every result is in memory"
    failed = "the run ended early; STATUS.error says why"
    fixed = [
        _whole("MAGIC", 0x000, "'cdsn' in ASCII: this is such an accelerator", reset=MAGIC),
        Register(
            "VERSION",
            0x004,
            (
                BitField("minor", 0, 16, Access.READ, "rises when something is added", VERSION[1]),
                BitField("major", 16, 16, Access.READ, "rises when a driver must change", VERSION[0]),
            ),
            "version of this register map",
        ),
        _whole("HASH_LOW", 0x008, "hash of the configuration, lower half", reset=digest & 0xFFFFFFFF),
        _whole("HASH_HIGH", 0x00C, "hash of the configuration, upper half", reset=digest >> 32),
        Register(
            "CONTROL",
            0x010,
            (
                BitField("start", 0, 1, Access.TRIGGER, "begin a run; without effect unless idle"),
                BitField("stop", 1, 1, Access.TRIGGER, "end the run; without effect when idle"),
            ),
            "commands",
        ),
        Register(
            "STATUS",
            0x014,
            (
                BitField("idle", 0, 1, Access.READ, "nothing runs and the memory owes no answer", 1),
                BitField("done", 1, 1, Access.READ, done),
                BitField("error", 8, 4, Access.READ, "why the run ended early, 0 if it did not; until the next start"),
            ),
            "state of the last run",
        ),
        Register(
            "INTERRUPT_ENABLE",
            0x018,
            (
                BitField("done", 0, 1, Access.ENABLE, "raise `interrupt` when a run is over"),
                BitField("error", 1, 1, Access.ENABLE, "raise `interrupt` when a run ended early"),
            ),
            "what raises the output `interrupt`",
        ),
        Register(
            "INTERRUPT_STATUS",
            0x01C,
            (
                BitField("done", 0, 1, Access.CLEAR, done),
                BitField("error", 1, 1, Access.CLEAR, failed),
            ),
            "`interrupt` is high while a bit is set here and in INTERRUPT_ENABLE",
        ),
        Register(
            "PROGRAM_ADDRESS",
            0x020,
            (
                BitField(
                    "value",
                    burst_bits,
                    32 - burst_bits,
                    Access.WRITE,
                    f"a multiple of the burst, {1 << burst_bits} bytes",
                ),
            ),
            "byte address of the program in memory; its results are written relative to it",
        ),
        Register(
            "PROGRAM_BURSTS",
            0x024,
            (BitField("value", 0, BURSTS_BITS, Access.WRITE, f"bursts of {1 << burst_bits} bytes"),),
            "length of the program, up to its first fence if it has one",
        ),
        Register(
            "TIMEOUT",
            0x028,
            (BitField("value", 0, TIMEOUT_BITS, Access.WRITE, "clock cycles, at least 1", DEFAULT_TIMEOUT),),
            "a run ends with an error when neither the memory nor the array did anything for so long",
        ),
        Register(
            "LAYERS",
            0x02C,
            (BitField("value", 0, LAYERS_BITS, Access.READ, "layers, strips of layers counted one by one"),),
            "how many layers the run has finished",
        ),
    ]
    counters = [
        _whole(f"COUNTER_{name.upper()}", 0x040 + 4 * i, what) for i, (name, what) in enumerate(COUNTER_TEXT.items())
    ]
    moved = [_whole(f"BYTES_{name.upper()}", 0x060 + 4 * i, what) for i, (name, what) in enumerate(BYTES_TEXT.items())]
    busy = [
        _whole(f"BAND_BUSY_{i}", 0x080 + 4 * i, f"{BAND_BUSY} {i} ({band})") for i, band in enumerate(geometry.hw.bands)
    ]
    registers = (*fixed, *counters, *moved, *busy)
    addresses = [register.address for register in registers]
    assert addresses == sorted(set(addresses))
    return RegisterMap(registers, tuple(register.name for register in (*counters, *moved, *busy)))

"""What `codesign generate` writes for the host: the C header in gcc, the driver under mypy, its words for people."""

from __future__ import annotations

import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from codesign.arch.hardware import Hardware
from codesign.arch.load import load_hardware
from codesign.arch.memory import Memory
from codesign.rtl.counters import BYTES, COUNTERS
from codesign.rtl.geometry import Geometry
from codesign.rtl.host_files import FILES, host_files
from codesign.rtl.registers import ERROR_TEXT, VERSION, Error, Register, register_map
from codesign.rtl.verilog import header
from tb.case import driver_module
from tests.rtl.bench import FIXED4, POT4, geometry

PORTS = Memory(ports=4, width_bits=256, latency=9, burst_beats=8)
SHAPES = {
    "tiny": load_hardware("tiny"),
    "xc7z045": load_hardware("xc7z045"),
    "two": geometry(POT4, FIXED4).hw,
    "four ports": geometry(POT4, FIXED4, memory=PORTS).hw,
}


def driver(hw: Hardware, folder: Path) -> ModuleType:
    """The generated module."""
    path = folder / "driver.py"
    path.write_text(host_files(hw)["driver.py"])
    return driver_module(path)


def macros(register: Register) -> dict[str, int]:
    """What the C header must define for a register."""
    prefix = f"CODESIGN_{register.name}"
    found = {prefix: register.address}
    for field in register.fields if len(register.fields) > 1 else ():
        found |= {f"{prefix}_{field.name.upper()}_SHIFT": field.low, f"{prefix}_{field.name.upper()}_MASK": field.mask}
    return found


@pytest.mark.parametrize("name", SHAPES)
def test_c_sees_the_registers_where_the_map_has_them(name: str, tmp_path: Path) -> None:
    hw = SHAPES[name]
    registers = register_map(Geometry(hw))
    wanted = {key: value for register in registers.registers for key, value in macros(register).items()}
    wanted |= {f"CODESIGN_ERROR_{error.name}": error.value for error in Error}
    wanted |= {f"CODESIGN_{r}_VALUE": registers[r].reset for r in ("MAGIC", "VERSION", "HASH_LOW", "HASH_HIGH")}
    count, kinds = len(COUNTERS), len(BYTES)
    wanted |= {f"CODESIGN_COUNTER({i})": registers[f"COUNTER_{n.upper()}"].address for i, n in enumerate(COUNTERS)}
    wanted |= {f"CODESIGN_BYTES({i})": registers[f"BYTES_{name.upper()}"].address for i, name in enumerate(BYTES)}
    wanted |= {f"CODESIGN_BAND_BUSY({i})": registers[f"BAND_BUSY_{i}"].address for i in range(len(hw.bands))}
    wanted |= {"CODESIGN_COUNTERS": count, "CODESIGN_BYTE_COUNTERS": kinds, "CODESIGN_BANDS": len(hw.bands)}
    wanted["CODESIGN_BURST_BYTES"] = hw.memory.burst_beats * hw.memory.width_bits // 8
    (tmp_path / "registers.h").write_text(host_files(hw)["registers.h"])
    prints = "\n".join(f'  printf("%lu\\n", (unsigned long)({key}));' for key in wanted)
    twice = '#include "registers.h"\n' * 2
    (tmp_path / "main.c").write_text(f"{twice}#include <stdio.h>\nint main(void) {{\n{prints}\n  return 0;\n}}\n")
    flags = ["-std=c99", "-Wall", "-Wextra", "-Werror", "-pedantic"]
    subprocess.run(["gcc", *flags, "main.c", "-o", "main"], cwd=tmp_path, check=True)
    printed = subprocess.run([tmp_path / "main"], capture_output=True, text=True, check=True).stdout.split()
    assert dict(zip(wanted, map(int, printed), strict=True)) == wanted


@pytest.mark.parametrize("name", SHAPES)
def test_the_documentation_and_the_verilog_list_every_register(name: str) -> None:
    hw = SHAPES[name]
    text = host_files(hw)["registers.md"]
    for register in register_map(Geometry(hw)).registers:
        assert f"| `0x{register.address:03X}` | `{register.name}` |" in text
        assert re.search(rf"^//   0x{register.address:03x} {register.name} ", header(hw), re.MULTILINE)
        for field in register.fields:
            top = f"{field.low + field.bits - 1}:" if field.bits > 1 else ""
            assert f"| {top}{field.low} | {field.name} | {field.access} |" in text
    assert all(meaning in text for meaning in ERROR_TEXT.values())
    assert len({line.count("|") for line in text.splitlines() if line.startswith("| `0x")}) == 1


@pytest.mark.parametrize("name", ["tiny", "four ports"])
def test_the_driver_is_typed_and_formatted(name: str, tmp_path: Path) -> None:
    driver(SHAPES[name], tmp_path)
    config = str(Path(__file__).parents[2] / "pyproject.toml")
    for command in (
        ["mypy", "--strict", "--config-file", "", "--cache-dir", str(tmp_path / "cache"), "driver.py"],
        ["ruff", "check", "--no-cache", "--config", config, "driver.py"],
        ["ruff", "format", "--no-cache", "--check", "--config", config, "driver.py"],
    ):
        done = subprocess.run(
            [sys.executable, "-m", *command], cwd=tmp_path, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr


def test_the_driver_knows_its_accelerator(tmp_path: Path) -> None:
    """Behind other registers it says what is wrong."""
    hw = SHAPES["tiny"]
    module = driver(hw, tmp_path)
    values = {register.address: register.reset for register in register_map(Geometry(hw)).registers}
    module.Accelerator(values.__getitem__, values.__setitem__)
    for register, meaning in (("MAGIC", "no accelerator"), ("VERSION", "register map"), ("HASH_HIGH", "configuration")):
        other = values | {module.REGISTERS[register]: 0x12345678}
        with pytest.raises(module.AcceleratorError, match=f"{meaning}.*: {register} is 0x12345678"):
            module.Accelerator(other.__getitem__, other.__setitem__)
    newer = values | {module.REGISTERS["VERSION"]: module.CONSTANTS["VERSION"] + 1}
    assert module.Accelerator(newer.__getitem__, newer.__setitem__).read("VERSION.minor") == VERSION[1] + 1


def test_bad_calls_are_explained(tmp_path: Path) -> None:
    hw = SHAPES["tiny"]
    module = driver(hw, tmp_path)
    values = {register.address: register.reset for register in register_map(Geometry(hw)).registers}
    accelerator = module.Accelerator(values.__getitem__, values.__setitem__)
    for program, address in ((b"", 0), (bytes(module.BURST_BYTES + 1), 0), (bytes(module.BURST_BYTES), 8)):
        with pytest.raises(ValueError, match=f"must be multiples of {module.BURST_BYTES}"):
            accelerator.load(program, address)
    for cycles in (0, 1 << 24):
        with pytest.raises(ValueError, match="must be 1 to 16777215"):
            accelerator.set_timeout(cycles)
    with pytest.raises(module.AcceleratorError, match="no memory was given"):
        accelerator.run({0: b"x"})


def test_mapped_memory_reads_and_writes_words_and_bytes(tmp_path: Path) -> None:
    """/dev/mem is a file, and so is this."""
    module = driver(SHAPES["tiny"], tmp_path)
    path, page = tmp_path / "memory", 4096
    path.write_bytes(bytes(3 * page))
    mapped = module.Mapped(page, page, str(path))
    mapped.write32(8, 0xDDCCBBAA)
    mapped.write(page + 16, b"results")
    assert mapped.read32(8) == 0xDDCCBBAA and mapped.read(page + 8, 4) == bytes.fromhex("aabbccdd")
    assert path.read_bytes()[page + 16 : page + 23] == b"results"


@dataclass
class Bytes:
    """A memory."""

    data: bytearray

    def read(self, address: int, length: int) -> bytes:
        return bytes(self.data[address : address + length])

    def write(self, address: int, data: bytes) -> None:
        self.data[address : address + len(data)] = data


def test_lanes_of_a_burst_lie_behind_each_other(tmp_path: Path) -> None:
    module, rng = driver(SHAPES["four ports"], tmp_path), np.random.default_rng(0)
    assert (module.BURST_BYTES, module.PORTS, module.PORT_BYTES) == (256, 4, 8)
    data = rng.bytes(4096)
    memory = Bytes(bytearray(8192))
    module.Lanes(memory).write(1024, data)
    beats = np.frombuffer(data, np.uint8).reshape(16, 8, 4, 8)  # bursts, beats, lanes, bytes
    assert memory.data[1024 : 1024 + 4096] == beats.transpose(0, 2, 1, 3).tobytes()
    assert not any(memory.data[:1024]) and not any(memory.data[1024 + 4096 :])
    for _ in range(200):
        begin, length = (int(x) for x in rng.integers(0, (3000, 1000)))
        assert module.Lanes(memory).read(1024 + begin, length) == data[begin : begin + length]
        piece = rng.bytes(length)
        module.Lanes(memory).write(1024 + begin, piece)
        data = data[:begin] + piece + data[begin + length :]
    assert module.Lanes(memory).read(1024, 4096) == data


def test_files_are_the_ones_announced() -> None:
    for hw in SHAPES.values():
        assert host_files(hw).keys() == FILES.keys()
        assert host_files(hw) == host_files(hw)

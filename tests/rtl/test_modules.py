"""Verilog: every distinct module once, the same bytes each time."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path

import pytest
from amaranth.hdl import Module
from amaranth.lib.wiring import Component, In, Out

from codesign.arch.band import Band
from codesign.arch.hardware import Hardware
from codesign.arch.load import load_hardware
from codesign.arch.memory import Memory
from codesign.arch.scheme import Scheme
from codesign.rtl.modules import SharedModule, convert, place
from codesign.rtl.verilog import generate
from tests.rtl.bench import APOT4, BINARY, FIXED4, FIXED8, LUT8, POT4, TERNARY, geometry, play, rows

TINY = load_hardware("tiny")
POT5 = Band(scheme=Scheme.POT, weight_bits=5, rows=2)
FIXED2 = Band(scheme=Scheme.FIXED, weight_bits=2, rows=1)
SHAPES = {
    "tiny": TINY,
    "one of each": geometry(FIXED2, act_bits=2, acc_bits=8, memory=Memory(width_bits=128, latency=1)).hw,
    "odd": geometry(POT5, rows(FIXED8, 5), columns=3, dot=5, memory=Memory(width_bits=64, latency=1)).hw,
    "every kind": geometry(POT5, FIXED4, LUT8, APOT4, rows(TERNARY, 2), BINARY, columns=2, dot=5).hw,
    "wide codes": geometry(POT5, POT4, FIXED4, LUT8, APOT4, TERNARY, BINARY, columns=2, dot=6, act_bits=7).hw,
    "four ports": geometry(FIXED4, columns=2, dot=2, memory=Memory(ports=4, width_bits=256, latency=9)).hw,
    "two ports": geometry(POT4, columns=2, dot=2, memory=Memory(ports=2, width_bits=64, latency=9, burst_beats=1)).hw,
    "images": geometry(rows(POT4, 3), FIXED4, columns=3, dot=2).hw.model_copy(update={"images": True}),
    "two alike": geometry(rows(POT4, 2), FIXED4, rows(POT4, 9), columns=2, dot=2).hw,
}


class Register(SharedModule):
    """Delays a value; without reset if `reset_less`."""

    def __init__(self, width: int) -> None:
        self.module_name = f"register_{width}"
        super().__init__({"d": In(width), "q": Out(width)})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.d.sync += self.q.eq(self.d)
        return m


class Chain(Component):
    """Registers of several widths in a row."""

    def __init__(self, widths: list[int]) -> None:
        self.widths = widths
        super().__init__({"d": In(8), "q": Out(8)})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        value = self.d
        for index, width in enumerate(self.widths):
            register = Register(width)
            m.submodules[f"register_{index}"] = place(register)
            m.d.comb += register.d.eq(value)
            value = register.q
        m.d.comb += self.q.eq(value)
        return m


class Broken(Component):
    """Cannot be elaborated."""

    def __init__(self) -> None:
        super().__init__({"d": In(1)})

    def elaborate(self, platform: object) -> Module:
        raise ValueError("broken")


def definitions(verilog: str) -> list[str]:
    """Names of the modules a text defines."""
    return re.findall(r"^module (\w+)", verilog, re.MULTILINE)


def instances(verilog: str, module: str) -> Counter[str]:
    """How often a module places each of the modules defined in the text."""
    body = re.search(rf"^module {module}\b.*?^endmodule", verilog, re.MULTILINE | re.DOTALL)
    assert body is not None
    found = re.findall(r"^  (\w+) \w+ \($", body[0], re.MULTILINE)
    return Counter(name for name in found if name in definitions(verilog))


def test_placed_components_simulate_as_submodules() -> None:
    seen = play(Chain([8, 3, 3]), {"d": [1, 2, 15, 0]}, ["q"], 8)["q"]
    assert seen.tolist() == [0, 0, 0, 1, 2, 7, 0, 0]
    register = Register(1)
    assert place(register) is register
    play(register, {"d": [0]}, [], 1)


def test_equal_components_become_instances_of_one_module() -> None:
    verilog = convert(Chain([8, 3, 3, 8, 3]), "chain", prefix="my_")
    assert sorted(definitions(verilog)) == ["chain", "my_register_3", "my_register_8"]
    assert instances(verilog, "chain") == {"my_register_3": 3, "my_register_8": 2}
    assert verilog == convert(Chain([8, 3, 3, 8, 3]), "chain", prefix="my_")


def test_a_failed_conversion_leaves_nothing_behind() -> None:
    with pytest.raises(ValueError, match="broken"):
        convert(Broken(), "broken")
    assert definitions(convert(Chain([1]), "chain")) == ["chain", "register_1"]
    register = Register(1)
    assert place(register) is register
    play(register, {"d": [0]}, [], 1)


def test_temporary_files_may_lie_in_a_folder_with_blanks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = generate.__wrapped__(SHAPES["tiny"])
    (tmp_path / "a b").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "a b"))
    assert generate.__wrapped__(SHAPES["tiny"]) == expected


def test_the_same_bytes_in_any_process() -> None:
    code = (
        "import sys; from codesign.arch.load import load_hardware; from codesign.rtl.verilog import generate;"
        "sys.stdout.write(generate(load_hardware('tiny')))"
    )
    env = os.environ | {"PYTHONHASHSEED": "12345"}
    other = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True)
    assert other.stdout == generate(TINY)


@pytest.mark.parametrize("name", SHAPES)
def test_every_distinct_module_is_written_once(name: str) -> None:
    hw: Hardware = SHAPES[name]
    verilog = generate(hw)
    assert max(Counter(definitions(verilog)).values()) == 1
    formats = Counter[str]()
    for band in hw.bands:
        lut = "_lut" if band.scheme is Scheme.FIXED and band.multiplier == "lut" else ""
        formats[f"{band.scheme}{band.weight_bits}{lut}"] += band.rows
    placed = instances(verilog, "codesign_array")
    assert placed == {"codesign_column_feeder": hw.columns} | {f"codesign_row_{f}": n for f, n in formats.items()}
    for form in formats:
        assert instances(verilog, f"codesign_row_{form}")[f"codesign_pe_{form}"] == hw.columns
    assert instances(verilog, "codesign_activation_memory") == {"codesign_activation_group": hw.columns}

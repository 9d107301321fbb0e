"""The Verilog of processing elements, in Verilator, driven by cocotb."""

from __future__ import annotations

from pathlib import Path

import pytest

from codesign.arch.load import load_hardware
from codesign.rtl.geometry import Geometry
from codesign.rtl.modules import convert
from codesign.sim.cosim import verilator
from tests.rtl.bench import StoredElement

ROOT = Path(__file__).parents[2]
HARDWARE = load_hardware("tiny")
PORTS = ("clk", "rst", "a", "w", "first", "done", "result")


@pytest.mark.parametrize("index", range(len(HARDWARE.bands)), ids=lambda i: str(HARDWARE.bands[i]))
def test_generated_verilog_adds_up(index: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    band, geometry = HARDWARE.bands[index], Geometry(HARDWARE)
    text = convert(StoredElement(geometry, band), "element")
    described = {
        "SCHEME": band.scheme.value,
        "BITS": band.weight_bits,
        "DOT": geometry.dot,
        "ACT_BITS": geometry.act_bits,
        "LATENCY": geometry.band_latency(band),
        "SKEW": ",".join(str(geometry.skew(i)) for i in range(geometry.dot)),
    }
    for name, value in described.items():
        monkeypatch.setenv(f"CODESIGN_PE_{name}", str(value))
    monkeypatch.syspath_prepend(str(ROOT))
    folder = verilator.build({"element.v": text}, "element", PORTS)
    verilator.run(folder, "element", "tb.processing_element", tmp_path)


def test_a_wrong_element_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The bench is told another latency than the element has."""
    band, geometry = HARDWARE.bands[0], Geometry(HARDWARE)
    described = {"SCHEME": "pot", "BITS": 4, "DOT": 2, "ACT_BITS": 4, "SKEW": "0,1"}
    described["LATENCY"] = geometry.band_latency(band) + 1
    for name, value in described.items():
        monkeypatch.setenv(f"CODESIGN_PE_{name}", str(value))
    monkeypatch.syspath_prepend(str(ROOT))
    text = convert(StoredElement(geometry, band), "element")
    folder = verilator.build({"element.v": text}, "element", PORTS)
    with pytest.raises(RuntimeError, match="simulation failed"):
        verilator.run(folder, "element", "tb.processing_element", tmp_path)

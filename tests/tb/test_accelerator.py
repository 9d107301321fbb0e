"""The accelerator's Verilog between cocotbext-axi's models, in Verilator, and what its buses must never do."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from codesign.arch.hardware import Hardware
from codesign.arch.memory import Memory
from codesign.integer.network import WIDE_BITS, IntegerNetwork, IntegerTensor
from codesign.program import compile_network
from codesign.program.files import write_program
from codesign.rtl.geometry import Geometry
from codesign.rtl.host_files import host_files
from codesign.rtl.lanes import names
from codesign.rtl.verilog import TOP, generate
from codesign.sim import functional
from codesign.sim.cosim import verilator
from tb.case import DRIVER, MANY, PROGRAM
from tests.rtl.bench import FIXED4, POT4, geometry, rows
from tests.rtl.test_accelerator import SMALL, small_network
from tests.sim.strategies import random_conv, weight_formats

ROOT = Path(__file__).parents[2]
TOP_FILE = ROOT / "tb" / "axi_harness.sv"
STORING = "$dff,$dffe,$sdff,$sdffe,$sdffce,$adff,$adffe,$aldff,$mem_v2,$memrd_v2,$memwr_v2"
"""Yosys's cells behind which a signal belongs to a later cycle."""


STATIONARY = geometry(
    rows(POT4, 2), rows(FIXED4, 3), columns=2, groups=4, dot=2, dataflow="ws", activation_words=256, weight_words=128,
    memory=Memory(width_bits=64, latency=1, burst_beats=8),
)  # fmt: skip
PORTED = {
    f"{ports} ports": SMALL.hw.model_copy(
        update={"memory": Memory(ports=ports, width_bits=width, latency=7, cycles_per_beat=2, burst_beats=4)}
    )
    for ports, width in ((2, 64), (4, 128))
}
IMAGES = {
    f"images, {name}": hw.model_copy(update={"images": True})
    for name, hw in ({"one port": SMALL.hw} | {"4 ports": PORTED["4 ports"]}).items()
}
"""A pass gives the int32 results of several images."""
SHAPES = {"output stationary": SMALL.hw, "weight stationary": STATIONARY.hw} | PORTED | IMAGES


def harness(hw: Hardware) -> str:
    """The top module, with a memory bus for every port."""
    masters = names("m_axi", Geometry(hw))
    lines = TOP_FILE.read_text().splitlines()
    found = [line.replace("m_axi", bus) for line in lines for bus in (masters if "m_axi" in line else masters[:1])]
    bits = f"int BITS = {hw.memory.width_bits // hw.memory.ports}"
    return "\n".join(found).replace("int BITS = 64", bits) + "\n"


def signals(text: str) -> tuple[str, ...]:
    """Names of the harness's signals, as its declarations have them."""
    return ("clk", "rst", "interrupt", *sorted(set(re.findall(r"\b(?:s_axi_ctrl|m_axi)_\w+", text))))


def connected_network(hw: Hardware) -> IntegerNetwork:
    """Two fully connected layers with more filters than there are rows."""
    rng, formats = np.random.default_rng(4), weight_formats(hw)
    source = IntegerTensor("input", 7, 1, 1, 4, 0, 1.0)
    first = random_conv(rng, "first", source, 9, (1, 1), (1, 1), (0, 0, 0, 0), 1, formats, 4)
    last = random_conv(rng, "fc", first.output, 30, (1, 1), (1, 1), (0, 0, 0, 0), 1, formats, WIDE_BITS)
    return IntegerNetwork("connected", source, (first, last))


def compiled(hw: Hardware, folder: Path) -> None:
    """A folder with the driver, a small network with every kind of layer, three images, and one of many."""
    network = small_network(3, hw)
    images = np.random.default_rng(5).integers(0, 16, (3, *network.input.shape))
    results = [functional.run(network, image)["fc"] for image in images]
    write_program(folder / PROGRAM, compile_network(network, hw), images, results, {})
    network = connected_network(hw)
    images = np.random.default_rng(6).integers(0, 16, (50, *network.input.shape))
    results = [functional.run(network, image)["fc"] for image in images]
    write_program(folder / MANY, compile_network(network, hw, 40), images, results, {})
    (folder / DRIVER).write_text(host_files(hw)["driver.py"])


def simulate(verilog: str, hw: Hardware, work: Path) -> None:
    top = harness(hw)
    folder = verilator.build({f"{TOP}.v": verilog, "axi_harness.sv": top}, "axi_harness", signals(top))
    compiled(hw, work)
    verilator.run(folder, "axi_harness", "tb.accelerator", work)


@pytest.mark.parametrize(
    "name",
    [
        "output stationary",
        *(pytest.param(name, marks=pytest.mark.slow) for name in ("weight stationary", *PORTED, *IMAGES)),
    ],
)
def test_the_driver_runs_it_through_other_peoples_buses(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Results, errors, silence, back-pressure: see tb/accelerator.py."""
    monkeypatch.syspath_prepend(str(ROOT))
    simulate(generate(SHAPES[name]), SHAPES[name], tmp_path)


def paths(verilog: str, work: Path) -> str:
    """Outputs of the top module that an input of a bus reaches within a cycle; empty if there are none."""
    (work / "top.v").write_text(verilog)
    script = f"""
import sys
from pyosys import libyosys
design = libyosys.Design()
for command in ("read_verilog top.v", "hierarchy -top {TOP}", "proc", "flatten", "opt_clean", "memory -nomap",
                "select -set asked i:* i:clk %d i:rst %d", "select -set reached @asked %coe*:-{STORING}",
                "select -write found.txt @reached o:* %i"):
    libyosys.run_pass(command, design)
"""
    subprocess.run([sys.executable, "-c", script], cwd=work, check=True, capture_output=True)
    return (work / "found.txt").read_text()


def test_no_output_follows_an_input_of_the_same_cycle(tmp_path: Path) -> None:
    """So no valid waits for a ready, no ready for a valid (A3.3), and the buses close timing by themselves."""
    verilog = generate(SMALL.hw)
    assert paths(verilog, tmp_path) == "" == paths(generate(PORTED["4 ports"]), tmp_path)
    # and such a path is found: a request that is offered only while it is taken
    assert verilog.count(".awvalid(m_axi_awvalid)") == 1
    bad = verilog.replace(".awvalid(m_axi_awvalid)", ".awvalid(offered)").replace(
        "  output m_axi_awvalid;",
        "  output m_axi_awvalid;\n  wire offered;\n  assign m_axi_awvalid = offered & m_axi_awready;",
    )
    assert "m_axi_awvalid" in paths(bad, tmp_path)

"""Verilator's lint has nothing to say of generated Verilog but what is waived; and every waiver is needed."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import numpy as np
import pytest

import codesign
from codesign.arch.hardware import Hardware
from codesign.arch.load import load_hardware
from codesign.rtl.array.dsp48e2 import models
from codesign.rtl.verilog import LINT_WAIVERS, TOP, generate, lint_waivers
from codesign.sim.cosim.verilator import environment
from codesign.verify.hardware import random_hardware
from tests.rtl.bench import FIXED4, FIXED8, PACKED4, POT4, POT5, TERNARY, geometry, rows
from tests.rtl.test_modules import SHAPES

CONFIGS = Path(codesign.__file__).parents[1] / "hw_configs"
SMALL = ("tiny", "xc7z020_fixed_unpacked")
LARGE = tuple(sorted({path.stem for path in CONFIGS.glob("*.yaml")} - set(SMALL)))
FOUR = rows(FIXED4, 3).model_copy(update={"multiplier": "dsp", "pack": 3})
STATIONARY = {
    "weights stay": geometry(POT5, FIXED8, TERNARY, columns=2, groups=5, dot=5, dataflow="ws").hw,
    "filters share": geometry(POT4, FOUR, columns=3, dot=6, dataflow="ws").hw,
    "slices hold weights": geometry(FIXED8, FOUR, columns=3, dot=6, dataflow="ws", device="xck26").hw,
    "slices": geometry(PACKED4, FIXED8, columns=2, dot=6, multiplier_bits=24, device="xck26").hw,
}


def lint(hw: Hardware, folder: Path, waivers: str | None = None) -> str:
    """What Verilator says."""
    (folder / "top.v").write_text(generate(hw))
    for name, text in models(hw).items():
        (folder / name).write_text(text)
    (folder / "top.vlt").write_text(lint_waivers() if waivers is None else waivers)
    command = ["verilator", "--lint-only", "-Wall", "--top-module", TOP, "top.vlt", "top.v", *models(hw)]
    done = subprocess.run(command, cwd=folder, env=environment(), capture_output=True, text=True, check=False)
    assert (done.returncode == 0) == (done.stderr == "")
    return done.stderr


@pytest.mark.parametrize("name", [*SHAPES, *STATIONARY])
def test_every_kind_of_module_is_clean(name: str, tmp_path: Path) -> None:
    assert lint((SHAPES | STATIONARY)[name], tmp_path) == ""


@pytest.mark.parametrize("name", [*SMALL, *(pytest.param(name, marks=pytest.mark.slow) for name in LARGE)])
def test_configurations_are_clean(name: str, tmp_path: Path) -> None:
    assert lint(load_hardware(name), tmp_path) == ""


@pytest.mark.parametrize("name", [*SHAPES, *STATIONARY])
def test_every_signal_has_a_name_of_its_own(name: str) -> None:
    """Amaranth calls one `signal` whose name it does not find out: in a tuple of assignments all but the last."""
    text = generate((SHAPES | STATIONARY)[name])
    assert re.findall(r"^\s*(?:wire|reg)\b[^;]*?((?:\\\$|\bsignal\b|\\signal\$)\S*)", text, re.MULTILINE) == []


def of_width(seed: int, bits: int) -> Hardware:
    """Random hardware behind a port of so many bits: seeds are tried until one is."""
    rng = np.random.default_rng(seed)
    while True:
        hw = random_hardware(rng, f"random{seed}")
        if hw.memory.width_bits == bits:
            return hw


@pytest.mark.parametrize("seed", [0, *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(1, 8))])
@pytest.mark.parametrize("bits", [32, 64, 128, 256, 512])
def test_random_hardware_is_clean(bits: int, seed: int, tmp_path: Path) -> None:
    """With 256 bits and more several rows share a line of parameters."""
    assert lint(of_width(seed, bits), tmp_path) == ""


def test_what_is_waived_is_there_and_nothing_else_is(tmp_path: Path) -> None:
    """Without waivers each of the rules speaks, of one accelerator or another, and no other rule."""
    said = "".join(lint(hw, tmp_path, "`verilator_config\n") for hw in (SHAPES["odd"], STATIONARY["filters share"]))
    rules = {line.split("-")[1].split(":")[0] for line in said.splitlines() if line.startswith("%Warning-")}
    assert rules == set(LINT_WAIVERS)

"""Verilog of a whole accelerator."""

from __future__ import annotations

from functools import lru_cache

from amaranth import __version__ as amaranth_version

from codesign import __version__
from codesign.arch.hardware import Hardware
from codesign.arch.multiplier import NARROW
from codesign.rtl.accelerator import Accelerator
from codesign.rtl.geometry import Geometry
from codesign.rtl.modules import convert
from codesign.rtl.registers import register_map

TOP = "codesign_top"
MODULE_PREFIX = "codesign_"
"""Before the names of the other modules."""

LINT_WAIVERS = {
    "DECLFILENAME": "one file holds all modules",
    "PROCASSINIT": "registers have a power-up value and are written by a clocked process, as FPGAs allow",
    "SYMRSVDWORD": "the output `interrupt` has the name that system tools look for; Verilator gives it another in C++",
    "UNUSEDSIGNAL": "carry bits of additions whose result is cut to the target's width, and descriptor fields that a "
    "module has no use for",
    "WIDTHEXPAND": "operands of an operator are written in their own width and extended by the language",
}
"""What `verilator --lint-only -Wall` says of the generated Verilog, and why each of it is meant."""


@lru_cache(maxsize=8)
def generate(hw: Hardware) -> str:
    """Verilog of the whole accelerator, top module `codesign_top`; the same bytes for the same hardware."""
    return header(hw) + convert(Accelerator(Geometry(hw)), TOP, prefix=MODULE_PREFIX)


def lint_waivers() -> str:
    """The Verilator configuration file with the waivers."""
    lines = ["`verilator_config"]
    for rule, reason in LINT_WAIVERS.items():
        lines += [f"// {reason}", f"lint_off -rule {rule}"]
    return "\n".join(lines) + "\n"


def header(hw: Hardware) -> str:
    """The comment at the head of the file: what made it and what it is."""
    geometry = Geometry(hw)
    bands = "\n".join(
        f"//   {band.scheme} weights of {band.weight_bits} bits, {band.rows} rows" for band in geometry.bands
    )
    stationary, begin = "output", "last read of a tile"
    if geometry.weight_stationary:
        stationary, begin = "weight", "read that starts a drain"
    accumulators = f"{hw.acc_bits}-bit accumulators"
    if hw.multiplier_bits != NARROW.bits:
        accumulators += f", {hw.multiplier_bits}-bit multipliers"
    registers = "\n".join(f"//   0x{r.address:03x} {r.name:16} {r.what}" for r in register_map(geometry).registers)
    return f"""\
// codesign {__version__} (Amaranth {amaranth_version}): accelerator '{hw.name}'
//
// {hw.rows} rows x {hw.array_columns} columns of processing elements, {hw.dot} products each per cycle,
// {hw.act_bits}-bit activations, {accumulators}, {stationary} stationary. Bands, first row first:
{bands}
// Activation memories: 2 x {geometry.act_depth} words of {geometry.word_bits} bits.
// Weight rings: {geometry.weight_depth} words a row. AXI4 data width: {geometry.beat_bits} bits.
// From the {begin} to the write of its first row: {geometry.param_latency + geometry.write_stage} cycles.
//
// Registers behind s_axi_ctrl, by byte offset:
{registers}

"""

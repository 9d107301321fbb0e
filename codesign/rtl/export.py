"""A folder with everything that belongs to one generated accelerator."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from codesign._folders import check_folder, entry, write_folder
from codesign.arch.hardware import Hardware
from codesign.provenance import provenance
from codesign.rtl.accelerator import Accelerator
from codesign.rtl.array.dsp48e2 import models
from codesign.rtl.geometry import Geometry
from codesign.rtl.host_files import FILES as HOST_FILES
from codesign.rtl.host_files import host_files
from codesign.rtl.modules import ports_of
from codesign.rtl.verilog import TOP, generate, lint_waivers

MANIFEST = "manifest.json"
FORMAT = "codesign accelerator"
"""What the manifest says of itself."""
MODEL = "model of a primitive in it, for simulators that do not have it"


def export(hw: Hardware, folder: Path) -> dict[str, Any]:
    """Write Verilog, lint waivers, clock constraints, what a host needs, the configuration and a manifest to `folder`.

    All files or none are written; those of an earlier export are replaced, files of the user's stay
    (`codesign._folders`).

    Returns:
        The manifest: the files with size and SHA-256, the top module and its ports, hash and versions.

    Raises:
        UserError: `folder` is somebody else's, a file to replace was changed, or something cannot be written.
    """
    check_folder(folder, MANIFEST, FORMAT, "generate")
    constraints, text, what = _constraints(hw)
    files = {
        f"{TOP}.v": (generate(hw), "Verilog of all modules"),
        **{name: (text, MODEL) for name, text in models(hw).items()},
        f"{TOP}.vlt": (lint_waivers(), "waivers for verilator --lint-only -Wall, with reasons"),
        constraints: (text, what),
        **{name: (text, HOST_FILES[name]) for name, text in host_files(hw).items()},
        "hardware.yaml": (hw.to_yaml(), "the configuration it was generated from"),
    }
    facts: dict[str, Any] = {
        "format": FORMAT,
        "hardware": hw.name,
        "device": hw.totals.name,
        "top": TOP,
        "ports": ports(hw),
        "files": [{**entry(name, body), "what": what} for name, (body, what) in files.items()],
        **provenance(hw),
    }
    return write_folder(folder, {name: body for name, (body, _) in files.items()}, MANIFEST, facts, "generate")


def ports(hw: Hardware) -> list[dict[str, Any]]:
    """Ports of the top module: name, direction, width in bits; clk and rst first."""
    found: list[dict[str, Any]] = [{"name": name, "direction": "input", "width": 1} for name in ("clk", "rst")]
    for port in ports_of(Accelerator(Geometry(hw))):
        found.append({"name": port.name, "direction": port.direction, "width": port.width})
    return found


def _constraints(hw: Hardware) -> tuple[str, str, str]:
    """Name, text and description of the device family's constraint file."""
    if hw.totals.family != "ecp5":
        name, tool = (f"{TOP}.sdc", "Gowin EDA") if hw.totals.family == "gw5a" else (f"{TOP}.xdc", "Vivado")
        text = f"create_clock -name clk -period {1e3 / hw.clock_mhz:.3f} [get_ports clk]\n"
        return name, text, f"clock of {hw.clock_mhz:g} MHz for {tool}"
    return f"{TOP}.lpf", f'FREQUENCY PORT "clk" {hw.clock_mhz:g} MHZ;\n', f"clock of {hw.clock_mhz:g} MHz for nextpnr"

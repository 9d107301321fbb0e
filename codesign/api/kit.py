"""A kit: everything that somebody needs of an accelerator and a network on it, in a folder that needs no codesign.

Verilog, driver, the network's memory image, the network itself, and a bench that Icarus or Verilator runs on the
Verilog: images, the results they must give and the cycles they must take.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from codesign._extras import require
from codesign._files import write_json, write_text
from codesign._folders import entry
from codesign._new_folder import check_new_folder, new_folder
from codesign._text import one_line
from codesign.api.answer import Answer
from codesign.api.blocks import Block, Facts, as_text
from codesign.api.given import check_data_dir
from codesign.api.networks import HardwareLike, hardware_of, input_codes, quantized_network, weight_bits
from codesign.api.notes import Report, silent
from codesign.api.reading import NOTHING, Reading
from codesign.api.simulation import layer_table
from codesign.arch.hardware import Hardware
from codesign.errors import UserError, option
from codesign.integer.network import IntegerNetwork
from codesign.integer.storage import save_network
from codesign.program import Program, compile_network
from codesign.program.files import write_program
from codesign.provenance import provenance
from codesign.rtl.export import export
from codesign.rtl.verilog import TOP
from codesign.sim import functional
from codesign.sim.clock import at_known_clock, known_clock
from codesign.sim.cosim.self_checking import self_checking
from codesign.sim.timing.plan_timing import Timing, estimate

if TYPE_CHECKING:
    from codesign.api.networks import NetworkLike
    from codesign.data.dataset import Dataset, Images

ACCELERATOR, PROGRAM, MODEL, SIMULATION = "accelerator", "program", "model", "simulation"
MANIFEST = "kit.json"


@dataclass(frozen=True, eq=False, repr=False)
class Kit(Answer):
    """A kit in a folder.

    Attributes:
        folder: where it is; `README.md` there says what is in it.
        manifest: every file with its hash, what is known of the point, and versions; also in `kit.json` there.
    """

    folder: Path
    manifest: Mapping[str, Any]

    @property
    def summary(self) -> str:
        return f"{self.manifest['network']} on {self.manifest['hardware']} in {self.folder}"

    def to_json(self) -> dict[str, Any]:
        return {**self.manifest, "folder": str(self.folder)}

    def blocks(self) -> Sequence[Block]:
        about = self.manifest
        return [
            Facts(
                {
                    "kit": f"{about['network']} on {about['hardware']}, {len(about['files'])} files",
                    "folder": self.folder,
                    "to check it": f"make -C {self.folder / SIMULATION} icarus, or verilator",
                }
            )
        ]


def export_kit(
    network: NetworkLike,
    hw: HardwareLike,
    out: str | Path,
    *,
    images: int | Images = 2,
    data: str | Dataset | None = None,
    data_dir: str | Path | None = None,
    seed: int = 0,
    reading: Reading = NOTHING,
    progress: Report | None = None,
) -> Kit:
    """Write everything of a quantized network on an accelerator to a new folder; nothing there needs codesign.

    Args:
        network: a quantized network, or its file.
        hw: an accelerator, a YAML file, or a name in hw_configs.
        out: the folder, new or empty.
        images: how many the bench runs; or the images, (N, C, H, W) real numbers in what the network was trained on.
        data: a data set whose first test images are taken; random ones by default.
        data_dir: folder with the files of a data set that is named.
        seed: of random images.
        reading: how a file of another tool is read.
        progress: told how many results are computed.

    Raises:
        UserError: an input cannot be used, the network does not run on the accelerator, or the folder is not new.
    """
    check_new_folder(Path(out))
    if isinstance(images, int) and images < 1:
        raise UserError(f"{option('images')}: {images} given, must be at least 1: the bench compares their results")
    check_data_dir(data, data_dir)
    hardware = hardware_of(hw)
    net = quantized_network(network, reading, hardware)
    where = None if data_dir is None else Path(data_dir)
    codes = input_codes(net, images, data, where, seed)
    return write_kit(hardware, net, Path(out), codes, {"seed": seed}, progress or silent)


def write_kit(
    hw: Hardware,
    network: IntegerNetwork,
    out: Path,
    codes: NDArray[np.int64],
    facts: Mapping[str, Any],
    report: Report,
) -> Kit:
    """Write a kit with images (N, C, H, W) of codes; `facts` are what else is known, plain values by name."""
    require("onnx", "writing the network as ONNX")
    hw = at_known_clock(hw)
    program = compile_network(network, hw)
    timing = estimate(program)
    results = []
    for index, image in enumerate(codes):
        report("results", index, len(codes))
        results.append(functional.run(network, image)[network.output.name])
    report("results", len(codes), len(codes))
    cycles, clock = timing.total_cycles, known_clock(hw)
    about = {
        "network": one_line(network.name),
        "hardware": hw.name,
        "device": hw.totals.name,
        "cycles": cycles,
        "latency_ms": clock.milliseconds(cycles),
        **clock.to_json(),
        **({"validation_accuracy": network.validation.accuracy} if network.validation else {}),
        **facts,
    }
    with new_folder(out) as folder:
        made = [file["name"] for file in export(hw, folder / ACCELERATOR)["files"]]
        layers = [layer.name for layer in program.layers]
        write_program(folder / PROGRAM, program, codes, results, {"cycles": cycles, "layers": layers})
        (folder / MODEL).mkdir()
        save_network(network, folder / MODEL / "network.codesign")
        onnx = _onnx(network, folder / MODEL / "network.onnx")
        sources = " ".join(f"../{ACCELERATOR}/{name}" for name in made if name.endswith(".v"))
        bench = self_checking(program, codes, results, cycles, sources)
        for name, text in bench.items():
            write_text(folder / SIMULATION / name, text)
        write_text(folder / "README.md", _readme(about, program, timing, len(codes), onnx))
        files = sorted(path for path in folder.rglob("*") if path.is_file())
        listed = [entry(str(path.relative_to(folder)), path.read_bytes()) for path in files]
        manifest = {"format": "codesign kit", **about, "files": listed, **provenance(hw)}
        write_json(folder / MANIFEST, manifest)
    return Kit(out, manifest)


def _onnx(network: IntegerNetwork, file: Path) -> str:
    """Write the network as ONNX that computes the same integers; what the README says of it."""
    from codesign.interchange.onnx_integer import export_integer_onnx

    try:
        export_integer_onnx(network, file, "onnx")
    except UserError as error:
        return f"not as ONNX: {error}"
    return "`network.onnx` computes the very same integers in ONNX Runtime"


def _readme(about: Mapping[str, Any], program: Program, timing: Timing, images: int, onnx: str) -> str:
    facts = "\n".join(f"| {name.replace('_', ' ')} | {_shown(value)} |" for name, value in about.items())
    layers = as_text([layer_table(program, timing, weight_bits(program.network))])
    return f"""\
# {about["network"]} on {about["hardware"]}

Everything here works without codesign, which wrote it; versions and hashes of all files are in `{MANIFEST}`.

| | |
|---|---|
{facts}

## Check it

    make -C {SIMULATION} icarus      # or: verilator

The bench runs {images} images on the Verilog, with the memory of the configuration, and compares every word of the
results and the cycles. It ends with PASS and status 0, or with what differs.

## What is here

* `{ACCELERATOR}/`: Verilog (`{TOP}.v`), clock constraints, lint waivers, `driver.py` (Python, standard library alone),
  registers for C and for people, the configuration `hardware.yaml`.
* `{PROGRAM}/`: the memory image of the network for the driver, images, and the results that a board must give.
* `{MODEL}/`: `network.codesign`, which codesign reads; {onnx}.
* `{SIMULATION}/`: the bench.

On a board with Linux:

    from driver import Accelerator, Compiled, Mapped

    accelerator = Accelerator(registers.read32, registers.write32, memory)  # see the head of driver.py
    network = Compiled("{PROGRAM}")
    accelerator.load(network.program, 0x10000000)
    for image, results in network.images:
        assert accelerator.infer(network, image) == results

## Layers

```
{layers}
```
"""


def _shown(value: object) -> str:
    return f"{value:.6g}" if isinstance(value, float) else str(value)

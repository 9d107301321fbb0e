"""What a board needs: an accelerator's files, and a network's memory image for it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from codesign.api.answer import Answer
from codesign.api.blocks import Block, Facts, Table, shown
from codesign.api.given import check_batch, check_data_dir, refuse
from codesign.api.networks import Formats, HardwareLike, encoder, hardware_of, input_codes, integer_network
from codesign.api.notes import Report, silent
from codesign.api.reading import NOTHING, Reading
from codesign.arch.hardware import Hardware
from codesign.errors import UserError, option
from codesign.program import Program, compile_network
from codesign.program.files import check_program_folder, write_program
from codesign.rtl.export import export
from codesign.sim import functional
from codesign.sim.clock import Clock, known_clock
from codesign.sim.timing.plan_timing import estimate, fastest

if TYPE_CHECKING:
    from codesign.api.networks import NetworkLike
    from codesign.data.dataset import Dataset, Images
    from codesign.formats.assignment import Assignment
    from codesign.formats.ratio import Ratio


@dataclass(frozen=True, eq=False, repr=False)
class Generated(Answer):
    """An accelerator's files in a folder.

    Attributes:
        hardware: the accelerator.
        folder: where they are.
        manifest: every file with its hash, ports, configuration and versions; also in `manifest.json` there.
    """

    hardware: Hardware
    folder: Path
    manifest: dict[str, Any] = field(repr=False)

    @property
    def files(self) -> tuple[Path, ...]:
        """What was written, but for the manifest."""
        return tuple(self.folder / file["name"] for file in self.manifest["files"])

    @property
    def summary(self) -> str:
        return f"{self.hardware.name} in {self.folder}"

    def to_json(self) -> dict[str, Any]:
        return self.manifest

    def blocks(self) -> Sequence[Block]:
        return [
            Table(
                f"{self.manifest['hardware']} in {self.folder}",
                ("file", "bytes", "what"),
                [(file["name"], file["bytes"], file["what"]) for file in self.manifest["files"]],
            )
        ]


@dataclass(frozen=True, eq=False, repr=False)
class Compiled(Answer):
    """A network's program in a folder, for the driver of its accelerator.

    Attributes:
        program: the memory image and what is in it.
        folder: where it is.
        images: how many are there, with the results they must give.
        clock: that of the latency.
        given: what the accelerator was called by who gave it.
        manifest: also in `program.json` there.
    """

    program: Program
    folder: Path
    images: int
    clock: Clock
    given: str
    manifest: dict[str, Any] = field(repr=False)

    @property
    def cycles(self) -> int:
        """Of one start, with all its images."""
        return int(self.manifest["cycles"])

    @property
    def latency_ms(self) -> float:
        """Of one start, with all its images."""
        return self.clock.milliseconds(self.cycles)

    @property
    def summary(self) -> str:
        return f"{self.program.shape.name} for {self.program.hw.name} in {self.folder}"

    def to_json(self) -> dict[str, Any]:
        return self.manifest

    def blocks(self) -> Sequence[Block]:
        ends, several = self.manifest["memory_bytes"], self.program.images
        what = f"{several} images from one start" if several > 1 else "one image"
        return [
            Facts(
                {
                    "program": f"{len(self.program.stream):,} bytes, results and spilled maps end at {ends:,}",
                    "images": shown(self.images),
                    "cycles": f"{self.cycles:,} for {what}",
                    "clock": self.clock,
                    "latency": f"{shown(self.latency_ms)} ms at {self.clock.mhz:.4g} MHz",
                    "folder": f"{self.folder}, for the driver.py of `codesign generate {self.given}`",
                }
            )
        ]


def generate(hw: HardwareLike, out: str | Path) -> Generated:
    """Write an accelerator's Verilog, constraints, driver, register map and manifest to the folder `out`.

    Raises:
        UserError: the hardware cannot be used, or the folder holds files that codesign did not write.
    """
    hardware = hardware_of(hw)
    return Generated(hardware, Path(out), export(hardware, Path(out)))


def compile_for_board(
    hw: HardwareLike,
    network: NetworkLike,
    out: str | Path,
    *,
    images: int | Images = 1,
    batch: int = 1,
    data: str | Dataset | None = None,
    data_dir: Path | None = None,
    bits: str | None = None,
    ratio: str | Ratio | None = None,
    assignment: Assignment | str | Path | None = None,
    act_bits: int | None = None,
    seed: int = 0,
    reading: Reading = NOTHING,
    progress: Report | None = None,
) -> Compiled:
    """Compile a network into an accelerator's memory image, with images and the results that a board must give.

    Args:
        hw: an accelerator, a YAML file, or a name in hw_configs.
        network: whatever `load_network` takes; one without integers gets random weights.
        out: the folder to write.
        images: how many; or the images, (N, C, H, W) real numbers in what the network was trained on.
        batch: images that the program computes from one start (`codesign.program.images`).
        data: a data set whose first test images are taken; random ones by default.
        data_dir: folder with the files of a data set that is named.
        bits, ratio, assignment: row formats of a network without integers; at most one.
        act_bits: of all its activations, see `codesign.api.networks.Formats`.
        seed: of random weights and images.
        reading: how a file of another tool is read.
        progress: told how many results are computed.

    Raises:
        UserError: an input cannot be used, the network does not run on the accelerator, or the folder is another's.
    """
    folder, report = Path(out), progress or silent
    check_program_folder(folder)
    if isinstance(images, int) and images == 0:
        refuse({"data": data, "data_dir": data_dir}, f"with {option('images')} 0")
    check_data_dir(data, data_dir)
    check_batch(batch)
    hardware = hardware_of(hw)
    if (found := encoder(network)) is not None:
        raise UserError(f"{found.name}: its matrix products are run one by one, there is no program of the whole")
    net = integer_network(network, hardware, Formats(bits, ratio, assignment, act_bits), seed, reading)
    codes = input_codes(net, images, data, data_dir, seed)
    program = compile_network(net, hardware, batch, fastest)
    results = []
    for index, image in enumerate(codes):
        report("results", index, len(codes))
        results.append(functional.run(net, image)[net.output.name])
    cycles, clock = estimate(program).total_cycles, known_clock(hardware)
    layers = [layer.name for layer in program.layers]
    manifest = write_program(folder, program, codes, results, {"cycles": cycles, "layers": layers, "seed": seed})
    given = hardware.name if isinstance(hw, Hardware) else str(hw)
    return Compiled(program, folder, len(codes), clock, given, manifest)

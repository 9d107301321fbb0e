"""The accelerators of AMED's simulator: its table 1 as configurations in hw_configs/amed/, and those of users."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from codesign.arch.checks import choice, integer, number
from codesign.arch.documents import Model, parse, read_text
from codesign.arch.load import config_names, find_config
from codesign.sim.ideal.array import IdealArray
from codesign.sim.ideal.cycles import Dataflow
from codesign.sim.ideal.memory import Memories

FOLDER = "amed"
"""Where below hw_configs/ they lie."""

DEFAULT = "scale_sim"
"""The accelerator of the paper's table 2."""


@dataclass(frozen=True)
class AmedAccelerator:
    """An accelerator of AMED's table 1.

    Attributes:
        array: rows, columns, dataflow, SRAMs.
        clock_mhz: clock.
        bandwidth_words: words a cycle between each SRAM and DRAM.
        word_bits: of a memory word.
        mac_bits: width of the multipliers; a multiplier does `mac_bits // b` products of b bits at once.
    """

    name: str
    array: IdealArray
    clock_mhz: float
    bandwidth_words: int = 10
    word_bits: int = 16
    mac_bits: int = 8

    def __str__(self) -> str:
        kb = self.array.memories
        return (
            f"{self.name}: {self.array.rows}x{self.array.columns} {self.array.dataflow}, "
            f"{kb.ifmap_kb} + {kb.filter_kb} + {kb.ofmap_kb} KB, {self.clock_mhz:g} MHz"
        )


_SIZE = integer(1, 1 << 20)


class _Description(Model):
    """The keys of a configuration; sizes of SRAMs in KiB."""

    rows: Annotated[int, _SIZE]
    columns: Annotated[int, _SIZE]
    dataflow: Annotated[str, choice(*(str(flow) for flow in Dataflow))]
    ifmap_kb: Annotated[int, _SIZE]
    filter_kb: Annotated[int, _SIZE]
    ofmap_kb: Annotated[int, _SIZE]
    clock_mhz: Annotated[float, number(0, 100_000)]
    bandwidth_words: Annotated[int, _SIZE] = 10
    word_bits: Annotated[int, integer(1, 1024)] = 16
    mac_bits: Annotated[int, integer(1, 64)] = 8


def accelerator(path_or_name: str | Path) -> AmedAccelerator:
    """The accelerator of a YAML file, or of the one called `path_or_name` in hw_configs/amed/.

    Raises:
        UserError: there is none, or the file describes none; one line with the key and what is allowed.
    """
    path = find_config(path_or_name, FOLDER)
    found = parse(read_text(path), str(path_or_name), _Description, {})
    memories = Memories(found.ifmap_kb, found.filter_kb, found.ofmap_kb)
    array = IdealArray(found.rows, found.columns, Dataflow(found.dataflow), memories)
    return AmedAccelerator(path.stem, array, found.clock_mhz, found.bandwidth_words, found.word_bits, found.mac_bits)


def accelerator_names() -> tuple[str, ...]:
    """Names of the configurations in hw_configs/amed/, those of the 32x32 array first."""
    return tuple(sorted(config_names(FOLDER), key=lambda name: (not name.startswith(DEFAULT), name)))

"""SCALE-Sim's configuration files (`.cfg`), read as they are.

Sections `[general]`, `[architecture_presets]` and `[run_presets]`; keys are not case-sensitive, `:` and `=` both
separate. Files of SCALE-Sim's first version have no `[run_presets]`, sizes of memories without `kB` in their keys, and
run names in quotation marks; they are read as in mode CALC, the only one which that version has. Keys and sections that
say nothing about an array's cycles or accesses (offsets, layouts, banks, traces) are passed over; sparsity is refused,
because it would change the cycles.
"""

from __future__ import annotations

import configparser
import re
from dataclasses import dataclass
from pathlib import Path

from codesign._reading import MOST_TEXT, excerpt, read_text
from codesign.errors import UserError
from codesign.sim.ideal.array import MOST_SIZE, IdealArray
from codesign.sim.ideal.cycles import Dataflow
from codesign.sim.ideal.memory import Memories

CALC_BANDWIDTH = 10
"""Words a cycle that SCALE-Sim gives the first prefetch in mode CALC, whatever the file says."""


@dataclass(frozen=True)
class ScaleSimConfig:
    """What a configuration file says.

    Attributes:
        first_version: whether the file is of SCALE-Sim's first version.
        user_bandwidth: words a cycle of each interface in mode USER, None in mode CALC. In mode USER SCALE-Sim adds
            stalls, which have no closed form; the cycles without them are the same. Its DRAM accesses differ, too: what
        this package reports is mode CALC's.
    """

    name: str
    array: IdealArray
    user_bandwidth: tuple[int, ...] | None
    first_version: bool = False

    def notes(self) -> list[str]:
        """What a reader of cycles computed for this configuration must know."""
        if self.first_version:
            return [
                f"{self.name}: a configuration of SCALE-Sim's first version, which has no [run_presets]: counted as "
                "versions 2 and 3 do with InterfaceBandwidth CALC"
            ]
        if self.user_bandwidth is None:
            return []
        return [
            f"{self.name}: InterfaceBandwidth USER: cycles are without stalls, which have no closed form; "
            "DRAM accesses are those of mode CALC"
        ]


def read_config(path: str | Path) -> ScaleSimConfig:
    """The array and memories that a `.cfg` file describes.

    Raises:
        UserError: one line that names the file, the section, the key, what was given and what is allowed.
    """
    path = Path(path)
    return parse_config(read_text(path, MOST_TEXT, "a SCALE-Sim configuration"), str(path), path.stem)


def parse_config(text: str, shown_as: str, name: str) -> ScaleSimConfig:
    """The configuration in INI text; `shown_as` names the text in errors, `name` is used where it gives no run name."""
    parser = configparser.ConfigParser(interpolation=None)
    try:
        parser.read_string(text)
    except configparser.Error as error:
        raise UserError(f"{shown_as}: not a SCALE-Sim configuration: {_parse_error(error, text)}") from None
    if not parser.has_section("architecture_presets"):
        given = excerpt(", ".join(f"[{found}]" for found in parser.sections()) or "none")
        raise UserError(f"{shown_as}: section [architecture_presets] is missing, sections given: {given}")
    reader = _Reader(parser, shown_as)
    first = not parser.has_section("run_presets")
    mode = "CALC" if first else reader.text("run_presets", "InterfaceBandwidth").upper()
    if mode not in ("CALC", "USER"):
        where = reader.where("run_presets", "InterfaceBandwidth")
        raise UserError(f"{where}: '{excerpt(mode, 40)}' given, must be one of CALC, USER")
    if parser.get("sparsity", "SparsitySupport", fallback="false").strip().lower() == "true":
        raise UserError(f"{reader.where('sparsity', 'SparsitySupport')}: 'true' given, must be false")
    section = "architecture_presets"
    flow = reader.text(section, "Dataflow")
    try:
        dataflow = Dataflow.parse(flow)
    except UserError:
        raise UserError(
            f"{reader.where(section, 'Dataflow')}: '{excerpt(flow, 40)}' given, must be one of {', '.join(Dataflow)}"
        ) from None
    memories = Memories(
        reader.memory("IfmapSramSz", first),
        reader.memory("FilterSramSz", first),
        reader.memory("OfmapSramSz", first),
        CALC_BANDWIDTH,
    )
    array = IdealArray(reader.size(section, "ArrayHeight"), reader.size(section, "ArrayWidth"), dataflow, memories)
    user = reader.sizes(section, "Bandwidth") if mode == "USER" else None
    run_name = parser.get("general", "run_name", fallback=name).strip()
    if first:
        run_name = run_name.strip('"')
    return ScaleSimConfig(run_name or name, array, user, first)


class _Reader:
    def __init__(self, parser: configparser.ConfigParser, shown_as: str) -> None:
        self._parser = parser
        self._shown_as = shown_as

    def where(self, section: str, key: str) -> str:
        return f"{self._shown_as}: [{section}] {key}"

    def memory(self, key: str, first_version: bool) -> int:
        """A memory's kilobytes: the first version leaves the unit out of the key."""
        section = "architecture_presets"
        without = first_version and self._parser.has_option(section, key)
        return self.size(section, key if without else f"{key}kB")

    def text(self, section: str, key: str) -> str:
        if not self._parser.has_option(section, key):
            raise UserError(f"{self.where(section, key)} is missing, must be given")
        return self._parser.get(section, key).strip()

    def size(self, section: str, key: str) -> int:
        return self._size(self.text(section, key), section, key)

    def sizes(self, section: str, key: str) -> tuple[int, ...]:
        return tuple(self._size(part.strip(), section, key) for part in self.text(section, key).split(","))

    def _size(self, text: str, section: str, key: str) -> int:
        if not re.fullmatch(r"[+-]?[0-9]{1,12}", text) or not 1 <= int(text) <= MOST_SIZE:
            where, given = self.where(section, key), excerpt(text, 40)
            raise UserError(f"{where}: '{given}' given, must be a whole number from 1 to {MOST_SIZE:,}")
        return int(text)


def _parse_error(error: configparser.Error, text: str) -> str:
    if isinstance(error, configparser.DuplicateOptionError | configparser.DuplicateSectionError):
        key = f" {excerpt(error.option, 40)}" if isinstance(error, configparser.DuplicateOptionError) else ""
        return f"line {error.lineno}: [{excerpt(error.section, 40)}]{key} is given twice"
    if isinstance(error, configparser.MissingSectionHeaderError):
        return f"line {error.lineno}: '{excerpt(error.line, 40)}' given before the first section, such as [general]"
    if isinstance(error, configparser.ParsingError) and error.errors:
        line = error.errors[0][0]
        return f"line {line}: '{excerpt(text.splitlines()[line - 1], 40)}' given, must be 'key: value' or '[section]'"
    return excerpt(error)

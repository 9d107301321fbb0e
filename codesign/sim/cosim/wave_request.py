"""Which waves of a run are wanted, and in which files; looked at before anything is built."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from codesign._files import check_output
from codesign.errors import UserError, option

DEFAULT_FILE = "waves.vcd"
"""Where waves go that are not sent anywhere; VCD, since FST needs libraries that not every machine has."""
LAYOUT_SUFFIX = ".gtkw"
FORMATS = {".vcd": "Vcd", ".fst": "Fst"}
"""What can be written, by the end of the name, as Verilator calls it."""


@dataclass(frozen=True)
class WaveRequest:
    """Which waves are wanted, and where; `request` looks at both.

    Attributes:
        what: the name of a layer, or cycles `FIRST:END`.
        file: to write, `.vcd` or `.fst`; the layout is beside it, `.gtkw`.
    """

    what: str
    file: Path

    @property
    def layout(self) -> Path:
        """The file of the layout."""
        return self.file.with_suffix(LAYOUT_SUFFIX)


def request(what: str, file: str | Path | None = None) -> WaveRequest:
    """The waves `what` in `file`, by default `waves.vcd` in the current folder.

    A file that is named is replaced, as outputs of commands are; one that is not is a new one.

    Raises:
        UserError: a name that ends otherwise than in `.vcd` or `.fst`, a file that cannot be written, or one that is
            there and was not named.
    """
    asked = WaveRequest(what, Path(DEFAULT_FILE if file is None else file))
    if asked.file.suffix not in FORMATS:
        raise UserError(f"{option('waves_out')}: {asked.file} given, its name must end in {' or '.join(FORMATS)}")
    if file is None and asked.file.exists():
        raise UserError(f"{asked.file}: is there already, {option('waves_out')} names a new file, or one to replace")
    check_output(asked.file)
    check_output(asked.layout)
    return asked

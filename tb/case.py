"""What a bench of the accelerator is given: a program, images with the results they must have, the driver's text."""

from __future__ import annotations

import importlib.util
import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from types import ModuleType

FILE = "case.json"


@dataclass(frozen=True)
class Image:
    """Input pieces by their offset in the program, and the results."""

    pieces: dict[int, bytes]
    results: list[int]


@dataclass(frozen=True)
class Case:
    """A program and images for it; `result_offset` is counted from the program's beginning."""

    program: bytes
    result_offset: int
    images: list[Image]
    driver: str

    def save(self, folder: Path) -> None:
        """Write it for a bench that will run in `folder`."""
        data = asdict(self)
        data["program"] = self.program.hex()
        for image in data["images"]:
            image["pieces"] = {offset: piece.hex() for offset, piece in image["pieces"].items()}
        (folder / FILE).write_text(json.dumps(data))
        (folder / "generated_driver.py").write_text(self.driver)


def load() -> tuple[Case, ModuleType]:
    """Inside the simulator: the case, and the generated driver as a module."""
    folder = Path(os.environ["CODESIGN_BENCH_FOLDER"])
    data = json.loads((folder / FILE).read_text())
    images = [
        Image({int(offset): bytes.fromhex(piece) for offset, piece in image["pieces"].items()}, image["results"])
        for image in data["images"]
    ]
    case = Case(bytes.fromhex(data["program"]), data["result_offset"], images, data["driver"])
    spec = importlib.util.spec_from_file_location("generated_driver", folder / "generated_driver.py")
    assert spec is not None and spec.loader is not None
    driver = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(driver)
    return case, driver

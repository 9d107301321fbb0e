"""What a bench of the accelerator is given: a folder with a compiled network, and the driver, which reads it."""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path
from types import ModuleType
from typing import Any

DRIVER = "driver.py"
PROGRAM = "program"
MANY = "many"
"""A network with several images from one start."""


def load() -> tuple[Any, ModuleType]:
    """Inside the simulator: the compiled network, and the driver as a module."""
    driver = driver_module(_folder() / DRIVER)
    return driver.Compiled(_folder() / PROGRAM), driver


def load_many(driver: ModuleType) -> Any:
    """Inside the simulator: the program of several images."""
    return driver.Compiled(_folder() / MANY)


def _folder() -> Path:
    return Path(os.environ["CODESIGN_BENCH_FOLDER"])


def driver_module(path: Path) -> ModuleType:
    """A generated driver, imported."""
    spec = importlib.util.spec_from_file_location("generated_driver", path)
    assert spec is not None and spec.loader is not None
    driver = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(driver)
    return driver

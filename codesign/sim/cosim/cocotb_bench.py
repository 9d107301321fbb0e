"""The cocotb side of the bench: sleep until images are done, report progress, stop. Runs inside the simulator."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import cocotb
from cocotb.triggers import First, RisingEdge, ValueChange


@cocotb.test()
async def run_images(dut: Any) -> None:
    """Wait for every image; note cycles and seconds after each in `progress.txt`."""
    progress = Path(os.environ["CODESIGN_BENCH_FOLDER"]) / "progress.txt"
    began = time.perf_counter()
    finished = RisingEdge(dut.finished)
    with progress.open("w") as file:
        while True:
            fired = await First(finished, ValueChange(dut.images_done))
            done, cycles = dut.images_done.value.to_unsigned(), dut.cycles.value.to_unsigned()
            file.write(f"{done} {cycles} {time.perf_counter() - began:.6f}\n")
            file.flush()
            if fired is finished or dut.finished.value:
                return

"""How long `import codesign` takes in a fresh process, beside `import numpy` and nothing at all.

    python benchmarks/import_time.py

Prints the median of the imports alone, in milliseconds, and what an interpreter takes to start.
"""

from __future__ import annotations

import statistics
import subprocess
import sys

RUNS = 15
CODE = "import time; began = time.perf_counter(); {}; print(time.perf_counter() - began)"


def measure(statement: str) -> float:
    """Milliseconds of a statement, the median of `RUNS` fresh processes."""
    command = (sys.executable, "-c", CODE.format(statement))
    runs = (subprocess.run(command, capture_output=True, text=True, check=True).stdout for _ in range(RUNS))
    return 1e3 * statistics.median(map(float, runs))


if __name__ == "__main__":
    for statement in ("pass", "import codesign", "import numpy", "import codesign; codesign.simulate"):
        print(f"{statement:36s} {measure(statement):8.1f} ms")  # noqa: T201

"""The process in which cases are tried: `python -m tests.fuzz.worker SEEDS FOLDER`, one case a line on stdin.

A line is a kind and a number; what is answered is the stage it is in (`read`, `judge`), and then one line of JSON.
"""

from __future__ import annotations

import json
import os
import random
import resource
import shutil
import sys
import time
import traceback
import warnings
from pathlib import Path
from typing import Any

MOST_BYTES = 2 * 2**30
"""Of memory at once."""
ROOM = 3 * 2**30
"""Of addresses beyond those that the libraries take."""


def main() -> None:
    seeds, folder = Path(sys.argv[1]), Path(sys.argv[2])
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    silence = os.open(os.devnull, os.O_WRONLY)
    for stream in (1, 2):  # libraries in C write what they like
        os.dup2(silence, stream)
    warnings.simplefilter("ignore")
    _imports()
    _limit_addresses()
    answers.write("ready\n")
    for line in sys.stdin:
        kind, number = line.split()
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        os.chdir(folder)
        answers.write(json.dumps(_tried(kind, int(number), seeds, folder, answers)) + "\n")


def _imports() -> None:
    import numpy as np
    import onnx  # noqa: F401
    import torch

    import tests.fuzz.judges  # noqa: F401

    torch.set_num_threads(1)
    torch.nn.Conv2d(1, 1, 1)(torch.zeros(1, 1, 2, 2))
    np.random.default_rng(0)


def _limit_addresses() -> None:
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limit = pages * resource.getpagesize() + ROOM
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))


def _peak() -> int:
    """Most bytes that were in memory since `_forget_peak`."""
    text = Path("/proc/self/status").read_text()
    return 1024 * int(text.split("VmHWM:")[1].split()[0])


def _forget_peak() -> None:
    Path("/proc/self/clear_refs").write_text("5")


def _tried(kind: str, number: int, seeds: Path, folder: Path, answers: Any) -> dict[str, Any]:
    from codesign._text import one_line
    from codesign.errors import UserError
    from tests.fuzz.case import ACCEPTED, EQUAL, LONGEST_LINE, REFUSED, TRACEBACK, WRONG, NoJudge
    from tests.fuzz.kinds import case_of

    random.seed(0)
    case = case_of(kind, number, seeds, folder)
    answers.write("read\n")
    _forget_peak()
    begun = time.process_time()
    found = {"command": case.command, "outcome": ACCEPTED, "detail": "", "judge": False}
    judge = None
    try:
        judge = case.read()
    except UserError as error:
        text = one_line(str(error))
        found |= {"outcome": REFUSED, "detail": text[:300]}
        if "\n" in text or "\x1b" in text or len(text) > LONGEST_LINE:
            found |= {"outcome": TRACEBACK, "detail": f"no line for people ({len(text)} letters): {text[:300]!r}"}
    except MemoryError:
        found |= {"outcome": "memory", "detail": traceback.format_exc()[-1500:]}
    except AssertionError as error:
        found |= {"outcome": TRACEBACK, "detail": str(error)[-1500:] or traceback.format_exc()[-1500:]}
    except BaseException:  # whatever it is: it is what people would see
        found |= {"outcome": TRACEBACK, "detail": traceback.format_exc()[-1500:]}
    found |= {"seconds": time.process_time() - begun, "bytes": _peak()}
    if judge is not None:
        answers.write("judge\n")
        found["judge"] = True
        try:
            wrong = judge()
            found |= {"outcome": EQUAL} if wrong is None else {"outcome": WRONG, "detail": wrong}
        except (NoJudge, MemoryError):
            pass
        except BaseException:
            found |= {"outcome": WRONG, "detail": "what was read cannot be used: " + traceback.format_exc()[-1500:]}
    if found["outcome"] != "memory" and found["bytes"] > MOST_BYTES:
        found |= {"outcome": "memory", "detail": f"{found['bytes']:,} bytes"}
    return found


if __name__ == "__main__":
    main()

"""A recorded landscape: what all 625 assignments of a trained network lose, jointly, and what they cost.

`python -m tests.allocation.landscape` records it anew: smallcnn on digits, three epochs in float, the divergence from
the float network of each assignment of five choices to its four layers, on 24 training images.
"""

from __future__ import annotations

import json
from itertools import product
from pathlib import Path

import numpy as np

FILE = Path(__file__).with_name("landscape.json")
CHOICES = "w2a4,w4a4,w8a4,w4a8,w8a8"


def record() -> None:
    """Write the file."""
    from codesign.allocation.costs import Costs
    from codesign.allocation.methods.evaluator import Evaluator
    from codesign.allocation.sensitivities.preparing import subject_on
    from codesign.allocation.space import Space, parse_choices
    from codesign.data.sources import load_dataset
    from codesign.quant.options import FloatOptions
    from codesign.workload import zoo
    from tests.allocation.test_costs import precise

    space = Space(zoo.get("smallcnn"), parse_choices(CHOICES, 4))
    subject = subject_on(space, load_dataset("digits"), floats=FloatOptions(3), images=24)
    evaluator, costs = Evaluator(subject), Costs(space, precise())
    lost, bops = [], []
    for places in product(range(5), repeat=4):
        assignment = space.assignment(places)
        lost.append(float(f"{evaluator.of(assignment).divergence:.4g}"))
        bops.append(costs.of(assignment)["bops"])
    FILE.write_text(json.dumps({"choices": CHOICES, "divergence": lost, "bops": bops}) + "\n")


def landscape() -> tuple[np.ndarray, np.ndarray]:
    """(5, 5, 5, 5) divergences and bit operations, by the choices of the layers in their order."""
    data = json.loads(FILE.read_text())
    return tuple(np.array(data[name]).reshape((5,) * 4) for name in ("divergence", "bops"))  # type: ignore[return-value]


if __name__ == "__main__":
    record()

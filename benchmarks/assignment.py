"""What an assignment of ResNet-18 costs a search: reading its file, copying it to a worker, counting its rows.

    python benchmarks/assignment.py

Rows are dealt at random in RMSMP's ratio, tensors have bits of their own. Minimum of twenty runs each.
"""

from __future__ import annotations

import pickle
import timeit

from codesign.formats.assignment import Assignment
from codesign.formats.ratio import parse_ratio
from codesign.integer.fusing import fuse
from codesign.workload import zoo

RUNS = 20


def main() -> None:
    """Print milliseconds."""
    network = zoo.resnet18()
    tensors = {item.output.name: 8 for item in fuse(network).passes[:-1:2]}
    made = Assignment.random(network, parse_ratio("pot4:65,fixed4:30,fixed8:5"), 4, seed=0).with_tensors(tensors)
    text, packed = made.to_json(), pickle.dumps(made)
    assert Assignment.from_json(text) == pickle.loads(packed) == made
    jobs = {
        "from_json": lambda: Assignment.from_json(text),
        "to_json": made.to_json,
        "pickle and back": lambda: pickle.loads(pickle.dumps(made)),
        "counts": made.counts,
    }
    print(f"{sum(map(len, made.rows.values())):,} rows in {len(made.rows)} layers, {len(text):,} bytes of JSON")  # noqa: T201
    for name, job in jobs.items():
        print(f"{name:<16} {1e3 * min(timeit.repeat(job, number=1, repeat=RUNS)):6.2f} ms")  # noqa: T201


if __name__ == "__main__":
    main()

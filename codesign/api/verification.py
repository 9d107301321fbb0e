"""Random hardware and networks on the RTL, against the models."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from codesign.api.answer import Answer
from codesign.api.blocks import Block, Facts, Table
from codesign.api.notes import Report
from codesign.api.workers import workers
from codesign.arch.band import Dataflow
from codesign.provenance import provenance
from codesign.verify.campaign import WORKER_BYTES, HardwareResult, PairResult, Plan, run_campaign


@dataclass(frozen=True, eq=False, repr=False)
class Verification(Answer):
    """What became of random pairs of hardware and network.

    Attributes:
        plan: which pairs were drawn.
        hardware: each accelerator with its networks.
    """

    plan: Plan
    hardware: tuple[HardwareResult, ...]

    @property
    def pairs(self) -> tuple[PairResult, ...]:
        """All of them."""
        return tuple(pair for result in self.hardware for pair in result.pairs)

    @property
    def failures(self) -> tuple[str, ...]:
        """Files of those that differ, made smaller."""
        return tuple(failure for result in self.hardware for failure in result.failures)

    @property
    def exact(self) -> bool:
        """Whether nothing differs in any pair."""
        return all(pair.exact for pair in self.pairs)

    @property
    def summary(self) -> str:
        return f"{sum(pair.exact for pair in self.pairs):,} of {len(self.pairs):,} pairs exact"

    def to_json(self) -> dict[str, Any]:
        answer = {
            "plan": asdict(self.plan),
            "exact_pairs": sum(pair.exact for pair in self.pairs),
            "pairs": len(self.pairs),
            "hardware": [asdict(result) for result in self.hardware],
            "failures": list(self.failures),
        }
        return answer | provenance(seed=self.plan.seed)

    def blocks(self) -> Sequence[Block]:
        pairs = self.pairs
        different, values = sum(pair.mismatched_values for pair in pairs), sum(pair.compared_values for pair in pairs)
        rtl, model = sum(pair.rtl_cycles for pair in pairs), sum(pair.model_cycles for pair in pairs)
        facts: dict[str, object] = {
            "pairs": f"{sum(pair.exact for pair in pairs):,} of {len(pairs):,} exact",
            "layers": sum(pair.layers for pair in pairs),
            "images": sum(pair.images for pair in pairs),
            "values": f"{different:,} of {values:,} differ",
            "cycles": f"{rtl:,} in RTL, {model:,} in the model",
        }
        if self.failures:
            facts["failures"] = ", ".join(self.failures)
        return [_table(self.hardware), Facts(facts)]


def verify(
    out: str | Path,
    *,
    runs: int = 20,
    seed: int = 0,
    per_hardware: int = 10,
    dataflow: Dataflow | None = None,
    shrink_builds: int = 8,
    jobs: int = 1,
    progress: Report | None = None,
) -> Verification:
    """Draw hardware and networks, run them on RTL, compare every value, cycle and counter with the models.

    Args:
        out: folder; an old one of the same plan is continued. A failure is made smaller and kept there as files.
        runs: pairs of hardware and network.
        seed: the same seed draws the same pairs.
        per_hardware: networks on each hardware; builds take longest.
        dataflow: of the hardware; both by default.
        shrink_builds: builds that making a failure smaller may take.
        jobs: hardware at a time, in processes; a single build takes all processors as it is.
        progress: told how it goes on.

    Raises:
        UserError: the folder holds something else.
        RuntimeError: a tool failed.
    """
    plan = Plan(runs, per_hardware, seed, dataflow, shrink_builds)
    return Verification(plan, tuple(run_campaign(plan, Path(out), progress, workers(jobs, WORKER_BYTES))))


def _table(results: Sequence[HardwareResult]) -> Table:
    rows = [
        (
            result.hardware,
            len(result.pairs),
            sum(pair.layers for pair in result.pairs),
            sum(pair.compared_values for pair in result.pairs),
            sum(pair.mismatched_values for pair in result.pairs),
            sum(pair.rtl_cycles for pair in result.pairs),
            sum(abs(pair.rtl_cycles - pair.model_cycles) for pair in result.pairs),
            sum(len(pair.differences) for pair in result.pairs),
        )
        for result in results
    ]
    return Table(
        "RTL against the models",
        ("hardware", "networks", "layers", "values", "wrong", "cycles", "off", "counters off"),
        rows,
        ("all", *(sum(int(str(row[index])) for row in rows) for index in range(1, 8))),
    )

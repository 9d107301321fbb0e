"""What a comparison of methods found: a point for every method, limit and seed, and their mean and deviation."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from codesign.allocation.problem import Limit


@dataclass(frozen=True)
class Entry:
    """Who is compared: a method within a limit, from a seed; with `choices` instead of its own, if they are given."""

    method: str
    limit: Limit
    seed: int
    choices: str | None = None


@dataclass(frozen=True)
class Result:
    """What a method's assignment gave.

    Attributes:
        validation_accuracy, test_accuracy: of the integers, after the training with quantizers; the latter is None
            without test images.
        float_accuracy: of the float network on validation images.
        costs: exact, of the whole network, by metric.
        loss: by the method's own measure; None where it has none of the whole.
        search_s: seconds of a processor, from the trained float network to the assignment.
        additive: of a method that solves additive tables: what the solution of the first one costs by the table
            (`claimed`) and truly (`exact`), in the limit's `metric`, and whether it is `kept`, within the limit.
    """

    validation_accuracy: float
    test_accuracy: float | None
    float_accuracy: float
    costs: Mapping[str, float]
    loss: float | None
    search_s: float
    additive: Mapping[str, Any] | None = None

    def to_json(self) -> dict[str, Any]:
        """Plain values by name."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Result:
        """What `to_json` gave; LookupError or TypeError for anything else."""
        return cls(**data)


@dataclass(frozen=True)
class Rtl:
    """What the generated RTL did with an entry's network, beside what the models say.

    Attributes:
        images: that ran, one by one.
        cycles, model_cycles: of one image, in the RTL and in the timing model.
        values, different: that every layer stored and that were compared, and how many of them are not the integer
            model's.
        exact: whether not one value, cycle or counter differs.
    """

    images: int
    cycles: int
    model_cycles: int
    values: int
    different: int
    exact: bool

    def to_json(self) -> dict[str, Any]:
        """Plain values by name."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Rtl:
        """What `to_json` gave; LookupError or TypeError for anything else."""
        return cls(**data)


@dataclass(frozen=True)
class Point:
    """An entry with its result, or why it has none; and what its network did on the RTL, if it was to run there."""

    entry: Entry
    facts: Result | None
    failed: str = ""
    rtl: Rtl | None = None

    def to_json(self) -> dict[str, Any]:
        """Plain values by name."""
        limit = self.entry.limit
        about = {"method": self.entry.method, "metric": limit.metric, "at_most": limit.bound, "seed": self.entry.seed}
        ran = {} if self.rtl is None else {"rtl": self.rtl.to_json()}
        return about | ({"failed": self.failed} if self.facts is None else self.facts.to_json()) | ran


@dataclass(frozen=True)
class Spread:
    """Mean of some numbers, and their deviation (of a sample, n - 1); that of a single one is None."""

    mean: float
    deviation: float | None

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        """Of at least one number."""
        mean = math.fsum(values) / len(values)
        if len(values) == 1:
            return cls(mean, None)
        return cls(mean, math.sqrt(math.fsum((value - mean) ** 2 for value in values) / (len(values) - 1)))


@dataclass(frozen=True)
class Row:
    """A method within a limit, over the seeds that gave something.

    Attributes:
        method, limit: of all points.
        seeds: how many points there are, `failed` how many of them have no facts.
        why: of the first of these; empty if there are none.
        numbers: by name (`validation_accuracy`, `latency_ms`, `search_s`, ...) over the others; empty without any.
        on_rtl: of how many seeds the network ran on the RTL, `exact` of how many not one value or cycle differs.
    """

    method: str
    limit: Limit
    seeds: int
    failed: int
    why: str
    numbers: Mapping[str, Spread]
    on_rtl: int = 0
    exact: int = 0

    def to_json(self) -> dict[str, Any]:
        """Plain values by name."""
        numbers = {name: {"mean": found.mean, "deviation": found.deviation} for name, found in self.numbers.items()}
        about = {"method": self.method, "metric": self.limit.metric, "at_most": self.limit.bound, "seeds": self.seeds}
        ran = {"on_rtl": self.on_rtl, "exact": self.exact}
        return about | {"failed": self.failed, "why": self.why, **ran, **numbers}


def rows_of(points: Sequence[Point]) -> tuple[Row, ...]:
    """A row for each method and limit, in the order in which these come first."""
    together: dict[tuple[str, Limit], list[Point]] = {}
    for point in points:
        together.setdefault((point.entry.method, point.entry.limit), []).append(point)
    found = []
    for (method, limit), mine in together.items():
        facts = [point.facts for point in mine if point.facts is not None]
        numbers: dict[str, Spread] = {}
        if facts:
            numbers["validation_accuracy"] = Spread.of([one.validation_accuracy for one in facts])
            tested = [one.test_accuracy for one in facts if one.test_accuracy is not None]
            if tested:
                numbers["test_accuracy"] = Spread.of(tested)
            for metric in facts[0].costs:
                numbers[metric] = Spread.of([one.costs[metric] for one in facts])
            numbers["search_s"] = Spread.of([one.search_s for one in facts])
        why = next((point.failed for point in mine if point.facts is None), "")
        ran = [point.rtl.exact for point in mine if point.rtl is not None]
        found.append(Row(method, limit, len(mine), len(mine) - len(facts), why, numbers, len(ran), sum(ran)))
    return tuple(found)

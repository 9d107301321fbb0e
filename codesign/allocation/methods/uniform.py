"""The same bits everywhere: what every method has to be better than."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

from codesign.allocation.methods.protocol import ALL_THAT_RUN, Allocation, Task
from codesign.allocation.space import Granularity
from codesign.errors import UserError


@dataclass(frozen=True)
class Uniform:
    """The method."""

    name = "uniform"
    paper = "none: what others are compared with"
    equations = "of choices that are the same everywhere, the least cross entropy after calibration within the limits"
    decides = "one format and one width for the whole network"
    choices = ALL_THAT_RUN
    limited = True
    granularity: Granularity = "layer"
    deviations: ClassVar[tuple[str, ...]] = (
        "maps that no weighted layer reads have this width, too; with other methods the most that a choice has",
    )

    def allocate(self, task: Task) -> Allocation:
        """The choice that loses least; groups that are pinned keep theirs.

        Raises:
            UserError: none keeps the limits.
        """
        space = task.space
        best: Allocation | None = None
        missed: list[str] = []
        for name in space.names:
            choices = {group.name: task.pins.get(group.name, name) for group in space.groups}
            for names in space.ties:
                pin = next((task.pins[each] for each in names if each in task.pins), name)
                choices |= dict.fromkeys(names, pin)
            used = tuple(choice for choice in space.choices if str(choice) in choices.values())
            narrowed = replace(space, choices=used)
            assignment = narrowed.assignment(narrowed.chosen(choices))
            if lines := task.missed(assignment):
                missed += lines
                continue
            loss = task.evaluator.of(assignment).cross_entropy
            if best is None or best.loss is None or loss < best.loss:
                best = Allocation(assignment, choices, loss)
        if best is None:
            raise UserError(f"{missed[-1]}: the method '{self.name}' found no choices that keep it")
        return best

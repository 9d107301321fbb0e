"""RMSMP (Chang et al., ICCV 2021): formats of rows by Algorithm 1, in the ratio of the accelerator's bands."""

from __future__ import annotations

from dataclasses import dataclass

from codesign.allocation.methods.protocol import Allocation, Task, check_limits
from codesign.allocation.space import Granularity
from codesign.errors import UserError
from codesign.formats.assignment import Assignment
from codesign.formats.ratio import band_ratio
from codesign.quant.placing import array
from codesign.quant.rmsmp import assign


@dataclass(frozen=True)
class Rmsmp:
    """The method; the rule itself is `codesign.quant.rmsmp`."""

    name = "rmsmp"
    paper = "RMSMP, Chang et al. 2021"
    equations = "Algorithm 1; level sets of eqs. 1 and 4"
    decides = "row: format, in the accelerator's ratio in every layer"
    choices = ""
    limited = False
    granularity: Granularity = "row"
    deviations = (
        "eigenvalues are Rayleigh quotients of the exact block; the paper's max(v) is none",
        "top 5 % rounds up, so every layer has at least one high-precision row",
        "quantizers map to the level sets (1) and (4), which eqs. (2) and (5) do not",
    )

    def allocate(self, task: Task) -> Allocation:
        """The assignment by Algorithm 1; UserError for limits and pins, which its rule does not know."""
        check_limits(self, task.limits)
        if task.pins:
            raise UserError(f"pins: the method '{self.name}' deals all rows of a layer by its rule")
        images = array(task.subject.images)
        found = assign(task.subject.model, images, band_ratio(task.costs.hw), count=len(images), seed=task.seed)
        rows = {name: found[name] for name in found.rows}
        assignment = Assignment.of(rows, task.costs.hw.act_bits)
        return Allocation(assignment, {}, None)

"""What methods share that deal two formats to the rows of every layer in a ratio (MSQ, FILM-QNN)."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from codesign._typing import FloatArray
from codesign.allocation.methods.protocol import Allocation, Method, Task, check_limits
from codesign.allocation.space import Space
from codesign.errors import UserError, option
from codesign.formats.ratio import Ratio
from codesign.formats.row_format import RowFormat
from codesign.quant.rmsmp import assign_rows


def check_two_formats(method: Method, space: Space, wanted: tuple[RowFormat, RowFormat]) -> None:
    """UserError unless the choices are these two formats and groups are rows."""
    if space.granularity != "row":
        raise UserError(f"{option('granularity')}: layer given, must be row: the method '{method.name}' deals rows")
    if {choice.form for choice in space.choices} != set(wanted):
        given, must = ",".join(space.names), ",".join(map(str, wanted))
        raise UserError(f"{option('choices')}: {given} given, must be {must} with the method '{method.name}'")


def dealt(
    method: Method,
    task: Task,
    ratio: Ratio,
    variances: Callable[[str], FloatArray],
    importance: Callable[[str], FloatArray] | None = None,
) -> Allocation:
    """The rows of every layer in a ratio, as RMSMP's Algorithm 1 deals them (`codesign.quant.rmsmp.assign_rows`).

    Args:
        method: for messages.
        task: whose choices are the ratio's formats, maps of one width.
        ratio: share of each format.
        variances: (rows,) of a layer; of formats of the same bits, sums of powers of two go to the least.
        importance: (rows,) of a layer; the formats of more bits go to the largest. Needed where there are some.

    Raises:
        UserError: a limit or a pin, which a ratio does not know.
    """
    check_limits(method, task.limits)
    if task.pins:
        raise UserError(f"{option('pin')}: the method '{method.name}' deals all rows of a layer by its rule")
    space = task.space
    place = {choice.form: number for number, choice in enumerate(space.choices)}
    chosen = np.empty(len(space.groups), dtype=np.int64)
    start = 0
    for name in space.convs:
        spread = variances(name)
        wanted = np.zeros(len(spread)) if importance is None else importance(name)
        forms = assign_rows(wanted, spread, ratio)
        chosen[start : start + len(forms)] = [place[form] for form in forms]
        start += len(forms)
    choices = {group.name: space.names[int(at)] for group, at in zip(space.groups, chosen, strict=True)}
    return Allocation(space.assignment(chosen), choices, None)

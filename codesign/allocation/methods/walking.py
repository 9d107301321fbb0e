"""Methods with a rule that has one free number, which moves until the exact costs of the network keep the limits."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from codesign._typing import IntArray
from codesign.allocation.methods.joint import pinned
from codesign.allocation.methods.protocol import Allocation, Method, Task, checked
from codesign.allocation.space import Space
from codesign.arch.scheme import Scheme
from codesign.errors import UserError, option


def first_kept(
    method: Method, task: Task, candidates: Iterable[IntArray], loss: Callable[[IntArray], float]
) -> Allocation:
    """The first of some (groups,) choices that keeps the limits, with the pins in place.

    Args:
        method: for messages.
        task: whose limits are kept.
        candidates: at least one, in the order in which the rule's number moves.
        loss: of choices, by the method's own measure.

    Raises:
        UserError: none of them keeps the limits.
    """
    chosen: IntArray | None = None
    for candidate in candidates:
        chosen = pinned(task.space, task.pins, candidate.copy())
        if not task.missed(task.space.assignment(chosen)):
            break
    assert chosen is not None, "a rule without choices"
    return checked(method, task, chosen, loss(chosen), ())


def ladder_of_weights(method: Method, space: Space) -> list[int]:
    """Places of the choices, the most bits of weights first.

    Raises:
        UserError: groups are rows, choices are not fixed point of different bits, or maps have several widths.
    """
    if space.granularity != "layer":
        raise UserError(f"{option('granularity')}: row given, must be layer: the method '{method.name}' has no rows")
    bits = {choice.form.bits for choice in space.choices}
    fixed = all(choice.form.scheme is Scheme.FIXED for choice in space.choices)
    if not fixed or len({choice.act_bits for choice in space.choices}) > 1 or len(bits) < len(space.choices):
        given = ",".join(space.names)
        raise UserError(
            f"{option('choices')}: {given} given, but the method '{method.name}' chooses bits of weights alone, must "
            "be fixed point of different bits such as w8,w6,w4, with maps of one width"
        )
    return sorted(range(len(space.choices)), key=lambda place: -space.choices[place].form.bits)

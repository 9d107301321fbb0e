"""Searches over whole policies: one is proposed, brought within the limits, measured jointly, and learnt from.

A policy has the place of a choice for every decision (groups that are tied are one). Evolution and agents are
`Proposer`s; what they learn of is the policy that was measured, which keeps the limits, and its loss.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import numpy as np

from codesign._typing import IntArray
from codesign.allocation.methods.joint import pinned, walked_down
from codesign.allocation.methods.protocol import Allocation, Method, Task, checked
from codesign.formats.assignment import Assignment


class Proposer(Protocol):
    """Proposes policies and learns what they are worth."""

    def ask(self) -> IntArray:
        """(decisions,) places of choices to try."""

    def tell(self, policy: IntArray, loss: float) -> None:
        """What was made of the proposed policy so that it keeps the limits, and its loss; infinite if nothing was."""


def searched(
    proposer: Proposer,
    enforced: Callable[[IntArray], IntArray | None],
    lost: Callable[[IntArray], float],
    rounds: int,
) -> tuple[IntArray | None, float]:
    """The best policy that was measured, and its loss; None and infinity if none kept the limits.

    Args:
        proposer: asked once in a round.
        enforced: a policy that keeps the limits, near the one given; None where none was found.
        lost: by a policy, jointly.
        rounds: how many.
    """
    best: IntArray | None = None
    least = np.inf
    for _ in range(rounds):
        proposed = proposer.ask()
        kept = enforced(proposed)
        if kept is None:
            proposer.tell(proposed, np.inf)
            continue
        loss = lost(kept)
        proposer.tell(kept, loss)
        if loss < least:
            best, least = kept, loss
    return best, float(least)


def owners(task: Task) -> IntArray:
    """(groups,) number of the decision that each group belongs to."""
    owner = np.zeros(len(task.space.groups), dtype=np.int64)
    for number, members in enumerate(task.space.together):
        owner[list(members)] = number
    return owner


def of_groups(task: Task, policy: IntArray) -> IntArray:
    """(groups,) places of choices of a policy; groups that are pinned have theirs."""
    return pinned(task.space, task.pins, policy[owners(task)])


def of_decisions(task: Task, chosen: IntArray) -> IntArray:
    """The policy of (groups,) choices."""
    return chosen[[members[0] for members in task.space.together]]


def cheapened(task: Task, losses: np.ndarray, policy: IntArray) -> IntArray | None:
    """A policy within the limits by single changes that lose least by (groups, choices) losses; None if they fail."""
    chosen = walked_down(task, losses, of_groups(task, policy))
    return None if task.missed(task.space.assignment(chosen)) else of_decisions(task, chosen)


def allocated(
    method: Method,
    task: Task,
    proposer: Proposer,
    enforced: Callable[[IntArray], IntArray | None],
    loss_of: Callable[[Assignment], float],
    rounds: int,
) -> Allocation:
    """The best policy of a search as an allocation; UserError if none kept the limits."""

    def lost(policy: IntArray) -> float:
        return loss_of(task.space.assignment(of_groups(task, policy)))

    best, loss = searched(proposer, enforced, lost, rounds)
    if best is None:  # says which limit is missed
        return checked(method, task, of_groups(task, proposer.ask()), None, ())
    return checked(method, task, of_groups(task, best), loss, ())

"""Evolution by tournaments (Real et al., ICML 2017): the best of some has a child that takes the place of the worst."""

from __future__ import annotations

from abc import ABC, abstractmethod

import numpy as np

from codesign._typing import IntArray


class Tournaments(ABC):
    """A population that competes.

    Args:
        rng: all that is drawn.
        population: policies that compete.
        drawn: of them in a tournament, whose best one has a child that replaces its worst one.
    """

    def __init__(self, rng: np.random.Generator, population: int, drawn: int) -> None:
        self._rng, self._size, self._drawn = rng, population, drawn
        self._policies: list[IntArray] = []
        self._losses: list[float] = []
        self._worst = -1

    @abstractmethod
    def first(self, number: int) -> IntArray:
        """The policy of a place in the first population."""

    @abstractmethod
    def child(self, policy: IntArray) -> IntArray:
        """A policy that is changed."""

    def ask(self) -> IntArray:
        if len(self._policies) < self._size:
            return self.first(len(self._policies))
        some = self._rng.choice(self._size, size=min(self._drawn, self._size), replace=False)
        some = some[np.argsort([self._losses[one] for one in some], kind="stable")]
        self._worst = int(some[-1])
        return self.child(self._policies[some[0]])

    def tell(self, policy: IntArray, loss: float) -> None:
        if len(self._policies) < self._size:
            self._policies.append(policy)
            self._losses.append(loss)
            return
        self._policies[self._worst], self._losses[self._worst] = policy, loss

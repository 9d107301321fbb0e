"""What is to be allocated, checked before anything is trained: method, choices, pins, limits, accelerator."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from codesign._reading import excerpt, is_regular, what_is
from codesign.allocation.costs import Costs, running
from codesign.allocation.floors import Reached, Tried, falls_short, floor_of, least_latency, reaches
from codesign.allocation.problem import Limit
from codesign.allocation.space import FormatChoice, Granularity, Space, parse_choices
from codesign.api.notes import Report
from codesign.api.solving import limits_of
from codesign.arch.checks import did_you_mean
from codesign.arch.hardware import Hardware
from codesign.data.dataset import Dataset
from codesign.errors import UserError, option
from codesign.formats.ratio import band_ratio
from codesign.sim.clock import Clock
from codesign.workload.network import Network

if TYPE_CHECKING:
    from codesign.allocation.methods.protocol import Allocation, Method, Task
    from codesign.allocation.sensitivities.subject import Subject

T = TypeVar("T")


@dataclass(frozen=True, eq=False)
class Plan:
    """A method for a network on an accelerator, within limits.

    Attributes:
        method: that chooses.
        space: groups and choices.
        costs: exact ones, of the accelerator.
        limits: that are to be kept; the cheapest choices keep them.
        pins: choices by group that are given.
        floor: on the accuracy on validation images of what is made of the choices.
    """

    method: Method
    space: Space
    costs: Costs
    limits: tuple[Limit, ...]
    pins: Mapping[str, str]
    floor: Limit | None = None

    @property
    def searches(self) -> bool:
        """Whether the least latency is looked for that reaches the floor: where nothing is limited from above."""
        bounded = any(limit.sense == "most" for limit in self.limits)
        return self.floor is not None and self.method.limited and not bounded

    @property
    def slowest_ms(self) -> float:
        """The most that a choice in all layers takes, but for what is pinned."""
        from codesign.allocation.methods.joint import pinned

        space = self.space
        alike = [pinned(space, self.pins, np.full(len(space.groups), place)) for place in range(len(space.choices))]
        return max(self.costs.latency_ms(space.assignment(chosen)) for chosen in alike)

    def without_floor(self, limit_ms: float | None = None) -> Plan:
        """The plan without its floor, and with a limit on the latency, which nothing may keep."""
        more = () if limit_ms is None else (Limit("latency_ms", limit_ms),)
        return replace(self, limits=(*self.limits, *more), floor=None)

    def check_reachable(self) -> None:
        """UserError where nothing keeps the limits."""
        from codesign.allocation.methods.joint import check_reachable

        if self.limits:
            check = getattr(self.method, "check_reachable", check_reachable)
            check(self.space, self.costs, self.limits, self.pins)

    def task(self, subject: Subject, dataset: Dataset, seed: int, progress: Report | None = None) -> Task:
        """For the method, with the trained network and the images that it may train on."""
        from codesign.allocation.methods.evaluator import Evaluator
        from codesign.allocation.methods.protocol import Task
        from codesign.quant.placing import placed

        training = (placed(dataset.train_images), placed(dataset.train_labels))
        evaluator = Evaluator(subject)
        return Task(self.space, subject, self.costs, evaluator, self.limits, self.pins, seed, training, progress)

    def done(self, task: Task) -> Allocation:
        """What the method gives; UserError if it keeps not every limit."""
        found = self.method.allocate(task)
        if missed := task.missed(found.assignment):
            raise UserError(f"{missed[0]}: what the method '{self.method.name}' gave does not keep it")
        return found


def reaching(
    plan: Plan, attempt: Callable[[Plan], Reached[T]], images: int, how: str
) -> tuple[Reached[T], tuple[Tried, ...]]:
    """What keeps the plan's floor, at the least latency where it searches, and the limits that were tried for it.

    Args:
        plan: with a floor.
        attempt: carries out a plan without one, and measures the accuracy on validation images.
        images: how many those are.
        how: the network was made of what the method chose, for the message.

    Raises:
        UserError: what was reached falls short; or what `attempt` raises.
    """
    floor = plan.floor
    assert floor is not None

    def within(limit_ms: float) -> Reached[T]:
        bounded = plan.without_floor(limit_ms)
        bounded.check_reachable()
        return attempt(bounded)

    if plan.searches:
        found, tried = least_latency(floor, within, plan.slowest_ms)
    else:
        found, tried = attempt(plan.without_floor()), ()
    if not reaches(floor, found.accuracy):
        by = f"the method '{plan.method.name}'{' at its slowest choices' if tried else ''}"
        raise falls_short(floor, found.accuracy, images, by, how)
    return found, tried


def check_validation(plan: Plan, dataset: Dataset) -> None:
    """UserError where there are no images to measure the floor's accuracy on."""
    if plan.floor is not None and not len(dataset.validation_labels):
        raise UserError(f"{plan.floor}: data set '{dataset.name}' has no validation images, which it is of")


def planned(
    network: Network,
    method: str | Method,
    hw: Hardware,
    *,
    at_most: Mapping[str, float] | None = None,
    at_least: Mapping[str, float] | None = None,
    pin: Mapping[str, str] | None = None,
    choices: str | None = None,
    granularity: Granularity | None = None,
    search_epochs: int | None = None,
    clock: Clock | None = None,
) -> Plan:
    """The plan; arguments are those of `codesign.allocate`, and the clock of latencies (`Costs`).

    Raises:
        UserError: something has no such name or does not go together, a choice does not run on the accelerator, or
            nothing keeps the limits.
    """
    from codesign.allocation.methods.protocol import check_limits

    chosen = method_of(method)
    if search_epochs is not None:
        chosen = _training_for(chosen, search_epochs)
    space = Space(network, choices_of(chosen, choices, network, hw), granularity or chosen.granularity)
    pins = dict(pin or {})
    check_pins(space, pins)
    costs = Costs(space, hw, clock)
    floor, floors = floor_of(at_least or {})
    limits = limits_of(at_most or {}, floors)
    for place, name in enumerate(space.names):
        try:
            costs.cycles(space.assignment([place] * len(space.groups)))
        except UserError as error:
            raise UserError(f"{option('choices')}: {name} on {hw.name}: {error}") from None
    check_limits(chosen, limits)
    if hasattr(chosen, "check"):
        chosen.check(space)
    if hasattr(chosen, "check_bands"):
        chosen.check_bands(hw)
    plan = Plan(chosen, space, costs, limits, pins, floor)
    plan.check_reachable()
    return plan


def _training_for(method: Method, epochs: int) -> Method:
    """The method that trains so many epochs while it chooses; UserError for one that does not train."""
    where = f"{option('search_epochs')}: {epochs} given"
    if not hasattr(method, "with_epochs"):
        raise UserError(f"{where}, but the method '{method.name}' does not train while it chooses: leave it out")
    if epochs < 1:
        raise UserError(f"{where}, must be at least 1")
    found: Method = method.with_epochs(epochs)
    return found


def choices_of(method: Method, given: str | None, network: Network, hw: Hardware) -> tuple[FormatChoice, ...]:
    """The choices that are given, or else the method's own, or else the formats of the bands."""
    from codesign.allocation.methods.protocol import ALL_THAT_RUN

    if given is None and method.choices == ALL_THAT_RUN:
        return running(network, hw)
    return parse_choices(given or method.choices or ",".join(map(str, band_ratio(hw))), hw.act_bits)


def check_pins(space: Space, pins: Mapping[str, str]) -> None:
    """UserError for a pin on a group or choice that is not there."""
    names = {group.name for group in space.groups}
    for name, given in pins.items():
        where = f"{option('pin')} {excerpt(name, 80)}={excerpt(given, 40)}"
        if name not in names:
            raise UserError(f"{where}: no group is named so{did_you_mean(name, names)}")
        if given not in space.names:
            raise UserError(f"{where}: must be one of {', '.join(space.names)}")
    for members in space.together:
        tied = {pins[space.groups[at].name] for at in members if space.groups[at].name in pins}
        if len(tied) > 1:
            layers = ", ".join(space.groups[at].name for at in members)
            raise UserError(
                f"{option('pin')}: {layers} read the same map, so they cannot be {' and '.join(sorted(tied))}"
            )


def method_of(method: str | Method) -> Method:
    """The method of a name, or the one in a Python file; UserError if there is none."""
    from codesign.allocation.methods.catalog import METHODS

    if not isinstance(method, str):
        return method
    if method in METHODS:
        return METHODS[method]
    file, colon, name = method.rpartition(":")
    if colon and file.endswith(".py"):
        return _own_method(Path(file), name)
    hint = did_you_mean(method, METHODS)
    raise UserError(
        f"{option('method')}: '{excerpt(method, 60)}' given, must be {', '.join(METHODS)}, or FILE.py:NAME{hint}"
    )


def _own_method(path: Path, name: str) -> Method:
    where = f"{option('method')} {excerpt(path, 120)}:{excerpt(name, 60)}"
    if not is_regular(path):
        raise UserError(f"{where}: {what_is(path)}")
    spec = importlib.util.spec_from_file_location(f"codesign_method_{path.stem}", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        raise UserError(f"{where}: the file cannot be run: {type(error).__name__}: {excerpt(error)}") from None
    found = getattr(module, name, None)
    if found is None:
        raise UserError(f"{where}: the file has no '{excerpt(name, 60)}'")
    try:
        made = found() if isinstance(found, type) else found
    except Exception as error:
        raise UserError(f"{where}: cannot be made: {type(error).__name__}: {excerpt(error)}") from None
    lacking = [fact for fact in FACTS if not hasattr(made, fact)]
    if lacking:
        raise UserError(f"{where}: is no method, it lacks {', '.join(lacking)}")
    return made  # type: ignore[no-any-return]


FACTS = ("name", "paper", "equations", "decides", "choices", "granularity", "deviations", "limited", "allocate")
"""What a method has."""

"""The table of an allocation: what every choice of every group loses and costs. A JSON file, read strictly.

    {"format": "codesign allocation table", "version": 1,
     "groups": [{"name": "conv1", "choices": [
       {"name": "w4a4", "loss": 0.013, "costs": {"latency_ms": 0.41, "size_mib": 0.02, "bops": 1e9}},
       {"name": "w8a8", "loss": 0.0, "costs": {"latency_ms": 0.92, "size_mib": 0.04, "bops": 4e9}}]}],
     "ties": [["a", "b"]], "pins": {"conv1": "w8a8"}, "provenance": {}}

Losses and costs of groups add up; `fixed` holds what no choice changes, by metric. Any tool can write one.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, model_validator

from codesign._files import atomic_write
from codesign._reading import MOST_JSON, excerpt, parse_json, read_text
from codesign.arch.checks import choice, did_you_mean, rejected, shown
from codesign.arch.documents import Model, checked
from codesign.errors import UserError

FORMAT = "codesign allocation table"
VERSION = 1
LOSS = "loss"
"""What is minimised unless said otherwise; no cost may have its name."""
MOST_GROUPS = 100_000
MOST_CHOICES = 256
"""Of a group: 16 widths of weights by 16 of activations."""
MOST_NAME = 200
LARGEST = 1e30
"""The largest number: sums of 100,000 of them are still numbers."""


def _name(value: object) -> str:
    if not isinstance(value, str) or not value.strip() or not value.isprintable():
        given = excerpt(value) if isinstance(value, str) else value
        raise rejected(f"{shown(given)} given, must be a name of printable letters")
    if len(value) > MOST_NAME:
        raise rejected(f"a name of {len(value):,} letters given, must have at most {MOST_NAME}")
    return value


def _amount(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= LARGEST:
        raise rejected(f"{shown(value)} given, must be a number from 0 to {LARGEST:g}")
    return float(value)


def _any_sign(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not -LARGEST <= value <= LARGEST:
        raise rejected(f"{shown(value)} given, must be a number from {-LARGEST:g} to {LARGEST:g}")
    return float(value)


def _listing(what: str, most: int) -> BeforeValidator:
    def check(value: object) -> object:
        if not isinstance(value, list | tuple):
            raise rejected(f"{shown(value)} given, must be a list of {what}")
        if not 1 <= len(value) <= most:
            raise rejected(f"{len(value):,} {what} given, must be 1 to {most:,}")
        return tuple(value)

    return BeforeValidator(check)


def _mapping(what: str) -> BeforeValidator:
    def check(value: object) -> object:
        if not isinstance(value, Mapping):
            raise rejected(f"{shown(value)} given, must be {what}")
        return dict(value)

    return BeforeValidator(check)


Name = Annotated[str, BeforeValidator(_name)]
Amount = Annotated[float, BeforeValidator(_amount)]
Signed = Annotated[float, BeforeValidator(_any_sign)]
Costs = Annotated[dict[Name, Amount], _mapping("numbers by metric")]


class Choice(Model):
    """What a group may be given.

    Attributes:
        name: such as `w4a4`; groups that are tied choose the same name.
        loss: what it loses, in any unit; losses of groups add up. It may be negative: only differences within a group
            decide.
        costs: what it costs by metric, such as `latency_ms`, 0 or more; they add up as well.
    """

    name: Name
    loss: Signed
    costs: Costs = Field(default_factory=dict)


class Group(Model):
    """What gets one choice: a layer, a row, a block.

    Attributes:
        name: of it, only once in a table.
        choices: at least one; all have the same metrics.
    """

    name: Name
    choices: Annotated[tuple[Choice, ...], _listing("choices", MOST_CHOICES)]

    @property
    def names(self) -> tuple[str, ...]:
        """Of the choices."""
        return tuple(choice.name for choice in self.choices)


class Table(Model):
    """Choices of groups with losses and costs, immutable; `from_json` and `read` take nothing that they do not know.

    Attributes:
        groups: in the order in which answers name them.
        ties: groups that get choices of one name.
        pins: groups whose choice is given.
        fixed: costs by metric of what no group decides; they count for every limit.
        provenance: where it is from.
    """

    format: Annotated[str, choice(FORMAT)] = FORMAT
    version: Annotated[int, choice(VERSION)] = VERSION
    groups: Annotated[tuple[Group, ...], _listing("groups", MOST_GROUPS)]
    ties: tuple[Annotated[tuple[Name, ...], _listing("names", MOST_GROUPS)], ...] = ()
    pins: Annotated[dict[Name, Name], _mapping("names of choices by group")] = Field(default_factory=dict)
    fixed: Annotated[dict[Name, Signed], _mapping("numbers by metric")] = Field(default_factory=dict)
    provenance: Annotated[dict[str, Any], _mapping("facts by name")] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _consistent(self) -> Table:
        metrics = self.groups[0].choices[0].costs.keys()
        if LOSS in metrics:
            raise rejected(f"groups[0].choices[0].costs: '{LOSS}' given, which is the name of what is lost")
        seen: set[str] = set()
        for group in self.groups:
            if group.name in seen:
                raise rejected(f"groups: two are named '{group.name}', must have names of their own")
            seen.add(group.name)
            if len(set(group.names)) < len(group.names):
                twice = next(name for name in group.names if group.names.count(name) > 1)
                raise rejected(f"group '{group.name}': two choices are named '{twice}', must have names of their own")
            for option in group.choices:
                if option.costs.keys() != metrics:
                    odd = min(option.costs.keys() ^ metrics)
                    has, others = ("has", "others have not") if odd in option.costs else ("lacks", "others have")
                    raise rejected(
                        f"group '{group.name}': choice '{option.name}' {has} the cost '{odd}', which {others}: every "
                        "choice must have the same"
                    )
        for name in self.fixed:
            if name not in metrics:
                raise rejected(f"fixed: '{name}' is no cost of the choices{_among(metrics)}")
        for name, chosen in self.pins.items():
            self.check_choice("pins", name, chosen)
        for number, names in enumerate(self.ties):
            for name in names:
                if name not in self._place:
                    raise rejected(f"ties[{number}]: no group is named '{name}'{did_you_mean(name, self._place)}")
        return self

    def check_choice(self, where: str, group: str, chosen: str) -> None:
        """Raise a rejection, for validators, unless there is such a group with such a choice."""
        if group not in self._place:
            raise rejected(f"{where}: no group is named '{group}'{did_you_mean(group, self._place)}")
        names = self.groups[self._place[group]].names
        if chosen not in names:
            raise rejected(f"{where}: group '{group}' has no choice '{chosen}'{_among(names)}")

    @property
    def _place(self) -> dict[str, int]:
        if "_places" not in self.__dict__:
            self.__dict__["_places"] = {group.name: number for number, group in enumerate(self.groups)}
        places: dict[str, int] = self.__dict__["_places"]
        return places

    def place(self, group: str) -> int:
        """Where in `groups` the one of this name is; LookupError without it."""
        return self._place[group]

    @property
    def metrics(self) -> tuple[str, ...]:
        """Names of the costs."""
        return tuple(self.groups[0].choices[0].costs)

    @classmethod
    def from_json(cls, text: str, shown_as: str = "table") -> Table:
        """The table that a JSON text is.

        Args:
            text: see above.
            shown_as: names it in errors.

        Raises:
            UserError: one line that says where it is wrong, what was given and what is allowed.
        """
        try:
            data = parse_json(text)
        except ValueError as error:
            raise UserError(f"{shown_as}: not JSON: {excerpt(error)}") from None
        if not isinstance(data, dict) or data.get("format") != FORMAT:
            raise UserError(f'{shown_as}: not an allocation table: the text has no "format": "{FORMAT}"')
        if "version" not in data:
            raise UserError(f"{shown_as}: version: missing, must be {VERSION}")
        return checked(data, shown_as, cls, {})

    @classmethod
    def read(cls, path: str | Path) -> Table:
        """The table in a file; UserError as `from_json`, or if it cannot be read."""
        return cls.from_json(read_text(path, MOST_JSON, "an allocation table"), excerpt(path))

    def to_json(self) -> str:
        """Text that `from_json` reads back."""
        data = self.model_dump(mode="json", exclude={"groups"})
        head = ",\n ".join(f"{json.dumps(key)}: {json.dumps(value, allow_nan=False)}" for key, value in data.items())
        groups = ",\n  ".join(json.dumps(group.model_dump(mode="json"), allow_nan=False) for group in self.groups)
        return f'{{{head},\n "groups": [\n  {groups}\n ]}}\n'

    def write(self, path: str | Path) -> None:
        """Save it; UserError if the file cannot be written."""
        with atomic_write(path) as file:
            file.write(self.to_json().encode())

    def __str__(self) -> str:
        choices = sum(len(group.choices) for group in self.groups)
        return f"{len(self.groups):,} groups, {choices:,} choices; {LOSS}, {', '.join(self.metrics) or 'no costs'}"


def table_of(
    groups: Mapping[str, Mapping[str, tuple[float, Mapping[str, float]]]],
    *,
    ties: Iterable[Iterable[str]] = (),
    pins: Mapping[str, str] | None = None,
    fixed: Mapping[str, float] | None = None,
    provenance: Mapping[str, Any] | None = None,
    shown_as: str = "table",
) -> Table:
    """A table from numbers by name: of every group the choices, of every choice (loss, costs by metric).

    Raises:
        UserError: it is none, such as with a loss that is not a number; the message names group and choice.
    """
    for name, choices in groups.items():
        for option, (loss, costs) in choices.items():
            for what, value in {LOSS: loss, **costs}.items():
                if not math.isfinite(value):
                    raise UserError(f"{shown_as}: group '{name}', choice '{option}': {what} is {value:g}, no number")
    data = {
        "groups": [
            {
                "name": name,
                "choices": [
                    {"name": option, "loss": float(loss), "costs": {key: float(cost) for key, cost in costs.items()}}
                    for option, (loss, costs) in choices.items()
                ],
            }
            for name, choices in groups.items()
        ],
        "ties": [list(names) for names in ties],
        "pins": dict(pins or {}),
        "fixed": dict(fixed or {}),
        "provenance": dict(provenance or {}),
    }
    return checked(data, shown_as, Table, {})


def _among(names: Iterable[str]) -> str:
    text = ", ".join(names)
    return f"; there are {text if len(text) <= 200 else text[:197] + '...'}" if text else "; there are none"

"""What a co-search looks at: accelerators of a space, bits by methods, objectives and limits in words of the field."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Literal, NamedTuple

from pydantic import BeforeValidator, model_validator

from codesign.arch.checks import choice, did_you_mean, integer, number, rejected, shown
from codesign.arch.documents import Model, parse, read_text
from codesign.arch.load import find_config
from codesign.search.sweep_space import SweepSpace, Value, parse_vary

FOLDER = "cosearch"
"""Where below hw_configs/ the spaces lie."""
ACCURACY = "accuracy"
RESOURCES = ("lut", "ff", "dsp", "bram36")
RATE = "images_per_s"
MORE = (ACCURACY, RATE)
"""Of these more is better, of all others less."""
METRICS = (ACCURACY, "latency_ms", RATE, "energy_mj", "traffic_bytes", "size_mib", "cycles", *RESOURCES)
"""What objectives and constraints may name."""
MOST_TRIALS = 10_000
Share = float | str
"""Where a limit lies: from 0 at the least uniform choice to 1 at the greatest; or at the uniform choice of a name."""
_CONSTRAINT = re.compile(r"\s*(\w+)\s*(<=|>=)\s*([0-9.]+(?:[eE][+-]?[0-9]+)?)\s*")


class Constraint(NamedTuple):
    """A limit on a number: `latency_ms <= 2`, `accuracy >= 0.9`."""

    metric: str
    sense: Literal["<=", ">="]
    bound: float

    def __str__(self) -> str:
        return f"{self.metric} {self.sense} {self.bound:g}"

    def holds(self, value: float) -> bool:
        """Whether a value keeps it."""
        return value <= self.bound if self.sense == "<=" else value >= self.bound


def _metric(value: object) -> str:
    if value not in METRICS:
        hint = did_you_mean(value, METRICS) if isinstance(value, str) else ""
        raise rejected(f"{shown(value)} given, must be one of {', '.join(METRICS)}{hint}")
    assert isinstance(value, str)
    return value


def _objectives(value: object) -> tuple[str, ...]:
    if not isinstance(value, list | tuple) or not value:
        raise rejected(f"{shown(value)} given, must be a list such as [accuracy, latency_ms]")
    found = tuple(map(_metric, value))
    if len(set(found)) < len(found):
        raise rejected(f"{', '.join(found)} given, must be different")
    return found


def _constraints(value: object) -> tuple[Constraint, ...]:
    if not isinstance(value, list | tuple):
        raise rejected(f"{shown(value)} given, must be a list such as ['latency_ms <= 2']")
    found: list[Constraint] = []
    for text in value:
        match = _CONSTRAINT.fullmatch(text) if isinstance(text, str) else None
        if isinstance(text, Constraint):
            found.append(text)
            continue
        if match is None:
            raise rejected(f"{shown(text)} given, must be a metric, <= or >=, and a number, such as 'latency_ms <= 2'")
        metric, sense, bound = match.groups()
        least: Literal["<=", ">="] = ">=" if _metric(metric) in MORE else "<="
        if sense != least:
            raise rejected(f"{shown(text)} given, {metric} must be {least} a number")
        found.append(Constraint(metric, least, float(bound)))
    if len({one.metric for one in found}) < len(found):
        raise rejected("two limits on one metric given, must be one of each")
    return tuple(found)


def _networks(value: object) -> tuple[str, ...]:
    given = value if isinstance(value, list | tuple) else [value]
    found = tuple(name for name in given if isinstance(name, str) and name)
    if not found or len(found) < len(given):
        raise rejected(f"{shown(value)} given, must be the name of a network, or a list of them")
    folders: dict[str, str] = {}
    for name in found:
        earlier = folders.setdefault(folder_name(name), name)
        if earlier is not name:
            raise rejected(f"{shown(earlier)} and {shown(name)} given, must be different, also as names of folders")
    return found


def _shares(value: object) -> tuple[Share, ...]:
    if not isinstance(value, list | tuple) or not value:
        raise rejected(f"{shown(value)} given, must be a list such as [0.25, 0.5, 0.75]")
    found: list[Share] = []
    for each in value:
        if isinstance(each, str) and each.isidentifier():
            found.append(each)
        elif isinstance(each, bool) or not isinstance(each, int | float) or not 0 <= each <= 1:
            raise rejected(f"{shown(value)} given, must be numbers from 0 to 1, or names of choices such as w4a4")
        else:
            found.append(float(each))
    if len(set(found)) < len(found):
        raise rejected(f"{shown(value)} given, must be different")
    return tuple(found)


def _choices(value: object) -> tuple[str | None, ...]:
    given = value if isinstance(value, list | tuple) else [value]
    if not given or any(not isinstance(one, str) for one in given if one is not None or len(given) > 1):
        raise rejected(f"{shown(value)} given, must be choices such as w4a4,w8a8, or a list of such")
    if len(set(given)) < len(given):
        raise rejected(f"{shown(value)} given, must be different")
    return tuple(given)


def _epochs(value: object) -> tuple[int, ...]:
    if not isinstance(value, list | tuple) or not value:
        raise rejected(f"{shown(value)} given, must be a list such as [0, 3, 12]")
    if any(isinstance(x, bool) or not isinstance(x, int) or not 0 <= x <= 10_000 for x in value):
        raise rejected(f"{shown(value)} given, must be whole numbers from 0")
    if list(value) != sorted(set(value)):
        raise rejected(f"{shown(value)} given, must go up")
    return tuple(value)


def folder_name(network: str) -> str:
    """What the folder of a network's candidates is called: of a file its name, of others all they say."""
    return re.sub(r"[^A-Za-z0-9_.-]+", "-", Path(network).name)


class HardwareSpace(Model):
    """Accelerators: variants of one, as a sweep has them (`codesign.search.sweep_space`)."""

    base: str
    vary: Annotated[dict[str, tuple[Value, ...]], BeforeValidator(parse_vary)]
    where: tuple[str, ...] = ()


class Choices(Model):
    """How bits are chosen on each accelerator.

    Attributes:
        methods: of `codesign methods`.
        choices: such as `w4a4,w8a8`, or several such; by default each method's own.
        metric: what the methods' limits are on: exact latency; or `bops` and others that know no hardware, to compare.
        shares: these limits, at shares of the way from an accelerator's least uniform choice to its greatest, or to the
            limit of the constraints if that is less; or by the name of a uniform choice, such as `w4a4`: no more than
            that takes.
    """

    methods: tuple[str, ...] = ("codesign",)
    choices: Annotated[tuple[str | None, ...], BeforeValidator(_choices)] = (None,)
    metric: Literal["latency_ms", "energy_mj", "traffic_mib", "size_mib", "bops", "impq_bops"] = "latency_ms"
    shares: Annotated[tuple[Share, ...], BeforeValidator(_shares)] = (0.25, 0.5, 1.0)


class Training(Model):
    """How candidates are trained: in rounds of more and more epochs, of which only the best go on.

    Attributes:
        float_epochs: of the float network, once; 20 where it brings no weights.
        epochs: with quantizers, of every round; 0 only calibrates.
        learning_rate: of these epochs; by default as `quantize` has it. Weights that were trained long may want less.
        keep: share of the candidates of a round that go on to the next.
    """

    float_epochs: Annotated[int, integer(0, 10_000)] | None = None
    epochs: Annotated[tuple[int, ...], BeforeValidator(_epochs)] = (0, 3, 12)
    learning_rate: Annotated[float, number(0, 1)] | None = None
    keep: Annotated[float, number(0, 1)] = 0.34


class CoSpace(Model):
    """A co-search: a network and its data, accelerators, methods, what is wanted, and how much may be tried.

    Attributes:
        network, data: as `quantize` takes them; several networks where more than one may do, such as one of different
            widths and depths.
        objectives: what the front weighs.
        constraints: what every point of it keeps.
        proposals: what is tried: `all` candidates, or so many of them as may be, drawn; or what a sampler of Optuna
            proposes, `nsga2` or `tpe`, after what the first round gave.
        trials: candidates (an accelerator, a method, a limit) that are tried at most.
        minutes: after which no candidate is begun any more, from the start of the command on; the rounds share them
            equally. What was not begun is begun where the search goes on with more of them.
        images: first test images that every point of the front runs on the generated RTL.
        seed: of training, of methods, and of what is drawn.
    """

    network: Annotated[tuple[str, ...], BeforeValidator(_networks)]
    data: str
    hardware: HardwareSpace
    model: Choices = Choices()
    training: Training = Training()
    objectives: Annotated[tuple[str, ...], BeforeValidator(_objectives)] = (ACCURACY, "latency_ms")
    constraints: Annotated[tuple[Constraint, ...], BeforeValidator(_constraints)] = ()
    proposals: Annotated[Literal["all", "nsga2", "tpe"], choice("all", "nsga2", "tpe")] = "all"
    trials: Annotated[int, integer(1, MOST_TRIALS)] = 200
    minutes: Annotated[float, number(0, 100_000)] | None = None
    images: Annotated[int, integer(1, 10_000)] = 3
    seed: Annotated[int, integer(0, 2**31 - 1)] = 0

    @model_validator(mode="after")
    def _check(self) -> CoSpace:
        if self.objectives == (ACCURACY,):
            raise rejected("objectives: accuracy alone given, must have something that it is weighed against")
        return self

    @property
    def title(self) -> str:
        """What is searched, for people."""
        return f"{', '.join(self.network)} on {self.data}"

    @property
    def accelerators(self) -> SweepSpace:
        """The hardware as a sweep."""
        return SweepSpace(
            base=self.hardware.base,
            vary=dict(self.hardware.vary),
            where=self.hardware.where,
            resources="front",
            seed=self.seed,
        )

    def bound(self, metric: str) -> float | None:
        """The limit on a metric, if there is one; of the latency also what a limit on images a second says of it."""
        bounds = [one.bound for one in self.constraints if one.metric == metric]
        if metric == "latency_ms":
            bounds += [1000 / one.bound for one in self.constraints if one.metric == RATE and one.bound > 0]
        return min(bounds, default=None)

    def continues(self, earlier: CoSpace) -> bool:
        """Whether a search of this space goes on with one of an earlier: it has all that was there, and perhaps more.

        Data and seed are the same; networks, values, methods and shares may have been added. What is wanted of points,
        and how many are tried for how long, may be anything: results are of candidates.
        """
        old, new = earlier.hardware, self.hardware
        same = ("data", "seed")
        return (
            all(getattr(self, name) == getattr(earlier, name) for name in same)
            and self.training.float_epochs == earlier.training.float_epochs
            and (new.base, new.vary.keys()) == (old.base, old.vary.keys())
            and all(set(values) <= set(new.vary[name]) for name, values in old.vary.items())
            and set(earlier.network) <= set(self.network)
            and set(earlier.model.methods) <= set(self.model.methods)
            and set(earlier.model.shares) <= set(self.model.shares)
        )

    def text(self) -> dict[str, object]:
        """What the space says, as YAML holds it."""
        said = self.model_dump(mode="json") | {"constraints": [str(each) for each in self.constraints]}
        if len(self.network) == 1:
            said["network"] = self.network[0]
        if len(self.model.choices) == 1:
            said["model"]["choices"] = self.model.choices[0]
        return said


def load_cospace(path_or_name: str | Path) -> CoSpace:
    """The space of a YAML file, or of the one called `path_or_name` in hw_configs/cosearch/.

    Raises:
        UserError: one line, if it cannot be used.
    """
    path = find_config(path_or_name, FOLDER)
    return parse_cospace(read_text(path), str(path_or_name))


def parse_cospace(text: str, shown_as: str) -> CoSpace:
    """The space that YAML `text` describes; `shown_as` names the source in errors."""
    return parse(text, shown_as, CoSpace, {})

"""What the host computes around an accelerator: the input before it, the result after it, as steps in order.

An accelerator reads codes and gives codes or int32 results. What a model does beside that (normalizing a picture,
quantizing it, a Softmax at the end) is kept here, with the network, so that `codesign evaluate` and the generated
driver do what the model does, and nothing is left to be guessed.

Arrays are (N, C, H, W) before the accelerator and begin so after it. Real numbers are float32, as runtimes compute:
every operation is done on float32 operands and rounded to float32.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

from codesign.errors import UserError

Array = NDArray[Any]
Operation = Literal["add", "subtract", "multiply", "divide"]
Rounding = Literal["up", "even", "away"]
Takes = Literal["float32", "uint8", "int8"]
LARGEST_CODE = 2**16 - 1


@dataclass(frozen=True)
class Arithmetic:
    """Real input (operation) value, with one value, or one for each channel."""

    operation: Operation
    values: tuple[float, ...]

    @property
    def words(self) -> str:
        """For people."""
        return f"{self.operation} {_listed(self.values)}"

    def apply(self, array: Array) -> Array:
        """The numbers after this step."""
        values = np.asarray(self.values, dtype=np.float32).reshape(-1, 1, 1)
        numbers = array.astype(np.float32)
        result: Array = {"add": np.add, "subtract": np.subtract, "multiply": np.multiply, "divide": np.divide}[
            self.operation
        ](numbers, values)
        return result


@dataclass(frozen=True)
class Quantize:
    """Real numbers to codes: round(x / scale) + zero_point, clipped to [low, high].

    `rounding` of halves: "even" (ONNX, Brevitas), "away" from zero (TensorFlow Lite), or "up" (codesign's own
    quantizers, which alone divide in double precision).
    """

    scale: float
    zero_point: int
    low: int
    high: int
    rounding: Rounding = "even"

    @property
    def words(self) -> str:
        """For people."""
        return (
            f"quantize (scale {self.scale:.6g}, zero point {self.zero_point}, codes {self.low} to {self.high}, "
            f"halves {self.rounding})"
        )

    def apply(self, array: Array) -> Array:
        """The codes."""
        if self.rounding == "up":
            steps = np.floor(array.astype(np.float64) / self.scale + 0.5)
        else:
            quotient = array.astype(np.float32) / np.float32(self.scale)
            away = np.trunc(quotient.astype(np.float64) + np.copysign(0.5, quotient))
            steps = np.rint(quotient).astype(np.float64) if self.rounding == "even" else away
        codes: Array = np.clip(steps + self.zero_point, self.low, self.high).astype(np.int64)
        return codes


@dataclass(frozen=True)
class Offset:
    """Integers plus a number: int8 values are codes minus 128."""

    offset: int

    @property
    def words(self) -> str:
        """For people."""
        return f"{self.offset:+d}" if self.offset else "integers as they are"

    def apply(self, array: Array) -> Array:
        """The integers after this step."""
        return array.astype(np.int64) + self.offset


@dataclass(frozen=True)
class Digits:
    """Codes u to several channels each: u - source_zero = sum of factor * (digit - zero_point).

    A channel becomes len(factors) channels that follow each other, of `bits` bits. Factors grow.
    """

    factors: tuple[int, ...]
    bits: int
    zero_point: int
    source_zero: int

    @property
    def words(self) -> str:
        """For people."""
        return (
            f"{len(self.factors)} digits of {self.bits} bits for each code, worth {', '.join(map(str, self.factors))}"
        )

    def apply(self, array: Array) -> Array:
        """(N, C, H, W) codes as (N, C * digits, H, W) digits."""
        rest = array.astype(np.int64) - self.source_zero + self.zero_point * sum(self.factors)
        digits = []
        for factor in reversed(self.factors):
            digits.append(np.minimum(rest // factor, (1 << self.bits) - 1))
            rest = rest - factor * digits[-1]
        planes = np.stack(digits[::-1], axis=2)
        return planes.reshape(len(array), -1, *array.shape[2:])


@dataclass(frozen=True)
class RoundResults:
    """Wide results to the codes that the model quantizes its result to: clip(round up(r / 2**fraction) + zero)."""

    fraction: int
    zero_point: int
    low: int
    high: int

    @property
    def words(self) -> str:
        """For people."""
        return f"round to codes {self.low} to {self.high} (without {self.fraction} bits, zero point {self.zero_point})"

    def apply(self, array: Array) -> Array:
        """The codes."""
        rounded = (array + (1 << self.fraction >> 1)) >> self.fraction
        codes: Array = np.clip(rounded + self.zero_point, self.low, self.high)
        return codes


@dataclass(frozen=True)
class Dequantize:
    """Codes or wide results to real numbers: scale * (code - zero_point)."""

    scale: float
    zero_point: int = 0

    @property
    def words(self) -> str:
        """For people."""
        return f"dequantize (scale {self.scale:.6g}, zero point {self.zero_point})"

    def apply(self, array: Array) -> Array:
        """The real numbers."""
        real: Array = ((array - self.zero_point) * self.scale).astype(np.float32)
        return real


@dataclass(frozen=True)
class Reshape:
    """The numbers of an image in their order as another shape, the batch apart."""

    shape: tuple[int, ...]

    @property
    def words(self) -> str:
        """For people."""
        return f"reshape to {'x'.join(map(str, self.shape))}"

    def apply(self, array: Array) -> Array:
        """The array of that shape."""
        return array.reshape(len(array), *self.shape)


@dataclass(frozen=True)
class Softmax:
    """Softmax of beta * x along an axis (the batch not counted), or its logarithm."""

    axis: int
    beta: float = 1.0
    logarithm: bool = False

    @property
    def words(self) -> str:
        """For people."""
        beta = "" if self.beta == 1 else f" of {self.beta:g} times the values"
        return f"{'LogSoftmax' if self.logarithm else 'Softmax'}{beta} along axis {self.axis} of an image"

    def apply(self, array: Array) -> Array:
        """Probabilities, or their logarithms."""
        scores = array.astype(np.float64) * self.beta
        scores = scores - scores.max(axis=self.axis + 1, keepdims=True)
        total = np.exp(scores).sum(axis=self.axis + 1, keepdims=True)
        result: Array = scores - np.log(total) if self.logarithm else np.exp(scores) / total
        return result.astype(np.float32)


@dataclass(frozen=True)
class Sigmoid:
    """1 / (1 + exp(-x))."""

    words = "Sigmoid"

    def apply(self, array: Array) -> Array:
        """Values in (0, 1)."""
        small = np.exp(-np.abs(array.astype(np.float64)))
        result: Array = np.where(array >= 0, 1, small) / (1 + small)
        return result.astype(np.float32)


@dataclass(frozen=True)
class ArgMax:
    """Index of the largest number along an axis (the batch not counted); of equal ones the first, or the last."""

    axis: int
    keep: bool = True
    last: bool = False

    @property
    def words(self) -> str:
        """For people."""
        return f"ArgMax along axis {self.axis} of an image{', the last of equal ones' if self.last else ''}"

    def apply(self, array: Array) -> Array:
        """The indices; the axis stays with size 1 if `keep`."""
        axis = self.axis + 1
        found = np.flip(array, axis).argmax(axis) if self.last else array.argmax(axis)
        indices: Array = array.shape[axis] - 1 - found if self.last else found
        return np.expand_dims(indices, axis) if self.keep else indices


Step = Arithmetic | Quantize | Offset | Digits | RoundResults | Dequantize | Reshape | Softmax | Sigmoid | ArgMax
STEPS: dict[str, type[Step]] = {kind.__name__: kind for kind in get_args(Step)}
BEFORE = (Arithmetic, Quantize, Offset, Digits)
"""What may stand before the accelerator; a Quantize or Offset makes the codes, and only Digits may follow."""


@dataclass(frozen=True)
class HostWork:
    """Steps of the host, in order.

    Attributes:
        before: from what the model takes to codes. None at all means: real numbers, quantized as the input tensor
            says, halves up.
        after: from codes or wide results to what the model gives; none means that the results are left as they are.
        takes: element type of what the model takes.
    """

    before: tuple[Step, ...] = ()
    after: tuple[Step, ...] = ()
    takes: Takes = "float32"

    @property
    def words(self) -> dict[str, str]:
        """What is done `before` and `after`, for people; without a key where there is nothing to do."""
        parts = {"before": self.before, "after": self.after}
        texts = {key: ", ".join(step.words for step in steps) for key, steps in parts.items() if steps}
        if self.before and self.takes != "float32":
            texts["before"] = f"takes {self.takes}; {texts['before']}"
        return texts

    @property
    def digits(self) -> int:
        """How many channels of the input a channel of what the model takes becomes."""
        last = self.before[-1] if self.before else None
        return len(last.factors) if isinstance(last, Digits) else 1

    @property
    def result_codes(self) -> RoundResults | None:
        """The step that makes codes of wide results, if the model quantizes its result; it is the first one."""
        first = self.after[0] if self.after else None
        return first if isinstance(first, RoundResults) else None

    def to_json(self) -> dict[str, Any]:
        """Plain data, for `from_json`."""
        return {
            "takes": self.takes,
            "before": [_step_json(step) for step in self.before],
            "after": [_step_json(step) for step in self.after],
        }

    @staticmethod
    def from_json(data: Any) -> HostWork:
        """What `to_json` wrote; LookupError, TypeError or ValueError for anything else."""
        if data.keys() != {"takes", "before", "after"} or data["takes"] not in get_args(Takes):
            raise ValueError("the host's work has unknown keys")
        steps = {key: tuple(_step(item) for item in data[key]) for key in ("before", "after")}
        return HostWork(**steps, takes=data["takes"])

    def result_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """Shape of the result of an image whose results from the accelerator have `shape`.

        Raises:
            UserError: a step does not suit it.
        """
        for step in self.after:
            if isinstance(step, Reshape):
                if np.prod(step.shape) != np.prod(shape):
                    raise UserError(f"host: {step.words} does not suit the shape {shape}")
                shape = step.shape
            elif isinstance(step, Softmax | ArgMax):
                if not 0 <= step.axis < len(shape):
                    raise UserError(f"host: {step.words} does not suit the shape {shape}")
                if isinstance(step, ArgMax):
                    shape = (*shape[: step.axis], *((1,) if step.keep else ()), *shape[step.axis + 1 :])
        return shape


def check_host(host: HostWork, channels: int, bits: int, output: tuple[int, ...]) -> None:
    """UserError unless the steps suit an input of so many channels and bits, and results of the shape `output`."""
    _check_before(host, channels, bits)
    for step in (*host.before, *host.after):
        if isinstance(step, Quantize) and not 0 <= step.low <= step.zero_point <= step.high <= LARGEST_CODE:
            raise UserError(f"host: {step.words}: the zero point must lie in the codes, of at most 16 bits")
        if isinstance(step, Quantize | Dequantize) and not (step.scale > 0 and np.isfinite(step.scale)):
            raise UserError(f"host: {step.words}: the scale must be positive and finite")
        if isinstance(step, RoundResults) and not (0 <= step.fraction <= 31 and step.low <= step.high):
            raise UserError(f"host: {step.words}: no such codes")
    for index, step in enumerate(host.after):
        if isinstance(step, RoundResults) and index:
            raise UserError(f"host: {step.words} must be the first step after the accelerator")
        if isinstance(step, Arithmetic | Digits):
            raise UserError(f"host: {step.words} can be done before the accelerator only")
    host.result_shape(output)


def _check_before(host: HostWork, channels: int, bits: int) -> None:
    steps = list(host.before)
    if steps and isinstance(digits := steps[-1], Digits):
        steps.pop()
        _check_digits(digits, channels, bits)
        channels, bits = channels // len(digits.factors), LARGEST_CODE.bit_length()
    for step in steps:
        if not isinstance(step, BEFORE):
            raise UserError(f"host: {step.words} cannot be done before the accelerator")
        if isinstance(step, Arithmetic):
            if len(step.values) not in (1, channels):
                raise UserError(f"host: {len(step.values)} numbers to {step.operation} for {channels} channels")
            if step.operation == "divide" and not np.asarray(step.values, dtype=np.float32).all():
                raise UserError("host: divides the input by 0")
        elif step is not steps[-1]:
            raise UserError(f"host: {step.words} must be the last step before the accelerator")
        elif isinstance(step, Quantize) and step.high >= 2**bits:
            raise UserError(f"host: {step.words} makes codes that the input of {bits} bits does not hold")
    if host.before and (not steps or not isinstance(steps[-1], Quantize | Offset)):
        raise UserError("host: nothing makes codes of the input")
    if host.takes == "float32" and any(isinstance(step, Offset) for step in steps):
        raise UserError("host: takes real numbers, but no step quantizes them")


def _check_digits(digits: Digits, channels: int, bits: int) -> None:
    top, total, reach = (1 << digits.bits) - 1 if 0 < digits.bits <= bits else 0, sum(digits.factors), 0
    for factor in digits.factors:
        if not 1 <= factor <= reach + 1:
            raise UserError(f"host: {digits.words}: between the digits numbers are left out")
        reach += top * factor
    if not digits.factors or channels % len(digits.factors) or not 0 <= digits.zero_point <= top:
        raise UserError(f"host: {digits.words} do not suit an input of {channels} channels and {bits} bits")
    if not 0 <= digits.source_zero <= digits.zero_point * total:
        raise UserError(f"host: {digits.words} do not reach the smallest code")


def apply_steps(steps: tuple[Step, ...], array: ArrayLike) -> Array:
    """What the steps make of an array, (N, C, H, W) at first."""
    result = np.asarray(array)
    for step in steps:
        result = step.apply(result)
    return result


def _listed(values: tuple[float, ...]) -> str:
    return ", ".join(f"{value:g}" for value in values[:4]) + (" ..." if len(values) > 4 else "")


def _step_json(step: Step) -> dict[str, Any]:
    return {"step": type(step).__name__} | dataclasses.asdict(step)


def _step(data: Mapping[str, Any]) -> Step:
    kind = STEPS[data["step"]]
    fields = {item.name: str(item.type) for item in dataclasses.fields(kind)}
    if data.keys() - {"step"} != fields.keys():
        raise ValueError(f"a step {data['step']} of the host has {', '.join(sorted(data))}")
    return kind(**{name: _READERS[fields[name]](data[name]) for name in fields})


def _whole(value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or abs(value) >= 2**31:
        raise TypeError(f"{value!r} is no integer of a step")
    return value


def _real(value: Any) -> float:
    if not isinstance(value, int | float) or isinstance(value, bool) or not np.isfinite(value):
        raise TypeError(f"{value!r} is no number of a step")
    return float(value)


def _flag(value: Any) -> bool:
    if not isinstance(value, bool):
        raise TypeError(f"{value!r} is not true or false")
    return value


def _one_of(choices: Any) -> Callable[[Any], Any]:
    def read(value: Any) -> Any:
        if value not in get_args(choices):
            raise ValueError(f"{value!r} is none of {', '.join(get_args(choices))}")
        return value

    return read


_READERS: dict[str, Callable[[Any], Any]] = {
    "int": _whole,
    "float": _real,
    "bool": _flag,
    "tuple[float, ...]": lambda value: tuple(_real(item) for item in value),
    "tuple[int, ...]": lambda value: tuple(_whole(item) for item in value),
    "Operation": _one_of(Operation),
    "Rounding": _one_of(Rounding),
}
"""By the annotation of a field."""


def host_of_provenance(provenance: Mapping[str, Any], scale: float, zero_point: int, bits: int) -> HostWork:
    """The host's work that an older file says in its provenance: normalization, codes of the result, a Softmax.

    Args:
        provenance: of the network.
        scale, zero_point, bits: of its input.
    """
    before: tuple[Step, ...] = ()
    if "mean" in provenance:
        before = normalization(provenance["mean"], provenance["std"])
        before += (Quantize(scale, zero_point, 0, 2**bits - 1, "up"),)
    after: list[Step] = []
    if isinstance(result := provenance.get("result"), Mapping):
        after.append(RoundResults(*(int(result[key]) for key in ("fraction", "zero_point", "low", "high"))))
    names = [str(name).upper() for name in provenance.get("on_host") or []]
    after += [Softmax(0, logarithm="LOG" in name) for name in names if name.endswith("SOFTMAX")]
    return HostWork(before, tuple(after))


def normalization(mean: Any, std: Any) -> tuple[Step, ...]:
    """(x - mean) / std as steps."""
    return (Arithmetic("subtract", tuple(map(float, mean))), Arithmetic("divide", tuple(map(float, std))))

"""Components in Amaranth's simulator, cycle by cycle, and what their benches share."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Any, Literal

import numpy as np
from amaranth.hdl import Cat, Elaboratable, Module, Signal, Value
from amaranth.lib.wiring import Component, In, Out
from amaranth.sim import Simulator, SimulatorContext
from numpy.typing import ArrayLike, NDArray

from codesign.arch.band import Band
from codesign.arch.depthwise import Depthwise
from codesign.arch.hardware import Hardware
from codesign.arch.memory import Buffers, Memory
from codesign.arch.result_pooling import ResultPooling
from codesign.arch.scheme import Scheme
from codesign.formats.codes import decode
from codesign.rtl.array.processing_element import ProcessingElement
from codesign.rtl.array.row import decoded
from codesign.rtl.geometry import Geometry

IntArray = NDArray[np.int64]

POT4 = Band(scheme=Scheme.POT, weight_bits=4, rows=1)
FIXED4 = Band(scheme=Scheme.FIXED, weight_bits=4, rows=1, multiplier="lut")
FIXED8 = Band(scheme=Scheme.FIXED, weight_bits=8, rows=1)
POT5 = Band(scheme=Scheme.POT, weight_bits=5, rows=1)
LUT8 = Band(scheme=Scheme.FIXED, weight_bits=8, rows=1, multiplier="lut")
APOT4 = Band(scheme=Scheme.APOT, weight_bits=4, rows=1)
TERNARY = Band(scheme=Scheme.TERNARY, weight_bits=2, rows=1)
BINARY = Band(scheme=Scheme.BINARY, weight_bits=1, rows=1)
PACKED4 = Band(scheme=Scheme.FIXED, weight_bits=4, rows=2, pack=4)
PACKED8 = Band(scheme=Scheme.FIXED, weight_bits=8, rows=1, pack=2)


def geometry(
    *bands: Band,
    columns: int = 1,
    dot: int = 1,
    groups: int | None = None,
    act_bits: int = 4,
    act_modes: tuple[int, ...] = (),
    acc_bits: int = 24,
    multiplier_bits: Literal[16, 24] = 16,
    activation_words: int = 64,
    weight_words: int = 16,
    read_ports: int = 1,
    memory: Memory | None = None,
    dataflow: Literal["os", "ws"] = "os",
    device: str = "xc7z045",
    depthwise: Depthwise | None = None,
    result_rows: Literal[1, 2] = 1,
    result_pooling: ResultPooling | None = None,
) -> Geometry:
    """A small accelerator."""
    return Geometry(
        Hardware(
            name="bench",
            device=device,
            columns=columns,
            dot=dot,
            groups=groups or columns,
            act_bits=act_bits,
            act_modes=act_modes,
            acc_bits=acc_bits,
            multiplier_bits=multiplier_bits,
            dataflow=dataflow,
            depthwise=depthwise,
            result_rows=result_rows,
            result_pooling=result_pooling,
            bands=bands or (FIXED4,),
            buffers=Buffers(activation_words=activation_words, weight_words=weight_words, read_ports=read_ports),
            memory=memory or Memory(width_bits=64, latency=1),
        )
    )


def rows(band: Band, count: int) -> Band:
    """The band with `count` rows."""
    return band.model_copy(update={"rows": count})


def weight_values(band: Band) -> IntArray:
    """What every weight code of a band is worth."""
    half = 1 << (band.weight_bits - 1)
    code = np.arange(2 * half)
    if band.scheme is Scheme.FIXED:
        return np.where(code < half, code, code - 2 * half)
    if band.scheme is Scheme.BINARY:
        return np.array([-1, 1])
    if band.scheme is Scheme.TERNARY:
        return np.array([0, 1, 0, -1])  # a sign without a magnitude is zero, too
    if band.scheme in (Scheme.APOT, Scheme.SP2):
        return decode(code, band.scheme, band.weight_bits)
    exponent = code % half
    magnitude = np.where(exponent > 0, 2 ** np.maximum(exponent - 1, 0), 0)
    return np.where(code < half, magnitude, -magnitude)


def random_weights(rng: np.random.Generator, shape: Geometry, steps: int) -> tuple[IntArray, IntArray]:
    """Weights for all rows and the codes that stand for them in the rings: (step, row, dot).

    Packed bands hold symmetric weights; a row that shares a slice stores one less where the row before it stores a
    negative number.
    """
    values: list[IntArray] = []
    codes: list[IntArray] = []
    stored = np.zeros((steps, shape.dot), dtype=np.int64)
    for band in shape.bands:
        for row in range(band.rows):
            if band.pack == 1:
                codes.append(rng.integers(0, 1 << band.weight_bits, (steps, shape.dot)))
                values.append(weight_values(band)[codes[-1]])
            else:
                limit = (1 << band.weight_bits - 1) - 1
                values.append(rng.integers(-limit, limit + 1, (steps, shape.dot)))
                stored = values[-1] - (stored < 0 if row % shape.band_height(band) else 0)
                codes.append(stored & (1 << band.weight_bits) - 1)
    return np.stack(values, axis=1), np.stack(codes, axis=1)


def skewed(words: ArrayLike, shape: Geometry) -> IntArray:
    """Codes or weights (time, ..., dot), each as late as the array has those of its element; at first zeros."""
    values = np.asarray(words)
    late = [delayed(values[..., i], shape.skew(i)) for i in range(values.shape[-1])]
    return np.stack(late, axis=-1)


class StoredElement(Component):
    """A processing element that takes weights as they are stored: behind the row's decoder."""

    def __init__(self, shape: Geometry, band: Band) -> None:
        self.geometry, self.band = shape, band
        self.element = ProcessingElement(shape, band)
        super().__init__(
            dict(self.element.signature.members)
            | {"w": In(shape.dot * band.weight_bits), "decoded": Out(len(self.element.w))}
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.element = element = self.element
        m.d.comb += [
            self.decoded.eq(decoded(self.w, self.geometry, self.band)),
            element.w.eq(self.decoded),
        ]
        for name in ("a", "first", "done"):
            m.d.comb += getattr(element, name).eq(getattr(self, name))
        for name in ("a_out", "w_out", "first_out", "done_out", "result"):
            m.d.comb += getattr(self, name).eq(getattr(element, name))
        return m


def packed(codes: ArrayLike, bits: int) -> int:
    """Codes side by side in one word, the first one least significant."""
    return sum(int(code) << (i * bits) for i, code in enumerate(np.asarray(codes).reshape(-1)))


def as_signed(values: IntArray, bits: int) -> IntArray:
    """Two's complement patterns as the numbers they stand for."""
    return np.where(values >> (bits - 1) & 1, values - (1 << bits), values)


def delayed(values: IntArray, cycles: int) -> IntArray:
    """What a chain of `cycles` registers, zero at reset, shows of `values` (time first)."""
    return np.concatenate([np.zeros_like(values[:cycles]), values[: len(values) - cycles]])


def ports(component: Component, name: str) -> list[Value]:
    """The signals of a port, several if it is an array."""
    port = getattr(component, name)
    return [Value.cast(part) for part in (port if isinstance(port, list) else [port])]


def simulate(design: Elaboratable, bench: Callable[[SimulatorContext], Awaitable[None]]) -> None:
    """Run `bench` to its end, with a clock."""
    simulator = Simulator(design)
    simulator.add_clock(1e-6)
    simulator.add_testbench(bench)
    simulator.run()


def driven(component: Component, drive: Mapping[str, Sequence[Any] | NDArray[Any]], cycles: int) -> list[int]:
    """The inputs of every cycle side by side in one number, the first one lowest; values as `play` takes them."""
    words: list[int] = []
    for t in range(cycles):
        word, offset = 0, 0
        for name in drive:
            now = drive[name][min(t, len(drive[name]) - 1)]
            several = isinstance(getattr(component, name), list)
            for part, value in zip(ports(component, name), now if several else [now], strict=True):
                word |= (int(value) & ((1 << len(part)) - 1)) << offset
                offset += len(part)
        words.append(word)
    return words


def play(
    component: Component, drive: Mapping[str, Sequence[Any] | NDArray[Any]], watch: Sequence[str], cycles: int
) -> dict[str, NDArray[Any]]:
    """The outputs `watch` in every cycle while the inputs are driven, cycle by cycle.

    A port takes its values by cycle (array ports: by cycle and element), the last one until the end. Values come back
    in the same form; those wider than 63 bits as Python integers.
    """
    inputs = {name: ports(component, name) for name in drive}
    outputs = {name: ports(component, name) for name in watch}
    everything = Cat(*(part for parts in inputs.values() for part in parts))
    words = driven(component, drive, cycles)
    seen: dict[str, list[Any]] = {name: [] for name in watch}

    async def bench(ctx: SimulatorContext) -> None:
        for word in words:
            if len(everything):
                ctx.set(everything, word)
            for name, parts in outputs.items():
                seen[name].append([ctx.get(part) for part in parts])
            await ctx.tick()

    simulate(component, bench)
    result: dict[str, NDArray[Any]] = {}
    for name, parts in outputs.items():
        array = np.array(seen[name], dtype=np.int64 if len(parts[0]) < 64 else object)
        result[name] = array if isinstance(getattr(component, name), list) else array[:, 0]
    return result


def evaluate(inputs: Sequence[Signal], outputs: Sequence[Value], cases: Iterable[Sequence[int]]) -> IntArray:
    """The outputs of combinational logic for every case of its inputs: one row each."""
    m = Module()
    signals = [Signal(output.shape(), name=f"output_{i}") for i, output in enumerate(outputs)]
    m.d.comb += [signal.eq(output) for signal, output in zip(signals, outputs, strict=True)]
    seen: list[list[int]] = []

    async def bench(ctx: SimulatorContext) -> None:
        for case in cases:
            for signal, value in zip(inputs, case, strict=True):
                ctx.set(signal, value)
            seen.append([ctx.get(signal) for signal in signals])

    simulator = Simulator(m)
    simulator.add_testbench(bench)
    simulator.run()
    return np.array(seen, dtype=np.int64)

"""Several products in one DSP slice: every product, the extremes of every chain, and the cycles."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from amaranth.hdl import Module
from amaranth.lib.wiring import Component, In, Out

from codesign.arch.band import Band
from codesign.arch.scheme import Scheme
from codesign.program.packing import packed_weights
from codesign.rtl.array.packed import PackedElement
from codesign.rtl.geometry import Geometry
from tests.rtl.bench import IntArray, as_signed, delayed, geometry, packed, play, skewed


def band_of(weight_bits: int, pack: int) -> Band:
    return Band(scheme=Scheme.FIXED, weight_bits=weight_bits, rows=pack // 2, pack=pack)


FITTING = [
    (device, weight_bits, act_bits, pack)
    for device, port in (("xc7z045", 25), ("xck26", 27))
    for pack in (2, 4)
    for weight_bits in range(2, 9)
    for act_bits in range(2, 9)
    if band_of(weight_bits, pack).cascade_limit(act_bits, port=port) > 0
]
"""Every weight and activation width that a slice holds two or four products of."""


class Elements(Component):
    """One element for every weight of the first row; the second row's and the activations are common to all."""

    def __init__(self, shape: Geometry, band: Band) -> None:
        self.geometry, self.band, self.height = shape, band, shape.band_height(band)
        limit = (1 << band.weight_bits - 1) - 1
        self.first_row = list(range(-limit, limit + 1))
        super().__init__(
            {
                "a": In(shape.act_bits).array(2),
                "w": In(band.weight_bits),  # of the second row where the first row's weight is not negative
                "less": In(band.weight_bits),  # where it is
                "result": Out(shape.acc_bits).array(len(self.first_row) * 2 * self.height),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        for index, weight in enumerate(self.first_row):
            m.submodules[f"element_{index}"] = element = PackedElement(self.geometry, self.band)
            m.d.comb += [element.a[i].eq(self.a[i]) for i in range(2)]
            m.d.comb += [element.w[0].eq(weight), element.first.eq(1), element.done.eq(1)]
            if self.height == 2:
                m.d.comb += element.w[1].eq(self.less if weight < 0 else self.w)
            results = self.result[index * 2 * self.height :][: 2 * self.height]
            m.d.comb += [result.eq(shown) for result, shown in zip(results, element.result, strict=True)]
        return m


def late(values: IntArray) -> IntArray:
    """What the second column or row gets: one cycle later."""
    return np.concatenate([values[:1], values])


@pytest.mark.parametrize(("weight_bits", "act_bits", "pack"), [(4, 4, 4), (8, 4, 2)])
def test_every_product(weight_bits: int, act_bits: int, pack: int) -> None:
    """All codes of both columns with all weights of all rows, at once."""
    band = band_of(weight_bits, pack)
    shape = geometry(band, act_bits=act_bits)
    limit, size = (1 << weight_bits - 1) - 1, 1 << act_bits
    second = range(-limit, limit + 1) if pack == 4 else [0]
    a_0, a_1, w_1 = (grid.reshape(-1) for grid in np.meshgrid(range(size), range(size), second, indexing="ij"))
    elements = Elements(shape, band)
    first = np.array(elements.first_row)
    drive = {
        "a": np.stack([np.append(a_0, 0), late(a_1)], axis=1),
        "w": late(w_1),
        "less": late(packed_weights(np.full_like(w_1, -1), w_1)),
    }
    cycles = len(a_0) + shape.band_latency(band) + 2
    seen = as_signed(play(elements, drive, ["result"], cycles)["result"], shape.acc_bits)
    seen = seen.reshape(cycles, len(first), pack // 2, 2)
    for r, i in np.ndindex(pack // 2, 2):
        at = shape.band_latency(band) + r + i
        weights = np.broadcast_to(w_1[:, None] if r else first, (len(w_1), len(first)))
        assert np.array_equal(seen[at : at + len(a_0), :, r, i], weights * (a_1 if i else a_0)[:, None]), (r, i)


def run(
    shape: Geometry, band: Band, a: IntArray, w: IntArray, first: IntArray, done: IntArray, player: Any = play
) -> dict[str, IntArray]:
    """Inputs, and outputs as `seen_*`, for codes (step, column, dot) and weights (step, row, dot).

    The second column and the second row get theirs a cycle later. `player` simulates it.
    """
    codes = w.copy()
    if band.pack == 4:
        codes[:, 1] = packed_weights(w[:, 0], w[:, 1])
    codes &= (1 << band.weight_bits) - 1
    late_w, late_a = skewed(codes, shape), skewed(a, shape)
    words = np.array([[packed(now[r], band.weight_bits) for r in range(w.shape[1])] for now in late_w], dtype=object)
    groups = np.array([[packed(now[i], shape.act_bits) for i in range(2)] for now in late_a], dtype=object)
    for second in (groups, words):
        second[1:, 1:] = second[:-1, 1:].copy()
    drive = {"a": groups, "w": words, "first": first, "done": done}
    watch = ["result", "a_out", "w_out", "first_out", "done_out"]
    seen = player(PackedElement(shape, band), drive, watch, len(a))
    return drive | {f"seen_{name}": values for name, values in seen.items()}


@pytest.mark.parametrize("dot", [1, 3, 4, 5, 7, 8])
@pytest.mark.parametrize(("weight_bits", "pack"), [(4, 4), (5, 4), (8, 2)])
def test_accumulates_random_dot_products(weight_bits: int, pack: int, dot: int) -> None:
    rng = np.random.default_rng(dot)
    band = band_of(weight_bits, pack)
    shape = geometry(band, act_bits=4, dot=dot)
    latency, cycles, limit = shape.band_latency(band), 80, (1 << weight_bits - 1) - 1
    a = rng.integers(0, 16, (cycles, 2, dot))
    w = rng.integers(-limit, limit + 1, (cycles, pack // 2, dot))
    first, done = rng.integers(0, 5, cycles) == 0, rng.integers(0, 2, cycles)
    first[latency - 2] = True  # accumulators have no reset
    seen = run(shape, band, a, w, first, done)

    result = as_signed(seen["seen_result"], shape.acc_bits)
    for r, i in np.ndindex(pack // 2, 2):
        total, expected = 0, np.zeros(cycles + 2, dtype=np.int64)
        # the last step's codes of the second column or row are outside the run
        for t in range(latency - 2, cycles - 2):
            step = t - latency + 2
            total = (w[step, r] * a[step, i]).sum() + (0 if first[t] else total)
            expected[t + 2 + r + i] = total if done[t + 1] else 0
        stable = slice(latency + r + i, cycles)
        assert np.array_equal(result[stable, 2 * r + i], expected[stable]), (r, i)
    for name, cycles_late in (("a", shape.band_height(band)), ("w", 2), ("first", 2), ("done", 2)):
        assert np.array_equal(seen[f"seen_{name}_out"], delayed(np.array(seen[name]), cycles_late)), name


def test_chains_as_long_as_their_sums_fit() -> None:
    """Four products W4A4 leave fields of 10 bits, which hold 4 x 7 x 15; four products W8A8 fit no slice."""
    lengths = {(4, 4, 4): 4, (8, 4, 2): 4, (8, 8, 2): 1, (5, 4, 4): 2, (4, 5, 4): 2}
    for (weight_bits, act_bits, pack), length in lengths.items():
        band = band_of(weight_bits, pack)
        assert geometry(band, act_bits=act_bits, dot=4).cascade(band) == length, (weight_bits, act_bits, pack)
    assert band_of(8, 4).cascade_limit(8) == 0


@pytest.mark.parametrize(("device", "weight_bits", "act_bits", "pack"), FITTING)
def test_the_extremes_of_a_chain_stay_in_their_fields(device: str, weight_bits: int, act_bits: int, pack: int) -> None:
    """Largest codes and weights of either sign in all fields at once, for the longest chain that is allowed."""
    band = band_of(weight_bits, pack)
    port = 27 if device == "xck26" else 25
    dot = band.cascade_limit(act_bits, port=port)
    shape = geometry(band, act_bits=act_bits, dot=dot, device=device)
    assert shape.cascade(band) == dot
    # the DSP48E1: ports of 25 and 18 bits, sums of 48; the DSP48E2: 27 and 18
    field, height = shape.field_bits(band), pack // 2
    ports = sorted([field + act_bits + 1, weight_bits + (2 * field if height == 2 else 0)])
    assert ports[0] <= 18 and ports[1] <= port and 2 * height * field <= 48

    top, limit = (1 << act_bits) - 1, (1 << weight_bits - 1) - 1
    corners = [(c0, c1, w0, w1) for c0 in (0, 1, top) for c1 in (0, 1, top) for w0 in (-limit, -1, 0, limit)
               for w1 in ((-limit, -1, 0, limit) if height == 2 else (0,))]  # fmt: skip
    a = np.array([[[c0] * dot, [c1] * dot] for c0, c1, _, _ in corners])
    w = np.array([[[w0] * dot, [w1] * dot][:height] for _, _, w0, w1 in corners])
    idle = shape.band_latency(band) + 3
    a, w = (np.concatenate([part, np.zeros((idle, *part.shape[1:]), dtype=np.int64)]) for part in (a, w))
    always = np.ones(len(a), dtype=np.int64)
    result = as_signed(run(shape, band, a, w, always, always)["seen_result"], shape.acc_bits)
    for r, i in np.ndindex(height, 2):
        at = shape.band_latency(band) + r + i
        expected = (w[:, r] * a[:, i]).sum(axis=1)[: len(corners)]
        assert np.array_equal(result[at : at + len(corners), 2 * r + i], expected), (r, i)

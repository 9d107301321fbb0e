"""Pooling of results, against torch's own: every cycle of the docstring, maps of any size, strips of them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from codesign.arch.memory import Memory
from codesign.arch.result_pooling import ResultPooling as Key
from codesign.rtl.geometry import Geometry
from codesign.rtl.result_pooling import ResultPooling
from tests.rtl.bench import FIXED4, IntArray, geometry, play, rows

TWOS = Memory(width_bits=256, latency=1)
SHAPES = {
    "two columns": geometry(rows(FIXED4, 4), columns=2, result_pooling=Key(width=6)),
    "wide codes": geometry(rows(FIXED4, 5), columns=4, groups=5, act_bits=8, result_pooling=Key(width=12)),
    "six columns": geometry(rows(FIXED4, 7), columns=6, act_bits=3, result_pooling=Key(width=6)),
    "two rows a cycle": geometry(
        rows(FIXED4, 8), columns=4, dot=2, memory=TWOS, result_rows=2, result_pooling=Key(width=16)
    ),
}


def pooled(codes: IntArray, kernel: int) -> IntArray:
    """(channels, height, width) to half of both sides, by torch; windows of three begin in padding."""
    found = torch.nn.functional.max_pool2d(
        torch.from_numpy(codes).to(torch.float64), kernel, stride=2, padding=int(kernel == 3)
    )
    result: IntArray = found.numpy().astype(np.int64)
    return result


def flags(geometry: Geometry, height: int, tiles: int, threes: bool, halo: bool) -> list[dict[str, int]]:
    """Those of every row of the array of every tile, in the order in which they leave."""
    leaving = geometry.rows // geometry.result_rows
    return [
        {
            "here": 1,
            "begins": int(tile == 0),
            "opens": int(line == 0 or (not threes and (line + halo) % 2 == 0)),
            "ends": (line + halo) % 2,
            "row_ends": int(row == leaving - 1),
            "line_ends": int(row == leaving - 1 and tile == tiles - 1),
        }
        for line in range(height)
        for tile in range(tiles)
        for row in range(leaving)
    ]


@pytest.mark.parametrize("name", SHAPES)
@settings(max_examples=12, deadline=None)
@given(data=st.data())
def test_maxima_are_those_of_torch(name: str, data: st.DataObject) -> None:
    """Two layers one after the other; of strips that begin with a halo the windows above are another strip's."""
    shape = SHAPES[name]
    assert shape.hw.result_pooling is not None
    rng = np.random.default_rng(data.draw(st.integers(0, 1 << 32)))
    columns, leaving, channels = shape.columns, shape.rows // shape.result_rows, shape.rows
    most = shape.hw.result_pooling.width // columns
    names = ["", "second_"][: shape.result_rows]
    drive: dict[str, list[Any]] = {key: [] for key in ("pools", "threes", *flags(shape, 1, 1, False, False)[0])}
    drive |= {f"{prefix}codes": [] for prefix in names}
    wanted: list[tuple[int, str, IntArray]] = []  # cycle, port, codes of the first lanes

    def put(values: dict[str, Any], codes: list[IntArray]) -> None:
        for key in ("pools", "threes", "here", "begins", "opens", "ends", "row_ends", "line_ends"):
            drive[key].append(values.get(key, int(rng.integers(2)) if key not in ("here", "pools", "threes") else 0))
        for prefix, lanes in zip(names, codes, strict=True):
            drive[f"{prefix}codes"].append(lanes)

    def noise() -> list[IntArray]:
        return [rng.integers(0, 1 << shape.act_bits, columns) for _ in names]

    for _ in range(2):
        pools, threes = data.draw(st.booleans()), data.draw(st.booleans())
        halo = threes and data.draw(st.booleans())
        lines, tiles = 2 * data.draw(st.integers(1, 3)), data.draw(st.integers(1, most))
        # of a strip with a halo the map begins two rows above it
        above = 1 if halo else 0
        whole = rng.integers(0, 1 << shape.act_bits, (channels, 2 + lines if halo else lines, tiles * columns))
        given_map = whole[:, above:]
        want = pooled(whole, 3 if threes else 2)[:, above:]
        layer = {"pools": int(pools), "threes": int(threes)}
        for number, told in enumerate(flags(shape, given_map.shape[1], tiles, threes, halo)):
            tile, row = divmod(number, leaving)
            line, tile = divmod(tile, tiles)
            here = slice(tile * columns, (tile + 1) * columns)
            codes = [given_map[row + i * leaving, line, here] for i in range(len(names))]
            while rng.random() < 0.1 and row == 0:
                put(layer | {"here": 0}, noise())
            put(layer | told if pools else layer | {"here": 0}, codes)
            cycle = len(drive["here"]) - 1 + 3
            for i, prefix in enumerate(names):
                channel = row + i * leaving
                if not pools:
                    wanted.append((cycle, f"{prefix}results", codes[i]))
                elif told["ends"] and line > 0:
                    y = (line + halo) // 2 - halo
                    part = want[channel, y, here.start // 2 : here.stop // 2]
                    wanted.append((cycle, f"{prefix}results", part))
        for _ in range(5):
            put(layer | {"here": 0}, noise())
    seen = play(ResultPooling(shape), drive, [f"{prefix}results" for prefix in names], len(drive["here"]))
    for cycle, port, lanes in wanted:
        assert seen[port][cycle, : len(lanes)].tolist() == lanes.tolist(), (cycle, port)

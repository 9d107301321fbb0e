"""How the output pixels of a pass are cut: tiles of `columns` pixels, or blocks of tiles where weights stay."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import ceil

from codesign.rtl.geometry import Geometry
from codesign.rtl.latencies import PASS_CYCLES


@dataclass(frozen=True)
class Tiling:
    """The tiles of a pass (weight stationary: blocks; pooling: windows).

    Attributes:
        count: tiles of a pass.
        cycles, last_cycles: cycles of a tile, and of the last one.
        gap: idle cycles after every tile.
        drains: how many times `columns` pixels of all rows leave after the last tile.
        early: cycles from the read that starts the last tile's drain to the tile's end.
        block, last_block: cycles of a tap, some of them perhaps behind the map's end; 0 unless weights are stationary.
        block_drains: `drains` of the other tiles.
    """

    count: int
    cycles: int
    last_cycles: int
    gap: int
    drains: int = 1
    early: int = 0
    block: int = 0
    last_block: int = 0
    block_drains: int = 0

    @property
    def issue(self) -> int:
        """Cycles of a pass in which its tiles are computed."""
        return (self.count - 1) * self.cycles + self.last_cycles

    @property
    def length(self) -> int:
        """Cycles of a pass."""
        return self.issue + self.count * self.gap

    def fields(self) -> dict[str, int]:
        """Descriptor fields."""
        blocks = {
            "block": self.block,
            "last_block": self.last_block,
            "block_tiles": self.block_drains,
            "last_block_tiles": self.drains,
        }
        return {"tiles": self.count, "gap": self.gap, **(blocks if self.block else {})}


def tile_pixels(
    pixels: int, taps: int, passes: int, geometry: Geometry, half: bool = False, twos: bool = False
) -> Tiling:
    """The fastest way to cut `pixels` output pixels whose windows have `taps` activation words, for some passes.

    With `half`, the words are at most half full (`Geometry.halves`); with `twos`, rows leave so (`PassPlan.twos`).
    """
    if not geometry.weight_stationary:
        cycles = taps * geometry.tap_cycles(half)
        # the second reader says where the next tile begins when its first tap is over
        least = geometry.groups if half and geometry.second_reader else 0
        return Tiling(
            ceil(pixels / geometry.columns), cycles, cycles, max(0, max(geometry.leaving(twos), least) - cycles)
        )

    def cost(tiling: Tiling) -> tuple[int, int]:
        tail = tiling.drains * geometry.rows - tiling.early - tiling.gap
        return passes * tiling.length + max(0, tail), tiling.count

    return min(_blocks(pixels, taps, geometry), key=cost)


def _blocks(pixels: int, taps: int, geometry: Geometry) -> Iterator[Tiling]:
    """Every size of a block, with the gap that keeps one drain from running into the next."""
    rows, columns, least = geometry.rows, geometry.columns, geometry.least_block

    def ahead(block: int) -> int:
        """Cycles from the start of a drain to the end of its block."""
        return block - 1 if geometry.drains_early else 0

    for drains in range(ceil(least / columns), geometry.block_tiles + 1):
        block = drains * columns
        count = ceil(pixels / block)
        left = pixels - (count - 1) * block
        last = max(left, least)
        last_drains = ceil(left / columns)
        if count == 1:
            gap = last_drains * rows - taps * last - PASS_CYCLES
            block, drains = last, last_drains
        else:
            gap = max(0, drains * rows - taps * block) if count > 2 else 0
            # a last block too short for the drain before it is made longer, which costs less than a longer gap for all
            wanted = drains * rows - gap - ahead(block)
            if geometry.drains_early:
                last = max(last, min(block, ceil((wanted - 1) / (taps - 1)))) if taps > 1 else last
            else:
                last = max(last, min(block, ceil(wanted / taps)))
            gap = max(
                gap,
                drains * rows - ahead(block) - taps * last + ahead(last),
                last_drains * rows - ahead(last) - taps * block + ahead(block) - PASS_CYCLES,
            )
        yield Tiling(
            count=count,
            cycles=taps * block,
            last_cycles=taps * last,
            gap=max(0, gap),
            drains=last_drains,
            early=ahead(last),
            block=block,
            last_block=last,
            block_drains=drains,
        )
        if count == 1:
            return

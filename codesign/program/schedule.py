"""What a schedule consists of: stored maps and steps."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from functools import cached_property

from codesign.program.placement import Place
from codesign.program.shapes import ConvShape, LayerShape, MapShape

Rows = tuple[int, int]
"""Half-open range of map rows."""


class Kind(Enum):
    """What a step does that has no layer of the network."""

    COPY = "copy"
    LOAD = "load"
    STORE = "store"
    FENCE = "fence"


@dataclass(frozen=True)
class StoredMap:
    """Rows `rows` of a tensor, as they lie in an activation memory; `use` tells apart those that are stored twice."""

    tensor: MapShape
    rows: Rows
    use: str = ""

    @cached_property
    def name(self) -> str:
        """Unique name of the stored rows."""
        whole = self.rows == (0, self.tensor.height)
        part = "" if whole else f" rows {self.rows[0]} to {self.rows[1] - 1}"
        return f"{self.tensor.name}{part}{f' ({self.use})' if self.use else ''}"


@dataclass(frozen=True, eq=False)
class Step:
    """One descriptor: a layer on some rows, or what `kind` says.

    Attributes:
        index: place of the network layer, -1 for a load or fence; of a store or copy, the layer whose output it is.
        layer: the layer (or the copy, a pooling over one pixel) with the padding these rows need; its output tensor
            has only `rows` of height.
        rows: rows of the output tensor that are computed (or that are loaded or stored).
        source, target, residual: stored maps that are read and written; target None for int32 results. A store reads
            `rows` of `source` and writes them where the load of `target` reads them; the network's result if target
            is None.
        early: of a load: whether it may begin while the step before runs.
    """

    index: int
    layer: LayerShape | None
    rows: Rows
    source: StoredMap | None
    target: StoredMap | None
    residual: StoredMap | None
    kind: Kind | None = None
    early: bool = False


@dataclass(frozen=True, eq=False)
class Schedule:
    """Steps in order, and where every stored map lies.

    `strips` says in how many strips the first layers run, `spilled` how many layers run in stages, from and to memory.
    """

    steps: tuple[Step, ...]
    places: dict[str, Place]
    strips: int
    spilled: int = 0


def input_rows(layer: LayerShape, rows: Rows, height: int) -> tuple[Rows, int, int]:
    """Input rows that output rows need, and the padding above and below them."""
    begin, end = computed_rows(layer, rows)
    first = begin * layer.stride[0] - layer.padding[0]
    last = (end - 1) * layer.stride[0] - layer.padding[0] + layer.kernel[0]
    return (max(0, first), min(height, last)), max(0, -first), max(0, last - height)


def computed_rows(layer: LayerShape, rows: Rows) -> Rows:
    """Rows of a layer's results that output rows need: the same unless maxima of results are written."""
    if not isinstance(layer, ConvShape) or layer.pooled is None:
        return rows
    return 2 * rows[0] - shares_row(layer, rows), 2 * rows[1]


def shares_row(layer: ConvShape, rows: Rows) -> bool:
    """Whether the pooled windows of output rows have a row of results in common with those above."""
    return layer.pooled is not None and layer.pooled.kernel == 3 and rows[0] > 0

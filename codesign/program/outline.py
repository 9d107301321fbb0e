"""Outlines: the steps of a schedule and the lives of their maps, for codes of any widths.

Which rows a step computes, and which maps it reads, depends on the sizes of the maps only. The widths of their codes
decide how many words the maps take, and with that whether they fit.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

from codesign.errors import UserError
from codesign.program.placement import MapUse, Placed, PlacementError, Placer, check_alone, no_room
from codesign.program.schedule import Step, StoredMap
from codesign.program.shapes import ConvShape, MapShape
from codesign.rtl.geometry import Geometry


class Misfit(NamedTuple):
    """A map that does not fit beside others: its number, and the flags (`Flags`) that decided about it."""

    number: int
    looked_at: int


class Outline:
    """Steps without the places of their maps.

    Attributes:
        steps: in order; bits of their tensors say nothing.
        maps: what is stored, in the order of its birth.
        too_wide: flags of the widths of tensors with which some of their stored rows exceed a memory.
    """

    def __init__(self, steps: Sequence[Step], geometry: Geometry, depth: int, flags: Flags) -> None:
        """Find out when every map is needed.

        Raises:
            UserError: a layer adds the map that it convolves.
        """
        self.steps = tuple(steps)
        self.depth = depth
        self._flags = flags
        born: dict[str, int] = {}
        dies: dict[str, int] = {}
        apart: dict[str, set[str]] = {}
        replaces: dict[str, str] = {}
        sources: dict[str, str] = {}
        maps: dict[str, StoredMap] = {}
        for number, step in enumerate(self.steps):
            if step.source is not None:
                dies[step.source.name] = number
            if step.residual is not None and step.source is not None:
                if step.residual.name == step.source.name:
                    assert step.layer is not None
                    raise UserError(
                        f"{step.layer.name}: the residual operand {step.residual.tensor.name} is the map the layer "
                        "convolves; they must be different maps"
                    )
                dies[step.residual.name] = number
                apart.setdefault(step.residual.name, set()).add(step.source.name)
                apart.setdefault(step.source.name, set()).add(step.residual.name)
            if step.target is not None:
                maps[step.target.name] = step.target
                born.setdefault(step.target.name, number)
                dies[step.target.name] = max(number, dies.get(step.target.name, number))
                if step.source is not None:
                    sources.setdefault(step.target.name, step.source.name)
                if step.residual is not None:
                    replaces[step.target.name] = step.residual.name
        beside = _between_residuals(self.steps, sources, apart) if geometry.hw.depthwise else set()
        self.maps = tuple(maps.values())
        self._words = [words_by_width(stored, geometry) for stored in self.maps]
        self._uses = [
            MapUse(
                name=name,
                words=0,
                born=born[name],
                dies=dies[name],
                apart_from=tuple(sorted(apart.get(name, ()))),
                may_replace=replaces[name] if name in replaces and dies[replaces[name]] == born[name] else None,
                prefers_not=sources.get(name),
                beside=name in beside,
            )
            for name in maps
        ]
        self._tensors = [stored.tensor.name for stored in self.maps]
        self._placer: Placer | None = None
        self._two_readers = geometry.second_reader
        self.too_wide = self._flags(
            (stored.tensor.name, width)
            for stored, words in zip(self.maps, self._words, strict=True)
            for width, count in enumerate(words)
            if count > depth
        )
        self._first: dict[int, int] = {}
        self._failed: dict[int, dict[int, int]] = {}  # by the flags that were looked at: the map that did not fit

    def place(self, widths: Mapping[str, int], given: int) -> Placed | Misfit:
        """Places of `maps`, or the one that does not fit beside others.

        Args:
            widths: places in `Geometry.code_widths` by tensor.
            given: the `flags` of the same.
        """
        for looked_at, known in self._failed.items():
            if (number := known.get(given & looked_at)) is not None:
                return Misfit(number, looked_at)
        if self._placer is None:
            self._placer = Placer(self._uses, self._words, self.depth)
        found = self._placer.place([widths[tensor] for tensor in self._tensors])
        if isinstance(found, int):  # whatever comes behind the map has not been looked at
            looked_at = self._of_first(found + 1)
            self._failed.setdefault(looked_at, {})[given & looked_at] = found
            return Misfit(found, looked_at)
        return found

    def deciding(self, placed: Placed) -> int:
        """The flags that decide that maps have the places that `place` has found.

        Where there are two readers, in which memory a map lies matters, too, so that all flags do.
        """
        assert self._placer is not None
        return self._of_first(len(self._tensors) if self._two_readers else self._placer.deciding(placed))

    def _of_first(self, count: int) -> int:
        """The flags of any widths of the first maps."""
        if count not in self._first:
            kinds = range(len(self._words[0]))
            self._first[count] = self._flags((tensor, width) for tensor in self._tensors[:count] for width in kinds)
        return self._first[count]

    def born(self, number: int) -> int:
        """The step that produces a map."""
        return self._uses[number].born

    def alone(self, widths: Mapping[str, int]) -> UserError:
        """The error that the first map of those that do does not fit an empty memory."""
        for stored, words, use in zip(self.maps, self._words, self._uses, strict=True):
            try:
                check_alone(stored.name, words[widths[stored.tensor.name]], use.born, self.depth)
            except UserError as error:
                return error
        raise AssertionError("every map fits")

    def no_room(self, number: int, widths: Mapping[str, int]) -> PlacementError:
        """The error that a map does not fit beside others."""
        words = [sizes[widths[tensor]] for sizes, tensor in zip(self._words, self._tensors, strict=True)]
        uses = [replace(use, words=size) for use, size in zip(self._uses, words, strict=True)]
        return no_room(uses, number, self.depth)


def _between_residuals(steps: Iterable[Step], sources: Mapping[str, str], apart: Mapping[str, set[str]]) -> set[str]:
    """Maps that depthwise layers read inside inverted residual blocks: from x comes e, from e d, and from d and x what
    follows. If e lies beside x, d lies apart from both, and two readers may read e.
    """
    found: set[str] = set()
    for step in steps:
        layer = step.layer
        if isinstance(layer, ConvShape) and layer.groups == layer.filters > 1 and step.source and step.target:
            origin = sources.get(step.source.name)
            if origin is not None and origin in apart.get(step.target.name, ()):
                found.add(step.source.name)
    return found


class Flags:
    """A number for tensors and widths of codes: a bit for each pair, so that sets of them meet in one operation."""

    def __init__(self) -> None:
        self._bits: dict[tuple[str, int], int] = {}

    def __call__(self, pairs: Iterable[tuple[str, int]]) -> int:
        """The flags of some (tensor, width)."""
        found = 0
        for pair in pairs:
            bit = self._bits.get(pair)
            if bit is None:
                bit = self._bits[pair] = 1 << len(self._bits)
            found |= bit
        return found


def words_by_width(stored: StoredMap, geometry: Geometry) -> tuple[int, ...]:
    """Activation words of stored rows at every width of codes."""
    pixels, channels = (stored.rows[1] - stored.rows[0]) * stored.tensor.width, stored.tensor.channels
    return tuple(-(-channels // codes) * pixels for codes in geometry.codes_by_width)


def width_of(tensor: MapShape, geometry: Geometry) -> int:
    """The place of a tensor's width of codes in `Geometry.code_widths`."""
    return geometry.code_widths.index(geometry.hw.code_bits(tensor.bits))

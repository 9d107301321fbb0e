"""Making a failing case smaller, greedily: what still fails is kept, until nothing smaller that is tried does."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import chain
from typing import Any

from codesign.arch.documents import parse
from codesign.arch.hardware import Hardware
from codesign.errors import UserError
from codesign.verify.layers import weight_formats
from codesign.verify.recipe import Block, Recipe


@dataclass(frozen=True)
class Case:
    """One hardware and one network.

    Attributes:
        images: computed from one start.
    """

    hardware: Hardware
    recipe: Recipe
    images: int = 1


Fails = Callable[[Case], bool]
"""Whether a case still fails; a case that cannot be compiled does not."""


def shrink(case: Case, fails: Fails, builds: int, runs: int = 200) -> Case:
    """The smallest failing case that greedy steps find.

    Networks, and how many images one start computes, are made smaller first, since each of those tries is only a run;
    then the hardware, each try a build; then the network again.

    Args:
        case: fails.
        fails: tells whether another one does.
        builds: how many other hardware may be tried.
        runs: how many other networks may be tried on each hardware.
    """
    case = _smaller_network(case, fails, runs)
    found = True
    while found and builds > 0:
        found = False
        for hardware in smaller_hardware(case.hardware):
            if builds <= 0:
                break
            builds -= 1
            tried = _on(case, hardware)
            if fails(tried):
                case, found = _smaller_network(tried, fails, runs), True
                break
    return case


def _smaller_network(case: Case, fails: Fails, runs: int) -> Case:
    found = True
    while found and runs > 0:
        found = False
        fewer = (replace(case, images=images) for images in _down(case.images, 1))
        for tried in chain(fewer, (replace(case, recipe=recipe) for recipe in smaller_recipes(case.recipe))):
            if runs <= 0:
                break
            runs -= 1
            if fails(tried):
                case, found = tried, True
                break
    return case


def _on(case: Case, hardware: Hardware) -> Case:
    """The case on another hardware: formats and bits that it has not are left out or lowered."""
    held = weight_formats(hardware)
    formats = tuple(item for item in case.recipe.formats if item in held) or tuple(held)
    limit = hardware.most_bits
    blocks = tuple(replace(block, bits=tuple(min(bits, limit) for bits in block.bits)) for block in case.recipe.blocks)
    recipe = replace(case.recipe, formats=formats, bits=min(case.recipe.bits, limit), blocks=blocks)
    return replace(case, hardware=hardware, recipe=recipe)


def smaller_recipes(recipe: Recipe) -> Iterator[Recipe]:
    """Networks that are smaller by one step, the largest steps first."""
    blocks = recipe.blocks
    for index in range(len(blocks)):
        yield replace(recipe, blocks=blocks[:index] + blocks[index + 1 :])
    for index, block in enumerate(blocks):
        for smaller in _smaller_blocks(block):
            yield replace(recipe, blocks=(*blocks[:index], smaller, *blocks[index + 1 :]))
    for place in range(3):
        for size in _down(recipe.shape[place], 1):
            sizes = [*recipe.shape[:place], size, *recipe.shape[place + 1 :]]
            yield replace(recipe, shape=(sizes[0], sizes[1], sizes[2]))
    for classes in _down(recipe.classes, 1):
        yield replace(recipe, classes=classes)
    if len(recipe.formats) > 1:
        for item in recipe.formats:
            yield replace(recipe, formats=(item,))


def _smaller_blocks(block: Block) -> Iterator[Block]:
    if block.kind == "residual":
        yield replace(block, kind="conv", bits=block.bits[:1])
    if block.groups > 1:
        yield replace(block, groups=1, filters=max(1, block.filters // block.groups))
    for filters in _down(block.filters, 1):
        if filters % block.groups == 0:
            yield replace(block, filters=filters)
    if any(block.padding):
        yield replace(block, padding=(0, 0, 0, 0))
    for place in range(2):
        for size in _down(block.kernel[place], 1):
            kernel = (size, block.kernel[1]) if place == 0 else (block.kernel[0], size)
            top, bottom, left, right = block.padding
            pads = (min(top, kernel[0] - 1), min(bottom, kernel[0] - 1), min(left, kernel[1] - 1))
            yield replace(block, kernel=kernel, padding=(*pads, min(right, kernel[1] - 1)))
        if block.stride[place] > 1:
            yield replace(block, stride=(1, block.stride[1]) if place == 0 else (block.stride[0], 1))


def smaller_hardware(hw: Hardware) -> Iterator[Hardware]:
    """Hardware that is simpler by one step; what cannot be built is left out."""
    data = hw.model_dump(mode="json")
    tries: list[dict[str, Any]] = []
    if len(hw.bands) > 1:
        tries += [data | {"bands": data["bands"][:i] + data["bands"][i + 1 :]} for i in range(len(hw.bands))]
    for key, least in (("columns", 1), ("dot", 1)):
        for value in _down(getattr(hw, key), least):
            groups = value + hw.groups - hw.columns if key == "columns" else hw.groups
            tries.append(data | {key: value, "groups": groups})
    if hw.has_modes:
        plain = [band | {"crumbs": False} for band in data["bands"]]
        tries.append(data | {"act_modes": [], "bands": plain})
        for mode in hw.act_modes:
            if mode != hw.act_bits:
                rest = [other for other in hw.act_modes if other != mode]
                tries.append(data | {"act_modes": rest, "bands": plain if mode == hw.narrow_bits else data["bands"]})
    if hw.buffers.read_ports > 1:  # two need even groups and most of the columns, so it must go before these can
        tries.append(data | {"buffers": data["buffers"] | {"read_ports": 1}})
    if hw.depthwise is not None:
        tries.append(data | {"depthwise": None})
    if hw.images:
        tries.append(data | {"images": False})
    if hw.result_pooling is not None:
        tries.append(data | {"result_pooling": None})
    if hw.groups > hw.columns:
        tries.append(data | {"groups": hw.columns})
    for index, band in enumerate(data["bands"]):
        changes: list[dict[str, Any]] = [{"rows": rows} for rows in _down(band["rows"], 1)]
        changes += [{"pack": 1}] if band["pack"] > 1 else []
        changes += [{"pairs": False}] if band["pairs"] else []
        changes += [{"crumbs": False}] if band["crumbs"] else []
        for change in changes:
            bands = [*data["bands"][:index], band | change, *data["bands"][index + 1 :]]
            tries.append(data | {"bands": bands})
    memory = data["memory"]
    if hw.memory.ports > 1:
        tries.append(data | {"memory": memory | {"ports": 1}})
    for key in ("cycles_per_beat", "latency", "burst_beats"):
        if memory[key] != 1:
            tries.append(data | {"memory": memory | {key: 1}})
    if memory["refresh_interval"] is not None:
        tries.append(data | {"memory": memory | {"refresh_interval": None, "refresh_cycles": None}})
    for tried in tries:
        try:
            yield parse(json.dumps(tried), hw.name, Hardware, {})
        except UserError:
            continue


def _down(value: int, least: int) -> list[int]:
    """Smaller values: the least, half, one less."""
    return sorted({x for x in (least, value // 2, value - 1) if least <= x < value})

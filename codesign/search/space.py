"""What a search may choose from: hardware variants, and the ratio of row formats each one computes with."""

from __future__ import annotations

import hashlib
import itertools
import json
import re
from pathlib import Path
from typing import Annotated, Any

from pydantic import BeforeValidator

from codesign.arch.band import PACKS, Band, Dataflow
from codesign.arch.checks import choice, integer, number, rejected, shown
from codesign.arch.documents import Model, checked, parse, read_text
from codesign.arch.hardware import Hardware
from codesign.arch.load import config_names, find_config, load_hardware
from codesign.arch.scheme import Scheme
from codesign.errors import UserError
from codesign.formats.ratio import Ratio, parse_ratio, row_counts
from codesign.formats.ratio import band_ratio as band_ratio
from codesign.formats.row_format import RowFormat
from codesign.sim.synthesis.resource_levels import RESOURCE_LEVELS, ResourceLevel
from codesign.workload import zoo
from codesign.workload.network import Network

ALIKE = 0.15
"""Sum of the differences of all shares up to which two ratios are taken for the same: rows are whole."""


def suited(ratio: Ratio, act_bits: int) -> list[str]:
    """The accelerators of hw_configs whose bands have these row formats in about this ratio, and these activations."""
    found, whole = [], sum(ratio.values())
    for name in config_names():
        hw = load_hardware(name)
        own = band_ratio(hw)
        apart = sum(abs(own.get(form, 0.0) - ratio.get(form, 0.0) / whole) for form in {*own, *ratio})
        if hw.act_bits == act_bits and apart <= ALIKE:
            found.append(name)
    return found


def base_ratio(hw: Hardware) -> str:
    """`band_ratio` as text, such as `pot4:12,fixed4:8`: the rows of each format."""
    counts: dict[str, int] = {}
    for band in hw.bands:
        form = str(RowFormat(band.scheme, band.weight_bits))
        counts[form] = counts.get(form, 0) + band.rows
    return ",".join(f"{form}:{count}" for form, count in counts.items())


def _ratio(value: object) -> str:
    try:
        parse_ratio(value if isinstance(value, str) else "")
    except UserError as error:
        raise rejected(
            f"{shown(value)} given, must be shares of row formats such as pot4:60,fixed4:40 ({error})"
        ) from None
    assert isinstance(value, str)
    return value


class Space(Model):
    """A search: every combination of `ratios`, `rows`, `columns`, `dot` and `dataflows` on a base configuration.

    Attributes:
        network: name in the zoo, with options as `zoo_network` reads them.
        data: name of a data set.
        base: hardware the variants are made from; its bands say what products of fixed rows are built of.
        ratios: shares of row formats, each dealt to the rows of the array as its bands.
        rows, columns, dot: sizes to try; the base's own where none are given.
        dataflows: `os`, `ws` or both; the base's own where none are given.
        float_epochs, epochs: training in float, done once, and with the quantizers, for each ratio (0 calibrates only).
        accuracy_loss: the chosen point is the fastest one whose accuracy is at most this much below the best.
        images: test images that verify the chosen point on RTL.
        seed: of training and of everything random.
        resources: `predicted` synthesizes nothing, `front` what is proposed, `synthesized` every variant.
    """

    network: str
    data: str
    base: str
    ratios: tuple[Annotated[str, BeforeValidator(_ratio)], ...]
    rows: tuple[Annotated[int, integer(1, 1024)], ...] = ()
    columns: tuple[Annotated[int, integer(1, 64)], ...] = ()
    dot: tuple[Annotated[int, integer(1, 32)], ...] = ()
    dataflows: tuple[Annotated[Dataflow, choice("os", "ws")], ...] = ()
    float_epochs: Annotated[int, integer(1, 10_000)] = 20
    epochs: Annotated[int, integer(0, 10_000)] = 3
    accuracy_loss: Annotated[float, number(-1e-9, 1)] = 0.01
    images: Annotated[int, integer(1, 10_000)] = 20
    seed: Annotated[int, integer(0, 2**31 - 1)] = 0
    resources: Annotated[ResourceLevel, choice(*RESOURCE_LEVELS)] = "front"

    def hardware(self) -> tuple[tuple[Hardware, ...], dict[str, str]]:
        """All variants, in the order of the keys, and by name why others cannot be built.

        Raises:
            UserError: the base is missing, or not one variant can be built; the message is the first one's.
        """
        base = load_hardware(self.base)
        found: dict[str, Hardware] = {}
        refused: dict[str, str] = {}
        sizes = itertools.product(
            self.dataflows or (base.dataflow,),
            self.rows or (base.rows,),
            self.columns or (base.columns,),
            self.dot or (base.dot,),
        )
        for (dataflow, rows, columns, dot), ratio in itertools.product(list(sizes), self.ratios):
            name = variant_name(rows, columns, dot, ratio, dataflow)
            try:
                found.setdefault(name, variant(base, rows, columns, dot, ratio, dataflow))
            except UserError as error:
                refused[name] = str(error).removeprefix(f"{name}: ")
        if not found:
            name, reason = next(iter(refused.items()))
            raise UserError(f"no variant can be built; {name}: {reason}")
        return tuple(found.values()), refused

    @property
    def content_hash(self) -> str:
        """16 hexadecimal digits that identify the space."""
        text = json.dumps(self.model_dump(mode="json"), sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]


def zoo_network(text: str) -> Network:
    """The network of the zoo called `text`; options follow a colon, as in `smallcnn:size=32,channels=3`."""
    return zoo.get(text.partition(":")[0], **zoo_options(text))


def zoo_options(text: str) -> dict[str, int]:
    """The options behind the colon; UserError unless they are NAME=NUMBER."""
    rest = text.partition(":")[2]
    options: dict[str, int] = {}
    for part in rest.split(",") if rest else []:
        key, _, value = part.partition("=")
        if not re.fullmatch(r"[0-9]{1,9}", value) or int(value) < 1:
            raise UserError(f"{text}: '{part}' given, must be OPTION=NUMBER such as size=32")
        options[key] = int(value)
    return options


def load_space(path_or_name: str | Path) -> Space:
    """The space of a YAML file, or of the one called `path_or_name` in hw_configs/search/.

    Raises:
        UserError: one line, if it cannot be used.
    """
    path = find_config(path_or_name, "search")
    space = parse(read_text(path), str(path), Space, {})
    if not space.ratios:
        raise UserError(f"{path}: ratios: [] given, must be at least one")
    return space


def variant_name(rows: int, columns: int, dot: int, ratio: str, dataflow: Dataflow = "os") -> str:
    """Such as `pot4x12_fixed4x7_fixed8x1_c4_d4`; the weight-stationary one ends with `_ws`."""
    counts = row_counts(rows, parse_ratio(ratio))
    bands = "_".join(f"{form}x{count}" for form, count in counts.items() if count)
    return f"{bands}_c{columns}_d{dot}{'_ws' if dataflow == 'ws' else ''}"


def variant(
    base: Hardware, rows: int, columns: int, dot: int, ratio: str, dataflow: Dataflow | None = None
) -> Hardware:
    """`base` with another size, perhaps another dataflow, and one band for every format of `ratio` that gets a row.

    Fixed bands are built as the base's of the same bits, packed if they are and as far as the rows and the dataflow
    allow; codes of two widths and pairs of rows stay where rows and dataflow allow them. The activation memories keep
    their capacity in codes.
    UserError when the variant is no valid hardware.
    """
    values = variant_values(base, rows, columns, dot, ratio, dataflow)
    return checked(values, values["name"], Hardware, {})


def variant_values(
    base: Hardware, rows: int, columns: int, dot: int, ratio: str, dataflow: Dataflow | None = None
) -> dict[str, Any]:
    """The description of a `variant`, not checked."""
    dataflow = dataflow or base.dataflow
    fixed = {band.weight_bits: band for band in base.bands if band.scheme is Scheme.FIXED}
    counts = {form: count for form, count in row_counts(rows, parse_ratio(ratio)).items() if count}
    bands: list[dict[str, Any]] = []
    for form, count in counts.items():
        band: dict[str, Any] = {"scheme": str(form.scheme), "weight_bits": form.bits, "rows": count}
        if form.scheme is Scheme.FIXED:
            model = fixed.get(form.bits)
            band["multiplier"] = model.multiplier if model else "dsp"
            band["pack"] = best_pack(model, count, dataflow, base) if model else 1
            band["pairs"] = model is not None and model.pairs and dataflow == "os" and count % 2 == 0
        bands.append(band)
    codes = base.buffers.activation_words * base.word_elements
    groups = columns if base.groups == base.columns else max(columns, base.groups)
    words = max(16, 1 << (codes // (groups * dot) - 1).bit_length())
    return base.model_dump(mode="json") | {
        "name": variant_name(rows, columns, dot, ratio, dataflow),
        "columns": columns,
        "groups": groups,
        "dot": dot,
        "dataflow": dataflow,
        "act_modes": base.act_modes if dataflow == "os" and dot % 2 == 0 else (),
        "bands": bands,
        "buffers": base.buffers.model_dump() | {"activation_words": words},
    }


def best_pack(model: Band, rows: int, dataflow: Dataflow, base: Hardware) -> int:
    """The most products in a DSP of `base`'s device for `rows` rows of a band like `model`: whole lines share one.

    As many as the model packs, or as the other dataflow has for them: 4 output stationary are 3 weight stationary.
    """
    most = model.pack if model.pack in PACKS[dataflow] else 3 if model.pack == 4 else 2

    def possible(pack: int) -> bool:
        band = model.model_copy(update={"pack": pack})
        limit = base.model_copy(update={"dataflow": dataflow}).cascade_limit(band) if pack > 1 else 1
        return rows % band.height(dataflow) == 0 and limit > 0

    return max(pack for pack in PACKS[dataflow] if pack <= most and possible(pack))


def describe_size(hw: Hardware) -> str:
    """Such as `4 columns, dot 4`."""
    stay = ", weights stay" if hw.dataflow == "ws" else ""
    columns = "1 column" if hw.array_columns == 1 else f"{hw.array_columns} columns"
    return f"{columns}, dot {hw.dot}{stay}"


def describe_bands(bands: tuple[Band, ...]) -> str:
    """Such as `pot4 x 12, fixed4 x 7, fixed8 x 1`."""
    return ", ".join(f"{band.scheme}{band.weight_bits} x {band.rows}" for band in bands)

"""Spaces: the variants they hold, what cannot be built, wrong files."""

from __future__ import annotations

from pathlib import Path

import pytest

from codesign.arch.load import load_hardware, parse_hardware
from codesign.errors import UserError
from codesign.formats.row_format import FIXED4, FIXED8, POT4
from codesign.search.space import Space, band_ratio, describe_bands, load_space, variant, zoo_network

SPACE = """
network: smallcnn
data: digits
base: tiny
ratios: ["pot4:50,fixed4:50", "pot4:100"]
rows: [2, 4]
columns: [2, 4]
"""


def test_ratio_of_the_papers_configuration() -> None:
    assert band_ratio(load_hardware("xc7z020_rmsmp")) == pytest.approx({POT4: 0.60, FIXED4: 0.35, FIXED8: 0.05})


def test_all_combinations(tmp_path: Path) -> None:
    (tmp_path / "space.yaml").write_text(SPACE)
    space = load_space(tmp_path / "space.yaml")
    variants, refused = space.hardware()
    assert not refused
    assert len(variants) == len({hw.name for hw in variants}) == 8
    sizes = {(hw.rows, hw.columns, describe_bands(hw.bands)) for hw in variants}
    assert (4, 2, "pot4 x 2, fixed4 x 2") in sizes
    assert (2, 4, "pot4 x 2") in sizes


def test_variant_keeps_the_base_but_for_what_it_changes() -> None:
    base = load_hardware("tiny")
    hw = variant(base, rows=10, columns=8, dot=1, ratio="pot4:60,fixed4:35,fixed8:5")
    assert describe_bands(hw.bands) == "pot4 x 6, fixed4 x 3, fixed8 x 1"
    assert [band.multiplier for band in hw.bands] == [None, "lut", "dsp"]  # as in the base
    assert hw.buffers.activation_words * hw.word_elements == base.buffers.activation_words * base.word_elements
    assert (hw.memory, hw.device, hw.act_bits, hw.clock_mhz) == (
        base.memory,
        base.device,
        base.act_bits,
        base.clock_mhz,
    )


def test_variant_packs_as_the_base_does_but_an_odd_band_cannot_share_rows() -> None:
    text = (
        load_hardware("xc7z020_rmsmp")
        .to_yaml()
        .replace("rows: 7\n  multiplier: dsp\n  pack: 1", "rows: 6\n  multiplier: dsp\n  pack: 4")
    )
    base = parse_hardware(text, "base.yaml", "base")
    assert [band.pack for band in base.bands] == [1, 4, 1]
    for rows, pack in ((10, 4), (9, 2)):
        hw = variant(base, rows=rows, columns=4, dot=4, ratio="fixed4:100")
        assert [(band.rows, band.pack, band.multiplier) for band in hw.bands] == [(rows, pack, "dsp")]


def test_both_dataflows_of_every_size(tmp_path: Path) -> None:
    text = load_hardware("xc7z020_rmsmp").to_yaml()
    text = text.replace("rows: 7\n  multiplier: dsp\n  pack: 1", "rows: 6\n  multiplier: dsp\n  pack: 4")
    (tmp_path / "base.yaml").write_text(text)
    base = str(tmp_path / "base.yaml")
    space = Space(network="smallcnn", data="digits", base=base, ratios=("fixed4:100",), rows=(9,), columns=(2, 4))
    variants, refused = space.model_copy(update={"dataflows": ("os", "ws")}).hardware()
    assert not refused
    assert [(hw.name, hw.dataflow, hw.columns, hw.groups) for hw in variants] == [
        ("fixed4x9_c2_d4", "os", 2, 2),
        ("fixed4x9_c4_d4", "os", 4, 4),
        ("fixed4x9_c2_d4_ws", "ws", 2, 2),
        ("fixed4x9_c4_d4_ws", "ws", 4, 4),
    ]
    # two by two where codes and weights move, nine rows cannot be paired; where weights stay three rows share a DSP
    assert [hw.bands[0].pack for hw in variants] == [2, 2, 3, 3]
    assert {hw.name: hw.array_columns for hw in space.hardware()[0]} == {"fixed4x9_c2_d4": 2, "fixed4x9_c4_d4": 4}


def test_variants_that_cannot_be_built_are_named_with_the_reason() -> None:
    space = Space(network="smallcnn", data="digits", base="tiny", ratios=("pot4:100", "fixed8:100"), rows=(6, 200))
    variants, refused = space.hardware()
    assert [hw.name for hw in variants] == ["pot4x6_c4_d2", "fixed8x6_c4_d2", "pot4x200_c4_d2"]
    assert list(refused) == ["fixed8x200_c4_d2"]
    assert "DSPs needed" in refused["fixed8x200_c4_d2"]
    with pytest.raises(UserError, match="no variant can be built; fixed8x200_c4_d2: .*DSPs needed"):
        space.model_copy(update={"ratios": ("fixed8:100",), "rows": (200,)}).hardware()


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("ratios:", "ratio:", "ratio: unknown key.*did you mean 'ratios'"),
        ('"pot4:100"', '"pot4"', r"ratios\[1\]: 'pot4' given, must be shares of row formats"),
        ('"pot4:100"', "3", r"ratios\[1\]: 3 given"),
        ("rows: [2, 4]", "rows: [0]", r"rows\[0\]: 0 given, must be an integer from 1"),
        ("rows: [2, 4]", "dataflows: [is]", r"dataflows\[0\]: 'is' given, must be os or ws"),
        ("rows: [2, 4]", "rows: 4", "rows: 4 given, must be a list"),
        ('["pot4:50,fixed4:50", "pot4:100"]', "[]", r"ratios: \[\] given, must be at least one"),
        ("network: smallcnn", "", "network: missing"),
    ],
)
def test_wrong_files(old: str, new: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "space.yaml"
    path.write_text(SPACE.replace(old, new))
    with pytest.raises(UserError, match=rf"^{path}: .*{message}"):
        load_space(path)


def test_shipped_space_loads_by_name() -> None:
    space = load_space("digits")
    assert load_hardware(space.base).act_bits == 4
    assert space.content_hash == load_space("digits").content_hash
    assert len(space.hardware()[0]) >= 6


def test_zoo_options() -> None:
    assert zoo_network("smallcnn:size=32,channels=3").shapes["input"] == (3, 32, 32)
    for wrong in ("smallcnn:size", "smallcnn:size=-1", "smallcnn:nonsense=3", "nothing:size=3"):
        with pytest.raises(UserError):
            zoo_network(wrong)

"""Every wrong description is refused with one line that names the file, the key, what was given and what is allowed."""

from __future__ import annotations

from pathlib import Path

import pytest

from codesign.arch.load import CONFIG_FOLDERS, config_names, load_hardware, parse_hardware
from codesign.errors import UserError

TINY = """\
# A small accelerator.
device: xc7z020
clock_mhz: 100
columns: 4
dot: 2
act_bits: 4
bands:
  - {scheme: pot, weight_bits: 4, rows: 3}
  - {scheme: fixed, weight_bits: 4, rows: 2, multiplier: lut}
  - {scheme: fixed, weight_bits: 8, rows: 1, multiplier: dsp}
buffers:
  activation_words: 1024
  weight_words: 512
memory:
  width_bits: 64
  latency: 20
"""

WRONG = {
    "unknown key": ("columns: 4", "colums: 4", "colums: unknown key, must be .*did you mean 'columns'"),
    "unknown nested key": (
        "latency: 20",
        "latency: 20\n  latncy: 3",
        r"memory\.latncy: unknown key.*did you mean 'latency'",
    ),
    "unknown key in a band": ("rows: 3", "rows: 3, row: 3", r"bands\[0\]\.row: unknown key.*did you mean 'rows'"),
    "missing key": ("  latency: 20", "", r"memory\.latency: missing"),
    "negative rows": ("rows: 3", "rows: -3", r"bands\[0\]\.rows: -3 given, must be an integer from 1 to 1024"),
    "boolean": ("rows: 3", "rows: true", r"bands\[0\]\.rows: true given, must be an integer"),
    "digits in quotes": ("rows: 3", "rows: '3'", r"bands\[0\]\.rows: '3' given, must be an integer"),
    "float": ("rows: 3", "rows: 3.0", r"bands\[0\]\.rows: 3\.0 given, must be an integer"),
    "columns": ("columns: 4", "columns: 65", "columns: 65 given, must be an integer from 1 to 64"),
    "dot": ("dot: 2", "dot: 0", "dot: 0 given, must be an integer from 1 to 32"),
    "act_bits": ("act_bits: 4", "act_bits: 9", "act_bits: 9 given, must be an integer from 2 to 8"),
    "acc_bits": ("act_bits: 4", "act_bits: 4\nacc_bits: 26", "acc_bits: 26 given, must be an integer from 8 to 25"),
    "product wider than accumulator": (
        "act_bits: 4",
        "act_bits: 4\nacc_bits: 8",
        "11 bits, must be at most acc_bits, 8",
    ),
    "unknown device": (
        "xc7z020",
        "xc7z02",
        "device: 'xc7z02' given, must be xc7z020, xc7z045, lfe5u-85f, .*, or the keys .*; did you mean 'xc7z020'",
    ),
    "dataflow": ("dot: 2", "dot: 2\ndataflow: is", r"dataflow: 'is' given, must be os or ws"),
    "scheme": ("scheme: pot", "scheme: pott", r"bands\[0\]\.scheme: 'pott' given, must be fixed, pot, apot, .*'pot'\?"),
    "pot weights too wide": (
        "weight_bits: 4",
        "weight_bits: 6",
        r"bands\[0\]: weight_bits 6 given, must be 3 to 5 .*30 places",
    ),
    "scheme without cores": ("scheme: pot", "scheme: full", r"bands\[0\]\.scheme: 'full' given, must be fixed, pot, "),
    "apot weights too wide": (
        "pot, weight_bits: 4",
        "apot, weight_bits: 6",
        r"bands\[0\]: weight_bits 6 given, must be 4 to 5",
    ),
    "sp2 weights too wide": (
        "pot, weight_bits: 4",
        "sp2, weight_bits: 5",
        r"bands\[0\]: weight_bits 5 given, must be 4 for scheme sp2; MSQ has no other level set",
    ),
    "ternary weights of 3 bits": (
        "pot, weight_bits: 4",
        "ternary, weight_bits: 3",
        r"bands\[0\]: .* 3 given, must be 2 for",
    ),
    "binary with multiplier": (
        "pot, weight_bits: 4",
        "binary, multiplier: dsp",
        r"bands\[0\]: multiplier 'dsp' given, but a binary band adds and has none: remove the key",
    ),
    "pot with multiplier": ("scheme: pot,", "scheme: pot, multiplier: lut,", r"bands\[0\]: .*a pot band shifts"),
    "multiplier": ("multiplier: dsp", "multiplier: none", r"bands\[2\]\.multiplier: 'none' given, must be dsp or lut"),
    "no multiplier": ("multiplier: dsp", "multiplier: null", r"bands\[2\]: multiplier: nothing given"),
    "packing": ("dsp}", "dsp, pack: 3}", r"bands\[2\]\.pack: 3 given, must be 1, 2 or 4 with 'dataflow: os'"),
    "packing in look-up tables": ("lut}", "lut, pack: 4}", r"pack 4 given, only a fixed band with 'multiplier: dsp'"),
    "packing of an odd row": ("dsp}", "dsp, pack: 4}", r"bands\[2\]\.rows: 1 given, must be a multiple of 2 with"),
    "packing where weights stay": (
        "multiplier: dsp}",
        "multiplier: dsp, pack: 4}\ndataflow: ws",
        r"bands\[2\]\.pack: 4 given, must be 1, 2 or 3 with 'dataflow: ws'",
    ),
    "packing of a row where weights stay": (
        "multiplier: dsp}",
        "multiplier: dsp, pack: 2}\ndataflow: ws",
        r"bands\[2\]\.rows: 1 given, must be a multiple of 2 with pack 2: 2 rows share a DSP",
    ),
    "packing what does not fit where weights stay": (
        "rows: 1, multiplier: dsp}",
        "rows: 3, multiplier: dsp, pack: 3}\ndataflow: ws",
        r"3 products of 8-bit weights and 4-bit activations do not fit one DSP, must be 2 or 1$",
    ),
    "packing what does not fit": (
        "rows: 1, multiplier: dsp}",
        "rows: 2, multiplier: dsp, pack: 4}",
        r"must be 2 or 1$",
    ),
    "too many bands": (
        "  - {scheme: pot",
        "  - {scheme: fixed, weight_bits: 2, rows: 1, multiplier: lut}\n" * 6 + "  - {scheme: pot",
        "bands: 9 given, must be 1 to 8",
    ),
    "buffer depth": ("1024", "1000", r"buffers\.activation_words: 1000 given, must be a power of two from 16"),
    "memory width": ("width_bits: 64", "width_bits: 48", r"memory\.width_bits: 48 given, must be 32, 64, 128"),
    "weight word wider than memory": ("dot: 2", "dot: 16", "a word of 128 bits, must be at most memory.width_bits, 64"),
    "group wider than memory": ("dot: 2", "dot: 32", "a group of 128 bits, must be at most memory.width_bits, 64"),
    "fifo": ("latency: 20", "latency: 20\n  fifo_beats: 4", "fifo_beats 4 given, must be a multiple of burst_beats"),
    "burst over 4 KiB": (
        "width_bits: 64",
        "width_bits: 512\n  burst_beats: 128",
        "burst_beats 128 given, must be at most 64",
    ),
    "clock": ("clock_mhz: 100", "clock_mhz: .nan", "clock_mhz: nan given, must be a number above 0"),
    "name": ("dot: 2", "dot: 2\nname: a b", "name: 'a b' given"),
    "no bands": (TINY[TINY.index("bands:") : TINY.index("buffers:")], "bands: []\n", r"bands: 0 given"),
    "bands no list": (
        TINY[TINY.index("bands:") : TINY.index("buffers:")],
        "bands: 3\n",
        "bands: 3 given, must be a list",
    ),
    "section no mapping": ("buffers:\n", "buffers: 3\nrest:\n", "rest: unknown key"),
    "key twice": ("dot: 2", "dot: 2\ndot: 3", "line 6, column 1: not YAML: key 'dot' is given twice"),
    "YAML syntax": ("columns: 4", "columns: [4", r"line 5, column 4: not YAML: expected ',' or '\]'"),
    "tab": ("columns: 4", "\tcolumns: 4", "line 4, column 1: not YAML: .*cannot start any token"),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_wrong_file_gives_one_line(wrong: str) -> None:
    old, new, message = WRONG[wrong]
    assert old in TINY
    with pytest.raises(UserError, match=f"^hw.yaml: .*{message}") as caught:
        parse_hardware(TINY.replace(old, new, 1), "hw.yaml", "hw")
    assert "\n" not in str(caught.value)


def test_too_many_dsps_names_the_band_to_shrink_and_the_advice_works() -> None:
    text = TINY.replace("rows: 1,", "rows: 100,")
    with pytest.raises(UserError) as caught:
        parse_hardware(text, "hw.yaml", "hw")
    assert str(caught.value) == (
        "hw.yaml: bands: 808 DSPs needed (800 for products, 8 for requantization), xc7z020 has 220: "
        "shrink bands[2] (fixed-w8 x 100 (dsp)) to 26 rows or give it 'multiplier: lut'"
    )
    assert parse_hardware(text.replace("rows: 100,", "rows: 26,"), "hw.yaml", "hw").dsp_estimate == 216
    with pytest.raises(UserError, match="224 DSPs needed"):
        parse_hardware(text.replace("rows: 100,", "rows: 27,"), "hw.yaml", "hw")
    assert parse_hardware(text.replace("multiplier: dsp", "multiplier: lut"), "hw.yaml", "hw").dsp_estimate == 8


def test_too_many_dsps_with_no_row_left_advises_otherwise() -> None:
    text = TINY.replace("columns: 4", "columns: 64").replace("dot: 2", "dot: 4").replace("rows: 1,", "rows: 2,")
    with pytest.raises(
        UserError, match=r"640 DSPs needed.*give bands\[2\] .*'multiplier: lut' or lower columns or dot"
    ):
        parse_hardware(text, "hw.yaml", "hw")


@pytest.mark.parametrize(
    "text", ["", "3", "- a", "a: [", "[1]: 2", "{[1]: 2}", "!!python/object:os.system x", "&a [*a]"]
)
def test_what_is_no_mapping_is_refused(text: str) -> None:
    with pytest.raises(UserError, match=r"^hw.yaml: .+") as caught:
        parse_hardware(text, "hw.yaml", "hw")
    assert "\n" not in str(caught.value)


def test_every_shipped_configuration_loads_under_its_name() -> None:
    assert {"tiny", "xc7z020_rmsmp"} <= set(config_names())
    for name in config_names():
        assert load_hardware(name).name == name


def test_configurations_in_folders_have_names_with_their_folders(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert load_hardware("league/fixed").name == "fixed"
    for name in ("league/../league/fixed", "league/fix", "/league/fixed", "league"):
        with pytest.raises(UserError, match="must be a YAML file"):
            load_hardware(name)
    monkeypatch.chdir(tmp_path)  # a file that is there is meant first
    (tmp_path / "league").mkdir()
    (tmp_path / "league" / "fixed").write_text((CONFIG_FOLDERS[0] / "tiny.yaml").read_text())
    assert load_hardware("league/fixed").columns == load_hardware("tiny").columns


def test_missing_files_and_names() -> None:
    with pytest.raises(UserError, match="tinny: no such configuration, .*; did you mean 'tiny'"):
        load_hardware("tinny")
    with pytest.raises(UserError, match=r"nope\.yaml: no such file"):
        load_hardware("nope.yaml")
    with pytest.raises(UserError, match="is a folder"):
        load_hardware(CONFIG_FOLDERS[0])


def test_a_binary_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UserError, match=r"x\.yaml: not YAML: not a text file"):
        load_hardware(tmp_path / "x.yaml")


def test_only_paths_and_names_are_loaded() -> None:
    with pytest.raises(UserError, match="^a dict given, must be the path of a YAML file, or a name$"):
        load_hardware({"columns": 4})  # type: ignore[arg-type]

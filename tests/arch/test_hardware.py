"""Derived quantities, equality, hashes and round trips of the hardware description."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from codesign.arch.band import WEIGHT_BITS, Band
from codesign.arch.devices import DEVICES
from codesign.arch.hardware import Hardware
from codesign.arch.load import load_hardware, parse_hardware
from codesign.arch.memory import Buffers, Memory
from codesign.arch.scheme import Scheme
from codesign.errors import UserError

RMSMP = load_hardware("xc7z020_rmsmp")


def test_rmsmp_has_the_papers_ratio() -> None:
    assert RMSMP.rows == 20
    assert [band.rows / RMSMP.rows for band in RMSMP.bands] == [0.60, 0.35, 0.05]
    assert [(band.scheme, band.weight_bits) for band in RMSMP.bands] == [("pot", 4), ("fixed", 4), ("fixed", 8)]
    assert RMSMP.macs == 20 * 4 * 4
    assert RMSMP.word_elements == 16
    assert RMSMP.band_of_row == (0,) * 12 + (1,) * 7 + (2,)
    assert RMSMP.dsp_estimate == 8 * 16 + 8 <= RMSMP.totals.dsp


def test_device_in_any_case_is_the_same_hardware() -> None:
    upper = parse_hardware(RMSMP.to_yaml().replace("xc7z020\n", "XC7Z020\n"), "hw.yaml", "hw")
    assert upper == RMSMP and upper.content_hash == RMSMP.content_hash
    assert upper.totals is DEVICES["xc7z020"]


def test_it_is_immutable_and_hashable() -> None:
    with pytest.raises(ValidationError):
        setattr(RMSMP, "columns", 3)  # noqa: B010
    assert {RMSMP: 1}[load_hardware("xc7z020_rmsmp")] == 1


def test_read_fifo_covers_latency_and_two_bursts() -> None:
    memory = Memory(width_bits=64, latency=20)
    assert memory.read_fifo_beats == 64  # 20 + 32 + 8 = 60
    assert Memory(width_bits=64, latency=25).read_fifo_beats == 128  # 65
    assert Memory(width_bits=64, latency=24).read_fifo_beats == 64  # exactly 64
    assert Memory(width_bits=64, latency=25, fifo_beats=48).read_fifo_beats == 48


@st.composite
def hardware(draw: st.DrawFn) -> Hardware:
    def band() -> Band:
        scheme = draw(st.sampled_from(sorted(WEIGHT_BITS)))
        low, high = WEIGHT_BITS[scheme]
        bits = draw(st.integers(low, 4 if scheme is Scheme.POT else high))
        multiplier = "lut" if scheme is Scheme.FIXED else None
        return Band(scheme=scheme, weight_bits=bits, rows=draw(st.integers(1, 9)), multiplier=multiplier)

    return Hardware(
        name=draw(st.from_regex(r"[A-Za-z0-9_.-]+", fullmatch=True)),
        device=draw(st.sampled_from(sorted(DEVICES))),
        clock_mhz=draw(st.floats(0.001, 1000)),
        columns=draw(st.integers(1, 32)),
        dot=draw(st.integers(1, 8)),
        act_bits=draw(st.integers(2, 8)),
        bands=tuple(band() for _ in range(draw(st.integers(1, 4)))),
        buffers=Buffers(activation_words=1 << draw(st.integers(4, 18)), weight_words=1 << draw(st.integers(4, 16))),
        memory=Memory(width_bits=draw(st.sampled_from([64, 128, 512])), latency=draw(st.integers(1, 99))),
    )


@given(hardware())
def test_yaml_round_trip(hw: Hardware) -> None:
    again = parse_hardware(hw.to_yaml(), "hw.yaml", "other")
    assert again == hw
    assert again.content_hash == hw.content_hash
    assert again.canonical_json() == hw.canonical_json()
    assert len(hw.band_of_row) == hw.rows


@pytest.mark.parametrize(("scheme", "bits"), [("ternary", 2), ("binary", 1)])
def test_a_band_that_has_but_one_width_need_not_name_it(scheme: str, bits: int) -> None:
    assert Band.model_validate({"scheme": scheme, "rows": 3}) == Band(scheme=scheme, weight_bits=bits, rows=3)


def test_hash_tells_every_key() -> None:
    changes = {
        "name": "x",
        "device": "xc7z045",
        "clock_mhz": 50.0,
        "columns": 5,
        "dot": 1,
        "act_bits": 3,
        "acc_bits": 23,
    }
    hashes = {RMSMP.model_copy(update={key: value}).content_hash for key, value in changes.items()}
    assert len(hashes | {RMSMP.content_hash}) == len(changes) + 1


def test_younger_keys_are_left_out_where_nothing_was_said() -> None:
    assert '"images"' not in RMSMP.canonical_json() and "images" not in RMSMP.to_yaml()
    several = parse_hardware(RMSMP.to_yaml() + "images: true\n", "hw.yaml", "hw")
    assert several.images and several.content_hash != RMSMP.content_hash
    assert parse_hardware(several.to_yaml(), "hw.yaml", "hw") == several
    with pytest.raises(UserError, match="images: true given, must be left out with 'dataflow: ws'"):
        parse_hardware(load_hardware("xc7z020_ws").to_yaml() + "images: true\n", "hw.yaml", "hw")


TWO_ROWS = """
device: xc7z020
columns: 2
dot: 4
act_bits: 4
result_rows: 2
bands:
  - {scheme: fixed, weight_bits: 4, rows: 2, pack: 4}
  - {scheme: fixed, weight_bits: 4, rows: 6, multiplier: lut}
buffers: {activation_words: 64, weight_words: 64}
memory: {width_bits: 256, latency: 5}
"""


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("act_bits: 4\n", "act_bits: 4\ndataflow: ws\n", "must be 1 with 'dataflow: ws'"),
        ("act_bits: 4\n", "act_bits: 4\nact_modes: [4, 8]\n", "must be 1 with act_modes"),
        ("dot: 4", "dot: 3", "must be 1 with dot 3"),
        ("width_bits: 256", "width_bits: 128", "at least 256, there are 128"),
        ("fixed, weight_bits: 4, rows: 6", "fixed, weight_bits: 5, rows: 6", "bands have one format"),
        ("rows: 6, multiplier: lut", "rows: 6, multiplier: lut, pairs: true", "with pairs"),
        ("rows: 6", "rows: 5", "bands\\[1\\] has 5"),
        ("rows: 6", "rows: 4", "multiple of 4: there are 6"),
        ("result_rows: 2", "result_rows: 3", "result_rows: 3 given, must be 1 or 2"),
    ],
)
def test_what_two_rows_a_cycle_ask_for(old: str, new: str, message: str) -> None:
    hw = parse_hardware(TWO_ROWS, "hw.yaml", "hw")
    assert hw.result_rows == 2 and parse_hardware(hw.to_yaml(), "hw.yaml", "hw") == hw
    assert '"result_rows"' not in RMSMP.canonical_json() and "result_rows" not in RMSMP.to_yaml()
    with pytest.raises(UserError, match=message):
        parse_hardware(TWO_ROWS.replace(old, new), "hw.yaml", "hw")


POOLS = """
device: xc7z020
columns: 4
dot: 4
act_bits: 4
result_pooling: {width: 16}
bands:
  - {scheme: fixed, weight_bits: 4, rows: 4, multiplier: lut}
  - {scheme: pot, weight_bits: 4, rows: 1}
buffers: {activation_words: 64, weight_words: 64}
memory: {width_bits: 256, latency: 5}
"""


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("act_bits: 4\n", "act_bits: 4\ndataflow: ws\n", "result_pooling: given, must be left out with 'dataflow: ws'"),
        ("act_bits: 4\n", "act_bits: 4\nact_modes: [4, 8]\n", "result_pooling: given, must be left out with act_modes"),
        ("columns: 4", "columns: 5", "result_pooling: given with 5 columns, must be left out unless columns are even"),
        ("width: 16", "width: 18", "result_pooling.width: 18 given, must be a multiple of columns, 4"),
        ("rows: 4", "rows: 2", "result_pooling: given with 3 rows, must be left out unless there are 4"),
        ("width: 16", "width: 2048", "result_pooling.width: 2048 given, must be .* 2046"),
        ("width: 16", "width: 1", "result_pooling.width: 1 given, must be "),
        ("{width: 16}", "{}", "result_pooling.width: missing"),
        ("{width: 16}", "true", "result_pooling: true given, must be "),
        ("{width: 16}", "16", "result_pooling: 16 given, must be "),
        ("{width: 16}", "wide", "result_pooling: 'wide' given, must be "),
        ("{width: 16}", "[16]", "result_pooling: "),
        ("width: 16", "width: true", "result_pooling.width: true given, must be "),
        ("width: 16", "width: '16'", "result_pooling.width: '16' given, must be "),
        ("width: 16", "width: 16.5", "result_pooling.width: 16.5 given, must be "),
        ("width: 16", "width: 16, height: 2", "result_pooling.height: "),
    ],
)
def test_what_pooling_of_results_asks_for(old: str, new: str, message: str) -> None:
    hw = parse_hardware(POOLS, "hw.yaml", "hw")
    assert hw.result_pooling is not None and hw.result_pooling.width == 16
    assert parse_hardware(hw.to_yaml(), "hw.yaml", "hw") == hw and str(hw).endswith("results pooled in rows up to 16")
    assert '"result_pooling"' not in RMSMP.canonical_json() and "result_pooling" not in RMSMP.to_yaml()
    with pytest.raises(UserError, match=message) as raised:
        parse_hardware(POOLS.replace(old, new), "hw.yaml", "hw")
    assert "\n" not in str(raised.value)


def test_two_rows_a_cycle_ask_for_twice_the_rows_to_pool_results() -> None:
    text = TWO_ROWS + "result_pooling: {width: 8}\n"
    hw = parse_hardware(text, "hw.yaml", "hw")
    assert hw.result_pooling is not None and hw.content_hash != parse_hardware(TWO_ROWS, "hw.yaml", "hw").content_hash
    few = text.replace("rows: 6", "rows: 2")
    with pytest.raises(UserError, match="result_pooling: given with 4 rows, must be left out unless there are 8"):
        parse_hardware(few, "hw.yaml", "hw")


def test_the_hash_is_computed_once_and_not_copied() -> None:
    hw = RMSMP.model_copy()
    first = hw.content_hash
    assert hw.content_hash is first and hw == RMSMP
    other = hw.model_copy(update={"columns": hw.columns + 1})
    assert other.content_hash != first == hw.model_copy(deep=True).content_hash
    assert "content_hash" not in other.model_dump()


PRECISE = """
device: xc7z020
columns: 2
dot: 4
act_bits: 4
act_modes: [4, 8]
bands:
  - {scheme: fixed, weight_bits: 4, rows: 2, multiplier: lut, pairs: true}
  - {scheme: pot, weight_bits: 4, rows: 1}
buffers: {activation_words: 64, weight_words: 64}
memory: {width_bits: 64, latency: 5}
"""


def test_codes_are_stored_in_the_narrowest_width_that_holds_them() -> None:
    hw = parse_hardware(PRECISE, "hw.yaml", "precise")
    assert [hw.code_bits(bits) for bits in (2, 4, 5, 8)] == [4, 4, 8, 8]
    assert hw.most_bits == 8 and hw.pair_bits == 4
    assert parse_hardware(hw.to_yaml(), "hw.yaml", "other") == hw
    plain = parse_hardware(PRECISE.replace("[4, 8]", "[4]"), "hw.yaml", "precise")
    assert plain.act_modes == () and not plain.has_modes
    without = parse_hardware(PRECISE.replace("act_modes: [4, 8]\n", ""), "hw.yaml", "precise")
    assert plain.content_hash == without.content_hash != hw.content_hash


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("[4, 8]", "[4, 6]"), "act_modes: 4, 6 given, must be 4, or 4 and 8"),
        (
            ("[4, 8]", "[2, 4]"),
            "act_modes: 2, 4 given, must be without 2 unless a fixed band in LUTs has 'crumbs: true'",
        ),
        (("[4, 8]", "[3, 4]"), "act_modes: 3, 4 given, must be 4, or 4 and 8, or 2 and 4, or 2, 4 and 8: codes"),
        (("[4, 8]", "[8, 4]"), "act_modes: 8, 4 given, must be different widths in rising order"),
        (("[4, 8]", "[8]"), "act_modes: 8 given, must have act_bits, 4, among them"),
        (("dot: 4", "dot: 3"), "act_modes: 4, 8 given, must be 4 with dot 3"),
        (("dot: 4", "dot: 4\ndataflow: ws"), "act_modes: 4, 8 given with 'dataflow: ws', must be 4"),
        (("act_modes: [4, 8]", "dataflow: ws"), r"bands\[0\].pairs: true given, must be left out with 'dataflow: ws'"),
        (("rows: 2", "rows: 3"), r"bands\[0\]: rows: 3 given, must be even with 'pairs: true'"),
        (
            ("weight_bits: 4, rows: 2", "weight_bits: 5, rows: 2"),
            "pairs: true given, must be left out with weight_bits",
        ),
        (("rows: 1", "rows: 1, pairs: true"), "pairs: true given for scheme pot, must be left out"),
        (
            ("scheme: pot, weight_bits: 4, rows: 1", "scheme: fixed, weight_bits: 3, rows: 2, pairs: true"),
            r"bands\[1\].pairs: true given for weight_bits 3, must be left out: bands\[0\] has pairs of 4 bits",
        ),
    ],
)
def test_what_precision_cannot_be(change: tuple[str, str], message: str) -> None:
    with pytest.raises(UserError, match=message):
        parse_hardware(PRECISE.replace(*change), "hw.yaml", "precise")


NARROW = (
    PRECISE.replace("[4, 8]", "[2, 4, 8]")
    .replace("pairs: true", "pairs: true, crumbs: true")
    .replace("rows: 1", "rows: 2")
)


def test_two_codes_may_share_a_place() -> None:
    hw = parse_hardware(NARROW, "hw.yaml", "narrow")
    assert [hw.code_bits(bits) for bits in (1, 2, 3, 8)] == [2, 2, 4, 8]
    assert hw.narrow_bits == 2 and hw.has_doubled
    assert parse_hardware(hw.to_yaml(), "hw.yaml", "other") == hw
    assert "crumbs" not in parse_hardware(PRECISE, "hw.yaml", "precise").canonical_json()
    assert str(hw.bands[0]) == "fixed-w4 x 2 (lut, pairs, crumbs)"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ((", crumbs: true", ""), "act_modes: 2, 4, 8 given, must be without 2 unless a fixed band in LUTs has 'crumbs"),
        (("[2, 4, 8]", "[4, 8]"), r"bands\[0\].crumbs: true given, must be left out: act_modes have no codes of half"),
        (("pot, weight_bits: 4, rows: 2", "pot, weight_bits: 4, rows: 3"), r"bands\[1\].rows: 3 given, must be a mult"),
        (
            ("pot, weight_bits: 4", "fixed, weight_bits: 4, multiplier: dsp, pack: 4"),
            "must be a multiple of 4 with 2 in",
        ),
        (("multiplier: lut", "multiplier: dsp"), "crumbs: true given for multiplier dsp, must be left out"),
        (
            ("pot, weight_bits: 4", "pot, weight_bits: 4, crumbs: true"),
            "crumbs: true given for scheme pot, must be left",
        ),
        (
            ("dot: 4", "dot: 18"),
            "act_modes: 2, 4, 8 given with dot 18, must be without 2: a row's record counts up to 32",
        ),
    ],
)
def test_what_shared_places_cannot_be(change: tuple[str, str], message: str) -> None:
    with pytest.raises(UserError, match=message):
        parse_hardware(NARROW.replace(*change), "hw.yaml", "narrow")


def test_what_packs_on_a_device_is_what_its_slices_hold() -> None:
    """Six-bit weights, four products to a slice, fit 27 bits, not 25; an ECP5 has no such slices."""
    base = RMSMP.model_dump(mode="json") | {"act_modes": [], "act_bits": 4}
    band = {"scheme": "fixed", "weight_bits": 6, "rows": 2, "multiplier": "dsp", "pack": 4}
    values = base | {"columns": 2, "groups": 2, "dot": 4, "bands": [band]}
    assert Hardware.model_validate(values | {"device": "xck26"}).dsp_estimate == 4 + 2 * 2
    with pytest.raises(ValueError, match="pack: 4 products of 6-bit weights and 4-bit activations do not fit one DSP"):
        Hardware.model_validate(values | {"device": "xc7z045"})
    with pytest.raises(ValueError, match="pack: 2 given, lfe5u-85f has other DSPs, must be 1"):
        Hardware.model_validate(values | {"device": "lfe5u-85f", "bands": [band | {"pack": 2}]})


@pytest.mark.parametrize(("acc_bits", "slices"), [(22, 2), (23, 3), (24, 3)])
def test_sums_of_pairs_take_a_second_slice_where_they_exceed_the_first(acc_bits: int, slices: int) -> None:
    """With the bias and a half of 4 bits they have five bits more than an accumulator."""
    band = {"scheme": "fixed", "weight_bits": 4, "rows": 2, "multiplier": "lut", "pairs": True}
    values = RMSMP.model_dump(mode="json") | {"bands": [band], "acc_bits": acc_bits, "device": "xczu3eg"}
    assert Hardware.model_validate(values).dsp_estimate == slices * RMSMP.columns

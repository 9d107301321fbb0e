"""What is said of a network's cycles: a hint's numbers are those of the plan that follows it."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from codesign.api.networks import Formats, planned
from codesign.arch.load import load_hardware
from codesign.formats.row_format import RowFormat
from codesign.program.traffic import traffic
from codesign.sim.hints import fetches, pooling_hints, result_hints, width_hints
from codesign.sim.timing.plan_timing import estimate

Run = Callable[..., tuple[int, str, str]]


def test_weights_that_do_not_fit_a_ring(run: Run, tmp_path: Path) -> None:
    """The hint names the depth that ends it: with it every weight is read once, in the cycles that it says."""
    hw = load_hardware("xc7z020_w8a8")
    small = hw.model_copy(update={"buffers": hw.buffers.model_copy(update={"weight_words": 64})})
    (tmp_path / "small.yaml").write_text(small.to_yaml())
    status, out, err = run("simulate", tmp_path / "small.yaml", "resnet8", "--json", tmp_path / "a.json")
    assert status == 0, err
    found = json.loads((tmp_path / "a.json").read_text())
    (hint,) = found["hints"]
    assert hint in " ".join(out.split("hint: ")[1].split("\n")[0].split())
    words = re.search(r"'buffers.weight_words: (\d+)' ends it and saves ([\d,]+) of ([\d,]+) cycles", hint)
    assert words is not None
    plan = planned("resnet8", small)
    again = fetches(plan.plan)
    by_layer = {layer.name: moved.weights for layer, moved in zip(plan.plan.layers, traffic(plan.plan), strict=True)}
    assert again and all(by_layer[item.layer] == item.fetched > item.once for item in again)
    deep = small.model_copy(update={"buffers": small.buffers.model_copy(update={"weight_words": int(words[1])})})
    after = plan.on(deep)
    assert not fetches(after)
    assert {x.layer: x.once for x in again}.items() <= {
        layer.name: moved.weights for layer, moved in zip(after.layers, traffic(after), strict=True)
    }.items()
    saved, whole = (int(text.replace(",", "")) for text in words.groups()[1:])
    assert (whole, whole - saved) == (found["total_cycles"], estimate(after).total_cycles)
    half = small.model_copy(update={"buffers": small.buffers.model_copy(update={"weight_words": int(words[1]) // 2})})
    assert fetches(plan.on(half)), "it is the least depth"


def test_tiles_that_wait_for_their_results() -> None:
    """The hint's number is that of the same accelerator with the key, which says nothing then."""
    dense = load_hardware("xc7z020_dense")
    slow = dense.model_copy(update={"result_rows": 1})
    before, after = planned("resnet8", slow), planned("resnet8", dense)
    cycles, fewer = (estimate(plan.plan).total_cycles for plan in (before, after))
    (hint,) = result_hints(before.plan, cycles, before.on)
    assert f"'result_rows: 2' two leave, which saves {cycles - fewer:,} of {cycles:,} cycles" in hint
    assert hint.startswith("conv1, ") and "fc" not in hint
    assert not result_hints(after.plan, fewer, after.on)
    mixed = planned("resnet8", load_hardware("xc7z020"))  # formats of several bands
    assert not result_hints(mixed.plan, estimate(mixed.plan).total_cycles, mixed.on)


def test_pooling_that_takes_cycles_of_its_own(run: Run, tmp_path: Path) -> None:
    """The hint's width is that of the map, and its number that of the accelerator with the key, which says nothing."""
    dense = load_hardware("xc7z020_dense").model_copy(update={"result_pooling": None})
    before = planned("resnet18", dense)
    cycles = estimate(before.plan).total_cycles
    (hint,) = pooling_hints(before.plan, cycles, before.on)
    (tmp_path / "pools.yaml").write_text(dense.to_yaml() + "result_pooling: {width: 112}\n")
    status, _, err = run("simulate", tmp_path / "pools.yaml", "resnet18", "--json", tmp_path / "a.json")
    assert status == 0, err
    found = json.loads((tmp_path / "a.json").read_text())
    fewer = found["total_cycles"]
    assert fewer < 0.98 * cycles and not any("result_pooling" in each for each in found["hints"])
    assert hint.startswith("maxpool: ") and "'result_pooling: {width: 112}'" in hint
    assert f"which saves {cycles - fewer:,} of {cycles:,} cycles" in hint
    assert [layer["cycles"] for layer in found["layers"] if layer["name"] == "maxpool"] == [0]
    for name, hw in (("resnet8", dense), ("resnet18", load_hardware("xc7z020_edge"))):  # no pooling, several widths
        other = planned(name, hw)
        assert not pooling_hints(other.plan, estimate(other.plan).total_cycles, other.on)


def test_bits_below_those_of_a_band() -> None:
    hw = load_hardware("xc7z020_w8a8")
    first, second = width_hints(hw, [RowFormat.parse("fixed4")], 4)
    assert (
        "fixed4 rows are computed and stored in 8 bits" in first and "activations of 4 bits are stored in 8" in second
    )
    assert not width_hints(hw, [RowFormat.parse("fixed8")], 8)
    mixed = load_hardware("xc7z020")
    assert not width_hints(mixed, map(RowFormat.parse, ("fixed4", "fixed8", "pot4")), mixed.act_bits)
    (only,) = width_hints(mixed, map(RowFormat.parse, ("fixed4", "pot3")), mixed.act_bits)
    assert "pot3 rows are computed and stored in 4 bits" in only
    narrow, plain = planned("resnet8", hw, Formats(bits="4/4")).plan, planned("resnet8", hw).plan
    assert (estimate(narrow).total_cycles, narrow.beats) == (estimate(plain).total_cycles, plain.beats)


@pytest.mark.parametrize("formats", [("--ratio", "fixed4:90,fixed8:10"), ("--bits", "4/4")])
def test_rows_that_do_not_suit_the_bands(formats: tuple[str, str], run: Run, tmp_path: Path) -> None:
    assert run("simulate", "xc7z020_rmsmp", "resnet8", *formats, "--json", tmp_path / "a.json")[0] == 0
    found = json.loads((tmp_path / "a.json").read_text())
    (hint,) = [item for item in found["hints"] if "do not suit the bands" in item]
    own = estimate(planned("resnet8", load_hardware("xc7z020_rmsmp")).plan).total_cycles
    assert f"takes {own:,} cycles, which saves {found['total_cycles'] - own:,} of" in hint
    assert run("simulate", "xc7z020_rmsmp", "resnet8", "--json", tmp_path / "b.json")[0] == 0
    assert json.loads((tmp_path / "b.json").read_text())["hints"] == []


def test_depthwise_layers_on_the_array(run: Run, tmp_path: Path) -> None:
    """The hint names the unit, and with it the network takes the cycles that it says."""
    for name in ("xc7z020_rmsmp", "xc7z020_edge", "xc7z020_ws"):
        status, _, err = run("simulate", name, "dscnn", "--json", tmp_path / f"{name}.json")
        assert status == 0, err
    hints = {
        name: json.loads((tmp_path / f"{name}.json").read_text())["hints"] for name in ("xc7z020_edge", "xc7z020_ws")
    }
    assert not any("depthwise" in hint for found in hints.values() for hint in found)  # has one, can have none
    found = json.loads((tmp_path / "xc7z020_rmsmp.json").read_text())
    (hint,) = [hint for hint in found["hints"] if "depthwise" in hint]
    hw = load_hardware("xc7z020_rmsmp")
    (tmp_path / "unit.yaml").write_text(hw.to_yaml() + "depthwise: {}\n")
    assert run("simulate", tmp_path / "unit.yaml", "dscnn", "--json", tmp_path / "unit.json")[0] == 0
    after = json.loads((tmp_path / "unit.json").read_text())["total_cycles"]
    assert (
        f"'depthwise: {{}}' is a unit for them and saves {found['total_cycles'] - after:,} of {found['total_cycles']:,}"
        in hint
    )
    status, _, _ = run("simulate", "xc7z020_rmsmp", "resnet8", "--json", tmp_path / "dense.json")
    assert status == 0
    assert not any("depthwise" in hint for hint in json.loads((tmp_path / "dense.json").read_text())["hints"])

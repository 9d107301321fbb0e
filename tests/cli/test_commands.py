"""The commands: their answers keep the contract, bad input gives one line and status 2, nothing is half-written."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from codesign.api.networks import integer_network
from codesign.arch.load import load_hardware
from codesign.integer.random_network import random_network
from codesign.integer.storage import save_network
from codesign.program import compile_network, plan_network
from codesign.search.space import band_ratio
from codesign.sim.timing.plan_timing import estimate, fastest
from codesign.workload import zoo

Run = Callable[..., tuple[int, str, str]]


def answer(path: Path) -> dict[str, Any]:
    value = json.loads(path.read_text())
    assert isinstance(value, dict)
    return value


LAYER_KEYS = {
    *(
        "name",
        "m",
        "k",
        "n",
        "weight_bits",
        "act_bits",
        "out_bits",
        "cycles",
        "compute_cycles",
        "stall_cycles",
        "utilization",
    ),
    *("dram_read_bytes", "dram_write_bytes", "traffic", "energy_mj", "energy_pj"),
}


def test_simulate_prints_and_writes_what_the_timing_model_says(run: Run, tmp_path: Path) -> None:
    status, out, _ = run("simulate", "tiny", "smallcnn", "--json", tmp_path / "a.json")
    assert status == 0
    hw = load_hardware("tiny")
    timing = estimate(compile_network(random_network(zoo.get("smallcnn"), band_ratio(hw), hw.act_bits), hw))
    result = answer(tmp_path / "a.json")
    assert result["total_cycles"] == timing.total_cycles == sum(v for k, v in timing.counters.items() if k != "total")
    clock = min(result["clock_mhz"], result["evidenced_mhz"] or math.inf)
    assert result["latency_ms"] == pytest.approx(timing.total_cycles / (clock * 1e3)) and result["clock_mhz"] == 100
    assert {"hardware", "network", "clock_mhz", "gops", "resources", "energy_mj", "versions", "seed"} <= set(result)
    assert result["hardware_hash"] == hw.content_hash
    assert all(set(layer) == LAYER_KEYS for layer in result["layers"])
    assert all(x["cycles"] == x["compute_cycles"] + x["stall_cycles"] for x in result["layers"])
    for x in result["layers"]:
        assert set(x["traffic"]) == {"weights", "parameters", "inputs", "descriptors", "outputs", "spills", "reloads"}
        assert sum(x["traffic"].values()) == x["dram_read_bytes"] + x["dram_write_bytes"]
    assert f"{timing.total_cycles:,}" in out
    assert "conv1" in out


def test_simulate_estimates_energy_and_says_so(run: Run, tmp_path: Path) -> None:
    status, out, _ = run("simulate", "tiny", "smallcnn", "--json", tmp_path / "a.json")
    assert status == 0 and "ISSCC 2014" in out and "estimated" in out
    first = answer(tmp_path / "a.json")
    assert first["energy_mj"] >= sum(layer["energy_mj"] for layer in first["layers"]) > 0
    assert "ISSCC 2014" in first["energy_source"] and "estimate" in first["energy_is"]
    table = (Path(__file__).parents[2] / "hw_configs" / "energy" / "horowitz2014.yaml").read_text()
    (tmp_path / "mine.yaml").write_text(table.replace("dram_pj_per_bit: 30", "dram_pj_per_bit: 60"))
    run("simulate", "tiny", "smallcnn", "--energy", tmp_path / "mine.yaml", "--batch", 2, "--json", tmp_path / "b.json")
    second = answer(tmp_path / "b.json")
    dram = [[layer["energy_pj"]["dram_pj"] for layer in found["layers"]] for found in (first, second)]
    assert dram[1] == pytest.approx([4 * pj for pj in dram[0]])  # two images, twice as much for each
    assert second["energy_mj"] > 3 * first["energy_mj"]  # two images, and memory is most of it


def test_simulate_batch_times_all_images_of_a_start(run: Run, tmp_path: Path) -> None:
    run("simulate", "tiny", "smallcnn", "--json", tmp_path / "one.json")
    run("simulate", "tiny", "smallcnn", "--batch", 3, "--json", tmp_path / "three.json")
    one, three = answer(tmp_path / "one.json"), answer(tmp_path / "three.json")
    network = integer_network("smallcnn", load_hardware("tiny"))
    timing = estimate(plan_network(network, load_hardware("tiny"), 3, fastest))
    assert 2 * one["total_cycles"] < three["total_cycles"] == timing.total_cycles < 3 * one["total_cycles"]
    assert three["latency_ms"] == pytest.approx(three["total_cycles"] / 1e5)
    assert three["images_per_s"] == pytest.approx(3000 / three["latency_ms"])
    assert three["images_per_s"] > one["images_per_s"]
    assert three["gops"] == pytest.approx(one["gops"] * three["images_per_s"] / one["images_per_s"])
    assert three["signals"] == one["signals"] and one["signals"]["images_per_s"] == one["images_per_s"]
    assert three["batch"] == 3


def test_cosim_and_compile_take_a_batch(run: Run, tmp_path: Path) -> None:
    assert run("cosim", "tiny", "smallcnn", "--batch", 2, "--json", tmp_path / "a.json")[0] == 0
    run("simulate", "tiny", "smallcnn", "--batch", 2, "--json", tmp_path / "b.json")
    found, timed = answer(tmp_path / "a.json"), answer(tmp_path / "b.json")
    assert found["exact"] and (found["images"], found["batch"]) == (2, 2)
    assert found["rtl_cycles"] == found["total_cycles"] == timed["total_cycles"]
    assert {key: found[key] for key in ("layers", "signals", "images_per_s")} == {
        key: timed[key] for key in ("layers", "signals", "images_per_s")
    }
    status, _, err = run("cosim", "tiny", "smallcnn", "--batch", 2, "--images", 3)
    assert (status, err) == (2, "codesign: --images: 3 given, must be a multiple of --batch 2\n")
    status, _, err = run("cosim", "tiny", "bert_tiny", "--batch", 2)
    assert status == 2 and "--batch: has no effect on bert_tiny" in err
    status, out, _ = run("compile", "tiny", "smallcnn", "--batch", 2, "-o", tmp_path / "p")
    manifest = answer(tmp_path / "p" / "program.json")
    assert status == 0 and f"{timed['total_cycles']:,} for 2 images from one start" in out
    assert (manifest["batch"], len(manifest["slots"]), manifest["cycles"]) == (2, 2, timed["total_cycles"])
    run("compile", "tiny", "smallcnn", "-o", tmp_path / "q")
    assert not {"batch", "slots"} & set(answer(tmp_path / "q" / "program.json"))


def test_simulate_formats_change_the_schedule(run: Run, tmp_path: Path) -> None:
    cycles = {}
    for bits in ("4/4", "8/4"):
        assert run("simulate", "tiny", "smallcnn", "--bits", bits, "--json", tmp_path / "a.json")[0] == 0
        cycles[bits] = answer(tmp_path / "a.json")["total_cycles"]
    assert cycles["8/4"] > cycles["4/4"]  # one row for 8 bits, two for 4


def test_a_quantized_network_file_is_accepted(run: Run, tmp_path: Path) -> None:
    hw = load_hardware("tiny")
    save_network(random_network(zoo.get("smallcnn"), band_ratio(hw), hw.act_bits), tmp_path / "net.codesign")
    run("simulate", "tiny", "smallcnn", "--json", tmp_path / "zoo.json")
    assert run("simulate", "tiny", tmp_path / "net.codesign", "--json", tmp_path / "file.json")[0] == 0
    assert answer(tmp_path / "file.json")["layers"] == answer(tmp_path / "zoo.json")["layers"]


def test_same_seed_same_answer(run: Run, tmp_path: Path) -> None:
    texts = []
    for name in ("a.json", "b.json"):
        run("simulate", "tiny", "smallcnn", "--seed", 3, "--json", tmp_path / name)
        texts.append((tmp_path / name).read_text())
    assert texts[0] == texts[1]


def test_generate_writes_everything_it_lists(run: Run, tmp_path: Path) -> None:
    folder = tmp_path / "made" / "tiny"
    assert run("generate", "tiny", "-o", folder, "--json", tmp_path / "a.json")[0] == 0
    manifest = answer(folder / "manifest.json")
    assert manifest == answer(tmp_path / "a.json")
    assert {file["name"] for file in manifest["files"]} | {"manifest.json"} == {p.name for p in folder.iterdir()}
    for file in manifest["files"]:
        assert len((folder / file["name"]).read_bytes()) == file["bytes"]
    verilog = (folder / "codesign_top.v").read_text()
    assert verilog.count("endmodule") > 10
    header = verilog[verilog.index("module codesign_top(") :].partition(");")[0]
    names = re.findall(r"\w+", header.partition("(")[2])
    assert sorted(port["name"] for port in manifest["ports"]) == sorted(names)
    assert load_hardware(folder / "hardware.yaml") == load_hardware("tiny")
    assert not list(folder.parent.glob(".*")), "temporary folders are gone"


def test_generate_replaces_its_own_output_only(run: Run, tmp_path: Path) -> None:
    folder = tmp_path / "out"
    assert run("generate", "tiny", "-o", folder)[0] == 0
    (folder / "notes.txt").write_text("mine")
    (folder / "driver.py").unlink()
    assert run("generate", "tiny", "-o", folder)[0] == 0
    assert (folder / "driver.py").is_file() and (folder / "notes.txt").read_text() == "mine"
    (folder / "codesign_top.v").write_text("changed")
    status, _, err = run("generate", "tiny", "-o", folder)
    assert status == 2 and "codesign_top.v: was changed since codesign wrote it" in err
    assert (folder / "codesign_top.v").read_text() == "changed"
    (folder / "manifest.json").unlink()
    status, _, err = run("generate", "tiny", "-o", folder)
    assert status == 2
    assert "holds other files" in err


WRONG = {
    "unknown hardware": (("simulate", "tinny", "smallcnn"), "tinny: no such configuration.*did you mean 'tiny'"),
    "unknown network": (("simulate", "tiny", "smalcnn"), "smalcnn: no such network, must be .*smallcnn"),
    "missing network file": (("simulate", "tiny", "no/such.codesign"), r"no/such\.codesign"),
    "bits": (("simulate", "tiny", "smallcnn", "--bits", "9/4"), "--bits: '9/4' given, must be WEIGHTS/ACTIVATIONS"),
    "two ways": (("simulate", "tiny", "smallcnn", "--bits", "4/4", "--ratio", "pot4:1"), "--bits and --ratio given"),
    "ratio": (("simulate", "tiny", "smallcnn", "--ratio", "pot4"), "'pot4' is not FORMAT:SHARE"),
    "format without band": (("simulate", "tiny", "smallcnn", "--ratio", "pot5:1"), "pot.*5"),
    "activation bits": (("simulate", "tiny", "smallcnn", "--bits", "4/8"), "8"),
    "assignment file": (("simulate", "tiny", "smallcnn", "--assignment", "none.json"), "none.json: no such file"),
    "zoo option": (("simulate", "tiny", "smallcnn:size=x"), "'size=x' given, must be OPTION=NUMBER"),
    "data set": (("cosim", "tiny", "smallcnn", "--data", "nonsense"), "data set 'nonsense' is unknown"),
    "too many images": (("cosim", "tiny", "smallcnn", "--data", "digits", "--images", "999999"), "must be at most"),
    "energy": (("simulate", "tiny", "smallcnn", "--energy", "joules"), "joules: no such configuration.*horowitz2014"),
    "flow": (("synth", "tiny", "--flow", "vivado"), "--flow: 'vivado' given, must be xilinx, xilinx-up, ecp5, gowin"),
    "space": (("search", "none.yaml", "-o", "run"), "none.yaml: no such file, must be a YAML file"),
    "report": (("report", "nowhere"), "nowhere: holds no finished search"),
    "option": (("simulate", "tiny", "smallcnn", "--nonsense"), "[Nn]o such option.*--nonsense"),
    "argument": (("simulate", "tiny"), "Missing argument"),
    "command": (("simulat",), "No such command"),
    "number": (("simulate", "tiny", "smallcnn", "--batch", "0"), "greater than or equal to 1"),
    "method": (("quantize", "smallcnn", "--data", "digits", "-o", "x.c", "--method", "magic"), "'magic'"),
    "folder": (("quantize", "smallcnn", "--data", "digits", "-o", "no/x.c"), "no/x.c: its folder does not exist"),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_bad_input_is_one_line_and_leaves_nothing(
    wrong: str, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    arguments, message = WRONG[wrong]
    status, out, err = run(*arguments, *(() if wrong == "argument" else ("--json", "out.json")))
    assert status == 2
    assert out == ""
    lines = [line for line in err.splitlines() if not line.endswith(" ...")]
    assert len(lines) == 1, err
    assert re.search(rf"^codesign: .*(?:{message})", lines[0]), err
    assert list(tmp_path.iterdir()) == []


def test_json_to_a_place_that_cannot_be_written(run: Run, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    status, _, err = run("simulate", "tiny", "smallcnn", "--json", tmp_path / "file" / "a.json")
    assert status == 2
    assert "cannot be written" in err


def test_wrong_yaml_names_file_key_and_range(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "hw.yaml"
    path.write_text(load_hardware("tiny").to_yaml().replace("columns: 4", "columns: -4"))
    status, _, err = run("generate", path, "-o", tmp_path / "out")
    assert status == 2
    assert err == f"codesign: {path}: columns: -4 given, must be an integer from 1 to 64\n"
    assert not (tmp_path / "out").exists()


def test_truncated_network_file(run: Run, tmp_path: Path) -> None:
    hw = load_hardware("tiny")
    path = tmp_path / "net.codesign"
    save_network(random_network(zoo.get("smallcnn"), band_ratio(hw), hw.act_bits), path)
    path.write_bytes(path.read_bytes()[:-500])
    status, _, err = run("simulate", "tiny", path)
    assert status == 2
    assert str(path) in err
    assert err.count("\n") == 1


def test_quantize_writes_a_network_that_runs(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "net.codesign"
    arguments = ("--data", "digits", "--float-epochs", 2, "--epochs", 1, "--ratio", "pot4:60,fixed4:35,fixed8:5")
    status, out, _ = run("quantize", "smallcnn", *arguments, "-o", path, "--json", tmp_path / "a.json")
    assert status == 0
    result = answer(tmp_path / "a.json")
    for split, images in (("validation", 285), ("test", 355)):
        assert 0.3 < result[f"{split}_accuracy"] <= 1 and result[f"{split}_images"] == images
        assert f"{100 * result[f'{split}_accuracy']:.2f} %" in out
        assert run("evaluate", path, "--data", "digits", "--split", split, "--json", tmp_path / "b.json")[0] == 0
        again = answer(tmp_path / "b.json")
        assert again[f"{split}_accuracy"] == result[f"{split}_accuracy"] and again["split"] == split
    assert run("simulate", "tiny", path)[0] == 0


def test_doctor_runs_the_tools(run: Run, tmp_path: Path) -> None:
    status, out, err = run("doctor", "--json", tmp_path / "a.json")
    result = answer(tmp_path / "a.json")
    assert status == (1 if result["missing"] else 0), err
    tools = {tool["name"]: tool for tool in result["tools"]}
    assert tools["python"]["works"]
    assert tools["pyosys"]["works"]
    assert "verilator" in out


def test_help_and_version(run: Run) -> None:
    status, out, _ = run("--help")
    assert status == 0
    for command in ("simulate", "cosim", "generate", "synth", "quantize", "search", "report", "doctor"):
        assert command in out
    assert run("--version")[1].startswith("codesign 0.")


def test_the_table_of_bits_says_what_its_sum_misses(run: Run, tmp_path: Path) -> None:
    status, out, _ = run("simulate", "tiny", "smallcnn", "--bits-table", "--bits", "8/4", "--json", tmp_path / "a.json")
    assert status == 0
    assert re.search(r"layer +4/4 +8/4 +pot4/4", out)
    found = json.loads((tmp_path / "a.json").read_text())
    totals = {total["bits"]: total for total in found["totals"]}
    assert totals["given"] | {"bits": "8/4"} == totals["8/4"]
    for bits, total in totals.items():
        option = ("--ratio", "pot4:1") if bits == "pot4/4" else ("--bits", "8/4" if bits == "given" else bits)
        assert run("simulate", "tiny", "smallcnn", *option, "--json", tmp_path / "b.json")[0] == 0
        assert total["joint"] == json.loads((tmp_path / "b.json").read_text())["total_cycles"]
        assert total["missed"] == total["joint"] - total["additive"]
    base = [{e["weights"]: e["cycles"] for e in layer["entries"]} for layer in found["layers"]]
    assert sum(each.get("fixed4", each.get(None)) for each in base) + found["ending_cycles"] == totals["4/4"]["joint"]
    status, _, err = run("simulate", "tiny", "smallcnn", "--bits-table", "--batch", "2")
    assert (status, err) == (2, "codesign: --batch: has no effect beside --bits-table: leave it out\n")


def test_simulate_says_bits_of_layers(run: Run, tmp_path: Path) -> None:
    assert run("simulate", "tiny", "smallcnn", "--bits", "3/2", "--json", tmp_path / "a.json")[0] == 0
    layers = json.loads((tmp_path / "a.json").read_text())["layers"]
    assert [(x["weight_bits"], x["act_bits"], x["out_bits"]) for x in layers] == [
        *[(3, 2, 2), (None, 2, 2), (3, 2, 2), (3, 2, 2), (None, 2, 2)],
        (3, 2, 32),
    ]

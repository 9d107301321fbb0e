"""Costs against the simulation of the whole network and against sizes counted by hand; spaces and their choices."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

import codesign
from codesign.allocation.costs import MIB, Costs
from codesign.allocation.space import Space, parse_choices
from codesign.allocation.table import Table
from codesign.arch.hardware import Hardware
from codesign.arch.load import load_hardware
from codesign.errors import UserError
from codesign.workload import zoo
from tests.allocation.subjects import TINY
from tests.conftest import Run


def precise(name: str = "xc7z020_fixed_lut") -> Hardware:
    """The accelerator with codes of 4 and 8 bits, and weights of 8 bits in two rows; at a clock below what any estimate
    says, so that limits in milliseconds mean the same cycles whatever is estimated.
    """
    hw = load_hardware(name)
    data = hw.model_dump(mode="json")
    bands = [band | {"pairs": True} for band in data["bands"]]
    return Hardware.model_validate(data | {"act_modes": [4, 8], "acc_bits": 24, "bands": bands, "clock_mhz": 64.513})


def test_choices_are_read_as_they_are_written() -> None:
    choices = parse_choices("w4a8, pot4,fixed8a4 ,pruneda4,sp2", 4)
    assert list(map(str, choices)) == ["w4a8", "pot4a4", "w8a4", "w0a4", "sp24a4"]
    assert parse_choices(",".join(map(str, choices)), 4) == choices


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("w4a", "'w4a' given, must be FORMAT or FORMATaBITS"),
        ("", "'' given, must be"), ("w9a4", "'w9a4': row format"),
        ("w4a17", "17 activation bits given, must be 1 to 16"), ("w4,fixed4", "w4a4 is given twice"),
        ("nonsense4", "'nonsense4': row format 'nonsense4' is unknown"),
    ],
)  # fmt: skip
def test_what_is_no_choice_is_refused(text: str, says: str) -> None:
    with pytest.raises(UserError, match="choices: ") as error:
        parse_choices(text, 4)
    assert says in str(error.value) and "\n" not in str(error.value)


def test_layers_that_read_one_map_are_tied() -> None:
    space = Space(zoo.get("resnet8"), parse_choices("w4a4,w8a8", 4))
    assert space.ties == (("layer2.0.conv1", "layer2.0.downsample.0"), ("layer3.0.conv1", "layer3.0.downsample.0"))
    assert Space(zoo.get("resnet8"), parse_choices("w4a4,w8a4", 4)).ties == ()
    with pytest.raises(UserError, match="layers 'layer2.0.conv1' and 'layer2.0.downsample.0' read the same map"):
        space.assignment([place % 2 for place in range(len(space.groups))])
    with pytest.raises(UserError, match="maps of 4 and 8 bits given, but rows of a layer read the same map"):
        Space(zoo.get("resnet8"), parse_choices("w4a4,w8a8", 4), "row")


def test_an_assignment_says_what_was_chosen() -> None:
    space = Space(TINY, parse_choices("w2a4,w4a8", 4))
    found = space.assignment([0, 1, 0])
    assert {name: str(found[name][0]) for name in found.rows} == {"a": "fixed2", "b": "fixed4", "fc": "fixed2"}
    assert (found.bits("input"), found.bits("a"), found.bits("g")) == (4, 8, 4)
    rows = Space(TINY, parse_choices("w2,pot4", 4), "row")
    chosen = np.arange(11) % 2
    assert list(map(str, rows.assignment(chosen)["b"])) == ["fixed2", "pot4", "fixed2", "pot4"]
    names = {group.name: rows.names[place] for group, place in zip(rows.groups, chosen, strict=True)}
    assert list(names)[:5] == ["a[0]", "a[1]", "a[2]", "a[3]", "b[0]"]
    assert (rows.chosen(names) == chosen).all()


JOINT = {
    "latency_ms": lambda answer: answer["latency_ms"],
    "energy_mj": lambda answer: answer["energy_mj"],
    "traffic_mib": lambda answer: answer["signals"]["traffic_bytes"] / 2**20,
}
"""From the answer of `codesign simulate`."""


@pytest.mark.parametrize("name", ["smallcnn", "resnet8"])
def test_joint_costs_are_exact_at_the_base_and_one_change_away(name: str) -> None:
    """By the simulation, which plans and times the network anew."""
    hw, network = precise(), zoo.get(name)
    space = Space(network, parse_choices("w4a4,w8a4,w8a8", 4))
    costs = Costs(space, hw)
    base = np.full(len(space.groups), 2)
    found = costs.additive(base)
    assert all((found.costs[metric] >= 0).all() for metric in JOINT)
    assert found.fixed == dict.fromkeys(found.costs, 0.0)
    tied = {layer: names for names in space.ties for layer in names}
    some = [number for number, group in enumerate(space.groups) if group.layer not in tied][::3]
    for number, place in [(0, 2), *((number, place) for number in some for place in (0, 1))]:
        chosen = base.copy()
        chosen[number] = place
        assignment = space.assignment(chosen)
        simulated = codesign.simulate(hw, network, assignment=assignment).to_json()
        for metric, of in JOINT.items():
            added = found.costs[metric][np.arange(len(chosen)), chosen].sum()
            assert added == pytest.approx(of(simulated), rel=1e-9)
            assert costs.of(assignment)[metric] == pytest.approx(of(simulated), rel=1e-12)
        assert costs.cycles(assignment) == simulated["total_cycles"]


def test_sizes_and_bit_operations_by_hand() -> None:
    """smallcnn's first layer on 8x8 digits: 16 filters of 1x3x3."""
    network = zoo.get("smallcnn")
    space = Space(network, parse_choices("w4a4,w8a8,pruneda8", 4))
    costs = Costs(space, precise())
    shape = network.weight_shape("conv1")
    pixels = np.prod(network.shapes["conv1"][1:])
    weights = np.prod(shape)
    everything = costs.of(space.assignment([0] * len(space.groups)))
    row = costs.additive(np.full(len(space.groups), 1)).costs
    assert row["size_mib"][0] == pytest.approx([weights * 4 / MIB, weights * 8 / MIB, 0])
    assert row["bops"][0] == pytest.approx([weights * pixels * 16, weights * pixels * 64, 0])
    of_product = 4 * 4 + 4 + 4 + np.log2(weights / shape[0])
    assert row["impq_bops"][0, 0] == pytest.approx(weights * pixels * of_product)
    assert row["impq_bops"][0, 2] == 0
    for metric in ("size_mib", "bops", "impq_bops"):
        assert everything[metric] == pytest.approx(row[metric][:, 0].sum())


def test_what_the_accelerator_cannot_run_is_named() -> None:
    space = Space(zoo.get("smallcnn"), parse_choices("w4a4,w8a4", 4))
    with pytest.raises(UserError, match="smallcnn on xc7z020_fixed, the base: conv1: a filter"):
        Costs(space, load_hardware("xc7z020_fixed")).additive(np.full(len(space.groups), 1))
    with pytest.raises(UserError, match="smallcnn on xc7z020_fixed, w8a4 in conv1: conv1: a filter"):
        Costs(space, load_hardware("xc7z020_fixed")).additive(np.full(len(space.groups), 0))


def test_the_command_writes_a_table_that_solve_reads(run: Run, tmp_path: Path) -> None:
    hw, table, out = tmp_path / "hw.yaml", tmp_path / "table.json", tmp_path / "out.json"
    hw.write_text(json.dumps(precise().model_dump(mode="json", exclude_defaults=True, exclude={"name"})))
    status, printed, error = run(
        "table", hw, "smallcnn", "--data", "digits", "--sensitivity", "noise-gain", "--choices", "w2a4,w4a4,w8a8",
        "--images", "16", "--float-epochs", "1", "--pin", "conv1=w8a8", "-o", table, "--json", out,
    )  # fmt: skip
    assert status == 0, error
    assert "loss of every choice" in printed
    found = Table.read(table)
    assert [group.name for group in found.groups] == ["conv1", "conv2", "conv3", "fc"]
    assert found.pins == {"conv1": "w8a8"} and found.provenance["base"] == "w8a8"
    assert json.loads(out.read_text())["metrics"] == [
        "latency_ms",
        "energy_mj",
        "traffic_mib",
        "size_mib",
        "bops",
        "impq_bops",
    ]
    most = sum(group.choices[-1].costs["latency_ms"] for group in found.groups)
    status, printed, _ = run("solve", table, "--at-most", f"latency_ms={most * 0.95}")
    assert status == 0 and "proven" in printed
    status, _, error = run("solve", table, "--at-most", "latency_ms=0.0001")
    assert status == 2 and "smallest feasible latency_ms is" in error


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (("--choices", "w4a4,w8a8", "--data", "digits"), "smallcnn on tiny, the base: "),
        (("--choices", "w4a4", "--base", "w2a4"), "base: 'w2a4' given, must be one of the choices, w4a4"),
        (("--choices", "w4a4", "--sensitivity", "trace"), "--sensitivity: 'trace' given, must be weight-variance"),
        (("--choices", "w4a4",), "--data: must be given for the sensitivity 'noise-gain', which looks at images"),
        (("--choices", "w4a4", "--sensitivity", "weight-error"), "--data: must be given to train smallcnn"),
        (("--choices", "w4a4", "--sensitivity", "weight-error", "--images", "3"), "--images: has no effect"),
        (("--choices", "w4a4", "--data-dir", "."), "--data-dir: has no effect without --data"),
    ],
)  # fmt: skip
def test_a_table_that_cannot_be_made_says_why(run: Run, tmp_path: Path, options: tuple[str, ...], says: str) -> None:
    status, _, error = run("table", "tiny", "smallcnn", *options, "-o", tmp_path / "t.json")
    assert status == 2 and says in error and error.count("\n") == 1, error
    assert not (tmp_path / "t.json").exists()

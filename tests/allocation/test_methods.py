"""Every method: what all keep, and of each its smallest behaviour computed another way."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import codesign
from codesign.allocation.costs import Costs
from codesign.allocation.methods.amed import Amed
from codesign.allocation.methods.apq import Apq
from codesign.allocation.methods.aq import Aq
from codesign.allocation.methods.autoq import AutoQ
from codesign.allocation.methods.catalog import METHODS
from codesign.allocation.methods.evaluator import Evaluator
from codesign.allocation.methods.evoq import EvoQ
from codesign.allocation.methods.haq import Haq
from codesign.allocation.methods.hawq_v2 import HAWQ_V2
from codesign.allocation.methods.hawq_v3 import HAWQ_V3
from codesign.allocation.methods.impq import Impq, kernel_gains
from codesign.allocation.methods.jasq import Jasq
from codesign.allocation.methods.mpqnnco import MPQNNCO
from codesign.allocation.methods.msq import Msq
from codesign.allocation.methods.obacwa import OBACWA
from codesign.allocation.methods.own import Codesign
from codesign.allocation.methods.protocol import Method, Task, check_limits
from codesign.allocation.methods.releq import Releq
from codesign.allocation.methods.table_method import TableMethod
from codesign.allocation.methods.zeroq import ZeroQ, distilled
from codesign.allocation.problem import Limit
from codesign.allocation.sensitivities.hessian import hutchinson, layer_eigenvalues
from codesign.allocation.sensitivities.noise_gain import gains
from codesign.allocation.sensitivities.outputs import Divergence
from codesign.allocation.sensitivities.preparing import subject_on
from codesign.allocation.sensitivities.subject import Subject
from codesign.allocation.space import Space, parse_choices
from codesign.api.planning import choices_of
from codesign.data.sources import load_dataset
from codesign.errors import UserError
from codesign.formats.assignment import Assignment
from codesign.formats.ratio import band_ratio, row_counts
from codesign.quant.options import FloatOptions, FormatOptions, QuantizeOptions, RunOptions
from codesign.quant.pipeline import prepared
from codesign.workload import Network, zoo
from tests.allocation.subjects import TINY, subject_of
from tests.allocation.test_costs import precise
from tests.conftest import Run

QUICK: dict[str, Any] = {
    name: replace(method, steps=30, images=16) if isinstance(method, ZeroQ)
    else replace(method, rounds=12) if isinstance(method, Amed)
    else replace(method, evaluations=8) if isinstance(method, Codesign)
    else replace(method, rounds=8, population=5) if isinstance(method, EvoQ | Jasq)
    else replace(method, episodes=8, warm_up=4) if isinstance(method, Haq)
    else replace(method, float_samples=8, samples=6, population=8, generations=2, measured=2) if isinstance(method, Apq)
    else replace(method, episodes=6, warm_up=3) if isinstance(method, AutoQ)
    else replace(method, episodes=6) if isinstance(method, Releq)
    else replace(method, share=0.6) if isinstance(method, Msq)
    else replace(method, draws=1) if isinstance(method, Aq)
    else replace(method, sensitivity=replace(method.sensitivity, probes=8)) if name in ("hawq-v2", "hawq-v3")
    else method.with_epochs(1) if hasattr(method, "with_epochs")
    else method
    for name, method in METHODS.items()
}  # fmt: skip
"""With few rounds."""


def task_of(method: Method, subject: Subject, *limits: Limit, choices: str | None = None, **more: Any) -> Task:
    hw = precise()
    network = subject.space.network
    space = Space(network, choices_of(method, choices, network, hw), method.granularity)
    mine = replace(subject, space=space, _known={}, _quantizers={})
    return Task(space, mine, Costs(space, hw), Evaluator(mine), limits, **more)


def simulated(network: Network, assignment: Assignment) -> float:
    answer = codesign.simulate(precise(), network, assignment=assignment)
    return float(answer.to_json()["latency_ms"])


@pytest.fixture(scope="module")
def digits() -> Subject:
    space = Space(zoo.get("smallcnn"), parse_choices("w4a4,w8a8", 4))
    return subject_on(space, load_dataset("digits"), floats=FloatOptions(1), images=24)


class TestConformance:
    """What every implementation of `Method` keeps."""

    @pytest.mark.parametrize("name", QUICK)
    def test_the_whole_network_keeps_the_limits(self, name: str, digits: Subject) -> None:
        method = QUICK[name]
        limits = (Limit("latency_ms", 0.0273),) if method.limited else ()
        found = method.allocate(task_of(method, digits, *limits))
        found.assignment.check(digits.space.network)
        if limits:
            assert simulated(digits.space.network, found.assignment) <= 0.0273 * (1 + 1e-9)
            assert found.loss is not None and math.isfinite(found.loss)
        again = method.allocate(task_of(method, digits, *limits))
        assert again.assignment == found.assignment
        for one in found.rounds:
            assert one.error["latency_ms"] == pytest.approx(one.additive["latency_ms"] / one.exact["latency_ms"] - 1)
        assert method.paper and method.equations and method.decides and (method.deviations or name == "codesign")

    @pytest.mark.parametrize("name", QUICK)
    def test_what_cannot_be_kept_is_named(self, name: str, digits: Subject) -> None:
        with pytest.raises(UserError, match="at_most latency_ms=0.001") as error:
            QUICK[name].allocate(task_of(QUICK[name], digits, Limit("latency_ms", 0.001)))
        assert "\n" not in str(error.value)

    @pytest.mark.parametrize("name", [name for name, method in QUICK.items() if method.granularity == "layer"])
    def test_pins_hold(self, name: str, digits: Subject) -> None:
        method = QUICK[name]
        task = task_of(method, digits)
        chosen = task.space.names[0]
        found = method.allocate(replace(task, pins={"conv2": chosen}))
        assert found.choices["conv2"] == chosen


def of_losses(task: Task, losses: np.ndarray, most: float) -> float:
    """The least sum of losses of all assignments within a latency, by enumeration and simulation of each."""
    best = math.inf
    for places in product(range(len(task.space.choices)), repeat=len(task.space.groups)):
        loss = float(sum(losses[number, place] for number, place in enumerate(places)))
        if loss < best and simulated(task.space.network, task.space.assignment(places)) <= most * (1 + 1e-9):
            best = loss
    return best


def most_of(task: Task, share: float) -> float:
    """A latency between the least and the most."""
    ends = [task.costs.latency_ms(task.space.assignment([p] * len(task.space.groups))) for p in (0, -1)]
    return float(min(ends) + share * abs(ends[1] - ends[0]))


@pytest.mark.parametrize("share", [0.2, 0.6])
def test_hawq_v3_is_the_best_of_all_by_mean_trace(share: float) -> None:
    task = task_of(HAWQ_V3, subject_of())
    most = most_of(task, share)
    trace = hutchinson(task.subject)
    losses = np.zeros((3, 2))
    for number, layer in enumerate(("a", "b", "fc")):
        mean = max(trace.mean[layer].sum(), 0) / task.subject.weights(layer).numel()
        for place, choice in enumerate(task.space.choices):
            losses[number, place] = mean * float(task.subject.error(layer, choice.form).double().square().sum())
    found = HAWQ_V3.allocate(replace(task, limits=(Limit("latency_ms", most),)))
    assert found.loss == pytest.approx(of_losses(task, losses, most))


def test_hawq_v2_is_the_best_of_all_and_weighs_activations() -> None:
    task = task_of(HAWQ_V2, subject_of(), choices="w2a4,w4a4,w4a8")
    losses = HAWQ_V2.sensitivity.losses(task.subject)
    assert (losses[:, 1] > losses[:, 2]).all()  # the same weights, fewer bits of the map
    most = most_of(task, 0.5)
    found = HAWQ_V2.allocate(replace(task, limits=(Limit("latency_ms", most),)))
    assert found.loss == pytest.approx(of_losses(task, losses, most))


@pytest.mark.parametrize("method", [MPQNNCO, OBACWA], ids=lambda method: method.name)
def test_greedy_and_equal_slopes_are_near_the_best_of_all(method: TableMethod) -> None:
    """Above it by no more than one step can save."""
    choices = "w2,w4,w8" if method is MPQNNCO else "w2a4,w4a4,w8a8"
    task = task_of(method, subject_of(), choices=choices)
    losses = method.sensitivity.losses(task.subject)
    for share in (0.3, 0.7):
        most = most_of(task, share)
        found = method.allocate(replace(task, limits=(Limit("latency_ms", most),)))
        best = of_losses(task, losses, most)
        assert found.loss is not None
        assert best - 1e-9 <= found.loss <= best + (losses.max(axis=1) - losses.min(axis=1)).max()


def test_zeroq_looks_at_distilled_images_alone(digits: Subject) -> None:
    method = ZeroQ(images=16, steps=60)
    blind = replace(digits, images=torch.zeros_like(digits.images), labels=torch.full_like(digits.labels, -1))
    limit = Limit("latency_ms", 0.0273)
    found = method.allocate(task_of(method, digits, limit))
    assert method.allocate(task_of(method, blind, limit)).choices == found.choices
    task = task_of(method, digits, limit)
    dream = distilled(task.subject, 16, 60)
    losses = Divergence().losses(dream)
    chosen = task.space.chosen(found.choices)
    assert found.loss == pytest.approx(losses[np.arange(len(chosen)), chosen].sum())
    assert float(dream.images.min()) >= 0 and float(dream.images.max()) <= 1 and len(dream.images) == 16
    with pytest.raises(UserError, match="network 'tiny': no batch norms, from which images could be distilled"):
        method.allocate(task_of(method, subject_of()))


def test_hawq_gives_no_more_bits_to_what_is_flatter() -> None:
    method = METHODS["hawq"]
    task = task_of(method, subject_of(), choices="w2a4,w4a4,w8a8")
    most = most_of(task, 0.6)
    found = method.allocate(replace(task, limits=(Limit("latency_ms", most),)))
    values = {name: max(value, 0) for name, value in layer_eigenvalues(task.subject).items()}
    order = sorted(values, key=lambda name: values[name] / task.subject.weights(name).numel())
    bits = [int(found.choices[name][1]) for name in order]
    assert bits == sorted(bits)
    best = math.inf
    for some in product(range(3), repeat=3):
        places = dict(zip(order, some, strict=True))
        chosen = [places[group.layer] for group in task.space.groups]
        if list(some) == sorted(some) and simulated(TINY, task.space.assignment(chosen)) <= most * (1 + 1e-9):
            errors = [task.subject.error(name, task.space.choices[places[name]].form) for name in order]
            omega = sum(values[n] * float(e.double().square().sum()) for n, e in zip(order, errors, strict=True))
            best = min(best, omega)
    assert found.loss == pytest.approx(best)


def test_impq_goes_down_its_ladder_until_the_limit_is_kept() -> None:
    """Algorithm 1 written plainly: kernels in a list, the least metric first, two at a time."""
    method = Impq(share=0.15)
    task = task_of(method, subject_of(), choices="w8,w6,w4,w3,w2")
    sizes = {8: 8, 6: 6, 4: 4, 3: 3, 2: 2}
    weights = {"a": 18, "b": 12, "fc": 4}
    mib = 8 * 2**20
    whole = sum(sizes[8] * weights[group.layer] for group in task.space.groups) / mib
    limit = Limit("size_mib", 0.6 * whole)
    found = method.allocate(replace(task, limits=(limit,)))
    of_weights = gains(task.subject)
    ladder = [8, 6, 4, 3, 2]
    kernels = []
    for group in task.space.groups:
        row = group.rows[0]
        gain = float(of_weights[group.layer][row].mean()) / 24
        scale = float(task.subject.weights(group.layer)[row].double().abs().mean())
        kernels.append({"name": group.name, "size": weights[group.layer], "metric": gain * scale, "at": 0})
    while sum(k["size"] * ladder[k["at"]] for k in kernels) / mib > limit.bound:
        down = sorted((k for k in kernels if k["at"] < 4), key=lambda k: k["metric"] / 2 ** ladder[k["at"]])
        for kernel in down[: math.ceil(0.15 * len(kernels))]:
            kernel["at"] += 1
    assert found.choices == {k["name"]: f"w{ladder[k['at']]}a4" for k in kernels}
    printed = kernel_gains(task.subject, official=False)
    rows = [float(of_weights[group.layer][group.rows[0]].sum()) / 24 for group in task.space.groups]
    assert printed == pytest.approx(rows)


def test_rmsmp_deals_as_quantize_does() -> None:
    hw = codesign.load_hardware("xc7z020_rmsmp")
    network, data = zoo.get("smallcnn"), load_dataset("digits")
    ratio = band_ratio(hw)
    space = Space(network, parse_choices(",".join(map(str, ratio)), hw.act_bits), "row")
    subject = subject_on(space, data, floats=FloatOptions(1), images=64)
    found = METHODS["rmsmp"].allocate(Task(space, subject, Costs(space, hw), Evaluator(subject))).assignment
    for name in found.rows:
        counts = found.counts_by_layer()[name]
        assert counts == {form: n for form, n in row_counts(sum(counts.values()), ratio).items() if n}
    options = QuantizeOptions(FormatOptions("rmsmp", ratio, hw.act_bits), FloatOptions(1))
    stage = prepared(network, data, options, run=RunOptions(0))
    same = [(found.codes(name) == stage.model.assignment.codes(name)).mean() for name in found.rows]
    assert stage.model.assignment.palette == found.palette and np.mean(same) > 0.9


def test_amed_finds_the_best_of_all_on_a_small_network() -> None:
    """27 assignments, cross entropies by one network for each, made and calibrated apart from the method."""
    method = Amed(rounds=150, temperature=0.2, gamma=0.05)
    task = task_of(method, subject_of(images=24), choices="w2a4,w4a4,w8a8")
    most = most_of(task, 0.6)
    found = method.allocate(replace(task, limits=(Limit("latency_ms", most),)))
    apart = Evaluator(task.subject)
    entropies = []
    for places in product(range(3), repeat=3):
        assignment = task.space.assignment(places)
        if simulated(TINY, assignment) <= most * (1 + 1e-9):
            entropies.append(apart.of(assignment).cross_entropy)
    assert found.loss == pytest.approx(min(entropies))
    assert task.evaluator.runs <= 27


def test_an_evaluation_is_that_of_the_quantized_network(digits: Subject) -> None:
    """By `quantize` from the same float weights, whose calibration images are others."""
    space = Space(digits.space.network, parse_choices("w8a8", 8))
    assignment = space.assignment([0] * 4)
    found = Evaluator(digits).of(assignment)
    with torch.no_grad():
        exact = digits.float_results.double()
        entropy = torch.nn.functional.cross_entropy(exact, digits.labels)
    assert found.cross_entropy == pytest.approx(float(entropy), rel=0.05)
    assert found.output_error < 0.01 * float(exact.square().sum(1).mean())
    # eight bits change next to nothing
    assert 0 <= found.divergence < 0.01
    worse = Evaluator(digits).of(Space(digits.space.network, parse_choices("w2a4", 8)).assignment([0] * 4))
    assert worse.output_error > 10 * found.output_error


OWN = """
from codesign.allocation.methods.table_method import TableMethod
from codesign.allocation.sensitivities.weights import WeightError
from codesign.allocation.solvers.lagrangian import Lagrangian

MINE = TableMethod(
    name="mine", paper="", equations="", decides="layer: bits of weights",
    sensitivity=WeightError(), solver=Lagrangian(), choices="w4,w8",
)
"""


def test_a_method_of_ones_own_and_what_allocate_writes(run: Run, tmp_path: Path) -> None:
    """From the command to a quantized network that runs at the latency that was promised."""
    hw, own, out = tmp_path / "hw.yaml", tmp_path / "my.py", tmp_path / "assignment.json"
    hw.write_text(json.dumps(precise().model_dump(mode="json", exclude_defaults=True, exclude={"name"})))
    own.write_text(OWN)
    common = ("--data", "digits", "--float-epochs", "1")
    status, printed, error = run(
        "allocate", "smallcnn", "--method", f"{own}:MINE", "--hw", hw, *common, "--at-most", "latency_ms=0.0275",
        "--images", "16", "-o", out, "--json", tmp_path / "answer.json",
    )  # fmt: skip
    assert status == 0, error
    assert "additive tables against the whole network" in printed
    answer = json.loads((tmp_path / "answer.json").read_text())
    assert answer["method"] == "mine" and answer["costs"]["latency_ms"] <= 0.0275
    assert answer["rounds"][-1]["additive_error"]["latency_ms"] == pytest.approx(0, abs=1e-6)
    network = tmp_path / "net.codesign"
    status, _, error = run(
        "quantize", "smallcnn", "--assignment", out, "--hw", hw, *common, "--epochs", "0", "-o", network
    )
    assert status == 0, error
    status, _, _ = run("simulate", hw, network, "--json", tmp_path / "simulated.json")
    seen = json.loads((tmp_path / "simulated.json").read_text())
    assert seen["latency_ms"] == pytest.approx(answer["costs"]["latency_ms"], rel=1e-9)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (("--method", "hawq-v4"), "--method: 'hawq-v4' given, must be codesign, rmsmp, impq"),
        (("--method", "no.py:X"), "--method no.py:X: no such file"),
        (("--method", "my.py:X"), "--method my.py:X: the file has no 'X'"),
        (("--method", "my.py:BAD"), "--method my.py:BAD: is no method, it lacks name, paper"),
        (("--method", "broken.py:X"), "--method broken.py:X: the file cannot be run: ZeroDivisionError: division"),
        (("--method", "hawq-v3", "--pin", "conv9=w4a4"), "--pin conv9=w4a4: no group is named so; did you mean 'conv"),
        (("--method", "hawq-v3", "--pin", "conv1=w3a4"), "--pin conv1=w3a4: must be one of w4a4, w8a8"),
        (("--method", "hawq-v3", "--choices", "w16a4"), "--choices: 'w16a4' given, must be FORMAT"),
        (
            ("--method", "hawq-v3", "--at-most", "lut=3"),
            "--at-most lut: the accelerator is given, and no choice of bits changes",
        ),
        (("--method", "rmsmp", "--at-most", "latency_ms=1"), "--at-most latency_ms=1: the method 'rmsmp' knows no"),
        (
            ("--method", "fracbits", "--choices", "w3,pot3"),
            "w3a4,pot3a4 given, must be formats of different bits",
        ),
        (("--method", "dq", "--choices", "w4a4,w8a8"), "w4a4,w8a8 given, must be every pair of some fixed-point"),
        (("--method", "hawq-v3", "--at-most", "latency_ms=0.001"), "the smallest feasible latency_ms is 0.02"),
    ],
)
def test_what_cannot_be_allocated_is_said(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: tuple[str, ...], says: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("my.py").write_text("BAD = 3\n")
    Path("broken.py").write_text("1 / 0\n")
    Path("hw.yaml").write_text(json.dumps(precise().model_dump(mode="json", exclude_defaults=True, exclude={"name"})))
    status, _, error = run("allocate", "smallcnn", *options, "--hw", "hw.yaml", "--data", "digits", "-o", "a.json")
    assert status == 2 and says in error and error.count("\n") == 1, error
    assert not Path("a.json").exists()


def test_limits_on_what_costs_do_not_have_are_refused() -> None:
    with pytest.raises(
        UserError, match="at_least latency: no such metric, must be one of latency_ms, energy_mj, tra.*mea"
    ):
        check_limits(HAWQ_V3, [Limit("latency", 3.0, "least")])
    with pytest.raises(UserError, match="at_most accuracy: an accuracy has a floor, no ceiling: at_least accuracy=0.9"):
        check_limits(HAWQ_V3, [Limit("accuracy", 0.9)])
    for metric in ("luts", "dsps", "brams", "LUT", "bram36"):
        with pytest.raises(UserError, match=f"at_most {metric}: the accelerator is given.*search.*synth"):
            check_limits(HAWQ_V3, [Limit(metric, 3.0)])


def test_the_command_lists_what_works(run: Run, tmp_path: Path) -> None:
    status, printed, _ = run("methods", "--json", tmp_path / "methods.json")
    listed = json.loads((tmp_path / "methods.json").read_text())["methods"]
    assert status == 0 and [one["name"] for one in listed] == list(METHODS)
    assert all(one["paper"] and one["equations"] for one in listed)
    assert all(one["deviations"] or one["name"] == "codesign" for one in listed)
    assert "departs from it" in printed


@pytest.fixture(scope="module")
def resnet() -> Any:
    """ResNet-8, trained for two epochs on real images."""
    from codesign.quant.module import build_module
    from codesign.quant.training import train

    data = load_dataset("cifar10_small")
    module = build_module(zoo.get("resnet8"), 0)
    train(module, data.train_images, data.train_labels, epochs=2, learning_rate=5e-3)
    return module.eval(), data


@pytest.mark.slow
@pytest.mark.parametrize("name", QUICK)
def test_resnet8_on_real_images(name: str, resnet: Any, tmp_path: Path) -> None:
    """Allocated, quantized without training, and simulated: the latency is what was promised."""
    module, data = resnet
    hw = codesign.load_hardware("xc7z020_rmsmp") if name == "rmsmp" else precise()
    most = {"latency_ms": 0.7} if METHODS[name].limited else None
    found = codesign.allocate(
        module, method=QUICK[name], hardware=hw, data=data, at_most=most, images=16, out=tmp_path / "assignment.json"
    )
    if most:
        assert found.costs["latency_ms"] <= 0.7
    made = codesign.quantize(
        module, data.part(test=100), assignment=tmp_path / "assignment.json", hardware=hw, epochs=0
    )
    taken, promised = codesign.simulate(hw, made).to_json()["latency_ms"], found.costs["latency_ms"]
    if name == "msq":  # no band has SP2: a row whose values a narrower one holds takes less than its format may
        assert taken <= promised * (1 + 1e-9)
    else:
        assert taken == pytest.approx(promised, rel=1e-9)
    assert made.validation.agreement > 0.9

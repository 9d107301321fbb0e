"""Methods whose rule has one free number, which moves until the limits are kept."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch

from codesign.allocation.methods.aq import ALPHA, Aq, borne, closed_form, measured
from codesign.allocation.methods.catalog import METHODS
from codesign.allocation.methods.hybrid_net import HybridNet, jumps_of
from codesign.allocation.methods.pdb import Pdb, rungs_at, rungs_by_speed, share_reached
from codesign.allocation.problem import Limit
from codesign.allocation.sensitivities.components import component_count, layer_components
from codesign.allocation.sensitivities.separability import layer_separability, separability
from codesign.allocation.space import Space, parse_choices
from codesign.errors import UserError
from codesign.quant.placing import generator, uniform
from codesign.workload import zoo
from tests.allocation.subjects import TINY, subject_of
from tests.allocation.test_methods import simulated, task_of


def test_the_closed_form_by_hand() -> None:
    """Weights of 1 and 20: b_2 is b_1 + log4(20) = b_1 + 2.16; the constant falls from above all of them."""
    found = [tuple(rungs.tolist()) for rungs in closed_form(np.array([1.0, 20.0]), np.array([8, 7, 6, 5, 4]))]
    bits = [(8 - first, 8 - second) for first, second in found]
    # b_1 falls at 7.5, 6.5, 5.5, 4.5, and b_2 at constants of 5.34, 4.34, 3.34, 2.34
    assert bits == [(8, 8), (7, 8), (6, 8), (5, 8), (5, 7), (4, 7), (4, 6), (4, 5), (4, 4)]


def test_what_the_last_layer_bears_and_makes() -> None:
    """Results are linear in its weights: everything follows from the map it reads, in numpy."""
    subject = subject_of("w8,w4", images=40)
    x = subject.maps["fc"].flatten(1).double().numpy()
    weights = subject.weights("fc").double().numpy()
    exact = subject.float_results.double().numpy()
    assert exact - exact[:, :1] == pytest.approx((x @ weights.T) - (x @ weights.T)[:, :1], abs=1e-5)  # biases are 0
    found = measured(subject, 0, 0.3, 1)
    top = np.sort(exact, axis=1)
    next_class = np.mean((top[:, -1] - top[:, -2]) ** 2 / 2)
    error = subject.error("fc", subject.space.choices[0].form).double().numpy()
    assert found.makes[2] == pytest.approx(np.square(x @ error.T).sum(1).mean() * 4.0**8, rel=1e-4)
    assert found.size.tolist() == [72, 48, 12]

    draw = uniform((3, 4), generator(7)) - 0.5
    noise = x @ draw.double().numpy().T
    tolerated = borne(subject, "fc", [draw], 0.3)
    scale = np.sqrt(tolerated / np.square(noise).sum(1).mean())

    def changed(size: float) -> float:
        return float((np.argmax(exact + size * noise, axis=1) != np.argmax(exact, axis=1)).mean())

    assert changed(0.999 * scale) < 0.3 <= changed(1.001 * scale)
    source = generator(subject.seed)
    draws = [uniform(subject.weights(name).shape, source) - 0.5 for name in ("a", "b", "fc")]
    assert found.bears == pytest.approx(
        [borne(subject, name, [one], 0.3) / next_class for name, one in zip(("a", "b", "fc"), draws, strict=True)]
    )


@pytest.mark.parametrize("share", [0.8, 0.55])
def test_aq_takes_the_largest_constant_that_keeps_the_limit(share: float) -> None:
    """By a scan of constants in small steps, bits rounded plainly, sizes counted by hand."""
    method = Aq(draws=1)
    task = task_of(method, subject_of(images=40))
    found = measured(task.subject, 0, method.drop, method.draws)
    shift = np.log(found.makes / (found.bears * found.size)) / ALPHA
    sizes = np.array([72, 48, 12])
    most = share * 8 * sizes.sum() / (8 * 2**20)
    scanned = np.clip(np.floor(np.arange(30, -30, -1e-3)[:, None] + shift + 0.5), 2, 8)
    bits = scanned[np.argmax(scanned @ sizes / (8 * 2**20) <= most)]
    got = method.allocate(replace(task, limits=(Limit("size_mib", most),)))
    assert got.choices == {name: f"w{int(b)}a4" for name, b in zip(("a", "b", "fc"), bits, strict=True)}
    assert got.loss == pytest.approx((found.makes / found.bears * 4.0**-bits).sum())
    assert set(method.allocate(task).choices.values()) == {"w8a4"}


def test_aq_says_what_it_needs() -> None:
    for choices, granularity in (("w4a4,w8a8", "layer"), ("w4,pot4", "layer"), ("w4,fixed4a8", "layer")):
        with pytest.raises(UserError, match="but the method 'aq' chooses bits of weights alone, must be fixed point"):
            Aq().check(Space(TINY, parse_choices(choices, 4), granularity))
    with pytest.raises(UserError, match="granularity: row given, must be layer: the method 'aq' has no rows"):
        Aq().check(Space(TINY, parse_choices("w4,w8", 4), "row"))
    with pytest.raises(UserError, match="drop: 1 given, must be between 0 and 1"):
        Aq(drop=1).allocate(task_of(Aq(), subject_of()))


def test_components_of_maps_with_a_known_spectrum() -> None:
    """Variances 100, 1, 0.05, 0.01 along four orthogonal directions, and a mean far away."""
    rng = np.random.default_rng(0)
    scores = np.linalg.qr(rng.standard_normal((600, 5)) - 0.0)[0]
    scores = np.linalg.qr(np.column_stack([np.ones(600), scores]))[0][:, 1:5] * np.sqrt(600)  # mean 0, variance 1
    turned = np.linalg.qr(rng.standard_normal((4, 4)))[0]
    values = scores * np.sqrt([100, 1, 0.05, 0.01]) @ turned.T + 37
    maps = torch.from_numpy(values.reshape(6, 10, 10, 4)).movedim(3, 1)
    total = 101.06
    for share, count in (
        (0.98, 1),
        (100 / total + 1e-6, 2),
        (0.999, 2),
        (101 / total + 1e-6, 3),
        (101.05 / total + 1e-6, 4),
        (1.0, 4),
    ):
        assert component_count(maps, share) == count
    assert component_count(torch.full((2, 3, 4, 4), 5.1), 0.999) == 0


def test_components_of_a_networks_layers() -> None:
    """Against singular values of what the layers compute in the quantized network, from its own weights."""
    task = task_of(METHODS["hybrid-net"], subject_of(images=30))
    model = task.evaluator.calibrated(task.space.assignment([0] * 3))
    found = layer_components(model, task.subject.images, 0.9)
    pixels = model.quantizers[0](task.subject.images)
    conv = model.conv("a")
    maps = conv.convolve(pixels, conv.quantized_weight(), conv.quantized_bias(model.quantizers[0].scale_tensor))
    samples = maps.detach().double().numpy().transpose(0, 2, 3, 1).reshape(-1, 4)
    power = np.linalg.svd(samples - samples.mean(0), compute_uv=False) ** 2
    assert found["a"] == 1 + int((np.cumsum(power) < 0.9 * power.sum()).sum())
    assert list(found) == ["a", "b", "fc"]


def test_hybrid_net_gives_more_bits_where_components_jump(monkeypatch: pytest.MonkeyPatch) -> None:
    """ResNet-8 with recorded numbers of components: tied layers go together, least jumps go back first."""
    method = HybridNet()
    space = Space(zoo.get("resnet8"), parse_choices("w4a4,w8a8", 4))
    names = [group.layer for group in space.groups]
    channels = [space.convs[name].weight_shape[0] for name in names]
    counts = [12, 11, 12, 20, 31, 25, 26, 60, 33, 10]
    jumps = dict(zip(names, (0, -1, 1, 8, 11, -6, 1, 34, -27, -23), strict=True))
    assert jumps_of(dict(zip(names, counts, strict=True))) == jumps
    significant = {name for name, size in zip(names, channels, strict=True) if jumps[name] > 0.05 * size}
    assert significant == {names[place] for place in (2, 3, 4, 7)}
    candidates = [{names[at] for at in np.flatnonzero(chosen == 1)} for chosen in method._candidates(space, jumps, 1)]
    tied = [set(names_of) for names_of in space.ties]
    assert len(tied) == 2
    first = significant | {names[0], names[-1]}
    for layers in tied:
        first |= layers if layers & first else set()
    assert candidates[0] == first
    assert candidates[-2:] == [{names[0]}, set()] or candidates[-2:] == [{names[-1]}, set()]
    gone = [before - after for before, after in pairwise(candidates)]
    sizes = [max(jumps[name] for name in layers) for layers in gone[:-2]]
    assert sizes == sorted(sizes) and all(layers in tied or len(layers) == 1 for layers in gone)


def test_hybrid_net_keeps_limits_from_the_significant_layers_down() -> None:
    """Its answer is the first of the candidates that keeps the limit, each simulated."""
    method = replace(HybridNet(), variance=0.9)
    task = task_of(method, subject_of(images=24))
    few, more = (simulated(TINY, task.space.assignment([place] * 3)) for place in (0, 1))
    most = max(few, more) * 0.999
    counts = layer_components(task.evaluator.calibrated(task.space.assignment([0] * 3)), task.subject.images, 0.9)
    kept = [
        chosen
        for chosen in method._candidates(task.space, jumps_of(counts), 1)
        if simulated(TINY, task.space.assignment(chosen)) <= most * (1 + 1e-9)
    ]
    found = method.allocate(replace(task, limits=(Limit("latency_ms", most),)))
    assert task.space.chosen(found.choices).tolist() == kept[0].tolist()
    with pytest.raises(UserError, match="choices: w4a4,w6a6,w8a8 given, must be two with the method 'hybrid-net'"):
        method.check(Space(TINY, parse_choices("w4a4,w6a6,w8a8", 4)))
    with pytest.raises(UserError, match="choices: w4a8,w8a4 given, must be two"):
        method.check(Space(TINY, parse_choices("w4a8,w8a4", 4)))


def test_separability_by_hand() -> None:
    """Classes {0, 2} and {10, 12}: means 1 and 11, of all 6; between 4 * 25, within 4 * 1."""
    assert separability(np.array([0.0, 2, 10, 12]), np.array([0, 0, 1, 1])) == pytest.approx(25)
    assert separability(np.array([[0.0], [0], [1]]), np.array([3, 3, 5])) == np.inf
    subject = subject_of(images=20)
    found = layer_separability(subject)
    values = subject.images.flatten(1).double().numpy()
    labels = subject.labels.numpy()
    means = np.stack([values[labels == label].mean(0) for label in labels])
    expected = np.square(means - values.mean(0)).sum() / np.square(values - means).sum()
    assert found["a"] == pytest.approx(expected)
    with pytest.raises(UserError, match="network 'tiny': no images with classes, which separability is of"):
        layer_separability(replace(subject, labels=torch.full_like(subject.labels, -1)))
    with pytest.raises(UserError, match="20 images of one class"):
        layer_separability(replace(subject, labels=torch.zeros_like(subject.labels)))


def test_bits_fall_with_the_separability_that_is_reached() -> None:
    """1, 2, 1.5, 5: the shares are 0, 1/4, 1/4 and 1; with four choices layers go down by 0, 1, 1 and 3 rungs."""
    reached = share_reached(np.array([1.0, 2.0, 1.5, 5.0]))
    assert reached == pytest.approx([0, 0.25, 0.25, 1])
    assert rungs_at(reached, 4, 4).tolist() == [0, 1, 1, 3]
    found = [tuple(rungs.tolist()) for rungs in rungs_by_speed(reached, 3)]
    assert found == [(0, 0, 0, 0), (0, 0, 0, 1), (0, 0, 0, 2), (0, 1, 1, 2), (0, 2, 2, 2), (1, 2, 2, 2), (2, 2, 2, 2)]
    assert share_reached(np.array([2.0, 1.0])).tolist() == [0, 0]


@pytest.mark.parametrize("share", [0.8, 0.5])
def test_pdb_goes_down_no_faster_than_the_limit_wants(share: float) -> None:
    """By a scan of speeds in small steps, sizes counted by hand."""
    method = Pdb()
    task = task_of(method, subject_of(images=30), choices="w8,w4,w2")
    reached = share_reached(np.array(list(layer_separability(task.subject).values())))
    sizes, ladder = np.array([72, 48, 12]), np.array([8, 4, 2])
    most = share * 8 * sizes.sum() / (8 * 2**20)
    scanned = ladder[np.minimum((np.arange(0, 400, 1e-3)[:, None] * reached).astype(int), 2)]
    kept = scanned @ sizes / (8 * 2**20) <= most
    bits = scanned[np.argmax(kept)] if kept.any() else np.minimum(scanned[-1], 4)  # the first layer goes down as well
    found = method.allocate(replace(task, limits=(Limit("size_mib", most),)))
    assert found.choices == {name: f"w{width}a4" for name, width in zip(("a", "b", "fc"), bits, strict=True)}
    free = method.allocate(task).choices
    plain = ladder[np.minimum(np.floor(3 * reached + 1e-9).astype(int), 2)]
    assert free == {name: f"w{width}a4" for name, width in zip(("a", "b", "fc"), plain, strict=True)}

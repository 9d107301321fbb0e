"""Methods whose rule has one free number, which moves until the limits are kept."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from codesign.allocation.methods.aq import ALPHA, Aq, borne, closed_form, measured
from codesign.allocation.problem import Limit
from codesign.allocation.space import Space, parse_choices
from codesign.errors import UserError
from codesign.quant.placing import generator, uniform
from tests.allocation.subjects import TINY, subject_of
from tests.allocation.test_methods import task_of


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
    method = Aq()
    task = task_of(method, subject_of(images=40))
    found = measured(task.subject, 0, method.drop, method.draws)
    shift = np.log(found.makes / (found.bears * found.size)) / ALPHA
    sizes = np.array([72, 48, 12])
    most = share * 8 * sizes.sum() / (8 * 2**20)
    for constant in np.arange(30, -30, -1e-3):
        bits = np.clip(np.floor(constant + shift + 0.5), 2, 8)
        if (bits * sizes).sum() / (8 * 2**20) <= most:
            break
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

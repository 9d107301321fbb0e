"""Methods that deal formats to rows in a ratio."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import codesign
from codesign.allocation.costs import Costs
from codesign.allocation.methods.evaluator import Evaluator
from codesign.allocation.methods.film_qnn import FilmQnn
from codesign.allocation.methods.msq import Msq
from codesign.allocation.methods.protocol import Task
from codesign.allocation.space import Space, parse_choices
from codesign.arch.hardware import Hardware
from codesign.arch.load import load_hardware
from codesign.errors import UserError
from codesign.formats.row_format import FIXED4, FIXED8, SP2
from codesign.integer.network import IntegerConv
from codesign.quant.rmsmp import assign
from codesign.sim.cosim import run as cosim
from codesign.sim.functional import quantize_input
from tests.allocation.subjects import TINY, subject_of
from tests.allocation.test_costs import precise
from tests.conftest import Run


def sp2_hardware(sp2: int = 3, fixed: int = 2) -> Hardware:
    """The small accelerator with so many rows of SP2 in LUTs and of 4-bit multipliers."""
    bands = [
        {"scheme": "sp2", "rows": sp2},
        {"scheme": "fixed", "weight_bits": 4, "rows": fixed, "multiplier": "dsp"},
    ]
    return Hardware.model_validate(load_hardware("tiny").model_dump() | {"name": "mixed", "bands": bands})


def test_msq_gives_sp2_to_the_rows_of_least_variance() -> None:
    """In the ratio of the bands, 3 : 2: of 4 rows 2 (2.4) and 2 (1.6), of 3 rows 2 (1.8) and 1 (1.2)."""
    hw, method = sp2_hardware(), Msq()
    subject = subject_of("sp2,w4", "row")
    task = Task(subject.space, subject, Costs(subject.space, hw), Evaluator(subject))
    found = method.allocate(task).assignment
    for name, count in {"a": 2, "b": 2, "fc": 2}.items():
        variances = [float(np.var(row)) for row in subject.weights(name).double().numpy()]
        low = sorted(range(len(variances)), key=lambda row: variances[row])[:count]
        assert [form == SP2 for form in found[name]] == [row in low for row in range(len(variances))]
        assert set(found[name]) == {SP2, FIXED4}
    assert found.act_bits == 4
    all_of_them = replace(method, share=1.0).allocate(task).assignment
    assert all(set(all_of_them[name]) == {SP2} for name in ("a", "b", "fc"))


def test_msq_says_what_it_needs() -> None:
    method = Msq()
    with pytest.raises(UserError, match=r"tiny: no band of sp24, but the method 'msq' .* add a band \{scheme: sp2, w"):
        method.ratio(load_hardware("tiny"))
    with pytest.raises(UserError, match="choices: w4a4,w8a4 given, must be sp24,fixed4 with the method 'msq'"):
        method.check(Space(TINY, parse_choices("w4,w8", 4), "row"))
    with pytest.raises(UserError, match="granularity: layer given, must be row: the method 'msq' deals rows"):
        method.check(Space(TINY, parse_choices("sp2,w4", 4)))
    with pytest.raises(UserError, match="share: 1.5 given, must be 0 to 1"):
        Msq(share=1.5).ratio(sp2_hardware())


def test_msq_from_the_command_to_the_simulated_network(run: Run, tmp_path: Path) -> None:
    hw, out, network = tmp_path / "hw.yaml", tmp_path / "assignment.json", tmp_path / "net.codesign"
    hw.write_text(json.dumps(sp2_hardware().model_dump(mode="json", exclude_defaults=True, exclude={"name"})))
    common = ("smallcnn", "--data", "digits", "--float-epochs", "1", "--hw", hw)
    status, _, error = run("allocate", *common, "--method", "msq", "-o", out, "--json", tmp_path / "answer.json")
    assert status == 0, error
    answer = json.loads((tmp_path / "answer.json").read_text())
    assert answer["shares"] == pytest.approx({"sp24": 0.6, "fixed4": 0.4}, abs=0.03)
    status, _, error = run("quantize", *common, "--assignment", out, "--epochs", "0", "-o", network)
    assert status == 0, error
    seen = codesign.simulate(hw, network).to_json()
    assert seen["latency_ms"] == pytest.approx(answer["costs"]["latency_ms"], rel=1e-9)
    status, _, error = run("allocate", *common[:-1], "xc7z020_fixed_lut", "--method", "msq", "-o", out)
    assert status == 2 and "no band of sp24, but the method 'msq'" in error and error.count("\n") == 1
    status, _, error = run("allocate", *common, "--method", "msq", "--pin", "conv1[0]=fixed4", "-o", out)
    assert status == 2 and "--pin conv1[0]=fixed4: must be one of sp24a4, w4a4" in error


def least_error(row: np.ndarray, bits: int) -> float:
    """Of symmetric fixed point, over 3,000 scales."""
    top = 2 ** (bits - 1) - 1
    scales = np.abs(row).max() / top * np.linspace(0.2, 1.4, 3000)[:, None]
    rounded = np.clip(np.round(row / scales), -top, top) * scales
    return float(np.square(rounded - row).sum(axis=1).min())


def test_film_qnn_gives_eight_bits_to_the_filter_they_help_most() -> None:
    """5 % of 4 and of 3 filters are one; the maps have 5 bits."""
    method = FilmQnn()
    subject = subject_of("w4a5,w8a5", "row")
    task = Task(subject.space, subject, Costs(subject.space, precise()), Evaluator(subject))
    found = method.allocate(task).assignment
    for name in ("a", "b", "fc"):
        rows = subject.weights(name).double().numpy()
        saved = [least_error(row, 4) - least_error(row, 8) for row in rows]
        assert [form == FIXED8 for form in found[name]] == [row == np.argmax(saved) for row in range(len(rows))]
    assert (found.act_bits, found.bits("input"), found.bits("p")) == (5, 5, 5)
    half = replace(method, share=0.5).allocate(task).assignment
    assert [sum(form == FIXED8 for form in half[name]) for name in ("a", "b", "fc")] == [2, 2, 2]
    images = subject.images.numpy()
    by_eigenvalue = replace(method, by="eigenvalue").allocate(task).assignment
    rule = assign(subject.model, images, {FIXED4: 95, FIXED8: 5}, count=len(images))
    assert all(by_eigenvalue[name] == rule[name] for name in ("a", "b", "fc"))


def test_film_qnn_says_what_it_needs() -> None:
    with pytest.raises(UserError, match="choices: w4a5,w6a5 given, must be fixed4,fixed8 with the method 'film-qnn'"):
        FilmQnn().check(Space(TINY, parse_choices("w4a5,w6a5", 4), "row"))
    subject = subject_of("w4a5,w8a5", "row")
    task = Task(subject.space, subject, Costs(subject.space, precise()), Evaluator(subject))
    with pytest.raises(UserError, match="share: -0.1 given, must be 0 to 1"):
        FilmQnn(share=-0.1).allocate(task)
    with pytest.raises(UserError, match="pin: the method 'film-qnn' deals all rows of a layer by its rule"):
        FilmQnn().allocate(replace(task, pins={"a[0]": "w8a5"}))


@pytest.mark.slow
def test_a_network_in_msqs_ratio_is_exact_on_the_rtl() -> None:
    """Trained with its formats, every layer in both bands."""
    hw = sp2_hardware()
    data = codesign.load_dataset("digits")
    found = codesign.allocate("smallcnn", method="msq", hardware=hw, data=data, float_epochs=2)
    made = codesign.quantize("smallcnn", data, assignment=found.assignment, hardware=hw, float_epochs=2, epochs=1)
    network = made.integer_network
    for layer in network.layers:
        if isinstance(layer, IntegerConv):
            assert {str(scheme) for scheme in layer.scheme} == {"sp2", "fixed"}
    result = cosim.run_network(hw, network, quantize_input(network.input, data.test_images[:2]))
    assert result.mismatched_values == 0 and result.compared_values > 3000
    assert result.rtl_cycles == result.model_cycles and result.exact

"""Options of `codesign quantize`: each gives the integers that a direct call gives, and others than without it."""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx.helper
import onnx.numpy_helper
import pytest

from codesign.api.quantizing import CHOICES, Quantizing
from codesign.cli.quantizing import OPTIONS
from codesign.data.sources import load_dataset
from codesign.formats.ratio import parse_ratio
from codesign.integer.checks import same_network
from codesign.integer.network import IntegerNetwork
from codesign.integer.storage import load_network
from codesign.interchange.load import import_float
from codesign.quant.adaround import adaround
from codesign.quant.options import (
    NO_TRAINING,
    CalibrationOptions,
    DistillationOptions,
    FloatOptions,
    FormatOptions,
    QuantizeOptions,
    Teacher,
    TrainingOptions,
    WeightOptions,
)
from codesign.quant.pipeline import quantize
from codesign.workload import zoo

Run = Callable[..., tuple[int, str, str]]

NETWORK = "smallcnn:size=8,width=2"
DOCS = Path(__file__).parents[2] / "docs" / "reference" / "quantizing.md"
BASE = QuantizeOptions(FormatOptions("fixed", parse_ratio("fixed3:1")), FloatOptions(1), training=NO_TRAINING)
ONE = replace(BASE, training=TrainingOptions(1))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data set that is small, as a file of one's own, and a teacher."""
    folder = tmp_path_factory.mktemp("data")
    digits = load_dataset("digits")
    arrays = {
        "x_train": digits.train_images[:200], "y_train": digits.train_labels[:200],
        "x_val": digits.validation_images[:40], "y_val": digits.validation_labels[:40],
        "x_test": digits.test_images[:40], "y_test": digits.test_labels[:40],
    }  # fmt: skip
    np.savez(folder / "small.npz", **arrays)  # type: ignore[arg-type]
    rng = np.random.default_rng(0)
    weights = {"w": rng.standard_normal((10, 64)), "b": rng.standard_normal(10)}
    nodes = [
        onnx.helper.make_node("Flatten", ["x"], ["f"]),
        onnx.helper.make_node("Gemm", ["f", "w", "b"], ["y"], transB=1),
    ]
    values = [onnx.numpy_helper.from_array(array.astype(np.float32), name) for name, array in weights.items()]
    kind = onnx.TensorProto.FLOAT
    ends = [onnx.helper.make_tensor_value_info(*end) for end in (("x", kind, (1, 1, 8, 8)), ("y", kind, (1, 10)))]
    graph = onnx.helper.make_graph(nodes, "teacher", ends[:1], ends[1:], values)
    onnx.save(onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)]), folder / "teacher.onnx")
    return folder


def same(one: IntegerNetwork, two: IntegerNetwork) -> bool:
    return same_network(replace(one, provenance={}), replace(two, provenance={}))


DOORS: dict[str, tuple[tuple[object, ...], QuantizeOptions, QuantizeOptions]] = {
    "calibration": (("--calibration", "rms4"), replace(BASE, calibration=CalibrationOptions("rms4")), BASE),
    "batch norms": (("--calibration", "batchnorm"), replace(BASE, calibration=CalibrationOptions("batchnorm")), BASE),
    "percentile": (
        ("--calibration", "percentile", "--percentile", 90),
        replace(BASE, calibration=CalibrationOptions("percentile", 90)),
        replace(BASE, calibration=CalibrationOptions("percentile")),
    ),
    "images": (("--calibration-images", 3), replace(BASE, calibration=CalibrationOptions(images=3)), BASE),
    "zero shot": (
        ("--zero-shot", "--calibration-images", 4),
        replace(BASE, calibration=CalibrationOptions(zero_shot=True, images=4)),
        replace(BASE, calibration=CalibrationOptions(images=4)),
    ),
    "weight scale": (("--weight-scale", "minmax"), replace(BASE, weights=WeightOptions("minmax")), BASE),
    "granularity": (("--granularity", "layer"), replace(BASE, weights=WeightOptions(granularity="layer")), BASE),
    "group": (
        ("--granularity", "group", "--group-rows", 2),
        replace(BASE, weights=WeightOptions(granularity="group", group_rows=2)),
        replace(BASE, weights=WeightOptions(granularity="group")),
    ),
    "splitting": (("--post-training", "ocs"), replace(BASE, post_training=("ocs",)), BASE),
    "order": (
        ("--post-training", "equalize, bias,adaround"),
        replace(BASE, post_training=("equalize", "bias", "adaround")),
        replace(BASE, post_training=("equalize", "adaround", "bias")),
    ),
    "rule": (
        ("--epochs", 1, "--training-rule", "lsq+"),
        replace(BASE, training=TrainingOptions(1, "lsq+")),
        ONE,
    ),
    "learning rate": (
        ("--epochs", 1, "--learning-rate", 0.03),
        replace(BASE, training=TrainingOptions(1, learning_rate=0.03)),
        ONE,
    ),
    "distillation": (
        ("--epochs", 1, "--distill", 0.5),
        replace(BASE, training=TrainingOptions(1, distillation=DistillationOptions(0.5))),
        ONE,
    ),
    "temperature": (
        ("--epochs", 1, "--distill", 0.5, "--temperature", 9),
        replace(BASE, training=TrainingOptions(1, distillation=DistillationOptions(0.5, 9.0))),
        replace(BASE, training=TrainingOptions(1, distillation=DistillationOptions(0.5))),
    ),
}


@pytest.mark.parametrize("door", [*DOORS, "teacher"])
def test_an_option_gives_what_a_direct_call_gives(
    door: str, folder: Path, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Three rounds of all its steps take too long; the command and the direct call take as few.
    monkeypatch.setattr("codesign.quant.pipeline.adaround", functools.partial(adaround, count=64, steps=40))
    data = folder / "small.npz"
    if door == "teacher":
        teacher = folder / "teacher.onnx"
        given = DistillationOptions(0.5, teacher=Teacher(*import_float(teacher)))
        arguments: tuple[object, ...] = ("--epochs", 1, "--distill", 0.5, "--teacher", teacher)
        options = replace(BASE, training=TrainingOptions(1, distillation=given))
        without = DOORS["distillation"][1]
    else:
        arguments, options, without = DOORS[door]
    epochs = () if "--epochs" in arguments else ("--epochs", 0)
    status, out, err = run(
        "quantize", NETWORK, "--data", data, "--float-epochs", 1, "--method", "fixed", "--ratio", "fixed3:1",
        *epochs, *arguments, "-o", tmp_path / "net.codesign", "--json", tmp_path / "a.json",
    )  # fmt: skip
    assert status == 0, err
    found = load_network(tmp_path / "net.codesign")
    dataset, network = load_dataset(str(data)), zoo.get("smallcnn", size=8, width=2)
    expected = quantize(network, dataset, options, test=True)
    assert same(found, expected.integer_network)
    assert not same(found, quantize(network, dataset, without).integer_network)
    answer = json.loads((tmp_path / "a.json").read_text())
    assert answer["test_accuracy"] == expected.test_accuracy
    for key in ("calibration", "weight_scale", "granularity", "post_training", "training_rule", "zero_shot", "epochs",
                "learning_rate"):  # fmt: skip
        assert answer[key] == expected.integer_network.provenance[key]
    assert answer["calibration"] in out and all(step in out for step in answer["post_training"])


@pytest.mark.parametrize("option", CHOICES)
def test_every_choice_is_taken(option: str) -> None:
    """Each is a value of its option; what is not is refused, and all that are allowed are named."""
    for name in CHOICES[option][1]:
        learning = {"epochs": 1 if option == "training_rule" and name != "default" else 12}
        formats = {"method": "ternary"} if name == "magnitude" else {"method": "fixed"} if name == "ocs" else {}
        learning |= {"epochs": 0} if option in ("weight_scale", "granularity") else {}
        options = Quantizing(**{**learning, **formats, option: name}).options(None, 4)  # type: ignore[arg-type]
        assert any(
            getattr(part, field, None) == name
            for part in (options.formats, options.calibration, options.weights, options.training)
            for field in ("method", "rule", "scale", "granularity", "regime")
        ) or options.post_training == (name,)


WRONG = {
    ("--calibration", "entropy"): "--calibration: 'entropy' given, must be minmax, percentile",
    ("--weight-scale", "max"): "--weight-scale: 'max' given, must be mse, lsq",
    ("--granularity", "filter"): "--granularity: 'filter' given, must be row, group, layer, network",
    ("--post-training", "bias,x"): "--post-training: 'x' given, must be equalize, ocs, adaround, bias",
    ("--post-training", ""): "--post-training: '' given, must be equalize",
    ("--post-training", "bias,ocs", "--method", "fixed"): "'ocs': works on the float network, must stand before 'bias'",
    (
        "--post-training",
        "ocs",
    ): "ocs: halves weights for rows of one fixed format; the formats are pot4, fixed4, fixed8",
    ("--post-training", "adaround", "--training-rule", "pact"): "adaround: needs scales that stay",
    ("--learning-rate", "0"): "--learning-rate: 0 given, must be above 0, at most 1",
    ("--learning-rate", "nan"): "--learning-rate: nan given, must be above 0, at most 1",
    ("--learning-rate", "0.1", "--epochs", "0"): "--learning-rate: has no effect with --epochs 0",
    ("--regime", "slow"): "--regime: 'slow' given, must be plain, profit",
    ("--regime", "profit", "--epochs", "2"): "regime 'profit': 2 epochs; it trains in three parts, at least 3 are",
    ("--training-rule", "sgd"): "--training-rule: 'sgd' given, must be default, ste",
    ("--training-rule", "dorefa", "--weight-scale", "lsq"): "weight scale 'lsq': has no effect with",
    ("--zero-shot",): "zero-shot: is for quantizing without data, but 12 epochs train on it",
    ("--granularity", "layer"): "granularity 'layer': the training rule 'default' parts the scales of rows",
    ("--distill", "2"): "distillation: share 2",
    ("--distill", "0.5", "--teacher", "none.onnx"): "none.onnx",
    ("--method", "magic"): "--method: 'magic' given, must be rmsmp, fixed, pot, full",
}


@pytest.mark.parametrize("arguments", WRONG, ids=" ".join)
def test_what_makes_no_sense_is_one_line(
    arguments: tuple[str, ...], run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    status, out, err = run("quantize", "smallcnn", "--data", "digits", "-o", "net.codesign", *arguments)
    assert (status, out) == (2, "")
    assert err.count("\n") == 1 and err.startswith("codesign: ") and WRONG[arguments] in err
    assert list(tmp_path.iterdir()) == []


def test_help_says_what_every_choice_is(run: Run) -> None:
    status, out, _ = run("quantize", "--help")
    assert status == 0
    words = " ".join(out.replace("│", " ").split())
    for _, registry in CHOICES.values():
        for name, choice in registry.items():
            assert f"{name}: {choice.summary}" in words
            assert choice.paper in words


def rows_of(text: str, heading: str) -> list[list[str]]:
    """The cells of the table under a heading, without its first two lines."""
    section = text.split(f"\n## {heading}\n")[1].split("\n## ")[0]
    lines = [line for line in section.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").replace(r"\|", "\0").split("|")] for line in lines[2:]]


@pytest.mark.parametrize("option", CHOICES)
def test_the_page_lists_the_choices(option: str) -> None:
    found = rows_of(DOCS.read_text(), f"`--{option.replace('_', '-')}`")
    rows = [[cell.replace("\0", "|") for cell in row] for row in found]
    expected: list[list[Any]] = [
        [f"`{name}`", choice.summary, choice.paper] for name, choice in CHOICES[option][1].items()
    ]
    assert rows == expected


def test_the_page_names_every_option() -> None:
    text = DOCS.read_text()
    for name in OPTIONS:
        assert f"`--{name.replace('_', '-')}" in text


def test_the_page_runs(capsys: pytest.CaptureFixture[str]) -> None:
    """Its schedule ends with the formats of its second training."""
    (code,) = re.findall(r"^```python\n(.*?)^```$", DOCS.read_text(), re.MULTILINE | re.DOTALL)
    exec(compile(code, str(DOCS), "exec"), {})
    assert re.match(r"smallcnn: float .* on 285 validation images; rows fixed3 100.0%\n", capsys.readouterr().out)

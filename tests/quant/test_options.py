"""Every choice of `codesign.quant.choices` through `quantize`: as a direct call of what it names, unlike others."""

from __future__ import annotations

import dataclasses
import functools
from dataclasses import replace

import numpy as np
import pytest
import torch

from codesign.data.sources import Dataset, load_dataset
from codesign.errors import UserError
from codesign.formats.assignment import Assignment
from codesign.formats.ratio import parse_ratio
from codesign.formats.row_format import FIXED4, FIXED8, RowFormat
from codesign.integer.checks import same_network
from codesign.integer.network import IntegerNetwork
from codesign.quant.adaround import adaround
from codesign.quant.calibration import CalibrationRule, batchnorm_ranges
from codesign.quant.choices import (
    CALIBRATION_RULES,
    GRANULARITIES,
    METHODS,
    POST_TRAINING,
    RANGE_RULES,
    WEIGHT_SCALES,
)
from codesign.quant.distill import Distillation
from codesign.quant.distilled_data import distilled_images
from codesign.quant.granularity import share_scales
from codesign.quant.lower import lower
from codesign.quant.module import NetworkModule, build_module
from codesign.quant.options import (
    NO_TRAINING,
    CalibrationOptions,
    DistillationOptions,
    FloatOptions,
    FormatOptions,
    QuantizeOptions,
    RunOptions,
    Teacher,
    TrainingOptions,
    WeightOptions,
)
from codesign.quant.pipeline import calibrated, measured, prepared, quantize, trained
from codesign.quant.post_training import correct_bias, equalize, split_outliers
from codesign.quant.qat import QatNetwork
from codesign.quant.training import calibrate, train
from codesign.quant.training_rules import DEFAULT, TRAINING_RULES, TrainingRule, WeightRule
from codesign.workload import Conv, Flatten, Input, Linear, Network, Relu, zoo
from codesign.workload.fold import fold_batchnorm

NETWORK = zoo.smallcnn(width=4)
FIXED3, TERNARY2 = RowFormat.parse("fixed3"), RowFormat.parse("ternary2")
FORMATS = FormatOptions("fixed", {FIXED3: 1.0})
BASE = QuantizeOptions(FORMATS, training=NO_TRAINING)
NORMLESS = Network(
    "normless",
    (
        Input("input", (), channels=1, height=8, width=8),
        Conv("a", ("input",), out_channels=4, kernel=(3, 3)),
        Relu("relu", ("a",)),
        Flatten("flatten", ("relu",)),
        Linear("fc", ("flatten",), out_features=10),
    ),
)
LONE = Network(
    "lone",
    (
        Input("input", (), channels=1, height=8, width=8),
        Flatten("flatten", ("input",)),
        Linear("fc", ("flatten",), out_features=10),
    ),
)


@pytest.fixture(scope="module")
def digits() -> Dataset:
    return load_dataset("digits").part(train=300, validation=60, test=60)


@pytest.fixture(scope="module")
def module(digits: Dataset) -> NetworkModule:
    module = build_module(NETWORK, 0)
    train(module, digits.train_images, digits.train_labels, epochs=8, learning_rate=5e-3)
    return module


fast_adaround = functools.partial(adaround, count=64, steps=40)
fast_images = functools.partial(distilled_images, steps=40)


@pytest.fixture
def fast(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fewer steps than the pipeline takes; what is compared with it takes as few."""
    monkeypatch.setattr("codesign.quant.pipeline.adaround", fast_adaround)
    monkeypatch.setattr("codesign.quant.pipeline.distilled_images", fast_images)


def same(one: IntegerNetwork, two: IntegerNetwork) -> bool:
    """Whether the integers are equal, whatever is said of how they were made."""
    one, two = (replace(net, provenance={}, validation=None, test=None, bias_report="") for net in (one, two))
    return same_network(one, two)


def run(options: QuantizeOptions, module: NetworkModule, digits: Dataset) -> IntegerNetwork:
    return quantize(module.network, digits, options, float_state=module.state_dict()).integer_network


def direct(
    module: NetworkModule, rule: TrainingRule = DEFAULT, form: RowFormat = FIXED3, *, equalized: bool = False
) -> QatNetwork:
    folded, state = fold_batchnorm(module.network, module.state_dict())
    return QatNetwork(
        folded, equalize(folded, state) if equalized else state, Assignment.uniform(folded, form, 4), rule
    )


@pytest.mark.parametrize("name", TRAINING_RULES)
def test_training_rules(name: str, module: NetworkModule, digits: Dataset) -> None:
    formats = FormatOptions("ternary") if name == "twn" else FORMATS
    found = run(QuantizeOptions(formats, training=TrainingOptions(1, name)), module, digits)
    integers = {}
    for rule in (name, "ste" if name == "default" else "default"):
        model = direct(module, TRAINING_RULES[rule], TERNARY2 if name == "twn" else FIXED3)
        calibrate(model, digits.train_images)
        train(model, digits.train_images, digits.train_labels, epochs=1, learning_rate=2e-3, seed=1)
        integers[rule] = lower(model)
    expected, other = integers.values()
    assert same(found, expected) and not same(found, other)
    assert found.provenance["training_rule"] == name and found.provenance["epochs"] == 1


@pytest.mark.parametrize("name", RANGE_RULES)
def test_calibration_rules(name: str, module: NetworkModule, digits: Dataset) -> None:
    found = run(replace(BASE, calibration=CalibrationOptions(name)), module, digits)
    model = direct(module)
    if name in CALIBRATION_RULES:
        calibrate(model, digits.train_images, rule=CalibrationRule(name))
    else:
        state = {key: value.numpy() for key, value in module.state_dict().items()}
        ranges = batchnorm_ranges(NETWORK, state)
        assert set(ranges) == {"conv1", "conv2", "conv3"}
        model.clip(ranges)
        calibrate(model, digits.train_images, fixed=tuple(ranges))
        for layer, span in ranges.items():
            assert found.tensor(layer).scale == pytest.approx(span.high / 15, rel=1e-6)
    assert same(found, lower(model))
    assert found.provenance["calibration"] == name


def test_calibration_rules_differ(module: NetworkModule, digits: Dataset) -> None:
    found = {
        name: run(replace(BASE, calibration=CalibrationOptions(name)), module, digits).tensor("conv1").scale
        for name in RANGE_RULES
    }
    assert len(set(found.values())) >= len(RANGE_RULES) - 1, found  # a batch may have the largest value of all
    by_share = [CalibrationOptions("percentile", share) for share in (99.9, 90)]
    first, second = (run(replace(BASE, calibration=options), module, digits) for options in by_share)
    assert second.tensor("conv1").scale < first.tensor("conv1").scale
    few = run(replace(BASE, calibration=CalibrationOptions("minmax", images=2)), module, digits)
    assert few.tensor("conv1").scale < found["minmax"] and few.provenance["calibration_images"] == 2


@pytest.mark.parametrize("name", WEIGHT_SCALES)
def test_weight_scales(name: str, module: NetworkModule, digits: Dataset) -> None:
    form = TERNARY2 if name == "magnitude" else FIXED3
    options = replace(BASE, formats=FormatOptions(str(form.scheme), {form: 1.0}), weights=WeightOptions(name))
    rule = WeightRule(scale="magnitude") if name == "magnitude" else WeightRule(initial=name)
    models = [direct(module, TrainingRule(weights), form) for weights in (rule, WeightRule())]
    for model in models:
        calibrate(model, digits.train_images)
    found = run(options, module, digits)
    assert same(found, lower(models[0]))
    assert same(found, lower(models[1])) == (name == "mse")
    assert found.provenance["weight_scale"] == name


def test_weight_scales_of_rules_for_ranges() -> None:
    weight = torch.tensor([[0.5, -2.0, 1.0], [0.0, 0.0, 0.0]])
    folded, _ = fold_batchnorm(LONE, build_module(LONE, 0).state_dict())
    state = {"fc.weight": weight.repeat(5, 22)[:, :64], "fc.bias": torch.zeros(10)}
    model = QatNetwork(folded, state, Assignment.uniform(folded, FIXED4, 4), TrainingRule(WeightRule(initial="minmax")))
    assert model.conv("fc").log_alpha.detach()[0].exp().item() == pytest.approx(2.0)


@pytest.mark.parametrize("name", GRANULARITIES)
def test_granularities(name: str, module: NetworkModule, digits: Dataset) -> None:
    found = run(replace(BASE, weights=WeightOptions(granularity=name, group_rows=2)), module, digits)
    model = direct(module)
    if name != "row":
        share_scales(model, name, 2)
    calibrate(model, digits.train_images)
    assert same(found, lower(model))
    alphas = [len(set(layer.row_scale.tolist())) for layer in found.layers if hasattr(layer, "row_scale")]
    filters = [len(layer.row_scale) for layer in found.layers if hasattr(layer, "row_scale")]
    expected = {"row": filters, "group": [count // 2 for count in filters], "layer": [1] * 4, "network": [1] * 4}
    assert alphas == expected[name]


def test_granularity_stays_with_fixed_scales(module: NetworkModule, digits: Dataset) -> None:
    options = QuantizeOptions(FORMATS, weights=WeightOptions(granularity="layer"), training=TrainingOptions(1, "ste"))
    found = run(options, module, digits)
    assert all(len(set(layer.row_scale.tolist())) == 1 for layer in found.layers if hasattr(layer, "row_scale"))


STEPS = [("equalize",), ("adaround",), ("bias",), ("adaround", "bias"), ("bias", "adaround"), ("equalize", "bias")]


@pytest.mark.usefixtures("fast")
def test_post_training_steps_are_done_in_order(module: NetworkModule, digits: Dataset) -> None:
    found = [run(BASE, module, digits)]
    for steps in STEPS:
        model = direct(module, equalized="equalize" in steps)
        calibrate(model, digits.train_images)
        for step in steps:
            if step == "adaround":
                fast_adaround(model, digits.train_images)
            elif step == "bias":
                correct_bias(model, digits.train_images)
        integers = run(replace(BASE, post_training=steps), module, digits)
        assert same(integers, lower(model)), steps
        assert integers.provenance["post_training"] == list(steps)
        assert not any(same(integers, other) for other in found), steps
        found.append(integers)
    assert {step for steps in STEPS for step in steps} | {"ocs"} == set(POST_TRAINING)


def test_outlier_splitting_widens_the_integers(module: NetworkModule, digits: Dataset) -> None:
    folded, state = fold_batchnorm(NETWORK, module.state_dict())
    wide, split = split_outliers(folded, state, bits=3)
    model = QatNetwork(wide, split, Assignment.uniform(wide, FIXED3, 4))
    calibrate(model, digits.train_images)
    result = quantize(
        NETWORK, digits, replace(BASE, post_training=("ocs",)), float_state=module.state_dict(), test=True
    )
    assert same(result.integer_network, lower(model))
    plain = run(BASE, module, digits)
    counts = [
        [len(layer.row_scale) for layer in network.layers if hasattr(layer, "row_scale")]
        for network in (plain, result.integer_network)
    ]
    assert all(more >= before for before, more in zip(*counts, strict=True)) and sum(counts[1]) > sum(counts[0])
    assert result.validation.agreement > 0.95


def test_distillation(module: NetworkModule, digits: Dataset) -> None:
    other = build_module(NORMLESS, 3)
    found = {}
    for name, options in {
        "none": None,
        "itself": DistillationOptions(0.5),
        "hotter": DistillationOptions(0.5, 8.0),
        "more": DistillationOptions(0.9),
        "other": DistillationOptions(0.5, teacher=Teacher(NORMLESS, other.state_dict())),
    }.items():
        training = TrainingOptions(1, distillation=options)
        found[name] = run(QuantizeOptions(FORMATS, training=training), module, digits)
        teacher = other if name == "other" else module
        model = direct(module)
        calibrate(model, digits.train_images)
        distillation = None if options is None else Distillation(teacher, options.temperature, options.share)
        train(
            model, digits.train_images, digits.train_labels, epochs=1, learning_rate=2e-3, seed=1,
            distillation=distillation,
        )  # fmt: skip
        assert same(found[name], lower(model)), name
        assert found[name].provenance["distillation"] == (0.0 if options is None else options.share)
    networks = list(found.values())
    assert not any(same(one, two) for place, one in enumerate(networks) for two in networks[:place])


@pytest.mark.usefixtures("fast")
def test_zero_shot_takes_nothing_from_the_data(module: NetworkModule, digits: Dataset) -> None:
    """Other training images, the same integers: those of the images that are distilled from the batch norms."""
    options = replace(
        BASE, calibration=CalibrationOptions(zero_shot=True, images=8), post_training=("adaround", "bias")
    )
    found = run(options, module, digits)
    images, _ = fast_images(module, 8, seed=0)
    model = direct(module)
    calibrate(model, images, 8)
    fast_adaround(model, images)
    correct_bias(model, images)
    assert same(found, lower(model))
    mirrored = dataclasses.replace(digits, train_images=np.ascontiguousarray(digits.train_images[::-1, :, ::-1]) / 2)
    assert same(found, run(options, module, mirrored))
    real = replace(options, calibration=CalibrationOptions(images=8))
    assert not same(found, run(real, module, digits))
    assert found.provenance["zero_shot"] is True
    with pytest.raises(
        UserError, match=r"zero-shot: distilled images have pixels from 0 to 1; those of data set 'digits'"
    ):
        run(options, module, digits.normalized([0.5], [0.5]))


def test_steps_one_by_one_are_quantize(module: NetworkModule, digits: Dataset) -> None:
    options = QuantizeOptions(
        FormatOptions(ratio=parse_ratio("pot4:60,fixed4:40")),
        post_training=("bias",),
        training=TrainingOptions(1, "lsq"),
    )
    stage = prepared(NETWORK, digits, options, float_state=module.state_dict(), run=RunOptions(4))
    stage = trained(calibrated(stage, options.calibration, options.post_training), options.training)
    found = measured(stage, test=True)
    whole = quantize(NETWORK, digits, options, float_state=module.state_dict(), run=RunOptions(4), test=True)
    assert same(found.integer_network, whole.integer_network)
    assert found.integer_network.provenance == whole.integer_network.provenance
    assert (found.validation, found.test) == (whole.validation, whole.test)


def test_a_schedule_of_its_own(module: NetworkModule, digits: Dataset, tmp_path) -> None:  # type: ignore[no-untyped-def]
    """Formats that change between two trainings, as methods that lower bits step by step do it."""
    options = QuantizeOptions(FormatOptions("fixed", {FIXED8: 1.0}), training=TrainingOptions(2))
    run = RunOptions(checkpoints=tmp_path)
    stage = prepared(NETWORK, digits, options, float_state=module.state_dict(), run=run)
    stage = trained(calibrated(stage, options.calibration), options.training)
    wide = measured(stage)
    stage.model.assignment = Assignment.uniform(stage.model.network, FIXED3, 4)
    stage = trained(calibrated(stage, CalibrationOptions("kl")), TrainingOptions(1))
    narrow = measured(stage)
    assert wide.assignment.shares() == {FIXED8: 1.0} and narrow.assignment.shares() == {FIXED3: 1.0}
    assert [len(result.history["qat"]) for result in (wide, narrow)] == [2, 3]
    assert narrow.integer_network.provenance["epochs"] == 3
    assert sorted(path.name for path in tmp_path.iterdir()) == ["quantized.safetensors", "quantized2.safetensors"]


TRAINED = TrainingOptions(1)
TERNARY = FormatOptions("ternary")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (replace(BASE, training=TrainingOptions(0, "lsq")), "training rule 'lsq': has no effect with 0 epochs"),
        (
            replace(BASE, training=TrainingOptions(0, distillation=DistillationOptions())),
            "distillation: has no effect with 0 epochs",
        ),
        (
            QuantizeOptions(calibration=CalibrationOptions(zero_shot=True), training=TRAINED),
            "zero-shot: is for quantizing without data, but 1 epochs train on it: must be 0",
        ),
        (
            replace(BASE, calibration=CalibrationOptions("kl", 99)),
            "percentile: has no effect on the calibration rule 'kl'",
        ),
        (replace(BASE, formats=FormatOptions("pot"), post_training=("ocs",)), "ocs: .* the formats are pot4"),
        (
            replace(BASE, formats=FormatOptions(), post_training=("ocs",)),
            "ocs: .* rows of one fixed format; the formats are pot4, fixed4, fixed8",
        ),
        (replace(BASE, post_training=("bias", "bias")), "post-training step 'bias' is given twice"),
        (
            replace(BASE, post_training=("adaround", "equalize")),
            "step 'equalize': works on the float network, must stand before 'adaround'",
        ),
        (replace(BASE, post_training=("x",)), "post-training step 'x' is unknown; there are equalize, ocs, adaround"),
        (
            replace(BASE, calibration=CalibrationOptions("batchnorm"), post_training=("equalize",)),
            "equalize: changes the ranges that the calibration rule 'batchnorm' takes",
        ),
        (
            QuantizeOptions(FORMATS, post_training=("adaround",), training=TrainingOptions(1, "pact")),
            "adaround: needs scales that stay when weights move; those of training rule 'pact' follow",
        ),
        (
            QuantizeOptions(FORMATS, weights=WeightOptions("lsq"), training=TrainingOptions(1, "dorefa")),
            "weight scale 'lsq': has no effect with the training rule 'dorefa', whose scales follow",
        ),
        (
            QuantizeOptions(TERNARY, weights=WeightOptions(granularity="layer"), training=TrainingOptions(1, "twn")),
            "granularity 'layer': has no effect with the training rule 'twn'",
        ),
        (replace(BASE, weights=WeightOptions("magnitude")), "'magnitude': is of binary and ternary rows; .* fixed3"),
        (
            QuantizeOptions(TERNARY, weights=WeightOptions("magnitude"), training=TRAINED),
            "weight scale 'magnitude': is without training; with it, choose the training rule 'twn'",
        ),
        (
            replace(BASE, formats=TERNARY, weights=WeightOptions("magnitude"), post_training=("adaround",)),
            "adaround: needs scales that stay when weights move; the weight scale 'magnitude' follows",
        ),
        (
            replace(BASE, weights=WeightOptions("lsq", "layer")),
            "granularity 'layer': shares scales of least squared error, 'mse'; the weight scale is 'lsq'",
        ),
        (
            QuantizeOptions(
                FORMATS, weights=WeightOptions(granularity="layer"), training=TrainingOptions(1, "apot-norm")
            ),
            "granularity 'layer': has no effect with the training rule 'apot-norm', which has one scale for a layer",
        ),
        (
            QuantizeOptions(FORMATS, weights=WeightOptions(granularity="group"), training=TRAINED),
            "granularity 'group': the training rule 'default' parts the scales of rows",
        ),
        (
            QuantizeOptions(weights=WeightOptions(granularity="group"), training=TrainingOptions(11, "ste")),
            "granularity 'group': formats are dealt anew every 10 epochs",
        ),
    ],
)
def test_what_makes_no_sense_is_refused(
    options: QuantizeOptions, message: str, digits: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before anything is trained."""
    monkeypatch.setattr("codesign.quant.pipeline.train", None)
    with pytest.raises(UserError, match=message) as caught:
        quantize(NETWORK, digits, options)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: TrainingOptions(1, "lsq2"), "training rule 'lsq2' is unknown; there are default, ste"),
        (lambda: TrainingOptions(-1), "training: -1 epochs"),
        (
            lambda: CalibrationOptions("entropy"),
            "calibration rule 'entropy' is unknown; there are minmax, .*, batchnorm",
        ),
        (lambda: CalibrationOptions("percentile", 3), "percentile 3; allowed is above 50"),
        (lambda: CalibrationOptions(images=0), "calibration: 0 images"),
        (lambda: WeightOptions("max"), "weight scale 'max' is unknown; there are mse, lsq"),
        (lambda: WeightOptions(granularity="filter"), "granularity 'filter' is unknown; there are row, group"),
        (lambda: WeightRule(initial="max"), "weight scale 'max' is unknown"),
        (lambda: DistillationOptions(0), "distillation: share 0; allowed is above 0"),
        (lambda: DistillationOptions(temperature=0), "temperature 0; it must be positive"),
    ],
)
def test_values_that_are_not_allowed(make, message: str) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(UserError, match=message):
        make()


def test_networks_that_a_choice_says_nothing_to(digits: Dataset) -> None:
    for network, options, message in (
        (
            NORMLESS,
            replace(BASE, calibration=CalibrationOptions("batchnorm")),
            "'normless': no batch norm before a ReLU",
        ),
        (
            NORMLESS,
            replace(BASE, calibration=CalibrationOptions(zero_shot=True)),
            "'normless': no batch norms, from which",
        ),
        (LONE, replace(BASE, post_training=("equalize",)), "'lone': no two layers .* no ranges to equalize"),
        (LONE, replace(BASE, post_training=("ocs",)), "'lone': no dense layer whose input only it reads"),
    ):
        with pytest.raises(UserError, match=message):
            quantize(network, digits, options, float_state=build_module(network, 0).state_dict())
    wrong = zoo.smallcnn(width=4, classes=7)
    teacher = Teacher(wrong, build_module(wrong, 0).state_dict())
    training = TrainingOptions(1, distillation=DistillationOptions(teacher=teacher))
    with pytest.raises(UserError, match="gives 7 results, data set 'digits' has 10 classes"):
        quantize(LONE, digits, QuantizeOptions(float_training=FloatOptions(1), training=training))


def test_every_choice_says_what_it_is_and_where_it_is_from() -> None:
    for registry in (METHODS, RANGE_RULES, WEIGHT_SCALES, GRANULARITIES, POST_TRAINING, TRAINING_RULES):
        for name, choice in registry.items():
            assert 5 < len(choice.summary) < 100, name
            assert choice.paper or name == "network", name

"""A device that the catalogue does not have, by its totals."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

import codesign
from codesign.arch.devices import DEVICES
from codesign.arch.hardware import Hardware
from codesign.arch.load import load_hardware, parse_hardware
from codesign.errors import UserError
from codesign.search.sweep_space import known_values
from codesign.sim.synthesis.predictor import predict

TINY = Path(__file__).parents[2] / "hw_configs" / "tiny.yaml"
ARTIX: dict[str, Any] = {"name": "xc7a100t", "family": "xc7", "lut": 63_400, "ff": 126_800, "dsp": 240, "bram36": 135}
"""Xilinx DS180 (7 Series FPGAs Data Sheet: Overview), table 4."""


def with_device(device: object) -> Hardware:
    return parse_hardware(yaml.safe_dump(yaml.safe_load(TINY.read_text()) | {"device": device}), "hw.yaml", "tiny")


def test_totals_of_the_yaml_count() -> None:
    hw = with_device(ARTIX)
    assert hw.totals.lut == 63_400 and hw.totals.family == "xc7" and hw.totals.speed_grade is None
    assert parse_hardware(hw.to_yaml(), "again.yaml", "tiny") == hw
    assert hw.content_hash != load_hardware("tiny").content_hash
    assert predict(hw) == predict(load_hardware("tiny")), "of the same family"
    assert (known_values(hw)["device"], known_values(hw)["device_bram36"]) == ("xc7a100t", 135)
    small = with_device(ARTIX | {"lut": 500})
    answer = codesign.simulate(small, "smallcnn", predict=True).to_json()
    assert answer["signals"]["fits"] is False and not answer["signals"]["synthesized"]
    with pytest.raises(UserError, match="DSPs needed .*, xc7a100t has 3"):
        with_device(ARTIX | {"dsp": 3})


def test_all_of_the_catalogue_could_be_given_so() -> None:
    for name, device in DEVICES.items():
        totals = {key: getattr(device, key) for key in ARTIX} | {"name": f"my-{name}"}
        base = load_hardware("tiny").model_dump(mode="json")
        mine = Hardware.model_validate(base | {"device": totals})
        assert mine.dsp_estimate == Hardware.model_validate(base | {"device": name}).dsp_estimate


@pytest.mark.parametrize(
    ("device", "says"),
    [
        ({key: ARTIX[key] for key in ("name", "family", "ff", "dsp", "bram36")}, "device: lut: missing, must be given"),
        (ARTIX | {"family": "xc6"}, "device: family: 'xc6' given, must be xc7, xcup, ecp5, gw5a"),
        (ARTIX | {"luts": 3}, "device: luts: unknown key, must be name, family, lut, .*; did you mean 'lut'"),
        (ARTIX | {"dsp": -1}, "device: dsp: -1 given, must be an integer from 0"),
        (ARTIX | {"name": "a/b"}, "device: name: 'a/b' given, must be of letters"),
        (ARTIX | {"name": "XC7Z020"}, "device: name: 'XC7Z020' given, which is a known device"),
        ("xc7z02", "device: 'xc7z02' given, must be xc7z020, .*, or the keys name, .*; did you mean 'xc7z0"),
        ([1], "device: .1. given, must be xc7z020"),
    ],
)
def test_what_is_wrong_with_a_device_is_said_in_a_line(device: object, says: str) -> None:
    with pytest.raises(UserError, match=f"^hw.yaml: {says}") as error:
        with_device(device)
    assert "\n" not in str(error.value)

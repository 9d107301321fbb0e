"""No option is passed over: one that has no effect on what was given is refused in a line that says why."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx.helper
import onnx.numpy_helper
import pytest
import typer

from codesign.arch.load import load_hardware
from codesign.cli import main
from codesign.cli.reading import OPTIONS
from codesign.integer.random_network import random_network
from codesign.integer.storage import save_network
from codesign.search.space import band_ratio
from codesign.workload import zoo

Run = Callable[..., tuple[int, str, str]]

NOT_READ = "--data-dir: has no effect on --data digits"
ENCODER = "on bert_tiny, whose products are timed one by one"
PROGRAMS = "on bert_tiny, whose products are programs of their own"
RANDOM = "on bert_tiny, whose weights and inputs are random"
IDEAL = ("simulate", "--ideal", "4x4", "--dataflow", "os", "smallcnn")
ON_IDEAL = "says nothing to an ideal array"
QUANTIZE = ("quantize", "smallcnn", "--data", "digits", "-o", "OUT")

TABLE = ("table", "tiny", "smallcnn", "--choices", "w4", "-o", "OUT")

NO_EFFECT: list[tuple[tuple[str, ...], str]] = [
    *((("simulate", "tiny", "bert_tiny", *option), f"{option[0]}: has no effect {ENCODER}") for option in (
        ("--energy", "other"), ("--assignment", "a.json"), ("--act-bits", "8"), ("--resources",), ("--predict",),
    )),
    *((("cosim", "tiny", "bert_tiny", *option), f"{option[0]}: has no effect {RANDOM}") for option in (
        ("--data", "digits"), ("--data-dir", "."), ("--bits", "4/4"), ("--ratio", "pot4:1"), ("--assignment", "a.json"),
        ("--act-bits", "8"),
    )),
    *((("cosim", "tiny", "bert_tiny", *option), f"{option[0]}: has no effect {PROGRAMS}") for option in (
        ("--batch", "2"), ("--waves", "fc"), ("--waves-out", "a.vcd"), ("--elements", "rtl"),
    )),
    (("cosim", "tiny", "smallcnn", "--waves-out", "a.vcd"), "--waves-out: has no effect without --waves"),
    *((("export", "NET", "--to", "npz", *option, "-o", "OUT"), f"{option[0]}: has no effect on a file; it is for a kit")
      for option in (("--images", "3"), ("--data", "digits"), ("--data-dir", "."))),
    *(((*IDEAL, *option), f"{option[0]} given, but it {ON_IDEAL}") for option in (
        ("--bits", "4/4"), ("--ratio", "pot4:1"), ("--assignment", "a"), ("--resources",), ("--predict",),
        ("--act-bits", "8"), ("--batch", "2"), ("--energy", "x"),
    )),
    *((("simulate", "tiny", "smallcnn", *option), f"{option[0]} given, but it needs --ideal") for option in (
        ("--dataflow", "os"), ("--clock", "5"), ("--corrected",), ("--out", "o"),
    )),
    *(((*command, *option), f"{option[0]} given, but the formats of a quantized network") for option in (
        ("--bits", "4/4"), ("--ratio", "pot4:1"), ("--assignment", "a.json"), ("--act-bits", "8"),
    ) for command in (
        ("simulate", "tiny", "NET"), ("roofline", "tiny", "NET"), ("cosim", "tiny", "NET"),
        ("compile", "tiny", "NET", "-o", "OUT"),
    )),
    (("simulate", "tiny", "smallcnn", "--resources", "--predict"), "--predict: cannot be combined with --resources"),
    (("simulate", "tiny", "smallcnn", "--bits", "4/4", "--ratio", "pot4:1"), "--bits and --ratio given"),
    (("simulate", "tiny", "smallcnn", "--act-bits", "4", "--bits", "4/4"), "--act-bits: given beside --bits"),
    (("simulate", "tiny", "smallcnn", "--act-bits", "4", "--assignment", "a"), "--act-bits: given beside --assignment"),
    (("simulate", "tiny", "smallcnn", "--act-bits", "9"), "--act-bits: 9 given, must be 2 to 8"),
    (("simulate", "tiny", "smallcnn", "--act-bits", "8"), "give it 'act_modes: [4, 8]'"),
    (("cosim", "tiny", "smallcnn", "--data-dir", "."), "--data-dir: has no effect without --data"),
    (("cosim", "tiny", "smallcnn", "--data", "digits", "--data-dir", "."), NOT_READ),
    (("compile", "tiny", "smallcnn", "-o", "OUT", "--data-dir", "."), "--data-dir: has no effect without --data"),
    (("compile", "tiny", "smallcnn", "-o", "OUT", "--images", "0", "--data", "digits"), "--data: has no effect"),
    (("synth", "tiny", "--seed", "3"), "--seed: has no effect without --pnr"),
    (("synth", "tiny", "--time-limit", "30"), "--time-limit: has no effect without --pnr"),
    (("synth", "lfe5u85", "--pnr", "--flow", "xilinx"), "--flow: 'xilinx' given, must be that of"),
    (("synth", "k26", "--flow", "xilinx"), "--flow: 'xilinx' given, must be xilinx-up for xck26: its slices are"),
    ((*QUANTIZE, "--hw", "tiny", "--ratio", "pot4:1"), "--ratio: has no effect beside --hw, which says both"),
    ((*QUANTIZE, "--hw", "tiny", "--act-bits", "3"), "--act-bits: has no effect beside --hw, which says both"),
    ((*QUANTIZE, "--data-dir", "."), NOT_READ),
    ((*QUANTIZE, "--assignment", "a.json", "--ratio", "pot4:1"), "--ratio: has no effect beside --assignment"),
    ((*QUANTIZE, "--assignment", "a.json", "--act-bits", "3"), "--act-bits: has no effect beside --assignment"),
    ((*QUANTIZE, "--assignment", "a.json", "--method", "pot"), "--method: has no effect beside --assignment"),
    ((*QUANTIZE, "--assignment", "a.json", "--at-most", "bops=1"), "--at-most: has no effect beside --assignment"),
    ((*QUANTIZE, "--assignment", "a.json", "--at-least", "bops=1"), "--at-least: has no effect beside --assignment"),
    ((*QUANTIZE, "--weights", "w.safetensors"), "--weights: has no effect without --assignment"),
    ((*QUANTIZE, "--at-most", "latency_ms=1"), "--at-most: has no effect without --hw, the accelerator that"),
    ((*QUANTIZE, "--method", "hawq-v3"), "--method: has no effect without --hw, the accelerator that costs are of"),
    ((*TABLE, "--sensitivity", "weight-error", "--images", "3"), "--images: has no effect on the sensitivity"),
    ((*TABLE, "--sensitivity", "weight-error", "--float-epochs", "3"), "--float-epochs: has no effect without --data"),
    ((*TABLE, "--sensitivity", "weight-error", "--data-dir", "."), "--data-dir: has no effect without --data"),
    *(((*QUANTIZE, "--epochs", "0", *option), f"{option[0]}: has no effect with --epochs 0") for option in (
        ("--learning-rate", "0.001"), ("--training-rule", "lsq"), ("--regime", "profit"), ("--distill", "0.5"),
    )),
    ((*QUANTIZE, "--teacher", "t.onnx"), "--teacher: has no effect without --distill"),
    ((*QUANTIZE, "--temperature", "2"), "--temperature: has no effect without --distill"),
    ((*QUANTIZE, "--percentile", "99"), "--percentile: has no effect without --calibration percentile"),
    ((*QUANTIZE, "--group-rows", "2"), "--group-rows: has no effect without --granularity group"),
    (("evaluate", "NET", "--data", "digits", "--data-dir", "."), NOT_READ),
    (("search", "digits", "-o", "OUT", "--data-dir", "."), NOT_READ),
    (("cosearch", "digits", "-o", "OUT", "--data-dir", "."), NOT_READ),
    (("cosearch", "digits", "-o", "OUT", "--address", "host:1"), "--address: has no effect without --backend ray"),
    (
        ("allocate", "smallcnn", "--method", "hawq", "--hw", "tiny", "--data", "digits", "-o", "OUT",
         "--search-epochs", "3"), "--search-epochs: 3 given, but the method 'hawq' does not train while it chooses",
    ),
    (
        ("allocate", "smallcnn", "--method", "opq", "--hw", "tiny", "--data", "digits", "-o", "OUT",
         "--keep-weights", "w"), "--keep-weights: has no effect on the method 'opq', which keeps none",
    ),
    (
        ("compare", "smallcnn", "--methods", "hawq", "--hw", "tiny", "--data", "digits", "--at-most", "latency_ms=1",
         "-o", "OUT", "--data-dir", "."), NOT_READ,
    ),
]  # fmt: skip


@pytest.mark.parametrize(("arguments", "says"), NO_EFFECT, ids=lambda value: " ".join(value) if value else "")
def test_an_option_without_effect_is_refused(
    arguments: tuple[str, ...], says: str, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    hw = load_hardware("tiny")
    network = random_network(zoo.get("smallcnn", size=8, width=4), band_ratio(hw), hw.act_bits)
    save_network(network, tmp_path / "net.codesign")
    status, _, err = run(*("net.codesign" if part == "NET" else "out" if part == "OUT" else part for part in arguments))
    assert status == 2 and says in " ".join(err.split())
    assert sorted(path.name for path in tmp_path.iterdir()) == ["net.codesign"], "nothing was written"


def test_float_epochs_train_on_from_the_weights_of_a_model(run: Run, tmp_path: Path) -> None:
    model = tmp_path / "float.onnx"
    rng = np.random.default_rng(0)
    arrays = {"w": rng.standard_normal((10, 64)) / 10, "b": rng.standard_normal(10) / 10}
    nodes = [
        onnx.helper.make_node("Flatten", ["x"], ["f"]),
        onnx.helper.make_node("Gemm", ["f", "w", "b"], ["y"], transB=1),
    ]
    values = [onnx.numpy_helper.from_array(array.astype(np.float32), name) for name, array in arrays.items()]
    tensor = onnx.TensorProto.FLOAT
    ends = [onnx.helper.make_tensor_value_info(*end) for end in (("x", tensor, (1, 1, 8, 8)), ("y", tensor, (1, 10)))]
    graph = onnx.helper.make_graph(nodes, "float", ends[:1], ends[1:], values)
    onnx.save(onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)]), model)
    given = ("--data", "digits", "-o", tmp_path / "n.codesign", "--epochs", 0, "--json", tmp_path / "a.json")
    accuracies = []
    for epochs in ((), ("--float-epochs", 4)):
        assert run("quantize", model, *given, *epochs)[0] == 0
        accuracies.append(json.loads((tmp_path / "a.json").read_text())["validation_float_accuracy"])
    assert accuracies[0] < 0.4 < accuracies[1], "random weights are kept, or trained on from"


def test_a_network_that_suits_an_accelerator(run: Run, tmp_path: Path) -> None:
    """`--hw` takes formats, ratio and activations from the bands; without it the answer says which hardware suits."""
    given = ("quantize", "smallcnn:size=8,width=4", "--data", "digits", "--float-epochs", 1, "--epochs", 0)
    for index, (option, suits) in enumerate(((("--hw", "xc7z020_w8a8"), ["xc7z020_w8a8"]), ((), None))):
        answer, network = tmp_path / f"{index}.json", tmp_path / f"{index}.codesign"
        status, out, err = run(*given, *option, "-o", network, "--json", answer)
        assert status == 0, err
        found = json.loads(answer.read_text())
        assert all(name in out for name in found["suits"])
        if suits is None:
            assert "xc7z020_rmsmp" in found["suits"] and "xc7z020_w8a8" not in found["suits"] and found["act_bits"] == 4
        else:
            assert (found["suits"], found["act_bits"], found["shares"]) == (suits, 8, {"fixed8": 1.0})
        assert run("simulate", found["suits"][0], network, "--json", tmp_path / "s.json")[0] == 0
        hints = json.loads((tmp_path / "s.json").read_text())["hints"]
        assert not any("no cycle and no byte" in hint for hint in hints)


EFFECTIVE: dict[str, set[str]] = {
    "simulate": {"--ideal", "--config", "--bits-table"},
    "cosim": {"--images"},
    "generate": set(),
    "compile": {"--images", "--batch"},
    "synth": {"--pnr"},
    "roofline": set(),
    "quantize": {
        "--data",
        "--hw",
        "--float-epochs",
        "--mean",
        "--std",
        "--device",
        "--checkpoints",
        # tests/cli/test_quantizing.py compares each of these with a direct call, and refuses what makes no sense
        "--method",
        "--assignment",
        "--epochs",
        "--calibration",
        "--calibration-images",
        "--zero-shot",
        "--weight-scale",
        "--granularity",
        "--post-training",
    },
    "evaluate": {"--data", "--images", "--split"},
    "import": {"--hw"},
    "export": {"--to", "--hw", "--point"},
    # tests/allocation compares these with direct calls, and refuses what makes no sense
    "allocate": {
        "--method",
        "--hw",
        "--data",
        "--at-most",
        "--at-least",
        "--pin",
        "--choices",
        "--granularity",
        "--images",
        "--float-epochs",
        "--data-dir",
    },
    "methods": set(),
    "compare": {
        "--methods",
        "--hw",
        "--data",
        "--at-most",
        "--seeds",
        "--epochs",
        "--float-epochs",
        "--jobs",
        "--learning-rate",
        "--rtl-images",
        "--search-epochs",
    },
    "table": {"--data", "--sensitivity", "--choices", "--granularity", "--base", "--pin"},
    "solve": {"--solver", "--at-most", "--at-least", "--pin", "--minimize", "--set"},
    "search": {"--jobs"},
    "cosearch": {"--jobs", "--study", "--backend"},
    "sweep": {"--jobs", "--energy", "--table"},
    "report": set(),
    "show": {"--point"},
    "verify": {"--runs", "--per-hardware", "--dataflow", "--shrink-builds", "--jobs"},
    "doctor": set(),
    "demo": set(),
    "amed latency": {"--bits", "--mode", "--on", "--csv"},
    "amed table": {"--on", "--csv"},
    "amed reports": {"--bits", "--on"},
    "amed appendix-c": {"--csv"},
    "amed compare": {"--bits", "--on", "--csv"},
}
"""Options that have an effect whatever else is given. `--out`, `--json` and seeds are taken everywhere."""


READING = {f"--{name.replace('_', '-')}" for name in OPTIONS}


def test_every_option_is_known_to_have_an_effect_or_refused() -> None:
    """A new option must be put into the table above, or be among those that are refused where they have none."""
    refused: dict[str, set[str]] = {}
    for arguments, says in NO_EFFECT:
        named = {part for part in arguments if part.startswith("--") and part in says}
        refused.setdefault(arguments[0], set()).update(named)
    everywhere = {"--out", "--json", "--seed"}

    def leaves(command: Any, name: str) -> Iterator[tuple[str, Any]]:
        if not hasattr(command, "commands"):
            yield name, command
        else:
            for inner, found in command.commands.items():
                yield from leaves(found, f"{name} {inner}".strip())

    commands = dict(leaves(typer.main.get_command(main.app), ""))
    assert commands.keys() == EFFECTIVE.keys()
    for name, command in commands.items():
        options = {option for param in command.params for option in param.opts if option.startswith("--")}
        known = EFFECTIVE[name] | refused.get(name, set()) | everywhere
        known |= options & READING  # those for reading a network: tests/cli/test_reading.py
        assert options | everywhere == known, name

"""Hostile and damaged .pt2 files: nothing in them is executed, nothing is believed before it is checked."""

from __future__ import annotations

import io
import json
import pickle
import resource
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from codesign.errors import UserError
from codesign.workload.exported import load_exported

Members = dict[str, bytes]


class Touch:
    """Makes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return (Path.touch, (self.path,))


class Small(nn.Module):
    """Has a parameter, a buffer that is saved, one that is not, and a lifted constant."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 2, 3)
        self.norm = nn.BatchNorm2d(2)
        self.register_buffer("offset", torch.ones(2, 1, 1), persistent=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.norm(self.conv(x) + self.offset) + torch.tensor([0.5])


@pytest.fixture(scope="module")
def members(tmp_path_factory: pytest.TempPathFactory) -> Members:
    path = tmp_path_factory.mktemp("pt2") / "a.pt2"
    program = torch.export.export(Small().eval(), (torch.randn(2, 1, 5, 5),))
    torch.export.save(program, path, extra_files={"notes.txt": "Trained on Monday."})
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def write(path: Path, content: Members, **options: Any) -> Path:
    with zipfile.ZipFile(path, "w", **options) as archive:
        for name, data in content.items():
            archive.writestr(name, data)
    return path


def edited(members: Members, name: str, edit: Callable[[Any], Any]) -> Members:
    """The members with the JSON of the one whose name ends in `name` edited."""
    key = next(item for item in members if item.endswith(name))
    data = json.loads(members[key])
    edit(data)
    return members | {key: json.dumps(data).encode()}


def refused(path: Path, message: str = "") -> None:
    with pytest.raises(UserError) as caught:
        load_exported(path)
    text = str(caught.value)
    assert text.startswith(f"{path}: ") and "\n" not in text and text.isprintable() and len(text) < 700
    assert message in text


def refused_or_numbers(path: Path) -> None:
    """Bytes that a file calls numbers are numbers, whatever else they could be; most are NaN or infinite somewhere."""
    try:
        _, state = load_exported(path)
    except UserError:
        refused(path)
    else:
        assert all(value.isfinite().all() for value in state.values())


def test_a_sound_file_is_read(members: Members, tmp_path: Path) -> None:
    network, state = load_exported(write(tmp_path / "a.pt2", members))
    assert [type(layer).__name__ for layer in network.layers] == ["Input", "Conv", "BatchNorm"]
    assert set(state) >= {"conv.weight", "conv.bias", "norm.running_var"}


def payloads(proof: Path) -> list[bytes]:
    buffer = io.BytesIO()
    torch.save(Touch(proof), buffer)
    old = io.BytesIO()
    torch.save(Touch(proof), old, _use_new_zipfile_serialization=False)
    nested = io.BytesIO()
    with zipfile.ZipFile(nested, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a/data.pkl", pickle.dumps(Touch(proof)) + b"." * 100_000)
    pickles = [pickle.dumps(Touch(proof), protocol=protocol) for protocol in range(6)]
    return [buffer.getvalue(), old.getvalue(), nested.getvalue(), *pickles]


SPELLINGS = [True, 1, 2, -1, 0.5, "true", "True", "yes", "false", "0", [False], {"a": 1}, None, 0, "", [], False]


@pytest.mark.parametrize("which", ["weights", "constants"])
def test_no_spelling_of_use_pickle_unpickles(members: Members, tmp_path: Path, which: str) -> None:
    proof = tmp_path / "executed"
    config = f"model_{which}_config.json"
    entry = {"weights": "conv.weight", "constants": "offset"}[which]
    for payload in payloads(proof):
        for spelling in SPELLINGS:

            def edit(data: Any, spelling: Any = spelling) -> None:
                data["config"][entry]["use_pickle"] = spelling

            content = edited(members, config, edit)
            stored = json.loads(members[next(n for n in members if n.endswith(config))])["config"][entry]["path_name"]
            name = next(item for item in members if item.endswith(f"data/{which}/{stored}"))
            content[name] = payload
            path = write(tmp_path / "a.pt2", content)
            if spelling is False:
                refused_or_numbers(path)
            else:
                refused(path, "use_pickle")
            assert not proof.exists()


def test_a_pickle_in_any_member_is_not_executed(members: Members, tmp_path: Path) -> None:
    proof = tmp_path / "executed"
    config = next(item for item in members if item.endswith("_weights_config.json"))
    places = [*members, *(config.replace("model_weights_config.json", name) for name in ("model.pt", "evil"))]
    root = config.partition("/")[0]
    places += [f"{root}/extra/more", f"{root}/data/aotinductor/a.so", f"{root}/data/constants/custom_obj_0", "b/c"]
    for place in places:
        for payload in payloads(proof):
            path = write(tmp_path / "a.pt2", members | {place: payload})
            if "/data/weights/weight_" in place or "/data/constants/tensor_" in place:
                refused_or_numbers(path)
            else:
                refused(path)
            assert not proof.exists()


def test_objects_expressions_and_operators_are_not_looked_up(members: Members, tmp_path: Path) -> None:
    proof = tmp_path / "executed"
    code = f"__import__('pathlib').Path({str(proof)!r}).touch()"
    path = tmp_path / "a.pt2"

    def custom(data: Any) -> None:
        data["config"]["offset"].update(path_name="custom_obj_0", use_pickle=False)

    def sizes(data: Any) -> None:
        data["graph_module"]["graph"]["tensor_values"]["conv2d"]["sizes"][0] = {"as_expr": {"expr_str": code}}

    def offset(data: Any) -> None:
        data["config"]["conv.weight"]["tensor_meta"]["storage_offset"] = {"as_expr": {"expr_str": code}}

    def target(data: Any) -> None:
        graph = data["graph_module"]["graph"]
        graph["nodes"][0] = {
            "target": "torch.os.system", "inputs": [{"name": "a", "arg": {"as_string": f"touch {proof}"}, "kind": 1}],
            "outputs": graph["nodes"][0]["outputs"], "metadata": {},
        }  # fmt: skip

    def from_file(data: Any) -> None:
        node = data["graph_module"]["graph"]["nodes"][0]
        node["target"] = "torch.ops.aten.from_file.default"
        node["inputs"] = [
            {"name": "filename", "arg": {"as_string": str(proof)}, "kind": 1},
            {"name": "shared", "arg": {"as_bool": True}, "kind": 1},
            {"name": "size", "arg": {"as_int": 10}, "kind": 1},
        ]

    refused(write(path, edited(members, "model_constants_config.json", custom)), "custom objects")
    refused(write(path, edited(members, "model_weights_config.json", offset)), "no numbers")
    refused(write(path, edited(members, "models/model.json", sizes)), "the file states")
    for edit in (target, from_file):
        refused(write(path, edited(members, "models/model.json", edit)))
    assert not proof.exists()


def test_sizes_are_checked_before_they_are_believed(members: Members, tmp_path: Path) -> None:
    path = tmp_path / "a.pt2"

    def meta(**values: Any) -> Callable[[Any], None]:
        def edit(data: Any) -> None:
            data["config"]["conv.weight"]["tensor_meta"].update(values)

        return edit

    huge = [{"as_int": 1 << 40}, {"as_int": 1}, {"as_int": 3}, {"as_int": 3}]
    flat = [{"as_int": 0}] * 4
    for values, message in [
        ({"sizes": huge}, "bytes; the file has"),
        ({"sizes": huge, "strides": flat}, "bytes; the file has"),
        ({"storage_offset": {"as_int": 1000}}, "bytes; the file has"),
        ({"storage_offset": {"as_int": -1}}, "no numbers"),
        ({"sizes": [{"as_int": True}] * 4}, "no numbers"),
        ({"strides": []}, "do not make a tensor"),
        ({"sizes": "9" * 100_000}, "damaged"),
        ({"dtype": 99}, "no plain tensor"),
        ({"dtype": [7]}, "no plain tensor"),
        ({"layout": 1}, "no plain tensor"),
    ]:
        refused(write(path, edited(members, "model_weights_config.json", meta(**values))), message)

    def image(data: Any) -> None:
        data["graph_module"]["graph"]["tensor_values"]["x"]["sizes"][2:] = [{"as_int": 1 << 30}] * 2

    refused(write(path, edited(members, "models/model.json", image)), "at most")
    refused(write(path, members, compression=zipfile.ZIP_DEFLATED), "compressed")
    bomb = next(item for item in members if item.endswith("models/model.json"))
    refused(write(path, members | {bomb: b"[" * 10_000_000}), "no JSON")
    refused(write(path, members | {bomb: b" " * (33 << 20)}), "are read")
    refused(write(path, members | {bomb: b'{"a": 1, "a": 2}'}), "twice")
    with zipfile.ZipFile(write(path, members), "a") as archive, pytest.warns(UserWarning, match="Duplicate"):
        archive.writestr(bomb, members[bomb])
    refused(path, "twice")
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss < 2 << 20  # KiB


def test_arguments_that_are_not_known_are_refused(members: Members, tmp_path: Path) -> None:
    path = tmp_path / "a.pt2"

    def node(**values: Any) -> Callable[[Any], None]:
        return lambda data: data["graph_module"]["graph"]["nodes"][0].update(values)

    def argument(data: Any) -> None:
        item = {"name": "base", "arg": {"as_string": "\x1b[31m" + "x" * 100_000}, "kind": 2}
        data["graph_module"]["graph"]["nodes"][0]["inputs"].append(item)

    def groups(data: Any) -> None:
        data["graph_module"]["graph"]["nodes"][0]["inputs"].append({"name": "groups", "arg": {"as_int": 2}, "kind": 1})

    def schema(data: Any) -> None:
        data["schema_version"]["major"] = 9

    for edit, message in [
        (node(unheard_of=1), "not known"),
        (node(target="torch.ops.aten." + "\x1b" * 100_000), "not supported"),
        (node(outputs=[]), "results"),
        (argument, "has the argument 'base', which is not known"),
        (groups, "in 2 groups, and reads"),
        (schema, "version 9 of torch's schema"),
    ]:
        refused(write(path, edited(members, "models/model.json", edit)), message)


def test_damaged_files_are_one_line(members: Members, tmp_path: Path) -> None:
    path = write(tmp_path / "a.pt2", members)
    data = path.read_bytes()
    for share in (0.0, 0.3, 0.9):
        path.write_bytes(data[: int(share * len(data))])
        refused(path, "cut short")
    for place in range(0, len(data), 997):
        path.write_bytes(data[:place] + bytes([data[place] ^ 0x55]) + data[place + 1 :])
        try:
            load_exported(path)
        except UserError as error:
            assert "\n" not in str(error) and len(str(error)) < 700  # noqa: PT017
    refused(tmp_path, "is a folder")
    refused(tmp_path / "none.pt2", "no such file")
    torch.save({"a": torch.ones(1)}, path)
    refused(path, "no program of torch.export")

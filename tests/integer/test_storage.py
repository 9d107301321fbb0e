"""Integer networks survive the disk, and files that are not ours are refused in one line."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from codesign.errors import UserError
from codesign.integer.checks import same_network
from codesign.integer.network import IntegerConv, IntegerNetwork, IntegerPool, IntegerTensor, Measured, Scheme
from codesign.integer.storage import load_network, save_network


def network(seed: int, rows: int = 3, scale: float = 0.1) -> IntegerNetwork:
    rng = np.random.default_rng(seed)
    schemes = tuple(Scheme.FIXED if fixed else Scheme.POT for fixed in rng.integers(0, 2, rows))
    weight = np.stack(
        [
            rng.integers(-127, 128, (2, 3, 3)) if scheme is Scheme.FIXED else rng.choice([-64, -1, 0, 2, 64], (2, 3, 3))
            for scheme in schemes
        ]
    )
    conv = IntegerConv(
        "block.0.conv",
        "input",
        IntegerTensor("block.0.conv", rows, 4, 4, 4, 8, scale),
        weight,
        schemes,
        tuple(8 if scheme is Scheme.FIXED else 4 for scheme in schemes),
        rng.integers(-(2**40), 2**40, rows),
        rng.integers(0, 2**16, rows),
        rng.integers(1, 41, rows),
        (1, 1),
        (1, 1, 1, 1),
        1,
        0,
        15,
        None,
        np.zeros(rows, dtype=np.int64),
        rng.random(rows),
    )
    pool = IntegerPool(
        "pool",
        "block.0.conv",
        IntegerTensor("pool", rows, 2, 2, 4, 8, scale),
        "max",
        (2, 2),
        (2, 2),
        (0, 0, 0, 0),
        1,
        1,
        0,
        15,
    )
    return IntegerNetwork(
        "stored",
        IntegerTensor("input", 2, 4, 4, 4, 0, scale),
        (conv, pool),
        {"seed": seed, "note": ["ü", 1.5]},
        validation=MEASURED if seed % 2 else None,
        test=replace(MEASURED, images=seed + 1) if seed % 3 == 0 else None,
        bias_report="of the results" if rows > 1 else "",
    )


MEASURED = Measured(0.75, 1.0, 0.5, 0.0, 285)


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**31), rows=st.sampled_from([1, 2, 7]), scale=st.floats(1e-30, 1e30))
def test_round_trip(seed: int, rows: int, scale: float, tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("store")
    original = network(seed, rows, scale)
    save_network(original, folder / "net.npz")
    loaded = load_network(folder / "net.npz")
    assert same_network(loaded, original)
    assert all(
        value.dtype == (np.float64 if name == "row_scale" else np.int64)
        for name, value in vars(loaded.layers[0]).items()
        if isinstance(value, np.ndarray)
    )
    save_network(loaded, folder / "again.npz")
    assert (folder / "again.npz").read_bytes() == (folder / "net.npz").read_bytes()
    assert sorted(item.name for item in folder.iterdir()) == ["again.npz", "net.npz"]


def test_different_networks_differ() -> None:
    assert not same_network(network(1), network(2))
    assert not same_network(network(1), network(1, scale=0.2))


def test_numpy_and_people_can_read_it(tmp_path: Path) -> None:
    save_network(network(4), tmp_path / "net.npz")
    with np.load(tmp_path / "net.npz", allow_pickle=False) as archive:
        np.testing.assert_array_equal(archive["layers/0/weight"], network(4).layers[0].weight)
    with zipfile.ZipFile(tmp_path / "net.npz") as archive:
        assert json.loads(archive.read("network.json"))["layers"][1]["kernel"] == [2, 2]


def test_missing_and_foreign_files(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"nothing\.npz: no such file"):
        load_network(tmp_path / "nothing.npz")
    with pytest.raises(UserError, match="is a folder, must be a file"):
        load_network(tmp_path)
    (tmp_path / "text.npz").write_text("hello")
    with pytest.raises(UserError, match=r"text\.npz: damaged, or not an integer network"):
        load_network(tmp_path / "text.npz")
    np.savez(tmp_path / "other.npz", x=np.zeros(3))
    with pytest.raises(UserError, match=r"other\.npz: damaged, or not"):
        load_network(tmp_path / "other.npz")
    with zipfile.ZipFile(tmp_path / "later.npz", "w") as archive:
        archive.writestr("network.json", json.dumps({"format": "codesign integer network", "version": 99}))
    with pytest.raises(UserError, match="format version 99"):
        load_network(tmp_path / "later.npz")


def test_every_truncation_and_flipped_byte_is_refused_or_harmless(tmp_path: Path) -> None:
    original = network(9)
    save_network(original, tmp_path / "net.npz")
    whole = (tmp_path / "net.npz").read_bytes()
    for length in range(0, len(whole), 97):
        (tmp_path / "cut.npz").write_bytes(whole[:length])
        with pytest.raises(UserError, match=r"cut\.npz"):
            load_network(tmp_path / "cut.npz")
    messages = []
    for position in range(0, len(whole), 41):
        damaged = bytearray(whole)
        damaged[position] ^= 0xFF
        (tmp_path / "bad.npz").write_bytes(damaged)
        try:
            loaded = load_network(tmp_path / "bad.npz")
        except UserError as error:
            messages.append(str(error))
        else:
            assert same_network(loaded, original)
    assert len(messages) > 20
    assert all("bad.npz" in message and "\n" not in message for message in messages)


ODD_VALUES = [None, -1, 0, 1.5, "x", [], {}, True, 10**30, [1], {"a": 1}, float("nan"), "removed"]


def places(value: object, path: tuple[object, ...] = ()) -> Iterator[tuple[object, ...]]:
    yield path
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        yield from places(item, (*path, key))


def test_every_odd_value_in_the_structure_is_refused_or_kept(tmp_path: Path) -> None:
    """An edited file either loads to something that saves and loads again, or gives one line."""
    save_network(network(9), tmp_path / "net.npz")
    with zipfile.ZipFile(tmp_path / "net.npz") as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    every = [path for path in places(json.loads(members["network.json"])) if path and path[0] != "provenance"]
    cases = [(path, value) for path in every for value in ODD_VALUES][::5]
    messages = []
    for path, value in cases:
        structure = json.loads(members["network.json"])
        holder = structure
        for key in path[:-1]:
            holder = holder[key]
        if value == "removed":
            del holder[path[-1]]
        else:
            holder[path[-1]] = value
        with zipfile.ZipFile(tmp_path / "odd.npz", "w") as archive:
            for name, content in members.items():
                archive.writestr(name, json.dumps(structure) if name == "network.json" else content)
        try:
            loaded = load_network(tmp_path / "odd.npz")
        except UserError as error:
            messages.append(str(error))
            continue
        save_network(loaded, tmp_path / "again.npz")
        assert same_network(load_network(tmp_path / "again.npz"), loaded)
    assert len(messages) > 0.9 * len(cases)
    assert all("odd.npz" in message and "\n" not in message for message in messages)


def restructured(path: Path, change: Callable[[dict[str, Any]], object]) -> Path:
    """A copy of a file whose structure is changed in place."""
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    structure = json.loads(members["network.json"])
    change(structure)
    with zipfile.ZipFile(path.with_name("changed.npz"), "w") as archive:
        for name, content in members.items():
            archive.writestr(name, json.dumps(structure) if name == "network.json" else content)
    return path.with_name("changed.npz")


def test_older_files_say_accuracies_in_their_provenance(tmp_path: Path) -> None:
    save_network(replace(network(3), validation=None, test=None, bias_report=""), tmp_path / "net.npz")
    facts = MEASURED.facts("validation")

    def older(structure: dict[str, Any]) -> None:
        structure["version"] = 2
        del structure["measured"], structure["bias_report"]
        structure["provenance"] |= facts | {"biases": "of the results"}

    found = load_network(restructured(tmp_path / "net.npz", older))
    assert (found.validation, found.test, found.bias_report) == (MEASURED, None, "of the results")
    save_network(found, tmp_path / "now.npz")
    assert same_network(load_network(tmp_path / "now.npz"), found)


@pytest.mark.parametrize(
    ("key", "value"),
    [("accuracy", 1.01), ("accuracy", "0.5"), ("agreement", True), ("images", 0), ("images", 2.5), ("images", True)],
)
def test_accuracies_that_cannot_be_are_refused(key: str, value: object, tmp_path: Path) -> None:
    save_network(network(1), tmp_path / "net.npz")
    changed = restructured(
        tmp_path / "net.npz",
        lambda structure: structure["measured"]["validation"].update({f"validation_{key}": value}),
    )
    with pytest.raises(UserError, match=f"changed.npz: damaged.*validation_{key}"):
        load_network(changed)


def test_unwritable_target_and_odd_provenance(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    with pytest.raises(UserError, match="cannot be written"):
        save_network(network(0), tmp_path / "file" / "net.npz")
    odd = network(0)
    odd.provenance["what"] = object()
    with pytest.raises(UserError, match="is no JSON"):
        save_network(odd, tmp_path / "net.npz")
    assert list(tmp_path.iterdir()) == [tmp_path / "file"]


def test_failed_save_keeps_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save_network(network(0), tmp_path / "net.npz")

    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(np.lib.format, "write_array", interrupt)
    with pytest.raises(KeyboardInterrupt):
        save_network(network(1), tmp_path / "net.npz")
    assert same_network(load_network(tmp_path / "net.npz"), network(0))
    assert [item.name for item in tmp_path.iterdir()] == ["net.npz"]

"""The table of formats."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from codesign.data.sources import Dataset, load_dataset
from codesign.errors import UserError
from codesign.formats.ratio import parse_ratio
from codesign.integer.network import IntegerConv
from codesign.quant.choices import METHODS
from codesign.quant.comparison import TABLE, Accuracies, as_text, compare
from codesign.quant.options import FloatOptions, FormatOptions, QuantizeOptions, TrainingOptions
from codesign.quant.pipeline import quantize
from codesign.workload import zoo


def small(seed: int = 0) -> Dataset:
    return load_dataset("digits", seed=seed).part(train=500, test=200)


def test_table_of_one_seed() -> None:
    chosen = [entry for entry in TABLE if entry.name in ("Fixed-W8A8", "Binary-A4 (XNOR)")]
    lines: list[str] = []
    table = compare(
        zoo.smallcnn(width=8), small, entries=chosen, seeds=[0], float_epochs=4, epochs=2, report=lines.append
    )
    by_name = {line.entry: line for line in table}
    assert list(by_name) == ["float", "Fixed-W8A8", "Binary-A4 (XNOR)"]
    assert abs(by_name["Fixed-W8A8"].calibrated[0] - by_name["float"].calibrated[0]) < 0.03
    assert by_name["Binary-A4 (XNOR)"].calibrated[0] < by_name["Fixed-W8A8"].calibrated[0] - 0.2
    assert len(by_name["Binary-A4 (XNOR)"].trained) == 1
    assert len(lines) == 2
    assert "Fixed-W8A8" in as_text(table)


@pytest.mark.slow
def test_an_interrupted_table_continues_to_the_same_numbers(tmp_path: Path) -> None:
    chosen = [entry for entry in TABLE if entry.name in ("PoT-W4A4", "Fixed-W8A8", "RMSMP 65:30:5")]

    def table(folder: Path | None, report: Callable[[str], None] | None = None, epochs: int = 2) -> list[Accuracies]:
        return compare(
            zoo.smallcnn(width=6), small, entries=chosen, seeds=[0, 1], float_epochs=2, epochs=epochs,
            folder=folder, report=report,
        )  # fmt: skip

    done: list[str] = []

    def stop(line: str) -> None:
        done.append(line)
        if len(done) in (1, 4):
            raise KeyboardInterrupt

    expected = table(None)
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            table(tmp_path, stop)
    assert table(tmp_path, done.append) == expected
    assert len(done) == len(set(done)) == 6  # nothing is computed twice
    assert table(tmp_path, done.append) == expected and len(done) == 6
    with pytest.raises(UserError, match=r"accuracies.json: is of a comparison with other settings"):
        table(tmp_path, epochs=3)
    kept = tmp_path / "accuracies.json"
    kept.write_bytes(kept.read_bytes()[:-40])  # damaged: nothing in it counts
    lines: list[str] = []
    assert table(tmp_path, lines.append) == expected
    assert lines[0].endswith("damaged, or of other sources of codesign: everything is run again") and len(lines) == 7
    # Two seeds beside each other: the one that finishes a line first does not lose it to the other.
    beside = tmp_path / "beside"

    def one(seed: int, report: Callable[[str], None] | None = None) -> None:
        compare(
            zoo.smallcnn(width=6), small, entries=chosen, seeds=[seed], float_epochs=2, epochs=2, folder=beside,
            report=report,
        )  # fmt: skip

    started: list[str] = []

    def other(line: str) -> None:
        if not started:
            started.append(line)
            one(1)

    one(0, other)
    assert compare(
        zoo.smallcnn(width=6), small, entries=chosen, seeds=[0, 1], float_epochs=2, epochs=2, folder=beside,
        report=started.append,
    ) == expected  # fmt: skip
    assert len(started) == 1
    with pytest.raises(UserError, match=r"accuracies.json: is of a comparison with other settings"):
        compare(
            zoo.smallcnn(width=6), lambda seed: small(seed).part(test=100), entries=chosen, seeds=[0, 1],
            float_epochs=2, epochs=2, folder=tmp_path,
        )  # fmt: skip


def test_text_of_a_table() -> None:
    table = [
        Accuracies("float", [0.9, 0.92], [0.9, 0.92], [0.8, 0.8]),
        Accuracies("pot", [0.5, 0.6], [0.9, 0.9], [0.7, 0.8]),
    ]
    rows = [line.split() for line in as_text(table).splitlines()[1:]]
    assert rows[0] == ["float", "91.00", "±", "1.41", "91.00", "±", "1.41", "+0.00", "±", "0.00", "80.00", "±", "0.00"]
    assert rows[1] == ["pot", "55.00", "±", "7.07", "90.00", "±", "0.00", "-1.00", "±", "1.41", "75.00", "±", "7.07"]


@pytest.mark.parametrize("method", METHODS)
def test_every_method_gives_rows_of_its_formats(method: str) -> None:
    options = QuantizeOptions(FormatOptions(method), FloatOptions(1), training=TrainingOptions(1))
    result = quantize(zoo.smallcnn(width=6), small(), options)
    used = {
        f"{scheme}{bits}"
        for layer in result.integer_network.layers
        if isinstance(layer, IntegerConv)
        for scheme, bits in zip(layer.scheme, layer.weight_bits, strict=True)
    }
    assert used == {str(form) for form in parse_ratio(METHODS[method].ratio)}

"""A search chooses by validation images: test images are not touched before the choice, and cannot change it."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from codesign.data.dataset import Dataset
from codesign.data.sources import load_dataset
from codesign.formats.ratio import parse_ratio
from codesign.quant.options import FloatOptions, FormatOptions, QuantizeOptions, TrainingOptions
from codesign.quant.pipeline import quantize
from codesign.search import loop as search_run
from codesign.search import networks
from codesign.search.loop import Search, SearchResult
from codesign.search.point import Point, choose
from codesign.search.space import Space
from codesign.workload import zoo

SPACE = Space(
    network="smallcnn:width=4",
    data="digits",
    base="tiny",
    ratios=("pot4:100", "fixed8:100"),
    rows=(3,),
    columns=(1, 2),
    dot=(2,),
    float_epochs=2,
    epochs=1,
    images=2,
    resources="predicted",
)


class Touched(Exception):
    """A test image, or its label, was looked at."""


class Guarded(np.ndarray[Any, Any]):
    """An array that may only be looked at once the class says so."""

    allowed = False

    def _look(self) -> np.ndarray[Any, Any]:
        if not Guarded.allowed:
            raise Touched
        return self.view(np.ndarray)

    def __getitem__(self, key: Any) -> Any:
        return self._look()[key]

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **options: Any) -> Any:
        plain = [item._look() if isinstance(item, Guarded) else item for item in inputs]
        return getattr(ufunc, method)(*plain, **options)

    def __array_function__(self, function: Any, types: Any, args: Any, kwargs: Any) -> Any:
        self._look()
        return super().__array_function__(function, types, args, kwargs)

    def __array__(self, *args: Any, **kwargs: Any) -> Any:
        return self._look()

    def astype(self, *args: Any, **kwargs: Any) -> Any:
        return self._look().astype(*args, **kwargs)

    def tobytes(self, *args: Any) -> bytes:
        return self._look().tobytes(*args)

    def __iter__(self) -> Any:
        return iter(self._look())


def guarded(data: Dataset) -> Dataset:
    return dataclasses.replace(
        data, test_images=data.test_images.view(Guarded), test_labels=data.test_labels.view(Guarded)
    )


def searched(
    folder: Path, monkeypatch: pytest.MonkeyPatch, change: Callable[[Dataset], Dataset]
) -> tuple[SearchResult, Point]:
    """A whole search on changed data, and its choice; test images are free from the choice on."""
    chosen: list[Point] = []

    def choosing(points: list[Point], loss: float) -> Point:
        chosen.append(choose(points, loss))
        monkeypatch.setattr(Guarded, "allowed", True)
        return chosen[-1]

    monkeypatch.setattr(Guarded, "allowed", False)
    monkeypatch.setattr(search_run, "choose", choosing)
    monkeypatch.setattr(networks, "load_dataset", lambda *arguments: change(load_dataset(*arguments)))
    return Search(SPACE, folder).run(), chosen[0]


@pytest.mark.slow
def test_the_choice_knows_no_test_image(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(Touched):  # the guard does guard
        _ = guarded(load_dataset("digits")).test_images[:1]
    result, chosen = searched(tmp_path / "guarded", monkeypatch, guarded)
    assert len(result.points) == 4 and chosen.test_accuracy is None
    assert result.chosen.hardware == chosen.hardware and result.chosen.test_images == 355

    def permuted(data: Dataset) -> Dataset:
        order = np.random.default_rng(1).permutation(len(data.test_labels))
        return dataclasses.replace(data, test_labels=data.test_labels[order])

    other, choice = searched(tmp_path / "permuted", monkeypatch, permuted)
    assert choice == chosen and [p.hardware.name for p in other.front] == [p.hardware.name for p in result.front]
    assert [p.validation_accuracy for p in other.points] == [p.validation_accuracy for p in result.points]
    assert (other.chosen.test_accuracy or 1) < 0.3 < (result.chosen.test_accuracy or 0)
    answer = result.to_json()
    assert answer["validation_accuracy"] == chosen.validation_accuracy and answer["chosen_by"] == "validation images"
    assert answer["test_accuracy"] == result.chosen.test_accuracy
    tested = {point["name"] for point in answer["points"] if point["test_accuracy"] is not None}
    assert tested == set(answer["front"])


def test_no_step_looks_at_test_images(monkeypatch: pytest.MonkeyPatch) -> None:
    data = load_dataset("digits").part(train=200, validation=40)
    options = QuantizeOptions(
        FormatOptions(ratio=parse_ratio("pot4:60,fixed4:40"), refresh=1),
        FloatOptions(1),
        post_training=("equalize", "adaround", "bias"),
        training=TrainingOptions(1),
    )
    monkeypatch.setattr(Guarded, "allowed", False)
    found = quantize(zoo.get("smallcnn", width=4), guarded(data), options)
    assert found.test is None and found.validation.images == 40
    with pytest.raises(Touched):
        quantize(zoo.get("smallcnn", width=4), guarded(data), options, test=True)

"""Data sets: shapes, ranges, splits, seeds, and files that are missing or damaged."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import numpy as np
import pytest

from codesign.data import sources as data
from codesign.data.sources import load_dataset
from codesign.errors import UserError
from tests import damage
from tests.data_files import data_file


def test_digits() -> None:
    digits = load_dataset("digits")
    assert digits.shape == (1, 8, 8)
    labels = np.concatenate([digits.train_labels, digits.validation_labels, digits.test_labels])
    assert len(labels) == 1797
    assert (len(digits.validation_labels), len(digits.test_labels)) == (285, 355)
    images = np.concatenate([digits.train_images, digits.validation_images, digits.test_images])
    assert images.dtype == np.float32
    assert (images.min(), images.max()) == (0, 1)
    # The split takes a fifth of each class, and loses or doubles no image.
    share = np.bincount(digits.test_labels) / np.bincount(labels)
    assert ((share > 0.19) & (share <= 0.2)).all()
    rest = np.concatenate([digits.train_labels, digits.validation_labels])
    share = np.bincount(digits.validation_labels) / np.bincount(rest)
    assert ((share > 0.19) & (share <= 0.2)).all()
    from sklearn.datasets import load_digits

    original = load_digits().images.reshape(1797, 64) / 16
    assert sorted(map(tuple, images.reshape(1797, 64).tolist())) == sorted(map(tuple, original.tolist()))


def test_seed_decides_the_split() -> None:
    one, same, other = (load_dataset("digits", seed=seed) for seed in (0, 0, 1))
    assert np.array_equal(one.test_images, same.test_images)
    assert np.array_equal(one.train_labels, same.train_labels)
    assert not np.array_equal(one.test_labels, other.test_labels)
    # Shuffled: a part has all classes.
    assert set(one.part(test=60).test_labels.tolist()) == set(range(10))
    assert len(one.part(train=7).train_images) == 7
    assert str(one) == "digits: 1157 training, 285 validation and 355 test images of 1x8x8, 10 classes"


def test_cifar10_small() -> None:
    data_file("cifar10_small.npz")
    cifar = load_dataset("cifar10_small")
    assert cifar.train_images.shape == (1600, 3, 32, 32)
    assert cifar.train_images.flags.c_contiguous
    assert np.bincount(cifar.train_labels).tolist() == [160] * 10
    assert np.bincount(cifar.validation_labels).tolist() == [40] * 10
    assert np.bincount(cifar.test_labels).tolist() == [100] * 10
    # Red, green and blue of CIFAR-10 in this order.
    np.testing.assert_allclose(cifar.train_images.mean((0, 2, 3)), [0.491, 0.482, 0.446], atol=0.01)
    assert "lossy JPEG" in str(cifar)


def fake_cifar(folder: Path) -> None:
    rng = np.random.default_rng(0)
    np.savez(
        folder / "cifar10_small.npz",
        x_train=rng.integers(0, 256, (6, 4, 3, 3), dtype=np.uint8),
        y_train=np.arange(6),
        x_test=rng.integers(0, 256, (2, 4, 3, 3), dtype=np.uint8),
        y_test=np.arange(2),
    )


def test_folder_by_argument_and_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_cifar(tmp_path)
    with np.load(tmp_path / "cifar10_small.npz") as archive:
        pixels, labels = archive["x_train"], archive["y_train"]
    for cifar in (load_dataset("cifar10_small", tmp_path), load_dataset("cifar10_small", str(tmp_path), seed=3)):
        assert cifar.shape == (3, 4, 3)
        assert (len(cifar.train_labels), len(cifar.validation_labels)) == (5, 1)
        assert "few validation images: one is 1e+02 %" in str(cifar) and "only 5 training images" in str(cifar)
        found = np.concatenate([cifar.train_images, cifar.validation_images])
        numbers = np.concatenate([cifar.train_labels, cifar.validation_labels])
        for image, label in zip(found, numbers, strict=True):
            original = pixels[list(labels).index(label)]
            np.testing.assert_allclose(image, original.transpose(2, 0, 1) / 255, rtol=1e-6)
    monkeypatch.setenv("CODESIGN_DATA", str(tmp_path))
    assert load_dataset("cifar10_small").shape == (3, 4, 3)
    assert data.data_folder("elsewhere") == Path("elsewhere")


@pytest.mark.parametrize("name", ["cifar10_small", "cifar10"])
def test_missing_file(name: str, tmp_path: Path) -> None:
    says = rf"{tmp_path}.*data set '{name}' needs this file .*data_dir or \$CODESIGN_DATA"
    with pytest.raises(UserError, match=says):
        load_dataset(name, tmp_path)


def test_unknown_name() -> None:
    with pytest.raises(UserError, match="data set 'mnist' is unknown; there are digits, cifar10_small, cifar10"):
        load_dataset("mnist")


def test_damaged_small_file(tmp_path: Path) -> None:
    fake_cifar(tmp_path)
    path = tmp_path / "cifar10_small.npz"
    whole = path.read_bytes()
    for damaged in (b"", b"hello", whole[: len(whole) // 2], whole[:-30]):
        path.write_bytes(damaged)
        with pytest.raises(UserError, match=r"cifar10_small\.npz: damaged") as caught:
            load_dataset("cifar10_small", tmp_path)
        assert "\n" not in str(caught.value)
    np.savez(path, x_train=np.zeros((2, 4, 3, 3)), y_train=np.zeros(2), x_test=np.zeros(1), y_test=np.zeros(1))
    with pytest.raises(UserError, match="images must be"):
        load_dataset("cifar10_small", tmp_path)


def fake_archive(path: Path, classes: tuple[str, ...]) -> dict[str, tuple[int, int, int]]:
    image_module = pytest.importorskip("PIL.Image")
    colours = {}
    with tarfile.open(path, "w:xz") as archive:
        for part in ("train", "test"):
            for index, name in enumerate(classes):
                colours[f"{part}/{name}"] = (20 * index, 200 - 20 * index, 90 if part == "train" else 10)
                buffer = io.BytesIO()
                image_module.new("RGB", (8, 8), colours[f"{part}/{name}"]).save(buffer, "JPEG", quality=95)
                member = tarfile.TarInfo(f"CIFAR/{part}/{name}/0001.jpg")
                member.size = buffer.tell()
                buffer.seek(0)
                archive.addfile(member, buffer)
    return colours


def test_whole_cifar_is_decoded_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    colours = fake_archive(tmp_path / "cifar10_jpeg.tar.xz", data.CIFAR_CLASSES)
    monkeypatch.setenv("CODESIGN_CACHE", str(tmp_path / "cache"))
    first = load_dataset("cifar10", tmp_path)
    assert first.test_images.shape == (10, 3, 8, 8)
    assert len(first.train_images) + len(first.validation_images) == 10
    for image, label in zip(first.test_images, first.test_labels, strict=True):
        expected = np.array(colours[f"test/{data.CIFAR_CLASSES[label]}"]) / 255
        np.testing.assert_allclose(image[:, 4, 4], expected, atol=0.03)
    (cache,) = (tmp_path / "cache" / "cifar10").glob("*.npz")
    for hurt in damage.ANY:
        hurt(cache)
        again = load_dataset("cifar10", tmp_path)
        assert np.array_equal(again.test_images, first.test_images)
        assert np.array_equal(again.train_labels, first.train_labels)

    def never(*_: object) -> None:
        raise AssertionError("decoded again")

    monkeypatch.setattr(data, "_decode", never)
    assert np.array_equal(load_dataset("cifar10", tmp_path).train_images, first.train_images)


def test_damaged_archives_leave_no_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CODESIGN_CACHE", str(tmp_path / "cache"))
    path = tmp_path / "cifar10_jpeg.tar.xz"
    fake_archive(path, data.CIFAR_CLASSES)
    whole = path.read_bytes()
    for damaged in (b"no archive", whole[: len(whole) // 2]):
        path.write_bytes(damaged)
        with pytest.raises(UserError, match=r"cifar10_jpeg\.tar\.xz: damaged"):
            load_dataset("cifar10", tmp_path)
    fake_archive(path, ("dinosaur",))
    with pytest.raises(UserError, match="holds no images named"):
        load_dataset("cifar10", tmp_path)
    assert not (tmp_path / "cache").exists()

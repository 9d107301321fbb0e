"""Images and arrays that users bring, and the sets of sounds: what is loaded, how it is split, what is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from codesign.data.sources import load_dataset
from codesign.errors import UserError
from tests.data_files import data_file

RNG = np.random.default_rng(0)


def write_images(folder: Path, count: int, mode: str = "RGB", size: tuple[int, int] = (6, 4)) -> None:
    """`count` images a class whose pixels are all the class's number times 100 plus the image's."""
    for label, name in enumerate(("cat", "dog")):
        (folder / name).mkdir(parents=True)
        for index in range(count):
            color = 100 * label + index
            Image.new(mode, size, color if mode == "L" else (color, color, color)).save(folder / name / f"{index}.png")


@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_a_folder_of_classes_is_split_by_the_seed(tmp_path: Path, mode: str) -> None:
    write_images(tmp_path / "pets", 10, mode)
    (tmp_path / "pets" / "cat" / "notes.txt").write_text("no image")
    found = load_dataset(str(tmp_path / "pets"))
    assert found.name == "pets" and found.classes == 2 and found.shape == (3 if mode == "RGB" else 1, 4, 6)
    assert len(found.test_labels) == 4 and np.bincount(found.test_labels).tolist() == [2, 2]
    assert np.bincount(found.validation_labels).tolist() == [1, 1] and len(found.train_labels) == 14
    pixels = np.concatenate([found.train_images, found.validation_images, found.test_images])
    labels = np.concatenate([found.train_labels, found.validation_labels, found.test_labels])
    # Every image once, with its own label.
    values = np.rint(pixels[:, 0, 0, 0] * 255).astype(int)
    assert sorted(values.tolist()) == [*range(10), *range(100, 110)]
    assert np.array_equal(values // 100, labels)
    again, other = load_dataset(str(tmp_path / "pets")), load_dataset(str(tmp_path / "pets"), seed=1)
    assert np.array_equal(again.test_images, found.test_images)
    assert not np.array_equal(other.test_images, found.test_images)


def test_a_users_own_split_is_kept(tmp_path: Path) -> None:
    write_images(tmp_path / "train", 7)
    write_images(tmp_path / "test", 3)
    found = load_dataset(str(tmp_path))
    assert (len(found.train_labels), len(found.validation_labels), len(found.test_labels)) == (12, 2, 6)


def test_arrays(tmp_path: Path) -> None:
    path = tmp_path / "mine.npz"
    pixels = RNG.integers(0, 256, (20, 5, 6), dtype=np.uint8)
    np.savez(path, x=pixels, y=np.arange(20) % 2)
    found = load_dataset(str(path))
    assert found.name == "mine" and found.shape == (1, 5, 6) and len(found.test_labels) == 4
    assert found.train_images.max() <= 1
    real = RNG.standard_normal((8, 2, 5, 6))
    np.savez(path, x_train=real, y_train=np.arange(8) % 4, x_test=real[:2], y_test=np.arange(2))
    found = load_dataset(str(path))
    assert found.shape == (2, 5, 6) and found.classes == 4
    every = np.concatenate([found.train_images, found.validation_images])
    np.testing.assert_allclose(np.sort(every.ravel()), np.sort(real.ravel()), rtol=1e-6)


def refused(path: Path) -> str:
    with pytest.raises(UserError) as caught:
        load_dataset(str(path))
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_unusable_folders(tmp_path: Path) -> None:
    assert "no data set; must be a folder of images or an .npz file" in refused(tmp_path / "none.zip")
    (tmp_path / "one" / "cat").mkdir(parents=True)
    assert "has 1 folders of images; a data set needs one for each class" in refused(tmp_path / "one")
    (tmp_path / "one" / "dog").mkdir()
    assert "holds no images in its folders" in refused(tmp_path / "one")
    write_images(tmp_path / "few", 2)
    assert "no class has 5 images" in refused(tmp_path / "few")
    (tmp_path / "few" / "dog" / "7.png").write_bytes(b"no image")
    assert f"{tmp_path / 'few' / 'dog' / '7.png'}: not an image that is read (PNG, JPEG" in refused(tmp_path / "few")
    Image.new("RGB", (9, 4)).save(tmp_path / "few" / "dog" / "7.png")
    assert "7.png: is 9x4 RGB, others are 6x4 RGB; all must have one size" in refused(tmp_path / "few")


def test_unusable_arrays(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    good = {"x": np.zeros((10, 4, 4), np.uint8), "y": np.arange(10) % 2}
    for change, message in (
        ({"y": np.arange(9)}, "x has 10 images, y has 9 labels"),
        ({"y": np.arange(10) - 1}, "y must be class numbers from 0"),
        ({"x": np.zeros((10, 4), np.uint8)}, "x is uint8 of shape (10, 4); must be"),
        ({"x": np.full((10, 1, 4, 4), np.nan)}, "x holds numbers that are NaN or infinite"),
    ):
        np.savez(path, **(good | change))  # type: ignore[arg-type]
        assert message in refused(path)
    np.savez(path, images=good["x"])
    assert "holds images; must hold x_train" in refused(path)
    np.savez(path, **good)  # type: ignore[arg-type]
    path.write_bytes(path.read_bytes()[:100])
    assert "damaged" in refused(path)


def test_spoken_digits_keep_their_own_split() -> None:
    data_file("fsdd_mfcc49x10.npz")
    found = load_dataset("fsdd")
    assert found.shape == (1, 49, 10) and (len(found.train_labels), len(found.test_labels)) == (2160, 300)
    assert np.bincount(found.test_labels).tolist() == [30] * 10
    assert found.train_images.min() < 0
    assert 0.5 < found.train_images.std() < 2


def test_keywords_are_the_reference_models_own_codes() -> None:
    samples = np.load(data_file("mlperf_tiny_kws01.npz"))
    found = load_dataset("kws01")
    assert found.shape == (1, 49, 10) and len(found.train_labels) == 0 and len(found.test_labels) == 1000
    codes = np.rint(found.test_images / float(samples["in_scale"])) + int(samples["in_zero"])
    assert np.array_equal(codes[:, 0], samples["x"][..., 0])


@pytest.mark.parametrize("name", ["val", "valid", "validation"])
def test_a_users_own_validation_images_are_used(name: str, tmp_path: Path) -> None:
    for part, count in (("train", 7), ("test", 3), (name, 4)):
        write_images(tmp_path / "a" / part, count)
    found = load_dataset(str(tmp_path / "a"))
    assert (len(found.train_labels), len(found.validation_labels), len(found.test_labels)) == (14, 8, 6)
    assert found.classes == 2
    values = np.rint(found.validation_images[:, 0, 0, 0] * 255).astype(int)
    assert sorted(values.tolist()) == [*range(4), *range(100, 104)]
    assert np.array_equal(values // 100, found.validation_labels)
    x, y = np.zeros((20, 4, 4), np.uint8), np.arange(20) % 2
    path = tmp_path / "a.npz"
    keys = [(f"x_{name}", f"y_{name}"), (f"{name}_images", f"{name}_labels")]
    for images, labels in keys:
        own = {images: np.full((3, 4, 4), 51, np.uint8), labels: np.arange(3)}
        np.savez(path, x=x, y=y, **own)
        found = load_dataset(str(path))
        assert (len(found.train_labels), len(found.validation_labels), len(found.test_labels)) == (16, 3, 4)
        assert found.classes == 3 and np.allclose(found.validation_images, 0.2)
        np.savez(path, x_train=x, y_train=y, x_test=x, y_test=y, **own)
        found = load_dataset(str(path))
        assert (len(found.train_labels), len(found.validation_labels), len(found.test_labels)) == (20, 3, 20)
        np.savez(path, x=x, y=y, **{images: own[images]})
        assert f"holds {images} without {labels}" in refused(path)
        np.savez(path, x=x, y=y, **(own | {images: np.zeros((3, 5, 4), np.uint8)}))
        assert f"x has images of (1, 4, 4), {images} of (1, 5, 4)" in refused(path)
    np.savez(path, x=x, y=y, **{key: own.get(key, x if key[0] == "x" else y) for key in (*keys[0], *keys[1])})
    assert "must hold one array of validation images" in refused(path)


def test_parts_without_a_test_part_are_no_classes(tmp_path: Path) -> None:
    for part in ("train", "val"):
        write_images(tmp_path / "a" / part, 7)
    assert "has train, val; must have train and test, with val beside them" in refused(tmp_path / "a")
    for part in ("test", "validation"):
        write_images(tmp_path / "a" / part, 7)
    assert "has val and validation, must have one folder of validation images" in refused(tmp_path / "a")
    for kind in ("train", "val"):  # vehicles and valleys
        (tmp_path / "b" / kind).mkdir(parents=True)
        for index in range(6):
            Image.new("L", (4, 4), index).save(tmp_path / "b" / kind / f"{index}.png")
    assert load_dataset(str(tmp_path / "b")).classes == 2

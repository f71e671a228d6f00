"""Notebook 06 reads inspection pictures in MVTec AD's layout, and says where a folder differs."""

import numpy as np
import pytest
from PIL import Image

from dinov2_helpers import samples
from tools import pairing
from tools.lift import lift
from tools.project import Project

code = lift(pairing.read_source(Project(), "06_anomaly_detection"), "read_inspection", "true_masks")
read_inspection, true_masks = code["read_inspection"], code["true_masks"]
CATEGORIES = ("car", "mug", "rocket", "tiles", "wood")


def write(path, size=(20, 16), value=100):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, (value,) * 3).save(path)


@pytest.fixture
def folder(tmp_path):
    root = tmp_path / "screw"
    for i in range(3):
        write(root / f"train/good/{i:03d}.png")
        write(root / f"test/bent/{i:03d}.png")
        mask = Image.new("L", (20, 16))
        mask.paste(255, (2, 3, 2 + i + 1, 5))
        (root / "ground_truth/bent").mkdir(parents=True, exist_ok=True)
        mask.save(root / f"ground_truth/bent/{i:03d}_mask.png")
    write(root / "test/good/000.png")
    return root


def test_layout(folder):
    read = read_inspection(folder)
    assert [path.name for path in read.train] == ["000.png", "001.png", "002.png"]
    assert list(read.kinds) == ["bent"] * 3 + ["good"]
    assert [path.parent.name for path in read.test] == list(read.kinds)
    masks = true_masks(read)
    assert masks.shape == (4, 16, 20) and masks.dtype == bool
    assert masks.sum(axis=(1, 2)).tolist() == [2, 4, 6, 0]
    assert masks[0, 3:5, 2].all()


def test_masks_without_the_suffix_and_other_picture_types(folder):
    for path in sorted(folder.rglob("*_mask.png")):
        path.rename(path.with_name(path.name.replace("_mask", "")))
    for path in sorted((folder / "test/bent").iterdir()):
        Image.open(path).save(path.with_suffix(".jpg"))
        path.unlink()
    assert true_masks(read_inspection(folder)).sum() == 12


def test_training_pictures_alone_are_enough(folder):
    for path in [*(folder / "test").rglob("*.png"), *(folder / "ground_truth").rglob("*.png")]:
        path.unlink()
    read = read_inspection(folder)
    assert (len(read.train), read.test, list(read.kinds)) == (3, [], [])


def test_no_folder(tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere: there is no such folder"):
        read_inspection(tmp_path / "nowhere")


@pytest.mark.parametrize("left", [0, 1])
def test_too_few_good_pictures(folder, left):
    for path in sorted((folder / "train/good").iterdir())[left:]:
        path.unlink()
    with pytest.raises(ValueError, match=rf"{left} good pictures in train.good: put 2 or more"):
        read_inspection(folder)


@pytest.mark.parametrize(
    ("name", "left"), [("train/good/001.png", (2, 4)), ("test/bent/002.png", (3, 3))]
)
def test_a_broken_picture_is_named_and_left_out(folder, name, left, capsys):
    path = folder / name
    path.write_bytes(path.read_bytes()[:40])
    read = read_inspection(folder)
    assert (len(read.train), len(read.test)) == left
    assert len(true_masks(read)) == len(read.kinds) == left[1]
    assert f"left out: {path}: cannot be used: " in capsys.readouterr().out


def test_a_missing_mask_is_named(folder):
    (folder / "ground_truth/bent/001_mask.png").unlink()
    with pytest.raises(ValueError, match=r"001.png: draw ground_truth/bent/001_mask.png"):
        true_masks(read_inspection(folder))


def test_a_mask_of_another_size_is_named(folder):
    write(folder / "ground_truth/bent/001_mask.png", (10, 8))
    expected = r"001_mask.png: is 10x8 px, but its picture is 20x16 px"
    with pytest.raises(ValueError, match=expected):
        true_masks(read_inspection(folder))


def test_pictures_of_several_sizes(folder):
    write(folder / "test/good/001.png", (30, 30))
    read = read_inspection(folder)
    with pytest.raises(ValueError, match="several sizes"):
        true_masks(read)


def test_links_out_of_the_folder_are_followed(folder, tmp_path):
    write(tmp_path / "chosen/000.png")
    (folder / "test/link").symlink_to(tmp_path / "chosen")
    (folder / "train/good/link.png").symlink_to(tmp_path / "chosen/000.png")
    read = read_inspection(folder)
    assert len(read.train) == 4 and "link" in read.kinds


@pytest.mark.parametrize("category", CATEGORIES)
def test_sample_data(category):
    read = read_inspection(samples.data_dir() / "defects" / category)
    masks = true_masks(read)
    assert len(read.train) == 40 and masks.shape == (70, 224, 224)
    np.testing.assert_array_equal(masks.any(axis=(1, 2)), read.kinds != "good")
    assert len(set(read.kinds)) == 5

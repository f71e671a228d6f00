"""Inspection pictures in MVTec AD's layout: what is read, and the sample data."""

import numpy as np
import pytest
from PIL import Image

from dinov2_helpers import samples
from dinov2_helpers.pictures import read_mask
from dinov2_helpers.techniques.inspection import read_layout

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


def masks_of(layout, size):
    """Masks of the test pictures, (N, H, W); those without one are empty."""
    blank = np.zeros(size[::-1], bool)
    return np.stack([read_mask(path, size=size) if path else blank for path in layout.masks])


def test_layout(folder):
    read = read_layout(folder)
    assert [path.name for path in read.train] == ["000.png", "001.png", "002.png"]
    assert list(read.kinds) == ["bent"] * 3 + ["good"] and read.flaws == ("bent",)
    assert [path.parent.name for path in read.test] == list(read.kinds)
    masks = masks_of(read, (20, 16))
    assert masks.sum(axis=(1, 2)).tolist() == [2, 4, 6, 0]
    assert masks[0, 3:5, 2].all()


def test_masks_without_the_suffix_and_other_picture_types(folder):
    for path in sorted(folder.rglob("*_mask.png")):
        path.rename(path.with_name(path.name.replace("_mask", "")))
    for path in sorted((folder / "test/bent").iterdir()):
        Image.open(path).save(path.with_suffix(".jpg"))
        path.unlink()
    assert masks_of(read_layout(folder), (20, 16)).sum() == 12


def test_training_pictures_alone_are_nothing_to_test_on(folder):
    for path in [*(folder / "test").rglob("*.png"), *(folder / "ground_truth").rglob("*.png")]:
        path.unlink()
    with pytest.raises(FileNotFoundError, match="no picture in test/good or test/KIND"):
        read_layout(folder)


def test_no_folder(tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere: there is no such folder"):
        read_layout(tmp_path / "nowhere")


def test_a_mask_of_another_size_is_named(folder):
    write(folder / "ground_truth/bent/001_mask.png", (10, 8))
    expected = r"001_mask.png: is 10x8 px, but its picture is 20x16 px"
    with pytest.raises(ValueError, match=expected):
        masks_of(read_layout(folder), (20, 16))


def test_links_out_of_the_folder_are_followed(folder, tmp_path):
    write(tmp_path / "chosen/000.png")
    (folder / "test/link").symlink_to(tmp_path / "chosen")
    (folder / "train/good/link.png").symlink_to(tmp_path / "chosen/000.png")
    read = read_layout(folder)
    assert len(read.train) == 4 and "link" in read.kinds
    assert "link" not in read.flaws  # nobody said that these are flaws


@pytest.mark.parametrize("category", CATEGORIES)
def test_sample_data(category):
    read = read_layout(samples.data_dir() / "defects" / category)
    masks = masks_of(read, (224, 224))
    kinds = np.array(read.kinds)
    assert len(read.train) == 40 and masks.shape == (70, 224, 224)
    np.testing.assert_array_equal(masks.any(axis=(1, 2)), kinds != "good")
    assert len(set(read.kinds)) == 5

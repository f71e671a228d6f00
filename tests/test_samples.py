import json
import math

import numpy as np
import pytest
from PIL import Image

from dinov2_helpers import ImageError, samples
from dinov2_helpers.samples import (
    CLASS_NAMES,
    Scenes,
    data_dir,
    load_scenes,
    load_views,
    photographs,
    project,
    read_scenes,
    unproject,
)
from tools import pairing
from tools.lift import lift
from tools.project import Project
from training.world.toys import CLASSES

SIZE = 64
FOCAL = 80.0
INTRINSICS = [[FOCAL, 0, SIZE / 2], [0, FOCAL, SIZE / 2], [0, 0, 1]]
WALL = 2.0  # depth of the plane z = 2 seen by the first camera, in metres


def pose(degrees=0.0, position=(0.0, 0.0, 0.0)):
    """A camera turned about its vertical axis."""
    c, s = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    x, y, z = position
    return [[c, 0, s, x], [0, 1, 0, y], [-s, 0, c, z], [0, 0, 0, 1]]


def wall_depth(world_from_camera):
    """Depth of the plane z = WALL, by ray-plane intersection."""
    m = np.array(world_from_camera)
    ys, xs = np.mgrid[:SIZE, :SIZE] + 0.5
    rays = np.stack([(xs - SIZE / 2) / FOCAL, (ys - SIZE / 2) / FOCAL, np.ones_like(xs)], -1)
    return (WALL - m[2, 3]) / (rays @ m[2, :3])


def one(class_name, colour, instance=1):
    return {"class": class_name, "colour": colour, "instance": instance, "usual_colour": True}


@pytest.fixture
def root(tmp_path, monkeypatch):
    """A data folder of three views of a wall and of one scene with two toys."""
    cameras = [pose(), pose(10, (-0.3, 0.1, 0.2)), pose(0, (0, 0, 0.5))]
    for kind, split in (("views", "test"), ("scenes", "train")):
        folder = tmp_path / kind / split
        for name in ("images", "depth", "class_masks", "instance_masks"):
            (folder / name).mkdir(parents=True)
        rows = []
        for i, camera in enumerate(cameras):
            depth = np.round(wall_depth(camera) * 1000).astype(np.uint16)
            mask = np.zeros((SIZE, SIZE), np.uint8)
            mask[20:40, 20:40] = 15
            if i == 2:
                depth[:, :32] = 700  # something in front hides the left half
            depth[0] = 0  # sky
            Image.new("RGB", (SIZE, SIZE), (200, 10 * i, 0)).save(folder / f"images/{i}.webp")
            Image.fromarray(depth).save(folder / f"depth/{i}.png")
            for name in ("class_masks", "instance_masks"):
                indexed = Image.fromarray(mask if name == "class_masks" else mask // 15).convert(
                    "P"
                )
                indexed.putpalette([0, 0, 0] + [128, 0, 0] * 20)
                indexed.save(folder / name / f"{i}.png")
            row = {
                "file_name": f"images/{i}.webp",
                "depth_file_name": f"depth/{i}.png",
                "class_mask_file_name": f"class_masks/{i}.png",
                "instance_mask_file_name": f"instance_masks/{i}.png",
                "framing": "portrait" if i == 0 else "wide",
                "surface": ("grass", "sand", "grass")[i],
                "objects": [one("duck", "yellow"), one("car", "red", 2)][: 2 if i == 1 else 1],
                "camera": {"intrinsics": INTRINSICS, "world_from_camera": camera},
            }
            if kind == "views":
                row |= {"toy_id": "duck-7-yellow", "azimuth": 15 * i}
            rows.append(json.dumps(row))
        (folder / "metadata.jsonl").write_text("\n".join(rows) + "\n", encoding="utf-8")
    monkeypatch.setenv("DINOV2_DATA", str(tmp_path))
    return tmp_path


def test_data_dir_is_the_named_folder_and_never_another(root, monkeypatch):
    assert data_dir() == root
    monkeypatch.setenv("DINOV2_DATA", str(root / "nowhere"))
    with pytest.raises(FileNotFoundError, match=r"nowhere.*DINOV2_DATA"):
        data_dir()


def test_data_dir_prefers_the_installed_data_to_the_checkout(tmp_path, monkeypatch):
    monkeypatch.delenv("DINOV2_DATA", raising=False)
    package = tmp_path / "dinov2_helpers"
    monkeypatch.setattr("dinov2_helpers.data.__file__", str(package / "data.py"))
    with pytest.raises(FileNotFoundError, match="DINOV2_DATA"):
        data_dir()
    (tmp_path / "data").mkdir()
    assert data_dir() == tmp_path / "data"
    (package / "data").mkdir(parents=True)
    assert data_dir() == package / "data"


def test_ground_truth_is_read_as_written(root):
    scenes = load_scenes("train")
    assert len(scenes) == 3 and [path.name for path in scenes.images] == [
        "0.webp",
        "1.webp",
        "2.webp",
    ]
    assert scenes.image(1).mode == "RGB" and scenes.image(1).size == (SIZE, SIZE)
    depth = scenes.depth(0)
    assert depth.dtype == np.float32 and np.isnan(depth[0]).all()
    np.testing.assert_allclose(depth[1:], WALL)
    mask = scenes.class_mask(0)
    assert mask.dtype == np.uint8 and scenes.classes[mask[30, 30] - 1] == "duck" and mask[0, 0] == 0
    assert set(np.unique(scenes.instance_mask(0))) == {0, 1}


def test_select_by_column_object_several_values_and_function(root):
    views = load_views("test")
    assert len(views.select(framing="wide")) == 2
    assert len(views.select(n_objects=2)) == 1
    assert len(views.select(surface=["sand", "road"])) == 1
    assert len(views.select(azimuth=lambda degrees: degrees >= 15)) == 2
    assert load_views("test", surface="grass", class_="duck").table == [
        views.table[0],
        views.table[2],
    ]
    assert len(views.select(class_="car", colour="red")) == 1
    # the duck is yellow and the car is red: no single object is a red duck
    assert len(views.select(class_="duck", colour="red")) == 0
    with pytest.raises(KeyError, match=r"color.*colour"):
        views.select(color="red")


def test_labels_need_one_object_per_picture(root):
    scenes = load_scenes("train")
    assert scenes.labels("surface").tolist() == ["grass", "sand", "grass"]
    assert scenes.select(n_objects=1).labels("class").tolist() == ["duck", "duck"]
    with pytest.raises(ValueError, match=r"1\.webp has 2 objects"):
        scenes.labels("class")


def test_a_broken_table_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"metadata\.jsonl"):
        read_scenes(tmp_path)
    path = tmp_path / "metadata.jsonl"
    for text, reason in (("{", "line 2"), ("[]", "needs a 'file_name'"), ("{}", "'file_name'")):
        path.write_text('{"file_name": "a.png"}\n' + text, encoding="utf-8")
        with pytest.raises(ValueError, match=reason):
            read_scenes(tmp_path)


def test_your_own_folder_needs_file_names_only(tmp_path):
    # U+2028 ends a line for str.splitlines, but not in a file
    row = {"file_name": "a.png", "label": "cup\u2028"}
    text = json.dumps(row, ensure_ascii=False) + "\n" + json.dumps({**row, "label": "pen"})
    (tmp_path / "metadata.jsonl").write_text(text, encoding="utf-8")
    scenes = read_scenes(tmp_path)
    assert len(scenes.select(label="pen")) == 1 and len(scenes.select(n_objects=0)) == 2
    with pytest.raises(KeyError, match=r"depth_file_name.*a\.png"):
        scenes.depth(0)


def test_project_inverts_unproject():
    rng = np.random.default_rng(0)
    points, depth = rng.uniform(0, SIZE, (50, 2)), rng.uniform(0.5, 9, 50)
    camera = {"intrinsics": INTRINSICS, "world_from_camera": pose(37, (1, 2, 3))}
    found, distance = project(unproject(points, depth, camera), camera)
    np.testing.assert_allclose(found, points)
    np.testing.assert_allclose(distance, depth)


@pytest.fixture(scope="module")
def true_places():
    """The evidence finds points of one view in another; the wall here knows where they are."""
    source = pairing.read_source(Project(), "evidence/01_feature_space")
    return lift(source, "true_places")["true_places"]


def test_true_places_follow_the_homography_of_the_wall(root, true_places):
    views = load_views("test")
    points = np.array([[10.5, 20.5], [40.5, 33.5], [60.5, 50.5], [1.5, 32.5]])
    found, visible = true_places(views, 0, 1, points)
    # a point of the wall in front of the first camera is (x - 32) / 80 * 2 metres to its right
    c, s = math.cos(math.radians(10)), math.sin(math.radians(10))
    x, y = ((points - SIZE / 2) / FOCAL * WALL).T - np.array([[-0.3], [0.1]])
    z = WALL - 0.2
    right, forward = c * x - s * z, s * x + c * z
    expected = np.stack([right / forward, y / forward], 1) * FOCAL + SIZE / 2
    np.testing.assert_allclose(found, expected, atol=0.02)
    inside = ((expected >= 0) & (expected < SIZE)).all(1)
    assert visible.tolist() == inside.tolist() and 0 < inside.sum() < len(points)


def test_true_places_know_what_is_hidden(root, true_places):
    points = np.array([[16.5, 30.5], [40.5, 30.5], [32.5, 0.5]])
    found, visible = true_places(load_views("test"), 0, 2, points)
    assert visible.tolist() == [False, True, False]  # behind the occluder, in sight, sky
    assert np.isnan(found[2]).all() and np.isfinite(found[:2]).all()


def test_photographs_are_on_disk_and_rgb():
    pictures = photographs()
    assert pictures.keys() == samples.PHOTOGRAPHS.keys() and len(pictures) >= 10
    for name, picture in pictures.items():
        assert picture.mode == "RGB" and min(picture.size) >= 224, name
        assert np.asarray(picture).std() > 10, name


def test_the_classes_are_those_of_the_renderer():
    assert CLASS_NAMES == CLASSES


@pytest.mark.parametrize("name", ["../secret.webp", "/etc/hostname", "images/../../secret.webp"])
def test_a_file_name_must_not_lead_out_of_the_folder(tmp_path, name):
    (tmp_path / "metadata.jsonl").write_text(
        json.dumps({"file_name": name, "objects": []}), encoding="utf-8"
    )
    with pytest.raises(ValueError, match="leads out of the folder"):
        read_scenes(tmp_path).image(0)


@pytest.mark.parametrize(
    "name", [r"..\secret.webp", r"C:\secret.webp", r"images\..\..\a.webp", ".."]
)
def test_nor_may_it_in_the_ways_of_windows(tmp_path, name):
    (tmp_path / "metadata.jsonl").write_text(json.dumps({"file_name": name}), encoding="utf-8")
    with pytest.raises(ValueError, match="leads out of the folder"):
        read_scenes(tmp_path).image(0)


def test_links_to_files_may_lead_anywhere(root, tmp_path_factory):
    """As in the cache of Hugging Face, where every file is a link to ../../blobs."""
    blobs = tmp_path_factory.mktemp("blobs")
    folder = root / "scenes" / "train"
    expected = [load_scenes("train").image(i) for i in range(3)]
    for path in [*folder.rglob("*.webp"), *folder.rglob("*.png"), folder / "metadata.jsonl"]:
        blob = path.rename(blobs / f"{len(list(blobs.iterdir())):08x}")
        path.symlink_to(blob)
    scenes = load_scenes("train")
    assert [scenes.image(i) for i in range(3)] == expected
    assert scenes.class_mask(0).max() == 15 and np.isfinite(scenes.depth(0)).any()


def test_a_table_written_on_windows(root):
    table = root / "scenes" / "train" / "metadata.jsonl"
    table.write_text(
        table.read_text(encoding="utf-8").replace("images/", r"images\\"), encoding="utf-8"
    )
    assert load_scenes("train").image(0).size == (SIZE, SIZE)


def test_blank_lines_and_objects_of_null(tmp_path):
    lines = ['{"file_name": "a.png", "objects": null, "label": "x"}', "", '{"file_name": "b.png"}']
    (tmp_path / "metadata.jsonl").write_text("\n".join([*lines, "", "  ", ""]), encoding="utf-8")
    scenes = read_scenes(tmp_path)
    assert len(scenes) == 2 and len(scenes.select(n_objects=0)) == 2
    assert len(scenes.select(label="x")) == 1
    for wrong in ('"cup"', "3", '["cup"]', '{"class": "cup"}'):
        (tmp_path / "metadata.jsonl").write_text(
            f'{{"file_name": "a.png", "objects": {wrong}}}', encoding="utf-8"
        )
        with pytest.raises(ValueError, match=r"line 1: 'objects' are not a list"):
            read_scenes(tmp_path)


READERS = {
    "class_masks": Scenes.class_mask,
    "instance_masks": Scenes.instance_mask,
    "depth": Scenes.depth,
}


@pytest.mark.parametrize("folder", READERS)
def test_annotations_that_are_not_right_are_named(root, folder):
    scenes = load_scenes("train")
    read, path = READERS[folder], root / "scenes" / "train" / folder / "1.png"
    kind = np.uint16 if folder == "depth" else np.uint8
    Image.fromarray(np.ones((10, 12), kind)).save(path)
    with pytest.raises(ImageError, match=rf"{folder}/1\.png: is 12x10 px, but .* is 64x64 px"):
        read(scenes, 1)
    Image.new("RGB", (SIZE, SIZE), (1, 2, 3)).save(path)
    with pytest.raises(ImageError, match=rf"{folder}/1\.png: is in colour"):
        read(scenes, 1)
    path.write_bytes(b"hello")
    with pytest.raises(ImageError, match=rf"{folder}/1\.png: .*cannot identify"):
        read(scenes, 1)
    path.unlink()
    with pytest.raises(ImageError, match=rf"{folder}/1\.png: .*No such file"):
        read(scenes, 1)


def test_a_class_beyond_the_classes_is_named(root):
    path = root / "scenes" / "train" / "class_masks" / "1.png"
    values = np.zeros((SIZE, SIZE), np.uint8)
    values[3, 3] = len(CLASS_NAMES) + 1
    Image.fromarray(values).save(path)
    with pytest.raises(ImageError, match=r"1\.png: has the value 17; its classes are 0 to 16"):
        load_scenes("train").class_mask(1)
    path.with_name("0.png").rename(path)
    assert load_scenes("train").class_mask(1).max() == 15


def test_depth_of_8_bits_is_refused(root):
    path = root / "scenes" / "train" / "depth" / "1.png"
    Image.fromarray(np.ones((SIZE, SIZE), np.uint8)).save(path)
    with pytest.raises(ImageError, match=r"1\.png: has 8 bits, too few for millimetres"):
        load_scenes("train").depth(1)


def test_annotations_are_turned_with_their_pictures(root):
    folder = root / "scenes" / "train"
    (exif := Image.Exif())[0x0112] = 6
    Image.new("RGB", (40, 20)).save(folder / "images" / "0.webp", exif=exif)
    mask = np.zeros((20, 40), np.uint8)
    mask[0] = 3
    Image.fromarray(mask).save(folder / "class_masks" / "0.png", exif=exif)
    found = load_scenes("train").class_mask(0)
    assert found.shape == (40, 20) and (found[:, -1] == 3).all() and not found[:, :-1].any()

"""The released sample data: complete, consistent, within budget, and what the code makes."""

import importlib
import json
import os
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dinov2_helpers.samples import CLASS_NAMES
from training import verify

DATA = Path(__file__).parent.parent / "data"
SPLITS = ("train", "test")
BUDGET = {"scenes": 10e6, "views": 14e6}  # bytes
FOLDERS = [
    *((part, split) for part in BUDGET for split in SPLITS),
    ("views", "rivals"),
    ("scenes", "camouflage"),
]
FILE_COLUMNS = (
    "file_name",
    "depth_file_name",
    "class_mask_file_name",
    "instance_mask_file_name",
)


def read(part, split):
    path = DATA / part / split / "metadata.jsonl"
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


@pytest.fixture(scope="module")
def tables():
    return {(part, split): read(part, split) for part, split in FOLDERS}


def toy_ids(rows):
    return {one["toy_id"] for row in rows for one in row["objects"]}


def test_files_are_as_released():
    assert verify.differences(DATA) == []


@pytest.mark.parametrize(("part", "most"), [*BUDGET.items(), ("defects", 5e6), ("", 60e6)])
def test_size_budget(part, most):
    size = sum(path.stat().st_size for path in (DATA / part).rglob("*") if path.is_file())
    assert size <= most


def test_datasheet_counts_are_current():
    pytest.importorskip("training.world.render", exc_type=ImportError)
    from training.world.export import summary

    assert summary(DATA) in (DATA / "README.md").read_text(encoding="utf-8")


def test_every_file_has_its_line(tables):
    for (part, split), rows in tables.items():
        folder = DATA / part / split
        named = {row[column] for row in rows for column in FILE_COLUMNS}
        found = {p.relative_to(folder).as_posix() for p in folder.rglob("*.*") if p.is_file()}
        assert named | {"metadata.jsonl"} == found
        assert len(named) == len(FILE_COLUMNS) * len(rows)


def test_no_toy_is_in_two_splits(tables):
    splits = [toy_ids(rows) for rows in tables.values()]
    assert sum(map(len, splits)) == len(set().union(*splits))


def test_every_class_is_there_equally_often(tables):
    for split, each, groups in (("train", 12, 96), ("test", 8, 64)):
        rows = tables["scenes", split]
        alone = Counter(
            (row["framing"], row["objects"][0]["class"]) for row in rows if len(row["objects"]) == 1
        )
        assert alone == {(f, name): each for f in ("portrait", "wide") for name in CLASS_NAMES}
        assert sum(len(row["objects"]) > 1 for row in rows) == groups


def test_unusual_colours_are_in_the_test_split_only(tables):
    unusual = {
        split: np.mean([not one["usual_colour"] for row in rows for one in row["objects"]])
        for (part, split), rows in tables.items()
        if part == "scenes"
    }
    assert unusual["train"] == 0
    assert 0.15 < unusual["test"] < 0.25


def test_views_are_turntables(tables):
    for split in SPLITS:
        rows = tables["views", split]
        kinds = Counter((row["toy_id"], row["kind"]) for row in rows)
        toys = {row["toy_id"] for row in rows}
        assert len(toys) == {"train": 4, "test": 16}[split]
        wanted = {"turntable": 24, "elevation": 8, "relit": 4, "occluded": 4}
        assert kinds == {(toy, kind): n for toy in toys for kind, n in wanted.items()}
        for row in rows:
            assert row["occluded"] == (row["kind"] == "occluded")
            assert (row["light_id"] > 0) == (row["kind"] == "relit")
            if row["kind"] == "occluded":
                assert 0.45 <= row["objects"][0]["visible_fraction"] < 0.95


def test_a_rival_is_of_the_same_class_and_colour_in_the_same_place(tables):
    toys = [row for row in tables["views", "test"] if row["kind"] == "turntable"]
    rivals = tables["views", "rivals"]
    assert len(toys) == len(rivals) == 16 * 24
    for toy, rival in zip(toys, rivals, strict=True):
        (ours,) = toy["objects"]
        (other,) = rival["objects"]
        assert (ours["class"], ours["colour"]) == (other["class"], other["colour"])
        assert toy["toy_id"] != rival["toy_id"]
        for column in ("azimuth", "surface", "light", "indoor"):
            assert toy[column] == rival[column]


def of_the_ground(rows, split):
    """The mean distance in Lab of each only toy from the colour of what is around it."""
    export = pytest.importorskip("training.world.export", exc_type=ImportError)
    folder = DATA / "scenes" / split
    found = []
    for row in rows:
        image, depth, _, instances = (
            np.asarray(Image.open(folder / row[column])) for column in FILE_COLUMNS
        )
        found.append(export.contrast(image, instances > 0, depth > 0))
    return np.array(found)


def test_camouflaged_toys_have_nearly_the_colour_of_their_ground(tables):
    rows = tables["scenes", "camouflage"]
    assert len(rows) == 48
    assert Counter(row["framing"] for row in rows) == {"portrait": 32, "wide": 16}
    assert all(len(row["objects"]) == 1 and row["objects"][0]["usual_colour"] for row in rows)
    assert len({row["surface"] for row in rows}) >= 6
    assert len({row["objects"][0]["class"] for row in rows}) >= 10
    assert of_the_ground(rows, "camouflage").max() < 26  # drawn below 25; WebP loses a little


def test_most_toys_of_the_test_have_another_colour_than_their_ground(tables):
    rows = [row for row in tables["scenes", "test"] if len(row["objects"]) == 1]
    assert np.median(of_the_ground(rows[::5], "test")) > 45


def test_captions_name_classes_and_colours(tables):
    for rows in tables.values():
        for row in rows:
            for one in row["objects"]:
                noun = {"snowman": "snowm"}.get(one["class"], one["class"])
                assert noun in row["caption_en"] and one["colour"] in row["caption_en"]
            assert not row["caption_zh"].isascii()


def test_masks_and_depth_agree_with_the_table(tables):
    for (part, split), rows in tables.items():
        folder = DATA / part / split
        for row in rows[::37]:
            image, depth, classes, instances = (
                Image.open(folder / row[column]) for column in FILE_COLUMNS
            )
            assert (image.mode, depth.mode, classes.mode, instances.mode) == (
                "RGB",
                "I;16",
                "P",
                "P",
            )
            assert {file.size for file in (image, depth, classes, instances)} == {(224, 224)}
            class_mask, instance_mask = np.asarray(classes), np.asarray(instances)
            metres = np.asarray(depth) / 1000
            assert not (np.asarray(depth) % 4).any()
            assert set(np.unique(instance_mask)) == {0, *range(1, len(row["objects"]) + 1)}
            for one in row["objects"]:
                mask = instance_mask == one["instance"]
                assert (class_mask[mask] == 1 + CLASS_NAMES.index(one["class"])).all()
                left, top, right, bottom = one["bbox"]
                assert mask[top:bottom, left:right].sum() == mask.sum() >= 600
                assert metres[mask].min() > 0.3 and metres[mask].max() < 12
            assert row["indoor"] <= (metres > 0).all()


def test_cameras_find_a_toy_again(tables):
    """The middle of a toy, seen by one camera, is where another camera's depth says it is."""
    rows = [row for row in tables["views", "test"] if row["kind"] == "turntable"][:2]
    folder = DATA / "views" / "test"
    one, two = rows
    mask = np.asarray(Image.open(folder / one["instance_mask_file_name"])) > 0
    depth = np.asarray(Image.open(folder / one["depth_file_name"])) / 1000
    v, u = np.nonzero(mask)
    rays = np.linalg.inv(one["camera"]["intrinsics"]) @ np.stack(
        [u + 0.5, v + 0.5, np.ones(len(u))]
    )
    pose, other = (np.array(row["camera"]["world_from_camera"]) for row in rows)
    world = pose[:3, :3] @ (rays * depth[v, u]) + pose[:3, 3:]
    local = other[:3, :3].T @ (world - other[:3, 3:])
    x, y, z = np.array(two["camera"]["intrinsics"]) @ local
    there = np.asarray(Image.open(folder / two["depth_file_name"])) / 1000
    error = np.abs(there[(y / z).astype(int), (x / z).astype(int)] - z)
    assert np.median(error) < 0.005


def test_data_are_what_the_code_makes(tables):
    pytest.importorskip("training.world.render", exc_type=ImportError)
    from training.world.export import scene_orders
    from training.world.render import Renderer, draw
    from training.world.toys import make_toy

    order = scene_orders("test")[14]
    row = tables["scenes", "test"][14]
    toys = [make_toy(*toy) for toy in order.toys]
    with Renderer() as renderer:
        _, picture = draw(renderer, order.seed, toys, order.framing, order.surface)
    released = np.asarray(Image.open(DATA / "scenes" / "test" / row["file_name"]), dtype=float)
    # Graphics drivers differ a little, and WebP is lossy.
    assert np.abs(released - picture.rgb).mean() < 4
    assert [toy.toy_id for toy in toys] == [one["toy_id"] for one in row["objects"]]


# training.verify


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "scenes").mkdir()
    (tmp_path / "README.md").write_text("a datasheet", encoding="utf-8")
    (tmp_path / "scenes" / "0.png").write_bytes(b"pixels")
    verify.write_manifest(tmp_path)
    return tmp_path


def test_manifest_is_in_sha256sum_format(folder):
    lines = (folder / "MANIFEST.sha256").read_text(encoding="utf-8").splitlines()
    assert [line.split("  ")[1] for line in lines] == ["README.md", "scenes/0.png"]
    assert all(len(line.split("  ")[0]) == 64 for line in lines)


def run(folder, monkeypatch, *arguments):
    monkeypatch.setattr("sys.argv", ["verify", "--data", str(folder), *arguments])
    return verify.main()


def test_verify_accepts_and_names_every_difference(folder, monkeypatch, capsys):
    assert run(folder, monkeypatch) == 0
    (folder / "README.md").write_text("changed", encoding="utf-8")
    (folder / "scenes" / "0.png").rename(folder / "scenes" / "1.png")
    assert run(folder, monkeypatch) == 1
    assert capsys.readouterr().out.splitlines()[-3:] == [
        "changed: README.md",
        "missing: scenes/0.png",
        "not listed: scenes/1.png",
    ]
    assert run(folder, monkeypatch, "--write") == 0
    assert run(folder, monkeypatch) == 0


def test_verify_without_or_with_a_broken_manifest(folder, monkeypatch):
    (folder / "MANIFEST.sha256").write_text("no hash\n", encoding="utf-8")
    with pytest.raises(SystemExit, match="line 1"):
        run(folder, monkeypatch)
    (folder / "MANIFEST.sha256").unlink()
    with pytest.raises(SystemExit, match="--write"):
        run(folder, monkeypatch)


@pytest.mark.skipif("CI" not in os.environ, reason="readers need no renderer")
def test_continuous_integration_can_render():
    """The tests of the renderer are skipped where it cannot be loaded: not here."""
    importlib.import_module("training.world.render")

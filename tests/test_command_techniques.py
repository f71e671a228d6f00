"""The sub-commands of `dinov2` that fit and ask the techniques: same numbers, files, messages."""

import csv
import io
import json
import os
import re
import shlex
import shutil

import numpy as np
import pytest
from PIL import Image
from test_command import parsers

from dinov2_helpers import data_dir, load_scenes, open_image
from dinov2_helpers.cli import depth as depth_command
from dinov2_helpers.cli import main
from dinov2_helpers.cli import segment as segment_command
from dinov2_helpers.cli.session import Session
from dinov2_helpers.pictures import read_depth, read_mask
from dinov2_helpers.techniques.anomaly import AnomalyDetector
from dinov2_helpers.techniques.depth import DepthHead
from dinov2_helpers.techniques.retrieval import ImageIndex
from dinov2_helpers.techniques.segmentation import Segmenter
from tools.project import ROOT


@pytest.fixture
def broken(pictures):
    """The pictures, one of them broken."""
    (pictures / "b c.png").write_bytes(b"no picture")
    return pictures


@pytest.fixture
def words(clip_folder):
    return ["--clip", str(clip_folder)]


# index and search


def test_an_index_is_made_kept_up_to_date_and_searched(
    cli,
    pictures,
    tmp_path,
    words,
    dinov2,
    clip,
    picture,
):
    store = tmp_path / "store"
    status, out, _ = cli("index", pictures, "--out", store, *words)
    assert (status, out) == (0, f"3 new, 0 renewed, 0 known; 3 pictures in {store}\n")
    picture(64, 48, 9).save(pictures / "a.png")
    (pictures / "b c.png").unlink()
    document = json.loads(cli("index", pictures, "--out", store, "--forget", "--json", *words)[1])
    counts = {k: document[k] for k in ("new", "renewed", "known", "forgotten", "pictures")}
    assert counts == {"new": 0, "renewed": 1, "known": 1, "forgotten": 1, "pictures": 2}
    status, out, _ = cli("search", store, "cat", "-k", "1", *words)
    with ImageIndex.open(store, dinov2, clip) as index:
        (hit,) = index.search("cat", k=1)
    assert status == 0
    assert out == f"  1  {hit.score:6.3f}  {hit.path}\n"


def test_a_search_by_picture_obeys_a_condition_and_draws_a_sheet(
    cli,
    pictures,
    tmp_path,
    words,
):
    store, sheet = tmp_path / "store", tmp_path / "hits.png"
    cli("index", pictures, "--out", store, *words)
    asked = ["search", store, "--picture", pictures / "a.png", "--sheet", sheet, "--json", *words]
    document = json.loads(cli(*asked)[1])
    assert document["hits"][0]["path"] == str(pictures / "a.png")
    assert len(document["hits"]) == 3
    assert open_image(sheet).width > 224
    before = sheet.read_bytes()
    status, _, err = cli(*asked)
    assert status == 1
    assert f"{sheet} is there already: --force replaces it" in err
    assert sheet.read_bytes() == before
    narrow = json.loads(cli(*asked, "--force", "--where", "width > 70")[1])
    assert sorted(hit["width"] for hit in narrow["hits"]) == [72, 80]


def test_a_sheet_replaces_no_picture_of_the_index(cli, pictures, tmp_path, words):
    store, link = tmp_path / "store", tmp_path / "link.png"
    cli("index", pictures, "--out", store, *words)
    link.symlink_to(pictures / "sea" / "d.png")
    before = {path: path.read_bytes() for path in pictures.rglob("*.png")}
    for sheet in (pictures / "a.png", link):
        status, out, err = cli("search", store, "cat", "--sheet", sheet, "--force", *words)
        assert (status, out) == (1, "")
        assert f"{sheet} is one of the pictures" in err
    assert {path: path.read_bytes() for path in pictures.rglob("*.png")} == before
    assert link.is_symlink()


def test_what_cannot_be_searched_is_a_sentence(cli, pictures, tmp_path, words):
    store = tmp_path / "store"
    cli("index", pictures, "--out", store, *words)
    for arguments, said in (
        ([tmp_path / "none", "cat"], "holds no index"),
        ([store, "cat", "--where", "colour = 1", *words], "colour"),
        ([store, "--picture", tmp_path / "no.png", *words], "No such file"),
        ([store, "cat", "--sheet", "x.txt"], "must end in .png or .jpg"),
    ):
        status, out, err = cli("search", *arguments)
        assert (status, out) == (1, "")
        assert said in err
        assert "Traceback" not in err
    with pytest.raises(SystemExit, match="2"):
        cli("search", store)
    thin, asked = tmp_path / "thin.png", pictures / "a.png"
    Image.new("RGB", (1, 9000)).save(thin)
    before = asked.read_bytes()
    for arguments, said in (
        (["--picture", thin], "thin.png: would be scaled to"),
        (["--picture", asked, "--sheet", asked, "--force"], "is one of the pictures"),
    ):
        status, _, err = cli("search", store, *arguments)
        assert status == 1
        assert said in err
        assert "fault of the program" not in err
    assert asked.read_bytes() == before


def test_an_index_leaves_out_what_is_broken(cli, broken, tmp_path, words):
    status, out, err = cli("index", broken, "--out", tmp_path / "store", *words)
    assert status == 0
    assert out.startswith("2 new")
    assert "skipped 1 of 3\n  b c.png: " in err
    good = broken / "a.png"
    given = [good, broken / "sea" / ".." / "a.png", f"{broken}//./a.png", broken / "b c.png"]
    _, _, err = cli("index", *given, "--out", tmp_path / "other", *words)
    assert f"\n  {broken / 'b c.png'}: " in err


def test_what_comes_to_nothing_leaves_nothing(cli, tmp_path, words):
    folder, depths = tmp_path / "broken", tmp_path / "depths"
    folder.mkdir()
    depths.mkdir()
    for name in ("a.png", "b.png"):
        (folder / name).write_bytes(b"no picture")
        Image.new("I;16", (48, 48), 1000).save(depths / name)
    before = sorted(tmp_path.rglob("*"))
    out = tmp_path / "new" / "out"
    for arguments in (
        ["index", folder, "--out", out, *words],
        ["embed", folder, "--out", out / "f.npz"],
        ["segment", folder, "--out", out],
        ["segment", folder, "--out", out, "--save", tmp_path / "kept"],
        ["inspect", "fit", folder, "--out", out],
        ["depth", "fit", folder, depths, "--out", out],
    ):
        status, said, err = cli(*arguments)
        assert (status, said) == (1, ""), arguments
        assert err.count("\ndinov2: ") + err.startswith("dinov2: ") == 1
        assert sorted(tmp_path.rglob("*")) == before, arguments


def test_a_store_that_is_there_stays_as_it_is_if_no_picture_can_be_read(
    cli, pictures, tmp_path, words, dinov2, clip
):
    store = tmp_path / "store"
    cli("index", pictures, "--out", store, *words)
    (tmp_path / "bad.png").write_bytes(b"no picture")
    status, _, err = cli("index", tmp_path / "bad.png", "--out", store, *words)
    assert status == 1
    assert "none of the 1 pictures can be used: nothing was written" in err
    with ImageIndex.open(store, dinov2, clip) as index:
        assert len(index) == 3


def test_where_there_is_no_index_the_command_that_makes_one_is_said(cli, pictures):
    status, _, err = cli("search", pictures, "a cat")
    assert status == 1
    assert f"make one first, dinov2 index PICTURES --out {pictures}" in err


# segment


def test_masks_are_those_of_the_library(cli, broken, tmp_path, dinov2):
    out = tmp_path / "masks"
    status, said, err = cli("segment", broken, "--out", out, "--save", tmp_path / "kept")
    assert (status, said) == (0, f"2 masks in {out}\n")
    assert "skipped 1 of 3\n  b c.png" in err
    segmenter = Segmenter.load(tmp_path / "kept", dinov2)
    found = segmenter.predict([broken / "a.png", broken / "sea" / "d.png"])
    for name, mask in zip(["a.png", "sea/d.png"], found.masks, strict=True):
        with Image.open(out / name) as image:
            assert image.mode == "L"
        assert (read_mask(out / name) == mask).all()
    again = cli("segment", broken, "--load", tmp_path / "kept", "--out", tmp_path / "2", "--json")
    assert len(json.loads(again[1])["pictures"]) == 2
    assert (tmp_path / "2" / "a.png").read_bytes() == (out / "a.png").read_bytes()


def test_a_few_masks_are_learned_from(cli, pictures, tmp_path):
    drawn = tmp_path / "drawn"
    (drawn / "sea").mkdir(parents=True)
    for name in ("a", "b c"):
        mask = np.zeros(open_image(pictures / f"{name}.png").size[::-1], np.uint8)
        mask[10:40, 10:40] = 255
        Image.fromarray(mask).save(drawn / f"{name}.png")
    status, out, _ = cli("segment", pictures, "--masks", drawn, "--out", tmp_path / "m", "--json")
    assert status == 0
    document = json.loads(out)
    assert document["method"] == "probe"
    assert len(document["pictures"]) == 3


def test_words_cut_out_one_thing(cli, broken, tmp_path, words):
    out = tmp_path / "cars"
    asked = ["--words", "a cat", "--write", "cut-outs", *words]
    status, _, err = cli("segment", broken, "--out", out, *asked)
    assert status == 0
    assert "skipped 1 of 3" in err
    with Image.open(out / "a.png") as image:
        assert image.mode == "RGBA"
        assert image.size == (64, 48)


def test_an_overlay_dims_all_but_the_thing(cli, pictures, tmp_path):
    assert cli("segment", pictures, "--write", "overlays", "--out", tmp_path / "o")[0] == 0
    assert cli("segment", pictures, "--out", tmp_path / "m")[0] == 0
    mask = read_mask(tmp_path / "m" / "a.png")
    drawn = np.asarray(open_image(tmp_path / "o" / "a.png"))
    assert (drawn[mask] == np.asarray(open_image(pictures / "a.png"))[mask]).all()
    assert not (drawn[~mask] == np.asarray(open_image(pictures / "a.png"))[~mask]).all()


def test_pictures_in_which_nothing_is_found_are_named_once_with_what_may_help(capsys):
    session = Session(as_json=False, quiet=False)
    segment_command._warn_of_empty(session, [f"{i}.png" for i in range(30)], "clusters")
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("nothing found in 30, whose masks are empty: 0.png, 1.png")
    assert "and 10 more" in line
    assert "--method cut, or a few --masks" in line
    segment_command._warn_of_empty(session, ["a.png"], "probe")
    assert "--method" not in capsys.readouterr().err


def test_masks_never_replace_pictures_nor_unasked_what_is_there(cli, pictures, tmp_path):
    before = (pictures / "a.png").read_bytes()
    status, _, err = cli("segment", pictures, "--out", pictures, "--force")
    assert status == 1
    assert "is one of the pictures" in err
    assert (pictures / "a.png").read_bytes() == before
    kept = ["--out", tmp_path / "m", "--save", tmp_path / "kept"]
    assert cli("segment", pictures, *kept)[0] == 0
    status, _, err = cli("segment", pictures, *kept)
    assert status == 1
    assert "is there already, and 2 more: --force" in err
    kept[1] = tmp_path / "n"
    assert "holds one already (segmenter): --force" in cli("segment", pictures, *kept)[2]
    assert cli("segment", pictures, *kept, "--force")[0] == 0


@pytest.mark.parametrize("folder", ["drawn", "others"])
def test_masks_never_replace_what_is_learned_from(cli, pictures, tmp_path, picture, folder):
    for name in ("drawn", "others"):
        (tmp_path / name).mkdir()
    mask = np.zeros((48, 64), np.uint8)
    mask[10:40, 10:40] = 255
    Image.fromarray(mask).save(tmp_path / "drawn" / "a.png")
    picture(64, 48, 7).save(tmp_path / "others" / "a.png")
    before = {path: path.read_bytes() for path in tmp_path.rglob("*.png")}
    learned = ["--masks", tmp_path / "drawn", "--examples", tmp_path / "others"]
    asked = ["segment", pictures, *learned, "--out", tmp_path / folder, "--force"]
    status, out, err = cli(*asked)
    assert (status, out) == (1, "")
    assert "a.png is one of the pictures or masks that are used" in err
    assert {path: path.read_bytes() for path in tmp_path.rglob("*.png")} == before


def test_what_was_learned_excludes_learning(cli, pictures, tmp_path):
    for options in (["--load", "x", "--masks", "y"], ["--examples", "x"]):
        with pytest.raises(SystemExit, match="2"):
            cli("segment", pictures, "--out", tmp_path / "m", *options)


# depth


@pytest.fixture
def measured(pictures, tmp_path):
    """Depth in millimetres, a slope, for each of the pictures."""
    folder = tmp_path / "measured"
    (folder / "sea").mkdir(parents=True)
    height = 48
    for name, width in (("a.png", 64), ("b c.png", 72), ("sea/d.png", 80)):
        rows = np.linspace(4000, 1000, height).astype(np.uint16)[:, None]
        Image.fromarray(np.broadcast_to(rows, (height, width)).copy()).save(folder / name)
    return folder


def test_depth_is_written_in_millimetres(cli, pictures, measured, tmp_path, dinov2):
    head, out = tmp_path / "head", tmp_path / "out"
    status, said, _ = cli("depth", "fit", pictures, measured, "--focal", 80, "--out", head)
    assert status == 0
    assert said.startswith("learned from 3 pictures, ")
    status, said, _ = cli(
        "depth", "predict", head, pictures, "--out", out, "--colour", "--ply", "--focal", 80
    )
    assert (status, said) == (0, f"depth of 3 pictures, metres, in {out}\n")
    maps = DepthHead.load(head, dinov2).predict(pictures, focal=80)
    for name, depth in zip(("a", "b c", "sea/d"), maps.depth, strict=True):
        np.testing.assert_allclose(read_depth(out / f"{name}.png"), depth, atol=6e-4)
        with Image.open(out / f"{name}.png") as image:
            assert "in millimetres" in image.info["Description"]
        assert open_image(out / f"{name}_colour.png").width > 1000
        assert (out / f"{name}.ply").read_bytes().startswith(b"ply\n")


def test_relative_depth_is_no_png_of_millimetres(cli, broken, measured, tmp_path):
    head, out = tmp_path / "head", tmp_path / "out"
    cli("depth", "fit", broken, measured, "--relative", "--out", head)
    status, said, err = cli("depth", "predict", head, broken, "--out", out, "--json")
    assert status == 0
    assert json.loads(said)["unit"] == "relative"
    assert sorted(path.name for path in out.rglob("*.*")) == ["a.tiff", "d.tiff"]
    assert "skipped 1 of 3" in err
    with Image.open(out / "a.tiff") as image:
        assert image.mode == "F"
        assert "up to one unknown factor" in image.tag_v2[270]
    status, _, err = cli("depth", "predict", head, broken, "--out", out, "--ply", "--force")
    assert status == 1
    assert "--focal PX" in err


def test_what_16_bits_cannot_hold_is_said_and_nothing_measured_is_0(tmp_path):
    depth = np.array([[1e-5, 2.0, 70.0]], np.float32)
    depth_command.write_map(tmp_path / "a.png", depth, "metres")
    np.testing.assert_allclose(read_depth(tmp_path / "a.png"), [[0.001, 2, 65.535]], rtol=1e-6)


def test_a_picture_without_a_camera_has_no_points_and_is_named(
    cli, pictures, measured, tmp_path, picture
):
    head, out = tmp_path / "head", tmp_path / "out"
    cli("depth", "fit", pictures, measured, "--out", head)
    exif = Image.Exif()
    exif.get_ifd(0x8769)[0xA405] = 28
    picture(64, 48).save(pictures / "phone.jpg", exif=exif)
    status, _, err = cli("depth", "predict", head, pictures, "--out", out, "--ply")
    assert status == 0
    assert [path.name for path in out.rglob("*.ply")] == ["phone.ply"]
    assert "3 pictures have no .ply" in err
    assert "a.png" in err


def test_without_a_head_there_is_no_depth(cli, pictures, tmp_path):
    status, out, err = cli("depth", "predict", tmp_path / "no", pictures, "--out", tmp_path / "o")
    assert (status, out) == (1, "")
    assert "holds no depth-head" in err


def test_near_is_bright():
    depth = np.linspace(1, 4, 64, dtype=np.float32).reshape(8, 8)
    scale = depth_command.depth_scale(depth, "metres")
    drawn = depth_command.colours(depth, scale)
    assert drawn[0, 0].sum() > drawn[-1, -1].sum()
    assert [float(text) for text in scale.texts] == pytest.approx(scale.ticks, rel=0.01)
    assert depth_command.depth_scale(np.full((4, 4), 3, np.float32), "metres").texts[0] == "3"


# inspect


def test_a_detector_is_fitted_and_asked(cli, pictures, tmp_path, dinov2, picture):
    good, detector = tmp_path / "good", tmp_path / "mug.detector"
    good.mkdir()
    for seed in range(4):
        picture(56, 56, seed).save(good / f"{seed}.png")
    new = tmp_path / "new"
    new.mkdir()
    picture(56, 56, 1).save(new / "as before.png")
    picture(56, 56, 99).save(new / "other.png")
    (new / "broken.png").write_bytes(b"no picture")
    status, out, err = cli("inspect", "fit", good, "--size", 56, "--out", detector)
    assert status == 0
    assert out.startswith("4 good pictures, threshold ")
    asked = ["inspect", "score", detector, new, "--false-alarms", 0.3]
    status, out, err = cli(*asked, "--maps", tmp_path / "maps", "--csv", tmp_path / "s.csv")
    assert status == 0
    assert "skipped 1 of 3\n  broken.png" in err
    document = json.loads(cli(*asked, "--json")[1])
    table = cli(*asked, "--csv", "--quiet")[1]
    assert table == (tmp_path / "s.csv").read_text(encoding="utf-8")
    kept = AnomalyDetector.load(detector, dinov2).set_false_alarms(0.3)
    scores = kept.score(new)
    with (tmp_path / "s.csv").open(encoding="utf-8", newline="") as table:
        rows = list(csv.DictReader(table))
    assert [row["name"] for row in rows] == ["as before.png", "other.png"]
    np.testing.assert_allclose([float(r["score"]) for r in rows], scores.values, rtol=1e-4)
    assert [row["flawed"] == "1" for row in rows] == scores.flawed.tolist()
    assert out.splitlines()[1].split("  ")[-1] == "other.png"
    assert open_image(tmp_path / "maps" / "other.png").width > 1000
    status, _, err = cli(*asked, "--csv", tmp_path / "s.csv")
    assert status == 1
    assert "s.csv is there already: --force" in err
    assert "holds one already" in cli("inspect", "fit", good, "--out", detector)[2]
    with pytest.raises(SystemExit, match="2"):
        cli(*asked, "--csv", "--json")
    assert [one["flawed"] for one in document["pictures"]] == scores.flawed.tolist()


def test_a_picture_of_another_shape_is_named_and_the_others_are_scored(cli, tmp_path, picture):
    good, new, still = tmp_path / "good", tmp_path / "new", tmp_path / "still"
    for folder in (good, new):
        folder.mkdir()
    for seed in range(4):
        picture(56, 56, 1).save(good / f"{seed}.png")  # all alike, so that the place counts
    picture(56, 56, 1).save(new / "a.png")
    picture(56, 112, 2).save(new / "tall.png")
    (new / "broken.png").write_bytes(b"no picture")
    assert cli("inspect", "fit", good, "--size", 56, "--out", still)[0] == 0
    asked = ["--csv", tmp_path / "s.csv", "--maps", tmp_path / "maps"]
    status, out, err = cli("inspect", "score", still, new, *asked)
    assert status == 0
    assert [line.split()[-1] for line in out.splitlines()] == ["a.png"]
    assert "skipped 2 of 3\n  broken.png: cannot be used: " in err
    assert err.count("  tall.png: it has 8x4 patches, where the good ones have 4x4") == 1
    assert "fit with same_place=False (--anywhere)" in err
    assert [path.name for path in (tmp_path / "maps").iterdir()] == ["a.png"]
    (new / "a.png").unlink()
    status, _, err = cli("inspect", "score", still, new)
    assert status == 1
    assert "broken.png: cannot be used" in err
    assert "tall.png: it has 8x4 patches" in err
    moving = ["--anywhere", "--size", 56, "--out", tmp_path / "moving"]
    assert cli("inspect", "fit", good, *moving)[0] == 0
    status, out, _ = cli("inspect", "score", tmp_path / "moving", new)
    assert status == 0
    assert out.endswith("tall.png\n")


def test_a_share_of_false_alarms_is_between_0_and_1(cli, pictures, tmp_path):
    for value in ("0", "1", "many"):
        with pytest.raises(SystemExit, match="2"):
            cli("inspect", "fit", pictures, "--out", tmp_path / "d", "--false-alarms", value)


def test_one_good_picture_is_too_few(cli, broken, tmp_path):
    given = [broken / "a.png", broken / "b c.png"]
    status, _, err = cli("inspect", "fit", *given, "--out", tmp_path / "d")
    assert status == 1
    assert "1 good pictures: give 2 or more; 1 of 2 pictures skipped" in err
    assert f"{broken / 'b c.png'}: cannot be used: " in err


# what holds for all


def test_a_device_is_no_other_model(tmp_path, picture, capsys, monkeypatch):
    good = tmp_path / "good"
    good.mkdir()
    for seed in range(3):
        picture(56, 56, seed).save(good / f"{seed}.png")
    fit = ["inspect", "fit", str(good), "--size", "56", "--out", str(tmp_path / "d")]
    assert main(["--model", "tiny", *fit]) == 0
    index = ["index", str(good), "--out", str(tmp_path / "store")]
    assert main(["--model", "tiny", *index]) == 0
    monkeypatch.setenv("DINOV2_PROFILE", "giant")  # which is not here
    assert main(["--device", "cpu", "inspect", "score", str(tmp_path / "d"), str(good)]) == 0
    assert main(["--device", "cpu", *index]) == 0
    assert main(["--device", "cpu", "search", str(tmp_path / "store"), "a cat"]) == 0


def test_any_name_comes_out(cli, tmp_path, picture, words):
    names = ["-rf.png", "new\nline.png", "$HOME, [1].png", os.fsdecode(b"\xff.png")]
    said = ["$HOME, [1].png", "-rf.png", r"new\nline.png", r"\xff.png"]
    folder = tmp_path / "any"
    folder.mkdir()
    for seed, name in enumerate(names):
        picture(56, 56, seed).save(folder / name, "PNG")
    cli("inspect", "fit", folder, "--size", "56", "--out", tmp_path / "d")
    status, out, _ = cli(
        "inspect", "score", tmp_path / "d", folder, "--csv", "--maps", tmp_path / "maps"
    )
    assert status == 0
    assert sorted(row["name"] for row in csv.DictReader(io.StringIO(out))) == sorted(said)
    assert sorted(os.listdir(tmp_path / "maps")) == sorted(names)
    cli("index", folder, "--out", tmp_path / "s", *words)
    sheet = ["--sheet", tmp_path / "h.png"]
    hits = json.loads(cli("search", tmp_path / "s", "cat", "--json", *sheet, *words)[1])["hits"]
    assert sorted(hit["path"] for hit in hits) == sorted(f"{folder}/{name}" for name in said)


def test_an_interrupted_run_leaves_whole_files_alone(cli, pictures, tmp_path, monkeypatch):
    whole, done = Image.Image.save, []

    def save(self, file, *rest, **options):
        if done:
            file.write_bytes(b"half")
            raise KeyboardInterrupt
        done.append(file)
        whole(self, file, *rest, **options)

    monkeypatch.setattr(Image.Image, "save", save)
    out = tmp_path / "masks"
    status, _, err = cli("segment", pictures, "--out", out)
    assert (status, err.splitlines()[-1]) == (130, "dinov2: interrupted")
    assert [path.name for path in out.rglob("*")] == ["a.png"]


def test_the_examples_of_help_run_as_they_are_written(tmp_path, picture, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DINOV2_PROFILE", raising=False)
    for folder in ("holiday", "dogs", "toys", "new", "rooms", "good"):
        (tmp_path / folder).mkdir()
        for seed in range(3):
            picture(112, 84, seed).save(tmp_path / folder / f"{seed}.png")
    for name in ("cat.jpg", "mug.jpg"):
        picture(112, 84, 5).save(name)
    for folder in ("drawn", "rooms-depth"):
        (tmp_path / folder).mkdir()
    for seed in range(3):
        mask = np.zeros((84, 112), np.uint8)
        mask[20:60, 30 : 60 + seed] = 255
        Image.fromarray(mask).save(tmp_path / "drawn" / f"{seed}.png")
        slope = np.linspace(4000, 1000, 84 * 112).astype(np.uint16).reshape(84, 112)
        Image.fromarray(slope).save(tmp_path / "rooms-depth" / f"{seed}.png")
    epilogs = "\n".join(parser.epilog for _, parser in parsers())
    examples = list(dict.fromkeys(re.findall(r"^  (dinov2 .*)$", epilogs, re.MULTILINE)))
    assert len(examples) == 17
    for example in examples:
        if "dinov2 check" in example:  # what it says is up to the machine
            continue
        typed, _, target = re.fullmatch(r"dinov2 (.*?)( > (\w+\.\w+))?", example).groups()
        status = main(shlex.split(typed))
        said = capsys.readouterr()
        assert status == 0, (example, said.err)
        assert "Traceback" not in said.err
        if target:
            assert said.out.startswith("name,score,threshold,flawed\n")
    assert len(list((tmp_path / "looks").iterdir())) == 9
    assert len(list((tmp_path / "maps").iterdir())) == 3
    assert open_image("hits.png").width > 224


# docs/library.md


def test_the_examples_of_the_page_do_what_it_says(tmp_path, monkeypatch, capsys):
    text = (ROOT / "docs" / "library.md").read_text(encoding="utf-8")
    blocks = re.findall(r"^```console\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    (console,) = [block for block in blocks if block.startswith("$ dinov2")]
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DINOV2_PROFILE", raising=False)
    scenes = load_scenes("train", framing="portrait")
    for name in ("toys", "toys-depth", "good", "new"):
        (tmp_path / name).mkdir()
    for row in scenes.table[:8]:
        shutil.copy(scenes.folder / row["file_name"], "toys")
        shutil.copy(scenes.folder / row["depth_file_name"], "toys-depth")
    mugs = data_dir() / "defects" / "mug"
    for path in sorted((mugs / "train" / "good").iterdir())[:5]:
        shutil.copy(path, "good")
    for path in sorted((mugs / "test" / "crack").iterdir())[:2]:
        shutil.copy(path, "new")
    examples = re.findall(r"^\$ dinov2 (.*)\n((?:[^$].*\n)*)", console, re.MULTILINE)
    assert len(examples) == console.count("$ ")
    for typed, said in examples:
        status = main(shlex.split(typed))
        out = capsys.readouterr().out
        assert status == 0, typed
        assert out == said or not said, typed
    assert len(list((tmp_path / "maps").iterdir())) == 2
    assert len(list((tmp_path / "depth").iterdir())) == 24

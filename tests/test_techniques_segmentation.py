"""The segmenter: masks in the picture's own pixels, the notebook's numbers, kept and found."""

import logging

import numpy as np
import pytest
from picture_files import NOTABLE, write_notable
from PIL import Image
from sklearn.linear_model import LogisticRegression

from dinov2_helpers import (
    ImageError,
    extract_features,
    load_dinov2,
    load_scenes,
    measure,
    photographs,
)
from dinov2_helpers.techniques import DenseCrf, GuidedFilter, KeptError, Segmenter
from dinov2_helpers.techniques.dense import Kind, Reader, starts, tiled
from dinov2_helpers.techniques.foreground import (
    border,
)
from dinov2_helpers.techniques.inputs import NotFittedError
from dinov2_helpers.techniques.mask_probe import LinearProbe, best_threshold, shares_of
from dinov2_helpers.techniques.mask_sources import MaskSource, NoMaskError
from dinov2_helpers.techniques.things import crop, find_things


@pytest.fixture(scope="module")
def tiny():
    return load_dinov2("tiny")


@pytest.fixture(scope="module")
def scenes():
    return load_scenes("train", framing="portrait")


@pytest.fixture(scope="module")
def truths(scenes):
    return [scenes.class_mask(i) > 0 for i in range(8)]


@pytest.fixture(scope="module")
def segmenter(tiny, scenes):
    return Segmenter(tiny).fit(scenes.images[:6])


@pytest.fixture(scope="module")
def probe(tiny, scenes, truths):
    return Segmenter(tiny, layer=4).fit(scenes.images[:4], truths[:4])


def toy_patches(n=6, seed=0, side=8, dim=12):
    """Pictures whose middle differs from their border, (n, side, side, dim), and that middle."""
    rng = np.random.default_rng(seed)
    ground, thing = rng.normal(size=(2, dim))
    inside = np.zeros((side, side), bool)
    inside[2:5, 3:6] = True
    patches = np.where(inside[..., None], thing, ground)
    noise = 0.2 * rng.normal(size=(n, side, side, dim))
    return (patches + noise).astype(np.float32), inside


# Its parts (tests/test_lesson_03.py has those that the lesson writes out)


def test_a_share_is_the_mean_of_a_patch_and_its_threshold_is_found(truths):
    masks = np.stack(truths[:4])
    shares = np.stack([shares_of(mask, (16, 16)) for mask in masks])
    expected = masks.reshape(-1, 16, 14, 16, 14).mean((2, 4))
    np.testing.assert_allclose(shares, expected, atol=1e-6)
    threshold, score = best_threshold(list(shares), list(masks))
    assert score > 0.85 and 0.2 < threshold < 0.8


def test_things_apart_and_their_crops(scenes, truths):
    two = np.zeros((40, 60), bool)
    two[5:20, 5:15] = two[25:35, 30:55] = two[0, 59] = True
    found = find_things(two, two.astype(np.float32), smallest=0.01)
    assert [one.area for one in found] == [250, 150], "a single pixel is no thing"
    assert found[0].box == (30, 25, 55, 35) and found[0].score == 1
    picture = scenes.image(0)
    thing = find_things(truths[0], truths[0].astype(np.float32), 0.002)[0]
    piece = crop(picture, thing)
    left, top, right, bottom = thing.box
    longer = max(right - left, bottom - top) - 1
    for side in piece.size:  # corners are rounded, each by itself
        assert side == pytest.approx(1.3 * longer, abs=1)
    x, y = (left + right) // 2, (top + bottom) // 2
    centre = piece.getpixel((piece.width // 2, piece.height // 2))
    near = picture.crop((x - 2, y - 2, x + 3, y + 3))
    assert centre in list(near.getdata())


def test_the_probe_is_scikit_learns_with_shares_as_targets():
    patches, inside = toy_patches()
    shares = np.where(inside, 0.75, 0).astype(np.float32)
    shares[2, 3] = 1
    ours = LinearProbe.fit(list(patches), [shares] * 6, 0.1)
    x = patches.reshape(-1, 12)
    mean, deviation = x.mean(0), x.std(0) + 1e-6
    x, y = (x - mean) / deviation, np.tile(shares.ravel(), 6)
    model = LogisticRegression(C=0.1, max_iter=500)
    both = np.r_[np.ones(len(x)), np.zeros(len(x))]
    model.fit(np.r_[x, x], both, sample_weight=np.r_[y, 1 - y])
    expected = model.decision_function(x).reshape(6, 8, 8)
    found = np.stack([ours.score(one) for one in patches])
    np.testing.assert_allclose(found, expected, atol=0.02)


# Any size


def blended(picture, look, patch, tile, overlap):
    """Features (h, w, D) of a picture (H, W, 3), blended from tiles of so many patches a side."""
    h, w = picture.shape[0] // patch, picture.shape[1] // patch
    down, across = (range(0, max(n - tile, 0) + 1, tile - overlap) for n in (h, w))
    weights = np.outer(*[np.sin(np.pi * (np.arange(tile) + 0.5) / tile) + 0.01] * 2)[..., None]
    total, weight = 0.0, np.zeros((h, w, 1))
    for top in down:
        for left in across:
            cell = slice(top, top + tile), slice(left, left + tile)
            pixels = tuple(slice(one.start * patch, one.stop * patch) for one in cell)
            features = look(picture[pixels][None])[0]
            total = total + np.zeros((h, w, features.shape[-1]))
            total[cell] += weights * features
            weight[cell] += weights
    return total / weight


def test_tiles_are_blended_without_a_seam(tiny):
    kind = Kind("token", 4)

    def look(pieces):
        options = {"fit": "resize", "layers": [4], "patches": False}
        return np.asarray(extract_features(tiny, list(pieces), **options).layers[4].patches)

    picture = photographs()["coffee"].resize((280, 224))  # 20 x 16 patches, which tiles of 8 fill
    ours = tiled(Reader(tiny, size=None, tile=112), picture, [kind])[kind]
    np.testing.assert_allclose(ours, blended(np.asarray(picture), look, 14, 8, 4), atol=1e-4)
    assert starts(20, 8, 4) == [0, 4, 8, 12] and starts(5, 8, 4) == [0]


@pytest.mark.parametrize("size", [(301, 187), (60, 400), (33, 30)])
@pytest.mark.parametrize("tile", [None, 112])
def test_masks_have_the_pictures_own_pixels(segmenter, picture, size, tile):
    segmenter.tile = tile
    found = segmenter.predict([picture(*size)])
    soft = segmenter.predict_soft([picture(*size)]).probabilities[0]
    segmenter.tile = None
    assert found.masks[0].shape == soft.shape == size[::-1]
    assert found.masks[0].dtype == bool and soft.dtype == np.float32
    assert soft.min() >= 0 and soft.max() <= 1
    np.testing.assert_array_equal(found.masks[0], soft > 0.5)


# What it finds


def test_unseen_scenes_are_segmented_without_and_with_masks(segmenter, probe, scenes, truths):
    for one in (segmenter, probe):
        found = one.predict(scenes.images[6:8])
        scores = [measure.iou(*pair) for pair in zip(found.masks, truths[6:], strict=True)]
        assert min(scores) > 0.7, one.method_
    assert segmenter.method_ == "clusters" and not segmenter.tried_
    assert probe.method_ == "probe" and len(probe.tried_) == 3


@pytest.mark.parametrize("method", ["pca", "cut", "border"])
def test_other_methods_without_masks(tiny, scenes, truths, method):
    found = Segmenter(tiny, method=method).fit(scenes.images[:6]).predict(scenes.images[6:8])
    assert min(measure.iou(*pair) for pair in zip(found.masks, truths[6:], strict=True)) > 0.4


def test_masks_choose_the_threshold_of_clusters(tiny, scenes, truths):
    found = Segmenter(tiny, method="clusters").fit(scenes.images[:6], truths[:6])
    assert found.method_ == "clusters"
    (score,) = found.tried_.values()
    assert score > 0.6  # all pixels: below 0.2


def test_a_side_is_chosen_and_said(segmenter, scenes):
    usual = segmenter.predict(scenes.images[6])
    segmenter.foreground = "other"
    other = segmenter.predict(scenes.images[6])
    segmenter.foreground = "largest"
    largest = segmenter.predict(scenes.images[6])
    segmenter.foreground = "auto"
    assert not usual.turned[0] and other.turned[0] and largest.turned[0]
    assert "less of the border, as fitted" in usual.notes[0]
    assert "the largest side, which is the other one" in largest.notes[0]
    assert (usual.masks[0] != other.masks[0]).mean() > 0.95


def test_a_picture_whose_border_was_taken_for_the_thing_is_turned(segmenter):
    inverted = border(6, 6)
    assert segmenter._side(inverted)[0] and not segmenter._side(~inverted)[0]


def test_things_apart_with_boxes(probe, scenes):
    (thing, *_) = probe.things(scenes.image(6))
    left, top, right, bottom = thing.box
    assert thing.mask[top:bottom, left:right].sum() == thing.area == thing.mask.sum()
    assert 0.5 < thing.score <= 1


def test_a_click_finds_its_thing(probe, scenes, truths):
    y, x = (int(np.median(places)) for places in np.nonzero(truths[6]))
    found = probe.by_click(scenes.image(6), x, y)
    assert found.thing[y, x] and found.likeness.shape == (224, 224)
    assert found.likeness[truths[6]].mean() > found.likeness[~truths[6]].mean() + 0.1
    with pytest.raises(ValueError, match="outside of the picture, 224x224 px"):
        probe.by_click(scenes.image(6), 224, 5)


class Colours:
    """A reader for whom pictures and texts are colours."""

    def embed_texts(self, texts):
        names = {"red": (1.0, 0, 0), "blue": (0, 0, 1.0)}
        return np.array([names[text] for text in texts], np.float32)

    def embed_images(self, images):
        vectors = [np.asarray(image, float).mean((0, 1)) for image in images]

        class Found:
            pass

        found = Found()
        found.vectors = np.array(vectors, np.float32)
        return found


def test_things_are_found_by_name(probe, monkeypatch):
    picture = np.full((100, 200, 3), 255, np.uint8)
    picture[30:60, 20:60] = (200, 0, 0)
    picture[30:60, 140:180] = (0, 0, 200)
    mask = (picture != 255).any(-1)
    things = find_things(mask, mask.astype(np.float32), 0.002)
    monkeypatch.setattr(probe, "things", lambda _: things)
    image = Image.fromarray(picture)
    red, blue = probe.by_name(image, ["red", "blue"], Colours(), templates=["{}"])
    assert red.thing.box == (20, 30, 60, 60) and blue.thing.box == (140, 30, 180, 60)
    assert red.score > 0 and np.isnan(red.heat[0, 0]) and red.heat[40, 40] > red.heat[40, 150]
    with pytest.raises(ValueError, match="no vectors of patches"):
        probe.by_name(image, "red", Colours(), way="patches", templates=["{}"])
    reader = Colours()
    reader.embed_patches = lambda pictures, **_: [np.asarray(pictures[0].resize((20, 10)), float)]
    red, _ = probe.by_name(image, ["red", "blue"], reader, way="patches", templates=["{}"])
    assert red.thing.box == (20, 30, 60, 60) and red.heat.shape == (100, 200)
    monkeypatch.setattr(probe, "things", lambda _: ())
    (none,) = probe.by_name(image, "red", Colours(), templates=["{}"])
    assert none.thing is None


# Input


def test_files_of_masks_go_by_name_and_bad_ones_are_skipped(tiny, scenes, truths, tmp_path, caplog):
    for folder in ("pictures", "masks"):
        (tmp_path / folder).mkdir()
    for i in range(5):
        scenes.image(i).save(tmp_path / f"pictures/{i}.png")
        Image.fromarray(truths[i]).save(tmp_path / f"masks/{i}_mask.png")
    (tmp_path / "pictures/bad.png").write_bytes(b"no picture")
    (tmp_path / "masks/3_mask.png").unlink()
    Image.new("L", (10, 10)).save(tmp_path / "masks/4_mask.png")
    with caplog.at_level(logging.WARNING):
        found = Segmenter(tiny, layer=4).fit(tmp_path / "pictures", tmp_path / "masks")
    assert found.n_pictures_ == 3
    reasons = {one.name: one.reason for one in found.skipped_}
    assert set(reasons) == {"3.png", "4.png", "bad.png"}
    assert "no mask" in reasons["3.png"] and "10x10" in reasons["4.png"]
    assert "3 pictures skipped" in caplog.text
    predicted = found.predict(tmp_path / "pictures")
    assert predicted.names == ("0.png", "1.png", "2.png", "3.png", "4.png")
    assert [one.name for one in predicted.skipped] == ["bad.png"]


def test_pictures_of_one_name_have_masks_of_their_own(tmp_path):
    for name in ("left/0", "right/0", "right/1"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        mask = Image.new("L", (6, 4))
        mask.paste(255, (0, 0, 3, 4) if name == "left/0" else (3, 0, 6, 4))
        mask.save(tmp_path / f"{name}_mask.png")
    pictures = [f"{name}.jpg" for name in ("left/0", "right/0", "right/1")]
    nested = MaskSource(tmp_path)
    nested.expect(pictures)
    assert [bool(nested.read(0, name, (6, 4))[0, 0]) for name in pictures] == [True, False, False]
    flat = MaskSource(tmp_path / "right")
    flat.expect(pictures)
    assert flat.read(2, "right/1.jpg", (6, 4)).any()
    for name in pictures[:2]:
        with pytest.raises(NoMaskError, match="0_mask may be the mask of any of several pictures"):
            flat.read(0, name, (6, 4))


def test_what_is_to_be_said_of_pictures_is_said(segmenter, scenes, tmp_path, caplog):
    scenes.image(0).save(tmp_path / "0.png")
    write_notable(tmp_path, scenes.image(1))
    Image.new("RGB", (1, 9000)).save(tmp_path / "strip.png")
    found = segmenter.predict(tmp_path)
    assert found.names == ("0.png", "dark.png", "moving.gif")
    reasons = {one.name: one.reason for one in found.skipped}
    assert set(reasons) == {"bad.png", "strip.png"}
    assert "would be scaled to" in reasons["strip.png"]
    for said in (*NOTABLE, "2 pictures skipped:"):
        assert caplog.text.count(said) == 1
    with pytest.raises(ImageError, match="would be scaled to"):
        segmenter.things(tmp_path / "strip.png")


def test_features_already_made_give_the_same(tiny, scenes, truths):
    made = extract_features(tiny, scenes.images[:4], size=224, fit="resize", layers=[4])
    plain = Segmenter(tiny, layer=4, refine="none")
    soft = plain.fit(scenes.images[:4], truths[:4]).predict_soft(scenes.images[:4])
    again = plain.fit(made, truths[:4]).predict_soft(made)
    for ours, theirs in zip(soft.probabilities, again.probabilities, strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-4)
    with pytest.raises(ValueError, match="no colours"):
        Segmenter(tiny, layer=4).fit(made, truths[:4]).predict(made)


def test_what_cannot_be_is_said(tiny, scenes, truths):
    with pytest.raises(NotFittedError, match="call fit"):
        Segmenter(tiny).predict(scenes.images[:1])
    with pytest.raises(ValueError, match="learns from masks"):
        Segmenter(tiny, method="probe").fit(scenes.images[:2])
    with pytest.raises(ValueError, match="1 masks for 3 pictures"):
        Segmenter(tiny, layer=4).fit(scenes.images[:3], truths[:1])
    empty = [np.zeros((224, 224), bool)] * 2
    with pytest.raises(ValueError, match="masks cover nothing"):
        Segmenter(tiny, layer=4).fit(scenes.images[:2], empty)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"method": "magic"}, "method='magic'"),
        ({"foreground": "top"}, "foreground='top'"),
        ({"refine": "blur"}, "refine='blur'"),
        ({"layer": 8}, "layer=8"),
        ({"size": 10}, "size=10"),
        ({"tile": 9999}, "tile=9999"),
        ({"clusters": 1}, "clusters=1"),
        ({"facet": "colour"}, "facet='colour'"),
    ],
)
def test_impossible_settings_are_named(tiny, settings, said):
    with pytest.raises(ValueError, match=said):
        Segmenter(tiny, **settings)


# Keeping


@pytest.mark.parametrize("name", ["segmenter", "probe"])
def test_what_was_saved_gives_the_same_masks(request, name, tmp_path, tiny, scenes):
    fitted = request.getfixturevalue(name)
    fitted.save(tmp_path)
    loaded = Segmenter.load(tmp_path, tiny)
    assert loaded.tried_ == fitted.tried_ and loaded.kind_ == fitted.kind_
    assert loaded.refine == DenseCrf()
    ours, theirs = (one.predict_soft(scenes.images[7]).probabilities[0] for one in (fitted, loaded))
    np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize("method", ["pca", "cut", "border"])
def test_the_other_methods_are_kept_too(tiny, scenes, tmp_path, method):
    fitted = Segmenter(tiny, method=method, refine=GuidedFilter(radius=4)).fit(scenes.images[:2])
    fitted.save(tmp_path)
    loaded = Segmenter.load(tmp_path)
    assert loaded.refine == GuidedFilter(radius=4)
    ours, theirs = (one.predict_soft(scenes.images[7]).probabilities[0] for one in (fitted, loaded))
    np.testing.assert_array_equal(ours, theirs)


def test_nothing_kept_is_said(tmp_path):
    with pytest.raises(KeptError, match="holds no segmenter"):
        Segmenter.load(tmp_path)


def test_where_clusters_find_nothing_each_picture_is_looked_at_by_itself(caplog):
    mixed = photographs()
    dinov2 = load_dinov2("tiny")
    segmenter = Segmenter(dinov2, refine="none").fit(mixed)
    assert segmenter.method_ == "border"
    assert "method='border' is taken" in caplog.text
    masks = segmenter.predict({name: mixed[name] for name in ("flower", "coffee")}).masks
    for mask in masks:
        height, width = mask.shape
        assert mask[height // 2, width // 2]
        assert 0.05 < mask.mean() < 0.7
    asked = Segmenter(dinov2, method="clusters", refine="none").fit(mixed)
    assert asked.method_ == "clusters"

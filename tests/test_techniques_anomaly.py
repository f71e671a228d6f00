"""The detector of flaws: its numbers, the promise, and what is kept."""

import logging

import faiss
import numpy as np
import pytest
from picture_files import NOTABLE, write_notable
from PIL import Image
from sklearn.decomposition import PCA
from sklearn.neighbors import NearestNeighbors

from dinov2_helpers import extract_features, load_dinov2, photographs
from dinov2_helpers.measure import aupro, pixel_auroc
from dinov2_helpers.techniques import memory, patches
from dinov2_helpers.techniques.anomaly import AnomalyDetector, enlarge, top_mean
from dinov2_helpers.techniques.inputs import NotFittedError
from dinov2_helpers.techniques.inspection import image_auroc, read_layout
from dinov2_helpers.techniques.keeping import KeptError
from dinov2_helpers.techniques.patches import PatchReader, cut_after, window_starts

SMALL = {"size": 112, "false_alarms": 0.2}


@pytest.fixture(scope="module")
def dinov2():
    return load_dinov2("tiny")


@pytest.fixture(scope="module")
def good():
    brick = photographs()["brick"]
    return [brick.crop((x, y, x + 128, y + 128)) for y in (0, 90) for x in range(0, 380, 95)]


@pytest.fixture(scope="module")
def flawed(good):
    found = good[2].copy()
    found.paste((200, 30, 30), (40, 40, 80, 70))
    return found


@pytest.fixture(scope="module")
def detector(dinov2, good):
    return AnomalyDetector(dinov2, **SMALL).fit(good)


@pytest.fixture
def maps():
    """Patches of 8 good and 3 other pictures, (N, 5, 4, 8), that differ by place."""
    rng = np.random.default_rng(0)
    place = rng.normal(size=(5, 4, 8))
    noise = [0.2 * rng.normal(size=(n, 5, 4, 8)) for n in (8, 3)]
    return [memory.unit(place + one).astype(np.float32) for one in noise]


# Its numbers, by definition


def by_definition(one, train, k, reach=1):
    """Errors (h, w) of a map rebuilt, patch by patch, from its k best good pictures there."""
    h, w = one.shape[:2]
    errors = np.zeros((h, w))
    for y in range(h):
        for x in range(w):
            rows = slice(max(0, y - reach), y + reach + 1)
            columns = slice(max(0, x - reach), x + reach + 1)
            best = []
            for good in train:
                near = good[rows, columns].reshape(-1, good.shape[-1])
                best.append(near[(near @ one[y, x]).argmax()])
            best = sorted(best, key=lambda patch: -(patch @ one[y, x]))[:k]
            errors[y, x] = memory.rebuild_error(one[y, x][None], np.array([best]))[0]
    return errors


@pytest.mark.parametrize("k", [1, 3])
def test_at_the_same_place_each_good_picture_gives_its_best_patch(maps, k):
    train, test = maps
    here = memory.SamePlace(train, k)
    for one in test:
        assert here.errors(one) == pytest.approx(by_definition(one, train, k), abs=1e-5)


def test_a_mixture_is_a_ridge_regression_whose_weights_add_up_to_one(maps):
    train, test = maps
    x, neighbours = test[0, 0, 0].astype(float), train[:4, 0, 0].astype(float)
    spread = neighbours - neighbours.mean(0)
    gram = spread @ spread.T
    ridge = 0.1 * np.trace(gram) / len(gram) + 1e-6
    weights = np.linalg.solve(gram + ridge * np.eye(4), spread @ (x - neighbours.mean(0)))
    left = x - neighbours.mean(0) - weights @ spread
    found = memory.rebuild_error(x[None].astype(np.float32), neighbours[None].astype(np.float32))
    assert found[0] == pytest.approx(left @ left, rel=1e-3)


def test_directions_hold_most_of_the_squared_length(maps):
    rows = memory.rows_of(maps[0])
    found = memory.directions(rows, 5)
    values = np.linalg.svd(rows, compute_uv=False) ** 2
    assert ((rows @ found) ** 2).sum() == pytest.approx(values[:5].sum(), rel=1e-4)
    assert found.T @ found == pytest.approx(np.eye(5), abs=1e-5)


def test_a_coreset_takes_the_farthest_each_time(maps):
    rows = memory.rows_of(maps[0])
    chosen = memory.coreset(rows, 12)
    assert len(set(chosen.tolist())) == 12
    points = rows @ np.random.default_rng(0).normal(size=(8, 32)).astype(np.float32)
    for n in range(1, 12):
        apart = ((points[:, None] - points[chosen[:n]]) ** 2).sum(2).min(1)
        assert apart[chosen[n]] == pytest.approx(apart.max(), rel=1e-4)


def test_still_things_are_told_from_moving_ones(maps):
    train, _ = maps
    shuffled = np.random.default_rng(0).permutation(memory.rows_of(train)).reshape(train.shape)
    assert memory.lies_still(train)
    assert not memory.lies_still(shuffled)


def test_scores_and_held_out_scores_are_those_of_the_memory(dinov2, good, flawed):
    detector = AnomalyDetector(dinov2, dimensions=None, same_place=False, k=3, **SMALL).fit(good)
    layer = dinov2.n_layers // 2
    made = extract_features(dinov2, [*good, flawed], size=112, fit="resize", layers=[layer])
    patches = memory.unit(made.layers[layer].patches)
    train, test = patches[: len(good)], patches[len(good)]
    found = detector.score([flawed])
    errors = memory.Anywhere(memory.rows_of(train), 3).errors(test)
    assert found.patch_maps[0] == pytest.approx(errors, abs=1e-4)
    assert found.values[0] == pytest.approx(top_mean(errors), abs=1e-4)
    part = np.arange(len(train)) % detector.folds
    others = memory.Anywhere(memory.rows_of(train[part != part[3]]), 3)
    assert detector.held_out_[3] == pytest.approx(top_mean(others.errors(train[3])), abs=1e-4)
    assert enlarge(errors, (224, 224)).shape == (224, 224)


# What others compute


def test_the_nearest_patch_is_that_of_scikit_learn(maps):
    train, test = maps
    distance, _ = (
        NearestNeighbors(n_neighbors=1).fit(memory.rows_of(train)).kneighbors(memory.rows_of(test))
    )
    found = [memory.Anywhere(memory.rows_of(train), 1).errors(one) for one in test]
    assert np.ravel(found) == pytest.approx(distance[:, 0] ** 2, abs=1e-5)


def by_faiss(x, bank, k):
    index = faiss.IndexFlatIP(bank.shape[1])
    index.add(bank)
    return index.search(x, k)


def agrees_with_faiss(x, bank, k):
    products, rows = memory.nearest_rows(x, bank, k)
    wanted, rows_of_faiss = by_faiss(x, bank, min(k, len(bank)))
    assert products == pytest.approx(wanted, abs=1e-5)
    chosen = np.einsum("nd,nkd->nk", x, bank[rows])
    assert chosen == pytest.approx(products, abs=1e-5)
    assert all(len(set(of_one)) == rows.shape[1] for of_one in rows.tolist())
    return (rows == rows_of_faiss).mean()


@pytest.mark.parametrize("k", [1, 2, 10])
@pytest.mark.parametrize("size", [1, 7, 319, 320, 321, 3000])
def test_the_nearest_rows_are_those_of_faiss(monkeypatch, size, k):
    monkeypatch.setattr(memory, "TABLE", 20_000)  # several blocks, the last one smaller
    rng = np.random.default_rng(size)
    bank, x = (rng.normal(size=(n, 16)).astype(np.float32) for n in (size, 25))
    assert agrees_with_faiss(x, bank, k) == 1


@pytest.mark.parametrize("k", [1, 3, 10])
def test_the_nearest_rows_are_those_of_faiss_where_many_are_equal(k):
    rng = np.random.default_rng(0)
    few = rng.integers(-2, 3, (40, 4)).astype(np.float32)  # products are whole, and often the same
    bank, x = few[rng.integers(40, size=2000)], few[:25]
    table = x @ bank.T
    assert ((table == table.max(axis=1, keepdims=True)).sum(axis=1) > k).all()  # a choice there is
    agrees_with_faiss(x, bank, k)
    agrees_with_faiss(x, np.ones_like(bank), k)
    again = memory.rebuild_error(x, bank[memory.nearest_rows(x, bank, 1)[1]])
    assert again == pytest.approx(memory.rebuild_error(x, bank[by_faiss(x, bank, 1)[1]]), abs=1e-5)


def test_the_nearest_patches_of_photographs_are_those_of_faiss(dinov2):
    patches = extract_features(dinov2, photographs(), size=224, fit="resize").patches
    bank = np.ascontiguousarray(memory.unit(memory.rows_of(patches[:8])))
    x = np.ascontiguousarray(memory.unit(memory.rows_of(patches[8:])))
    assert agrees_with_faiss(x, bank, 10) > 0.999  # but for products that differ by a rounding
    ours = memory.rebuild_error(x, bank[memory.nearest_rows(x, bank, 10)[1]])
    theirs = memory.rebuild_error(x, bank[by_faiss(x, bank, 10)[1]])
    assert ours == pytest.approx(theirs, abs=1e-5)


def test_the_subspace_is_the_pca_of_scikit_learn(maps):
    train, test = maps
    pca = PCA(0.9, svd_solver="full").fit(memory.rows_of(train))
    rows = memory.rows_of(test)
    wanted = ((rows - pca.inverse_transform(pca.transform(rows))) ** 2).sum(1)
    subspace = memory.Subspace.of(memory.rows_of(train), 0.9)
    assert len(subspace.components) == pca.n_components_
    assert np.ravel([subspace.errors(one) for one in test]) == pytest.approx(wanted, abs=1e-5)


def test_the_reweighted_score_is_patchcores_formula(maps):
    train, test = maps
    bank = memory.Anywhere(memory.rows_of(train), 1)
    errors = bank.errors(test[0])
    x = memory.rows_of(test[:1])[errors.argmax()]
    nearest = bank.bank[np.linalg.norm(bank.bank - x, axis=1).argmin()]
    around = bank.bank[np.argsort(np.linalg.norm(bank.bank - nearest, axis=1))[:4]]
    to = np.exp(np.linalg.norm(around - x, axis=1))
    wanted = (1 - to[0] / to.sum()) * np.linalg.norm(nearest - x)
    assert memory.reweighted(test[0], errors, bank, beside=4) == pytest.approx(wanted, abs=1e-5)


def test_the_interval_of_an_auroc_holds_its_value():
    found = image_auroc(np.array([0.0, 1.0, 2.0]), np.array([1.0, 3.0]), draws=200)
    assert found.value == pytest.approx(4.5 / 6)  # 4 pairs are won, 1 is a draw
    assert found.low <= found.value <= found.high <= 1
    assert image_auroc(np.array([]), np.array([1.0])) is None


# A detector to keep


def test_a_flaw_is_found_where_it_is(detector, good, flawed):
    found = detector.score({"good": good[0], "flawed": flawed})
    assert found.flawed.tolist() == [False, True]
    assert found.names == ("good", "flawed")
    mask = found.mask(1)
    assert mask.shape == (128, 128)
    assert mask[45:65, 45:75].all()
    assert found.drawn(1, flawed).shape == (128, 128, 3)


def test_kept_and_found_again_it_says_the_same(detector, dinov2, flawed, tmp_path):
    detector.save(tmp_path / "brick.detector")
    again = AnomalyDetector.load(tmp_path / "brick.detector", dinov2)
    one, two = detector.score([flawed]), again.score([flawed])
    assert again.get_params() == detector.get_params()
    assert again.n_good_ == 8
    assert again.threshold_ == detector.threshold_
    assert two.values.tolist() == one.values.tolist()
    assert (two.map(0) == one.map(0)).all()
    assert again.promise() == detector.promise()
    with pytest.raises(KeptError, match="holds no anomaly-detector"):
        AnomalyDetector.load(tmp_path)


@pytest.mark.parametrize(
    "settings",
    [
        {"method": "subspace", "layers": [3, 4]},
        {"method": "nearest", "same_place": False, "coreset": 0.2, "neighbourhood": 3},
        {"same_place": True, "layers": [3, -1], "combine": "join"},
        {"tiles": 2, "same_place": False},
    ],
)
def test_every_way_finds_it_and_is_kept(dinov2, good, flawed, tmp_path, settings):
    detector = AnomalyDetector(dinov2, **SMALL, **settings).fit(good)
    found = detector.score([flawed, good[0]])
    assert found.values[0] > found.values[1]
    detector.save(tmp_path)
    again = AnomalyDetector.load(tmp_path, dinov2).score([flawed, good[0]])
    assert again.values.tolist() == found.values.tolist()


def test_settings_may_be_numbers_of_numpy(dinov2, good, flawed, tmp_path):
    settings = {
        "size": np.int64(112),
        "k": np.int64(1),
        "same_place": np.False_,
        "dimensions": np.int32(16),
        "coreset": np.float32(0.5),
        "top": np.float32(0.5),
        "blur": np.float32(2),
        "folds": np.uint8(3),
        "seed": np.int64(1),
    }
    detector = AnomalyDetector(dinov2, false_alarms=np.float32(0.25), **settings).fit(good)
    detector.set_false_alarms(np.float32(0.5))
    detector.save(tmp_path)
    again = AnomalyDetector.load(tmp_path, dinov2)
    assert again.get_params() == detector.get_params()
    assert again.false_alarms == 0.5
    assert again.score([flawed]).values.tolist() == detector.score([flawed]).values.tolist()


def test_features_already_made_are_taken(detector, dinov2, good, flawed):
    layer = dinov2.n_layers // 2
    made = extract_features(dinov2, [flawed], size=112, fit="resize", layers=[layer])
    assert detector.score(made).values == pytest.approx(detector.score([flawed]).values, abs=1e-5)
    without = extract_features(dinov2, [flawed], size=112, fit="resize")
    with pytest.raises(ValueError, match=rf"lack layers \[{layer}\]"):
        detector.score(without)
    with pytest.raises(ValueError, match="tiles are cut from pictures"):
        AnomalyDetector(dinov2, tiles=2, **SMALL).fit(made)


def test_the_threshold_is_of_held_out_pictures_and_few_are_warned_of(dinov2, good, caplog):
    with caplog.at_level(logging.WARNING, "dinov2_helpers"):
        few = AnomalyDetector(dinov2, size=112).fit(good)
    assert "8 held-out scores cannot promise 5.0% false alarms: that takes 19" in caplog.text
    assert few.threshold_.value == few.held_out_.max()
    assert not few.threshold_.holds
    few.set_false_alarms(0.2)
    assert few.threshold_.holds
    assert few.threshold_.value == np.sort(few.held_out_)[7]


def test_pictures_for_the_threshold_alone_are_not_remembered(dinov2, good):
    found = AnomalyDetector(dinov2, **SMALL).fit(good[:4], calibration=good[4:])
    assert found.n_good_ == 4
    assert found.held_out_ == pytest.approx(found.score(good[4:]).values)
    assert "never remembered" in found.promise()


def test_what_cannot_be_read_is_skipped_and_named(detector, good, tmp_path):
    good[0].save(tmp_path / "a.png")
    (tmp_path / "b.png").write_bytes(b"no picture")
    found = detector.score(tmp_path)
    assert found.names == ("a.png",)
    assert [one.name for one in found.skipped] == ["b.png"]
    (tmp_path / "a.png").write_bytes(b"neither")
    with pytest.raises(ValueError, match=r"no picture to score; 2 of 2 .*\n.*a\.png: ") as no:
        detector.score(tmp_path)
    assert "b.png: cannot be used" in str(no.value)
    good[0].save(tmp_path / "a.png")
    with pytest.raises(ValueError, match=r"1 good pictures: give 2 .*; 1 of 2 .*\n.*b\.png: can"):
        AnomalyDetector(detector.dinov2, **SMALL).fit(tmp_path)


@pytest.mark.parametrize("tiles", [None, 2])
def test_what_is_to_be_said_of_pictures_is_said_however_they_are_seen(
    dinov2, good, tmp_path, caplog, tiles
):
    for i, image in enumerate(good[:2]):
        image.save(tmp_path / f"{i}.png")
    write_notable(tmp_path, good[2])
    AnomalyDetector(dinov2, **SMALL, tiles=tiles).fit(tmp_path)
    skipped = "1 of 5 pictures skipped (all are in `skipped`):\n  2: bad.png: cannot be used"
    for said in (*NOTABLE, skipped):
        assert caplog.text.count(said) == 1


@pytest.mark.parametrize("tiles", [None, 2])
def test_a_strip_of_a_few_pixels_is_skipped_and_not_made_gigabytes(detector, good, tiles):
    reader = PatchReader(detector.dinov2, 112, (4,), tiles=tiles)
    strip = Image.new("RGB", (1, 9000))
    found = list(reader.stream([good[0], strip]))
    (lost,) = (one for part in found for one in part.skipped)
    assert lost.index == 1
    assert "would be scaled to" in lost.reason


def test_a_picture_without_one_of_its_windows_is_skipped(dinov2, good, monkeypatch):
    real = patches.stream_features

    def without_the_first(model, windows, **settings):
        return real(model, [b"no picture", *windows[1:]], **settings)

    monkeypatch.setattr(patches, "stream_features", without_the_first)
    (found,) = PatchReader(dinov2, 112, (4,), tiles=2).stream(good[:1])
    assert not found.maps
    assert "cannot be used" in found.skipped[0].reason


def test_another_shape_is_skipped_only_where_the_place_counts(dinov2, good, flawed, caplog):
    wide = good[0].resize((256, 128))
    reason = "it has 8x16 patches, where the good ones have 8x8"
    still = AnomalyDetector(dinov2, same_place=True, **SMALL).fit(good)
    with pytest.raises(ValueError, match=f"no picture to score; .*\n  0: image 0: {reason}"):
        still.score([wide])
    found = still.score({"flawed": flawed, "wide": wide, "broken": b"no picture", "good": good[0]})
    assert found.names == ("flawed", "good")
    assert found.index.tolist() == [0, 3]
    assert found.sizes.tolist() == [[128, 128], [128, 128]]
    assert found.values.tolist() == still.score([flawed, good[0]]).values.tolist()
    assert [one.name for one in found.skipped] == ["wide", "broken"]
    assert found.skipped[0].reason.startswith(reason)
    assert caplog.text.count(f"  1: wide: {reason}") == 1
    with pytest.raises(ValueError, match=reason):
        memory.SamePlace(np.zeros((2, 8, 8, 4)), 1).nearby(np.zeros((8, 16, 4), np.float32))
    kept_apart = AnomalyDetector(dinov2, same_place=True, **SMALL)
    kept_apart.fit(good[:4], calibration=[wide, *good[4:]])
    assert [one.index for one in kept_apart.skipped_] == [0]
    assert len(kept_apart.held_out_) == 4
    with pytest.raises(
        ValueError, match=f"no picture for the threshold; .*\n  0: image 0: {reason}"
    ):
        kept_apart.fit(good[:4], calibration=[wide])
    anywhere = AnomalyDetector(dinov2, **SMALL).fit([*good, wide])
    assert not anywhere.same_place_
    assert anywhere.score([wide]).map(0).shape == (128, 256)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"method": "forest"}, "method='forest'"),
        ({"k": 0}, "k=0"),
        ({"k": 2.5}, "k=2.5: it must be a whole number of 1 or more"),
        ({"k": None}, "k=None"),
        ({"seed": -1}, "seed=-1"),
        ({"blur": -1}, "blur=-1: it must be 0 or more pixels"),
        ({"blur": float("nan")}, "blur=nan"),
        ({"blur": float("inf")}, "blur=inf"),
        ({"size": 5}, "size=5"),
        ({"false_alarms": 1}, "false_alarms=1"),
        ({"coreset": 0}, "coreset=0"),
        ({"layers": [8]}, r"layers=\(8,\)"),
        ({"layers": []}, r"layers=\(\)"),
        ({"same_place": True, "coreset": 0.5}, "whole bank"),
        ({"image_score": "reweighted"}, "takes method='nearest'"),
        ({"tiles": 0}, "tiles=0"),
    ],
)
def test_impossible_settings_are_named(dinov2, settings, said):
    with pytest.raises(ValueError, match=said):
        AnomalyDetector(dinov2, **settings)


def test_before_fit_it_says_what_to_call(dinov2, good, tmp_path):
    new = AnomalyDetector(dinov2)
    for use in (lambda: new.score(good), lambda: new.save(tmp_path), new.promise):
        with pytest.raises(NotFittedError, match="call fit"):
            use()
    with pytest.raises(ValueError, match="give 2 or more"):
        new.fit(good[:1])


# Pieces


def test_the_short_model_shares_weights_and_gives_the_layer(dinov2, good):
    short = cut_after(dinov2, 4)
    assert short.model.encoder.layer[0] is dinov2.model.encoder.layer[0]
    assert len(dinov2.model.encoder.layer) == 8
    whole = extract_features(dinov2, good[:2], size=112, layers=[4])
    found = extract_features(short, good[:2], size=112)
    assert found.patches == pytest.approx(whole.layers[4].patches, abs=1e-5)


def test_windows_cover_a_picture_and_put_patches_where_they_are(dinov2, good):
    reader = PatchReader(dinov2, 112, (4,), tiles=2)
    (one,) = reader.read(good[:1]).maps
    assert one.shape == (16, 16, dinov2.dim)
    large = good[0].resize((224, 224), Image.Resampling.BICUBIC)
    corner = extract_features(dinov2, [large.crop((0, 0, 112, 112))], size=112, layers=[4])
    wanted = memory.unit(corner.layers[4].patches[0])
    assert one[:5, :5] == pytest.approx(wanted[:5, :5], abs=1e-4)
    for length, side in ((16, 8), (33, 8), (8, 8), (9, 8)):
        starts = window_starts(length, side)
        covered = {start + i for start in starts for i in range(side)}
        assert covered == set(range(length))


def test_top_mean_takes_one_patch_at_least():
    assert top_mean(np.arange(12.0).reshape(3, 4)) == 11
    assert top_mean(np.arange(12.0).reshape(3, 4), 0.25) == 10


# A folder in the layout of MVTec AD


@pytest.fixture
def folder(tmp_path, good, flawed):
    def put(image, name):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        image.save(tmp_path / name)

    for i, image in enumerate(good[:4]):
        put(image, f"train/good/{i}.png")
        put(good[4 + i], f"test/good/{i}.png")
    mask = Image.new("L", flawed.size)
    mask.paste(255, (40, 40, 80, 70))
    for name in ("spot/0", "spot/1", "new/7"):
        put(flawed, f"test/{name}.png")
    put(mask, "ground_truth/spot/0_mask.png")
    return tmp_path


def test_a_folder_is_appraised_and_what_is_not_labelled_is_not_counted(dinov2, folder, caplog):
    layout = read_layout(folder)
    assert layout.flaws == ("spot",)
    assert len(layout.train) == 4
    detector = AnomalyDetector(dinov2, **SMALL).fit(folder / "train/good")
    found = detector.evaluate(folder)
    assert "1 pictures count for images and not for pixels: spot/1.png: no mask" in caplog.text
    assert found.kinds == ("good",) * 4 + ("new", "spot", "spot")
    assert found.unlabelled == ("new",)
    assert found.image_auroc.value == 1
    assert found.by_kind["spot"].n == 2
    assert found.found.value == 1
    rows = [0, 1, 2, 3, 5]
    maps = np.stack([found.scores.map(i) for i in rows])
    masks = np.zeros(maps.shape, bool)
    masks[4, 40:70, 40:80] = True
    assert found.pixel_auroc == pytest.approx(pixel_auroc(maps, masks), abs=1e-6)
    assert found.aupro == pytest.approx(aupro(maps, masks), abs=1e-6)
    assert "Scored and not counted, since no masks are in ground_truth: new" in str(found)
    also = detector.evaluate(folder, flawed=["new"])
    assert also.by_kind["new"].image_auroc.value == 1
    assert also.by_kind["new"].aupro is None


def test_pictures_of_one_name_in_folders_of_a_kind_have_masks_of_their_own(folder, flawed):
    spots, masks = folder / "test/spot", folder / "ground_truth/spot"
    for name in ("left", "right"):
        (spots / name).mkdir()
        flawed.save(spots / name / "0.png")
    (masks / "left").mkdir()
    (masks / "0_mask.png").rename(masks / "left/0_mask.png")
    layout = read_layout(folder)
    of = dict(zip(layout.test, layout.masks, strict=True))
    assert of.pop(spots / "left/0.png") == masks / "left/0_mask.png"
    assert set(of.values()) == {None}
    (masks / "left/0_mask.png").rename(masks / "5_mask.png")
    (spots / "left/0.png").rename(spots / "left/5.png")
    layout = read_layout(folder)
    of = dict(zip(layout.test, layout.masks, strict=True))
    assert of.pop(spots / "left/5.png") == masks / "5_mask.png"
    assert set(of.values()) == {None}


def test_a_folder_without_test_pictures_is_named(folder, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no picture in test/good or test/KIND"):
        read_layout(folder / "train")

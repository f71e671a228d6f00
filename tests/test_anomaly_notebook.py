"""The functions of notebook 06, lifted out of its text and compared with references."""

import re
from itertools import pairwise

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.ndimage import label
from sklearn.metrics import roc_auc_score
from sklearn.neighbors import NearestNeighbors
from torch.utils.flop_counter import FlopCounterMode

from dinov2_helpers import extract_features, load_dinov2, plotting, samples
from tools import pairing
from tools.lift import lift
from tools.project import Project


@pytest.fixture(scope="module")
def notebook():
    source = pairing.read_source(Project(), "06_anomaly_detection")
    return lift(
        source, "Inspection", "add_scores", "appraise", "article", "blob", "build",
        "coreset", "crops", "cut_after", "read_inspection", "true_masks",
        "cut_paste", "directions", "enlarge", "foreground", "held_out", "lies_still",
        "mahalanobis", "model_work", "nearby", "nearest", "nearest_by_picture", "nearest_maps",
        "outlined", "painted", "pca_residual", "pixel_scores", "rebuild", "rebuild_anywhere",
        "rebuild_error", "rebuild_nearby", "rebuild_work", "scratch", "search", "top_mean", "unit",
        "with_fewer_good",
    )  # fmt: skip


def unit(x):
    return (x / np.linalg.norm(x, axis=-1, keepdims=True)).astype(np.float32)


@pytest.fixture
def maps():
    """Features of 6 good and 3 other pictures, (N, 5, 4, 8), that differ by place."""
    rng = np.random.default_rng(0)
    place = rng.normal(size=(5, 4, 8))
    train, test = (unit(place + 0.2 * rng.normal(size=(n, 5, 4, 8))) for n in (6, 3))
    return train, test


# Scores of pixels


def slow_aupro(maps, masks, limit):
    """AUPRO as it is defined: every threshold, every connected flaw."""
    flaws = []
    for number, mask in enumerate(masks):
        labels, count = label(mask, np.ones((3, 3)))
        flaws += [(number, labels == k) for k in range(1, count + 1)]
    curve = [(0.0, 0.0)]
    for threshold in np.unique(maps)[::-1]:
        called = maps >= threshold
        alarms = called[~masks].mean()
        overlap = np.mean([called[number][flaw].mean() for number, flaw in flaws])
        curve.append((alarms, overlap))
    area = 0.0
    for (x0, y0), (x1, y1) in pairwise(curve):
        if x0 >= limit:
            break
        end = min(x1, limit)
        y_end = y1 if x1 <= limit else y0 + (y1 - y0) * (limit - x0) / (x1 - x0)
        area += (end - x0) * (y0 + y_end) / 2
    return area / limit


@pytest.fixture
def pictures():
    rng = np.random.default_rng(3)
    masks = np.zeros((4, 20, 18), bool)
    masks[0, 2:6, 3:9] = masks[0, 12:14, 10:17] = masks[1, 8:18, 4:7] = True
    masks[2, 3, 3] = masks[2, 4, 4] = masks[2, 4, 6] = True  # two flaws: diagonals connect
    return masks + rng.normal(0, 0.8, masks.shape), masks


@pytest.mark.parametrize("limit", [0.05, 0.3, 1.0])
@pytest.mark.parametrize("digits", [6, 1, 0])  # the fewer, the more scores are equal
def test_pixel_scores_are_those_of_the_definitions(notebook, pictures, limit, digits):
    maps, masks = np.round(pictures[0], digits), pictures[1]
    auroc, aupro = notebook["pixel_scores"](maps, masks, limit)
    assert auroc == pytest.approx(roc_auc_score(masks.ravel(), maps.ravel()), abs=1e-6)
    assert aupro == pytest.approx(slow_aupro(maps, masks, limit), abs=1e-6)


def test_a_perfect_and_a_useless_map(notebook, pictures):
    _, masks = pictures
    assert notebook["pixel_scores"](masks.astype(float), masks) == pytest.approx((1, 1))
    auroc, aupro = notebook["pixel_scores"](np.zeros(masks.shape), masks)
    assert (auroc, aupro) == pytest.approx((0.5, 0.15))  # chance up to 0.3, over 0.3


def test_scores_of_pictures(notebook):
    maps = np.zeros((2, 10, 20))
    maps[0, 0, :4] = [4, 3, 2, 1]
    np.testing.assert_allclose(notebook["top_mean"](maps, 0.01), [3.5, 0])
    np.testing.assert_allclose(notebook["top_mean"](maps[:, :2, :2], 0.01), [4, 0])
    constant = notebook["enlarge"](np.full((1, 4, 4), 2.0), 30)
    np.testing.assert_allclose(constant, 2.0, rtol=1e-6)
    assert constant.shape == (1, 30, 30)
    spot = np.zeros((1, 16, 16))
    spot[0, 3, 12] = 1
    large = notebook["enlarge"](spot, 224)[0]
    row, column = np.unravel_index(large.argmax(), large.shape)
    assert abs(row - 3.5 * 14) <= 1 and abs(column - 12.5 * 14) <= 1


# The methods of the grid


def test_methods_find_an_outlier(notebook):
    rng = np.random.default_rng(0)
    train = rng.normal(size=(60, 12)) @ np.diag([5.0] * 4 + [0.1] * 8) + 10
    test = np.vstack([train[:5] + 0.001, train.mean(0) + np.eye(12)[7] * 3])
    for name in ("mahalanobis", "pca_residual"):
        scores = notebook[name](train, test)
        assert scores.shape == (6,) and scores.argmax() == 5
    far = np.vstack([train[:5], -train[:1]])
    assert notebook["nearest"](train, far).argmax() == 5


def test_contamination_only_moves_the_threshold(notebook):
    rng = np.random.default_rng(0)
    train, test = rng.normal(size=(50, 40)), rng.normal(size=(30, 40))
    low, high = (notebook["article"](train, test, share) for share in (0.01, 0.3))
    np.testing.assert_array_equal(np.argsort(low), np.argsort(high))
    np.testing.assert_allclose(np.ptp(high - low), 0, atol=1e-9)
    seen = notebook["article"](train, train, 0.3)
    assert (seen > 0).mean() == pytest.approx(0.3, abs=0.02)


def test_article_on_few_pictures_does_not_score_rounding_errors(notebook):
    rng = np.random.default_rng(0)
    train, test = (rng.normal(size=(n, 64)).astype(np.float32) for n in (8, 14))
    nudged = (train * (1 + 1e-6 * rng.normal(size=train.shape))).astype(np.float32)
    expected, found = (notebook["article"](x, test) for x in (train, nudged))
    np.testing.assert_allclose(found, expected, atol=0.02)


# The memory


def test_nearest_maps_are_those_of_sklearn(notebook, maps):
    train, test = maps
    found = notebook["nearest_maps"](test, train)
    index = NearestNeighbors(n_neighbors=1, metric="cosine").fit(train.reshape(-1, 8))
    expected = index.kneighbors(test.reshape(-1, 8))[0].reshape(test.shape[:3])
    np.testing.assert_allclose(found, expected, atol=1e-5)
    by_picture = notebook["nearest_by_picture"](test, train)
    assert by_picture.shape == (3, 6, 5, 4)
    np.testing.assert_allclose(1 - by_picture.max(1), expected, atol=1e-5)


def test_coreset_spreads(notebook):
    rng = np.random.default_rng(0)
    centres = rng.normal(size=(10, 8)) * 10
    bank = np.repeat(centres, [900] + [10] * 9, axis=0) + 0.01 * rng.normal(size=(990, 8))
    rows = notebook["coreset"](bank.astype(np.float32), 10)
    assert len(set(rows)) == 10
    nearest = np.linalg.norm(bank[rows][:, None] - centres, axis=-1).argmin(1)
    assert sorted(nearest) == list(range(10))
    # its beginnings are the smaller coresets
    np.testing.assert_array_equal(notebook["coreset"](bank.astype(np.float32), 4), rows[:4])


def test_nearby_looks_no_farther_than_its_reach(notebook, maps):
    train, test = maps
    for reach in (0, 1, 2):
        cosine, place = notebook["nearby"](test, train, reach)
        assert cosine.shape == (5, 4, 3, 6)
        for row, column, i, j in ((0, 0, 0, 0), (2, 3, 1, 5), (4, 1, 2, 2)):
            best = max(
                (float(test[i, row, column] @ train[j, r, c]), (r, c))
                for r in range(max(row - reach, 0), min(row + reach + 1, 5))
                for c in range(max(column - reach, 0), min(column + reach + 1, 4))
            )
            assert cosine[row, column, i, j] == pytest.approx(best[0], abs=1e-5)
            down, across = divmod(int(place[row, column, i, j]), 2 * reach + 1)
            assert (row + down - reach, column + across - reach) == best[1]


def test_still_things_are_told_from_moving_ones(notebook, maps):
    train, _ = maps
    assert notebook["lies_still"](train)[0]
    rng = np.random.default_rng(0)
    moved = np.stack([np.roll(one, rng.integers(0, 4, 2), (0, 1)) for one in train])
    assert not notebook["lies_still"](moved)[0]


# Rebuilding


def test_a_mixture_of_the_neighbours_is_rebuilt(notebook):
    rng = np.random.default_rng(0)
    neighbours = rng.normal(size=(20, 4, 9))
    weights = rng.dirichlet(np.ones(4), 20)[:, None]
    inside = (weights @ neighbours)[:, 0]
    errors = notebook["rebuild_error"](inside, neighbours, ridge=0.0)
    np.testing.assert_allclose(errors, 0, atol=1e-8)
    one = notebook["rebuild_error"](inside, neighbours[:, :1])
    np.testing.assert_allclose(one, ((inside - neighbours[:, 0]) ** 2).sum(1))


def test_rebuilding_is_a_ridge_regression(notebook):
    rng = np.random.default_rng(1)
    x, neighbours, ridge = rng.normal(size=(3, 9)), rng.normal(size=(3, 4, 9)), 0.3
    errors = notebook["rebuild_error"](x, neighbours, ridge)
    for i in range(3):
        middle = neighbours[i].mean(0)
        spread = neighbours[i] - middle
        strength = ridge * np.trace(spread @ spread.T) / 4 + 1e-6
        design = np.vstack([spread.T, np.sqrt(strength) * np.eye(4)])
        target = np.concatenate([x[i] - middle, np.zeros(4)])
        weights = np.linalg.lstsq(design, target, rcond=None)[0]
        assert errors[i] == pytest.approx(((x[i] - middle - weights @ spread) ** 2).sum())


def test_rebuilding_from_one_neighbour_is_the_nearest_patch(notebook, maps):
    train, test = maps
    anywhere = notebook["rebuild"](test, train, False, (1, 3))
    np.testing.assert_allclose(anywhere[1], 2 * notebook["nearest_maps"](test, train), atol=1e-5)
    cosine, _ = notebook["nearby"](test, train, 1)
    here = notebook["rebuild"](test, train, True, (1, 3))
    expected = 2 - 2 * cosine.max(3).transpose(2, 0, 1)
    np.testing.assert_allclose(here[1], expected, atol=1e-5)
    assert here[3].shape == anywhere[3].shape == test.shape[:3]


def test_fewer_good_pictures_than_neighbours(notebook, maps):
    train, test = maps
    for same_place in (True, False):
        (only,) = notebook["rebuild"](test, train[:2], same_place, (20,)).values()
        assert only.shape == test.shape[:3] and np.isfinite(only).all()


def test_held_out_scores_do_not_see_themselves(notebook, maps):
    train, _ = maps
    scores = notebook["held_out"](train, True, 2, folds=3)
    (inside,) = notebook["rebuild"](train, train, True, (2,)).values()
    assert scores.shape == (6,)
    assert scores.min() > 0
    (outside,) = notebook["rebuild"](train[:1], train[[1, 2, 4, 5]], True, (2,)).values()
    assert scores[0] == pytest.approx(notebook["top_mean"](outside)[0], rel=1e-4)
    assert scores.mean() > notebook["top_mean"](inside).mean()


def test_cut_model_returns_the_layer(notebook, dinov2, picture):
    images = [picture(126, 126, seed) for seed in range(2)]
    short = notebook["cut_after"](dinov2, 1)
    layer = extract_features(dinov2, images, size=126, fit="resize", layers=[1]).layers[1]
    found = extract_features(short, images, size=126, fit="resize")
    np.testing.assert_allclose(found.patches, layer.patches, atol=1e-5)
    assert len(dinov2.model.encoder.layer) == dinov2.n_layers == short.n_layers + 1


def test_foreground_is_not_at_the_border(notebook):
    rng = np.random.default_rng(0)
    table, part = rng.normal(size=(2, 8))
    inside = np.zeros((6, 6), bool)
    inside[2:5, 1:5] = True
    patches = np.where(inside[..., None], part, table) + 0.05 * rng.normal(size=(4, 6, 6, 8))
    found = notebook["foreground"](patches, patches)
    np.testing.assert_array_equal(found, np.broadcast_to(inside, found.shape))


def test_directions_keep_lengths_and_angles(notebook):
    rng = np.random.default_rng(0)
    basis = np.linalg.qr(rng.normal(size=(20, 3)))[0]
    patches = rng.normal(size=(4, 5, 7, 3)) @ basis.T
    found = notebook["directions"](patches, 3)
    np.testing.assert_allclose(found.T @ found, np.eye(3), atol=1e-8)
    np.testing.assert_allclose(patches @ found @ found.T, patches, atol=1e-8)


# Flaws that are made at run time


def test_pretended_flaws_are_where_the_mask_is(notebook, picture):
    image = picture(224, 224)
    for seed in range(8):
        fake, mask = notebook["cut_paste"](image, np.random.default_rng(seed))
        changed = (np.asarray(fake) != np.asarray(image)).any(axis=-1)
        assert mask.any() and mask.mean() < 0.05
        assert not changed[~mask].any()


@pytest.mark.parametrize("kind", ["foreign", "scratch", "stain", "worn"])
def test_painted_flaws_are_where_the_mask_is(notebook, kind):
    photos, rng = samples.photographs(), np.random.default_rng(0)
    (crop,) = notebook["crops"](photos["brick"], 1, 0, 140, rng)
    (other,) = notebook["crops"](photos["grass"], 1, 0, 140, rng)
    fake, mask = notebook["painted"](crop, kind, other, rng)
    changed = (np.asarray(fake) != np.asarray(crop)).any(axis=-1)
    assert crop.size == fake.size == (160, 160)
    assert not changed[~mask].any()
    assert changed[mask].mean() > 0.5 and 10 < mask.sum() < 0.1 * mask.size


def test_outline_is_outside_of_the_mask(notebook):
    mask = np.zeros((30, 30), bool)
    mask[10:20, 10:20] = True
    drawn = notebook["outlined"](Image.new("RGB", (30, 30), "white"), mask)
    magenta = (drawn == [255, 0, 255]).all(axis=-1)
    assert magenta.any() and not magenta[mask].any()


# What it costs


@pytest.mark.parametrize("size", [126, 224])
def test_counted_work_is_what_torch_counts(notebook, dinov2_folder, size):
    whole = load_dinov2(dinov2_folder, device="cpu", attention="eager")  # torch counts no other
    for model in (whole, notebook["cut_after"](whole, 1)):
        with torch.inference_mode(), FlopCounterMode(display=False) as counter:
            model.model(pixel_values=torch.zeros(1, 3, size, size))
        counted = counter.get_total_flops() / 2
        assert notebook["model_work"](model, size) == pytest.approx(counted, rel=1e-6)


def test_work_of_rebuilding(notebook):
    # 6 pictures of 20 patches of 8 numbers: 9 places each, or all 120 patches; then 3 to mix
    assert notebook["rebuild_work"](20, 6, True, 3, n=8) == 20 * 8 * (54 + 9 + 6)
    assert notebook["rebuild_work"](20, 6, False, 3, n=8) == 20 * 8 * (120 + 9 + 6)
    most = notebook["MOST"]
    assert notebook["rebuild_work"](1024, 40, False, 1, n=8) == 1024 * 8 * (most + 3)


# A folder of the reader's


def test_fewer_good_pictures_to_test_on(notebook):
    kinds = np.array(["bent", "good", "good", "cut", "good", "bent"])
    whole = notebook["Inspection"]([], list("abcdef"), kinds, {})
    few = notebook["with_fewer_good"](whole, 2)
    assert few.test == list("abcdf") and list(few.kinds) == ["bent", "good", "good", "cut", "bent"]
    assert notebook["with_fewer_good"](few, 20).test == few.test


@pytest.fixture
def folder(tmp_path, picture):
    """Seven good pictures; in two of four test pictures a bright square."""
    rng = np.random.default_rng(0)
    base = np.asarray(picture(84, 84)).astype(int)
    names = [f"train/good/{i}.png" for i in range(7)]
    names += ["test/good/0.png", "test/good/1.png", "test/hole/0.png", "test/hole/1.png"]
    for name in names:
        pixels = (base + rng.integers(-4, 5, base.shape)).clip(0, 255)
        if "hole" in name:
            pixels[30:50, 30:50] = 255
            mask = np.zeros((84, 84), np.uint8)
            mask[30:50, 30:50] = 255
            path = tmp_path / "ground_truth/hole" / f"{name[-5]}_mask.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(mask).save(path)
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels.astype(np.uint8)).save(tmp_path / name)
    return tmp_path


@pytest.fixture
def build(notebook, dinov2):
    notebook["short"] = notebook["cut_after"](dinov2, 1)
    return notebook["build"]


def test_a_detector_for_a_folder(notebook, build, folder, capsys):
    mine = notebook["read_inspection"](folder)
    maps, limit = build(mine.train, mine.test, 84, 3)
    stopped = notebook["top_mean"](maps) > limit
    assert stopped[mine.kinds == "hole"].all()
    notebook["appraise"](mine, maps)
    assert "image AUROC 1.000\npixel AUROC " in capsys.readouterr().out


def test_two_good_pictures_are_enough_and_nothing_to_test_is_said(notebook, build, folder, capsys):
    mine = notebook["read_inspection"](folder)
    maps, limit = build(mine.train[:2], [], 84, 3)
    assert maps.shape[0] == 0 and limit > 0
    notebook["appraise"](notebook["Inspection"](mine.train[:2], [], mine.kinds[:0], {}), maps)
    assert "Not measured" in capsys.readouterr().out


def test_misfit_masks_leave_the_image_scores(notebook, build, folder, capsys):
    Image.new("L", (10, 8)).save(folder / "ground_truth/hole/1_mask.png")
    mine = notebook["read_inspection"](folder)
    maps, _ = build(mine.train, mine.test, 84, 3)
    notebook["appraise"](mine, maps)
    printed = capsys.readouterr().out
    assert "image AUROC 1.000" in printed
    assert "Pixels not measured" in printed and "1_mask.png: is 10x8 px" in printed


def test_pictures_of_several_shapes(notebook, build, folder, picture):
    picture(126, 84).save(folder / "train/good/9.png")
    mine = notebook["read_inspection"](folder)
    with pytest.raises(ValueError, match="several shapes: cut them to one"):
        build(mine.train, mine.test, 84, 3)


def masks_of(folder, change):
    """Replace every mask of the folder by what a function makes of it, (84, 84) bool."""
    for path in (folder / "ground_truth/hole").glob("*.png"):
        change(np.asarray(Image.open(path)) > 0).save(path)


@pytest.mark.parametrize(
    "change",
    [
        lambda true: Image.fromarray(true.astype(np.uint8)),
        lambda true: Image.fromarray(true * np.uint16(255)),
        lambda true: Image.fromarray(true[..., None] * np.array((255, 0, 0), np.uint8)),
        lambda true: Image.fromarray(
            np.dstack([np.full((*true.shape, 3), 255, np.uint8), true * np.uint8(255)])
        ),
    ],
    ids=["0 and 1", "16 bits", "red", "white on a transparent layer"],
)
def test_masks_are_read_whoever_wrote_them(notebook, folder, change):
    masks_of(folder, change)
    truth = notebook["true_masks"](notebook["read_inspection"](folder))
    expected = np.zeros((4, 84, 84), bool)
    expected[2:, 30:50, 30:50] = True
    np.testing.assert_array_equal(truth, expected)


@pytest.mark.parametrize("state", ["empty", "full"])
def test_an_empty_or_full_mask_of_a_flawed_picture_is_named(notebook, folder, capsys, state):
    masks_of(folder, lambda true: Image.fromarray(np.full_like(true, state == "full")))
    mine = notebook["read_inspection"](folder)
    notebook["appraise"](mine, np.arange(64.0).reshape(4, 4, 4))
    printed = capsys.readouterr().out
    assert re.search(rf"Pixels not measured: .*hole/0_mask.png: its mask is {state}", printed)


def test_a_12_bit_camera_is_noticed_and_the_remedy_works(notebook, build, folder, capsys):
    plain = notebook["read_inspection"](folder)
    expected, _ = build(plain.train, plain.test, 84, 3)
    assert "nearly black" not in capsys.readouterr().out
    for path in [*plain.train, *plain.test]:
        grey = np.asarray(Image.open(path).convert("L"), float)
        Image.fromarray(np.round(grey / 255 * 4095).astype(np.uint16)).save(path)
    mine = notebook["read_inspection"](folder)
    printed = capsys.readouterr().out
    assert "11 pictures with more than 8 bits use 6.25%" in printed and "bits=12" in printed
    maps, _ = build(mine.train, mine.test, 84, 3, bits=12)
    for path in [*plain.train, *plain.test]:
        values = np.asarray(Image.open(path), float)
        Image.fromarray(np.round(values / 4095 * 255).astype(np.uint8)).save(path)
    grey_maps, _ = build(mine.train, mine.test, 84, 3)
    np.testing.assert_allclose(maps, grey_maps, atol=1e-5)
    assert expected.shape == maps.shape


@pytest.fixture
def histogram(notebook):
    """The panel that the widget draws from six good and three flawed pictures, threshold 0.5."""
    scores = np.array([0.1, 0.1, 0.1, 0.1, 0.2, 0.6, 0.4, 0.8, 0.8])
    flawed = np.arange(9) >= 6
    titles = ["", "found 2 of 3,\nfalse alarms 1 of 6"]
    figure = plotting.show_images([np.ones((224, 224, 3))] * 2, titles=titles, alt="scores")
    panel = notebook["add_scores"](figure, scores, flawed, 0.5).axes[-1]
    plotting.encode(figure)
    return panel


def test_the_histogram_stands_upright_and_fills_its_panel(histogram):
    bottom, top = histogram.get_ylim()
    heights = [bar.get_height() for bar in histogram.patches]
    assert max(heights) == 4 and sum(heights) == 9
    assert bottom == 0
    assert 4 <= top < 5
    assert histogram.get_xlim() == pytest.approx((0.1, 0.8))
    assert not histogram.images


def test_the_histogram_has_the_look_of_all_figures(histogram):
    assert histogram.get_title() == "found 2 of 3,\nfalse alarms 1 of 6"
    assert not histogram.get_legend().get_frame_on()
    assert not histogram.spines["top"].get_visible()
    assert {text.get_size() for text in histogram.get_xticklabels()} == {13}

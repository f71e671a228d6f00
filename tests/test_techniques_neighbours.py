"""Neighbours, matches and colours: scikit-learn's numbers, the lesson's, and places in pixels."""

import dataclasses

import numpy as np
import pytest
from PIL import Image
from sklearn.neighbors import KNeighborsClassifier, NearestNeighbors

from dinov2_helpers import (
    extract_features,
    load_dinov2,
    load_scenes,
    photographs,
    plotting,
    to_pixels,
)
from dinov2_helpers.techniques import (
    FewShot,
    KeptError,
    KnnClassifier,
    correspondences,
    pca_rgb,
    search,
)
from dinov2_helpers.techniques.inputs import NotFittedError
from dinov2_helpers.techniques.matching import patch_centres
from dinov2_helpers.techniques.vectors import Vectors, unit
from tools import pairing
from tools.lift import lift
from tools.project import Project


@pytest.fixture(scope="module")
def notebook():
    source = pairing.read_source(Project(), "01_feature_space")
    return lift(source, "unit", "knn")


@pytest.fixture(scope="module")
def dinov2():
    return load_dinov2("tiny")


@pytest.fixture
def table():
    """Vectors of four classes that overlap: 120 for the gallery, 50 to ask about."""
    rng = np.random.default_rng(0)
    labels = rng.integers(4, size=170)
    x = rng.normal(size=(4, 12))[labels] + 1.2 * rng.normal(size=(170, 12))
    return x.astype(np.float32), np.array(list("dbca"))[labels]


def vectors(x):
    return Vectors(x, np.arange(len(x)), tuple(f"image {i}" for i in range(len(x))))


# Search


@pytest.mark.parametrize("k", [1, 7, 500])
def test_nearest_are_those_of_sklearn(table, k):
    x, _ = table
    found = search(x[120:], x[:120], k=k)
    n = min(k, 120)
    reference = NearestNeighbors(n_neighbors=n, metric="cosine").fit(x[:120])
    distances, rows = reference.kneighbors(x[120:])
    np.testing.assert_allclose(found.cosines, 1 - distances, atol=1e-5)
    assert (found.rows == rows).mean() > 0.999


def test_nearest_are_those_of_the_lesson(notebook, table):
    x, _ = table
    similarity = notebook["unit"](x[120:]) @ notebook["unit"](x[:120]).T
    found = search(x[120:], x[:120], k=3)
    assert (found.rows == np.argsort(-similarity, axis=1)[:, :3]).all()


def test_among_themselves_none_finds_itself_even_beside_its_copy():
    x = np.array([[1, 0], [1, 0], [1, 0], [0, 1], [1, 1]], np.float32)
    found = search(x, k=2)
    assert found.rows.shape == (5, 2)
    assert not (found.rows == np.arange(5)[:, None]).any()
    np.testing.assert_allclose(found.cosines[:3], 1, atol=1e-6)
    assert found.rows[3].tolist()[0] == 4
    assert search(x, k=50).rows.shape == (5, 4)


@pytest.mark.parametrize(
    ("queries", "gallery", "k", "said"),
    [
        (np.eye(2), np.eye(3), 1, "cannot be compared"),
        (np.eye(2), np.eye(2)[:0], 1, "cannot be compared"),
        (np.eye(2)[0], np.eye(2), 1, r"queries have the shape \(2,\)"),
        (np.full((2, 2), np.nan), np.eye(2), 1, "queries hold values that are not finite"),
        (np.eye(2), np.eye(2), 0, "k=0"),
    ],
)
def test_an_impossible_search_is_refused(queries, gallery, k, said):
    with pytest.raises(ValueError, match=said):
        search(queries, gallery, k=k)


@pytest.mark.parametrize("table", [1, None])
@pytest.mark.parametrize(
    ("kind", "size"), [("f2", 300), ("f2", 1e-5), ("f4", 1e25), ("f4", 1e-25), ("f8", 1e200)]
)
def test_vectors_whose_squares_their_type_cannot_hold_have_a_direction(kind, size, table):
    x = np.array([[3, 4], [0, 0], [-4, 3]]) * [[size], [size], [size]]
    rows = [[0.6, 0.8], [0, 0], [-0.8, 0.6]]
    given = x.astype(kind) if table else x[0].astype(kind)
    found = unit(given)
    assert found.dtype == np.float32
    tolerance = 1e-6 if kind != "f2" else 1e-2  # of numbers that are rounded already
    np.testing.assert_allclose(found, rows if table else rows[0], atol=tolerance)


def test_vectors_beside_such_ones_stay_the_same_to_the_last_bit():
    x = np.random.default_rng(0).normal(size=(50, 20)).astype(np.float32)
    among = np.concatenate([x, np.full((1, 20), 1e25, np.float32)])
    plain = x / np.linalg.norm(x, axis=1, keepdims=True)
    assert (unit(x) == plain).all() and (unit(among)[:-1] == plain).all()


def test_what_is_far_beyond_others_is_found_by_its_cosine():
    found = search(np.full((1, 3), 300, np.float16), np.full((2, 3), 1e25, np.float32), k=1)
    assert found.cosines[0, 0] == pytest.approx(1)


# The classifier


@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize("kind", [KnnClassifier, FewShot])
def test_vectors_that_are_not_finite_are_named(dinov2, kind, bad):
    good = np.eye(4, dtype=np.float32)
    spoilt = good.copy()
    spoilt[1, 2] = bad
    with pytest.raises(ValueError, match=r"1 of 4 pictures .* not finite.*: image 1. Leave"):
        kind(dinov2).fit(vectors(spoilt), list("abab"))
    fitted = kind(dinov2).fit(vectors(good), list("abab"))
    for use in (fitted.predict, fitted.calibrate):
        with pytest.raises(ValueError, match=r"1 of 4 pictures .* not finite.*: image 1. Leave"):
            use(vectors(spoilt))
    many = np.full((100, 4), np.nan, np.float32)
    with pytest.raises(ValueError, match=r"100 of 100 .* image 0, .*, image 19, \.\.\.\. Leave"):
        fitted.predict(vectors(many))


def test_features_that_are_not_finite_are_named(dinov2):
    features = extract_features(dinov2, photographs(), patches=False)
    features.cls[3, 0] = np.nan
    with pytest.raises(ValueError, match=rf"1 of 13 .*: {features.names[3]}. Leave"):
        KnnClassifier(dinov2).fit(features, range(13))


@pytest.mark.parametrize("kind", [KnnClassifier, FewShot])
def test_vectors_of_another_width_are_said_with_both(dinov2, kind):
    fitted = kind(dinov2).fit(vectors(np.eye(4, dtype=np.float32)), list("abab"))
    with pytest.raises(ValueError, match=r"vectors of 5 numbers .* those of 4 .*: give"):
        fitted.predict(vectors(np.eye(5, dtype=np.float32)))
    with pytest.raises(ValueError, match=r"the shape \(4,\)"):
        fitted.predict(Vectors(np.ones(4, np.float32), np.arange(4), tuple("abcd")))


def test_neighbours_of_another_width_are_said_with_both(dinov2):
    knn = KnnClassifier(dinov2).fit(vectors(np.eye(4, dtype=np.float32)), list("abab"))
    with pytest.raises(ValueError, match=r"vectors of 5 numbers .* those of 4"):
        knn.search(vectors(np.eye(5, dtype=np.float32)))


@pytest.mark.parametrize("kind", [KnnClassifier, FewShot])
def test_without_a_picture_nothing_is_fitted(dinov2, kind):
    with pytest.raises(ValueError, match="no picture"):
        kind(dinov2).fit(vectors(np.zeros((0, 4), np.float32)), [])


@pytest.mark.parametrize("k", [1, 5, 20])
def test_votes_are_those_of_sklearn(dinov2, table, k):
    x, labels = table
    reference = KNeighborsClassifier(
        k, metric="cosine", weights=lambda distance: np.exp((1 - distance) / 0.07)
    ).fit(x[:120], labels[:120])
    knn = KnnClassifier(dinov2, k=k).fit(vectors(x[:120]), labels[:120])
    answers = knn.predict(vectors(x[120:]))
    assert knn.classes_.tolist() == reference.classes_.tolist() == list("abcd")
    expected = reference.predict_proba(x[120:])
    np.testing.assert_allclose(answers.probabilities, expected, atol=1e-4)
    assert list(answers.labels) == reference.predict(x[120:]).tolist()


def test_accuracy_is_that_of_the_lesson(notebook, dinov2, table):
    x, labels = table
    theirs = (notebook["knn"](x[:120], labels[:120], x[120:]) == labels[120:]).mean()
    knn = KnnClassifier(dinov2).fit(vectors(x[:120]), labels[:120])
    assert knn.score(vectors(x[120:]), labels[120:]).value == pytest.approx(theirs)


@pytest.mark.parametrize(
    ("labels", "said"),
    [
        (["cat", None, "dog"], r"1 of 3 are missing, .* number 1 \(None\)"),
        (["cat", float("nan"), "dog"], r"1 of 3 are missing, .* number 1 \(nan\)"),
        ([1.0, 2.0, float("nan")], r"1 of 3 are missing, .* number 2 \(nan\)"),
        (["cat", 3, "dog"], "labels of several types, int, str"),
    ],
)
@pytest.mark.parametrize("kind", [KnnClassifier, FewShot])
def test_labels_that_are_missing_or_mixed_are_said(dinov2, kind, labels, said):
    vectors = Vectors(np.eye(3, dtype=np.float32), np.arange(3), ("a", "b", "c"))
    with pytest.raises(ValueError, match=said):
        kind(dinov2).fit(vectors, labels)
    with pytest.raises(ValueError, match=said):
        kind(dinov2).fit(vectors, np.array(labels, object))


def test_a_tiny_temperature_is_the_nearest_alone(dinov2, table):
    x, labels = table
    sharp = KnnClassifier(dinov2, k=20, temperature=1e-6).fit(vectors(x[:120]), labels[:120])
    one = KnnClassifier(dinov2, k=1).fit(vectors(x[:120]), labels[:120])
    assert sharp.predict(vectors(x[120:])).labels == one.predict(vectors(x[120:])).labels


def test_a_gallery_is_kept_with_its_names_and_threshold(dinov2, tmp_path):
    toys = load_scenes("train", framing="portrait", class_=["dog", "mug"], surface="grass")
    labels = toys.labels("class")
    pictures = dict(zip([f"toy {i}" for i in range(len(toys))], toys.images, strict=True))
    knn = KnnClassifier(dinov2, k=2).fit(pictures, labels)
    with pytest.warns(UserWarning, match="promises"):
        knn.calibrate(pictures, alpha=0.01)
    knn.save(tmp_path)
    loaded = KnnClassifier.load(tmp_path, dinov2)
    near, again = knn.search(pictures, k=1), loaded.search(pictures, k=1)
    assert (near.rows == again.rows).all() and (near.cosines == again.cosines).all()
    assert [loaded.names_[row] for row in again.rows[:, 0]] == list(pictures)
    assert loaded.labels_.tolist() == labels.tolist() and loaded.promise_ == knn.promise_
    assert loaded.predict(photographs()).labels == knn.predict(photographs()).labels
    assert None in loaded.predict(photographs()).labels
    with pytest.raises(KeptError, match="holds no few-shot"):
        FewShot.load(tmp_path)


def test_before_fit_and_with_impossible_settings_it_says_so(dinov2):
    with pytest.raises(NotFittedError, match="call fit"):
        KnnClassifier(dinov2).predict(photographs())
    with pytest.raises(ValueError, match="k=0"):
        KnnClassifier(dinov2, k=0)
    with pytest.raises(ValueError, match="temperature=0"):
        KnnClassifier(dinov2, temperature=0)


# Places of patches


@pytest.mark.parametrize(
    ("shape", "size", "fit"),
    [((300, 200), None, "crop"), ((200, 450), 448, "crop"), ((310, 201), 224, "resize")],
)
def test_a_patch_lies_where_its_dot_is_seen(dinov2, shape, size, fit):
    """A bright dot at the place that is told must light up that patch of what the model gets."""
    centres = patch_centres(dinov2, shape, size, fit)
    rows, columns = centres.shape[:2]
    for row, column in ((1, 2), (rows // 2, columns // 2), (rows - 2, columns - 3)):
        x, y = centres[row, column]
        picture = np.zeros((shape[1], shape[0], 3), np.uint8)
        picture[int(y) - 1 : int(y) + 2, int(x) - 1 : int(x) + 2] = 255
        pixels = to_pixels(Image.fromarray(picture), dinov2, size=size, fit=fit)[0]
        seen = pixels.reshape(rows, 14, columns, 14).mean((1, 3))
        assert np.unravel_index(seen.argmax(), seen.shape) == (row, column)


def test_padding_lies_beyond_the_picture(dinov2):
    centres = patch_centres(dinov2, (100, 60), fit="pad")
    assert centres.shape == (5, 8, 2)
    assert centres[0, 0].tolist() == [7, 7] and centres[-1, -1].tolist() == [105, 63]


# Matches


def most_alike(a, b, cells):
    """For cells (n, 2) of patches (h, w, D), row and column of the most similar of b."""
    rows = a[tuple(cells.T)]  # (n, D)
    lengths = np.linalg.norm(rows, axis=1)[:, None, None] * np.linalg.norm(b, axis=2)
    cosines = np.einsum("nd,hwd->nhw", rows, b) / lengths
    best = cosines.reshape(len(cells), -1).argmax(1)
    return np.stack(np.unravel_index(best, b.shape[:2]), axis=1)


def test_matches_are_most_alike_and_mutual(dinov2):
    views = load_scenes("test", framing="portrait").images[:2]
    a, b = (extract_features(dinov2, [one]) for one in views)
    one_way = correspondences(dinov2, a, b, mutual=False)
    cells = np.argwhere(np.ones((16, 16), bool))
    theirs = most_alike(a.patches[0], b.patches[0], cells)
    order = np.lexsort(one_way.cells_a.T[::-1])
    assert (one_way.cells_a[order] == cells).all()
    assert (one_way.cells_b[order] == theirs).mean() > 0.99
    mutual = correspondences(dinov2, a, b)
    back = most_alike(b.patches[0], a.patches[0], mutual.cells_b)
    assert (back == mutual.cells_a).mean() > 0.99
    assert 0 < len(mutual) < len(one_way)
    assert (np.diff(mutual.scores) <= 0).all()
    swapped = correspondences(dinov2, b, a)
    assert {tuple(p) for p in swapped.points_a} == {tuple(p) for p in mutual.points_b}


def test_a_picture_moved_by_two_patches_is_found_there(dinov2):
    rng = np.random.default_rng(0)
    texture = rng.integers(0, 256, (60, 60, 3), np.uint8)
    large = Image.fromarray(texture).resize((480, 480), Image.Resampling.BICUBIC)
    pair = [large.crop((x, 0, x + 280, 280)) for x in (0, 28)]
    found = correspondences(dinov2, *pair, fit="resize")
    moved = found.points_a - found.points_b
    assert len(found) > 100
    assert (np.abs(moved - [28, 0]).max(1) <= 14).mean() > 0.8


def test_places_are_in_the_pictures_own_pixels(dinov2):
    cat = photographs()["cat"]
    double = cat.resize((2 * cat.width, 2 * cat.height))
    found = correspondences(dinov2, cat, double)
    same = (found.cells_a == found.cells_b).all(1)
    assert same.mean() > 0.9
    np.testing.assert_allclose(2 * found.points_a[same], found.points_b[same], atol=2)


def test_what_shows_padding_matches_nothing(dinov2, picture):
    wide = picture(150, 60)
    found = correspondences(dinov2, wide, wide, fit="pad")
    assert (found.points_a <= (150, 60)).all()
    assert set(found.cells_a[:, 0]) == set(range(4))  # 60 px are 4.3 patches


def test_inner_layers_are_matched_too(dinov2, picture):
    one, other = picture(60, 60), picture(60, 60, seed=1)
    inner = correspondences(dinov2, one, other, layer=2, fit="resize")
    last = correspondences(dinov2, one, other, layer=dinov2.n_layers - 1, fit="resize")
    assert (last.scores == correspondences(dinov2, one, other, fit="resize").scores).all()
    assert len(inner) != len(last) or not np.allclose(inner.scores, last.scores)


def test_two_pictures_on_a_side_are_refused(dinov2, picture):
    with pytest.raises(ValueError, match="2 pictures on one side"):
        correspondences(dinov2, [picture(60, 60), picture(50, 50)], picture(60, 60))


# Colours


@pytest.fixture(scope="module")
def islands():
    """Patches (8, 10, D) and (6, 6, D): a ground that varies a little, two parts of a thing."""
    rng = np.random.default_rng(0)
    ground, left, right = rng.normal(size=(3, 20))
    maps, truth = [], []
    for h, w in ((8, 10), (6, 6)):
        grid = ground + 0.1 * rng.normal(size=(h, w, 20))
        grid[2:-2, 2:-2] += 3 * left - ground
        grid[2:-2, w // 2 : -2] += right
        mask = np.zeros((h, w), bool)
        mask[2:-2, 2:-2] = True
        maps.append(grid)
        truth.append(mask)
    return maps, truth


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("component", [None, 0])
def test_the_thing_in_the_middle_is_the_foreground(islands, sign, component):
    maps, truth = islands
    found = pca_rgb([sign * one for one in maps], component=component)
    assert found.component == 0
    for mask, true, colours in zip(found.foreground, truth, found.colours, strict=True):
        assert (mask == true).all()
        assert (colours[~true] == 1).all() and colours.dtype == np.float32
        assert ((colours >= 0) & (colours <= 1)).all()
    # one basis: the same part is as red in both pictures, the other part is not
    left = [colours[2, 2, 0] for colours in found.colours]
    right = [colours[2, -3, 0] for colours in found.colours]
    assert abs(left[0] - left[1]) < 0.2 and abs(right[0] - right[1]) < 0.2
    assert abs(left[0] - right[0]) > 0.5


def test_without_a_foreground_colours_are_the_drawing_rooms(islands):
    maps, _ = islands
    found = pca_rgb(maps, foreground=False)
    for ours, theirs in zip(found.colours, plotting.pca_rgb(maps), strict=True):
        assert (ours == theirs).all()
    assert found.component is None and all(mask.all() for mask in found.foreground)


def test_features_of_different_grids_are_coloured(dinov2):
    chosen = {name: photographs()[name] for name in ("cat", "coffee")}
    features = extract_features(dinov2, chosen, size=112, fit="resize")
    found = pca_rgb(features)
    assert [one.shape[:2] for one in found.colours] == [tuple(grid) for grid in features.grids]
    bare = dataclasses.replace(features, patches=None)
    with pytest.raises(ValueError, match="patches=True"):
        pca_rgb(bare)


def test_patches_that_are_all_alike_are_coloured_whole(caplog):
    found = pca_rgb(np.ones((2, 5, 5, 8)))
    assert all(mask.all() for mask in found.foreground) and "no foreground" in caplog.text
    np.testing.assert_allclose(found.colours[0], 0.5)


@pytest.mark.parametrize(
    ("patches", "component", "said"),
    [
        ([np.ones((2, 8))], None, r"\(N, h, w, D\)"),
        ([np.ones((2, 2, 8)), np.ones((2, 2, 9))], None, "of one width"),
        ([], None, "four or more"),
        ([np.ones((4, 4, 8))], 8, "component=8"),
    ],
)
def test_impossible_patches_are_refused(patches, component, said):
    with pytest.raises(ValueError, match=said):
        pca_rgb(patches, component=component)

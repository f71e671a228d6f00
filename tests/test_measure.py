"""Scores against their definitions, and against scikit-learn and scipy where those have them."""

import math

import numpy as np
import pytest
from scipy.integrate import trapezoid
from scipy.ndimage import label
from sklearn.metrics import average_precision_score, roc_auc_score

from dinov2_helpers import measure


@pytest.fixture
def random():
    return np.random.default_rng(0)


def test_a_share_has_wilsons_interval():
    """By the formula, written out."""
    z, share, n = 1.959964, 0.93, 100
    centre = (share + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z * np.sqrt(share * (1 - share) / n + z**2 / (4 * n**2)) / (1 + z**2 / n)
    assert np.allclose(measure.wilson(93, 100), (0.93, centre - half, centre + half), atol=1e-6)
    assert measure.share([True, False, False, False]).value == 0.25
    assert str(measure.wilson(93, 100)) == "0.930 (0.863 to 0.966)"


@pytest.mark.parametrize(("hits", "n"), [(0, 0), (3, 2), (-1, 5)])
def test_what_is_no_share_is_refused(hits, n):
    with pytest.raises(ValueError, match="no share"):
        measure.wilson(hits, n)


def test_a_bootstrap_covers_the_mean_as_often_as_it_says(random):
    covered = 0
    for run in range(200):
        _, low, high = measure.bootstrap(random.normal(1.0, 1.0, 60), draws=400, seed=run)
        covered += low <= 1.0 <= high
    assert 0.88 <= covered / 200 <= 0.99


def test_values_of_one_cluster_are_drawn_together(random):
    """Ten copies of each value say no more than one does."""
    values = random.normal(size=30)
    once = measure.bootstrap(values)
    copies = measure.bootstrap(np.repeat(values, 10), clusters=np.repeat(np.arange(30), 10))
    alone = measure.bootstrap(np.repeat(values, 10))
    assert np.allclose(copies, once)
    assert alone.high - alone.low < 0.5 * (once.high - once.low)


@pytest.mark.parametrize(
    ("values", "clusters", "said"),
    [([], None, "one value"), ([1.0, np.nan], None, "finite"), ([1.0, 2.0], [1], "labels")],
)
def test_a_bootstrap_of_nothing_or_of_holes_is_refused(values, clusters, said):
    with pytest.raises(ValueError, match=said):
        measure.bootstrap(values, clusters=clusters)


def test_a_score_that_is_no_mean_has_an_interval(random):
    positive = np.arange(80) < 40
    scores = random.normal(size=80) + positive

    def drawn(rows):
        return measure.auroc(scores[rows], positive[rows])

    value, low, high = measure.bootstrap_of(drawn, 80, draws=300)
    assert value == roc_auc_score(positive, scores)
    assert 0.5 < low < value < high < 1


def test_an_auroc_needs_both_kinds():
    assert measure.auroc([[1, 2], [3, 4]], [[False, False], [True, True]]) == 1
    with pytest.raises(ValueError, match="one kind"):
        measure.auroc([1, 2], [True, True])


def test_rankings_are_scored_as_defined(random):
    similarity = random.normal(size=(20, 30))
    relevant = random.random((20, 30)) < 0.2
    relevant[:, 0] = True
    ordered = measure.in_order(similarity, relevant)
    expected = [average_precision_score(*pair) for pair in zip(relevant, similarity, strict=True)]
    assert np.allclose(measure.average_precision(ordered), expected)
    for query in range(20):
        first = np.argsort(-similarity[query])[:5]
        assert measure.hit_at(ordered, 5)[query] == relevant[query][first].any()
        share = relevant[query][first].sum() / relevant[query].sum()
        assert measure.recall_at(ordered, 5)[query] == share
    assert (measure.overlap_at([[1, 2], [-1, 5]], [[2, 3], [4, 6]]) == [0.5, 0]).all()


def test_a_query_without_an_answer_is_refused():
    with pytest.raises(ValueError, match="query 1"):
        measure.in_order(np.ones((2, 3)), [[True, False, False], [False] * 3])


def test_masks():
    left = np.zeros((20, 20), bool)
    left[:, :10] = True
    shifted = np.roll(left, 1, axis=1)
    shifted[:, 0] = True
    empty = np.zeros_like(left)
    assert measure.iou(left, left) == measure.iou(empty, empty) == 1
    assert measure.iou(left, ~left) == measure.iou(left, empty) == 0
    assert measure.iou(left, shifted) == 10 / 11
    assert measure.boundary_f(left, shifted, tolerance=2) == 1
    assert measure.boundary_f(left, shifted, tolerance=0) == 0
    assert measure.boundary_f(left, empty) == 0
    assert measure.boundary_f(empty, empty) == measure.boundary_f(~empty, ~empty) == 1
    with pytest.raises(ValueError, match="pixels"):
        measure.iou(left, left[:5])


def slow_aupro(maps, masks, limit):
    """As it is defined: every threshold, every connected flaw."""
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
    x, y = np.transpose(curve)
    grid = np.union1d(x[x <= limit], [limit])
    return trapezoid(np.interp(grid, x, y), grid) / limit


@pytest.mark.parametrize("limit", [0.05, 0.3, 1.0])
@pytest.mark.parametrize("levels", [3, 1000])
def test_aupro_is_the_area_under_its_curve(random, limit, levels):
    masks = random.random((4, 12, 12)) < 0.08
    maps = np.round((random.random(masks.shape) + 0.4 * masks) * levels)
    assert np.isclose(measure.aupro(maps, masks, limit), slow_aupro(maps, masks, limit), atol=2e-3)
    assert measure.pixel_auroc(maps, masks) == roc_auc_score(masks.ravel(), maps.ravel())


def test_maps_may_have_different_sizes_and_must_fit_their_masks():
    maps = [np.zeros((4, 4)), np.ones((2, 6))]
    masks = [np.zeros((4, 4), bool), np.ones((2, 6), bool)]
    assert measure.aupro(maps, masks) == measure.pixel_auroc(maps, masks) == 1
    with pytest.raises(ValueError, match="map of"):
        measure.aupro(maps, masks[::-1])
    with pytest.raises(ValueError, match="one kind"):
        measure.aupro(maps[:1], masks[:1])


def test_depth_by_hand():
    truth = np.array([[1.0, 2.0], [4.0, np.nan]])
    guess = np.array([[1.1, 4.0], [4.0, 0.0]])
    found = measure.depth_scores(guess, truth)
    assert found["delta1"] == pytest.approx(2 / 3)
    assert found["AbsRel"] == pytest.approx((0.1 + 1 + 0) / 3)
    assert found["RMSE"] == pytest.approx(np.sqrt((0.01 + 4 + 0) / 3))
    assert found["SILog"] == pytest.approx(np.log([1.1, 2, 1]).std())
    for wrong in (np.full((2, 2), np.nan), truth[:1], -truth):
        with pytest.raises(ValueError, match=r"known|pixels|above 0"):
            measure.depth_scores(guess, wrong)


def test_scale_and_shift_are_found(random):
    truth = random.uniform(1, 5, (6, 6))
    assert measure.fit_scale(3 * truth, truth) == pytest.approx(1 / 3)
    guess = 1 / (0.5 / truth + 0.2)
    scale, shift = measure.fit_scale_and_shift(guess, truth)
    assert np.allclose(1 / (scale / guess + shift), truth)


def test_mcnemar_asks_a_coin_about_the_disagreements():
    first = np.repeat([True, True, False, False], [40, 12, 3, 9])
    second = np.repeat([True, False, True, False], [40, 12, 3, 9])
    found = measure.mcnemar(first, second)
    assert found[:2] == (12, 3)
    # of 15 tosses, 12 or more alike on either side
    ways = sum(math.comb(15, k) for k in range(12, 16))
    assert found.p == pytest.approx(2 * ways / 2**15)
    assert measure.mcnemar(first, first).p == 1
    with pytest.raises(ValueError, match="one answer each"):
        measure.mcnemar(first, second[1:])

"""The few lines of lesson 6 are the library's algorithms."""

import numpy as np
import pytest
from sklearn.decomposition import PCA

from dinov2_helpers.techniques import conformal, memory
from dinov2_helpers.techniques.anomaly import top_mean
from tools import pairing
from tools.lift import lift
from tools.project import Project


@pytest.fixture(scope="module")
def lesson():
    source = pairing.read_source(Project(), "06_anomaly_detection")
    names = [
        "conformal_threshold",
        "distance_maps",
        "held_out_scores",
        "mixture_error",
        "nearest",
        "neighbours_of",
        "rebuilt_maps",
        "residual",
        "top_mean",
        "unit",
    ]
    return lift(source, *names)


@pytest.fixture
def maps():
    """Patches of length 1 of 6 good and 3 other pictures, (N, 5, 4, 8)."""
    random = np.random.default_rng(0)
    return tuple(memory.unit(random.normal(size=(n, 5, 4, 8)).astype(np.float32)) for n in (6, 3))


def test_the_nearest_good_patch(lesson, maps):
    good, new = maps
    bank = memory.Anywhere(memory.rows_of(list(good)), 1)
    squared = np.stack([bank.errors(one) for one in new])
    # of vectors of length 1 the squared distance is twice one less the cosine
    assert lesson["distance_maps"](good, new) == pytest.approx(squared / 2, abs=1e-5)


@pytest.mark.parametrize("k", [2, 10])
def test_the_mixture(lesson, maps, k):
    good, new = maps
    bank = memory.rows_of(list(good))
    expected = np.stack([memory.Anywhere(bank, k).errors(one) for one in new])
    assert lesson["rebuilt_maps"](bank, new, k) == pytest.approx(expected, abs=1e-4)


def test_the_oddest_hundredth(lesson):
    errors = np.random.default_rng(0).random((2, 32, 32))
    assert lesson["top_mean"](errors) == pytest.approx([top_mean(one) for one in errors])


@pytest.mark.parametrize("alpha", [0.05, 0.1, 0.3])
def test_the_conformal_threshold(lesson, alpha):
    scores = np.random.default_rng(0).random(40)
    expected = conformal.threshold(scores, alpha).value
    assert lesson["conformal_threshold"](scores, alpha) == expected


def test_a_promise_that_cannot_be_made_is_refused(lesson):
    with pytest.raises(ValueError, match="8 scores cannot promise 5%"):
        lesson["conformal_threshold"](np.arange(8), 0.05)


def test_what_a_pca_leaves_over(lesson):
    random = np.random.default_rng(0)
    good, new = random.normal(size=(50, 6)), random.normal(size=(4, 6))
    pca = PCA(0.99, svd_solver="full").fit(good)
    left_over = new - pca.inverse_transform(pca.transform(new))
    assert lesson["residual"](good, new) == pytest.approx((left_over**2).sum(1))


def test_held_out_pictures_do_not_find_themselves(lesson, maps):
    good, _ = maps
    scores = lesson["held_out_scores"](good)
    assert scores.shape == (6,)
    assert (scores > 1e-3).all()

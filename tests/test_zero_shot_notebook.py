"""The functions of notebook 02, lifted out of its text and compared with references."""

import numpy as np
import pytest
from scipy.linalg import orthogonal_procrustes
from scipy.special import softmax
from sklearn.linear_model import Ridge

from tools import pairing
from tools.lift import lift
from tools.project import Project


@pytest.fixture(scope="module")
def notebook():
    source = pairing.read_source(Project(), "02_zero_shot_classification")
    return lift(
        source, "fit_ridge", "fit_procrustes", "cross", "best_strength", "fit_temperature",
        "reliability", "interval", "cut", "pad", "project", "named", "with_article", "pair_name",
    )  # fmt: skip


@pytest.fixture
def pairs():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(60, 7)) * rng.uniform(0.5, 3, 7) + 2
    return x, x @ rng.normal(size=(7, 4)) + rng.normal(size=4) + 0.3 * rng.normal(size=(60, 4))


@pytest.mark.parametrize("strength", [1e-4, 0.1, 10.0])
def test_ridge_is_that_of_sklearn(notebook, pairs, strength):
    x, y = pairs
    matrix, offset = notebook["fit_ridge"](x, y, strength)
    alpha = strength * ((x - x.mean(0)) ** 2).sum() / x.shape[1]
    reference = Ridge(alpha).fit(x, y)
    np.testing.assert_allclose(x @ matrix + offset, reference.predict(x), atol=1e-8)


def test_procrustes_is_that_of_scipy(notebook):
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(2, 40, 5))
    matrix, offset = notebook["fit_procrustes"](x, y)
    x0, y0 = x - x.mean(0), y - y.mean(0)
    rotation, total = orthogonal_procrustes(x0, y0)
    np.testing.assert_allclose(matrix, rotation * total / (x0**2).sum(), atol=1e-8)
    np.testing.assert_allclose(x.mean(0) @ matrix + offset, y.mean(0), atol=1e-8)


@pytest.mark.parametrize("shape", [(7, 4), (4, 7)])
def test_procrustes_finds_a_rotation_between_spaces_of_different_size(notebook, shape):
    rng = np.random.default_rng(0)
    matrix, _ = notebook["fit_procrustes"](*(rng.normal(size=(50, n)) for n in shape))
    small = min(shape)
    gram = matrix.T @ matrix if shape[0] > shape[1] else matrix @ matrix.T
    np.testing.assert_allclose(gram / gram[0, 0], np.eye(small), atol=1e-8)


def test_a_bridge_is_crossed_at_unit_length(notebook, pairs):
    x, y = pairs
    vectors = notebook["cross"](notebook["fit_ridge"](x, y, 0.1), x)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1)
    assert (vectors * y).sum(1).mean() / np.linalg.norm(y, axis=1).mean() > 0.9


def test_noise_asks_for_a_strong_penalty_and_a_clean_map_for_a_weak_one(notebook, pairs):
    x, y = pairs
    noise = np.random.default_rng(1).normal(size=(60, 4)) + 3
    assert notebook["best_strength"](x, noise) > notebook["best_strength"](x, y)


def test_the_temperature_of_a_sampled_answer_is_found_again(notebook):
    rng = np.random.default_rng(0)
    cosines = rng.normal(size=(20_000, 5))
    chances = softmax(cosines / 0.4, axis=1)
    truth = (chances.cumsum(1) > rng.random((20_000, 1))).argmax(1)
    assert notebook["fit_temperature"](cosines, truth) == pytest.approx(0.4, rel=0.05)


def test_calibration_error_against_a_loop(notebook):
    rng = np.random.default_rng(0)
    probabilities = softmax(rng.normal(size=(200, 4)), axis=1)
    truth = rng.integers(4, size=200)
    n, hits, mean, error = notebook["reliability"](probabilities, truth, bins=10)
    confidence = probabilities.max(1)
    right = probabilities.argmax(1) == truth
    expected = 0.0
    for b in range(10):
        rows = (confidence >= b / 10) & (confidence < (b + 1) / 10)
        assert n[b] == rows.sum() and hits[b] == right[rows].sum()
        if rows.any():
            expected += rows.mean() * abs(confidence[rows].mean() - right[rows].mean())
            assert mean[b] == pytest.approx(confidence[rows].mean())
        else:
            assert np.isnan(mean[b])
    assert error == pytest.approx(expected)


def test_a_sure_answer_falls_into_the_last_bin(notebook):
    n, *_, error = notebook["reliability"](np.eye(3), np.arange(3))
    assert n[-1] == 3 and error == 0


def test_the_interval_is_wilsons(notebook):
    share, low, high = notebook["interval"]([True] * 8 + [False] * 2)
    z, n = 1.959964, 10
    centre = (share + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z * np.sqrt(share * (1 - share) / n + z**2 / (4 * n**2)) / (1 + z**2 / n)
    assert (low, high) == pytest.approx((centre - half, centre + half), abs=1e-6)


def test_cutting_and_padding_say_the_same(notebook):
    rng = np.random.default_rng(0)
    x, text = rng.normal(size=(30, 9)), rng.normal(size=(4, 6))
    dots = [a @ b.T for a, b in (notebook["cut"](x, text), notebook["pad"](x, text))]
    np.testing.assert_allclose(*dots)
    projected, same = notebook["project"](x, text, seed=3)
    assert projected.shape == (30, 6) and same is text
    assert notebook["named"](projected, text).shape == (30,)


def test_names_take_their_article(notebook):
    assert notebook["with_article"]("airplane") == "an airplane"
    assert notebook["pair_name"]("orange", "dog") == "an orange dog"
    assert notebook["pair_name"]("red", "snowman") == "a snowman with a red scarf"

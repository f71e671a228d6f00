"""Lesson 2 writes out in a few lines what the library does: both give the same."""

import numpy as np
import pytest

from dinov2_helpers.extraction import Embeddings
from dinov2_helpers.techniques import FewShot
from dinov2_helpers.techniques.bridge import Ridge
from dinov2_helpers.techniques.vectors import unit
from tools import pairing
from tools.lift import lift
from tools.project import Project

STRENGTHS = (1e-6, 0.1, 1.0)


@pytest.fixture(scope="module")
def lesson():
    source = pairing.read_source(Project(), "02_zero_shot_classification")
    return lift(source, "fit_bridge", "cross", "nearest_mean", "profile")


@pytest.fixture(scope="module")
def pairs():
    """Pictures in two spaces, (90, 20) and (90, 8), neither around 0."""
    random = np.random.default_rng(1)
    x = random.normal(size=(90, 20)) * np.linspace(0.2, 3, 20) + 2
    return x, x @ random.normal(size=(20, 8)) + 0.5 * random.normal(size=(90, 8)) - 1


@pytest.mark.parametrize("strength", STRENGTHS)
def test_its_bridge_is_the_ridge_of_the_library(lesson, pairs, strength):
    x, y = pairs
    matrix, offset = lesson["fit_bridge"](x, y, strength)
    library = Ridge(x, y, "none").solve(strength)
    np.testing.assert_allclose(matrix, library.matrix, atol=1e-9)
    np.testing.assert_allclose(offset, library.offset, atol=1e-9)
    assert np.abs(matrix).max() > 0.1


def test_what_crosses_lands_where_it_does_in_the_library(lesson, pairs):
    x, y = pairs
    crossed = lesson["cross"](lesson["fit_bridge"](x, y, 0.1), x)
    library = Ridge(x, y, "none").solve(0.1)
    np.testing.assert_allclose(crossed, unit(x @ library.matrix + library.offset), atol=1e-6)


def embeddings(vectors):
    rows = np.arange(len(vectors))
    return Embeddings(vectors.astype(np.float32), rows, tuple(map(str, rows)), ())


def test_its_nearest_mean_is_that_of_few_shot(lesson, dinov2):
    random = np.random.default_rng(2)
    centres = random.normal(size=(16, 12))
    classes = np.repeat(np.arange(16), 4)  # the lesson has sixteen of them
    labelled = unit(centres[classes] + random.normal(size=(64, 12)))
    new = centres[random.integers(0, 16, 50)] + random.normal(size=(50, 12))
    library = FewShot(dinov2, "mean").fit(embeddings(labelled), classes)
    expected = [int(label) for label in library.predict(embeddings(new)).labels]
    assert len(set(expected)) > 8
    assert lesson["nearest_mean"](labelled, classes, new).tolist() == expected


def test_a_profile_is_how_well_each_name_fits_beside_the_others(lesson):
    lesson["clip_names"] = np.eye(3)
    profiles = lesson["profile"](np.array([[3.0, 0.0, 0.0], [5.0, 5.0, 5.0]]))
    np.testing.assert_allclose(profiles, [[2, -1, -1], [0, 0, 0]], atol=1e-12)

"""Lesson 1 writes out in a few lines what the library does: both give the same."""

import numpy as np
import pytest

from dinov2_helpers.extraction import Embeddings
from dinov2_helpers.techniques import KnnClassifier, search
from tools import pairing
from tools.lift import lift
from tools.project import Project


@pytest.fixture(scope="module")
def lesson():
    return lift(pairing.read_source(Project(), "01_feature_space"), "unit", "knn")


@pytest.fixture(scope="module")
def toys():
    """Vectors (120, 24) and (40, 24) around five centres that overlap, and classes of the first."""
    random = np.random.default_rng(0)
    centres = random.normal(size=(5, 24))
    classes = random.integers(0, 5, 120)
    gallery = centres[classes] + 2 * random.normal(size=(120, 24))
    queries = centres[random.integers(0, 5, 40)] + 2 * random.normal(size=(40, 24))
    labels = np.array(["cat", "dog", "fish", "mug", "tree"])[classes]
    return gallery.astype(np.float32), labels, queries.astype(np.float32)


def embeddings(vectors):
    rows = np.arange(len(vectors))
    return Embeddings(vectors, rows, tuple(map(str, rows)), ())


@pytest.mark.parametrize("k", [1, 10])
def test_its_vote_is_that_of_the_library(lesson, toys, dinov2, k):
    gallery, labels, queries = toys
    library = KnnClassifier(dinov2, k=k).fit(embeddings(gallery), labels)
    expected = library.predict(embeddings(queries)).labels
    assert len(set(expected)) > 1
    assert lesson["knn"](gallery, labels, queries, k=k).tolist() == list(expected)


def test_its_two_lines_find_what_the_search_of_the_library_finds(lesson, toys):
    gallery, _, queries = toys
    similarity = lesson["unit"](queries) @ lesson["unit"](gallery).T
    nearest = np.argsort(-similarity, axis=1)[:, :6]
    found = search(queries, gallery, k=6)
    assert found.rows.tolist() == nearest.tolist()
    cosines = np.take_along_axis(similarity, nearest, axis=1)
    np.testing.assert_allclose(found.cosines, cosines, atol=1e-6)

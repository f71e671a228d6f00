"""The few lines of lesson 4 are the library's algorithms."""

import json

import numpy as np
import pytest

from dinov2_helpers.measure import average_precision, in_order
from dinov2_helpers.techniques import retrieval, search
from dinov2_helpers.techniques.vector_search import Space
from tools import pairing
from tools.lift import lift
from tools.project import Project


@pytest.fixture(scope="module")
def lesson():
    source = pairing.read_source(Project(), "04_cross_modal_retrieval")
    names = [
        "CLIP_FOR_BOTH",
        "TWO_MODELS",
        "changed",
        "check_unit_length",
        "fuse",
        "nearest_others",
        "sentence_for",
        "unit",
    ]
    return lift(source, *names)


@pytest.fixture
def vectors():
    return np.random.default_rng(0).normal(size=(40, 8)).astype(np.float32)


def test_neighbours_are_those_of_the_library(lesson, vectors):
    found = lesson["nearest_others"](lesson["unit"](vectors), k=5)
    assert (found == search(vectors, k=5).rows).all()


def test_normalised_vectors_change_nothing_and_long_ones_do(lesson, vectors):
    assert lesson["changed"](lesson["unit"](vectors)) == 0
    longer = vectors * np.linspace(1, 20, 40)[:, None]
    assert lesson["changed"](longer) > 0.2


def test_vectors_of_another_length_are_found(lesson, vectors):
    lesson["check_unit_length"](lesson["unit"](vectors))
    with pytest.raises(ValueError, match="40 of 40 vectors do not have length 1"):
        lesson["check_unit_length"](10 * vectors)


class Vectors:
    """A space of an index, held in memory."""

    built = None
    scale = Space.scale

    def __init__(self, vectors):
        self.vectors, self.ids = vectors, np.arange(len(vectors))

    def __len__(self):
        return len(self.vectors)

    def cosines(self, query, ids):
        return self.vectors[ids] @ query


def test_late_fusion_is_that_of_the_index(lesson, vectors):
    unit = lesson["unit"]
    spaces = [Vectors(unit(vectors)), Vectors(unit(vectors[:, ::-1] ** 3))]
    picture, words = (space.vectors[3] for space in spaces)
    fused = lesson["fuse"](
        (spaces[0].vectors @ picture)[None], (spaces[1].vectors @ words)[None], 0.6
    )[0]
    parts = [
        retrieval._Part(spaces[0], picture, 0.4),
        retrieval._Part(spaces[1], words, 0.6),
    ]
    ids, scores = retrieval._fused(parts, 10, None)
    assert (np.argsort(-fused, kind="stable")[:10] == ids).all()
    assert fused[ids] == pytest.approx(scores, abs=1e-5)


def test_an_order_with_all_right_pictures_first_is_perfect():
    similarity = np.array([[0.9, 0.8, 0.1]])
    assert average_precision(in_order(similarity, np.array([[True, True, False]])))[0] == 1


@pytest.mark.parametrize(
    ("name", "surface", "said"),
    [("dog", "grass", "a dog on grass"), ("airplane", "wood", "an airplane on a wooden floor")],
)
def test_sentences_are_english(lesson, name, surface, said):
    assert lesson["sentence_for"](name, surface) == said


def test_the_weights_are_those_that_the_evidence_has_chosen(lesson):
    recorded = json.loads((Project().results / "tiny.json").read_text(encoding="utf-8"))
    assert lesson["TWO_MODELS"] == pytest.approx(recorded["04.weight_two_models"])
    assert lesson["CLIP_FOR_BOTH"] == pytest.approx(recorded["04.weight_clip_for_both"])

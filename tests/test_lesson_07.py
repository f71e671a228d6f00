"""Lesson 7 on small pieces: what its checks say, and what its impostors are.

That its loop draws what the library's guide draws is tested in test_techniques_guidance.py.
"""

import numpy as np
import pytest

from tools import pairing
from tools.lift import exercise_problems, lift
from tools.project import Project


@pytest.fixture(scope="module")
def source():
    return pairing.read_source(Project(), "07_guided_diffusion")


def test_a_shuffled_picture_has_the_same_pixels_elsewhere(source):
    lesson = lift(source, "shuffled")
    picture = np.random.default_rng(1).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    found = lesson["shuffled"](picture, np.random.default_rng(0))
    assert found.shape == picture.shape and (found != picture).any()
    assert np.array_equal(np.sort(found, axis=None), np.sort(picture, axis=None))
    first = picture[:8, :8]
    places = [(r, c) for r in range(0, 64, 8) for c in range(0, 64, 8)]
    assert sum(np.array_equal(found[r : r + 8, c : c + 8], first) for r, c in places) == 1


def test_a_shape_knows_no_colour_and_no_brightness(source):
    lesson = lift(source, "shape_of")
    picture = np.zeros((64, 64, 3))
    picture[16:48, 24:40] = 200.0
    shape = lesson["shape_of"](picture)
    assert np.linalg.norm(shape) == pytest.approx(1)
    assert shape @ lesson["shape_of"](picture * [1.0, 0.2, 0.1]) == pytest.approx(1, abs=0.02)
    turned = lesson["shape_of"](picture.transpose(1, 0, 2))
    assert shape @ turned < 0.8


def test_exercises_can_be_solved_and_their_checks_tell(source):
    assert exercise_problems(source) == []

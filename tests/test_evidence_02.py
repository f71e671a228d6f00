"""The functions and rules of evidence 02, lifted out of its text, on made-up numbers."""

import numpy as np
import pytest
from scipy.linalg import orthogonal_procrustes
from scipy.special import softmax

from dinov2_helpers.measure import Interval
from tools import pairing
from tools.lift import lift
from tools.project import Project


@pytest.fixture(scope="module")
def notebook():
    source = pairing.read_source(Project(), "evidence/02_zero_shot_classification")
    return lift(
        source, "verdict_on_repair", "verdict_on_composing", "fit_temperature", "noise_floor",
        "calibration_error", "cut", "pad", "project", "named", "rotated", "pair_name", "versus",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("repaired", "verdict"),
    [
        ((0.08, 0.05, 0.12), "does not hold"),  # at chance
        ((0.18, 0.14, 0.23), "does not hold"),  # better than chance, not than luck
        ((0.25, 0.20, 0.30), "holds in part"),
        ((0.40, 0.34, 0.46), "holds in part"),  # not certainly above half way
        ((0.45, 0.39, 0.51), "holds"),
        ((0.60, 0.10, 0.99), "does not hold"),  # nothing is known of it
    ],
)
def test_the_verdict_on_repair_can_come_out_in_three_ways(notebook, repaired, verdict):
    given = notebook["verdict_on_repair"](Interval(*repaired), knows_nothing=0.15, clip=0.6)
    assert given == verdict


@pytest.mark.parametrize(
    ("never_seen", "less_than_usual", "verdict"),
    [
        ((0.60, 0.46, 0.72), (0.02, -0.13, 0.17), "holds"),
        ((0.24, 0.14, 0.37), (0.38, 0.24, 0.51), "holds in part"),
        ((0.02, 0.00, 0.10), (0.60, 0.50, 0.70), "does not hold"),
        ((0.04, 0.01, 0.13), (0.01, -0.05, 0.07), "does not hold"),  # nor does it know usual ones
    ],
)
def test_the_verdict_on_composing_can_come_out_in_three_ways(
    notebook, never_seen, less_than_usual, verdict
):
    given = notebook["verdict_on_composing"](
        Interval(*never_seen), guessed=0.05, less_than_usual=Interval(*less_than_usual)
    )
    assert given == verdict


def test_a_rotation_between_equal_spaces_is_that_of_scipy(notebook):
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(2, 40, 5))
    x0, y0 = x - x.mean(0), y - y.mean(0)
    rotation, total = orthogonal_procrustes(x0, y0)
    expected = x0 @ rotation * total / (x0**2).sum() + y.mean(0)
    np.testing.assert_allclose(notebook["rotated"](x, y, x), expected, atol=1e-8)


@pytest.mark.parametrize(("wide", "narrow"), [(7, 4), (4, 7)])
def test_a_rotation_between_spaces_of_different_size_is_found_again(notebook, wide, narrow):
    rng = np.random.default_rng(0)
    small = min(wide, narrow)
    x = rng.normal(size=(50, small)) @ np.linalg.qr(rng.normal(size=(wide, small)))[0].T
    y = 2 * x @ np.linalg.qr(rng.normal(size=(wide, wide)))[0][:, :small]
    y = np.pad(y, ((0, 0), (0, max(0, narrow - small)))) + 1
    if wide == small:
        np.testing.assert_allclose(notebook["rotated"](x, y, x), y, atol=1e-8)
    assert notebook["rotated"](x, y, x[:3]).shape == (3, narrow)


def test_the_temperature_of_a_sampled_answer_is_found_again(notebook):
    rng = np.random.default_rng(0)
    cosines = rng.normal(size=(20_000, 5))
    chances = softmax(cosines / 0.4, axis=1)
    truth = (chances.cumsum(1) > rng.random((20_000, 1))).argmax(1)
    assert notebook["fit_temperature"](cosines, truth) == pytest.approx(0.4, rel=0.05)


def test_calibration_error_against_a_loop(notebook):
    rng = np.random.default_rng(0)
    confidence = rng.random(200)
    right = rng.random(200) < 0.4
    expected = 0.0
    for b in range(10):
        rows = (confidence >= b / 10) & (confidence < (b + 1) / 10)
        if rows.any():
            expected += rows.mean() * abs(confidence[rows].mean() - right[rows].mean())
    assert notebook["calibration_error"](confidence, right) == pytest.approx(expected)
    assert notebook["calibration_error"](np.ones(3), np.ones(3, bool)) == 0


def test_a_calibrated_model_lies_on_the_noise_floor_and_a_boaster_above_it(notebook):
    rng = np.random.default_rng(7)
    confidence = rng.uniform(0.3, 0.9, 256)
    floor = notebook["noise_floor"](confidence, draws=500)
    honest = rng.random(256) < confidence
    boaster = rng.random(256) < confidence - 0.25
    assert notebook["calibration_error"](confidence, honest) < np.quantile(floor, 0.99)
    assert notebook["calibration_error"](confidence, boaster) > floor.max()
    assert 0 < floor.mean() < 0.1
    assert notebook["noise_floor"](np.tile(confidence, 100), draws=20).mean() < floor.mean() / 5


def test_cutting_and_padding_say_the_same(notebook):
    rng = np.random.default_rng(0)
    x, text = rng.normal(size=(30, 9)), rng.normal(size=(4, 6))
    dots = [a @ b.T for a, b in (notebook["cut"](x, text), notebook["pad"](x, text))]
    np.testing.assert_allclose(*dots)
    projected, same = notebook["project"](x, text, seed=3)
    assert projected.shape == (30, 6) and same is text
    cosines = projected @ text.T / np.linalg.norm(text, axis=1)
    assert (notebook["named"](projected, text) == cosines.argmax(1)).all()


def test_pairs_take_their_article(notebook):
    assert notebook["pair_name"]("orange", "dog") == "an orange dog"
    assert notebook["pair_name"]("red", "snowman") == "a snowman with a red scarf"


@pytest.mark.parametrize(
    ("only_first", "only_second", "word"),
    [(30, 5, "names more than"), (5, 30, "names fewer than"), (9, 11, "cannot be told from")],
)
def test_a_comparison_says_who_is_ahead_if_it_can_be_told(notebook, only_first, only_second, word):
    first = np.repeat([True, False, True], [only_first, only_second, 50])
    second = np.repeat([False, True, True], [only_first, only_second, 50])
    said = notebook["versus"]("A", "B", first, second)
    assert said.startswith(f"A {word} B") and f"{only_first} against {only_second}" in said

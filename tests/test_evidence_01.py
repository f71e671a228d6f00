"""Functions of the evidence on the feature space, lifted out of its text."""

import numpy as np
import pytest
from PIL import Image

from dinov2_helpers.measure import Interval
from tools import pairing
from tools.lift import lift
from tools.project import Project


@pytest.fixture(scope="module")
def evidence():
    source = pairing.read_source(Project(), "evidence/01_feature_space")
    return lift(
        source,
        "tsne_verdict",
        "contrast",
        "consistency_verdict",
        "closer_by_angle",
        "closer_than_rival",
        "gain_over_ignorance",
        "hide",
        "change",
        "borne",
        "robustness_verdict",
        "lateness",
        "hierarchy_verdict",
        "rate_over_toys",
    )


def around(value, half_width=0.02):
    return Interval(value, value - half_width, value + half_width)


@pytest.mark.parametrize(
    ("on_map", "in_space", "verdict"),
    [
        (around(0.7), around(0.6), "holds"),
        (around(0.85), around(0.6), "holds in part"),
        (around(0.98, 0.3), around(0.6), "holds in part"),
        (around(1.0), around(0.6), "does not hold"),
    ],
)
def test_a_map_of_three_is_judged_by_the_contrast_that_it_keeps(
    evidence, on_map, in_space, verdict
):
    assert evidence["tsne_verdict"](on_map, in_space) == verdict


def test_contrast_is_one_in_an_equilateral_triangle(evidence):
    assert evidence["contrast"](np.array([[0, 0], [1, 0], [0.5, 3**0.5 / 2]])) == pytest.approx(1)
    assert evidence["contrast"](np.array([[0, 0], [0, 2], [4, 1]])) < 0.5


@pytest.mark.parametrize(
    ("own", "gain", "verdict"),
    [
        ([0.95, 0.9], [0.2, 0.1], "holds"),
        ([0.95, 0.76], [0.2, 0.1], "holds in part"),  # not certainly above three quarters
        ([0.95, 0.9], [0.2, 0.01], "holds in part"),  # not certainly more than knows nothing
        ([0.95, 0.51], [0.2, 0.1], "does not hold"),  # a coin
        ([0.95, 0.9], [0.2, -0.1], "does not hold"),  # what knows nothing does better
    ],
)
def test_consistency_needs_more_than_what_knows_nothing(evidence, own, gain, verdict):
    own = [around(one) for one in own]
    assert evidence["consistency_verdict"](own, [around(one) for one in gain]) == verdict


@pytest.mark.parametrize(
    ("closer", "gain", "kept", "outcome"),
    [
        (0.95, 0.1, 0.95, 1),
        (0.95, 0.0, 0.95, 1),  # no better than what knows nothing, and still borne
        (0.95, -0.1, 0.95, 0),
        (0.95, 0.1, 0.85, 0),
        (0.95, 0.1, 0.6, -1),
        (0.51, 0.1, 0.95, -1),
    ],
)
def test_a_disturbance_is_borne_or_not(evidence, closer, gain, kept, outcome):
    assert evidence["borne"](around(closer), around(gain), around(kept)) == outcome


@pytest.mark.parametrize(
    ("light", "occlusion", "verdict"),
    [
        (1, 1, "holds"),
        (1, 0, "holds in part"),
        (1, -1, "holds in part"),
        (0, 0, "holds in part"),
        (-1, -1, "does not hold"),
    ],
)
def test_robustness_takes_both_disturbances(evidence, light, occlusion, verdict):
    assert evidence["robustness_verdict"](light, occlusion) == verdict


@pytest.mark.parametrize(
    ("concept", "low_levels", "gain", "verdict"),
    [
        (0.8, [0.2, 0.3], 0.1, "holds"),
        (0.8, [0.2, 0.6], 0.1, "holds in part"),  # one low-level property is late
        (0.8, [0.2, 0.3], 0.0, "holds in part"),  # texture needs no layer
        (0.8, [0.7, 0.6], 0.1, "does not hold"),  # both are late
        (0.3, [0.2, 0.3], 0.1, "does not hold"),  # the class is there at once
    ],
)
def test_a_hierarchy_needs_an_order(evidence, concept, low_levels, gain, verdict):
    low_levels = [around(one) for one in low_levels]
    found = evidence["hierarchy_verdict"](around(concept), low_levels, around(gain))
    assert found == verdict


def test_lateness_counts_above_chance(evidence):
    last = np.arange(100) < 90
    assert evidence["lateness"](last, last, 0.1).value == 0
    assert evidence["lateness"](np.arange(100) < 10, last, 0.1).value == pytest.approx(1)
    middle = evidence["lateness"](np.arange(100) < 50, last, 0.1)
    assert middle.value == pytest.approx(0.5) and middle.low < 0.5 < middle.high


def test_a_toy_is_closer_to_itself_than_to_its_rival_only_if_it_is(evidence):
    first, second = np.eye(2)
    toys = np.tile(first, (3, 24, 1))
    rivals = np.tile(second, (3, 24, 1))
    assert evidence["closer_by_angle"](toys, rivals).shape == (3, 24, 12)
    assert (evidence["closer_by_angle"](toys, rivals) == 1).all()
    assert (evidence["closer_by_angle"](toys, toys) == 0.5).all()
    looks_away = toys.copy()
    looks_away[:, 3] = second  # one view of each toy looks like the rival
    found = evidence["closer_by_angle"](looks_away, rivals)
    assert (found[:, 3] == 0).all()
    assert (found[:, 2, 0] == 0.5).all() and (found[:, 2, 1:] == 1).all()


def test_lengths_of_vectors_do_not_matter(evidence):
    x = np.random.default_rng(0).normal(size=(20, 5))
    own, other = x + 0.1, -x
    assert (evidence["closer_than_rival"](x, 9 * own, other) == 1).all()
    assert (evidence["closer_than_rival"](x, own, 3 * own) == 0.5).mean() > 0.5


def test_a_gain_is_over_the_best_that_knows_nothing(evidence):
    known, weak, strong = np.full((4, 6), 0.9), np.full((4, 6), 0.5), np.full((4, 6), 0.8)
    assert evidence["gain_over_ignorance"](known, [weak, strong]).value == pytest.approx(0.1)


@pytest.mark.parametrize("hidden_share", [0.25, 0.5, 0.75])
def test_as_much_of_a_toy_is_hidden_as_is_said(evidence, hidden_share):
    y, x = np.indices((200, 200))
    mask = (x - 90) ** 2 / 900 + (y - 110) ** 2 / 3600 < 1  # an ellipse that leans nowhere
    mask[130:, 95:] = False  # of which a piece is missing
    picture = Image.new("RGB", (200, 200), (255, 0, 0))
    covered = np.asarray(evidence["hide"](picture, mask, hidden_share))[..., 1] == 128
    assert covered[mask].mean() == pytest.approx(hidden_share, abs=0.02)
    rows, columns = np.nonzero(covered)
    assert covered.sum() == (np.ptp(rows) + 1) * (np.ptp(columns) + 1)  # a rectangle
    assert picture.getpixel((90, 110)) == (255, 0, 0)  # the picture itself is as it was


@pytest.mark.parametrize(
    ("kind", "level"), [("blur", 4), ("JPEG", 5), ("light", 0.3), ("hidden", 0.5)]
)
def test_changes_change_a_copy(evidence, kind, level):
    noise = np.random.default_rng(0).integers(256, size=(56, 56, 3), dtype=np.uint8)
    mask = np.zeros((56, 56), bool)
    mask[20:40, 20:40] = True
    picture = Image.fromarray(noise)
    changed = np.asarray(evidence["change"](picture, mask, kind, level))
    assert changed.shape == noise.shape and (changed != noise).any()
    assert (np.asarray(picture) == noise).all()


def test_pairs_without_a_match_are_left_out(evidence):
    rates = np.array([[1.0, np.nan], [0.5, 0.5]])
    assert evidence["rate_over_toys"](rates).value == pytest.approx(2 / 3)


@pytest.mark.parametrize("other", ["01_feature_space", "evidence/02_zero_shot_classification"])
@pytest.mark.parametrize("description", ["small_pixels", "colour_histogram"])
def test_what_knows_nothing_is_the_same_in_all_notebooks(description, other):
    ours = lift(pairing.read_source(Project(), "evidence/01_feature_space"), description)
    theirs = lift(pairing.read_source(Project(), other), description)
    noise = np.random.default_rng(0).integers(256, size=(96, 64, 3), dtype=np.uint8)
    picture = Image.fromarray(noise)
    expected = ours[description](picture)
    assert np.ptp(expected) > 0
    np.testing.assert_array_equal(theirs[description](picture), expected)

"""Functions of the evidence on depth, lifted out of its text."""

import numpy as np
import pytest
import torch
from depth_reference import maps_partly_known
from PIL import Image

from dinov2_helpers import samples
from dinov2_helpers.measure import Interval
from tools import pairing
from tools.lift import lift
from tools.project import Project


@pytest.fixture(scope="module")
def evidence():
    source = pairing.read_source(Project(), "evidence/05_depth_estimation")
    return lift(
        source,
        "scores_of",
        "scaled",
        "log_profile",
        "edges_verdict",
        "real_depth_verdict",
        "layers_verdict",
        "consistency_verdict",
        "ImageMLP",
        "LinearHead",
        "correlation",
        "by_distance",
        "log_gap",
        "neighbours",
        "with_ones",
        "normal",
        "solve_with",
        "flip_term",
        "view_term",
        "zoomed",
        "zoomed_depth",
        "seen_from",
        "with_distances",
    )


def around(value, half_width=0.02):
    return Interval(value, value - half_width, value + half_width)


# Rules


@pytest.mark.parametrize(
    ("over_row", "over_half_way", "verdict"),
    [
        (0.1, 0.3, "holds"),
        (0.0, 0.2, "holds in part"),  # as good as not looking
        (-0.1, 0.1, "holds in part"),  # nearer to the row than to one depth
        (-0.2, 0.01, "holds in part"),  # it cannot be said which is nearer
        (-0.4, -0.2, "does not hold"),
    ],
)
def test_edges_must_beat_not_looking(evidence, over_row, over_half_way, verdict):
    assert evidence["edges_verdict"](around(over_row), around(over_half_way)) == verdict


@pytest.mark.parametrize(
    ("heads", "verdict"),
    [
        ([(0.4, 0.1), (0.4, 0.1)], "holds"),
        ([(0.4, 0.01), (0.4, 0.1)], "holds in part"),  # one of them is no better than the row
        ([(0.4, -0.1), (0.01, 0.1)], "does not hold"),
        ([(0.4, 0.0), (0.4, 0.0)], "does not hold"),  # better than edges, and than nothing else
    ],
)
def test_real_depth_must_beat_not_looking_too(evidence, heads, verdict):
    pairs = [(around(edges), around(blind)) for edges, blind in heads]
    assert evidence["real_depth_verdict"](pairs) == verdict


@pytest.mark.parametrize(
    ("last", "others", "wide", "verdict"),
    [
        (0.05, [0.1, 0.1], 0.05, "holds"),
        (0.05, [0.1, 0.01], 0.05, "holds in part"),  # another single layer does as well
        (0.05, [0.1, 0.1], 0.01, "holds in part"),  # more numbers do as well
        (0.01, [0.1, 0.1], 0.05, "does not hold"),
        (-0.05, [0.1, 0.1], 0.05, "does not hold"),
    ],
)
def test_several_layers_must_be_more_than_width(evidence, last, others, wide, verdict):
    others = [around(one) for one in others]
    assert evidence["layers_verdict"](around(last), others, around(wide)) == verdict


@pytest.mark.parametrize(
    ("scenes", "views", "verdict"),
    [
        ([0.05, -0.1], [0.0, 0.0], "holds"),  # one of the terms helps
        ([0.01, 0.0], [0.0, 0.05], "holds in part"),
        ([0.01, 0.0], [0.01, -0.05], "does not hold"),
    ],
)
def test_consistency_must_help_where_it_was_not_asked(evidence, scenes, views, verdict):
    scenes, views = ([around(one) for one in values] for values in (scenes, views))
    assert evidence["consistency_verdict"](scenes, views) == verdict


# Scores


@pytest.fixture
def maps():
    return maps_partly_known()


def test_a_gift_is_given_before_the_score(evidence, maps):
    _, truths = maps
    threefold = np.where(np.isnan(truths), 1, 3 * truths)
    assert (evidence["scores_of"](threefold, truths)["delta1"] == 0).all()
    given = evidence["scores_of"](threefold, truths, evidence["scaled"])
    np.testing.assert_allclose(given["AbsRel"], 0, atol=1e-12)


def test_a_profile_is_the_mean_of_what_is_known(evidence):
    depth = np.exp(np.array([[[1.0, 3.0], [np.nan, np.nan]], [[1.0, np.nan], [5.0, 7.0]]]))
    found = evidence["log_profile"](depth)
    np.testing.assert_allclose(found, [[2, 6], [1, 6]])  # the mean of the row where nothing is


def test_correlation_leaves_unknown_depth_out(evidence, maps):
    _, truth = maps
    np.testing.assert_allclose(evidence["correlation"](-2 * truth + 1, truth), -1)
    noise = np.random.default_rng(1).normal(size=truth.shape)
    known = np.isfinite(truth[0])
    expected = np.corrcoef(noise[0][known], truth[0][known])[0, 1]
    assert evidence["correlation"](noise, truth)[0] == pytest.approx(expected)


def test_scores_by_distance_against_a_loop(evidence, maps):
    _, truth = maps
    truth = np.tile(truth, (1, 4, 4))
    predicted = np.where(np.isnan(truth), 1.0, truth) * np.where(truth < 5, 1.1, 2.0)
    limits = np.array([0.5, 5.0, 25.0, 100.0])
    found = evidence["by_distance"](predicted, truth, limits)
    np.testing.assert_array_equal(found[:, 0], 1)
    np.testing.assert_array_equal(found[:, 1], 0)
    assert np.isnan(found[:, 2]).all()


def test_three_distances_mend_a_scale(evidence, maps):
    _, truth = maps
    wrong = np.where(np.isnan(truth[0]), 1, 3 * truth[0])
    for count in (1, 3):
        random = np.random.default_rng(0)
        assert evidence["with_distances"](wrong, truth[0], count, random) == 1


# Heads


def test_the_linear_head_joins_cls_to_every_patch(evidence):
    patches, cls = torch.randn(2, 3, 4, 10), torch.randn(2, 10)
    head = evidence["LinearHead"](10, cls=True)
    weights = torch.cat([head.patch.weight, head.cls.weight], dim=1)
    joined = torch.cat([patches, cls[:, None, None].expand(2, 3, 4, 10)], dim=-1)
    torch.testing.assert_close(head(patches, cls), (joined @ weights.T + head.patch.bias)[..., 0])
    assert evidence["LinearHead"](10, cls=False)(patches, cls).shape == (2, 3, 4)
    assert evidence["ImageMLP"](10, 8)(cls).shape == (2, 8, 8)


# Consistency


@pytest.fixture(scope="module")
def views():
    return samples.load_views("train", kind="turntable", toy_id=lambda toy: toy.startswith("dog"))


def logs_of(views, *rows):
    return [np.log(np.nan_to_num(views.depth(row), nan=40.0)) for row in rows]


def test_the_gap_of_true_depth_is_that_of_the_cameras(evidence, views):
    i, j = 3, 5
    first, second = logs_of(views, i, j)
    cameras = views.table[i]["camera"], views.table[j]["camera"]
    gap, found = evidence["log_gap"](first, second, *cameras)
    x, y = (one.ravel() for one in np.meshgrid(np.arange(20, 220, 10), np.arange(60, 220, 10)))
    points = np.stack([x, y], 1) + 0.5
    source = pairing.read_source(Project(), "evidence/01_feature_space")
    places, visible = lift(source, "true_places")["true_places"](views, i, j, points)
    at_points = gap.reshape(first.shape)[y, x]
    assert visible.mean() > 0.5 and np.isfinite(at_points[visible]).all()
    np.testing.assert_allclose(
        found.reshape(*first.shape, 2)[y, x][visible], places[visible], atol=1e-3
    )
    # the depth of view j is taken between pixels, so only edges may differ
    assert np.median(np.abs(at_points[visible])) < 2e-3
    assert (np.abs(at_points[visible]) < 0.02).mean() > 0.95


def test_what_is_consistent_without_being_right(evidence, views):
    first, second = logs_of(views, 0, 1)
    cameras = views.table[0]["camera"], views.table[1]["camera"]

    def gap(one, other):
        return np.nanmedian(np.abs(evidence["log_gap"](one, other, *cameras)[0]))

    wall, far = np.full_like(first, 1.0), np.full_like(first, 12.0)
    assert gap(wall, wall) > 20 * gap(first, second)  # a wall in front of each camera
    assert gap(far, far) < 0.05
    assert gap(first + 0.5, second + 0.5) < 0.01  # a lower ground: cameras of one height agree


def test_a_camera_agrees_with_itself_at_every_size(evidence, views):
    log = np.random.default_rng(0).random((6, 9))
    camera = views.table[0]["camera"]
    gap, _ = evidence["log_gap"](log, log, camera, camera)
    np.testing.assert_allclose(gap, 0, atol=1e-4)


def test_neighbours_are_one_step_of_the_turntable(evidence):
    table = [
        {"toy_id": toy, "azimuth": azimuth}
        for toy, around in (("a", (0.0, 15.0, 345.0)), ("b", (0.0, 30.0)))
        for azimuth in around
    ]
    assert sorted(evidence["neighbours"](table)) == [(0, 1), (2, 0)]


def tokens_and_log_depth(n=40):
    rng = np.random.default_rng(0)
    patches = rng.normal(size=(n, 16, 16, 6)).astype(np.float32)
    log_depth = patches @ np.array([0.3, -0.2, 0.1, 0.0, 0.2, 0.1]) + 1
    return patches, log_depth


def test_a_ridge_without_a_term_finds_a_line(evidence):
    patches, log_depth = tokens_and_log_depth()
    x = evidence["with_ones"](patches)
    base = evidence["normal"]([(x, log_depth.ravel())])
    nothing = (0.0, 0.0)
    weights = evidence["solve_with"](base, nothing, 5.0, strength=1e-6)
    np.testing.assert_allclose(weights, [0.3, -0.2, 0.1, 0, 0.2, 0.1, 1], atol=1e-3)
    held = evidence["solve_with"](base, nothing, 0, strength=10.0)
    assert np.abs(held[:-1]).max() < 0.05
    assert held[-1] == pytest.approx(log_depth.mean(), abs=1e-2)  # the constant is not held


def test_a_term_of_mirrors_makes_mirrors_agree(evidence):
    patches, log_depth = tokens_and_log_depth()
    twins = patches[:, :, ::-1].copy()
    consistent = evidence["flip_term"](patches, twins)
    np.testing.assert_allclose(consistent[0], 0, atol=1e-6)
    twins[..., 0] *= -1  # of this number mirrors disagree
    base = evidence["normal"]([(evidence["with_ones"](patches), log_depth.ravel())])
    term = evidence["flip_term"](patches, twins)
    free, bound = (evidence["solve_with"](base, term, weight, 0.01) for weight in (0, 100))
    assert abs(bound[0]) < 0.05 * abs(free[0])
    np.testing.assert_allclose(bound[1:], free[1:], atol=0.05)


def test_a_term_of_views_brings_views_together(evidence, views):
    pairs = evidence["neighbours"](views.table)[:8]
    rng = np.random.default_rng(0)
    true = np.stack(logs_of(views, *range(len(views))))[:, 7::14, 7::14]  # (N, 16, 16)
    wrong = rng.normal(size=(*true.shape, 5)) * 0.3  # numbers that differ from view to view
    patches = np.concatenate([true[..., None], wrong], axis=-1).astype(np.float32)
    x = evidence["with_ones"](patches)
    blurred = (true + 0.5 * wrong[..., 0]).ravel()
    base = evidence["normal"]([(x, blurred)])
    weights = evidence["solve_with"](base, (0.0, 0.0), 0, 0.01)

    def gaps(weights):
        logs = (x @ weights).reshape(true.shape)
        cameras = [row["camera"] for row in views.table]
        found = [evidence["log_gap"](logs[i], logs[j], cameras[i], cameras[j])[0] for i, j in pairs]
        return np.nanmean(np.abs(found))

    before = gaps(weights)
    for _ in range(3):
        term = evidence["view_term"](patches, pairs, views.table, weights)
        weights = evidence["solve_with"](base, term, 3.0, 0.01)
    assert gaps(weights) < 0.6 * before
    assert weights[0] > 0.5  # and depth is still told


# Lenses and points


def test_a_longer_lens_keeps_the_depth_and_the_middle(evidence):
    depth = np.arange(224 * 224, dtype=float).reshape(224, 224)
    found = evidence["zoomed_depth"](depth, 0.5)
    assert found.shape == depth.shape
    assert found[0, 0] == depth[56, 56] and found[-1, -1] == depth[167, 167]
    picture = Image.new("RGB", (224, 224))
    picture.paste((255, 0, 0), (56, 56, 168, 168))
    enlarged = np.asarray(evidence["zoomed"](picture, 0.5))
    assert (enlarged[4:-4, 4:-4] == [255, 0, 0]).all()


def test_points_seen_from_their_own_camera_give_the_picture(evidence, views):
    picture, depth, camera = views.image(0), views.depth(0), views.table[0]["camera"]
    drawn, filled = evidence["seen_from"](picture, depth, camera, camera)
    known = np.isfinite(depth)
    assert filled[known].mean() > 0.99
    gap = np.abs(drawn.astype(float) - np.asarray(picture))[known]
    assert np.median(gap) < 10  # each point covers four pixels

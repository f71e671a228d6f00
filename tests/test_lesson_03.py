"""The lesson on segmentation is the library in few lines; the library is what others say it is."""

import numpy as np
import pytest
from scipy.special import expit, logit
from skimage.morphology import dilation, disk
from sklearn.cluster import SpectralClustering
from sklearn.metrics import jaccard_score

from dinov2_helpers import measure
from dinov2_helpers.techniques import DenseCrf, GuidedFilter
from dinov2_helpers.techniques.dense import enlarge
from dinov2_helpers.techniques.foreground import (
    ClusterVotes,
    FirstComponent,
    NormalisedCut,
    UnlikeBorder,
    border,
    second_eigenvector,
)
from dinov2_helpers.techniques.mask_probe import LinearProbe, best_threshold
from tools import pairing
from tools.lift import lift
from tools.project import Project


@pytest.fixture(scope="module")
def lesson():
    source = pairing.read_source(Project(), "03_semantic_segmentation")
    return lift(
        source,
        "iou",
        "enlarge",
        "best_threshold",
        "BORDER",
        "far_from_border",
        "unlike_border",
        "first_component",
        "fit_clusters",
        "clusters_of",
        "vote",
        "normalised_cut",
        "fit_probe",
        "article_map",
        "all_agree",
        given={"PATCH": 14, "SIDE": 16},
    )


@pytest.fixture(scope="module")
def scenes():
    """Patches of pictures whose middle differs from their border, (N, 16, 16, D), and the middle"""
    random = np.random.default_rng(0)
    ground, thing = random.normal(size=(2, 12))
    inside = np.zeros((16, 16), bool)
    inside[4:9, 5:11] = True
    noise = 0.2 * random.normal(size=(6, 16, 16, 12))
    return (np.where(inside[..., None], thing, ground) + noise).astype(np.float32), inside


def blob(centre, radius, side=40):
    y, x = np.mgrid[:side, :side]
    return (y - centre[0]) ** 2 + (x - centre[1]) ** 2 <= radius**2


def two_blocks(n=6, m=10, between=0.05):
    graph = np.full((n + m, n + m), between)
    graph[:n, :n] = graph[n:, n:] = 1.0
    return graph


# The lesson's functions and the library's


def test_the_border_and_its_rule_are_the_librarys(lesson, scenes):
    patches, inside = scenes
    np.testing.assert_array_equal(lesson["BORDER"], border(16, 16))
    for one in patches:
        found = lesson["unlike_border"](one)
        np.testing.assert_allclose(found, UnlikeBorder().score(one), atol=1e-5)
        assert found[inside].min() > found[~inside].max()
        far = lesson["far_from_border"](one)
        assert far[inside].min() > far[~inside].max()


def test_the_first_component_is_the_librarys(lesson, scenes):
    patches, inside = scenes
    mean, component = lesson["first_component"](patches)
    ours = FirstComponent.fit(patches)
    np.testing.assert_allclose(component, ours.direction, atol=1e-4)
    np.testing.assert_allclose(mean, ours.mean, atol=1e-5)
    found = (lesson["unit"](patches) - mean) @ component
    assert found[:, inside].mean() > 0 > found[:, ~inside].mean()


def test_clusters_vote_as_in_the_library(lesson, scenes):
    patches, inside = scenes
    lesson["runs"] = [lesson["fit_clusters"](patches, k=2, seed=seed) for seed in range(5)]
    ours = ClusterVotes.fit(patches, 2, seed=0)
    for one in patches:
        found = lesson["vote"](one)
        np.testing.assert_allclose(found, ours.score(one), atol=1e-6)
        assert (found[inside] == 0).all() and (found[~inside] < 0).all()


def test_the_cut_is_the_librarys(lesson, scenes):
    patches, inside = scenes
    for one in patches[:3]:
        found = lesson["normalised_cut"](one)
        np.testing.assert_allclose(found, NormalisedCut().score(one), atol=1e-3)
        np.testing.assert_array_equal(found > 0, inside)


def test_enlarging_and_the_threshold_are_the_librarys(lesson):
    truth = np.zeros((2, 224, 224), bool)
    truth[0, 56:168, 56:168] = True
    truth[1, 28:84, 112:196] = True
    random = np.random.default_rng(0)
    maps = truth[:, 7::14, 7::14] + 0.2 * random.normal(size=(2, 16, 16))
    large = lesson["enlarge"](maps, 56)
    np.testing.assert_allclose(large[1], enlarge(maps[1], (56, 56)), atol=1e-6)
    score, threshold = lesson["best_threshold"](maps, truth)
    theirs, their_score = best_threshold(list(maps), list(truth))
    assert score == pytest.approx(their_score, abs=0.03) and score > 0.8
    assert threshold == pytest.approx(theirs, abs=0.15)


def test_the_probe_is_the_librarys_where_patches_are_whole(lesson, scenes):
    patches, inside = scenes
    shares = np.repeat(inside[None].astype(np.float32), len(patches), axis=0)
    probe = lesson["fit_probe"](patches, shares)
    found = probe.decision_function(patches.reshape(-1, 12)).reshape(shares.shape)
    ours = LinearProbe.fit(list(patches), list(shares), strength=1e-3)
    np.testing.assert_allclose(found, [ours.score(one) for one in patches], atol=0.01)


def test_the_articles_map_is_larger_on_what_is_frequent(lesson):
    tokens = np.zeros((10, 70))
    tokens[:8, 0] = 1
    tokens[8:, 1] = 1
    np.testing.assert_allclose(lesson["article_map"](tokens), [0.8] * 8 + [0.2] * 2)


def test_heads_agree_where_all_of_them_look(lesson):
    maps = np.array([[[[0.9, 0.2]], [[0.0, 0.2]]]])
    assert lesson["all_agree"](maps)[0, 0].argmax() == 1


# The library and others


def test_iou_is_sklearns_jaccard(lesson):
    a, b = blob((18, 18), 9), blob((22, 20), 8)
    expected = jaccard_score(a.ravel(), b.ravel())
    assert lesson["iou"](a, b) == measure.iou(a, b) == pytest.approx(expected)


def test_boundary_f_against_dilation_by_a_disk():
    masks = [blob((18, 18), 9), blob((21, 19), 8)]
    edges = [mask & dilation(~mask, disk(1)) for mask in masks]
    wide = [dilation(edge, disk(2)) for edge in edges]
    precision = (edges[0] & wide[1]).sum() / edges[0].sum()
    recall = (edges[1] & wide[0]).sum() / edges[1].sum()
    expected = 2 * precision * recall / (precision + recall)
    assert measure.boundary_f(*masks, tolerance=2) == pytest.approx(expected)


def test_the_cut_of_two_blocks_is_between_them():
    vector = second_eigenvector(two_blocks())
    side = vector > vector.mean()
    assert side[:6].all() != side[6:].all() and len(set(side[:6])) == len(set(side[6:])) == 1


def test_the_cut_agrees_with_spectral_clustering():
    random = np.random.default_rng(0)
    points = np.concatenate([random.normal(0, 0.4, (15, 2)), random.normal(2.5, 0.4, (9, 2))])
    graph = np.exp(-((points[:, None] - points) ** 2).sum(-1))
    vector = second_eigenvector(graph)
    labels = SpectralClustering(2, affinity="precomputed", random_state=0).fit_predict(graph)
    side = vector > vector.mean()
    assert (side == labels).all() or (side == 1 - labels).all()


def test_the_cut_is_the_cheapest_of_all_splits_of_a_small_graph():
    graph = two_blocks(3, 4, 0.2)
    splits = [np.array([(code >> i) & 1 for i in range(7)], bool) for code in range(1, 2**7 - 1)]
    costs = [graph[s][:, ~s].sum() * (1 / graph[s].sum() + 1 / graph[~s].sum()) for s in splits]
    best = splits[int(np.argmin(costs))]
    side = second_eigenvector(graph) > 0
    assert (side == best).all() or (side == ~best).all()


def brute_force_crf(p, lab, radius, colour, near, weights, steps):
    height, width = p.shape
    p = np.clip(p, 0.02, 0.98)
    belief = logit(p)
    for _ in range(steps):
        new = np.empty_like(p)
        for y in range(height):
            for x in range(width):
                message = 0.0
                for kind, weight in enumerate(weights):
                    total = norm = 0.0
                    for v in range(max(0, y - radius), min(height, y + radius + 1)):
                        for u in range(max(0, x - radius), min(width, x + radius + 1)):
                            if (v, u) == (y, x):
                                continue
                            d = (v - y) ** 2 + (u - x) ** 2
                            k = np.exp(-d / (2 * near[kind] ** 2))
                            if kind == 0:
                                unlike = ((lab[v, u] - lab[y, x]) ** 2).sum()
                                k *= np.exp(-unlike / (2 * colour**2))
                            total += k * (2 * p[v, u] - 1)
                            norm += k
                    message += weight * total / (norm + 1e-6)
                new[y, x] = expit(belief[y, x] + message)
        p = new
    return p


@pytest.mark.parametrize("radius", [2, 6])
def test_the_crf_is_mean_field_by_brute_force(radius):
    rng = np.random.default_rng(0)
    p, lab = rng.random((5, 6)), 20 * rng.random((5, 6, 3))
    options = {"radius": radius, "colour": 8.0, "near": (4.0, 1.5), "weights": (2.0, 1.0)}
    found = DenseCrf(**options, steps=3)(p, lab)
    np.testing.assert_allclose(found, brute_force_crf(p, lab, **options, steps=3), atol=1e-4)


def test_the_crf_moves_a_blurred_edge_to_the_edge_of_the_picture():
    lab = np.zeros((24, 24, 3))
    lab[:, 13:] = [80, 0, 0]
    p = np.tile(expit((np.arange(24) - 10) / 2.0), (24, 1))
    truth = np.zeros((24, 24), bool)
    truth[:, 13:] = True
    before = measure.iou(p > 0.5, truth)
    assert measure.iou(DenseCrf()(p, lab) > 0.5, truth) == 1 > before


def test_the_guided_filter_keeps_a_flat_mask_and_follows_a_flat_guide():
    rng = np.random.default_rng(0)
    guide = 50 * rng.random((20, 20, 3))
    np.testing.assert_allclose(GuidedFilter()(np.full((20, 20), 0.7), guide), 0.7)
    p = rng.random((20, 20))
    flat = GuidedFilter(radius=2)(p, np.full((20, 20, 3), 30.0))
    assert flat.std() < 0.3 * p.std(), "a flat guide leaves nothing but a mean"


def test_the_guided_filter_takes_the_edge_of_the_guide():
    guide = np.zeros((30, 30, 3))
    guide[:, 15:] = [60, 20, 0]
    p = np.tile(np.clip((np.arange(30) - 9) / 12, 0, 1), (30, 1))
    found = GuidedFilter(radius=6)(p, guide)
    assert found[15, 15] - found[15, 14] > 0.4

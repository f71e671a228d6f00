"""Functions of the evidence on retrieval, lifted out of its text."""

import numpy as np
import pytest

from dinov2_helpers import samples
from dinov2_helpers.measure import Interval, average_precision, in_order
from tools import pairing
from tools.lift import lift
from tools.project import Project


@pytest.fixture(scope="module")
def evidence():
    source = pairing.read_source(Project(), "evidence/04_cross_modal_retrieval")
    names = (
        *("fusion_verdict", "speed_verdict", "saving_verdict", "relative_gain"),
        *("nearest_by_product", "changed_by_bug", "without_itself", "evaluate", "answerable"),
        *("fuse_late", "fuse_early", "sweep", "WEIGHTS", "unit"),
        *("phrase", "combinations", "relevance", "same_content", "of_same_class"),
        *("other_surfaces", "in_chinese", "CHINESE_SURFACES", "best_allowed", "recall_of_codes"),
    )
    lifted = lift(source, *names)
    assert set(names) <= lifted.keys()
    return lifted


def around(value, half_width=0.02):
    return Interval(value, value - half_width, value + half_width)


# The rules of the verdicts


@pytest.mark.parametrize(
    ("gains", "verdict"),
    [
        ([0.2, 0.3, 0.5], "holds"),
        ([0.2, 0.3, 0.16], "holds in part"),  # not certainly fifteen per cent
        ([0.2, 0.0, -0.1], "holds in part"),
        ([0.05, 0.0, -0.1], "holds in part"),  # a gain, if less than was promised
        ([0.01, 0.0, -0.1], "does not hold"),  # no gain is certain
        ([-0.2, -0.3, -0.1], "does not hold"),
    ],
)
def test_fusion_has_to_gain_over_the_best_rival_of_each_task(evidence, gains, verdict):
    assert evidence["fusion_verdict"]([around(gain) for gain in gains]) == verdict


@pytest.mark.parametrize(
    ("speedups", "verdict"),
    [
        ([10, 50, 80], "holds"),
        ([3.7, 14, 52], "holds in part"),
        ([1, 9, 9.9], "does not hold"),
    ],
)
def test_a_graph_has_to_be_ten_times_as_fast_at_every_size(evidence, speedups, verdict):
    assert evidence["speed_verdict"](speedups) == verdict


@pytest.mark.parametrize(
    ("alone", "reranked", "verdict"),
    [
        ([0.95, 0.93, 0.92], [1, 1, 1], "holds"),
        ([0.95, 0.91, 0.93], [1, 1, 1], "holds in part"),  # not certainly nine of ten
        ([0.95, 0.9, 0.83], [1, 1, 0.95], "holds in part"),  # re-ranking makes up for the codes
        ([0.95, 0.8, 0.4], [1, 1, 0.85], "does not hold"),  # nothing does
        ([0.95, 0.95, 0.95], [0.8, 0.8, 0.8], "holds"),  # codes alone need no re-ranking
    ],
)
def test_codes_are_judged_at_every_size(evidence, alone, reranked, verdict):
    intervals = [around(one) for one in alone], [around(one, 0) for one in reranked]
    assert evidence["saving_verdict"](*intervals) == verdict


def test_the_relative_gain_is_paired(evidence):
    old = np.random.default_rng(0).random(100)
    assert evidence["relative_gain"](1.2 * old, old) == pytest.approx((0.2, 0.2, 0.2))
    value, low, high = evidence["relative_gain"](old[::-1], old)
    assert value == pytest.approx(0)
    assert low < 0 < high


def test_a_gain_over_a_rival_that_finds_hardly_anything_is_finite(evidence):
    gain = evidence["relative_gain"](np.ones(10), np.arange(10) == 3)
    assert gain.value == pytest.approx(9)
    assert np.isfinite(gain).all()


# The silent bug


@pytest.fixture(scope="module")
def vectors():
    return np.random.default_rng(1).normal(size=(40, 8)).astype(np.float32)


def test_neighbours_by_product_are_those_of_plain_loops(evidence, vectors):
    found = evidence["nearest_by_product"](vectors, 3)
    for row, x in enumerate(vectors):
        others = [i for i in range(len(vectors)) if i != row]
        assert found[row].tolist() == sorted(others, key=lambda i: -float(x @ vectors[i]))[:3]


def test_the_bug_changes_nothing_where_lengths_are_equal(evidence, vectors):
    assert evidence["changed_by_bug"](evidence["unit"](vectors)).max() == 0
    longer = vectors * np.linspace(1, 20, 40)[:, None]
    assert evidence["changed_by_bug"](longer).mean() > 0.2


# Queries and their truth


@pytest.mark.parametrize(
    ("query", "text"),
    [
        ({"class": "dog"}, "a dog"),
        ({"class": "airplane", "surface": "road"}, "an airplane on a road"),
        ({"class": "cat", "colour": "orange", "surface": "snow"}, "an orange cat on snow"),
        ({"class": "snowman", "colour": "orange"}, "a snowman with an orange scarf"),
    ],
)
def test_phrases_are_english(evidence, query, text):
    assert evidence["phrase"](query) == text


def test_the_truth_of_queries_is_that_of_select(evidence):
    scenes = samples.load_scenes("test")
    queries = evidence["combinations"](scenes, ("class", "colour", "surface"))
    assert len({tuple(query.values()) for query in queries}) == len(queries) > 200
    answers_of = evidence["relevance"](scenes, queries)
    for query, answers in zip(queries, answers_of, strict=True):
        names = {row["file_name"] for row in scenes.select(**query).table}
        assert {scenes.table[i]["file_name"] for i in np.flatnonzero(answers)} == names


def test_pictures_of_the_same_content_are_found(evidence):
    toys = [{"class": "dog", "colour": "red"}, {"class": "cat", "colour": "blue"}]
    table = [
        {"surface": "snow", "objects": toys},
        {"surface": "snow", "objects": toys[::-1]},
        {"surface": "sand", "objects": toys},
        {"surface": "snow", "objects": toys[:1]},
    ]
    same = evidence["same_content"](samples.Scenes(folder=None, table=table))
    wanted = np.eye(4, dtype=bool)
    wanted[0, 1] = wanted[1, 0] = True
    assert same.tolist() == wanted.tolist()


def test_composed_queries_name_another_surface_each_as_often(evidence):
    scenes = samples.load_scenes("test")
    own, relevant = evidence["of_same_class"](scenes)
    wanted = evidence["other_surfaces"](scenes, own)
    assert all(scenes.table[i]["surface"] != s for i, s in zip(own, wanted, strict=True))
    counts = np.unique(wanted, return_counts=True)[1]
    assert counts.min() > 0.6 * counts.mean()
    assert not relevant[np.arange(len(own)), own].any()


def test_chinese_names_are_those_of_the_captions(evidence):
    """A caption of one toy has the class' name; the surface may be written a little otherwise."""
    for row in samples.load_scenes("test").table:
        if len(row["objects"]) == 1:
            query = {"class": row["objects"][0]["class"], "surface": row["surface"]}
            usual, other = evidence["in_chinese"](query)
            toy = usual.partition("上的")[2]
            ground = evidence["CHINESE_SURFACES"][row["surface"]]
            assert toy in row["caption_zh"]
            assert ground[:-1] in row["caption_zh"]
            assert other == f"{toy}在{ground}上"


# Scores and fusion


@pytest.fixture
def asked():
    """Similarities of 30 queries to 50 pictures, and a truth with at least one answer for each."""
    rng = np.random.default_rng(0)
    similarity = rng.normal(size=(30, 50))
    relevant = rng.random((30, 50)) < 0.1
    relevant[:, 7] = True
    return similarity, relevant


def test_evaluate_gives_every_score_of_every_query(evidence, asked):
    scores = evidence["evaluate"](*asked)
    assert {"hit@5", "recall@10", "AP", "first rank"} < scores.keys()
    assert {len(values) for values in scores.values()} == {30}
    for row, truth, rank in zip(*asked, scores["first rank"], strict=True):
        assert rank == 1 + (row > row[truth].max()).sum()


def test_the_own_picture_comes_last(evidence, asked):
    similarity = asked[0].copy()
    hidden = evidence["without_itself"](similarity, np.arange(30))
    assert in_order(hidden, np.eye(30, 50, dtype=bool))[:, -1].all()
    assert (similarity == asked[0]).all()


def test_queries_without_an_answer_are_left_out(evidence, asked):
    similarity, relevant = asked
    relevant = relevant.copy()
    relevant[4] = False
    scores = evidence["answerable"](similarity, relevant)
    kept = np.arange(30) != 4
    expected = average_precision(in_order(similarity[kept], relevant[kept]))
    np.testing.assert_array_equal(scores["AP"], expected)


def test_early_fusion_is_an_index_of_joined_vectors(evidence, vectors):
    first, second = evidence["unit"](vectors), evidence["unit"](vectors[:, :5] - 1)
    joined = np.hstack([np.sqrt(0.7) * first, np.sqrt(0.3) * second])
    np.testing.assert_allclose(np.linalg.norm(joined, axis=1), 1, atol=1e-6)
    added = evidence["fuse_early"](first @ first.T, second @ second.T, 0.3)
    np.testing.assert_allclose(joined @ joined.T, added, atol=1e-6)


def test_late_fusion_ignores_scales_and_ends_at_the_single_models(evidence, asked):
    first, second = asked[0], asked[0][::-1] ** 3
    fuse = evidence["fuse_late"]
    np.testing.assert_allclose(fuse(5 * first + 2, second, 0.4), fuse(first, second, 0.4))
    for weight, single in ((0, first), (1, second)):
        fused = fuse(first, second, weight)
        np.testing.assert_array_equal(np.argsort(fused), np.argsort(single))
    np.testing.assert_allclose(fuse(first, second, 0.5).mean(axis=1), 0, atol=1e-12)


def test_the_sweep_ends_at_the_single_models(evidence, asked):
    first, second, truth = asked[0], -asked[0], asked[1]
    tasks = [(first, second, truth, None), (first, second, truth, None)]
    found = evidence["sweep"](tasks, evidence["fuse_late"])
    assert len(found) == len(evidence["WEIGHTS"])
    assert found[0] == pytest.approx(evidence["evaluate"](first, truth)["hit@1"].mean())
    assert found[-1] == pytest.approx(evidence["evaluate"](second, truth)["hit@1"].mean())


def test_the_best_allowed_are_none_of_the_others(evidence):
    similarity = np.array([0.1, 0.9, 0.5, 0.7])
    allowed = np.array([True, False, True, True])
    assert evidence["best_allowed"](similarity, allowed, 2) == [3, 2]


# Codes


def test_shorter_codes_find_fewer_and_re_ranking_finds_them_again(evidence):
    random = np.random.default_rng(0)
    x = evidence["unit"](random.normal(size=(1_000, 32)))
    queries = evidence["unit"](random.normal(size=(30, 32)))
    exact = np.argsort(-queries @ x.T, axis=1)[:, :10]
    found = {saves: evidence["recall_of_codes"](x, queries, exact, saves) for saves in (8, 64)}
    assert found[8][0].shape == found[8][1].shape == (30,)
    assert found[8][0].mean() > found[64][0].mean() + 0.2
    assert found[64][1].mean() > found[64][0].mean() + 0.2

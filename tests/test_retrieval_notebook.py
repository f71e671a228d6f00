"""The functions of notebook 04, lifted out of its text, against references."""

import faiss
import numpy as np
import pytest
from sklearn.linear_model import Ridge
from sklearn.metrics import average_precision_score

from dinov2_helpers import samples
from tools import pairing
from tools.lift import lift
from tools.project import Project

SOURCE = pairing.read_source(Project(), "04_cross_modal_retrieval")


def lifted(*names):
    """The functions of these names, one or several."""
    namespace = lift(SOURCE, *names)
    found = [namespace[name] for name in names]
    return found if len(found) > 1 else found[0]


@pytest.fixture
def search():
    """Similarities of 30 queries to 50 pictures, and a truth with at least one answer for each."""
    rng = np.random.default_rng(0)
    similarity, relevant = rng.normal(size=(30, 50)), rng.random((30, 50)) < 0.1
    relevant[:, 7] = True
    return similarity, relevant


@pytest.fixture(scope="module")
def vectors():
    return np.random.default_rng(1).normal(3, 2, size=(40, 8)).astype(np.float32)


def test_average_precision_is_that_of_sklearn(search):
    in_order, average_precision = lifted("in_order", "average_precision")
    expected = [average_precision_score(truth, row) for row, truth in zip(*search, strict=True)]
    np.testing.assert_allclose(average_precision(in_order(*search)), expected)


@pytest.mark.parametrize("k", [1, 5, 50])
def test_hit_rate_recall_and_first_rank_are_what_they_say(search, k):
    in_order, hit_at, recall_at, first_rank = lifted(
        "in_order", "hit_at", "recall_at", "first_rank"
    )
    hits, shares, ranks = [], [], []
    for row, truth in zip(*search, strict=True):
        answers, best = set(np.flatnonzero(truth)), np.argsort(-row)
        hits.append(bool(answers & set(best[:k])))
        shares.append(len(answers & set(best[:k])) / len(answers))
        ranks.append(next(place for place, i in enumerate(best, 1) if i in answers))
    ordered = in_order(*search)
    np.testing.assert_array_equal(hit_at(ordered, k), hits)
    np.testing.assert_allclose(recall_at(ordered, k), shares)
    np.testing.assert_array_equal(first_rank(ordered), ranks)


def test_evaluate_gives_every_score_of_every_query(search):
    scores = lifted("evaluate")(*search)
    assert {"hit@5", "recall@10", "AP", "first rank"} < scores.keys()
    assert {len(values) for values in scores.values()} == {30}


def test_the_own_picture_comes_last(search):
    exclude, in_order = lifted("exclude", "in_order")
    similarity, own = np.clip(search[0] / 4, -0.99, 1), np.arange(30)
    ordered = in_order(exclude(similarity, own), np.eye(30, 50, dtype=bool))
    assert ordered[:, -1].all()
    assert (similarity > -1).all()


def test_the_interval_is_that_of_the_normal_approximation():
    values = np.random.default_rng(0).normal(0.5, 0.2, size=400)
    low, high = lifted("interval")(values)
    half = 1.96 * values.std() / 20
    assert low == pytest.approx(values.mean() - half, abs=half / 10)
    assert high == pytest.approx(values.mean() + half, abs=half / 10)


def test_the_relative_gain_is_paired():
    relative_gain = lifted("relative_gain")
    old = np.random.default_rng(0).random(100)
    assert relative_gain(1.2 * old, old) == pytest.approx((0.2, 0.2, 0.2))
    value, low, high = relative_gain(old[::-1], old)
    assert value == pytest.approx(0)
    assert low < 0 < high


def test_unit_length_is_checked_in_arrays_and_in_indexes(vectors):
    check_unit_length, unit = lifted("check_unit_length", "unit")
    index = faiss.IndexFlatIP(8)
    index.add(unit(vectors))
    check_unit_length(index)
    check_unit_length(unit(vectors))
    compressed = faiss.IndexScalarQuantizer(8, faiss.ScalarQuantizer.QT_8bit)
    compressed.train(unit(vectors))
    compressed.add(unit(vectors))
    check_unit_length(compressed, tolerance=0.02)


def test_vectors_of_other_lengths_are_found(vectors):
    check_unit_length, unit = lifted("check_unit_length", "unit")
    index = faiss.IndexFlatIP(8)
    faiss.normalize_L2(vectors.copy())
    index.add(vectors)
    with pytest.raises(ValueError, match="40 of 40 vectors do not have length 1"):
        check_unit_length(index)
    broken = unit(vectors)
    broken[3] = np.nan
    with pytest.raises(ValueError, match="1 of 40"):
        check_unit_length(broken)


def test_neighbours_are_those_of_faiss_and_overlap_counts_them(vectors):
    nearest_others, overlap, unit = lifted("nearest_others", "overlap", "unit")
    index = faiss.IndexFlatIP(8)
    index.add(unit(vectors))
    exact = index.search(unit(vectors), 6)[1][:, 1:]
    found = nearest_others(unit(vectors), 5)
    np.testing.assert_array_equal(found, exact)
    assert overlap(found, exact) == 1
    assert overlap(np.array([[1, 2]]), np.array([[2, 3]])) == 0.5


def test_early_fusion_adds_similarities(vectors):
    fuse_early, add, unit = lifted("fuse_early", "add", "unit")
    a, b = unit(vectors), unit(vectors[:, :5] - 1)
    joined = fuse_early(a, b, 0.3)
    np.testing.assert_allclose(np.linalg.norm(joined, axis=1), 1, atol=1e-6)
    np.testing.assert_allclose(joined @ joined.T, add(a @ a.T, b @ b.T, 0.3), atol=1e-6)


def test_late_fusion_ignores_scales_and_ends_at_the_single_models(search):
    fuse_late = lifted("fuse_late")
    a, b = search[0], search[0][::-1] ** 3
    np.testing.assert_allclose(fuse_late(5 * a + 2, b, 0.4), fuse_late(a, b, 0.4))
    for weight, single in ((0, a), (1, b)):
        fused = fuse_late(a, b, weight)
        np.testing.assert_array_equal(np.argsort(fused), np.argsort(single))
    np.testing.assert_allclose(fuse_late(a, b, 0.5).mean(1), 0, atol=1e-12)


def test_the_sweep_ends_at_the_single_models(search):
    sweep, evaluate, fuse_late = lifted("sweep", "evaluate", "fuse_late")
    a, b, truth = search[0], -search[0], search[1]
    maps = sweep([(a, b, truth), (a, b, truth)], fuse_late)
    assert maps[0] == pytest.approx(evaluate(a, truth)["AP"].mean())
    assert maps[-1] == pytest.approx(evaluate(b, truth)["AP"].mean())


@pytest.mark.parametrize(
    ("query", "text"),
    [
        ({"class": "dog"}, "a dog"),
        ({"class": "airplane", "surface": "road"}, "an airplane on a road"),
        ({"class": "cat", "colour": "orange", "surface": "snow"}, "an orange cat on snow"),
        ({"class": "snowman", "colour": "orange"}, "a snowman with an orange scarf"),
    ],
)
def test_phrases_are_english(query, text):
    assert lifted("phrase")(query) == text


def test_the_truth_of_queries_is_that_of_select():
    combinations, relevance = lifted("combinations", "relevance")
    scenes = samples.load_scenes("test")
    queries = combinations(scenes, ("class", "colour", "surface"))
    assert len({tuple(query.values()) for query in queries}) == len(queries) > 200
    for query, answers in zip(queries, relevance(scenes, queries), strict=True):
        names = {row["file_name"] for row in scenes.select(**query).table}
        assert {scenes.table[i]["file_name"] for i in np.flatnonzero(answers)} == names


def test_pictures_of_the_same_content_are_found():
    same_content = lifted("same_content")
    toys = [{"class": "dog", "colour": "red"}, {"class": "cat", "colour": "blue"}]
    table = [
        {"surface": "snow", "objects": toys},
        {"surface": "snow", "objects": toys[::-1]},
        {"surface": "sand", "objects": toys},
        {"surface": "snow", "objects": toys[:1]},
    ]
    same = same_content(samples.Scenes(folder=None, table=table))
    assert (
        same.tolist() == (np.eye(4, dtype=bool) | (np.add.outer(range(4), range(4)) == 1)).tolist()
    )


def test_composed_queries_name_another_surface_each_as_often():
    of_same_class, other_surfaces = lifted("of_same_class", "other_surfaces")
    scenes = samples.load_scenes("test")
    own, relevant = of_same_class(scenes)
    wanted = other_surfaces(scenes, own)
    assert all(scenes.table[i]["surface"] != s for i, s in zip(own, wanted, strict=True))
    counts = np.unique(wanted, return_counts=True)[1]
    assert counts.min() > 0.6 * counts.mean()
    assert not relevant[np.arange(len(own)), own].any()


def test_the_bridge_is_a_centred_ridge_regression(vectors):
    fit_bridge = lifted("fit_bridge")
    y = vectors @ np.random.default_rng(2).normal(size=(8, 3)) + 1
    bridge = fit_bridge(vectors, y)
    x_mean, y_mean = vectors.mean(0), y.mean(0)
    x, target = vectors - x_mean, y - y_mean
    weights = np.linalg.solve(x.T @ x + bridge.alpha_ * np.eye(8), x.T @ target)
    np.testing.assert_allclose(bridge.predict(vectors), x @ weights + y_mean, rtol=1e-3, atol=1e-3)
    np.testing.assert_allclose(
        bridge.predict(vectors), Ridge(bridge.alpha_).fit(vectors, y).predict(vectors), atol=1e-4
    )


@pytest.mark.parametrize(
    ("query", "text"),
    [
        ("雪地上有一个围着蓝色围巾的雪人", "a snowman with a blue scarf on snow"),
        ("马路上的一个马克杯", "a mug on a road"),
        ("红色的汽车", "a red car"),
        ("一只橙色的猫和一架飞机在瓷砖地板上", "an orange cat and an airplane on a tiled floor"),
        ("你好", ""),
    ],
)
def test_chinese_is_translated_word_by_word(query, text):
    assert lifted("translate")(query) == text


@pytest.mark.parametrize("split", ["train", "test"])
def test_captions_of_one_toy_are_translated_without_loss(split):
    translate, phrase, things = lifted("translate", "phrase", "things")
    for row in samples.load_scenes(split).table:
        if len(row["objects"]) == 1:
            assert translate(row["caption_zh"]) == phrase(things(row)[0])

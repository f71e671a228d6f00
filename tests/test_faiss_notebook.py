"""The functions of evidence 04 that grow vectors, measure Faiss indexes and filter them."""

import faiss
import numpy as np
import pytest

from dinov2_helpers.measure import overlap_at
from tools import pairing
from tools.lift import lift
from tools.project import Project

PROJECT = Project()


@pytest.fixture(scope="module")
def code():
    """The notebook's functions by name."""
    names = [
        *("unit", "grow", "intrinsic_dimension", "portrait"),
        *("blank", "build", "tune", "codes", "stored_bytes", "rates", "measure"),
        *("best_row", "index_table", "committed"),
        *("filter_settings", "filtered", "under_filter", "abilities"),
        *("K", "KIN", "CHUNK", "RECIPES"),
    ]
    lifted = lift(pairing.read_source(PROJECT, "evidence/04_cross_modal_retrieval"), *names)
    assert set(names) <= lifted.keys()
    return lifted


@pytest.fixture(scope="module")
def real():
    """300 unit vectors in 16 dimensions: clusters, as pictures of classes are."""
    rng = np.random.default_rng(0)
    centres = rng.normal(size=(30, 16))
    return unit_rows(np.repeat(centres, 10, axis=0) + 0.5 * rng.normal(size=(300, 16)))


@pytest.fixture(scope="module")
def x(code, real):
    return code["grow"](real, 2_000, seed=1)


@pytest.fixture(scope="module")
def queries(code, real):
    return code["grow"](real, 50, seed=2)


@pytest.fixture(scope="module")
def flat(x):
    index = faiss.IndexFlatIP(x.shape[1])
    index.add(x)
    return index


def unit_rows(x):
    return (x / np.linalg.norm(x, axis=1, keepdims=True)).astype(np.float32)


def recall(found, truth):
    return overlap_at(found, truth).mean()


def exact(x, queries, k):
    """Ids of the k nearest by plain numpy."""
    return np.argsort(-queries @ x.T, axis=1)[:, :k]


class TestGrow:
    def test_unit_float32_and_ready_for_faiss(self, code, real):
        grown = code["grow"](real, 100, seed=0)
        assert grown.shape == (100, 16) and grown.dtype == np.float32
        assert grown.flags.c_contiguous
        np.testing.assert_allclose(np.linalg.norm(grown, axis=1), 1, atol=1e-6)

    def test_the_seed_decides(self, code, real):
        first, again, other = (code["grow"](real, 50, seed=seed) for seed in (3, 3, 4))
        np.testing.assert_array_equal(first, again)
        assert np.abs(first - other).max() > 0.1

    def test_a_larger_set_begins_with_a_smaller_one_of_whole_chunks(self, code, real):
        chunk = code["CHUNK"]
        small, large = code["grow"](real, chunk, seed=0), code["grow"](real, chunk + 5, seed=0)
        np.testing.assert_array_equal(small, large[:chunk])

    def test_noise_has_the_covariance_of_the_differences_to_the_neighbours(self, code):
        # all vectors have the same neighbourhood when they are few more than it needs, so what is
        # drawn around each can be predicted; small differences keep the unit sphere out of it
        rng = np.random.default_rng(0)
        tiny = np.concatenate([np.ones((17, 1)), 1e-3 * rng.normal(size=(17, 3))], axis=1)
        real = unit_rows(tiny).astype(np.float64)
        grown = code["grow"](real, 200_000, seed=0)
        expected = np.cov(real.T, bias=True)
        for a in real:
            differences = real - a
            expected = expected + differences.T @ differences / code["KIN"] / len(real)
        got = np.cov(grown.T.astype(np.float64), bias=True)
        np.testing.assert_allclose(got[1:, 1:], expected[1:, 1:], atol=0.03 * expected.max())

    def test_no_copies_of_the_real_vectors(self, real, x):
        assert (x @ real.T).max() < 0.9999


class TestStatistics:
    @pytest.mark.parametrize("dim", [2, 5])
    def test_intrinsic_dimension_of_a_flat_patch(self, code, dim):
        rng = np.random.default_rng(0)
        patch = 0.01 * rng.uniform(-1, 1, size=(4_000, dim))
        points = np.hstack([np.ones((len(patch), 1)), patch, np.zeros((len(patch), 10))])
        points /= np.linalg.norm(points, axis=1, keepdims=True)
        near = np.sort(points[:200] @ points.T, axis=1)[:, ::-1][:, 1:21]
        # the tiny distances need float64; the notebook's are far larger
        assert code["intrinsic_dimension"](near) == pytest.approx(dim, rel=0.15)

    def test_portrait_of_grown_vectors_is_finite(self, code, real):
        assert np.isfinite(list(code["portrait"](real).values())).all()


class TestIndexes:
    def test_exact_search_is_that_of_numpy(self, code, x, queries, flat):
        np.testing.assert_array_equal(flat.search(queries, 10)[1], exact(x, queries, 10))

    def test_every_recipe_finds_neighbours_at_its_last_setting(self, code, x, queries):
        truth = exact(x, queries, code["K"])
        for name, (recipe, settings) in code["RECIPES"].items():
            index = code["build"](recipe, x)
            assert index.ntotal == len(x), name
            code["tune"](index, settings[-1])
            least = 0.75 if name == "SQ4" else 0.95
            assert recall(index.search(queries, 10)[1], truth) > least, name

    def test_lists_are_trained_on_all_of_a_sorted_collection(self, code):
        rng = np.random.default_rng(0)
        centres = np.repeat(np.eye(8, dtype=np.float32), 2_500, axis=0)
        noise = 0.02 * rng.normal(size=centres.shape)
        index = code["build"]("IVF{lists},Flat", unit_rows(centres + noise))
        assert faiss.extract_index_ivf(index).invlists.imbalance_factor() < 2

    def test_one_at_a_time_every_query_is_asked_before_any_again(self, code, queries, monkeypatch):
        seen = []

        class Spy:
            def search(self, part, k):
                seen.append(part)

        monkeypatch.setitem(code["rates"].__globals__, "tune", lambda *_: None)
        code["rates"]([(Spy(), "")], queries, "alone", turns=1, least=0)
        np.testing.assert_array_equal(np.concatenate(seen), queries)

    def test_settings_reach_the_index(self, code, x):
        index = code["build"](code["RECIPES"]["OPQ+IVF-PQ"][0], x)
        code["tune"](index, "nprobe=7,k_factor_rf=3")
        assert index.k_factor == 3
        assert faiss.extract_index_ivf(index).nprobe == 7
        graph = code["build"](code["RECIPES"]["HNSW"][0], x)
        code["tune"](graph, "efSearch=99")
        assert graph.hnsw.efSearch == 99

    def test_sizes_are_those_of_the_codes(self, code, x, flat):
        assert code["stored_bytes"](flat) == pytest.approx(len(x) * 64, rel=0.01)
        index = code["build"](code["RECIPES"]["PQ"][0], x)
        assert code["codes"](index).sa_code_size() == 2
        assert code["stored_bytes"](code["codes"](index)) < code["stored_bytes"](index)

    def test_measure_gives_a_row_for_each_setting(self, code, x, queries, flat):
        rows = code["measure"](
            "IVF-Flat", x, flat, queries, ["1_thread", "alone"], turns=1, least=0
        )
        settings = code["RECIPES"]["IVF-Flat"][1]
        assert [row["setting"] for row in rows] == settings
        recalls = [row["recall"] for row in rows]
        assert recalls == sorted(recalls) and recalls[0] < recalls[-1]
        for row in rows:
            assert row["n"] == len(x) and row["per_second_alone"] > 0
            assert row["speedup_1_thread"] > 0 and row["build_seconds"] > 0

    def test_best_prefers_speed_once_recall_is_enough(self, code):
        rows = [
            {"n": 5, "index": "HNSW", "recall": recall, "per_second_1_thread": speed}
            for recall, speed in ((0.5, 9), (0.91, 5), (0.99, 2))
        ]
        assert code["best_row"](rows, 5, "HNSW")["recall"] == 0.91
        assert code["best_row"](rows[:1], 5, "HNSW")["recall"] == 0.5

    def test_a_missing_benchmark_says_what_to_do(self, code):
        with pytest.raises(FileNotFoundError, match=r"python -m benchmarks\.no_such_run"):
            code["committed"]("no_such_run")


ALLOWED = np.arange(0, 2_000, 10)


@pytest.fixture(scope="module")
def right(x, queries):
    """The ten nearest allowed vectors, by plain numpy."""
    return ALLOWED[exact(x[ALLOWED], queries, 10)]


class TestFilter:
    """A filter is obeyed or refused, whatever the index."""

    @pytest.mark.parametrize(
        ("recipe", "setting", "least"),
        [
            ("Flat", "", 1),
            ("SQ8", "", 0.95),
            ("HNSW16", "efSearch=2000", 0.99),
            ("IVF{lists},Flat", "nprobe=64", 0.99),
            ("IVF{lists},RaBitQ", "nprobe=64", 0.3),
            ("OPQ{pieces},IVF{lists},PQ{pieces}np", "nprobe=64", 0.3),
            ("OPQ{pieces},IVF{lists},PQ{pieces}np,RFlat", "nprobe=64,k_factor_rf=10", 0.95),
            ("RR{dim},IVF{lists},RaBitQ,RFlat", "nprobe=64,k_factor_rf=10", 0.95),
            ("SQ8,RFlat", "k_factor_rf=10", 1),
        ],
    )
    def test_only_allowed_ids_and_the_right_ones(
        self, code, x, queries, right, recipe, setting, least
    ):
        index = code["build"](recipe, x)
        code["tune"](index, setting)
        found = code["filtered"](index, queries, ALLOWED)
        assert np.isin(found, [*ALLOWED, -1]).all()
        assert recall(found, right) >= least

    def test_settings_of_the_index_are_kept(self, code, x, queries, right):
        # Faiss' default k_factor of 1, nprobe of 1 and efSearch of 16 find far fewer
        refined = code["build"]("IVF{lists},RaBitQ,RFlat", x)
        code["tune"](refined, "nprobe=64,k_factor_rf=10")
        own = code["filtered"](refined, queries, ALLOWED)
        few = code["filtered"](refined, queries, ALLOWED, k_factor=1)
        narrow = code["filtered"](refined, queries, ALLOWED, nprobe=1)
        kept = recall(own, right)
        assert kept > 0.95
        assert recall(few, right) < kept - 0.1
        assert recall(narrow, right) < kept - 0.1
        selector = faiss.IDSelectorBatch(ALLOWED)
        settings = code["filter_settings"](refined, selector)
        assert settings.k_factor == 10
        graph = code["build"]("HNSW16", x)
        code["tune"](graph, "efSearch=99")
        assert code["filter_settings"](graph, selector).efSearch == 99
        assert code["filter_settings"](graph, selector, efSearch=7).efSearch == 7

    def test_a_filter_on_own_ids(self, code, x, queries, right):
        graph = faiss.index_factory(x.shape[1], "HNSW16", faiss.METRIC_INNER_PRODUCT)
        index = faiss.IndexIDMap2(graph)
        index.add_with_ids(x, np.arange(len(x)) + 50_000)
        found = code["filtered"](index, queries, ALLOWED + 50_000, efSearch=2_000)
        assert recall(found, right + 50_000) > 0.99
        empty = code["build"]("SQ8,RFlat", x)
        empty.reset()
        refined = faiss.IndexIDMap2(empty)
        refined.add_with_ids(x, np.arange(len(x)) + 50_000)
        with pytest.raises(RuntimeError, match="IndexIDMap2 of a refined index"):
            code["filtered"](refined, queries, ALLOWED)

    @pytest.mark.parametrize("ordered", [False, True])
    def test_shards(self, code, x, queries, right, ordered):
        shards = faiss.IndexShards(x.shape[1], False, ordered)
        parts = []
        for ids in np.split(np.arange(len(x)), 2):
            parts.append(code["build"]("IVF{lists},Flat", x))
            parts[-1].reset()
            parts[-1].nprobe = 64
            if ordered:
                parts[-1].add(x[ids])
            else:
                parts[-1].add_with_ids(x[ids], ids)
            shards.add_shard(parts[-1])
        if ordered:
            with pytest.raises(RuntimeError, match="successive_ids=False"):
                code["filtered"](shards, queries, ALLOWED)
        else:
            found = code["filtered"](shards, queries, ALLOWED)
            assert np.isin(found, ALLOWED).all()
            assert recall(found, right) > 0.99

    def test_shards_of_one_quantizer_are_refused(self, code, x, queries):
        ivf = code["build"]("IVF{lists},Flat", x)
        shards = faiss.IndexShardsIVF(ivf.quantizer, ivf.nlist, False, False)
        shards.add_shard(ivf)
        with pytest.raises(RuntimeError, match="IndexShardsIVF passes over a filter"):
            code["filtered"](shards, queries, ALLOWED)

    def test_an_unbounded_queue_is_refused(self, code, x, queries):
        graph = code["build"]("HNSW16", x)
        with pytest.raises(RuntimeError, match="IndexHNSWFlat with bounded_queue=False"):
            code["filtered"](graph, queries, ALLOWED, bounded_queue=False)
        graph.hnsw.search_bounded_queue = False
        found = code["filtered"](graph, queries, ALLOWED)
        assert np.isin(found, [*ALLOWED, -1]).all()

    def test_other_kinds_are_refused_by_name(self, code, x, queries):
        index = faiss.IndexReplicas(x.shape[1])
        with pytest.raises(RuntimeError, match="IndexReplicas is not known"):
            code["filtered"](index, queries, ALLOWED)
        for recipe in ("PQ{pieces}np", "PQ{pieces}np,RFlat"):
            with pytest.raises(RuntimeError, match="IndexPQ is not known"):
                code["filtered"](code["build"](recipe, x), queries, ALLOWED)


class TestLife:
    @pytest.mark.parametrize(
        ("recipe", "wanted"),
        [
            ("Flat", ["no", "no", "yes, ids move"]),
            ("HNSW16", ["no", "no", "no"]),
            ("IVF{lists},Flat", ["yes", "yes", "yes"]),
            ("PQ{pieces}np", ["yes", "no", "yes, ids move"]),
            ("PQ{pieces}np,RFlat", ["yes", "no", "no"]),
            ("RR{dim},IVF{lists},RaBitQ,RFlat", ["yes", "no", "no"]),
        ],
    )
    def test_abilities_are_those_the_text_tells(self, code, x, recipe, wanted):
        assert code["abilities"](recipe, x) == wanted

    def test_a_filter_is_counted_in_three_parts(self, code, flat, queries, monkeypatch):
        found = np.array([[100, 101, 102, 7, 8, 9, 10, 11, -1, -1]])
        monkeypatch.setitem(code["under_filter"].__globals__, "filtered", lambda *_: found)
        best = np.arange(100, 110)[None]
        answer = code["under_filter"](flat, queries[:1], np.arange(100, 200), best)
        assert answer == pytest.approx((0.3, 0.2, 0.5))

    def test_an_index_that_is_not_known_to_obey_is_refused(self, code, x, queries, right):
        index = code["build"]("PQ{pieces}np", x)
        assert code["under_filter"](index, queries, ALLOWED, right) is None

"""The benchmark of Faiss indexes, at a size that takes seconds."""

import json

import numpy as np
import pytest

from benchmarks import faiss_indexes
from dinov2_helpers.samples import data_dir

ROW = {
    "n", "index", "setting", "recall", "build_seconds", "bytes_per_vector", "code_bytes_per_vector",
    "per_second_1_thread", "per_second_2_threads", "per_second_alone",
    "speedup_1_thread", "speedup_2_threads", "speedup_alone",
}  # fmt: skip
RUN = {
    "date", "python", "numpy", "faiss", "faiss_options", "processor", "cores", "omp_wait_policy",
    "blas_threshold", "vectors", "dim", "seed", "neighbours", "queries", "turns", "recipes",
    "seconds", "peak_mb",
}  # fmt: skip


@pytest.fixture
def small(monkeypatch):
    """Few queries, no repeats, and random features in place of the model's."""
    features = np.random.default_rng(0).normal(size=(200, 16))
    monkeypatch.setattr(faiss_indexes, "real_vectors", lambda: (features, "noise"))
    for name, value in (("QUERIES", 20), ("TURNS", 1), ("LEAST", 0)):
        monkeypatch.setattr(faiss_indexes, name, value)


def test_the_command_writes_rows_and_the_record_of_its_run(small, tmp_path, capsys):
    out = tmp_path / "new" / "results.json"
    assert faiss_indexes.main(["--sizes", "500", "2000", "--out", str(out)]) == 0
    report = json.loads(out.read_text())
    recipes = faiss_indexes.notebook_code()["RECIPES"]
    assert report.keys() == {"run", "grown", "rows"}
    assert report["run"].keys() == RUN
    assert report["grown"].keys() == {"500", "2000"}
    assert all(row.keys() == ROW for row in report["rows"])
    assert {(row["n"], row["index"], row["setting"]) for row in report["rows"]} == {
        (n, name, setting)
        for n in (500, 2000)
        for name, (_, settings) in recipes.items()
        for setting in settings
    }
    flat = next(row for row in report["rows"] if row["index"] == "Flat")
    assert flat["recall"] == 1 and flat["bytes_per_vector"] == pytest.approx(64, rel=0.02)
    assert capsys.readouterr().out.count("\n") == 2 * len(recipes)


def test_an_interrupted_run_keeps_what_was_measured(small, tmp_path, monkeypatch):
    out = tmp_path / "results.json"
    code = faiss_indexes.notebook_code()

    def stop(name, *arguments):
        if name == "HNSW":
            raise KeyboardInterrupt
        return code["measure"](name, *arguments)

    monkeypatch.setattr(faiss_indexes, "notebook_code", lambda: code | {"measure": stop})
    with pytest.raises(KeyboardInterrupt):
        faiss_indexes.main(["--sizes", "500", "--out", str(out)])
    kept = {row["index"] for row in json.loads(out.read_text())["rows"]}
    assert kept == {"Flat", "IVF-Flat"}


def test_rounded():
    given = {"a": [1.23456, {"b": 123456.7}], "c": 123456, "d": "x"}
    assert faiss_indexes.rounded(given) == {"a": [1.235, {"b": 123500.0}], "c": 123456, "d": "x"}


def test_the_committed_results_fit_the_notebook():
    report = json.loads((data_dir() / "benchmarks" / "faiss_indexes.json").read_text())
    code = faiss_indexes.notebook_code()
    assert report["run"].keys() == RUN
    assert report["run"]["seed"] == code["SEED"]
    recipes = {name: recipe for name, (recipe, _) in code["RECIPES"].items()}
    assert report["run"]["recipes"] == recipes
    wanted = {
        (n, name, setting)
        for n in (1_000, 10_000, 100_000, 1_000_000)
        for name, (_, settings) in code["RECIPES"].items()
        for setting in settings
    }
    rows = [(row["n"], row["index"], row["setting"]) for row in report["rows"]]
    assert len(rows) == len(wanted) and set(rows) == wanted

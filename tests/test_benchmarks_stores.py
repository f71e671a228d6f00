"""The comparison of stores, on few vectors."""

import json

import numpy as np
import pytest

from benchmarks import passages, stores, table
from benchmarks.store_ways import SHELF, WAYS, BareFaiss, bytes_of, shelf_of
from benchmarks.ways import Missing
from tools.project import ROOT

N, DIM = 500, 16


@pytest.fixture
def small(monkeypatch):
    """Random features in place of the model's, and few rounds."""
    features = np.random.default_rng(0).normal(size=(200, DIM)).astype(np.float32)
    monkeypatch.setattr(stores, "real_vectors", lambda: (features, "noise"))
    monkeypatch.setattr(stores, "ROUNDS", 2)


@pytest.fixture
def material():
    rng = np.random.default_rng(0)
    drawn = rng.normal(size=(N + 20 + 50, DIM)).astype(np.float32)
    unit = drawn / np.linalg.norm(drawn, axis=1, keepdims=True)
    return stores.Material(*np.split(unit, [N, N + 20]))


def test_the_command_writes_a_row_for_each_way(small, tmp_path, monkeypatch, capsys):
    def gone(folder):
        raise Missing("not installed: lancedb")

    monkeypatch.setitem(WAYS, "LanceDB, IVF-PQ", gone)
    names = [name for name in WAYS if name != "LanceDB, exact"]
    out = tmp_path / "results.json"
    arguments = ["--sizes", str(N), "--queries", "20", "--out", str(out), "--ways", *names]
    assert stores.main(arguments) == 0
    report = json.loads(out.read_text(encoding="utf-8"))
    assert report["run"].keys() >= {"date", "faiss-cpu", "threads", "reference", "others_cores"}
    rows = {row["way"]: row for row in report["rows"]}
    assert list(rows) == names
    assert rows.pop("LanceDB, IVF-PQ")["missing"] == "not installed: lancedb"
    for name, row in rows.items():
        assert row["n"] == N and row["queries"] == 20 and row["bytes"] > N * DIM * 4
        assert row["filter"]["obeyed"] and row["recall"] > 0.95
        assert 0 < row["query"]["p50_ms"] <= row["query"]["p99_ms"]
        if name == "bare Faiss, graph":
            assert "removes nothing" in row["impossible"]
        else:
            assert row["replace"]["seen"] and row["delete"]["seen"]
    for name in ("bare Faiss, exact", "ImageIndex, exact"):
        assert rows[name]["recall"] == rows[name]["filter"]["recall"] == 1
    assert rows[stores.REFERENCE]["query"]["times_reference"] == 1
    assert "not installed: lancedb" in capsys.readouterr().out
    for row in table.stores(report).rows:
        assert len(row) == len(table.stores(report).heads)


def test_rows_of_other_sizes_stay(small, tmp_path):
    out = tmp_path / "results.json"
    for sizes in (["300"], ["200"], ["300"]):
        command = ["--sizes", *sizes, "--queries", "4", "--ways", stores.REFERENCE]
        assert stores.main([*command, "--out", str(out)]) == 0
    report = json.loads(out.read_text(encoding="utf-8"))
    assert [row["n"] for row in report["rows"]] == [200, 300]
    assert all(row["others_cores"] >= 0 for row in report["rows"])


@pytest.mark.parametrize("name", WAYS)
def test_ways_keep_what_they_are_given(name, material, tmp_path):
    try:
        way = WAYS[name](tmp_path / "store")
    except Missing as missing:
        pytest.skip(str(missing))
    way.build(material.vectors)
    for row in (0, 7, N - 1):
        assert way.query(material.vectors[row])[0] == row + 1
    found = way.filtered(material.vectors[SHELF - 1])
    assert found[0] == SHELF and (shelf_of(found) == SHELF).all() and len(found) <= 5
    changes = stores.changed(way, material)
    if "impossible" not in changes:
        assert changes["replace"]["seen"] and changes["delete"]["seen"]
        assert N not in way.query(material.vectors[-1])
        assert way.query(material.others[-1])[0] == len(material.others)


class Careless(BareFaiss):
    """Obeys no condition, and forgets nothing."""

    def filtered(self, vector):
        return self.query(vector)

    def replace(self, ids, vectors):
        pass

    def delete(self, ids):
        pass


def test_a_way_that_cheats_is_found_out(material, monkeypatch, tmp_path):
    monkeypatch.setitem(WAYS, "careless", lambda folder: Careless("exact"))
    (row,) = stores.measured(["careless"], material, tmp_path)
    assert row["recall"] == 1
    assert not row["filter"]["obeyed"] and row["filter"]["recall"] < 0.5
    assert not row["replace"]["seen"] and not row["delete"]["seen"]
    cells = table.stores({"run": {"date": "", "processor": "", "cores": 1}, "rows": [row]}).rows[0]
    assert "disobeyed" in cells and cells[-2:] == ("not seen", "not seen")


def test_all_ways_are_asked_all_queries_in_turns():
    order = []
    searches = {name: lambda query, name=name: order.append((name, int(query))) for name in "ab"}
    asked = stores.ask_in_turns(searches, np.arange(4), rounds=2)
    warm = [("a", 0), ("b", 0)]
    turns = [("a", 0), ("a", 1), ("b", 0), ("b", 1), ("a", 2), ("a", 3), ("b", 2), ("b", 3)]
    assert order == warm + turns
    assert [len(part) for part in asked["b"].milliseconds] == [2, 2]


def test_a_ratio_is_of_the_processor_in_the_median_round():
    slow = stores.Asked([], [[2.0, 2.0, 9.0], [40.0, 40.0, 40.0]], [3.0, 5.0])
    fast = stores.Asked([], [[1.0, 1.0, 1.0], [20.0, 20.0, 20.0]], [1.0, 3.0])
    found = stores.latency(slow, fast)
    assert found["p50_ms"] == 24.5 and found["cpu_ms"] == 4
    assert found["times_reference"] == 2
    assert "times_reference" not in stores.latency(slow, None)


def test_recall_counts_the_right_ones():
    assert stores.recall([np.array([1, 9]), np.array([4])], np.array([[1, 2], [3, 4]])) == 0.5


def test_bytes_are_of_all_files(tmp_path):
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a").write_bytes(b"123")
    (tmp_path / "b").write_bytes(b"45")
    assert bytes_of(tmp_path) == 5


def test_the_page_on_scale_has_the_table():
    assert "stores" in passages.passages()
    page = (ROOT / "docs" / "scaling.md").read_text(encoding="utf-8")
    assert passages.path_of("stores").read_text(encoding="utf-8").strip() in page

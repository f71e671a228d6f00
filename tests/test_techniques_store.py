"""The database of an ImageIndex: whole after a kill, read while written, closed to injection."""

import dataclasses
import os
import shutil
import sqlite3
import subprocess
import sys
import time

import faiss
import numpy as np
import pytest

from benchmarks.kill_store import Pictures, Rows, check, entry, kill_while_writing, life
from dinov2_helpers.techniques.keeping import KeptError, load_object, save_object
from dinov2_helpers.techniques.store import Store, WhereError
from dinov2_helpers.techniques.vector_search import (
    GRAPH_EFFORT,
    LISTS_READ,
    Space,
    choose,
    rows_among,
)

MODELS = {"dinov2": {"name": "a", "fingerprint": "1"}, "clip": {"name": "b", "fingerprint": "2"}}


@pytest.fixture
def store(tmp_path):
    with_rows = Store(tmp_path / "store", models=MODELS)
    with_rows.write([entry(number) for number in range(200)])
    yield with_rows
    with_rows.close()


def unit(x):
    return (x / np.linalg.norm(x, axis=1, keepdims=True)).astype(np.float32)


def space_of(store, kind="exact"):
    space = Space(store, "dinov2", unit, key="test", kind=kind)
    space.refresh()
    return space


def test_what_was_written_is_there_after_kills(tmp_path):
    killed = kill_while_writing(Rows(), tmp_path / "store", times=8)
    assert killed.acknowledged > 0
    assert killed.lost == killed.doubled == killed.torn == 0


def test_pictures_that_were_added_are_there_after_kills(tmp_path, dinov2, clip):
    killed = kill_while_writing(Pictures(tmp_path, dinov2, clip), tmp_path / "store", times=4)
    assert killed.acknowledged > 0
    assert killed.lost == killed.doubled == killed.torn == 0


def test_a_writer_that_fails_is_no_writer_that_was_killed(tmp_path, capfd):
    class Failing(Rows):
        def write(self, folder, say):
            say(0)
            raise OSError("no space left on the disk")

    with pytest.raises(RuntimeError, match="ended by itself"):
        life(Failing(), tmp_path / "store", batches=1, share=0)
    assert "no space left" in capfd.readouterr().err


def test_the_check_of_the_kills_sees_what_is_lost(tmp_path):
    store = Store(tmp_path / "store", models=MODELS)
    store.write([entry(number) for number in range(20)])
    assert check(store, acknowledged=20) == (0, 0, 0)
    store.write([dataclasses.replace(entry(7), clip=entry(8).clip)])
    assert check(store, acknowledged=20) == (0, 0, 1)
    store.delete([3])
    assert check(store, acknowledged=20) == (1, 0, 2)
    store.close()


WRITER = """
import sys
from benchmarks.kill_store import BATCH, entry
from dinov2_helpers.techniques.store import Store
store = Store(sys.argv[1])
for start in range(200, 200 + 20 * BATCH, BATCH):
    store.write([entry(number) for number in range(start, start + BATCH)])
"""
READER = """
import sys
from benchmarks.kill_store import BATCH, check
from dinov2_helpers.techniques.store import Store
from dinov2_helpers.techniques.vector_search import Space
store, seen = Store(sys.argv[1]), set()
space = Space(store, "dinov2", lambda vectors: vectors, key="")
while len(space) < 200 + 20 * BATCH:
    space.refresh()
    assert (len(space) - 200) % BATCH == 0, len(space)
    seen.add(len(space))
assert check(store, acknowledged=200 + 20 * BATCH) == (0, 0, 0)
print(len(seen))
"""


def test_two_processes_read_while_one_writes(store):
    def start(code):
        command = [sys.executable, "-c", code, str(store.folder)]
        return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)

    readers = [start(READER), start(READER)]
    writer = start(WRITER)
    try:
        assert writer.wait(120) == 0
        for reader in readers:
            said, _ = reader.communicate(timeout=120)
            assert reader.returncode == 0
            assert int(said) >= 1
    finally:
        for process in (writer, *readers):
            process.kill()
            process.wait()


def test_ids_are_stable_and_never_reused(store):
    (first,) = store.write([entry(0)])
    assert first == 1
    assert store.delete([200, 4000, 2**70, -(2**70), 0]) == 1
    assert store.row(2**70) is None
    (number,) = store.write([entry(500)])
    assert number > 200
    assert len(store) == 200


@pytest.mark.parametrize(
    "where",
    [
        "1); DELETE FROM files; --",
        "id IN (SELECT id FROM files)",
        "id IN (SELECT id FROM vectors)",
        "id IN (SELECT rowid FROM sqlite_master)",
        "load_extension('x')",
        "1) UNION SELECT name FROM pictures WHERE (1",
        "id IN (WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c) SELECT x FROM c)",
        "1; ATTACH DATABASE 'other.sqlite' AS other",
        "pragma_table_info('files')",
        "path = 1",
        "",
        "width >",
        "width > ?",
    ],
)
def test_a_condition_can_do_no_more_than_read_columns(store, where):
    with pytest.raises(WhereError, match="condition of SQL"):
        store.select(where)
    assert len(store) == 200


def test_a_condition_that_takes_too_long_is_stopped(store, monkeypatch):
    monkeypatch.setattr("dinov2_helpers.techniques.store.LONGEST_WHERE", 0.2)
    others = ", ".join(f"pictures AS p{n}" for n in range(6))
    began = time.monotonic()
    with pytest.raises(WhereError, match="interrupted"):
        store.select(f"id = (SELECT count(*) FROM {others} WHERE p0.name < p1.name)")
    assert time.monotonic() - began < 10


@pytest.mark.parametrize("name", [b"\xff\xfe.png", b'it\'s "q".png', b"$HOME `x`.png", b"a;b%\n?"])
def test_names_of_files_are_bytes(store, name):
    odd = dataclasses.replace(entry(1000), path=b"/p/" + name)
    (number,) = store.write([odd])
    assert store.row(number).path == b"/p/" + name
    assert store.known(b"/p/" + name).id == number
    store.set_attributes({number: {"name": os.fsdecode(name)}})
    assert store.row(number).attributes == {"name": os.fsdecode(name)}
    assert store.select("attributes->>'$.name' IS NOT NULL").tolist() == [number]


def test_folders_with_odd_names_hold_stores(tmp_path):
    folder = os.fsdecode(os.fsencode(tmp_path) + b"/\xff 100%? #'")
    Store(folder, models=MODELS).close()
    store = Store(folder)
    store.write([entry(1)])
    assert store.select("id = 1").tolist() == [1]
    store.close()


def test_a_tilde_is_the_home_folder_or_part_of_a_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    for given, meant in (("~/a", "home/a"), ("~nobody at all", "~nobody at all")):
        store = Store(given, models=MODELS)
        assert store.folder == tmp_path / meant
        store.close()
        save_object(given, "thing", {}, {}, {})
        assert load_object(tmp_path / meant, "thing").folder == tmp_path / meant


def test_no_store_and_a_damaged_one_are_said(tmp_path, store):
    with pytest.raises(KeptError, match="holds no index"):
        Store(tmp_path / "nothing")
    store.close()
    (store.folder / "pictures.sqlite").write_bytes(b"no database" * 500)
    with pytest.raises(KeptError, match="cannot be read"):
        Store(store.folder)


def test_vectors_of_another_length_or_not_finite_are_refused_and_nothing_is_written(store):
    short = dataclasses.replace(entry(900), clip=np.ones(3, np.float32))
    broken = dataclasses.replace(entry(901), dinov2=np.full(32, np.nan, np.float32))
    for wrong in (short, broken):
        with pytest.raises(ValueError, match="vector"):
            store.write([entry(899), wrong])
    assert len(store) == 200


METHODS = {
    "len": len,
    "state": Store.state,
    "changes": lambda store: store.changes("dinov2"),
    "paths": Store.paths,
    "known": lambda store: [store.known(entry(number).path) for number in range(200)],
    "row": lambda store: [store.row(number) for number in range(1, 201)],
    "select": lambda store: store.select("length(name) > 0 AND length(attributes) > 0"),
    "write": lambda store: store.write([entry(number) for number in range(300)]),
    "delete": lambda store: store.delete(range(1, 201)),
    "compact": Store.compact,
}


@pytest.mark.parametrize("method", METHODS)
def test_what_is_damaged_is_said_by_every_method_with_the_remedy(store, method):
    store.compact()
    store.close()
    path = store.folder / "pictures.sqlite"
    content = bytearray(path.read_bytes())
    content[4096:] = b"\xff" * (len(content) - 4096)  # all but the first page, of the schema
    path.write_bytes(content)
    with pytest.raises(KeptError, match="is damaged") as caught:
        METHODS[method](Store(store.folder))
    assert str(path) in str(caught.value)
    assert "index the pictures again" in str(caught.value)


@pytest.mark.parametrize("method", ["write", "delete", "compact"])
def test_who_cannot_wait_for_another_writer_is_told_to_try_again(store, method, monkeypatch):
    monkeypatch.setattr("dinov2_helpers.techniques.store.PATIENCE", 0.01)
    other = sqlite3.connect(store.path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    late = Store(store.folder)
    with pytest.raises(KeptError, match=r"pictures\.sqlite: another process is writing .* again"):
        METHODS[method](late)
    assert len(late) == 200
    other.execute("ROLLBACK")
    other.close()
    METHODS[method](late)
    late.close()


def test_one_that_another_process_is_making_is_not_called_damaged(tmp_path, monkeypatch):
    monkeypatch.setattr("dinov2_helpers.techniques.store.PATIENCE", 0.01)
    other = sqlite3.connect(tmp_path / "pictures.sqlite", isolation_level=None)
    other.execute("PRAGMA journal_mode=WAL")
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(KeptError, match="another process is writing"):
        Store(tmp_path, models=MODELS)
    other.close()


# Vectors


@pytest.mark.parametrize("kind", ["exact", "hnsw", "ivf"])
@pytest.mark.parametrize("where", ["id % 50 = 0", "id % 2 = 0", "id = 7", "0", "1"])
def test_a_filter_is_obeyed_and_equals_brute_force(store, kind, where):
    space = space_of(store, kind)
    allowed = store.select(where)
    query = unit(np.random.default_rng(5).normal(size=(1, 32)))[0]
    cosines = space.vectors @ query
    order = [number for number in space.ids[np.argsort(-cosines)] if number in allowed][:10]
    found = space.search(query, 10, allowed)
    assert np.isin(found.ids, allowed).all()
    assert (found.ids > 0).all()
    assert len(found.ids) == len(order)
    if kind != "ivf":
        assert found.ids.tolist() == order
    assert (np.diff(found.scores) <= 0).all()


@pytest.mark.parametrize("kind", ["exact", "hnsw"])
def test_what_another_connection_changes_is_seen(store, kind):
    space = space_of(store, kind)
    other = Store(store.folder)
    other.delete([5])
    other.write([dataclasses.replace(entry(9), dinov2=-entry(9).dinov2), entry(300)])
    other.close()
    space.refresh()
    assert len(space) == 200
    query = unit(-entry(9).dinov2[None])[0]
    assert space.search(query, 1).ids.tolist() == [10]
    newest = store.known(entry(300).path).id
    assert space.search(unit(entry(300).dinov2[None])[0], 1).ids.tolist() == [newest]
    assert 5 not in space.search(query, 200).ids
    fresh = space_of(store, "exact")
    assert fresh.ids.tolist() == space.ids.tolist()
    assert (fresh.vectors == space.vectors).all()


def test_an_index_is_a_cache_that_is_made_again(store, caplog):
    built = space_of(store, "hnsw").built
    (path,) = (store.folder / "cache").glob("*.faiss")
    again = space_of(store, "hnsw").built
    assert again.state == built.state
    path.write_bytes(path.read_bytes()[:-50])
    made = space_of(store, "hnsw")
    assert "made again" in caplog.text
    assert len(made.search(unit(np.ones((1, 32)))[0], 10).ids) == 10
    path.unlink()
    assert space_of(store, "hnsw").built is not None
    assert path.exists()


def test_an_index_of_another_time_is_not_used(tmp_path, store):
    space_of(store, "hnsw")
    other = Store(tmp_path / "other", models=MODELS)
    other.write([entry(number) for number in range(1000, 1200)])
    (store.folder / "cache").rename(tmp_path / "other" / "cache")
    space = space_of(other, "hnsw")
    assert space.built.state == other.state()
    found = space.search(unit(entry(1007).dinov2[None])[0], 1)
    assert found.ids.tolist() == [8]
    assert found.scores[0] == pytest.approx(1)
    other.close()


def test_many_changes_build_the_index_again(store):
    space = space_of(store, "hnsw")
    before = space.built.state
    store.write([entry(number) for number in range(300, 310)])
    space.refresh()
    assert space.built.state == before
    store.write([entry(number) for number in range(310, 350)])
    space.refresh()
    assert space.built.state == store.state()


@pytest.mark.parametrize("share", [0.02, 0.6])
@pytest.mark.parametrize("kind", ["exact", "hnsw"])
def test_a_filter_is_obeyed_exactly_also_after_changes(store, kind, share):
    random = np.random.default_rng(0)
    space = space_of(store, kind)
    for later in (None, range(300, 310)):
        if later is not None:
            store.write([entry(number) for number in later])
            space.refresh()
        wanted = max(2, round(share * len(space)))
        allowed = random.permutation(space.ids)[:wanted]
        query = unit(random.normal(size=(1, 32)).astype(np.float32))[0]
        cosines = space.vectors @ query
        cosines[~np.isin(space.ids, allowed)] = -2
        expected = np.argsort(-cosines)[: min(5, wanted)]
        found = space.search(query, min(5, wanted), np.append(allowed, 10**9))
        assert found.ids.tolist() == space.ids[expected].tolist()
        assert found.scores == pytest.approx(cosines[expected], abs=1e-6)


@pytest.fixture(scope="module")
def towns(tmp_path_factory):
    """A store of 1,400 vectors about one direction and 600 about another, and the two."""
    random = np.random.default_rng(0)
    directions = np.eye(32, dtype=np.float32)[:2]
    around = np.repeat(directions, (1400, 600), axis=0)
    vectors = (around + 0.05 * random.normal(size=around.shape)).astype(np.float32)
    entries = [dataclasses.replace(entry(i), dinov2=one) for i, one in enumerate(vectors)]
    store = Store(tmp_path_factory.mktemp("towns"), models=MODELS)
    store.write(entries)
    yield store, *directions
    store.close()


@pytest.mark.parametrize("k", [1, 10, 300])
@pytest.mark.parametrize("kind", ["hnsw", "ivf"])
def test_a_condition_that_nothing_near_the_query_meets_is_answered(towns, kind, k):
    store, near, _ = towns
    allowed = store.select("id > 1400")
    found = space_of(store, kind).search(near, k, allowed)
    assert found.ids.tolist() == space_of(store).search(near, k, allowed).ids.tolist()


@pytest.mark.parametrize("kind", ["hnsw", "ivf"])
def test_as_many_are_found_as_there_are(towns, kind):
    store, near, _ = towns
    for k in (5000, 10**12):
        assert len(space_of(store, kind).search(near, k).ids) == 2000


@pytest.mark.parametrize("left", [700, 10])
def test_what_deleting_has_left_is_found(towns, tmp_path, left):
    whole, near, _ = towns
    shutil.copytree(whole.folder, tmp_path / "store")
    store = Store(tmp_path / "store")
    space = space_of(store, "hnsw")
    before = space.built.state
    store.delete(store.select("id > ? AND id <= 1400", [left]))
    space.refresh()
    expected = space_of(store).search(near, 15).ids  # also of those that are far
    assert space.search(near, 15).ids.tolist() == expected.tolist()
    assert (space.built.state == before) == (left == 700)
    store.close()


def test_rows_among_finds_those_that_are_there():
    ids = np.array([2, 5, 7])
    assert rows_among(ids, np.array([1, 5, 7, 9])).tolist() == [1, 2]
    assert rows_among(ids[:0], ids).tolist() == []


@pytest.mark.parametrize("kind", ["exact", "hnsw", "ivf"])
def test_what_is_found_is_what_bare_faiss_finds(tmp_path, kind):
    faiss.omp_set_num_threads(1)  # the graph depends on the order in which threads add to it
    store = Store(tmp_path / "store", models=MODELS)
    store.write([entry(number) for number in range(3000)])
    space = space_of(store, kind)
    vectors = unit(np.stack([entry(number).dinov2 for number in range(3000)]))
    index = faiss.index_factory(32, choose(3000, 32, kind).recipe, faiss.METRIC_INNER_PRODUCT)
    if kind == "hnsw":
        index.hnsw.efConstruction = index.hnsw.efSearch = GRAPH_EFFORT
    if kind == "ivf":
        index.nprobe = LISTS_READ
        index.train(vectors)
    index.add(vectors)
    queries = unit(np.random.default_rng(1).normal(size=(20, 32)))
    scores, rows = index.search(queries, 10)
    for query, score, row in zip(queries, scores, rows, strict=True):
        found = space.search(query, 10)
        assert (found.ids - 1).tolist() == row.tolist()
        np.testing.assert_allclose(found.scores, score, atol=1e-6)
    store.close()


def test_the_type_of_index_follows_from_the_size():
    kinds = [choose(n, 768).kind for n in (1_000, 50_000, 100_000, 10_000_000)]
    assert kinds == ["exact", "exact", "hnsw", "ivf"]
    with pytest.raises(ValueError, match="index='annoy'"):
        choose(1, 1, "annoy")

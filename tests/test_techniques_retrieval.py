"""ImageIndex: what it keeps, renews and forgets, and what it finds, beside numpy."""

import json
import logging
import os
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from processes import SECONDS, as_nobody, finish, start

from dinov2_helpers import ImageError, extract_features, load_clip, load_dinov2, load_scenes
from dinov2_helpers.techniques import Bridge, ImageIndex, KeptError, retrieval
from dinov2_helpers.techniques.store import Entry, WhereError
from dinov2_helpers.techniques.vector_search import Space

N = 120  # enough for a bridge
WORDS = "a cat, a dog"


@pytest.fixture(scope="module")
def photographs(tmp_path_factory, picture):
    """Return a folder of different pictures, of two widths."""
    folder = tmp_path_factory.mktemp("photographs")
    for number in range(N):
        picture(80 + 20 * (number % 2), 70, seed=number).save(folder / f"{number:03d}.png")
    return folder


@pytest.fixture(scope="module")
def shared(tmp_path_factory, photographs, dinov2, clip):
    """Return the folder of an index of all of them; tests only read it, or copy it."""
    folder = tmp_path_factory.mktemp("shared") / "store"
    with ImageIndex(folder, dinov2, clip, progress=False) as index:
        index.add(photographs, lambda path: {"number": int(path.stem)})
    return folder


@pytest.fixture
def opened(shared, dinov2, clip):
    with ImageIndex.open(shared, dinov2, clip, progress=False) as index:
        yield index


@pytest.fixture
def few(tmp_path, photographs):
    """Return a folder of eight pictures of a test's own."""
    folder = tmp_path / "few"
    folder.mkdir()
    for path in sorted(photographs.iterdir())[:8]:
        shutil.copy2(path, folder)
    return folder


@pytest.fixture
def index(tmp_path, dinov2, clip):
    with ImageIndex(tmp_path / "store", dinov2, clip, progress=False) as made:
        yield made


def unit(x):
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


def standardised(cosines):
    return (cosines - cosines.mean()) / cosines.std()


# Adding


def test_known_files_are_skipped_and_changed_ones_renewed(index, few, picture):
    first = index.add(few, {"seen": "once"})
    assert (first.new, first.renewed, first.known) == (8, 0, 0)
    state = index.info().state
    again = index.add(few)
    assert (again.new, again.renewed, again.known) == (0, 0, 8)
    assert index.info().state == state
    changed = few / "003.png"
    before = index.search(picture=changed, k=1)[0]
    picture(150, 90, seed=1000).save(changed)
    picture(90, 90, seed=1001).save(few / "new.png")
    third = index.add(few)
    assert (third.new, third.renewed, third.known) == (1, 1, 7)
    after = index.search(picture=changed, k=1)[0]
    assert after.id == before.id and after.attributes == {"seen": "once"}
    assert (after.width, after.height) == (150, 90)
    assert after.score == pytest.approx(1, abs=1e-5)
    assert len(index) == 9


def test_a_file_with_another_time_and_the_same_content_keeps_its_vectors(index, few, monkeypatch):
    index.add(few)
    os.utime(few / "000.png", ns=(1, 1))
    monkeypatch.setattr(index, "_look", lambda pictures: pytest.fail("it was read anew"))
    assert index.add(few).known == 8
    assert index.store.known(os.fsencode(few / "000.png")).mtime_ns == 1


def test_bad_pictures_are_reported_and_the_others_are_there(index, few, caplog):
    (few / "broken.png").write_bytes(b"no picture")
    (few / "note.txt").write_text("no picture either", encoding="utf-8")
    added = index.add(few)
    assert added.new == 8 and len(index) == 8
    assert [one.name.endswith("broken.png") for one in added.skipped] == [True]
    assert len(added.left_out) == 1
    gone = index.add([few / "000.png", few / "gone.png"])
    assert gone.known == 1
    assert [(one.index, "gone.png" in one.name) for one in gone.skipped] == [(1, True)]
    assert "gone.png" in caplog.text


@pytest.mark.parametrize("name", ["a\0b.png", "\ud800.png"])
def test_a_name_that_no_file_can_have_is_reported_and_the_others_are_there(index, few, name):
    added = index.add([few / "000.png", name, few / "001.png"])
    assert added.new == len(index) == 2
    ((place, said, reason),) = [(one.index, one.name, one.reason) for one in added.skipped]
    assert place == 1
    assert said.endswith(".png") and said.isprintable()
    assert reason.startswith("cannot be read: ")


def test_what_the_store_cannot_do_is_no_fault_of_a_picture(index, few, monkeypatch):
    monkeypatch.setattr(index.store, "known", lambda path: os.stat(few / "nowhere"))
    with pytest.raises(FileNotFoundError):
        index.add(few)


def test_a_known_file_that_is_broken_now_keeps_what_was_known_of_it(index, few):
    index.add(few)
    (few / "000.png").write_bytes(b"no picture")
    added = index.add(few)
    assert (added.new, added.renewed, added.known, len(added.skipped)) == (0, 0, 7, 1)
    assert len(index) == 8


def test_large_jpegs_are_decoded_in_part_or_whole(tmp_path, picture, dinov2, clip):
    path = tmp_path / "a.jpg"
    picture(12, 10).resize((1300, 1100)).save(path)
    kept = []
    for exact in (False, True):
        with ImageIndex(tmp_path / str(exact), dinov2, clip, exact=exact) as index:
            assert index.add(path).new == 1
            kept.append(index.search(picture=path, k=1)[0])
    assert [(hit.width, hit.height) for hit in kept] == [(1300, 1100)] * 2
    assert kept[1].score == pytest.approx(1, abs=1e-6)
    assert 0.99 < kept[0].score < 1 - 1e-6


def test_attributes_are_of_each_picture_and_can_be_renewed(index, few):
    paths = sorted(few.iterdir())
    index.add(paths, [{"rank": number} for number in range(8)])
    index.add(paths[:1], {"rank": 100})
    ranks = index.search(WORDS, k=8, where="attributes->>'$.rank' >= 6")
    assert sorted(hit.attributes["rank"] for hit in ranks) == [6, 7, 100]
    with pytest.raises(ValueError, match="3 attributes for 8 pictures"):
        index.add(paths, [{}] * 3)
    with pytest.raises(ValueError, match="picture 1: its attributes cannot be kept"):
        index.add(paths, {"rank": float("nan")})
    with pytest.raises(TypeError, match="picture 1: its attributes cannot be kept"):
        index.add(paths, {"rank": np.float32(1)})
    assert len(index.search(WORDS, where="attributes->>'$.rank' = 100")) == 1


def test_only_files_are_added_and_each_once(index, few, picture):
    path = few / "000.png"
    assert index.add([path, str(path), path]).new == 1
    for no_file in (picture(80, 80), np.zeros((8, 8, 3), np.uint8), b"bytes", 7):
        for given in (no_file, [no_file]):
            with pytest.raises(TypeError, match="is no file"):
                index.add(given)
    with pytest.raises(FileNotFoundError):
        index.add(few / "nowhere")


def test_what_is_given_twice_keeps_its_position_and_its_attributes(index, few):
    (few / "broken.png").write_bytes(b"no picture")
    given = [few / "000.png", few / ".." / "few" / "001.png", few / "001.png"]
    given = [given[0], given[0], few / "broken.png", *given[1:]]
    added = index.add(given, [{"place": place} for place in range(5)])
    assert [one.index for one in added.skipped] == [2]
    places = {hit.path.name: hit.attributes["place"] for hit in index.search(WORDS)}
    assert places["000.png"] == 0


def test_what_was_added_before_an_interruption_is_kept(index, few, monkeypatch):
    monkeypatch.setattr(retrieval, "BATCH", 3)
    embed, calls = index._embed, []

    def interrupted(*arguments):
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return embed(*arguments)

    monkeypatch.setattr(index, "_embed", interrupted)
    with pytest.raises(KeyboardInterrupt):
        index.add(few)
    assert len(index) == 6
    monkeypatch.setattr(index, "_embed", embed)
    rest = index.add(few)
    assert (rest.new, rest.known) == (2, 6)


# Forgetting


def test_deleted_pictures_are_not_found_and_their_files_stay(index, few):
    index.add(few, lambda path: {"number": int(path.stem)})
    assert index.delete("attributes->>'$.number' < ?", [3]) == 3
    assert sorted(hit.attributes["number"] for hit in index.search(WORDS, k=10)) == [3, 4, 5, 6, 7]
    (hit,) = index.search(WORDS, k=1)
    assert index.delete(ids=[hit.id, 999]) == 1
    assert hit.id not in [one.id for one in index.search(WORDS, k=10)]
    assert len(list(few.iterdir())) == 8
    assert index.add(few).new == 4
    for wrong in ({}, {"where": "1", "ids": [1]}):
        with pytest.raises(ValueError, match="where"):
            index.delete(**wrong)


@pytest.mark.parametrize("wrong", [1.7, "1", True, None])
def test_only_ids_are_deleted(index, few, wrong):
    index.add(few)
    with pytest.raises(TypeError, match="is no id of a picture"):
        index.delete(ids=[2, wrong])
    assert len(index) == 8
    assert index.delete(ids=np.array([2, 3])) == 2


def test_missing_files_are_forgotten_unless_all_are_missing(index, few):
    index.add(few)
    (few / "000.png").unlink()
    assert index.forget_missing() == 1
    assert len(index) == 7
    shutil.rmtree(few)
    with pytest.raises(FileNotFoundError, match="their disk"):
        index.forget_missing()
    assert len(index) == 7


def test_what_cannot_be_looked_at_is_not_forgotten(index, few, monkeypatch):
    index.add(few)
    (few / "001.png").unlink()
    real = os.stat

    def stat(path, **options):
        if os.fsencode(path).endswith(b"000.png"):
            raise PermissionError(13, "Permission denied")
        return real(path, **options)

    monkeypatch.setattr(os, "stat", stat)
    assert index.forget_missing() == 1
    assert len(index) == 7


def test_compacting_gives_space_back_and_changes_no_answer(tmp_path, shared, dinov2, clip):
    folder = tmp_path / "copy"
    shutil.copytree(shared, folder)
    with ImageIndex.open(folder, dinov2, clip) as index:
        index.delete("id % 10 > 0")
        index.compact()
        database = folder / "pictures.sqlite"
        assert database.stat().st_size < 0.6 * (shared / "pictures.sqlite").stat().st_size
        before = index.search(WORDS, k=20, bridge=0)
    with ImageIndex.open(folder, dinov2, clip) as index:
        assert index.search(WORDS, k=20, bridge=0) == before
        assert len(before) == len(index) == N // 10


# Opening again


def test_another_process_finds_the_same_by_the_models_that_the_store_names(tmp_path):
    toys = load_scenes("test", framing="portrait").images[:8]
    with ImageIndex(tmp_path / "store", load_dinov2("tiny"), load_clip("lit-tiny")) as index:
        index.add(toys)
        found = [index.search("狗", k=3), index.search("a dog", toys[2], k=3)]
    code = (
        "import json, sys; from dinov2_helpers.techniques import ImageIndex\n"
        "index = ImageIndex.open(sys.argv[1])\n"
        "found = [index.search('狗', k=3), index.search('a dog', sys.argv[2], k=3)]\n"
        "print(json.dumps([[(hit.id, hit.score) for hit in hits] for hits in found]))"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "store"), str(toys[2])]
    said = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    for hits, again in zip(found, json.loads(said.splitlines()[-1]), strict=True):
        assert [hit.id for hit in hits] == [number for number, _ in again]
        np.testing.assert_allclose([hit.score for hit in hits], [s for _, s in again], atol=1e-5)


@pytest.mark.parametrize("is_begun", [False, True])
def test_a_file_that_an_interrupted_making_left_becomes_a_store(
    tmp_path, few, dinov2, clip, is_begun
):
    path = tmp_path / "pictures.sqlite"
    path.touch()
    if is_begun:
        with closing(sqlite3.connect(path)) as connection:
            connection.execute("PRAGMA journal_mode=WAL")
        assert path.stat().st_size > 0
    with pytest.raises(KeptError, match="holds no index"):
        ImageIndex.open(tmp_path, dinov2, clip)
    with ImageIndex(tmp_path, dinov2, clip, progress=False) as index:
        assert index.add(few).new == 8


def test_a_store_that_cannot_be_written_is_searched(shared, few, dinov2, clip):
    with ImageIndex.open(shared, dinov2, clip) as index:
        expected = index.search(WORDS, where="width = 100")
    # pytest's own folders are closed to others
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "store"
        shutil.copytree(shared, folder)
        shutil.rmtree(folder / "cache")
        pictures = Path(name) / "pictures"
        shutil.copytree(few, pictures)
        (pictures / "new.png").write_bytes((few / "003.png").read_bytes())
        folder.chmod(0o555)
        Path(name).chmod(0o755)

        def work():
            with ImageIndex.open(folder, dinov2, clip, progress=False) as index:
                found = index.search(WORDS, where="width = 100")
                with pytest.raises(OSError, match=r"pictures\.sqlite cannot be .*written"):
                    index.add(pictures / "new.png")
                with pytest.raises(OSError, match=r"pictures\.sqlite cannot be .*written"):
                    index.delete(ids=[1])
                return found, len(index)

        (found, n), _ = as_nobody(work)
        folder.chmod(0o755)
    assert found == expected
    assert n == N


def test_other_models_and_no_store_are_refused(tmp_path, shared, dinov2_with_registers, clip):
    with pytest.raises(KeptError, match="was made with"):
        ImageIndex.open(shared, dinov2_with_registers, clip)
    with pytest.raises(KeptError, match="holds no index"):
        ImageIndex.open(tmp_path / "nothing")
    assert not (tmp_path / "nothing").exists()


@pytest.mark.parametrize(
    ("setting", "value"),
    [("by", "best"), ("bridge", 1.5), ("words", -0.1), ("index", "lsh"), ("dtype", "int8")],
)
def test_impossible_settings_are_refused_before_anything_is_made(
    tmp_path, dinov2, clip, setting, value
):
    with pytest.raises(ValueError, match=setting):
        ImageIndex(tmp_path / "store", dinov2, clip, **{setting: value})
    assert not (tmp_path / "store").exists()


# Searching


@pytest.fixture(scope="module")
def truth(photographs, dinov2, clip):
    """Return what the models make of all pictures, without any store: cls, both, clip, bridged."""
    paths = sorted(photographs.iterdir())
    features = extract_features(dinov2, paths, progress=False)
    embeddings = clip.embed_images(paths, progress=False)
    bridge = Bridge(dinov2, clip).fit(features, embeddings)
    return {
        "cls": unit(features.cls),
        "mean": unit(features.pooled("mean")),
        "clip": unit(embeddings.vectors),
        "bridged": bridge.transform(features),
    }


def cosines_of_words(truth, clip, share):
    """Return the scores of WORDS for all pictures, (N,), with a share of the bridge."""
    (vector,) = clip.embed_texts([WORDS])
    if not share:
        return truth["clip"] @ vector
    parts = standardised(truth["bridged"] @ vector), standardised(truth["clip"] @ vector)
    return share * parts[0] + (1 - share) * parts[1]


def check_equal(hits, scores, k=10, allowed=None):
    """Compare hits with the k best of scores (N,) of pictures in the order of their numbers."""
    scores = scores.copy()
    if allowed is not None:
        scores[~allowed] = -np.inf
    order = np.argsort(-scores, kind="stable")[:k]
    order = order[np.isfinite(scores[order])]
    assert [hit.attributes["number"] for hit in hits] == order.tolist()
    np.testing.assert_allclose([hit.score for hit in hits], scores[order], atol=2e-4)
    assert [hit.rank for hit in hits] == list(range(1, len(order) + 1))


NUMBERS = np.arange(N)
CONDITIONS = {
    None: np.ones(N, bool),
    "width = 100": NUMBERS % 2 == 1,
    "attributes->>'$.number' % 40 = 3": NUMBERS % 40 == 3,
    "attributes->>'$.number' > 1000": NUMBERS > 1000,
}


@pytest.mark.parametrize("kind", ["exact", "hnsw"])
@pytest.mark.parametrize("where", CONDITIONS)
def test_searches_equal_a_plain_computation(shared, truth, photographs, dinov2, clip, kind, where):
    allowed = CONDITIONS[where]
    asked = photographs / "017.png"
    picture = truth["cls"] @ truth["cls"][17]
    words = cosines_of_words(truth, clip, 0.5)
    both = 0.65 * words + 0.35 * standardised(picture)
    with ImageIndex.open(shared, dinov2, clip, index=kind, progress=False) as index:
        check_equal(index.search(picture=asked, where=where), picture, allowed=allowed)
        check_equal(index.search(WORDS, where=where, bridge=0),
                    cosines_of_words(truth, clip, 0), allowed=allowed)  # fmt: skip
        check_equal(index.search(WORDS, where=where), words, allowed=allowed)
        check_equal(index.search(WORDS, asked, where=where), both, allowed=allowed)


@pytest.mark.parametrize("where", [one for one in CONDITIONS if one])
def test_lists_that_are_read_in_part_obey_a_condition(shared, photographs, dinov2, clip, where):
    with ImageIndex.open(shared, dinov2, clip, index="ivf") as index:
        for query in ({"words": WORDS}, {"picture": photographs / "017.png"}):
            hits = index.search(**query, k=N, where=where)
            numbers = [hit.attributes["number"] for hit in hits]
            assert len(numbers) <= CONDITIONS[where].sum()
            assert CONDITIONS[where][numbers].all()


def test_an_own_picture_is_left_out_of_what_is_like_it(opened, truth):
    own = next(hit for hit in opened.search(WORDS, k=N) if hit.attributes["number"] == 17)
    scores = truth["cls"] @ truth["cls"][17]
    allowed = NUMBERS != 17
    check_equal(opened.search(picture=own.id), scores, allowed=allowed)


@pytest.mark.parametrize("by", ["mean", "both"])
def test_pictures_are_compared_by_what_was_asked_for(shared, truth, photographs, dinov2, clip, by):
    vectors = truth["mean"]
    if by == "both":
        vectors = unit(np.concatenate([truth["cls"], truth["mean"]], axis=1))
    with ImageIndex.open(shared, dinov2, clip, by=by) as index:
        check_equal(index.search(picture=photographs / "030.png"), vectors @ vectors[30])


def test_a_weight_of_all_or_nothing_is_a_search_by_one(opened, photographs):
    asked = photographs / "050.png"
    all_words = opened.search(WORDS, asked, weight=1.0)
    assert [hit.id for hit in all_words] == [hit.id for hit in opened.search(WORDS)]
    no_words = opened.search(WORDS, asked, weight=0.0)
    assert [hit.id for hit in no_words] == [hit.id for hit in opened.search(picture=asked)]


@pytest.mark.parametrize(
    ("query", "error", "says"),
    [
        ({}, ValueError, "needs words"),
        ({"words": WORDS, "k": 0}, ValueError, "k=0"),
        ({"words": WORDS, "k": float("nan")}, ValueError, "k=nan"),
        ({"words": ["a", "b"]}, TypeError, "a list"),
        ({"picture": 4000}, KeptError, "no picture of id 4000"),
        ({"words": WORDS, "picture": 1, "weight": 2}, ValueError, "weight=2"),
        ({"words": WORDS, "bridge": -1}, ValueError, "bridge=-1"),
        ({"words": WORDS, "where": "colour = 'red'"}, WhereError, "no such column: colour"),
        ({"words": WORDS, "where": "width > "}, WhereError, "condition of SQL over the columns"),
        ({"words": WORDS, "where": "id IN (SELECT id FROM vectors)"}, WhereError, "columns id"),
        ({"words": WORDS, "where": "width > ?"}, WhereError, "width > ?"),
        ({"words": WORDS, "where": "id = ?", "params": [10**30]}, WhereError, "too large"),
        ({"picture": Image.new("RGB", (1, 9000))}, ImageError, "picture: would be scaled to"),
    ],
)
def test_a_query_that_cannot_be_answered_is_refused_with_a_sentence(opened, query, error, says):
    with pytest.raises(error) as caught:
        opened.search(**query)
    assert says in str(caught.value)
    assert len(opened) == N


def test_an_empty_index_finds_nothing(index):
    assert len(index.search(WORDS)) == 0


def test_half_precision_takes_less_space_and_finds_the_same(tmp_path, few, dinov2, clip):
    found = {}
    for dtype in ("float32", "float16"):
        with ImageIndex(tmp_path / dtype, dinov2, clip, dtype=dtype) as index:
            index.add(few)
            found[dtype] = index.search(picture=few / "002.png", k=3)
            assert index.info().dtype == dtype
    assert [hit.id for hit in found["float16"]] == [hit.id for hit in found["float32"]]


def test_a_damaged_bridge_is_fitted_again(tmp_path, shared, dinov2, clip, caplog):
    folder = tmp_path / "copy"
    shutil.copytree(shared, folder)
    with ImageIndex.open(folder, dinov2, clip) as index:
        before = index.search(WORDS)
    (arrays,) = (folder / "cache").glob("bridge-*.safetensors")
    arrays.write_bytes(b"damaged")
    with ImageIndex.open(folder, dinov2, clip) as index, caplog.at_level(logging.WARNING):
        assert index.search(WORDS) == before
    assert "the bridge is damaged" in caplog.text


def test_a_bridge_that_was_chosen_stays(tmp_path, shared, photographs, dinov2, clip):
    folder = tmp_path / "copy"
    shutil.copytree(shared, folder)
    with ImageIndex.open(folder, dinov2, clip) as index:
        index.search(WORDS)  # takes the bridge of the store's own pictures
        index._is_own = True  # as in the process that has fitted it
        chosen = index.fit_bridge(sorted(photographs.iterdir())[: len(index) // 2])
        index.search(WORDS)
        assert index._bridge is chosen


# Several processes


def test_two_processes_search_while_one_adds(tmp_path, photographs, dinov2, clip, monkeypatch):
    monkeypatch.setattr(retrieval, "BATCH", 4)
    paths = sorted(photographs.iterdir())
    folder = tmp_path / "store"
    ImageIndex(folder, dinov2, clip).close()

    def read():
        seen, until = [0], time.monotonic() + SECONDS
        with ImageIndex.open(folder, dinov2, clip, bridge=0, progress=False) as index:
            while seen[-1] < 24 and time.monotonic() < until:
                hits = index.search(WORDS, k=24)
                numbers = sorted(hit.attributes["number"] for hit in hits)
                assert numbers == list(range(len(numbers)))
                seen.append(len(numbers))
        assert seen == sorted(seen)
        return set(seen)

    def write():
        with ImageIndex.open(folder, dinov2, clip, progress=False) as index:
            return index.add(paths[:24], lambda path: {"number": int(path.stem)}).new

    running = [start(write), start(read), start(read)]
    (added, _), (first, _), (second, _) = [finish(*one) for one in running]
    assert added == 24
    for seen in (first, second):
        assert seen <= set(range(0, 25, 4)) and 24 in seen


# Several threads


class SeenLock:
    """A lock that tells when somebody has to wait for it."""

    def __init__(self):
        self.lock = threading.RLock()
        self.is_waited_for = threading.Event()

    def __enter__(self):
        if not self.lock.acquire(blocking=False):
            self.is_waited_for.set()
            self.lock.acquire()

    def __exit__(self, *_):
        self.lock.release()


def test_a_search_waits_while_another_thread_takes_in_what_has_changed(
    index, few, photographs, monkeypatch
):
    index.add(few)
    index.search(picture=1)
    index.add(photographs / "050.png")
    index._lock = SeenLock()
    take, others = Space._take, []

    def take_beside_another(space, changes):
        if not others:
            others.append(pool.submit(index.search, picture=few / "003.png", k=1))
            assert index._lock.is_waited_for.wait(SECONDS)
        take(space, changes)

    monkeypatch.setattr(Space, "_take", take_beside_another)
    with ThreadPoolExecutor(1) as pool:
        (own,) = index.search(picture=photographs / "050.png", k=1)
        (hit,) = others[0].result()
    assert (own.path.name, hit.path.name) == ("050.png", "003.png")
    assert (own.score, hit.score) == (pytest.approx(1, abs=1e-5), pytest.approx(1, abs=1e-5))


def test_searches_are_right_beside_a_thread_that_adds_and_deletes(index):
    rng = np.random.default_rng(0)

    def entry(name, dinov2, clip):
        path = f"/{name}.png"
        facts = {"size": 1, "mtime_ns": 1, "sha256": "", "width": 9, "height": 9, "attributes": {}}
        return Entry(path.encode(), path, dinov2=dinov2, clip=clip, **facts)

    def random_entries(prefix, count):
        rows = [
            (rng.normal(size=2 * index.dinov2.dim), rng.normal(size=index.clip.dim))
            for _ in range(count)
        ]
        return [
            entry(f"{prefix}-{n}", dinov2.astype(np.float32), unit(clip).astype(np.float32))
            for n, (dinov2, clip) in enumerate(rows)
        ]

    stay = random_entries("stay", 100)
    (words,) = index.clip.embed_texts([WORDS])
    said = entry("said", stay[0].dinov2, words)
    twins = [entry(f"twin-{n}", one.dinov2, one.clip) for n, one in enumerate(stay)]
    first = index.store.write([*stay, *twins, said])[0]
    come_and_go = [random_entries(f"guest-{n}", 20) for n in range(100)]

    def change():
        for entries in come_and_go:
            ids = index.store.write(entries)
            index.delete(ids=ids[:15])

    def by_picture():
        for number in range(1, 100):
            (hit,) = index.search(picture=first + number, k=1)
            assert hit.path.name == f"twin-{number}.png"
            assert hit.score == pytest.approx(1, abs=1e-5)

    def by_words():
        for _ in range(100):
            (hit,) = index.search(WORDS, k=1, bridge=0)
            assert hit.path.name == "said.png"
            assert hit.score == pytest.approx(1, abs=1e-5)

    with ThreadPoolExecutor(4) as pool:
        running = [pool.submit(work) for work in (change, by_picture, by_picture, by_words)]
    for one in running:
        one.result()
    assert len(index) == 201 + 5 * len(come_and_go)

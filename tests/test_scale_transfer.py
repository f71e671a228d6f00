"""Stores that lose connections: tried again, then said, and never a hole for good."""

import asyncio

import pyarrow as pa
import pyarrow.dataset
import pyarrow.parquet as pq
import pytest
from fsspec.exceptions import FSTimeoutError
from scale_datasets import Flaky, assert_same

from dinov2_scale import StoreDownError, Summary, extract_dataset, read_features
from dinov2_scale.stores import is_passing

AT_ONCE = (0.0, 0.0)  # seconds before the second and the third try


class ClientError(Exception):
    """As clients of stores have them."""


@pytest.fixture
def store(picture, tmp_path):
    """A store with six pictures, of which one is none."""
    fs = Flaky()
    for i in range(5):
        picture(50, 50, seed=i).save(tmp_path / "picture.png")
        fs.pipe_file(f"/in/{i}.png", (tmp_path / "picture.png").read_bytes())
    fs.pipe_file("/in/5.png", b"no picture")
    yield fs
    for cleared in (Flaky.store, Flaky.failures, Flaky.reads):
        cleared.clear()
    fs.pseudo_dirs[:] = [""]


def extract(folder="flaky://out", model=None, **options):
    return extract_dataset("flaky://in", folder, model, retry_waits=AT_ONCE, **options)


def rows(store, folder="/out"):
    table = pyarrow.dataset.dataset(folder, filesystem=store).to_table()
    values = zip(table["cls"].to_pylist(), table["error"].to_pylist(), strict=True)
    return dict(zip(table["id"].to_pylist(), values, strict=True))


def resets(n):
    return [ConnectionResetError(104, "Connection reset by peer") for _ in range(n)]


def test_a_lost_connection_is_tried_again(store, dinov2_folder):
    store.failures.update({"2.png": resets(2), "3.png": [TimeoutError(), ClientError("503")]})
    assert extract(model=dinov2_folder, part=2) == Summary(3, 3, 5, 1)
    assert store.reads.count("2.png") == store.reads.count("3.png") == 3


def test_what_stays_lost_is_made_by_the_next_call(store, dinov2_folder):
    whole = extract("flaky://whole", dinov2_folder, part=2)
    assert whole == Summary(3, 3, 5, 1)
    store.failures.update({"2.png": resets(3)})
    done = extract(model=dinov2_folder, part=2)
    assert done == Summary(3, 3, 4, 1, again=1)
    assert "4 pictures, 1 that cannot be read, 1 to be tried again" in str(done)
    cls, error = rows(store)["2.png"]
    assert cls is None and error.startswith("ConnectionResetError: [Errno 104] Connection reset")
    store.reads.clear()
    store.failures.update({"2.png": resets(3)})
    assert extract(model=dinov2_folder, part=2) == Summary(3, 0, 4, 1, again=1)
    assert extract(model=dinov2_folder, part=2) == Summary(3, 1, 5, 1)
    assert set(store.reads) == {"2.png"}
    assert_same(rows(store), rows(store, "/whole"))
    store.reads.clear()
    assert extract(model=dinov2_folder, part=2) == Summary(3, 0, 5, 1)
    assert not store.reads


@pytest.mark.parametrize("error", [FileNotFoundError(2, "gone"), PermissionError(13, "denied")])
def test_a_file_that_is_not_there_is_a_row(store, dinov2_folder, error):
    store.failures.update({"2.png": [error]})
    assert extract(model=dinov2_folder) == Summary(1, 1, 4, 2)
    assert store.reads.count("2.png") == 1
    assert type(error).__name__ in rows(store)["2.png"][1]
    assert extract(model=dinov2_folder) == Summary(1, 1, 5, 1)  # it is there now


def test_a_store_that_is_down_ends_the_run(store, dinov2_folder):
    for i in range(20):
        store.pipe_file(f"/in/+ {i:02d}.png", store.cat_file("/in/0.png"))
        store.failures[f"+ {i:02d}.png"] = resets(3)
    with pytest.raises(StoreDownError, match=r"none of 20 pictures .*reset.*call again to go on"):
        extract(model=dinov2_folder, part=20)
    assert extract(model=dinov2_folder, part=20) == Summary(2, 2, 25, 1)


def test_a_row_group_that_stays_lost_is_made_by_the_next_call(store, dinov2_folder, caplog):
    data = [store.cat_file(f"/in/{i}.png") for i in range(5)]
    store.rm("/in", recursive=True)

    def write(name, pictures):
        with store.open(f"/in/{name}", "wb") as file:
            pq.write_table(pa.table({"image": pictures}), file)

    write("a.parquet", data[:2])
    write("b.parquet", data[2:])
    store.failures.update({"b.parquet": [ClientError("503"), *resets(1)]})
    assert extract(model=dinov2_folder) == Summary(2, 2, 5, 0)
    store.rm("/out", recursive=True)
    read = store._open

    def lost_in_the_worker(path, mode="rb", **options):
        if path.endswith("in/b.parquet"):
            store.reads.append("b")
            if store.reads.count("b") in (2, 3, 4):
                raise ConnectionResetError(104, "Connection reset by peer")
        return read(path, mode, **options)

    store.reads.clear()
    store._open = lost_in_the_worker
    try:
        assert extract(model=dinov2_folder) == Summary(1, 1, 2, 0, again=3)
        assert "b.parquet:0: ConnectionResetError" in caplog.text
        assert extract(model=dinov2_folder) == Summary(2, 1, 5, 0)
        # rows of what was there before do not stand for what cannot be read now
        write("b.parquet", data[1:4])
        store.reads.clear()
        assert extract(model=dinov2_folder) == Summary(1, 0, 2, 0, again=3)
        assert list(rows(store)) == ["a.parquet:0:0", "a.parquet:0:1"]
    finally:
        del store._open


def test_writing_is_tried_again_and_then_raised(store, dinov2_folder):
    store.failures["write"] = resets(2)
    assert extract(model=dinov2_folder) == Summary(1, 1, 5, 1)
    store.rm("/out", recursive=True)
    store.failures["write"] = resets(3)
    with pytest.raises(ConnectionResetError):
        extract(model=dinov2_folder)
    assert extract(model=dinov2_folder) == Summary(1, 1, 5, 1)


def test_a_store_that_fails_has_damaged_nothing(store, dinov2_folder, monkeypatch):
    assert extract(model=dinov2_folder) == Summary(1, 1, 5, 1)
    before = store.cat_file("/out/part-000000.parquet")
    busy = [OSError("Please reduce your request rate.") for _ in range(5)]
    opened = store._open

    class Busy:
        """A part's file that cannot be read while the store is busy."""

        def __init__(self, file):
            self.file = file

        def read(self, size=-1):
            if busy:
                raise busy.pop()
            return self.file.read(size)

        def seek(self, *place):
            return self.file.seek(*place)

        def tell(self):
            return self.file.tell()

        def __enter__(self):
            return self

        def __exit__(self, *_):
            self.file.close()

    def open_busy(path, mode="rb", **options):
        file = opened(path, mode, **options)
        return Busy(file) if path.endswith("part-000000.parquet") and mode == "rb" else file

    monkeypatch.setattr(store, "_open", open_busy)
    with pytest.raises(OSError, match="reduce your request rate"):
        extract(model=dinov2_folder)
    with pytest.raises(OSError, match="reduce your request rate"):
        read_features("flaky://out/part-000000.parquet")
    assert len(busy) == 1
    assert extract(model=dinov2_folder) == Summary(1, 0, 5, 1)
    assert store.cat_file("/out/part-000000.parquet") == before


@pytest.mark.parametrize(
    "error",
    [
        ConnectionResetError(104, "reset"),
        BrokenPipeError(32, "broken"),
        TimeoutError(),
        asyncio.TimeoutError(),
        FSTimeoutError(),
        OSError(5, "Input/output error"),
        OSError(116, "Stale file handle"),
        OSError("Please reduce your request rate."),
        ClientError("503"),
    ],
)
def test_errors_that_pass(error):
    assert is_passing(error)


@pytest.mark.parametrize(
    "error",
    [
        FileNotFoundError(2, "gone"),
        PermissionError(13, "denied"),
        IsADirectoryError(21, "a folder"),
        OSError(28, "No space left on device"),
        OSError(36, "File name too long"),
        pa.ArrowInvalid("no Parquet"),
        TypeError("ours"),
        MemoryError(),
    ],
)
def test_errors_that_stay(error):
    assert not is_passing(error)

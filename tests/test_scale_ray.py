"""Datasets by Ray: where the caller meant, and whole when a worker is killed."""

import os
import shutil
import signal
import threading

import psutil
import pyarrow.parquet as pq
import pytest
from scale_datasets import assert_same, read

from dinov2_scale import Summary, extract_dataset, on_ray

ray = pytest.importorskip("ray")


@pytest.fixture(scope="module")
def elsewhere(tmp_path_factory):
    """The folder in which Ray was started, which is not the caller's."""
    folder = tmp_path_factory.mktemp("started")
    before = os.getcwd()
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.chdir(folder)
    on_ray.start_ray(cores=1)
    os.chdir(before)
    yield folder
    ray.shutdown()


def fails(times, message):
    """A stand-in for ray.init that fails so often, and the list of its calls."""
    calls = []

    def init(**_):
        calls.append(1)
        if len(calls) <= times:
            raise Exception(message)

    return init, calls


def test_ray_that_starts_slowly_is_started_again(monkeypatch, caplog):
    init, calls = fails(2, "The current node timed out during startup. This could happen ...")
    monkeypatch.setattr(ray, "init", init)
    monkeypatch.setattr(ray, "shutdown", lambda: None)
    on_ray.start_ray()
    assert len(calls) == 3
    assert "attempt 3 follows" in caplog.text


@pytest.mark.parametrize(
    ("message", "attempts"), [("no such cluster", 1), ("timed out during startup", on_ray.STARTS)]
)
def test_ray_that_cannot_start_says_why(monkeypatch, message, attempts):
    init, calls = fails(99, message)
    monkeypatch.setattr(ray, "init", init)
    monkeypatch.setattr(ray, "shutdown", lambda: None)
    with pytest.raises(Exception, match=message):
        on_ray.start_ray()
    assert len(calls) == attempts


@pytest.fixture(scope="module")
def work(tmp_path_factory, picture, dinov2_folder):
    """A model and 24 pictures, of which one is none and one has a name that is no text."""
    root = tmp_path_factory.mktemp("work")
    shutil.copytree(dinov2_folder, root / "model")
    (root / "pictures").mkdir()
    for i in range(22):
        picture(50, 50, seed=i).save(root / "pictures" / f"{i}.png")
    picture(50, 50, seed=22).save(os.fsdecode(os.fsencode(root) + b"/pictures/caf\xe9.png"))
    (root / "pictures" / "99.png").touch()
    return root


@pytest.fixture(scope="module")
def local(work, tmp_path_factory):
    out = tmp_path_factory.mktemp("local")
    assert extract_dataset(work / "pictures", out, work / "model", part=1) == Summary(24, 24, 23, 1)
    return out


def worker():
    """Return the process that Ray has for the one actor; None: there is none yet."""
    for process in psutil.Process().children(recursive=True):
        try:
            if "MapWorker" in " ".join([process.name(), *process.cmdline()]):
                return process
        except psutil.Error:  # it has ended meanwhile
            continue
    return None


@pytest.mark.weekly
def test_a_killed_worker_loses_nothing(elsewhere, work, local, monkeypatch):
    """Relative paths mean the caller's folder, and the parts equal those made without Ray.

    A worker is killed when the first part is there; Ray starts it again.
    """
    monkeypatch.chdir(work)
    out = work / "features"
    killed = []
    ended = threading.Event()

    def kill_one():
        process = None
        while not killed and not ended.wait(0.01):
            process = process or worker()
            parts = list(out.glob("part-*"))
            if process and parts:
                process.send_signal(signal.SIGKILL)
                killed.append(len(parts))

    thread = threading.Thread(target=kill_one)
    thread.start()
    try:
        done = extract_dataset("pictures", "features", "model", part=1, engine="ray")
    finally:
        ended.set()
        thread.join()
    assert 1 <= killed[0] < 24  # parts that there were
    assert (done.parts, done.pictures, done.errors) == (24, 23, 1)
    assert not list(elsewhere.rglob("*.parquet"))
    assert_same(read(local), read(out))
    assert {path.name for path in out.glob("*.parquet")} == {
        path.name for path in local.glob("*.parquet")
    }
    for path in local.glob("*.parquet"):
        assert pq.read_table(path).drop("cls").equals(pq.read_table(out / path.name).drop("cls"))
    # nothing is left to do, so that no worker starts
    assert extract_dataset("pictures", "features", "model", part=1, engine="ray").made == 0

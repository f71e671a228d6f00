"""Kill a process while it writes pictures into an index, again and again; count what is lost.

    python -m benchmarks.kill_store 100

A child writes batches and says after each that it is written; it is killed (SIGKILL) at a random
moment, the store is opened again, and what is in it is compared with what was said. Once the child
writes rows into the database, as fast as it takes them, and once it adds files of pictures to an
`ImageIndex` with features that are cached. A kill of the process leaves the system's own cache
alive: what a power cut would do is not tested here.
"""

from __future__ import annotations

import argparse
import itertools
import multiprocessing
import os
import signal
import sqlite3
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import cache
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from benchmarks import run_record
from dinov2_helpers import extract_features
from dinov2_helpers.techniques.retrieval import ImageIndex
from dinov2_helpers.techniques.store import Entry, Store

BATCH = 10  # rows of a transaction
FEW = 4  # pictures of a batch that is added
PICTURES = 16  # different ones; the files are links to them, in turn
MODELS = {"dinov2": {"name": "a", "fingerprint": "1"}, "clip": {"name": "b", "fingerprint": "2"}}
MOST = 6  # batches that a child is let finish
PATIENCE = 60.0  # seconds for one

Vectors = tuple[NDArray[np.float32], NDArray[np.float32]]  # of DINOv2, of CLIP
Say = Callable[[int], None]  # that so many pictures are written


class Killed(NamedTuple):
    """What was seen over all kills."""

    writer: str
    times: int
    batch: int
    acknowledged: int  # pictures that were said to be written, or seen after a kill
    unsaid: int  # kills that struck between the log of a batch and the word that it is written
    lost: int
    doubled: int
    torn: int  # batches that are there in part, and vectors that are not what was written


class Writer(Protocol):
    """What a child does, and what it should leave behind."""

    name: str
    batch: int

    def open(self, folder: Path) -> Store:
        """Open the store, which is made if need be, as the writer does."""

    def write(self, folder: Path, say: Say) -> None:
        """Write batches from the first that is missing until killed, and say so after each."""

    def expected(self, number: int) -> Vectors:
        """Return the vectors of a picture by its number."""


def entry(number: int) -> Entry:
    """Return a made-up picture; the same number gives the same."""
    random = np.random.default_rng(number)
    return Entry(
        path=f"/pictures/{number}.jpg".encode(),
        name=f"/pictures/{number}.jpg",
        size=number,
        mtime_ns=number,
        sha256=f"{number:064x}",
        width=100 + number,
        height=100,
        attributes={"number": number},
        dinov2=random.normal(size=32).astype(np.float32),
        clip=random.normal(size=16).astype(np.float32),
    )


@cache
def of_entry(number: int) -> Vectors:
    """Return the vectors of a made-up picture."""
    made = entry(number)
    return made.dinov2, made.clip


class Rows:
    """Writes made-up rows into the database."""

    name = "Store.write"
    batch = BATCH

    def open(self, folder: Path) -> Store:
        """Open the store."""
        return Store(folder, models=MODELS)

    def write(self, folder: Path, say: Say) -> None:
        """Write as fast as the database takes it."""
        store = self.open(folder)
        say(len(store))
        for start in itertools.count(len(store), BATCH):
            store.write([entry(number) for number in range(start, start + BATCH)])
            say(start + BATCH)

    def expected(self, number: int) -> Vectors:
        """Return what was made up."""
        return of_entry(number)


class Pictures:
    """Adds files of pictures to an index.

    Args:
        folder: For the pictures, the links to them, and the cache of features.
        dinov2: The model that looks at them.
        clip: The same.
    """

    name = "ImageIndex.add"
    batch = FEW

    def __init__(self, folder: Path, dinov2: Any, clip: Any) -> None:
        self.models = (dinov2, clip)
        self.cache = folder / "features"
        self.links = folder / "links"
        self.links.mkdir()
        self.files = [folder / f"{number}.png" for number in range(PICTURES)]
        for number, path in enumerate(self.files):
            coarse = np.random.default_rng(number).integers(0, 256, (5, 7, 3), np.uint8)
            Image.fromarray(coarse).resize((64, 64), Image.Resampling.BICUBIC).save(path)
        options: dict[str, Any] = {"cache": self.cache, "progress": False}
        looked = extract_features(dinov2, self.files, **options).pooled("both")
        read = clip.embed_images(self.files, **options).vectors
        self.vectors = list(zip(looked, read, strict=True))

    def open(self, folder: Path) -> Store:
        """Open the index, and return its database."""
        return self._index(folder).store

    def _index(self, folder: Path) -> ImageIndex:
        return ImageIndex(folder, *self.models, cache=self.cache, progress=False)

    def write(self, folder: Path, say: Say) -> None:
        """Add links to the pictures."""
        index = self._index(folder)
        say(len(index))
        for start in itertools.count(len(index), FEW):
            paths = [self.links / f"{number}.png" for number in range(start, start + FEW)]
            for number, path in enumerate(paths, start):
                if not path.exists():
                    os.link(self.files[number % PICTURES], path)
            index.add(paths)
            say(start + FEW)

    def expected(self, number: int) -> Vectors:
        """Return what the models made of the picture that a link leads to."""
        looked, read = self.vectors[number % PICTURES]
        return looked, read


def check(
    store: Store,
    acknowledged: int,
    expected: Callable[[int], Vectors] = of_entry,
    batch: int = BATCH,
) -> tuple[int, int, int]:
    """Return how many pictures are lost, doubled, and torn, of those from 0 on."""
    paths = [path for _, path in store.paths()]
    numbers = [int(Path(os.fsdecode(path)).stem) for path in paths]
    lost = len(set(range(acknowledged)) - set(numbers))
    doubled = len(numbers) - len(set(numbers))
    torn = int(len(numbers) % batch > 0) + int(not is_whole(store.path))
    for place, role in enumerate(("dinov2", "clip")):
        found = store.changes(role)
        torn += abs(len(found.ids) - len(found.changed))
        for number, vector in zip(numbers, found.vectors, strict=False):
            torn += not np.array_equal(vector, expected(number)[place])
    return lost, doubled, torn


def is_whole(database: Path) -> bool:
    """Say whether SQLite finds its file sound."""
    connection = sqlite3.connect(database)
    (answer,) = connection.execute("PRAGMA integrity_check").fetchone()
    connection.close()
    return bool(answer == "ok")


def _work(writer: Writer, folder: Path, told: Connection) -> None:
    torch.set_num_threads(1)
    writer.write(folder, told.send)


def life(writer: Writer, folder: Path, batches: int, share: float) -> int:
    """Kill a child while it writes; return how many pictures it has said are there.

    Args:
        writer: What it does.
        folder: Of the store.
        batches: How many it may finish, 1 or more.
        share: Of the time of a batch that it may go on after them.
    """
    context = multiprocessing.get_context("fork")  # a fresh process would import torch for seconds
    told, tell = context.Pipe(duplex=False)
    child = context.Process(target=_work, args=(writer, folder, tell))
    child.start()
    tell.close()
    said = 0
    try:
        said = _next(told)
        started = time.perf_counter()
        for _ in range(batches):
            said = _next(told)
        time.sleep(share * (time.perf_counter() - started) / batches)
    except EOFError:
        pass  # its status says more
    finally:
        child.kill()
        child.join()
    if child.exitcode != -signal.SIGKILL:
        raise RuntimeError(f"the writer ended by itself, with status {child.exitcode}")
    while told.poll():
        try:
            said = told.recv()
        except EOFError:
            break
    return said


def _next(told: Connection) -> int:
    if not told.poll(PATIENCE):
        raise RuntimeError(f"the writer has said nothing for {PATIENCE:.0f} seconds")
    number: int = told.recv()
    return number


def kill_while_writing(writer: Writer, folder: Path, times: int, seed: int = 0) -> Killed:
    """Start a writer and kill it, so many times; open the store after each and check it."""
    random = np.random.default_rng(seed)
    writer.open(folder).close()
    acknowledged = unsaid = lost = doubled = torn = 0
    for _ in range(times):
        said = life(writer, folder, int(random.integers(1, MOST + 1)), random.uniform(0, 1.2))
        acknowledged = max(acknowledged, said)
        store = writer.open(folder)
        missing, twice, broken = check(store, acknowledged, writer.expected, writer.batch)
        lost, doubled, torn = lost + missing, doubled + twice, torn + broken
        unsaid += len(store) > acknowledged
        acknowledged = max(acknowledged, len(store))
        store.close()
    return Killed(writer.name, times, writer.batch, acknowledged, unsaid, lost, doubled, torn)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run from the command line; status 1 if anything was lost."""
    from dinov2_helpers import load_clip, load_dinov2

    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("times", type=int, nargs="?", default=100)
    parser.add_argument("--out", type=Path, default=run_record.RESULTS / "kill_store.json")
    options = parser.parse_args(arguments)
    started = time.perf_counter()
    torch.set_num_threads(1)
    record = run_record.machine(sqlite=sqlite3.sqlite_version, threads=1)
    report: dict[str, Any] = {"run": record | {"most_batches": MOST}, "rows": []}
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        models = load_dinov2("tiny", device="cpu"), load_clip("tiny", device="cpu")
        writers: list[Writer] = [Rows(), Pictures(folder, *models)]
        for writer in writers:
            killed = kill_while_writing(writer, folder / writer.name, options.times)
            report["rows"].append(killed._asdict())
            print(", ".join(f"{name} {value}" for name, value in killed._asdict().items()))
    run_record.write(report, started, options.out)
    return int(any(row["lost"] or row["doubled"] or row["torn"] for row in report["rows"]))


if __name__ == "__main__":
    sys.exit(main())

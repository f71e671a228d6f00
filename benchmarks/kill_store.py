"""Kill a process while it writes pictures into a store, again and again, and count what is lost.

    python -m benchmarks.kill_store 100

A child writes batches and says after each that it is written; it is killed (SIGKILL) at a random
moment, the store is opened again, and what is in it is compared with what was said. A kill of the
process leaves the system's own cache alive: what a power cut would do is not tested here.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

import numpy as np

from dinov2_helpers.techniques.store import Entry, Store

BATCH = 10  # pictures of a transaction
MODELS = {"dinov2": {"name": "a", "fingerprint": "1"}, "clip": {"name": "b", "fingerprint": "2"}}
LONGEST = 0.3  # seconds that a child is let write
STARTING = 120.0  # seconds that it may take to begin


class Killed(NamedTuple):
    """What was seen over all kills."""

    times: int
    acknowledged: int  # pictures that were said to be written
    lost: int
    doubled: int
    torn: int  # batches that are there in part, or vectors that are not what was written


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


def check(store: Store, acknowledged: int) -> tuple[int, int, int]:
    """Return how many pictures are lost, doubled, and torn, of those from 0 on."""
    paths = [path for _, path in store.paths()]
    numbers = [int(Path(path.decode()).stem) for path in paths]
    lost = len(set(range(acknowledged)) - set(numbers))
    doubled = len(numbers) - len(set(numbers))
    found = store.changes("dinov2")
    torn = int(len(numbers) % BATCH > 0) + abs(len(found.ids) - len(found.changed))
    for number, vector in zip(numbers, found.vectors, strict=True):
        torn += not np.array_equal(vector, entry(number).dinov2)
    return lost, doubled, torn


def write_on(folder: Path) -> None:
    """Write batches until killed, and say after each how many pictures there are."""
    store = Store(folder, models=MODELS)
    start = len(store)
    print("ready", flush=True)
    while True:
        store.write([entry(number) for number in range(start, start + BATCH)])
        start += BATCH
        print(start, flush=True)


def kill_while_writing(folder: Path, times: int, seed: int = 0) -> Killed:
    """Start a writer and kill it, so many times; open the store after each and check it."""
    random = np.random.default_rng(seed)
    acknowledged = lost = doubled = torn = 0
    for _ in range(times):
        command = [sys.executable, "-m", "benchmarks.kill_store", "--write", str(folder)]
        child = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert child.stdout is not None
        if child.stdout.readline() != "ready\n":
            raise RuntimeError("the writer did not start")
        time.sleep(random.uniform(0, LONGEST))
        child.kill()
        said, _ = child.communicate(timeout=STARTING)
        whole = [int(line) for line in said.splitlines(keepends=True) if line.endswith("\n")]
        acknowledged = max([acknowledged, *whole])
        store = Store(folder)
        missing, twice, broken = check(store, acknowledged)
        lost, doubled, torn = lost + missing, doubled + twice, torn + broken
        acknowledged = len(store)
        store.close()
    return Killed(times, acknowledged, lost, doubled, torn)


def main(arguments: list[str] | None = None) -> int:
    """Run from the command line; status 1 if anything was lost."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("times", type=int, nargs="?", default=100)
    parser.add_argument("--write", type=Path, help="write into this folder until killed")
    given = parser.parse_args(arguments)
    if given.write:
        write_on(given.write)
    with tempfile.TemporaryDirectory() as folder:
        killed = kill_while_writing(Path(folder) / "store", given.times)
    print(json.dumps(killed._asdict()))
    return int(bool(killed.lost or killed.doubled or killed.torn))


if __name__ == "__main__":
    sys.exit(main())

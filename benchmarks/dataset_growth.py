"""What `extract_dataset` takes, on this machine and on Ray: time, memory and files.

    python -m benchmarks.dataset_growth
    python -m benchmarks.dataset_growth 1000 --out other.json

Pictures are links to few files, each read and decoded anew, at `SIZE` instead of 224 pixels, as in
`benchmarks.growth`. The engines have the same cores: "local" as threads of one process, Ray as
actors of one thread. Each run is a process of its own; its memory is that of all processes that it
starts, where each counts its share of the pages it has in common with others (on Linux; elsewhere
the pages that are its own), looked at every half second. Its time is that of the whole call, with
the start of Ray and the loading of the model. Then the same call is made again, with nothing to do.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import sys
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import psutil
import torch

from benchmarks import run_record
from benchmarks.ways import write_pictures

if TYPE_CHECKING:
    from dinov2_scale.dataset import Engine

FILES = 128
NUMBERS = (1_000, 100_000)
SIZE = 112
ENGINES: tuple[Engine, ...] = ("local", "ray")
LOOK_EVERY = 0.5  # seconds
PACKAGES = ("torch", "transformers", "numpy", "pillow", "pyarrow", "ray")


class Taken(NamedTuple):
    """What a call took."""

    seconds: float
    peak_mb: int
    result: Any


def memory_mb(parent: psutil.Process) -> float:
    """Memory of a process and of all below it, shared pages shared out, in 10^6 bytes."""
    total = 0
    for process in [parent, *parent.children(recursive=True)]:
        try:
            memory = process.memory_full_info()
        except psutil.Error:  # it has ended meanwhile
            continue
        total += getattr(memory, "pss", memory.uss)
    return total / 1e6


def watched(work: Callable[[], Any]) -> Taken:
    """Do something, and look at the memory meanwhile."""
    seen, done = [0.0], threading.Event()

    def look() -> None:
        here = psutil.Process()
        while not done.wait(LOOK_EVERY):
            seen.append(memory_mb(here))

    looking = threading.Thread(target=look, daemon=True)
    looking.start()
    started = time.perf_counter()
    try:
        result = work()
    finally:
        seconds = time.perf_counter() - started
        done.set()
        looking.join()
    return Taken(seconds, round(max(seen)), result)


def link(files: Sequence[Path], n: int, folder: Path) -> None:
    """Make a folder of n pictures, which are links to the files in turn."""
    folder.mkdir()
    for number in range(n):
        os.link(files[number % len(files)], folder / f"{number:07d}.jpg")


def extracted(source: Path, out: Path, engine: Engine, cores: int) -> dict[str, Any]:
    """Extract a folder, twice; in a process of its own."""
    from dinov2_scale import extract_dataset

    torch.set_num_threads(cores)
    workers = cores if engine == "ray" else 1

    def call() -> Any:
        return extract_dataset(source, out, "tiny", engine=engine, workers=workers, size=SIZE)

    first = watched(call)
    again = watched(call)
    parts = sorted(out.glob("*.parquet"))
    return {
        "pictures": first.result.pictures,
        "errors": first.result.errors,
        "seconds": first.seconds,
        "peak_mb": first.peak_mb,
        "again_seconds": again.seconds,
        "files": len(parts),
        "bytes": sum(part.stat().st_size for part in parts),
    }


def farthest(here: Path, there: Path) -> float:
    """The largest difference between the CLS tokens of two datasets of the same pictures.

    Raises:
        RuntimeError: They have other files, or other pictures in them.
    """
    from dinov2_scale import read_features

    names = [sorted(path.name for path in one.glob("*.parquet")) for one in (here, there)]
    if names[0] != names[1]:
        raise RuntimeError(f"{here} and {there} have other files")
    found = 0.0
    for name in names[0]:
        ids, cls = read_features(here / name)
        other_ids, other_cls = read_features(there / name)
        if list(ids) != list(other_ids):
            raise RuntimeError(f"{name}: other pictures")
        found = max(found, float(np.abs(cls - other_cls).max()))
    return found


def measure(numbers: Sequence[int], cores: int, out: Path) -> dict[str, Any]:
    """Measure each engine at each number of pictures, one after the other.

    Args:
        numbers: Of pictures.
        cores: That each engine gets.
        out: JSON file with `run` and `rows`.
    """
    started = time.perf_counter()
    record = run_record.machine(**run_record.versions(*PACKAGES))
    record |= {"threads": cores, "shape": "tiny", "size": SIZE, "files": FILES}
    report: dict[str, Any] = {"run": record, "rows": []}
    context = multiprocessing.get_context("spawn")  # a fork would begin with our memory
    with TemporaryDirectory() as temporary:
        scratch = Path(temporary)
        (scratch / "files").mkdir()
        files = write_pictures(scratch / "files", FILES)
        for n in numbers:
            source = scratch / f"{n} pictures"
            link(files, n, source)
            made = {engine: scratch / f"{n} {engine}" for engine in ENGINES}
            for engine in ENGINES:
                began = run_record.Spent.now()
                with ProcessPoolExecutor(1, mp_context=context) as pool:
                    row = pool.submit(extracted, source, made[engine], engine, cores).result()
                if row["pictures"] != n or row["errors"]:
                    raise RuntimeError(f"{engine}: {row['pictures']} pictures of {n}")
                row = {"n": n, "engine": engine} | row
                row["differs_by"] = farthest(made[ENGINES[0]], made[engine])
                if engine == "local":  # Ray's own processes would pass for others
                    row["others_cores"] = began.others_cores()
                report["rows"].append(row)
                run_record.write(report, started, out, others=False)
                print(summary(row), flush=True)
    return report


def summary(row: dict[str, Any]) -> str:
    """A line about a run."""
    return (
        f"{row['n']:>9,} {row['engine']:<6} {row['seconds']:.1f} s, "
        f"{1000 * row['seconds'] / row['n']:.2f} ms each, {row['peak_mb']:,} MB, "
        f"{row['files']} files of {row['bytes'] / 1e6:.1f} MB together, "
        f"again {row['again_seconds']:.1f} s"
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line; returns the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("numbers", type=int, nargs="*", default=list(NUMBERS), metavar="N")
    parser.add_argument("--cores", type=int, default=os.cpu_count() or 1, help="default: all")
    default = run_record.RESULTS / "dataset_growth.json"
    parser.add_argument("--out", type=Path, default=default)
    options = parser.parse_args(arguments)
    measure(options.numbers, options.cores, options.out)
    return 0


if __name__ == "__main__":
    sys.exit(main())

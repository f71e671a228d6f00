"""Whether `stream_features` takes the same time and memory for each picture, however many.

    python -m benchmarks.growth
    python -m benchmarks.growth 100 1000 --threads 1 --out other.json

Each number of pictures runs in a process of its own. The pictures are few files read over and over,
each decoded anew, at `SIZE` instead of 224 pixels: what could grow does not depend on the size, and
10^5 pictures take minutes.
"""

from __future__ import annotations

import argparse
import itertools
import multiprocessing
import os
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch

from benchmarks import run_record
from benchmarks.ways import write_pictures
from dinov2_helpers import extract_features, load_dinov2, stream_features

FILES = 128
NUMBERS = (100, 1_000, 10_000, 100_000)
ONCE = 10_000  # larger numbers than this run in the first turn only
SIZE = 112
TURNS = 3


def grown(n: int, paths: Sequence[Path], threads: int) -> dict[str, Any]:
    """Streams n pictures, the files over and over, through the embedded model; in a process."""
    torch.set_num_threads(threads)
    dinov2 = load_dinov2("tiny", device="cpu")
    extract_features(dinov2, list(paths[:16]), size=SIZE, progress=False)
    before_mb, each, done = run_record.peak_mb(), [], 0
    start = last = time.perf_counter()
    for features in stream_features(dinov2, itertools.islice(itertools.cycle(paths), n), size=SIZE):
        now = time.perf_counter()
        each.append((now - last) / len(features))
        last, done = now, done + len(features)
    if done != n:
        raise RuntimeError(f"{done} of {n} pictures came back")
    whole = {"n": n, "seconds": last - start, "seconds_each_by_chunk": each}
    return whole | {"before_mb": before_mb, "peak_mb": run_record.peak_mb()}


def growth(sizes: Sequence[int], threads: int, out: Path) -> dict[str, Any]:
    """Measures `grown` at each size, in turns for all but the largest, and draws the result.

    Args:
        sizes: numbers of pictures; those above `ONCE` run only once.
        threads: of torch.
        out: JSON file with `run` and `rows`, one for each process; the plot is put beside it.
    """
    started = time.perf_counter()
    record = run_record.machine(**run_record.versions("torch", "transformers", "numpy", "pillow"))
    record |= {"threads": threads, "shape": "tiny", "size": SIZE}
    report: dict[str, Any] = {"run": record, "rows": []}
    context = multiprocessing.get_context("spawn")  # a fork would begin with our memory
    with TemporaryDirectory() as temporary:
        paths = write_pictures(Path(temporary), FILES)
        for turn in range(TURNS):
            for n in sizes:
                if turn and n > ONCE:
                    continue
                with ProcessPoolExecutor(1, mp_context=context) as pool:
                    row = pool.submit(grown, n, paths, threads).result()
                report["rows"].append(row)
                run_record.write(report, started, out)
                each = 1000 * row["seconds"] / n
                print(f"{n:>9,} pictures: {each:.1f} ms each, peak {row['peak_mb']} MB", flush=True)
    plot_growth(report, out.with_suffix(".png"))
    return report


def plot_growth(report: dict[str, Any], out: Path) -> None:
    """Draws milliseconds for each picture and peak memory against the number of pictures."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 3.4), layout="constrained")
    time_axes, memory_axes = figure.subplots(1, 2)
    rows = report["rows"]
    sizes = sorted({row["n"] for row in rows})
    chunks = [[e for r in rows if r["n"] == n for e in r["seconds_each_by_chunk"]] for n in sizes]
    low, middle, high = (
        1000 * np.array([np.quantile(each, share) for each in chunks]) for share in (0, 0.5, 1)
    )
    time_axes.errorbar(sizes, middle, [middle - low, high - middle], marker="o", capsize=4)
    time_axes.set_ylabel("milliseconds for each picture")
    time_axes.set_title("median of the chunks; bars: fastest and slowest", fontsize=9)
    for field, label, marker in (("peak_mb", "at its peak", "o"), ("before_mb", "before", "s")):
        values = [[row[field] for row in rows if row["n"] == n] for n in sizes]
        centre = np.array([median(v) for v in values])
        spread = [centre - [min(v) for v in values], [max(v) for v in values] - centre]
        memory_axes.errorbar(sizes, centre, spread, marker=marker, capsize=4, label=label)
    memory_axes.set_ylabel("resident memory, MB")
    memory_axes.set_title("median of the runs; bars: least and most", fontsize=9)
    memory_axes.legend()
    for axes in (time_axes, memory_axes):
        axes.set_xscale("log")
        axes.set_xticks(sizes, [f"{n:,}" for n in sizes])
        axes.minorticks_off()
        axes.set_xlabel("pictures")
        axes.set_ylim(bottom=0)
        axes.grid(alpha=0.3)
    run = report["run"]
    figure.suptitle(
        f"stream_features, embedded model at {run['size']} px, threads: {run['threads']}, "
        f"{run['date']}",
        fontsize=10,
    )
    figure.savefig(out, dpi=120)


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line; returns the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("numbers", type=int, nargs="*", default=list(NUMBERS), metavar="N")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1, help="default: cores")
    parser.add_argument("--out", type=Path, default=run_record.RESULTS / "growth.json")
    options = parser.parse_args(arguments)
    growth(options.numbers, options.threads, options.out)
    return 0


if __name__ == "__main__":
    sys.exit(main())

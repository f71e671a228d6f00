"""The objects of the library: milliseconds for each picture to fit and to ask, beside others.

    python -m benchmarks.techniques
    python -m benchmarks.techniques --cases Bridge FewShot --out other.json

On the embedded models and the sample data. A work is measured with features that are made already,
or from files, decoding and the models included; nothing is cached. Beside it stand scikit-learn,
bare Faiss, scikit-image or diffusers where they compute the same, which is checked. All take turns,
on one thread; short works are repeated in each. A ratio is the median over turns of the processor's
time that another takes by that of the library in the same turn: a busy machine lengthens it less
than the clock's, which stands beside it.
"""

from __future__ import annotations

import argparse
import logging
import os
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import faiss
import numpy as np
import torch

from benchmarks import run_record
from benchmarks.technique_cases import CASES, Bench, Call, Work
from benchmarks.ways import Missing

TURNS = 5
N_FIT = 40
N_ASK = 16
LEAST = 0.02  # seconds of each turn, so that the clock is not what is measured
SAME = 1e-3  # largest relative difference of numbers that are called the same
PACKAGES = (
    "torch", "transformers", "numpy", "scikit-learn", "scikit-image", "faiss-cpu", "diffusers",
)  # fmt: skip


class Taken(NamedTuple):
    """Milliseconds of one call."""

    clock: float
    processor: float


def timed(run: Call, least: float) -> Taken:
    """Call something once, or more often until so many seconds of the processor are spent."""
    clock, processor = time.perf_counter(), time.process_time()
    calls, spent = 0, 0.0
    while not calls or spent < least:
        run()
        calls += 1
        spent = time.process_time() - processor
    return Taken(1000 * (time.perf_counter() - clock) / calls, 1000 * spent / calls)


def in_turns(work: Work, turns: int) -> dict[str, list[Taken]]:
    """Return what each turn took, by who does the work; ours is "".

    Args:
        work: What is measured.
        turns: How often; once more to warm up.
    """
    doers = {"": work.run} | dict(work.others)
    taken: dict[str, list[Taken]] = {name: [] for name in doers}
    for turn in range(1 + turns):
        for name, run in doers.items():
            found = timed(run, LEAST if turn else 0)
            if turn:
                taken[name].append(found)
    return taken


def difference(ours: Any, theirs: Any) -> float | None:
    """Return the largest difference relative to the largest number; None: none to compare."""
    if theirs is None:
        return None
    if np.shape(ours) != np.shape(theirs):
        return float("inf")
    return float(np.abs(ours - theirs).max() / np.abs(ours).max())


def measured(case: str, work: Work, turns: int) -> dict[str, Any]:
    """Return a row."""
    taken = in_turns(work, turns)
    own = taken.pop("")
    row: dict[str, Any] = {"case": case, "work": work.name, "given": work.given}
    row |= {"pictures": work.pictures} | each(own, work.pictures)
    row["others"] = []
    for name, theirs in taken.items():
        off = difference(work.run(), work.others[name]())
        other: dict[str, Any] = {"name": name} | each(theirs, work.pictures)
        pairs = zip(own, theirs, strict=True)
        other["times_ours"] = median(b.processor / a.processor for a, b in pairs)
        if off is not None:
            other |= {"differs_by": off, "same": off < SAME}
        row["others"].append(other)
    return row


def each(taken: Sequence[Taken], pictures: int) -> dict[str, float]:
    """Return the medians of turns, for one picture."""
    return {
        "ms_each": median(one.clock for one in taken) / pictures,
        "cpu_ms_each": median(one.processor for one in taken) / pictures,
    }


def benchmark(
    names: Sequence[str], n_fit: int, n_ask: int, threads: int, out: Path
) -> dict[str, Any]:
    """Measure all works of some cases; return what was written.

    Args:
        names: Of the cases.
        n_fit: Pictures to learn from.
        n_ask: Pictures to ask about.
        threads: Of torch and Faiss.
        out: JSON file with `run` (the record) and `rows`.
    """
    started = time.perf_counter()
    os.environ.pop("DINOV2_CACHE", None)  # or files would be passed through the model only once
    torch.set_num_threads(threads)
    faiss.omp_set_num_threads(threads)
    record = run_record.machine(**run_record.versions(*PACKAGES))
    record |= {"threads": threads, "turns": TURNS, "fitted_on": n_fit, "asked": n_ask}
    report: dict[str, Any] = {"run": record, "rows": []}
    with tempfile.TemporaryDirectory() as scratch:
        bench = Bench(n_fit, n_ask, Path(scratch))
        for name in names:
            try:
                rows = [measured(name, work, TURNS) for work in CASES[name](bench)]
            except Missing as missing:
                rows = [{"case": name, "missing": str(missing)}]
            report["rows"] += rows
            run_record.write(report, started, out)
            for row in rows:
                print(summary(row), flush=True)
    return report


def summary(row: dict[str, Any]) -> str:
    """A line about a work."""
    if "missing" in row:
        return f"{row['case']:<25} {row['missing']}"
    head = (
        f"{row['case']:<25} {row['work']:<26} {row['given']:<9} {row['cpu_ms_each']:9.3f} ms each"
    )
    beside = [
        f"{other['name']}: {other['times_ours']:.2f} times{_verdict(other)}"
        for other in row["others"]
    ]
    return "  ".join([head, *beside])


def _verdict(other: dict[str, Any]) -> str:
    return " OTHER NUMBERS" if not other.get("same", True) else ""


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line; returns the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--cases", nargs="+", choices=CASES, default=list(CASES), metavar="CASE")
    parser.add_argument("--fit", type=int, default=N_FIT, help="pictures to learn from")
    parser.add_argument("--ask", type=int, default=N_ASK, help="pictures to ask about")
    parser.add_argument("--threads", type=int, default=1)
    out = run_record.RESULTS / "techniques.json"
    parser.add_argument("--out", type=Path, default=out, help="JSON file to write")
    options = parser.parse_args(arguments)
    benchmark(options.cases, options.fit, options.ask, options.threads, options.out)
    return 0


if __name__ == "__main__":
    logging.getLogger("dinov2_helpers").setLevel(logging.ERROR)  # few pictures promise little
    sys.exit(main())

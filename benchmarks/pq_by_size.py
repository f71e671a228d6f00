"""What product quantisation finds among a million vectors.

    python -m benchmarks.pq_by_size
    python -m benchmarks.pq_by_size --sizes 10000 --out other.json

A claim about a compressed index has to be judged at the size where it is used: the closer the
neighbours lie, the less short codes can tell them apart. This command lifts the functions of
notebook evidence/04 out of its source, as `benchmarks.faiss_indexes` does, and counts, at each size
and for each saving, the share of the ten exact neighbours that codes find by themselves, and after
they were re-ranked by the whole vectors. Only what is found is measured, no time, so that the
machine need not be quiet.

The notebook reads the file that is written by default, data/benchmarks/pq_by_size.json;
`python -m training.verify --write` lists it anew.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # read when Faiss is loaded
import faiss

from benchmarks import faiss_indexes, run_record
from dinov2_helpers.measure import bootstrap
from dinov2_helpers.samples import data_dir
from tools import pairing
from tools.lift import lift
from tools.project import Project

LIFTED = ("grow", "recall_of_codes", "unit", "K", "KIN", "RECIPES", "SAVINGS", "SEED")
SIZES = (1_000_000,)  # smaller ones are measured in the notebook itself


def notebook_code() -> dict[str, Any]:
    """Return the functions and constants of evidence 04 that are measured with."""
    return lift(pairing.read_source(Project(), faiss_indexes.STEM), *LIFTED)


def benchmark(sizes: Sequence[int], out: Path) -> dict[str, Any]:
    """Measure every saving at every size; return what is written.

    Args:
        sizes: Numbers of vectors.
        out: JSON file with `run` (the record) and `rows`: "n", "saves", and (value, low, high) of
            the recall "alone" and "reranked", the interval over queries.
    """
    started = time.perf_counter()
    code = notebook_code()
    features, source = faiss_indexes.real_vectors()
    real = code["unit"](features)
    record = faiss_indexes.record(code, source, real.shape[1])
    for unused in ("recipes", "turns", "blas_threshold"):
        del record[unused]
    report: dict[str, Any] = {"run": record, "rows": []}
    queries = code["grow"](real, faiss_indexes.QUERIES, code["SEED"] + 1)
    for n in sizes:
        x = code["grow"](real, n, code["SEED"])
        exact = faiss.knn(queries, x, code["K"], faiss.METRIC_INNER_PRODUCT)[1]
        for saves in code["SAVINGS"]:
            alone, reranked = code["recall_of_codes"](x, queries, exact, saves)
            row = {"n": n, "saves": saves}
            row |= {"alone": list(bootstrap(alone)), "reranked": list(bootstrap(reranked))}
            report["rows"].append(row)
            run_record.write(report, started, out)
            print(
                f"{n:>9,} vectors, {saves:>2} times smaller: {alone.mean():.3f} alone, "
                f"{reranked.mean():.3f} re-ranked",
                flush=True,
            )
    return report


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--sizes", type=int, nargs="+", default=SIZES, help="numbers of vectors")
    default = data_dir() / "benchmarks" / "pq_by_size.json"
    parser.add_argument("--out", type=Path, default=default, help="JSON file to write")
    options = parser.parse_args(arguments)
    benchmark(options.sizes, options.out)
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""Faiss indexes on up to a million vectors: recall, speed, size, time to build.

    python -m benchmarks.faiss_indexes
    python -m benchmarks.faiss_indexes --sizes 10000 --out other.json

Notebook evidence/04 explains the indexes, how the vectors are grown from features of real pictures,
and what is measured; this command lifts that very code out of the notebook's source and runs it at
more sizes, with more queries and with more care. It writes its results after each index, and with
them a record of the run: versions, processor, parameters. Queries are different ones. Recall is of
all of them; from `LARGE` vectors on, where some indexes take a thirtieth of a second for one, only
the first `TIMED` are timed.

The notebook reads the file that is written by default, data/benchmarks/faiss_indexes.json;
`python -m training.verify --write` lists it anew. Run it on a quiet machine: a million vectors take
about a quarter of an hour and 5 GB on two cores.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # read when Faiss is loaded
import faiss
import numpy as np
from numpy.typing import NDArray

from benchmarks import run_record
from dinov2_helpers import extract_features, load_dinov2
from dinov2_helpers.samples import data_dir, load_scenes
from tools import pairing
from tools.lift import lift
from tools.project import Project

STEM = "evidence/04_cross_modal_retrieval"
LIFTED = ("grow", "intrinsic_dimension", "measure", "unit", "K", "KIN", "RECIPES", "SEED", "WAYS")
SIZES = (1_000, 10_000, 100_000, 1_000_000)
QUERIES = 1000
LARGE = 1_000_000  # vectors, from which fewer queries are timed
TIMED = 200  # of them
TURNS = 3
LEAST = 0.2  # seconds that a fast search is repeated for, so that the clock is not what is measured


def notebook_code() -> dict[str, Any]:
    """The functions and constants of notebook 04 that are measured with."""
    code = lift(pairing.read_source(Project(), STEM), *LIFTED)
    # a statement of the notebook that defines no name, so it cannot be lifted
    faiss.cvar.distance_compute_blas_threshold = 800
    return code


def real_vectors() -> tuple[NDArray[np.float32], str]:
    """CLS features (N, D) of the sample scenes, not normalised, and what they are in words."""
    dinov2 = load_dinov2()
    scenes = [load_scenes(split) for split in ("train", "test")]
    features = np.concatenate([extract_features(dinov2, s, patches=False).cls for s in scenes])
    return features, f"CLS of {dinov2.name} on the {len(features)} pictures of data/scenes"


def record(code: dict[str, Any], source: str, dim: int) -> dict[str, Any]:
    """What the results depend on, besides the code."""
    machine = run_record.machine(
        numpy=np.__version__,
        faiss=faiss.__version__,
        faiss_options=faiss.get_compile_options().split(),
    )
    return machine | {
        "omp_wait_policy": os.environ["OMP_WAIT_POLICY"],
        "blas_threshold": faiss.cvar.distance_compute_blas_threshold,
        "vectors": f"{source}, grown by smoothed bootstrap with {code['KIN']} neighbours",
        "dim": dim,
        "seed": code["SEED"],
        "neighbours": code["K"],
        "queries": QUERIES,
        "timed_of_large": TIMED,
        "turns": TURNS,
        "recipes": {name: recipe for name, (recipe, _) in code["RECIPES"].items()},
    }


def benchmark(sizes: Sequence[int], out: Path) -> dict[str, Any]:
    """Measures every index at every size; returns what it has written.

    Args:
        sizes: numbers of vectors, more than `K` each.
        out: JSON file with `run` (the record), `grown` (neighbour statistics for each size) and
            `rows` (one for each size, index and setting, as the notebook's `measure` makes them);
            what it has of other sizes stays, see `run_record.of_other_sizes`.
    """
    started = time.perf_counter()
    code = notebook_code()
    features, source = real_vectors()
    real = code["unit"](features)
    queries = code["grow"](real, QUERIES, code["SEED"] + 1)
    report: dict[str, Any] = {"run": record(code, source, real.shape[1])}
    report["rows"] = run_record.of_other_sizes(out, report["run"], sizes)
    others = {str(row["n"]) for row in report["rows"]}
    earlier = json.loads(out.read_text(encoding="utf-8"))["grown"] if others else {}
    report["grown"] = {n: earlier[n] for n in earlier if n in others}
    for n in sizes:
        x = code["grow"](real, n, code["SEED"])
        flat = faiss.IndexFlatIP(x.shape[1])
        flat.add(x)
        similarity = flat.search(queries, 20)[0]
        report["grown"][str(n)] = {
            "first_neighbour": float(np.median(similarity[:, 0])),
            "tenth_neighbour": float(np.median(similarity[:, 9])),
            "intrinsic_dimension": float(code["intrinsic_dimension"](similarity)),
        }
        for name in code["RECIPES"]:
            timed = TIMED if n >= LARGE else QUERIES
            rows = code["measure"](name, x, flat, queries, code["WAYS"], timed, TURNS, LEAST)
            report["rows"] += rows
            run_record.write(report, started, out)
            print(summary(rows[-1]), flush=True)
    return report


def summary(row: dict[str, Any]) -> str:
    """A line about the last setting of an index."""
    return (
        f"{row['n']:>9,} {row['index']:<10} {row['setting']:<25} recall {row['recall']:.3f}, "
        f"{row['per_second_1_thread']:,.0f} queries/s on one thread, "
        f"{row['code_bytes_per_vector']:.0f} bytes, built in {row['build_seconds']:.1f} s"
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line; returns the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--sizes", type=int, nargs="+", default=SIZES, help="numbers of vectors")
    default = data_dir() / "benchmarks" / "faiss_indexes.json"
    parser.add_argument("--out", type=Path, default=default, help="JSON file to write")
    options = parser.parse_args(arguments)
    benchmark(options.sizes, options.out)
    return 0


if __name__ == "__main__":
    sys.exit(main())

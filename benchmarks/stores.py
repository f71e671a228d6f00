"""`ImageIndex`' store beside bare Faiss and LanceDB: the same vectors, the same questions.

    python -m benchmarks.stores
    python -m benchmarks.stores --sizes 10000 --out other.json

Vectors are what `ImageIndex` keeps of a picture, CLS and mean patch side by side, grown from those
of the sample scenes as notebook 04 does it. Each way builds its own store of them. Then all ways
take turns at a round of queries, all different, one at a time: over all vectors, and among the 1 %
that a condition leaves. Recall is of the ten nearest by exact search. The processor's time of the
median round stands beside the clock's, which a busy machine lengthens more; a ratio is of it, by
that of bare Faiss with exact search. At last 2,000 vectors are replaced and 2,000 deleted, each
time until a query sees it.

A million vectors
(`--sizes 1000000`) are 1.5 GB in each of the six stores, which are all open at once.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import faiss
import numpy as np

from benchmarks import run_record
from benchmarks.faiss_indexes import notebook_code
from benchmarks.store_ways import SHELF, WAYS, Ids, Impossible, K, Vectors, Way, shelf_of
from benchmarks.ways import Missing
from dinov2_helpers import extract_features, load_dinov2
from dinov2_helpers.samples import load_scenes

SIZES = (10_000, 100_000)
QUERIES = 300
ROUNDS = 10
CHANGED = 2_000
REFERENCE = "bare Faiss, exact"
PACKAGES = ("numpy", "faiss-cpu", "lancedb", "pyarrow")


class Material(NamedTuple):
    """What all ways get; unit vectors."""

    vectors: Vectors  # (N, D), to be kept
    queries: Vectors  # (Q, D)
    others: Vectors  # (M, D), to be put in the place of the first M

    @property
    def ids(self) -> Ids:
        """The ids of the vectors, (N,)."""
        return np.arange(1, len(self.vectors) + 1)


class Asked(NamedTuple):
    """What a way found, and how long each query took."""

    found: list[Ids]
    milliseconds: list[list[float]]  # by round
    cpu: list[float]  # milliseconds of the processor for a query, by round


def real_vectors() -> tuple[Vectors, str]:
    """Return vectors (N, D) of the sample scenes as `ImageIndex` keeps them, and what they are."""
    dinov2 = load_dinov2("tiny", device="cpu")
    scenes = [load_scenes(split) for split in ("train", "test")]
    parts = [extract_features(dinov2, one, progress=False).pooled("both") for one in scenes]
    vectors = np.concatenate(parts)
    what = f"CLS and mean patch of {dinov2.name} on the {len(vectors)} pictures of data/scenes"
    return vectors, what


def timed(work: Callable[[], Any]) -> dict[str, float]:
    """Return the seconds that something takes, by the clock and of the processor."""
    clock, processor = time.perf_counter(), time.process_time()
    work()
    return {
        "seconds": time.perf_counter() - clock,
        "cpu_seconds": time.process_time() - processor,
    }


def ask_in_turns(
    searches: dict[str, Callable[[Vectors], Ids]], queries: Vectors, rounds: int
) -> dict[str, Asked]:
    """Ask one query after the other, in rounds in which all ways take turns.

    Args:
        searches: By the name of the way.
        queries: (Q, D).
        rounds: Parts of the queries.
    """
    asked = {name: Asked([], [], []) for name in searches}
    for search in searches.values():
        search(queries[0])  # warms up
    for part in np.array_split(queries, min(rounds, len(queries))):
        for name, search in searches.items():
            taken = []
            processor = time.process_time()
            for query in part:
                before = time.perf_counter()
                asked[name].found.append(search(query))
                taken.append(1000 * (time.perf_counter() - before))
            asked[name].milliseconds.append(taken)
            asked[name].cpu.append(1000 * (time.process_time() - processor) / len(part))
    return asked


def latency(asked: Asked, reference: Asked | None) -> dict[str, float]:
    """Return median and 99th percentile by the clock, and the processor's time for a query.

    That is the median of rounds; the ratio is of it, as a busy machine lengthens it less.
    """
    p50, p99 = np.percentile(np.concatenate(asked.milliseconds), [50, 99])
    found = {"p50_ms": float(p50), "p99_ms": float(p99), "cpu_ms": median(asked.cpu)}
    if reference:
        found["times_reference"] = median(asked.cpu) / median(reference.cpu)
    return found


def nearest(vectors: Vectors, ids: Ids, queries: Vectors) -> Ids:
    """Return the ids of the K nearest of the vectors under these ids, (Q, K)."""
    exact = faiss.IndexFlatIP(vectors.shape[1])
    exact.add(vectors)
    found: Ids = ids[exact.search(queries, K)[1]]
    return found


def recall(found: Sequence[Ids], right: Ids) -> float:
    """Return the share of the right ids (Q, K) that were found."""
    return float(np.mean([np.isin(one, got) for one, got in zip(right, found, strict=True)]))


def searched(ways: dict[str, Way], material: Material) -> dict[str, dict[str, Any]]:
    """Return latency and recall of each way, over all vectors and under a condition."""
    queries, ids = material.queries, material.ids
    on_shelf = shelf_of(ids) == SHELF
    plain = ask_in_turns({name: way.query for name, way in ways.items()}, queries, ROUNDS)
    under = ask_in_turns({name: way.filtered for name, way in ways.items()}, queries, ROUNDS)
    right = nearest(material.vectors, ids, queries)
    right_under = nearest(material.vectors[on_shelf], ids[on_shelf], queries)
    rows = {}
    for name in ways:
        query = latency(plain[name], plain.get(REFERENCE))
        condition: dict[str, Any] = latency(under[name], under.get(REFERENCE))
        condition["recall"] = recall(under[name].found, right_under)
        condition["obeyed"] = all((shelf_of(one) == SHELF).all() for one in under[name].found)
        rows[name] = {
            "queries": len(queries),
            "recall": recall(plain[name].found, right),
            "query": query,
            "filter": condition,
        }
    return rows


def changed(way: Way, material: Material) -> dict[str, Any]:
    """Replace the first vectors and delete the last; return the seconds, and whether it is seen."""
    others, ids = material.others, material.ids
    first, last = ids[: len(others)], ids[-len(others) :]
    row: dict[str, Any] = {"changed": len(others)}
    try:
        row["replace"] = timed(partial(way.replace, first, others))
        row["replace"]["seen"] = bool(way.query(others[0])[0] == first[0])
        row["delete"] = timed(partial(way.delete, last))
        row["delete"]["seen"] = not np.isin(way.query(material.vectors[-1]), last).any()
    except Impossible as error:
        row["impossible"] = str(error)
    return row


def measured(names: Sequence[str], material: Material, scratch: Path) -> list[dict[str, Any]]:
    """Return a row for each way at one size.

    Args:
        names: Of the ways.
        material: What they get.
        scratch: Where they may write.
    """
    rows: dict[str, dict[str, Any]] = {}
    ways: dict[str, Way] = {}
    for number, name in enumerate(names):
        rows[name] = {"n": len(material.vectors), "way": name}
        try:
            way = WAYS[name](scratch / str(number))
        except Missing as missing:
            rows[name]["missing"] = str(missing)
            continue
        rows[name]["build"] = timed(partial(way.build, material.vectors))
        rows[name]["bytes"] = way.size()
        ways[name] = way
        taken = rows[name]["build"]["seconds"]
        print(f"{name}: built in {taken:.1f} s", file=sys.stderr, flush=True)
    for name, row in searched(ways, material).items():
        rows[name] |= row
    for name, way in ways.items():
        rows[name] |= changed(way, material)
    return list(rows.values())


def benchmark(sizes: Sequence[int], names: Sequence[str], queries: int, out: Path) -> Any:
    """Measure every way at every size; return what was written.

    Args:
        sizes: Numbers of vectors, 200 or more.
        names: Of the ways.
        queries: How many.
        out: JSON file with `run` (the record) and `rows`; those that it has of other sizes stay,
            see `run_record.of_other_sizes`.
    """
    started = time.perf_counter()
    faiss.omp_set_num_threads(1)
    grow, seed, unit = (notebook_code()[name] for name in ("grow", "SEED", "unit"))
    features, source = real_vectors()
    real = unit(features)
    record = run_record.machine(**run_record.versions(*PACKAGES)) | {
        "threads": 1, "vectors": source, "dim": real.shape[1], "neighbours": K, "rounds": ROUNDS,
        "reference": REFERENCE,
    }  # fmt: skip
    kept = run_record.of_other_sizes(out, record, sizes)
    report: dict[str, Any] = {"run": record, "rows": kept}
    for n in sizes:
        began = run_record.Spent.now()
        material = Material(
            vectors=grow(real, n, seed),
            queries=grow(real, queries, seed + 1),
            others=grow(real, min(CHANGED, n // 5), seed + 2),
        )
        with tempfile.TemporaryDirectory() as scratch:
            rows = measured(names, material, Path(scratch))
        for row in rows:
            row["others_cores"] = began.others_cores()
        report["rows"] = sorted([*report["rows"], *rows], key=lambda row: row["n"])
        run_record.write(report, started, out)
        for row in rows:
            print(summary(row), flush=True)
    return report


def summary(row: dict[str, Any]) -> str:
    """A line about a way at a size."""
    head = f"{row['n']:>9,} {row['way']:<18}"
    if "missing" in row:
        return f"{head} {row['missing']}"
    return (
        f"{head} recall {row['recall']:.3f}  p50 {row['query']['p50_ms']:.2f} ms  "
        f"p99 {row['query']['p99_ms']:.2f} ms  built in {row['build']['seconds']:.1f} s  "
        f"{row['bytes'] / row['n']:.0f} bytes each  filter {row['filter']['p50_ms']:.2f} ms, "
        f"recall {row['filter']['recall']:.3f}"
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line; returns the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--sizes", type=int, nargs="+", default=SIZES, help="numbers of vectors")
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=list(WAYS), metavar="WAY")
    parser.add_argument("--queries", type=int, default=QUERIES)
    default = run_record.RESULTS / "stores.json"
    parser.add_argument("--out", type=Path, default=default, help="JSON file to write")
    options = parser.parse_args(arguments)
    benchmark(options.sizes, options.ways, options.queries, options.out)
    return 0


if __name__ == "__main__":
    sys.exit(main())

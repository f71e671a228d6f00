"""Finding flaws: bytes to remember, and milliseconds for each picture to score.

    python -m benchmarks.anomaly
    python -m benchmarks.anomaly --categories mug --test 4 --out other.json

Notebook 06 explains the detectors; this command lifts their very code out of the notebook's source,
as benchmarks.faiss_indexes does, and gives each what it remembers of the good pictures of a
category. What the model itself takes for a picture, from the file to the patches, stands beside it.
Everything takes turns; medians are of the turns.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # read when Faiss is loaded
import faiss
import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks import run_record
from dinov2_helpers import data_dir, extract_features, load_dinov2
from tools import pairing
from tools.lift import lift
from tools.project import Project

STEM = "06_anomaly_detection"
LIFTED = (
    "read_inspection", "unit", "mahalanobis", "top_mean", "nearest_maps",
    "coreset", "lies_still", "rebuild", "cut_after", "directions", "MOST",
    "SHARES", "LARGE",
)  # fmt: skip
SMALL = 224  # pixels; the notebook names only the larger size
TEST = 20  # test pictures of a category
TURNS = 5
PACKAGES = ("torch", "transformers", "numpy", "scikit-learn", "faiss-cpu")

Array = NDArray[np.float32]


class Detector(NamedTuple):
    """A detector that has seen the good pictures."""

    remembers: int  # bytes
    score: Callable[[], Array]  # of all test pictures: (N,)


def neighbours() -> int:
    """Number of neighbours that the notebook has chosen."""
    results = Project().results / f"{pairing.COMMITTED_PROFILE}.json"
    return int(json.loads(results.read_text(encoding="utf-8"))["06.neighbours"])


def categories() -> tuple[str, ...]:
    """The notebook's categories."""
    return lift(pairing.read_source(Project(), STEM), "CATEGORIES")["CATEGORIES"]


def forwards(
    code: dict[str, Any], dinov2: Any, paths: Sequence[Path]
) -> dict[str, Callable[[], Any]]:
    """The passes through the model that the detectors need, on these files."""
    short = code["cut_after"](dinov2, dinov2.n_layers // 2)
    runs = {
        f"whole model, {SMALL} px": (dinov2, SMALL),
        f"first half, {SMALL} px": (short, SMALL),
        f"first half, {code['LARGE']} px": (short, code["LARGE"]),
    }

    settings: dict[str, Any] = {"fit": "resize", "progress": False}
    return {
        name: partial(extract_features, model, list(paths), size=size, **settings)
        for name, (model, size) in runs.items()
    }


def detectors(
    code: dict[str, Any], features: dict[str, Any], n_train: int, k: int
) -> dict[str, tuple[str, Detector]]:
    """The notebook's detectors by name, each with the pass through the model that it needs.

    Args:
        code: lifted from the notebook.
        features: of the good pictures, then the test pictures, for each of `forwards`.
        n_train: how many are good ones to learn from.
        k: neighbours to rebuild from.
    """
    whole, half, large = features
    patches = {name: code["unit"](found.patches) for name, found in features.items()}
    train = {name: x[:n_train] for name, x in patches.items()}
    test = {name: x[n_train:] for name, x in patches.items()}
    bank = train[whole].reshape(-1, train[whole].shape[-1])
    share, top_mean = min(code["SHARES"]), code["top_mean"]
    core = bank[code["coreset"](bank, round(share * len(bank)))]
    turn = code["directions"](train[large])
    compact, cls = (train[large] @ turn, test[large] @ turn), features[whole].cls
    still, _ = code["lies_still"](train[half])
    where = "at the same place" if still else "from anywhere"

    def by_bank(kept: Array) -> Detector:
        return Detector(kept.nbytes, lambda: top_mean(code["nearest_maps"](test[whole], kept)))

    def rebuilt(train: Array, test: Array, extra: int = 0) -> Detector:
        kept = (
            train.nbytes if still else min(code["MOST"], train[..., 0].size) * train.shape[-1] * 4
        )
        score = partial(code["rebuild"], test, train, still, (k,))
        return Detector(kept + extra, lambda: top_mean(score()[k]))

    dim = cls.shape[1]
    gaussian = partial(code["mahalanobis"], cls[:n_train], cls[n_train:])
    return {
        "Mahalanobis on CLS (with the fit)": (whole, Detector(4 * dim * (dim + 1), gaussian)),
        "nearest patch, whole bank": (whole, by_bank(bank)),
        f"nearest patch, {share:.0%} of the bank": (whole, by_bank(core)),
        f"rebuilt {where}": (half, rebuilt(train[half], test[half])),
        f"rebuilt {where}, {turn.shape[1]} directions": (large, rebuilt(*compact, turn.nbytes)),
    }


def benchmark(names: Sequence[str], most: int, threads: int, out: Path) -> dict[str, Any]:
    """Measures all detectors on each category; returns what it has written.

    Args:
        names: folders of data/defects.
        most: test pictures of each.
        threads: of torch and Faiss.
        out: JSON file with `run` (the record) and `rows`, one by category and detector.
    """
    started = time.perf_counter()
    torch.set_num_threads(threads)
    faiss.omp_set_num_threads(threads)
    code, k = lift(pairing.read_source(Project(), STEM), *LIFTED), neighbours()
    dinov2 = load_dinov2("tiny", device="cpu")
    record = run_record.machine(**run_record.versions(*PACKAGES))
    record |= {"threads": threads, "turns": TURNS, "test_pictures": most, "neighbours": k}
    report: dict[str, Any] = {"run": record, "rows": []}
    for category in names:
        line = code["read_inspection"](data_dir() / "defects" / category)
        test = line.test[:: max(1, len(line.test) // most)][:most]
        passes = forwards(code, dinov2, test)
        both = forwards(code, dinov2, [*line.train, *test])
        features = {name: run() for name, run in both.items()}
        found = detectors(code, features, len(line.train), k)
        todo = passes | {name: detector.score for name, (_, detector) in found.items()}
        taken: dict[str, list[float]] = {name: [] for name in todo}
        for turn in range(1 + TURNS):
            for name, run in todo.items():
                before = time.perf_counter()
                run()
                if turn:  # the first one warms up
                    taken[name].append(1000 * (time.perf_counter() - before) / len(test))
        for name, (needs, detector) in found.items():
            row = {"category": category, "detector": name, "good_pictures": len(line.train)}
            row |= {"remembers_bytes": detector.remembers, "pass": needs}
            row |= {"score_ms": median(taken[name]), "pass_ms": median(taken[needs])}
            report["rows"].append(row | {"score_ms_by_turn": taken[name]})
            print(summary(row), flush=True)
        run_record.write(report, started, out)
    return report


def summary(row: dict[str, Any]) -> str:
    """A line about a detector."""
    return (
        f"{row['category']:<6} {row['detector']:<42} {row['remembers_bytes'] / 1e6:6.2f} MB, "
        f"scores in {row['score_ms']:6.2f} ms, after {row['pass_ms']:.1f} ms of {row['pass']}"
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line; returns the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--categories", nargs="+", choices=categories(), default=categories())
    parser.add_argument("--test", type=int, default=TEST, help="test pictures of each")
    threads = os.cpu_count() or 1
    parser.add_argument("--threads", type=int, default=threads, help="default: all cores")
    out = run_record.RESULTS / "anomaly.json"
    parser.add_argument("--out", type=Path, default=out, help="JSON file to write")
    options = parser.parse_args(arguments)
    benchmark(options.categories, options.test, options.threads, options.out)
    return 0


if __name__ == "__main__":
    sys.exit(main())

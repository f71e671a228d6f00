"""Finding flaws: bytes to remember, and milliseconds for each picture to score.

    python -m benchmarks.anomaly
    python -m benchmarks.anomaly --categories mug --test 4 --out other.json

The library's detectors, one setting a row, are given what they remember of the good pictures of a
category. What the model itself takes for a picture, from the file to the patches, stands beside
them. Everything takes turns; medians are of the turns.
"""

from __future__ import annotations

import argparse
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
import torch

from benchmarks import run_record
from dinov2_helpers import data_dir, extract_features, load_dinov2
from dinov2_helpers.techniques.anomaly import AnomalyDetector
from dinov2_helpers.techniques.inspection import read_layout
from dinov2_helpers.techniques.patches import PatchReader

CATEGORIES = ("mug", "car", "rocket", "wood", "tiles")
SMALL = 224  # pixels
LARGE = 448
TEST = 20  # test pictures of a category
TURNS = 5
NEIGHBOURS = 10
PACKAGES = ("torch", "transformers", "numpy", "scikit-learn", "faiss-cpu")


class Detector(NamedTuple):
    """A detector that has seen the good pictures."""

    needs: str  # the pass through the model, one of `forwards`
    remembers: int  # bytes
    score: Callable[[], Any]  # of all test pictures


def settings(last: int) -> dict[str, dict[str, Any]]:
    """Settings of `AnomalyDetector` for each row; layers are counted from 0."""
    plain: dict[str, Any] = {"size": SMALL, "dimensions": None}
    nearest = plain | {"method": "nearest", "layers": [last], "same_place": False}
    mixture = plain | {"method": "rebuild", "k": NEIGHBOURS}
    return {
        "nearest patch, whole bank": nearest,
        "nearest patch, 1% of the bank": nearest | {"coreset": 0.01},
        "rebuilt": mixture,
        "rebuilt, 64 directions": mixture | {"size": LARGE, "dimensions": 64},
    }


def forwards(dinov2: Any, paths: Sequence[Path]) -> dict[str, Callable[[], Any]]:
    """The passes through the model that the detectors need, on these files."""
    middle = dinov2.n_layers // 2
    whole = partial(extract_features, dinov2, list(paths), size=SMALL, fit="resize", progress=False)
    runs: dict[str, Callable[[], Any]] = {f"whole model, {SMALL} px": whole}
    for size in (SMALL, LARGE):
        reader = PatchReader(dinov2, size, (middle,))
        runs[f"first half, {size} px"] = partial(reader.read, list(paths), progress=False)
    return runs


def detectors(dinov2: Any, train: Sequence[Path], test: Sequence[Path]) -> dict[str, Detector]:
    """The detectors by name, fitted; each scores features that are made already."""
    middle, last = dinov2.n_layers // 2, dinov2.n_layers - 1
    features = {}
    for size in (SMALL, LARGE):
        options: dict[str, Any] = {"size": size, "fit": "resize", "layers": [middle]}
        features[size] = [
            extract_features(dinov2, list(paths), progress=False, **options)
            for paths in (train, test, train[:1])
        ]
    found = {}
    for name, given in settings(last).items():
        good, new, one = features[given["size"]]
        detector = AnomalyDetector(dinov2, false_alarms=0.5, **given)
        detector.fit(good, calibration=one)  # thresholds are not what is measured
        part = "whole model" if given.get("layers") == [last] else "first half"
        score = partial(detector.score, new)
        found[name] = Detector(f"{part}, {given['size']} px", detector.remembered_bytes(), score)
    return found


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
    dinov2 = load_dinov2("tiny", device="cpu")
    record = run_record.machine(**run_record.versions(*PACKAGES))
    record |= {"threads": threads, "turns": TURNS, "test_pictures": most, "neighbours": NEIGHBOURS}
    report: dict[str, Any] = {"run": record, "rows": []}
    for category in names:
        layout = read_layout(data_dir() / "defects" / category)
        test = layout.test[:: max(1, len(layout.test) // most)][:most]
        passes = forwards(dinov2, test)
        found = detectors(dinov2, layout.train, test)
        todo = passes | {name: detector.score for name, detector in found.items()}
        taken: dict[str, list[float]] = {name: [] for name in todo}
        for turn in range(1 + TURNS):
            for name, run in todo.items():
                before = time.perf_counter()
                run()
                if turn:  # the first one warms up
                    taken[name].append(1000 * (time.perf_counter() - before) / len(test))
        for name, detector in found.items():
            row = {"category": category, "detector": name, "good_pictures": len(layout.train)}
            row |= {"remembers_bytes": detector.remembers, "pass": detector.needs}
            row |= {"score_ms": median(taken[name]), "pass_ms": median(taken[detector.needs])}
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
    parser.add_argument("--categories", nargs="+", choices=CATEGORIES, default=CATEGORIES)
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

"""Which backend is the fastest on this CPU: processor time for one picture and for several.

    python -m benchmarks.backends
    python -m benchmarks.backends --shapes tiny --turns 3 --out other.json

`load_dinov2(backend="auto")` chooses by what came out here on CPUs with and without AVX-512; the
record says which this one is. Pictures are those of data/, so that decoding takes next to nothing;
one thread; the backends take turns, and what counts is the least of a backend's turns, which other
programs have lengthened least. The first call is told apart: OpenVINO compiles in it.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch

from benchmarks import run_record
from benchmarks.extraction import PACKAGES, SHAPES
from benchmarks.ways import Missing, model_folder, need
from dinov2_helpers import data_dir, extract_features, load_dinov2
from dinov2_helpers.extraction import Features
from dinov2_helpers.models import Backend, Dinov2

BACKENDS: tuple[Backend, ...] = ("torch", "onednn", "openvino")
COUNTS = (1, 8)  # pictures of a call
TURNS = 9


def milliseconds(dinov2: Dinov2, paths: Sequence[Path]) -> tuple[float, Features]:
    """What a call takes of the processor, and its features."""
    before = time.process_time()
    found = extract_features(dinov2, paths, progress=False)
    return 1000 * (time.process_time() - before), found


def measure(dinov2: Dinov2, names: Sequence[Backend], turns: int) -> list[dict[str, Any]]:
    """A row for each backend and number of pictures; the first is the one others are compared with.

    Args:
        dinov2: of any backend.
        names: of `BACKENDS`.
        turns: of each, beside the first call.
    """
    folder = data_dir() / "defects" / "mug" / "train" / "good"
    pictures = sorted(folder.iterdir())[: max(COUNTS)]
    models = {name: replace(dinov2, backend=name) for name in names}
    first = {name: milliseconds(model, pictures) for name, model in models.items()}
    expected = np.asarray(first[names[0]][1].patches)
    rows = []
    for n in COUNTS:
        taken: dict[Backend, list[float]] = {name: [] for name in models}
        for _ in range(turns):
            for name, model in models.items():
                taken[name].append(milliseconds(model, pictures[:n])[0])
        for backend, each in taken.items():
            spent, found = first[backend]
            row: dict[str, Any] = {"backend": backend, "pictures": n, "cpu_ms": each}
            row |= {"least_cpu_ms_each": min(each) / n, "first_cpu_ms": spent}
            row["times_first"] = min(each) / min(taken[names[0]])
            row["differs_by"] = float(np.abs(np.asarray(found.patches) - expected).max())
            rows.append(row)
    return rows


def benchmark(shapes: Sequence[str], turns: int, out: Path) -> dict[str, Any]:
    """Measures all backends that are here; returns what is written.

    Args:
        shapes: of `benchmarks.extraction.SHAPES`.
        turns: of each backend and number of pictures.
        out: JSON file with `run` (the record) and `rows`.
    """
    started = time.perf_counter()
    torch.set_num_threads(1)
    record = run_record.machine(**run_record.versions(*PACKAGES))
    record |= {"threads": 1, "turns": turns, "cpu": torch.backends.cpu.get_cpu_capability()}
    report: dict[str, Any] = {"run": record, "rows": []}
    names = list(BACKENDS)
    try:
        need("openvino")
    except Missing as missing:
        record["missing"] = str(missing)
        names.remove("openvino")
    for shape in shapes:
        with TemporaryDirectory() as scratch:
            folder = model_folder(shape, Path(scratch))
            rows = measure(load_dinov2(folder, device="cpu"), names, turns)
        report["rows"] += [{"shape": shape} | row for row in rows]
        run_record.write(report, started, out)
        for row in report["rows"][-len(rows) :]:
            print(summary(row), flush=True)
    return report


def summary(row: Mapping[str, Any]) -> str:
    """A line about a backend."""
    return (
        f"{row['shape']:<6} {row['backend']:<9} {row['pictures']} pictures: "
        f"{row['least_cpu_ms_each']:.0f} ms of the processor each, {row['times_first']:.2f} times "
        f"{BACKENDS[0]}'s; first call {row['first_cpu_ms']:.0f} ms"
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line; returns the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--shapes", nargs="+", choices=SHAPES, default=SHAPES[:2])
    parser.add_argument("--turns", type=int, default=TURNS)
    parser.add_argument("--out", type=Path, default=run_record.RESULTS / "backends.json")
    options = parser.parse_args(arguments)
    benchmark(options.shapes, options.turns, options.out)
    return 0


if __name__ == "__main__":
    sys.exit(main())

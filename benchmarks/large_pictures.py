"""From photographs of 12 and 48 megapixels to features: processor time, ours and others'.

    python -m benchmarks.large_pictures
    python -m benchmarks.large_pictures --shapes tiny --megapixels 12 --turns 3 --out other.json

The photographs of scikit-image and scikit-learn are enlarged to the size of a camera's and saved as
JPEG. Ways are those of `benchmarks.ways`, each in a process of its own, on one thread; what counts
is the processor's time, for decoding takes most of it and other programs do not lengthen it much.
All take turns, and a ratio is taken within a turn.

Ours decodes fewer pixels than there are, and so has other numbers than those that decode all: how
far they are is measured on all photographs, as they are and with noise of a standard deviation of
`NOISE` of 255 steps in every pixel, which no scaling has smoothed.
"""

from __future__ import annotations

import argparse
import multiprocessing
import sys
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageOps

from benchmarks import run_record
from benchmarks.extraction import OURS, PACKAGES, SHAPES, Build, extract, load
from benchmarks.ways import WAYS, Extract, Setting, Tokens, model_folder
from dinov2_helpers import extract_features, load_dinov2
from dinov2_helpers.models import Dinov2
from dinov2_helpers.samples import photographs

SIDES = {12: (4000, 3000), 48: (8064, 6048)}  # width, height by megapixels
PICTURES = 4  # that each way reads in a turn
TURNS = 5
NOISE = 10
QUALITY = 90


def ours_exact(at: Setting) -> Extract:
    """`extract_features` with `exact=True`."""

    def extract_all_pixels(paths: Sequence[Path], _batch: int) -> Tokens:
        found = extract_features(at.dinov2, list(paths), exact=True, progress=False)
        patches: Any = found.patches
        return found.cls, patches.reshape(len(found), -1, at.dinov2.dim)

    return extract_all_pixels


BESIDE: dict[str, Build] = {
    OURS: WAYS[OURS][0],
    "ours, exact": ours_exact,
    **{name: WAYS[name][0] for name in ("ours in OpenVINO", "the article's loop")},
    **{name: WAYS[name][0] for name in ("transformers pipeline", "ONNX Runtime", "OpenVINO")},
}


def write_large(folder: Path, size: tuple[int, int], n: int, noise: float = 0) -> list[Path]:
    """Writes the first n photographs, enlarged to (width, height), as JPEG files."""
    rng = np.random.default_rng(0)
    paths = []
    for name, photograph in [*photographs().items()][:n]:
        large = ImageOps.fit(photograph, size, Image.Resampling.BICUBIC)
        if noise:
            grain = noise * rng.standard_normal((size[1], size[0], 3), np.float32)
            values = np.asarray(large, np.float32) + grain
            large = Image.fromarray(values.clip(0, 255).round().astype(np.uint8))
        paths.append(folder / f"{name}.jpg")
        large.save(paths[-1], quality=QUALITY)
    return paths


def cosines(one: NDArray[np.float32], other: NDArray[np.float32]) -> NDArray[np.float32]:
    """Cosines of vectors (..., D) to those at the same place."""
    lengths = np.linalg.norm(one, axis=-1) * np.linalg.norm(other, axis=-1)
    found: NDArray[np.float32] = (one * other).sum(-1) / lengths
    return found


def likeness(dinov2: Dinov2, paths: Sequence[Path]) -> dict[str, Any]:
    """How alike the features are of fewer pixels and of all."""
    fewer = extract_features(dinov2, paths, progress=False)
    exact = extract_features(dinov2, paths, exact=True, progress=False)
    cls = cosines(fewer.cls, exact.cls)
    patches = cosines(np.asarray(fewer.patches), np.asarray(exact.patches))
    return {  # what cosines lack to 1, as a record keeps four digits of a number
        "pictures": len(paths),
        "cls_lacks_at_most": float(1 - cls.min()),
        "patch_lacks_at_most": float(1 - patches.min()),
        "patch_lacks_in_the_middle": float(1 - np.median(patches)),
    }


def processor_seconds(paths: Sequence[Path]) -> float:
    """What the way of this process takes of the processor for all of them."""
    before = time.process_time()
    extract(paths, len(paths))
    return time.process_time() - before


def measure(at: Setting, paths: Sequence[Path], names: Sequence[str], turns: int) -> list[Any]:
    """Rows of the ways: milliseconds of the processor for a picture, turn by turn."""
    context = multiprocessing.get_context("spawn")  # a fork would begin with our threads
    rows: dict[str, dict[str, Any]] = {name: {"way": name} for name in names}
    ready: dict[str, ProcessPoolExecutor] = {}
    with ExitStack() as processes:
        for name in names:
            process = processes.enter_context(ProcessPoolExecutor(1, mp_context=context))
            if missing := process.submit(load, BESIDE[name], *at[1:]).result():
                rows[name]["missing"] = missing
                continue
            process.submit(processor_seconds, paths).result()  # a warm-up
            ready[name] = process
        taken: dict[str, list[float]] = {name: [] for name in ready}
        for _ in range(turns):
            for name, process in ready.items():
                spent = process.submit(processor_seconds, paths).result()
                taken[name].append(1000 * spent / len(paths))
    for name, each in taken.items():
        ratios = [other / own for other, own in zip(each, taken[OURS], strict=True)]
        rows[name] |= {"cpu_ms_each": each, "times_ours": median(ratios)}
    return [*rows.values()]


def benchmark(
    shapes: Sequence[str],
    megapixels: Sequence[int],
    names: Sequence[str],
    turns: int,
    out: Path,
) -> dict[str, Any]:
    """Measures all ways at all sizes, and how alike the features are; returns what is written.

    Args:
        shapes: of `benchmarks.extraction.SHAPES`.
        megapixels: of `SIDES`.
        names: of `BESIDE`; ours is always measured, and first.
        turns: how often each way is measured.
        out: JSON file with `run` (the record), `likeness` and `rows`.
    """
    started = time.perf_counter()
    torch.set_num_threads(1)
    record = run_record.machine(**run_record.versions(*PACKAGES))
    record |= {"threads": 1, "turns": turns, "pictures": PICTURES, "jpeg_quality": QUALITY}
    record |= {"noise": NOISE, "sides": {str(n): SIDES[n] for n in megapixels}}
    report: dict[str, Any] = {"run": record, "likeness": [], "rows": []}
    names = [OURS, *(name for name in names if name != OURS)]
    for noise in (0, NOISE):
        with TemporaryDirectory() as temporary:
            paths = write_large(Path(temporary), SIDES[12], len(photographs()), noise)
            found = likeness(load_dinov2("tiny", device="cpu"), paths)
        report["likeness"].append({"megapixels": 12, "noise": noise} | found)
        run_record.write(report, started, out)
    for n in megapixels:
        with TemporaryDirectory() as temporary:
            paths = write_large(Path(temporary), SIDES[n], PICTURES)
            for shape in shapes:
                scratch = Path(temporary)
                folder = model_folder(shape, scratch)
                at = Setting(load_dinov2(folder, device="cpu"), folder, scratch, 1)
                rows = [
                    {"shape": shape, "megapixels": n} | row
                    for row in measure(at, paths, names, turns)
                ]
                report["rows"] += rows
                run_record.write(report, started, out)
                print("\n".join(map(summary, rows)), flush=True)
    return report


def summary(row: Mapping[str, Any]) -> str:
    """A line about a way."""
    start = f"{row['shape']:<6} {row['megapixels']} MP  {row['way']:<24}"
    if "missing" in row:
        return f"{start} {row['missing']}"
    each = median(row["cpu_ms_each"])
    return f"{start} {each:7.0f} ms of the processor, {row['times_ours']:.2f} times ours"


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line; returns the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--shapes", nargs="+", choices=SHAPES, default=SHAPES[:2])
    parser.add_argument("--megapixels", nargs="+", type=int, choices=SIDES, default=[*SIDES])
    parser.add_argument("--ways", nargs="+", choices=BESIDE, default=[*BESIDE], metavar="WAY")
    parser.add_argument("--turns", type=int, default=TURNS)
    parser.add_argument("--out", type=Path, default=run_record.RESULTS / "large_pictures.json")
    options = parser.parse_args(arguments)
    benchmark(options.shapes, options.megapixels, options.ways, options.turns, options.out)
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""From JPEG files to features: pictures per second, ours and others', and how far from the floor.

    python -m benchmarks.extraction
    python -m benchmarks.extraction --shapes tiny --threads 1 --out other.json

Every way of `benchmarks.ways` reads the same files and must return CLS and patches. The model is
the embedded one ("tiny"), or has the size of the published "small" or "base" with random weights:
speed does not depend on their values. Each way has a process of its own, so that the threads and
the memory that one library leaves behind cannot slow another down. All take turns, so that they
meet the same moods of the machine, and a ratio is taken within a turn; loading, conversion and a
warm-up are not counted. Ways that take a batch size get the one of `BATCHES` that is fastest for
them in the warm-up. Those whose package is not there are named in the results. The others are
compared with ours number by number.

Nothing that computes these features in single precision can be faster than two floors. One: the
multiply-adds of the model's matrix products at the best rate at which any matrix product ran here
in that turn, large or of the model's shapes, by any library at hand. Two: decoding and resizing
alone, on all threads; both take the same cores, so together they are a floor too.
"""

from __future__ import annotations

import argparse
import io
import multiprocessing
import os
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import ExitStack, redirect_stdout
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any, TypeAlias

import numpy as np
import torch

from benchmarks import run_record
from benchmarks.ways import (
    SIZES,
    WAYS,
    Extract,
    Missing,
    Setting,
    Tokens,
    model_folder,
    write_pictures,
)
from dinov2_helpers import load_dinov2, open_image, to_pixels
from dinov2_helpers.models import Model

SHAPES = ("tiny", "small", "base")
PICTURES = {"tiny": 128, "small": 64, "base": 32}
BATCHES = (1, 4, 16)
TURNS = 5
SQUARES = (1024, 2048, 3072)
LEAST = 0.1  # seconds that each matrix product is repeated for
SAME = 1e-4  # features that differ by less are the same numbers
OURS = "ours"
PACKAGES = (
    "torch",
    "transformers",
    "numpy",
    "pillow",
    "torchvision",
    "onnxruntime",
    "openvino",
)

Build: TypeAlias = Callable[[Setting], Extract]


# ------------------------------------------------------------------------------------------ floors


def multiply_adds(dinov2: Model, tokens: int) -> int:
    """Multiply-adds of all matrix products for one picture: linear layers, patches, attention."""
    count = dinov2.n_layers * 2 * tokens**2 * dinov2.width
    for module in dinov2.model.modules():
        if isinstance(module, torch.nn.Linear):
            count += tokens * module.weight.numel()
        elif isinstance(module, torch.nn.Conv2d):
            count += (tokens - 1 - dinov2.n_registers) * module.weight.numel()
    return count


def products(dinov2: Model, tokens: int) -> list[tuple[int, int, int]]:
    """Sizes (M, N, K) of the products (M, K) x (K, N) that are timed for the rate."""
    linear = [m for m in dinov2.model.modules() if isinstance(m, torch.nn.Linear)]
    own = {(4 * tokens, module.out_features, module.in_features) for module in linear}
    return [(n, n, n) for n in SQUARES] + sorted(own)


def multipliers(weight: torch.Tensor) -> dict[str, Callable[[torch.Tensor], Any]]:
    """Ways to multiply by the transpose of a weight (N, K), each by another library."""
    other = weight.numpy().T
    known: dict[str, Callable[[torch.Tensor], Any]] = {
        "torch": lambda x: torch.nn.functional.linear(x, weight),
        "numpy": lambda x: x.numpy() @ other,
    }
    if torch.backends.mkldnn.is_available():
        operations: Any = torch.ops.mkldnn  # what torch.compile makes of linear layers
        packed = operations._reorder_linear_weight(weight)
        known["oneDNN"] = lambda x: operations._linear_pointwise(x, packed, None, "none", [], "")
    return known


def best_rate(sizes: Sequence[tuple[int, int, int]]) -> tuple[float, str]:
    """Most multiply-adds per second that any product (M, K) x (K, N) reached, and by what."""
    best = (0.0, "")
    with torch.inference_mode():
        for m, n, k in sizes:
            x = torch.randn(m, k)
            for name, multiply in multipliers(torch.randn(n, k)).items():
                multiply(x)
                until = time.perf_counter() + LEAST
                while (before := time.perf_counter()) < until:
                    multiply(x)
                    rate = m * n * k / (time.perf_counter() - before)
                    best = max(best, (rate, f"{name}, {m} x {k} by {k} x {n}"))
    return best


def decode(at: Setting, paths: Sequence[Path]) -> None:
    """Decoding and resizing alone."""
    with ThreadPoolExecutor(at.threads) as pool:
        for _ in pool.map(lambda path: to_pixels(open_image(path), at.dinov2), paths):
            pass


# ----------------------------------------------------------------------------- a process for a way

_BUILT: dict[str, Extract] = {}  # in such a process: its way


def load(build: Build, folder: Path, scratch: Path, threads: int) -> str:
    """Builds the way of this process; returns what it misses, or nothing."""
    torch.set_num_threads(threads)
    with redirect_stdout(io.StringIO()):  # the model is the same in all processes
        at = Setting(load_dinov2(folder, device="cpu"), folder, scratch, threads)
    try:
        _BUILT["way"] = build(at)
    except Missing as missing:
        return str(missing)
    return ""


def extract(paths: Sequence[Path], batch: int) -> Tokens:
    """Features by the way of this process."""
    return _BUILT["way"](paths, batch)


def extraction_seconds(paths: Sequence[Path], batch: int) -> float:
    """How long it takes."""
    return seconds(extract, paths, batch)


# ------------------------------------------------------------------------------------- measurement


def seconds(function: Callable[..., Any], *arguments: Any) -> float:
    """How long a call takes."""
    before = time.perf_counter()
    function(*arguments)
    return time.perf_counter() - before


def warm_up(process: ProcessPoolExecutor, batched: bool, paths: Sequence[Path]) -> int:
    """The fastest batch size of a way that takes one, or 1; it has seen each of them."""
    few, batches = paths[: max(BATCHES)], BATCHES if batched else (1,)

    def taken(batch: int) -> float:
        process.submit(extract, few, batch).result()
        return process.submit(extraction_seconds, few, batch).result()

    return min(batches, key=taken)


def measure(shape: str, at: Setting, names: Sequence[str], paths: Sequence[Path]) -> Any:
    """Rows of one shape, and its floors: pictures per second of each way, turn by turn."""
    n, side = len(paths), at.dinov2.processor.crop_size["height"]
    tokens = (side // at.dinov2.patch_size) ** 2 + 1 + at.dinov2.n_registers
    work, sizes = multiply_adds(at.dinov2, tokens), products(at.dinov2, tokens)
    context = multiprocessing.get_context("spawn")  # a fork would begin with our threads
    rows, ready, expected = list[Any](), dict[str, tuple[ProcessPoolExecutor, int]](), None
    with ExitStack() as processes:
        for name in names:
            build, batched = WAYS[name]
            process = processes.enter_context(ProcessPoolExecutor(1, mp_context=context))
            row: dict[str, Any] = {"shape": shape, "way": name}
            rows.append(row)
            if missing := process.submit(load, build, *at[1:]).result():
                row["missing"] = missing
                continue
            batch = warm_up(process, batched, paths)
            ready[name] = process, batch
            found = process.submit(extract, paths, batch).result()
            expected = expected or found
            off = [float(np.abs(a - b).max()) for a, b in zip(found, expected, strict=True)]
            row |= {"batch": batch if batched else None, "cls_differs_by": off[0]}
            row |= {"patches_differ_by": off[1], "same": max(off) < SAME}
        decode(at, paths)
        taken: dict[str, list[float]] = {name: [] for name in ready}
        rates, decoding = [], []
        for _ in range(TURNS):
            for name, (process, batch) in ready.items():
                spent = process.submit(extraction_seconds, paths, batch).result()
                taken[name].append(spent / n)
            rates.append(best_rate(sizes))
            decoding.append(seconds(decode, at, paths) / n)
    multiplying = [work / rate for rate, _ in rates]
    for row in rows:
        if "missing" not in row:
            each = taken[row["way"]]
            both = list(zip(multiplying, decoding, each, strict=True))
            row |= {
                "pictures_per_second": 1 / median(each),
                "seconds_each": each,
                "times_slower_than_ours": median(
                    other / own for other, own in zip(each, taken[OURS], strict=True)
                ),
                "share_of_products": median(m / t for m, _, t in both),
                "share_of_products_and_decoding": median((m + d) / t for m, d, t in both),
            }
    floor = {
        "pictures": n,
        "multiply_adds": work,
        "multiply_adds_per_second": median(rate for rate, _ in rates),
        "fastest_product": max(rates)[1],
        "products_seconds": median(multiplying),
        "decoding_seconds": median(decoding),
    }
    return rows, floor


def benchmark(
    shapes: Sequence[str], names: Sequence[str], threads: int, pictures: int | None, out: Path
) -> dict[str, Any]:
    """Measures all ways for all shapes; returns what it has written.

    Args:
        shapes: of `SHAPES`.
        names: of `WAYS`; ours is always measured, and first.
        threads: for every library.
        pictures: how many; None: `PICTURES` by shape.
        out: JSON file with `run` (the record), `floors` by shape, and `rows`, one by shape and way.
    """
    started = time.perf_counter()
    torch.set_num_threads(threads)
    record = run_record.machine(**run_record.versions(*PACKAGES))
    record |= {"threads": threads, "turns": TURNS, "sizes": [f"{w}x{h}" for w, h in SIZES]}
    report: dict[str, Any] = {"run": record, "floors": {}, "rows": []}
    names = [OURS, *(name for name in names if name != OURS)]
    for shape in shapes:
        with TemporaryDirectory() as temporary:
            scratch = Path(temporary)
            paths = write_pictures(scratch, pictures or PICTURES[shape])
            folder = model_folder(shape, scratch)
            at = Setting(load_dinov2(folder, device="cpu"), folder, scratch, threads)
            rows, report["floors"][shape] = measure(shape, at, names, paths)
        report["rows"] += rows
        run_record.write(report, started, out)
        for row in rows:
            print(summary(row), flush=True)
    return report


def summary(row: dict[str, Any]) -> str:
    """A line about a way."""
    start = f"{row['shape']:<6} {row['way']:<24}"
    if "missing" in row:
        return f"{start} {row['missing']}"
    same = "the same numbers" if row["same"] else "OTHER NUMBERS"
    off = max(row["cls_differs_by"], row["patches_differ_by"])
    return (
        f"{start} {row['pictures_per_second']:7.2f} pictures/s, "
        f"{row['times_slower_than_ours']:.2f} times our time, "
        f"{row['share_of_products']:.0%} of the floor; {same} ({off:.1g})"
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line; returns the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--shapes", nargs="+", choices=SHAPES, default=SHAPES)
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=[*WAYS], metavar="WAY")
    parser.add_argument("--pictures", type=int, help="how many, instead of what fits the shape")
    threads = os.cpu_count() or 1
    parser.add_argument("--threads", type=int, default=threads, help="default: all cores")
    parser.add_argument("--out", type=Path, default=run_record.RESULTS / "extraction.json")
    options = parser.parse_args(arguments)
    benchmark(options.shapes, options.ways, options.threads, options.pictures, options.out)
    return 0


if __name__ == "__main__":
    sys.exit(main())

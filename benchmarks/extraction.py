"""From JPEG files to features: pictures per second, ours and others', and how far from the floor.

    python -m benchmarks.extraction
    python -m benchmarks.extraction --shapes tiny --threads 1 --out other.json
    python -m benchmarks.extraction --grow 100 1000 10000 100000

Every way reads the same files and must return CLS and patches. The model is the embedded one
("tiny"), or has the size of the published "small" or "base" with random weights: speed does not
depend on their values. All ways take turns, so that they meet the same moods of the machine, and a
ratio is taken within a turn; loading, conversion and a warm-up are not counted. Ways that take a
batch size get the one of `BATCHES` that is fastest for them in the warm-up. Those whose package is
not there are named in the results. The others are compared with ours number by number.

Nothing that computes these features in single precision can be faster than two floors. One: the
multiply-adds of the model's matrix products at the best rate at which any matrix product ran here
in that turn, large or of the model's shapes, by any library at hand. Two: decoding and resizing
alone, on all threads; both take the same cores, so together they are a floor too.

`--grow` measures something else: whether `stream_features` takes the same time for each picture,
and the same memory, however many there are. Each size runs in a process of its own.
"""

from __future__ import annotations

import argparse
import itertools
import logging
import multiprocessing
import os
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from functools import partial
from importlib import import_module
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageOps

from benchmarks import run_record
from dinov2_helpers import data_dir, extract_features, load_dinov2, stream_features
from dinov2_helpers.images import open_image, to_pixels
from dinov2_helpers.models import PROFILES, Model
from dinov2_helpers.samples import load_scenes, photographs

SHAPES = ("tiny", "small", "base")
SIZES = ((640, 480), (480, 640), (500, 375), (1024, 768))  # width, height of the files
PICTURES = {"tiny": 128, "small": 64, "base": 32}
BATCHES = (1, 4, 16)
TURNS = 5
SQUARES = (1024, 2048, 3072)
LEAST = 0.1  # seconds that each matrix product is repeated for
SAME = 1e-4  # features that differ by less are the same numbers
GROW_TURNS = 3
PACKAGES = (
    "torch",
    "transformers",
    "numpy",
    "pillow",
    "torchvision",
    "onnxruntime",
    "openvino",
)

Tokens: TypeAlias = tuple[NDArray[np.float32], NDArray[np.float32]]  # CLS (N, D), patches (N, T, D)
Extract: TypeAlias = Callable[[Sequence[Path], int], Tokens]


class Missing(Exception):
    """A package that a way needs is not there; the text says which and why."""


class Setting(NamedTuple):
    """What all ways share."""

    dinov2: Model
    folder: Path  # of the model's files
    scratch: Path  # for files of their own
    threads: int


# ---------------------------------------------------------------------------------------- pictures


def write_pictures(folder: Path, n: int) -> list[Path]:
    """Writes n different JPEG files of `SIZES`: parts of photographs, and rendered scenes."""
    sources = [*photographs().values(), *map(open_image, load_scenes("test").images[:3])]
    rng = np.random.default_rng(0)
    paths = []
    for i in range(n):
        part = ImageOps.fit(
            sources[i % len(sources)],
            SIZES[i % len(SIZES)],
            bleed=rng.uniform(0, 0.1),
            centering=tuple(rng.uniform(size=2)),
        )
        paths.append(folder / f"{i:04d}.jpg")
        part.save(paths[-1], quality=90)
    return paths


def model_folder(shape: str, scratch: Path) -> Path:
    """The embedded model's folder, or a new one with a random model of a published size."""
    if shape == "tiny":
        return data_dir() / PROFILES["tiny"].dinov2
    from tools import standins  # imports diffusers, which takes memory that `grown` must not see

    folder = scratch / f"dinov2-{shape}"
    torch.manual_seed(0)
    standins.dinov2_model(f"facebook/dinov2-{shape}").save_pretrained(folder)
    standins.write_preprocessor(folder, standins.PREPROCESSOR)
    return folder


# -------------------------------------------------------------------------------------------- ways


def need(*names: str) -> list[Any]:
    """The modules of these names; Missing: one of them cannot be imported."""
    modules = []
    for name in names:
        try:
            modules.append(import_module(name))
        except ModuleNotFoundError as error:
            raise Missing(f"not installed: {error.name}") from error
        except Exception as error:  # a package that was built for another torch raises anything
            raise Missing(f"{name} does not import: {error}") from error
    return modules


def split(tokens: NDArray[np.float32]) -> Tokens:
    """CLS and patches of tokens (N, 1 + T, D) of a model without registers."""
    return tokens[:, 0], tokens[:, 1:]


def load_auto(folder: Path) -> Any:
    """The model as transformers loads it by itself."""
    from transformers import AutoModel

    return AutoModel.from_pretrained(folder, dtype="float32").eval()


def ours(at: Setting) -> Extract:
    """`extract_features` as it comes; it chooses its batches itself."""

    def extract(paths: Sequence[Path], _batch: int) -> Tokens:
        found = extract_features(at.dinov2, list(paths), progress=False)
        patches: Any = found.patches
        return found.cls, patches.reshape(len(found), -1, at.dinov2.dim)

    return extract


def article(at: Setting) -> Extract:
    """The article's loop: one picture at a time through the processor and the model."""
    from transformers import AutoImageProcessor

    processor, model = AutoImageProcessor.from_pretrained(at.folder), load_auto(at.folder)

    def extract(paths: Sequence[Path], _batch: int) -> Tokens:
        found = []
        for path in paths:
            inputs = processor(images=Image.open(path).convert("RGB"), return_tensors="pt")
            with torch.no_grad():
                found.append(model(**inputs).last_hidden_state.numpy())
        return split(np.concatenate(found))

    return extract


def pipeline(at: Setting) -> Extract:
    """The pipeline of transformers, which returns tensors instead of lists when asked."""
    from transformers import AutoImageProcessor
    from transformers import pipeline as build

    extractor: Any = build(
        "image-feature-extraction",
        model=load_auto(at.folder),
        image_processor=AutoImageProcessor.from_pretrained(at.folder),
        device="cpu",
    )

    def extract(paths: Sequence[Path], batch: int) -> Tokens:
        found = extractor([str(path) for path in paths], batch_size=batch, return_tensors=True)
        return split(np.concatenate([tokens.numpy() for tokens in found]))

    return extract


class Files(torch.utils.data.Dataset):
    """Pictures in files, transformed, for a DataLoader, whose processes must be able to get it."""

    def __init__(self, paths: Sequence[Path], transform: Any) -> None:
        self.paths, self.transform = list(paths), transform

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, i: int) -> torch.Tensor:
        with Image.open(self.paths[i]) as image:
            return self.transform(image.convert("RGB"))


def dataloader(at: Setting) -> Extract:
    """A DataLoader with torchvision's transforms of the model card, one process for each thread."""
    (transforms,) = need("torchvision.transforms")
    processor = at.dinov2.processor
    transform = transforms.Compose(
        [
            transforms.Resize(
                processor.size["shortest_edge"], transforms.InterpolationMode.BICUBIC
            ),
            transforms.CenterCrop(processor.crop_size["height"]),
            transforms.ToTensor(),
            transforms.Normalize(processor.image_mean, processor.image_std),
        ]
    )
    model = load_auto(at.folder)

    def extract(paths: Sequence[Path], batch: int) -> Tokens:
        files = Files(paths, transform)
        loader = torch.utils.data.DataLoader(files, batch_size=batch, num_workers=at.threads)
        with torch.inference_mode():
            found = [model(pixel_values=pixels).last_hidden_state.numpy() for pixels in loader]
        return split(np.concatenate(found))

    return extract


class TokensOnly(torch.nn.Module):
    """A model that returns its tokens and nothing else, as converters like it."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def forward(self, pixel_values: torch.Tensor) -> torch.Tensor:
        """Tokens (N, 1 + T, D) after the final layer norm."""
        return self.model(pixel_values=pixel_values).last_hidden_state


def full_batches(
    at: Setting, paths: Sequence[Path], batch: int
) -> Iterator[tuple[int, NDArray[np.float32]]]:
    """Our pixels in batches with the number of the first; the last one is filled with zeros.

    All the files are decoded in threads, while the caller works on those that are ready.
    """
    with ThreadPoolExecutor(at.threads) as pool:
        coming = pool.map(lambda path: to_pixels(open_image(path), at.dinov2), paths)
        for start in range(0, len(paths), batch):
            pixels = np.stack(list(itertools.islice(coming, batch)))
            yield start, np.pad(pixels, [(0, batch - len(pixels)), *[(0, 0)] * 3])


def in_order(found: dict[int, NDArray[np.float32]], n: int) -> Tokens:
    """The tokens of n pictures, out of batches by the number of their first."""
    return split(np.concatenate([found[start] for start in sorted(found)])[:n])


def onnx_runtime(at: Setting) -> Extract:
    """ONNX Runtime on our pixels."""
    runtime, *_ = need("onnxruntime", "onnx", "onnxscript")
    file = at.scratch / f"{at.folder.name}.onnx"
    model = TokensOnly(load_auto(at.folder)).eval()
    side = at.dinov2.processor.crop_size["height"]
    logging.getLogger("torch.onnx").setLevel(
        logging.ERROR
    )  # it tells that torchvision is not there
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            model,
            (torch.zeros(2, 3, side, side),),
            file,
            dynamo=True,
            dynamic_shapes={"pixel_values": {0: torch.export.Dim("n")}},
            verbose=False,
        )
    options = runtime.SessionOptions()
    options.intra_op_num_threads = at.threads
    session = runtime.InferenceSession(file, options, providers=["CPUExecutionProvider"])

    def extract(paths: Sequence[Path], batch: int) -> Tokens:
        batches = full_batches(at, paths, batch)
        found = {start: session.run(None, {"pixel_values": x})[0] for start, x in batches}
        return in_order(found, len(paths))

    return extract


def openvino(at: Setting) -> Extract:
    """OpenVINO on our pixels, with several requests under way, in single precision."""
    (ov,) = need("openvino")
    side = at.dinov2.processor.crop_size["height"]
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of tracing
        example = torch.zeros(2, 3, side, side)
        model = TokensOnly(load_auto(at.folder)).eval()
        converted = ov.convert_model(model, example_input=example, input=[-1, 3, side, side])
    options = {
        "INFERENCE_PRECISION_HINT": "f32",  # its default may be bfloat16
        "INFERENCE_NUM_THREADS": at.threads,
        "PERFORMANCE_HINT": "THROUGHPUT",
    }
    compiled: dict[int, Any] = {}

    def extract(paths: Sequence[Path], batch: int) -> Tokens:
        if batch not in compiled:
            converted.reshape([batch, 3, side, side])
            compiled[batch] = ov.compile_model(converted, "CPU", options)
        found: dict[int, NDArray[np.float32]] = {}
        queue = ov.AsyncInferQueue(compiled[batch])
        queue.set_callback(
            lambda request, start: found.update({start: request.get_output_tensor().data.copy()})
        )
        for start, pixels in full_batches(at, paths, batch):
            queue.start_async({0: pixels}, start)
        queue.wait_all()
        return in_order(found, len(paths))

    return extract


OURS = "ours"
WAYS: dict[str, tuple[Callable[[Setting], Extract], bool]] = {  # and whether it takes a batch size
    OURS: (ours, False),
    "the article's loop": (article, False),
    "transformers pipeline": (pipeline, True),
    "torchvision DataLoader": (dataloader, True),
    "ONNX Runtime": (onnx_runtime, True),
    "OpenVINO": (openvino, True),
}


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


# ------------------------------------------------------------------------------------- measurement


def seconds(function: Callable[..., Any], *arguments: Any) -> float:
    """How long a call takes."""
    before = time.perf_counter()
    function(*arguments)
    return time.perf_counter() - before


def prepare(
    at: Setting, names: Sequence[str], paths: Sequence[Path]
) -> tuple[dict[str, tuple[Extract, int]], list[dict[str, Any]]]:
    """Loads, warms up and compares ways; those that are missing become rows at once.

    Returns:
        Each way with its batch size, and a row for each: "shape" and measures are added later.
    """
    ready, rows = {}, []
    expected: Tokens | None = None
    few = paths[: max(BATCHES)]
    for name in names:
        build, batched = WAYS[name]
        try:
            extract = build(at)
        except Missing as missing:
            rows.append({"way": name, "missing": str(missing)})
            continue
        batches = BATCHES if batched else (1,)
        for batch in batches:
            extract(few, batch)
        batch = min(batches, key=partial(seconds, extract, few))
        found = extract(paths, batch)
        expected = expected or found
        off = [float(np.abs(a - b).max()) for a, b in zip(found, expected, strict=True)]
        ready[name] = extract, batch
        row: dict[str, Any] = {"way": name, "batch": batch if batched else None}
        row |= {"cls_differs_by": off[0], "patches_differ_by": off[1], "same": max(off) < SAME}
        rows.append(row)
    return ready, rows


def measure(shape: str, at: Setting, names: Sequence[str], paths: Sequence[Path]) -> Any:
    """Rows of one shape, and its floors: pictures per second of each way, turn by turn."""
    n, side = len(paths), at.dinov2.processor.crop_size["height"]
    tokens = (side // at.dinov2.patch_size) ** 2 + 1 + at.dinov2.n_registers
    work, sizes = multiply_adds(at.dinov2, tokens), products(at.dinov2, tokens)
    ready, rows = prepare(at, names, paths)
    decode(at, paths)
    taken: dict[str, list[float]] = {name: [] for name in ready}
    rates, decoding = [], []
    for _ in range(TURNS):
        for name, (extract, batch) in ready.items():
            taken[name].append(seconds(extract, paths, batch) / n)
        rates.append(best_rate(sizes))
        decoding.append(seconds(decode, at, paths) / n)
    multiplying = [work / rate for rate, _ in rates]
    for row in rows:
        row |= {"shape": shape}
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


# ------------------------------------------------------------------------------------------ growth


def grown(n: int, paths: Sequence[Path], threads: int) -> dict[str, Any]:
    """Streams n pictures, the files over and over, through the embedded model; in a process."""
    torch.set_num_threads(threads)
    dinov2 = load_dinov2("tiny", device="cpu")
    extract_features(dinov2, list(paths[:16]), progress=False)
    before_mb, each, done = run_record.peak_mb(), [], 0
    start = last = time.perf_counter()
    for features in stream_features(dinov2, itertools.islice(itertools.cycle(paths), n)):
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
        sizes: numbers of pictures; those above 10,000 run only once.
        threads: of torch.
        out: JSON file with `run` and `rows`, one for each process; the plot is put beside it.
    """
    started = time.perf_counter()
    record = run_record.machine(**run_record.versions(*PACKAGES))
    report: dict[str, Any] = {"run": record | {"threads": threads, "shape": "tiny"}, "rows": []}
    context = multiprocessing.get_context("spawn")  # a fork would begin with our memory
    with TemporaryDirectory() as temporary:
        paths = write_pictures(Path(temporary), PICTURES["tiny"])
        for turn in range(GROW_TURNS):
            for n in sizes:
                if turn and n > 10_000:
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
        f"stream_features, embedded model, threads: {run['threads']}, {run['date']}", fontsize=10
    )
    figure.savefig(out, dpi=120)


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line; returns the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--shapes", nargs="+", choices=SHAPES, default=SHAPES)
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=[*WAYS], metavar="WAY")
    parser.add_argument("--pictures", type=int, help="how many, instead of what fits the shape")
    threads = os.cpu_count() or 1
    parser.add_argument("--threads", type=int, default=threads, help="default: all cores")
    parser.add_argument("--grow", type=int, nargs="+", metavar="N", help="measure growth instead")
    parser.add_argument("--out", type=Path, help="JSON file to write")
    options = parser.parse_args(arguments)
    name = "extraction_growth" if options.grow else "extraction"
    out = options.out or run_record.RESULTS / f"{name}.json"
    if options.grow:
        growth(options.grow, options.threads, out)
    else:
        benchmark(options.shapes, options.ways, options.threads, options.pictures, out)
    return 0


if __name__ == "__main__":
    sys.exit(main())

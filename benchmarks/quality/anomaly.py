"""How well flaws are found on data/defects: ideas of papers, and the library's steps one by one.

    python -m benchmarks.quality.anomaly --json benchmarks/results/quality_anomaly.json

Each row differs from the one that it names in one thing. "Pretended" is the image AUROC on scars
that CutPaste (Li et al. 2021) makes of ten good training pictures, which the other thirty must tell
apart: choices are made on that column, and the others are the test. Intervals are of 2,000 draws of
test pictures, paired where they are of gains. Test pictures are those of notebook 06.
"""

from __future__ import annotations

import argparse
import logging
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from benchmarks import run_record
from dinov2_helpers import data_dir, extract_features, load_dinov2, measure
from dinov2_helpers.extraction import Features
from dinov2_helpers.measure import Interval
from dinov2_helpers.pictures import read_mask
from dinov2_helpers.techniques.anomaly import AnomalyDetector
from dinov2_helpers.techniques.inspection import read_layout

CATEGORIES = ("mug", "car", "rocket", "wood", "tiles")
GOOD = 20  # test pictures of a category, as in notebook 06
HELD = 10  # training pictures that scars are cut into
BINS = 2000  # of the scores of pixels, for intervals of AUPRO
PACKAGES = ("torch", "transformers", "numpy", "scikit-learn", "faiss-cpu")

Array = NDArray[np.float64]


class Step(NamedTuple):
    """A row: a detector, and the row that it differs from in one thing."""

    name: str
    after: str | None
    size: int
    settings: dict[str, Any]


def steps(middle: int, last: int) -> list[Step]:
    """Return the rows; layers of a model are counted from 0."""
    plain: dict[str, Any] = {"method": "nearest", "same_place": False, "dimensions": None}
    first = plain | {"layers": [last]}
    mid = plain | {"layers": [middle]}
    still = mid | {"same_place": "auto"}
    mixed = still | {"method": "rebuild", "k": 10}
    compact = mixed | {"dimensions": 64}
    several = [middle - 1, middle, middle + 1]
    nearby = mid | {"layers": [middle - 1, middle], "combine": "join"}
    core = nearby | {"neighbourhood": 3, "coreset": 0.1}
    subspace = {"method": "subspace", "layers": several, "variance": 0.99}
    return [
        Step("nearest patch, last layer", None, 224, first),
        Step("middle layer", "nearest patch, last layer", 224, mid),
        Step("same place", "middle layer", 224, still),
        Step("mixture of 10", "same place", 224, mixed),
        Step("64 directions", "mixture of 10", 224, compact),
        Step("448 px", "64 directions", 448, compact),
        Step("448 px, three layers averaged", "448 px", 448, compact | {"layers": several}),
        Step(
            "448 px, three layers joined", "448 px", 448,
            compact | {"layers": several, "combine": "join"},
        ),
        Step("448 px, patches averaged 3x3", "448 px", 448, compact | {"neighbourhood": 3}),
        Step("448 px, mixture of 20", "448 px", 448, compact | {"k": 20}),
        Step("448 px, 128 directions", "448 px", 448, compact | {"dimensions": 128}),
        Step("448 px, anywhere", "448 px", 448, compact | {"same_place": False}),
        Step("AnomalyDINO: nearest, last layer", None, 448, first | {"dimensions": 64}),
        Step("SubspaceAD: three middle layers", None, 448, subspace),
        Step("SubspaceAD with 0.95", "SubspaceAD: three middle layers", 448,
             subspace | {"variance": 0.95}),
        Step("PatchCore: two layers joined", None, 224, nearby),
        Step("averaged 3x3", "PatchCore: two layers joined", 224, nearby | {"neighbourhood": 3}),
        Step("coreset of 10 %", "averaged 3x3", 224, core),
        Step("oddest patch", "coreset of 10 %", 224, core | {"image_score": "max"}),
        Step("re-weighted", "oddest patch", 224, core | {"image_score": "reweighted"}),
    ]  # fmt: skip


@dataclass(frozen=True)
class Material:
    """Features of a category at one size, and the truth."""

    train: Features
    test: Features
    scarred: Features
    flawed: NDArray[np.bool_]  # (N,)
    masks: list[NDArray[np.bool_]]


@dataclass(frozen=True)
class Found:
    """What a detector says of the test pictures of a category."""

    scores: Array  # (N,)
    flawed: NDArray[np.bool_]  # (N,)
    pretended: float
    pixel_auroc: float
    aupro: float
    histograms: tuple[Array, Array, NDArray[np.int64]]  # of good pixels, of flaws; whose they are


def chosen(features: Features, rows: Sequence[int]) -> Features:
    """Return the features of some of the pictures."""
    places = list(rows)
    layers = {
        number: layer._replace(cls=layer.cls[places], patches=np.asarray(layer.patches)[places])
        for number, layer in features.layers.items()
    }
    return replace(
        features,
        cls=features.cls[places],
        patches=np.asarray(features.patches)[places],
        layers=layers,
        index=features.index[places],
        names=tuple(features.names[i] for i in places),
        sizes=features.sizes[places],
        grids=features.grids[places],
    )


def cut_paste(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    """Return the picture with a scar: a strip of itself, turned, and pasted elsewhere."""
    width, length = int(rng.integers(2, 17)), int(rng.integers(10, 26))
    x, y = int(rng.integers(image.width - width)), int(rng.integers(image.height - length))
    strip = image.crop((x, y, x + width, y + length)).convert("RGBA")
    strip = strip.rotate(rng.uniform(-45, 45), expand=True)
    across, down = (
        int(rng.integers(side - piece)) for side, piece in zip(image.size, strip.size, strict=True)
    )
    pasted = image.copy()
    pasted.paste(strip.convert("RGB"), (across, down), strip.getchannel("A"))
    return pasted


def material(dinov2: Any, folder: Path, size: int, layers: list[int], seed: int) -> Material:
    """Read a category, and cut scars into the last of its training pictures."""
    layout = read_layout(folder)
    kinds = np.array(layout.kinds)
    few = np.flatnonzero((kinds != "good") | (np.cumsum(kinds == "good") <= GOOD))
    settings: dict[str, Any] = {"size": size, "fit": "resize", "layers": layers, "progress": False}
    rng = np.random.default_rng(seed)
    held = [Image.open(path).convert("RGB") for path in layout.train[-HELD:]]
    scars = [cut_paste(image, rng) for image in held for _ in range(2)]
    masks = []
    for i in few:
        path = layout.masks[i]
        with Image.open(layout.test[i]) as image:
            blank = np.zeros(image.size[::-1], bool)
            masks.append(read_mask(path, size=image.size) if path else blank)
    return Material(
        train=extract_features(dinov2, layout.train, **settings),
        test=extract_features(dinov2, [layout.test[i] for i in few], **settings),
        scarred=extract_features(dinov2, scars, **settings),
        flawed=kinds[few] != "good",
        masks=masks,
    )


def run_step(dinov2: Any, step: Step, given: Material) -> Found:
    """Fit on good pictures, score the test pictures; then the same with scars."""
    n = len(given.train)
    one = chosen(given.train, [0])  # thresholds are measured elsewhere
    detector = AnomalyDetector(dinov2, size=step.size, **step.settings)
    detector.fit(given.train, calibration=one)
    scores = detector.score(given.test)
    maps = [scores.map(i) for i in range(len(scores))]
    detector.fit(chosen(given.train, range(n - HELD)), calibration=one)
    held = detector.score(chosen(given.train, range(n - HELD, n))).values
    scarred = detector.score(given.scarred).values
    truth = np.repeat([False, True], [len(held), len(scarred)])
    return Found(
        scores=scores.values,
        flawed=given.flawed,
        pretended=measure.auroc(np.concatenate([held, scarred]), truth),
        pixel_auroc=measure.pixel_auroc(maps, given.masks),
        aupro=measure.aupro(maps, given.masks),
        histograms=histograms(maps, given.masks),
    )


def histograms(
    maps: list[NDArray[np.float32]], masks: list[NDArray[np.bool_]]
) -> tuple[Array, Array, NDArray[np.int64]]:
    """Count pixels by score, highest first: good ones by picture, and the share of each flaw.

    Returns:
        (N, bins), (R, bins), and the picture of each flaw (R,).
    """
    from scipy.ndimage import label

    sample = np.concatenate([one.ravel()[::7] for one in maps])
    edges = np.quantile(sample, np.linspace(0, 1, BINS + 1)[1:-1])
    good, flaws, owner = [], [], []
    for i, (one, mask) in enumerate(zip(maps, masks, strict=True)):
        place = BINS - 1 - np.searchsorted(edges, one)  # (H, W)
        good.append(np.bincount(place[~mask], minlength=BINS))
        labels, count = label(mask, measure.EIGHT_CONNECTED)
        for number in range(1, count + 1):
            inside = np.bincount(place[labels == number], minlength=BINS)
            flaws.append(inside / inside.sum())
            owner.append(i)
    return np.array(good, float), np.array(flaws), np.array(owner)


def drawn_aupro(found: Found, times: NDArray[np.int64], limit: float = 0.3) -> float:
    """Return the AUPRO, by histograms, of pictures taken so many times each (N,)."""
    good, flaws, owner = found.histograms
    alarms = np.cumsum(times @ good)
    weights = times[owner]
    overlap = np.cumsum(weights @ flaws) / max(1, weights.sum())
    x = np.concatenate([[0], alarms / alarms[-1]])
    y = np.concatenate([[0], overlap])
    inside = x <= limit
    end = np.interp(limit, x, y)
    return float(np.trapezoid([*y[inside], end], [*x[inside], limit]) / limit)


def drawn_auroc(found: Found, times: NDArray[np.int64]) -> float:
    """Return the image AUROC of pictures taken so many times each (N,)."""
    good, flawed = found.scores[~found.flawed], found.scores[found.flawed]
    wins = (flawed[:, None] > good) + 0.5 * (flawed[:, None] == good)
    of_flawed, of_good = times[found.flawed], times[~found.flawed]
    return float(of_flawed @ wins @ of_good / (of_flawed.sum() * of_good.sum()))


def interval(score: Any, rows: list[dict[str, Found]], draws: int) -> Interval:
    """Return the mean over categories of a score, or of the gain over a second row.

    Args:
        score: `drawn_aupro` or `drawn_auroc`.
        rows: One, or two of which the second is taken from the first; by category.
        draws: Of the bootstrap over the pictures of all categories.
    """
    counts = [len(one.scores) for one in rows[0].values()]
    ends = np.cumsum(counts)[:-1]

    def of(drawn: NDArray[np.int64]) -> float:
        times = np.split(np.bincount(drawn, minlength=sum(counts)), ends)
        means = [
            np.mean([score(one, t) for one, t in zip(row.values(), times, strict=True)])
            for row in rows
        ]
        return float(means[0] - sum(means[1:]))

    return measure.bootstrap_of(of, sum(counts), draws=draws)


def summary(step: Step, found: dict[str, dict[str, Found]], draws: int) -> dict[str, Any]:
    """Return a row of the report."""
    of = found[step.name]
    row: dict[str, Any] = {"name": step.name, "after": step.after, "size": step.size}
    row["pretended"] = float(np.mean([one.pretended for one in of.values()]))
    row["image_auroc"] = interval(drawn_auroc, [of], draws)._asdict()
    row["aupro"] = interval(drawn_aupro, [of], draws)._asdict()
    row["aupro"]["value"] = float(np.mean([one.aupro for one in of.values()]))  # exact
    row["pixel_auroc"] = float(np.mean([one.pixel_auroc for one in of.values()]))
    row["by_category"] = {
        name: {"image_auroc": drawn_auroc(one, np.ones(len(one.scores), int)), "aupro": one.aupro}
        for name, one in of.items()
    }
    if step.after:
        gain = interval(drawn_auroc, [of, found[step.after]], draws)
        row["image_auroc_gain"] = gain._asdict()
    return row


def line(row: dict[str, Any]) -> str:
    """Return a row as text."""
    image, aupro = (Interval(**row[name]) for name in ("image_auroc", "aupro"))
    gain = Interval(**row["image_auroc_gain"]) if row["after"] else None
    added = f"{gain:+.3f} after {row['after']}" if gain else ""
    return (
        f"{row['name']:<34} {row['size']} px  pretended {row['pretended']:.3f}  image {image}  "
        f"pixel {row['pixel_auroc']:.3f}  AUPRO {aupro}  {added}"
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line; returns the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--categories", nargs="+", choices=CATEGORIES, default=CATEGORIES)
    parser.add_argument("--draws", type=int, default=measure.DRAWS)
    parser.add_argument("--json", type=Path, help="file to write")
    options = parser.parse_args(arguments)
    logging.getLogger("dinov2_helpers").setLevel(logging.ERROR)  # one picture promises nothing
    started = time.perf_counter()
    dinov2 = load_dinov2("tiny", device="cpu")
    middle, last = dinov2.n_layers // 2, dinov2.n_layers - 1
    todo = steps(middle, last)
    found: dict[str, dict[str, Found]] = {step.name: {} for step in todo}
    for seed, name in enumerate(options.categories):
        for size in sorted({step.size for step in todo}):
            layers = [middle - 1, middle, middle + 1]
            given = material(dinov2, data_dir() / "defects" / name, size, layers, seed)
            for step in todo:
                if step.size == size:
                    found[step.name][name] = run_step(dinov2, step, given)
            spent = time.perf_counter() - started
            print(f"{name}, {size} px: {spent:.0f} s", file=sys.stderr, flush=True)
    record = run_record.quality(*PACKAGES, models=["dinov2-tiny"], draws=options.draws)
    report: dict[str, Any] = {"run": record, "rows": []}
    for step in todo:
        report["rows"].append(summary(step, found, options.draws))
        print(line(report["rows"][-1]), flush=True)
    report["chosen"] = max(report["rows"], key=lambda row: row["pretended"])["name"]
    print(f"chosen on pretended flaws: {report['chosen']}")
    if options.json:
        run_record.write(report, started, options.json)
    return 0


if __name__ == "__main__":
    sys.exit(main())

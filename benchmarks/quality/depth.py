"""Depth heads of the library on the sample scenes, one step per row, and on a real photograph.

    python -m benchmarks.quality.depth [--json FILE] [--cache FOLDER]

Heads are fitted on 400 training scenes; 80 others choose between them; the test scenes, of other
toys, are only measured. Scores are over all pixels of a picture, then averaged over pictures.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from benchmarks.run_record import RESULTS, machine, write
from dinov2_helpers import extract_features, load_dinov2, load_scenes
from dinov2_helpers.measure import bootstrap, depth_scores, fit_scale, fit_scale_and_shift
from dinov2_helpers.samples import Scenes
from dinov2_helpers.techniques.depth import DepthHead

SIZE = 224
N_VALIDATION = 80
STEPS: dict[str, dict[str, Any]] = {
    "ridge, last layer": {"layers": [-1], "cls": False},
    "ridge, last layer + CLS": {"layers": [-1]},
    "ridge, four layers": {"cls": False},
    "ridge, four layers + CLS": {},
    "bins, four layers + CLS": {"head": "bins"},
    "small DPT, four layers + CLS": {"head": "dpt"},
}
# of the Middlebury pair, from the data's own description: pixels, metres, pixels
FOCAL, BASELINE, OFFSET = 994.978, 0.193001, 31.086
Maps = list[NDArray[np.float32]]


def part(scenes: Scenes, rows: Sequence[int]) -> Scenes:
    """Some of the scenes."""
    return replace(scenes, table=[scenes.table[row] for row in rows])


def depths(scenes: Scenes) -> Maps:
    """The true depth of all."""
    return [scenes.depth(i) for i in range(len(scenes))]


def focal_of(scenes: Scenes) -> float:
    """Focal length in pixels, the same for all scenes."""
    return float(scenes.table[0]["camera"]["intrinsics"][0][0])


def row_map(maps: Maps) -> NDArray[np.float64]:
    """The geometric mean of the depth of each row of the picture, (H, 1): it sees nothing."""
    found: NDArray[np.float64] = np.exp(np.nanmean(np.log(np.stack(maps)), axis=(0, 2)))[:, None]
    return found


def judged(guesses: Sequence[Any], truths: Maps) -> dict[str, Any]:
    """Mean scores with intervals, as they are and with the median scale given away."""
    plain, scaled = [], []
    for guess, true in zip(guesses, truths, strict=True):
        plain.append(depth_scores(guess, true))
        scaled.append(depth_scores(guess * fit_scale(guess, true), true))
    found: dict[str, Any] = {
        name: list(bootstrap([one[name] for one in plain]))
        for name in ("delta1", "AbsRel", "RMSE", "SILog")
    }
    found["delta1, scale given"] = list(bootstrap([one["delta1"] for one in scaled]))
    return found


def zoomed(picture: Image.Image, share: float) -> Image.Image:
    """The middle of a picture, enlarged to its size: a lens that is 1 / share as long."""
    width, height = picture.size
    margin = (width * (1 - share) / 2, height * (1 - share) / 2)
    box = (margin[0], margin[1], width - margin[0], height - margin[1])
    return picture.resize(picture.size, Image.Resampling.BICUBIC, box=box)


def zoomed_depth(depth: NDArray[np.float32], share: float) -> NDArray[np.float32]:
    """The depth of the same, by the nearest pixel."""
    y, x = ((n * (1 - share) / 2 + (np.arange(n) + 0.5) * share).astype(int) for n in depth.shape)
    return depth[y[:, None], x]


def other_lens(
    dinov2: Any, plain: DepthHead, fit: Scenes, test: Scenes, focal: float
) -> dict[str, Any]:
    """A lens 1.6 times as long: uncorrected, corrected, and after a fit on several lenses."""
    share = 140 / SIZE
    some = part(test, range(0, len(test), 8))
    pictures = [zoomed(some.image(i), share) for i in range(len(some))]
    truths = [zoomed_depth(one, share) for one in depths(some)]
    shares = np.random.default_rng(0).uniform(0.5, 0.95, len(fit))
    both = [fit.image(i) for i in range(len(fit))]
    both += [zoomed(fit.image(i), shares[i]) for i in range(len(fit))]
    true = depths(fit)
    true += [zoomed_depth(one, shares[i]) for i, one in enumerate(true)]
    several = DepthHead(dinov2).fit(
        both,
        true,
        focal=np.concatenate([np.full(len(fit), focal), focal / shares]),
        groups=[*range(len(fit))] * 2,
    )
    unzoomed = several.predict(some, focal=focal).depth
    return {
        "fitted on one lens": judged(plain.predict(pictures).depth, truths),
        "..., multiplied": judged(plain.predict(pictures, focal=focal / share).depth, truths),
        "fitted on several": judged(several.predict(pictures, focal=focal / share).depth, truths),
        "..., on the usual lens": judged(unzoomed, depths(some)),
    }


def motorcycle(heads: dict[str, DepthHead], row: NDArray[np.float64]) -> dict[str, Any]:
    """A photograph with measured depth: as it comes, by its focal length, and fitted to it."""
    from skimage import data as photographs

    left, _, disparity = photographs.stereo_motorcycle()
    known = np.isfinite(disparity)
    truth = np.full(disparity.shape, np.nan)
    truth[known] = FOCAL * BASELINE / (disparity[known] + OFFSET)
    low, high = np.nanmin(truth), np.nanmax(truth)
    lines = ((np.arange(len(truth)) + 0.5) * len(row) / len(truth)).astype(int)
    guesses = {"row": np.broadcast_to(row[lines], truth.shape)}
    unlike = {}
    for name, head in heads.items():
        maps = head.predict([left], focal=FOCAL)
        guesses[name], unlike[name] = maps.depth[0], float(maps.unlike[0])
    report: dict[str, Any] = {"true median": float(np.nanmedian(truth))}
    for name, guess in guesses.items():
        scale, shift = fit_scale_and_shift(guess, truth)
        fitted = 1 / np.clip(scale / guess + shift, 1 / high, 1 / low)
        report[name] = {
            "median": float(np.median(guess)),
            "as it comes": depth_scores(guess, truth),
            "scale given": depth_scores(guess * fit_scale(guess, truth), truth),
            "scale and shift given": depth_scores(fitted, truth),
            "unlike": unlike.get(name),
        }
    return report


def measure_steps(dinov2: Any, cache: Path | None) -> dict[str, Any]:
    """All rows."""
    scenes, test = load_scenes("train"), load_scenes("test")
    order = np.random.default_rng(0).permutation(len(scenes))
    fit = part(scenes, order[:-N_VALIDATION].tolist())
    validation = part(scenes, order[-N_VALIDATION:].tolist())
    focal = focal_of(scenes)
    layers = DepthHead(dinov2).blocks_
    options: dict[str, Any] = {"size": SIZE, "fit": "resize", "layers": layers, "cache": cache}
    features = [
        extract_features(dinov2, one.images, patches=False, **options)
        for one in (fit, validation, test)
    ]
    truths = [depths(one) for one in (fit, validation, test)]
    row = row_map(truths[0])
    blind = np.broadcast_to(row, (SIZE, SIZE))
    rows: dict[str, Any] = {
        "row, no picture": {
            "validation": judged([blind] * len(validation), truths[1]),
            "test": judged([blind] * len(test), truths[2]),
        }
    }
    heads = {}
    for name, settings in STEPS.items():
        started = time.perf_counter()
        heads[name] = DepthHead(dinov2, **settings).fit(features[0], truths[0], focal=focal)
        fitted = time.perf_counter() - started
        on_validation, on_test = (heads[name].predict(one) for one in features[1:])
        rows[name] = {
            "fit_seconds": fitted,
            "penalty": heads[name].penalty_,
            "validation": judged(on_validation.depth, truths[1]),
            "test": judged(on_test.depth, truths[2]),
            "test, beyond": float(on_test.beyond.mean()),
            "test, unlike": float(on_test.unlike.mean()),
        }
        print(line(name, rows[name]), flush=True)
    return {
        "steps": rows,
        "chosen": max(heads, key=lambda name: rows[name]["validation"]["delta1"][0]),
        "lens": other_lens(dinov2, heads["ridge, four layers + CLS"], fit, test, focal),
        "motorcycle": motorcycle(heads, row),
    }


def line(name: str, row: dict[str, Any]) -> str:
    """One row of the table."""
    value, low, high = row["test"]["delta1"]
    return (
        f"{name:<29} validation {row['validation']['delta1'][0]:.3f}  test {value:.3f} "
        f"({low:.3f} to {high:.3f})  scale given {row['test']['delta1, scale given'][0]:.3f}  "
        f"SILog {row['test']['SILog'][0]:.3f}  fit {row.get('fit_seconds', 0):.0f} s"
    )


def main() -> None:
    """Measures, prints a table, and writes what was measured."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--json", type=Path, default=RESULTS / "quality_depth.json")
    parser.add_argument("--cache", type=Path, help="folder to keep features in")
    arguments = parser.parse_args()
    started = time.perf_counter()
    dinov2 = load_dinov2("tiny")
    report: dict[str, Any] = {"run": machine(model=dinov2.name)}
    report |= measure_steps(dinov2, arguments.cache)
    write(report, started, arguments.json)
    print(line("row, no picture", report["steps"]["row, no picture"]))
    print("chosen on validation:", report["chosen"])
    for name, scores in report["lens"].items():
        print(f"lens: {name:<24} delta1 {scores['delta1'][0]:.3f}")
    for name, scores in report["motorcycle"].items():
        if isinstance(scores, dict):
            given = scores["scale and shift given"]["AbsRel"]
            print(f"motorcycle: {name:<29} median {scores['median']:.2f} m, AbsRel {given:.3f}")


if __name__ == "__main__":
    main()

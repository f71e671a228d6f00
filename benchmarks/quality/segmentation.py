"""How good masks are on the test scenes, chosen on training scenes alone.

Run as `python -m benchmarks.quality.segmentation`. Methods that learn from no mask are fitted on
the 80 scenes that the notebook chooses by, with their masks for the threshold or without; probes
learn from the 400 others and choose on those of them that they hold out. IoU and boundary F are
means over the notebook's 96 test scenes, which show other toys, with the interval of a bootstrap.
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.run_record import machine, versions
from dinov2_helpers import load_dinov2, measure, samples
from dinov2_helpers.techniques import Segmenter
from dinov2_helpers.writing import write_whole

FEW = (400, 50, 20, 10, 5)  # masks


class Scenes:
    """Scenes of a split by their numbers."""

    def __init__(self, split: str, rows: Sequence[int] | NDArray[np.int64]) -> None:
        scenes = samples.load_scenes(split)
        self.images = [scenes.images[i] for i in rows]
        self.masks = [scenes.class_mask(i) > 0 for i in rows]

    def some(
        self, rows: Sequence[int] | NDArray[np.int64]
    ) -> tuple[list[Path], list[NDArray[np.bool_]]]:
        """Return pictures and masks of some of them."""
        return [self.images[i] for i in rows], [self.masks[i] for i in rows]


def splits() -> tuple[Scenes, Scenes, Scenes]:
    """Return scenes to choose by, to learn from, and to judge on, drawn as the notebook does."""
    n_train, n_test = (len(samples.load_scenes(split)) for split in ("train", "test"))
    rng = np.random.default_rng(0)
    chosen = np.sort(rng.permutation(n_train)[:80])
    test = np.sort(rng.permutation(n_test)[:96])
    others = np.setdiff1d(np.arange(n_train), chosen)
    return Scenes("train", chosen), Scenes("train", others), Scenes("test", test)


def judged(segmenter: Segmenter, test: Scenes) -> NDArray[np.float64]:
    """Return IoU and boundary F of each test scene, (N, 2)."""
    found = segmenter.predict(test.images)
    pairs = zip(found.masks, test.masks, strict=True)
    return np.array([[measure.iou(*pair), measure.boundary_f(*pair)] for pair in pairs])


def row(name: str, segmenter: Segmenter, scores: NDArray[np.float64]) -> dict[str, Any]:
    """Return a line of the table, and print it."""
    area, edge = measure.bootstrap(scores[:, 0]), measure.bootstrap(scores[:, 1])
    kind = segmenter.kind_
    print(f"{name:<44} {area}  {edge}  {kind.facet} of layer {kind.layer}", flush=True)
    return {
        "name": name,
        "iou": list(area),
        "boundary_f": list(edge),
        "facet": kind.facet,
        "layer": kind.layer,
        "threshold": segmenter.threshold_,
        "tried": segmenter.tried_,
    }


def without_masks(make: Any, choose: Scenes, test: Scenes) -> Iterator[dict[str, Any]]:
    """Yield the rows of methods that learn from no mask."""
    for method in ("clusters", "pca", "cut", "border"):
        segmenter = make(method=method).fit(choose.images)
        yield row(f"{method}, no mask at all", segmenter, judged(segmenter, test))
        if method != "cut":
            segmenter.fit(choose.images, choose.masks)
            name = f"{method}, threshold by 80 masks"
            yield row(name, segmenter, judged(segmenter, test))
    for refine in ("guided", "none"):
        segmenter = make(refine=refine).fit(choose.images)
        yield row(f"clusters, refine={refine}", segmenter, judged(segmenter, test))


def by_masks(make: Any, learn: Scenes, test: Scenes) -> Iterator[dict[str, Any]]:
    """Yield the rows of probes on so many masks, the fewer among the more."""
    order = np.random.default_rng(0).permutation(len(learn.images))
    for n in FEW:
        segmenter = make().fit(*learn.some(order[:n]))
        yield row(f"probe, {n} masks", segmenter, judged(segmenter, test))


def write(path: Path, rows: Sequence[dict[str, Any]]) -> None:
    """Write the lines that are measured so far."""
    record = {
        "benchmark": "quality of segmentation on the test scenes",
        **machine(**versions("torch", "scikit-learn")),
        "rows": rows,
    }
    write_whole(path, (json.dumps(record, indent=1) + "\n").encode())


def main() -> None:
    """Print the table; write it where told."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path, help="file to write")
    parser.add_argument("--cache", default=os.environ.get("DINOV2_CACHE"), help="of features")
    parser.add_argument("--part", choices=("without", "masks", "both"), default="both")
    options = parser.parse_args()
    choose, learn, test = splits()
    dinov2 = load_dinov2("tiny")

    def make(**settings: Any) -> Segmenter:
        return Segmenter(dinov2, cache=options.cache, **settings)

    print(f"{'':<44} {'IoU':<24}{'boundary F':<24}", flush=True)
    rows: list[dict[str, Any]] = []
    parts = {
        "without": without_masks(make, choose, test),
        "masks": by_masks(make, learn, test),
    }
    wanted = parts.values() if options.part == "both" else [parts[options.part]]
    for line in chain.from_iterable(wanted):
        rows.append(line)
        if options.json:
            write(options.json, rows)


if __name__ == "__main__":
    main()

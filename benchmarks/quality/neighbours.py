"""How well neighbours name toys, patches find their partners, and a component finds the toys.

    python -m benchmarks.quality.neighbours --json benchmarks/results/quality_neighbours.json

Galleries are of `data/scenes/train`; the numbers are of `data/scenes/test` and of the turntables of
`data/views/test`, whose cameras and depth say where a place went.
"""

import argparse
import time
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import run_record
from dinov2_helpers import extract_features, load_dinov2, load_scenes, load_views
from dinov2_helpers.extraction import Features
from dinov2_helpers.measure import Interval, auroc, bootstrap, iou
from dinov2_helpers.samples import Scenes, project, unproject
from dinov2_helpers.techniques import KnnClassifier, correspondences, pca_rgb
from dinov2_helpers.techniques.matching import patch_centres

GROUP = 16  # pictures that share a basis of colours
STEP = 2  # views of 15 degrees between the two of a pair
TOLERANCE = 0.02  # of the depth, beyond which something stands in front
Rows = dict[str, dict[str, Any]]


def row(interval: Interval, **more: Any) -> dict[str, Any]:
    """Return a value with its interval as JSON."""
    return dict(zip(("value", "low", "high"), map(float, interval), strict=True)) | more


def votes(dinov2: Any) -> Rows:
    """Accuracy of the classes of unseen toys, by what stands for a picture."""
    train = load_scenes("train").select(n_objects=1)
    found = extract_features(dinov2, train)
    rows: Rows = {}
    for framing in ("portrait", "wide"):
        test = load_scenes("test", framing=framing).select(n_objects=1)
        asked = extract_features(dinov2, test)
        for pooling in ("cls", "mean", "both"):
            knn = KnnClassifier(dinov2, pooling=pooling).fit(found, train.labels("class"))
            score = knn.score(asked, test.labels("class"))
            rows[f"k-NN of the class: {pooling}, {framing}"] = row(score)
    return rows


def partners(dinov2: Any) -> Rows:
    """Share of matches on a toy that are within one patch of the truth, 30 degrees on."""
    views = load_views("test", kind="turntable")
    pairs = [(first, first + STEP) for first in range(0, len(views), 24)]
    hits: dict[bool, list[float]] = {True: [], False: []}
    counts: dict[bool, list[int]] = {True: [], False: []}
    for pair in pairs:
        a, b = (extract_features(dinov2, [views.images[i]]) for i in pair)
        for mutual in hits:
            found = correspondences(dinov2, a, b, mutual=mutual)
            right = judged(views, pair, (found.points_a, found.points_b), dinov2.patch_size)
            hits[mutual].append(float(right.mean()))
            counts[mutual].append(len(right))
    names = {True: "mutual", False: "one way"}
    return {
        f"matches at 30 degrees: {names[mutual]}": row(
            bootstrap(hits[mutual]), matches_a_pair=float(np.mean(counts[mutual]))
        )
        for mutual in hits
    }


def judged(
    views: Scenes, pair: tuple[int, int], matched: tuple[np.ndarray, np.ndarray], within: float
) -> np.ndarray:
    """Say which matches of visible places on the toy are within so many pixels of the truth."""
    first, second = pair
    places, found = matched
    cells = tuple(places[:, ::-1].astype(int).T)
    on_toy = views.instance_mask(first)[cells] > 0
    cameras = [views.table[i]["camera"] for i in pair]
    world = unproject(places, views.depth(first)[cells], cameras[0])
    true, distance = project(world, cameras[1])
    depth = views.depth(second)
    inside = ((true >= 0) & (true < depth.shape[::-1])).all(1)
    known = on_toy & inside & np.isfinite(distance)
    x, y = true[known].astype(int).T
    known[known] = np.abs(depth[y, x] - distance[known]) <= TOLERANCE * distance[known]
    error = np.linalg.norm(found[known] - true[known], axis=1)
    return error <= within


def foreground(dinov2: Any) -> Rows:
    """How well the first step of `pca_rgb` tells toys from what they stand on."""
    rows: Rows = {}
    test = load_scenes("test", framing="portrait").select(n_objects=1)
    features: Features = extract_features(dinov2, test)
    centres = patch_centres(dinov2, (224, 224)).astype(int)
    rows_of, columns_of = centres[..., 1], centres[..., 0]
    shown = [test.instance_mask(i)[rows_of, columns_of] > 0 for i in range(len(test))]
    toys = np.stack(shown)  # (N, h, w)
    assert isinstance(features.patches, np.ndarray)
    for name, component in (("first component", 0), ("chosen component", None)):
        overlaps, areas = [], []
        for start in range(0, len(test), GROUP):
            group = slice(start, start + GROUP)
            masks = np.stack(pca_rgb(features.patches[group], component=component).foreground)
            overlaps += [iou(*one) for one in zip(masks, toys[group], strict=True)]
            areas += [auroc(*one) for one in zip(masks, toys[group], strict=True)]
        rows[f"foreground, {name}"] = row(bootstrap(overlaps), auroc_of_mask=float(np.mean(areas)))
    return rows


def main() -> None:
    """Command line: see the module's text."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--json", type=Path, help="file to write the table to")
    arguments = parser.parse_args()
    started = time.perf_counter()
    dinov2 = load_dinov2("tiny")
    rows = votes(dinov2) | foreground(dinov2) | partners(dinov2)
    for name, values in rows.items():
        print(f"{name:>40}: " + ", ".join(f"{key} {value:.3f}" for key, value in values.items()))
    if arguments.json:
        record = run_record.quality("torch", "scikit-learn", models=["dinov2-tiny"])
        run_record.write({"run": record, "rows": rows}, started, arguments.json)


if __name__ == "__main__":
    main()

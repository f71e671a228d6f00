"""What the embedded DINOv2 knows about toys that it has never seen.

Galleries and probes are fitted on `data/scenes/train`, everything is scored on `data/scenes/test`;
no toy is in both, and none of them is among the toys that it was trained on. Beside it stand a
random initialisation of the same network, raw pixels and a colour histogram.
"""

import dataclasses
from collections.abc import Callable
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from skimage.transform import resize
from transformers import AutoModel

from dinov2_helpers import extract_features
from dinov2_helpers.measure import Interval, bootstrap, bootstrap_of
from dinov2_helpers.models import Dinov2
from dinov2_helpers.samples import Scenes, load_scenes, load_views
from training.dinov2 import probes
from training.intervals import flat, shares

Array = NDArray[np.float32]


def histogram(image: NDArray[np.uint8]) -> Array:
    """Return the square roots of an 8x8x8 colour histogram, ``(512,)``."""
    cells = (image // 32).reshape(-1, 3) @ np.array([64, 8, 1])
    return np.sqrt(np.bincount(cells, minlength=512) / len(cells)).astype(np.float32)


def thumbnail(image: NDArray[np.uint8]) -> Array:
    """Return the picture shrunk to 16x16 pixels, centred, ``(768,)``."""
    small = resize(image, (16, 16), anti_aliasing=True).astype(np.float32)
    return (small - small.mean()).ravel()


def patch_pixels(image: NDArray[np.uint8], grid: int = 16) -> Array:
    """Return 4x4 pixels of every patch and its position up to squares, ``(grid, grid, 52)``."""
    small = resize(image, (4 * grid, 4 * grid), anti_aliasing=True).astype(np.float32)
    pixels = small.reshape(grid, 4, grid, 4, 3).swapaxes(1, 2).reshape(grid, grid, -1)
    rows, columns = np.mgrid[0:grid, 0:grid] / grid - 0.5
    position = np.stack([rows, columns, rows**2, columns**2], -1)
    return np.concatenate([pixels, position], -1).astype(np.float32)


def random_initialisation(model: Dinov2) -> Dinov2:
    """Return a network of the same shape with the weights that training starts from."""
    torch.manual_seed(0)
    network = AutoModel.from_config(model.model.config).eval().to(model.device)
    return dataclasses.replace(model, model=network)


def by_picture(function: Callable[[NDArray[np.uint8]], Array]) -> Callable[[Scenes], Array]:
    """Turn a function of one picture into a function of a table of pictures."""
    return lambda scenes: np.stack(
        [function(np.asarray(scenes.image(i))) for i in range(len(scenes))]
    )


def classification(
    embed: Callable[[Scenes], Array], train: Scenes, test: Scenes
) -> dict[str, NDArray[np.bool_]]:
    """Say of pictures of one toy whether k-NN names class and surface.

    Returns:
        ``knn_class`` and ``knn_surface`` (portraits), ``knn_class_wide`` and ``knn_surface_wide``;
        of both framings, ``knn_class_usual_colour`` and ``knn_class_unusual_colour``.
    """
    gallery = train.select(n_objects=1)
    features = embed(gallery)
    hits, usual = {}, []
    for framing, suffix in (("portrait", ""), ("wide", "_wide")):
        queries = test.select(n_objects=1, framing=framing)
        query_features = embed(queries)
        for name in ("class", "surface"):
            hits[f"knn_{name}{suffix}"] = probes.knn_hits(
                features, gallery.labels(name), query_features, queries.labels(name)
            )
        usual += [row["objects"][0]["usual_colour"] for row in queries.table]
    named, known = np.concatenate([hits["knn_class"], hits["knn_class_wide"]]), np.array(usual)
    hits["knn_class_usual_colour"] = named[known]
    hits["knn_class_unusual_colour"] = named[~known]
    return hits


def instances(embed: Callable[[Scenes], Array], views: list[Scenes]) -> Interval:
    """Share of turntable views whose nearest neighbour shows the same toy from elsewhere.

    Views of the same toy less than 45 degrees apart are not accepted as neighbours. Another toy
    stands on the same surface, so the background alone does not tell them apart. What was drawn are
    the toys, so the interval is that of new draws of toys.
    """
    turntables = [split.select(kind="turntable") for split in views]
    x = np.concatenate([embed(split) for split in turntables])
    toys = np.concatenate([split.labels("toy_id") for split in turntables])
    azimuth = np.concatenate([split.labels("azimuth") for split in turntables])
    x = x / np.linalg.norm(x, axis=1, keepdims=True)
    apart = np.abs((azimuth[:, None] - azimuth + 180) % 360 - 180)
    close = (toys[:, None] == toys) & (apart < 45)
    nearest = np.where(close, -np.inf, x @ x.T).argmax(1)
    return bootstrap(toys[nearest] == toys, clusters=toys)


def dense(patches: Callable[[Scenes], Array], train: Scenes, test: Scenes) -> dict[str, Interval]:
    """Scores of the linear probes of patches, with the intervals of new draws of test pictures."""
    x, y = patches(train), patches(test)
    masks = [np.stack([s.class_mask(i) for i in range(len(s))]) for s in (train, test)]
    depths = [np.stack([s.depth(i) for i in range(len(s))]) for s in (train, test)]
    segmentation = probes.segmentation_probe(x, masks[0], y, masks[1])
    depth = probes.depth_probe(x, depths[0], y, depths[1])
    scores = {
        "miou16": segmentation.miou,
        "foreground_iou": segmentation.foreground_iou,
        "depth_delta1": depth.delta1,
        "depth_absrel": depth.abs_rel,
    }
    return {name: bootstrap_of(score, len(test)) for name, score in scores.items()}


def evaluate(model: Dinov2) -> dict[str, float]:
    """Return every number of the model card, flat, each with its interval.

    Baselines carry their name as a suffix.
    """
    train, test = load_scenes("train"), load_scenes("test")
    views = [load_views("train"), load_views("test")]
    untrained = random_initialisation(model)

    def embedding(network: Dinov2, kind: Literal["cls", "mean"]) -> Callable[[Scenes], Array]:
        return lambda scenes: extract_features(network, scenes, progress=False).pooled(kind)

    embeddings = {
        "": embedding(model, "cls"),
        "_mean_patch": embedding(model, "mean"),
        "_random": embedding(untrained, "cls"),
        "_pixels": by_picture(thumbnail),
        "_histogram": by_picture(histogram),
    }
    results: dict[str, float] = {}
    for suffix, embed in embeddings.items():
        hits = classification(embed, train, test)
        results |= shares({f"{name}{suffix}": found for name, found in hits.items()})
        results |= flat(f"knn_instance{suffix}", instances(embed, views))
    grids: dict[str, Callable[[Scenes], Array]] = {
        "": lambda scenes: np.asarray(extract_features(model, scenes, progress=False).patches),
        "_random": lambda s: np.asarray(extract_features(untrained, s, progress=False).patches),
        "_pixels": by_picture(patch_pixels),
    }
    for suffix, patches in grids.items():
        for name, score in dense(patches, train, test).items():
            results |= flat(f"{name}{suffix}", score)
    return results

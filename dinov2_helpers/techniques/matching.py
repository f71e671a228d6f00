"""Which place in one picture shows what a place in another shows: mutual nearest patches."""

import os
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..extraction import Features
from ..models import Model
from ..pictures import Fit, geometry
from .inputs import features_of
from .vectors import unit

HALF = 0.5  # of a patch that must show the picture and not padding
BLOCK = 2**24  # similarities that are held at once


@dataclass(frozen=True, eq=False)
class Matches:
    """M pairs of places, the most alike first.

    Pixel coordinates are (x, y) of each picture as it was given, upright, with the centre of the
    top left pixel at (0.5, 0.5).
    """

    points_a: NDArray[np.float32]  # (M, 2), centres of patches in pixels of the first picture
    points_b: NDArray[np.float32]  # (M, 2), the same in the second
    scores: NDArray[np.float32]  # (M,), cosine of the two patches, -1 to 1
    cells_a: NDArray[np.int64]  # (M, 2), row and column in the first picture's grid of patches
    cells_b: NDArray[np.int64]  # (M, 2), the same in the second

    def __len__(self) -> int:
        return len(self.scores)


def correspondences(
    dinov2: Model,
    a: Any,
    b: Any,
    *,
    mutual: bool = True,
    layer: int = -1,
    size: int | None = None,
    fit: Fit = "crop",
    cache: str | os.PathLike[str] | None = None,
) -> Matches:
    """Match the patches of two pictures by cosine.

    Args:
        dinov2: The model.
        a: One picture, or its `Features`.
        b: Another one, or its `Features`.
        mutual: Whether only pairs are given of which each is the other's nearest. False: the
            nearest in the second picture for every patch of the first.
        layer: Block whose patches are compared, as for `extract_features`.
        size: As there; more pixels give more, smaller patches.
        fit: As there.
        cache: As there.

    Raises:
        FileNotFoundError, TypeError: As `extract_features`.
        ValueError: As there; or not exactly one picture on a side.

    Source: Amir et al. 2022, "Deep ViT Features as Dense Visual Descriptors", section 4.3, where
    mutual nearest neighbours are called best buddies.

    Example:
        >>> from dinov2_helpers import load_dinov2, photographs
        >>> cat = photographs()["cat"]
        >>> matches = correspondences(load_dinov2("tiny"), cat, cat)
        >>> bool((matches.points_a == matches.points_b).all())
        True
    """
    # the last block's patches are the output itself, which features always have
    is_last = layer in (-1, dinov2.n_layers - 1)
    layers = () if is_last else (layer,)
    found = [features_of(dinov2, x, size=size, fit=fit, layers=layers, cache=cache) for x in (a, b)]
    sides = [_Side(dinov2, features, None if is_last else layer) for features in found]
    patches_a, patches_b = (side.patches for side in sides)  # (P, D), (Q, D), unit length
    nearest_b, scores = _nearest(patches_a, patches_b)  # (P,)
    rows = np.arange(len(patches_a))
    if mutual:
        nearest_a, _ = _nearest(patches_b, patches_a)  # (Q,)
        rows = rows[nearest_a[nearest_b] == rows]
    rows = rows[np.argsort(-scores[rows], kind="stable")]
    partners = nearest_b[rows]
    return Matches(
        points_a=sides[0].points[rows],
        points_b=sides[1].points[partners],
        scores=scores[rows],
        cells_a=sides[0].cells[rows],
        cells_b=sides[1].cells[partners],
    )


class _Side:
    """One of the two pictures: the patches that show it, and where they are."""

    def __init__(self, dinov2: Model, features: Features, layer: int | None) -> None:
        if len(features) != 1:
            raise ValueError(f"{len(features)} pictures on one side: give one, or its features")
        height, width = features.sizes[0].tolist()
        points = patch_centres(dinov2, (width, height), features.origin.size, features.origin.fit)
        inside = ((points >= 0) & (points <= (width, height))).all(-1)  # (h, w)
        shown = inside & (features.coverage[0] >= HALF)  # (h, w)
        self.points = points[shown]  # (P, 2)
        self.cells = np.argwhere(shown)  # (P, 2)
        maps = features.patches if layer is None else features.layers[layer].patches
        assert maps is not None  # they were asked for
        self.patches = unit(maps[0][shown])  # (P, D)


def patch_centres(
    dinov2: Model, picture_size: tuple[int, int], size: int | None = None, fit: Fit = "crop"
) -> NDArray[np.float32]:
    """Return where the centres of patches lie in a picture as it was given, (h, w, 2) of (x, y).

    Args:
        dinov2: The model.
        picture_size: Width and height in pixels.
        size: As for `extract_features`.
        fit: As there. With "crop" a patch may lie beyond a picture that is narrower than the crop,
            with "pad" in the padding.

    Returns:
        Float32 pixels, the centre of the top left pixel at (0.5, 0.5).

    Example:
        >>> from dinov2_helpers import load_dinov2
        >>> patch_centres(load_dinov2("tiny"), (448, 224), fit="resize").shape
        (16, 32, 2)
    """
    patch = dinov2.patch_size
    scaled, fitted = geometry(picture_size, dinov2, size, fit)
    # the middle of what the processor crops, before it is cut to whole patches
    window = fitted
    if fit == "crop" and size is None:
        crop = dinov2.preprocessing.crop
        window = (crop[1], crop[0]) if crop else scaled
    places = []
    for whole, shown, kept, own in zip(scaled, window, fitted, picture_size, strict=True):
        start = (whole - shown) // 2 if fit == "crop" else 0
        centres = (np.arange(kept // patch) + 0.5) * patch  # in pixels of what the model gets
        places.append((start + centres) * own / whole)
    x, y = places
    return np.stack(np.meshgrid(x, y), axis=-1).astype(np.float32)


def _nearest(
    x: NDArray[np.float32], y: NDArray[np.float32]
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Return the row of y (Q, D) with the largest dot product with each of x (P, D), and it."""
    step = max(1, BLOCK // len(y))
    rows = np.empty(len(x), np.int64)
    scores = np.empty(len(x), np.float32)
    for start in range(0, len(x), step):
        dots = x[start : start + step] @ y.T  # (step, Q)
        rows[start : start + step] = dots.argmax(1)
        scores[start : start + step] = dots.max(1)
    return rows, scores

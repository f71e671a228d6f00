"""Patches as colours: what is foreground first, then a PCA of that alone."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..extraction import Features, Maps

log = logging.getLogger("dinov2_helpers")
CANDIDATES = 3  # components among which the foreground's is looked for
BINS = 256  # of scikit-image's histogram
FEWEST = 4  # patches of which colours can be made


@dataclass(frozen=True, eq=False)
class PatchColours:
    """The patches of N pictures as colours of one basis: equal colours, alike features."""

    colours: tuple[NDArray[np.float32], ...]  # N times (h, w, 3) in 0-1; the background is white
    foreground: tuple[NDArray[np.bool_], ...]  # N times (h, w)
    component: int | None  # which told the foreground, 0 is the first; None: none was taken off


def pca_rgb(
    patches: Features | Maps | Sequence[NDArray[Any]],
    *,
    foreground: bool = True,
    component: int | None = None,
) -> PatchColours:
    """Colour patches in two steps, as DINOv2's figures are made.

    One principal component of all patches of all pictures splits foreground from background, at
    Otsu's threshold. Its sign is free; what touches the frame of the pictures less is called the
    foreground. The first three components of the foreground's patches become red, green and blue,
    each from its 1st to its 99th percentile over all pictures, its largest weight positive.

    Args:
        patches: `Features`; or patches (N, h, w, D), or N arrays (h, w, D) whose grids may differ.
        foreground: False: one PCA of all patches, and nothing is taken off.
        component: Which splits, 0 for the first. DINOv2's figures take the first; where the ground
            varies more than what stands on it, another does better. None: of the first three,
            that in which the frame of the pictures differs most from their middle.

    Raises:
        ValueError: No patches, fewer than four, widths that differ, or no such component.

    Source: Oquab et al. 2024, "DINOv2: Learning Robust Visual Features without Supervision",
    section 7.6; the sign after the background prior of Wei et al. 2012.

    Example:
        >>> from dinov2_helpers import extract_features, load_dinov2, photographs
        >>> found = extract_features(load_dinov2("tiny"), photographs())
        >>> pca_rgb(found).colours[0].shape
        (16, 16, 3)
    """
    # draws, so it loads matplotlib, which whoever searches pictures does not need
    from ..plotting import pca_rgb as colour

    maps = _maps_of(patches)
    if not foreground:
        everything = tuple(np.ones(one.shape[:2], bool) for one in maps)
        return PatchColours(tuple(colour(maps)), everything, None)
    if component is not None and not 0 <= component < maps[0].shape[-1]:
        raise ValueError(f"component={component}: there are 0 to {maps[0].shape[-1] - 1}")
    chosen, scores = _split_scores(maps, component)  # (all patches,)
    masks = _split(scores > _otsu(scores), maps)
    if sum(int(mask.sum()) for mask in masks) < FEWEST:
        log.warning("pca_rgb found no foreground: all patches are coloured")
        masks = [np.ones(mask.shape, bool) for mask in masks]
    return PatchColours(tuple(colour(maps, mask=masks)), tuple(masks), chosen)


def _maps_of(patches: Any) -> list[NDArray[Any]]:
    if isinstance(patches, Features):
        if patches.patches is None:
            raise ValueError("the features lack patches: extract with patches=True")
        patches = patches.patches
    maps = [np.asarray(one) for one in patches]
    if any(one.ndim != 3 for one in maps):
        raise ValueError("patches: (N, h, w, D), or a list of (h, w, D), is needed")
    if sum(one[..., 0].size for one in maps) < FEWEST or len({one.shape[-1] for one in maps}) > 1:
        shapes = [one.shape for one in maps]
        raise ValueError(f"patches of shapes {shapes}: four or more of one width are needed")
    return maps


def _split_scores(
    maps: list[NDArray[Any]], component: int | None
) -> tuple[int, NDArray[np.float64]]:
    """Return a component and the patches' scores in it, larger inside than at the frame."""
    from sklearn.decomposition import PCA

    rows = np.concatenate([one.reshape(-1, one.shape[-1]) for one in maps]).astype(np.float64)
    n = min(CANDIDATES if component is None else component + 1, *rows.shape)
    with np.errstate(invalid="ignore"):  # where nothing varies, shares of the variance are 0 / 0
        scores = PCA(n, svd_solver="covariance_eigh").fit_transform(rows)  # (all patches, n)
    frame = np.concatenate([_frame(one.shape[:2]).ravel() for one in maps])  # (all patches,)
    if frame.all():  # grids of two patches or less have no middle
        difference = np.sign(scores.mean(0) - np.median(scores, axis=0))
    else:
        difference = scores[~frame].mean(0) - scores[frame].mean(0)
    spread = np.maximum(scores.std(0), np.finfo(np.float32).tiny)
    chosen = int(np.abs(difference / spread).argmax()) if component is None else component
    sign = -1 if difference[chosen] < 0 else 1
    return chosen, sign * scores[:, chosen]


def _frame(grid: tuple[int, int]) -> NDArray[np.bool_]:
    frame = np.ones(grid, bool)
    frame[1:-1, 1:-1] = False
    return frame


def _otsu(scores: NDArray[np.float64]) -> float:
    from skimage.filters import threshold_otsu

    # the middle of a bin of a histogram, which may hold the last scores below the gap
    end_of_bin = float(threshold_otsu(scores)) + np.ptp(scores) / (2 * BINS)
    above = scores > end_of_bin
    if above.all() or not above.any():
        return end_of_bin
    return float(scores[~above].max() + scores[above].min()) / 2


def _split(values: NDArray[np.bool_], maps: list[NDArray[Any]]) -> list[NDArray[np.bool_]]:
    ends = np.cumsum([one[..., 0].size for one in maps])[:-1]
    parts = np.split(values, ends)
    return [part.reshape(one.shape[:2]) for part, one in zip(parts, maps, strict=True)]

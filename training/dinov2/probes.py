"""What features are worth, measured: k-NN on pictures, linear probes on patches.

Patches come as ``(n, h, w, dim)``, ground truth as pixel maps; a probe sees one label per patch
when it is fitted and is scored on every pixel, after its output has been enlarged bilinearly.
"""

import warnings
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression, RidgeCV
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

Array = NDArray[np.float32]
Labels = NDArray[np.int64]

#: Neighbours that vote; DINO uses 20 with a thousand pictures a class, the samples have 24.
NEIGHBOURS = 10


def knn_hits(gallery: Array, labels: NDArray, queries: Array, truth: NDArray) -> NDArray[np.bool_]:
    """Say which queries the weighted k-NN classifier of Wu et al. 2018 names rightly, ``(m,)``.

    DINO reports its top-1 accuracy.

    Args:
        gallery: Features ``(n, dim)`` of labelled pictures.
        labels: Their labels ``(n,)``.
        queries: Features ``(m, dim)``.
        truth: Their true labels ``(m,)``.
    """
    knn = KNeighborsClassifier(
        NEIGHBOURS, metric="cosine", weights=lambda distance: np.exp((1 - distance) / 0.07)
    )
    found: NDArray[np.bool_] = knn.fit(gallery, labels).predict(queries) == truth
    return found


def knn_accuracy(gallery: Array, labels: NDArray, queries: Array, truth: NDArray) -> float:
    """Return the share of `knn_hits`."""
    return float(knn_hits(gallery, labels, queries, truth).mean())


def patch_labels(masks: NDArray[np.uint8], grid: tuple[int, int]) -> Labels:
    """Return the most frequent pixel label of every patch, ``(n, h, w)``.

    Args:
        masks: ``(n, H, W)``, sides multiples of the grid's.
        grid: Patches along height and width.
    """
    blocks = _blocks(masks, grid)
    counts = np.stack([(blocks == k).sum(-1) for k in range(int(masks.max()) + 1)], -1)
    return counts.argmax(-1)


def patch_depths(depths: Array, grid: tuple[int, int]) -> Array:
    """Return the median depth of every patch, ``(n, h, w)`` metres; NaN where most pixels are."""
    blocks = _blocks(depths, grid)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # A patch of sky alone has no median.
        medians = np.nanmedian(blocks, -1)
    return np.where(np.isnan(blocks).mean(-1) > 0.5, np.nan, medians).astype(np.float32)


def _blocks(maps: NDArray, grid: tuple[int, int]) -> NDArray:
    """Cut pixel maps ``(n, H, W)`` into ``(n, h, w, pixels of a patch)``."""
    n, height, width = maps.shape
    h, w = grid
    tiles = maps.reshape(n, h, height // h, w, width // w).swapaxes(2, 3)
    return tiles.reshape(n, h, w, -1)


def enlarge(maps: Array, shape: tuple[int, int]) -> Array:
    """Enlarge maps ``(n, h, w, channels)`` bilinearly to ``(n, *shape, channels)``."""
    channels_first = torch.from_numpy(maps).permute(0, 3, 1, 2)
    large = F.interpolate(channels_first, shape, mode="bilinear", align_corners=False)
    return large.permute(0, 2, 3, 1).numpy()


Rows = NDArray[np.int64]  # numbers of pictures, of which some may be drawn twice
Pixels = NDArray[np.int64]


@dataclass(frozen=True)
class Segmentation:
    """What a patch probe found on held-out pictures, in pixels of each of them.

    Scores are counted over all pixels of the pictures that are asked for.

    Attributes:
        hits: Of each class but background, pixels in the intersection, ``(n, classes)``.
        unions: The same of the union.
        toy_hits: Of toy against everything else, pixels in the intersection, ``(n,)``.
        toy_unions: The same of the union.
    """

    hits: Pixels
    unions: Pixels
    toy_hits: Pixels
    toy_unions: Pixels

    def miou(self, rows: Rows) -> float:
        """Return the mean over the classes that there are of intersection over union."""
        hits, unions = self.hits[rows].sum(0), self.unions[rows].sum(0)
        present = unions > 0
        return float((hits[present] / unions[present]).mean())

    def foreground_iou(self, rows: Rows) -> float:
        """Return the intersection over union of toy against everything else."""
        return float(self.toy_hits[rows].sum() / self.toy_unions[rows].sum())


def segmentation_probe(
    train: Array,
    train_masks: NDArray[np.uint8],
    test: Array,
    test_masks: NDArray[np.uint8],
    seed: int = 0,
) -> Segmentation:
    """Fit logistic regressions on patches and compare them pixel by pixel with masks.

    The multi-class probe sees every toy patch and as many background patches, drawn at random: its
    classes are weighted by this choice. The binary probe sees patches as often as they occur.

    Args:
        train: Patches ``(n, h, w, dim)``.
        train_masks: Class masks ``(n, H, W)``, 0 for background.
        test: Patches of held-out pictures.
        test_masks: Their class masks.
        seed: Seed of the draw.
    """
    rng = np.random.default_rng(seed)
    labels = patch_labels(train_masks, train.shape[1:3]).ravel()
    x = train.reshape(len(labels), -1)
    toys, background = np.flatnonzero(labels > 0), np.flatnonzero(labels == 0)
    balanced = np.r_[toys, rng.choice(background, min(len(toys), len(background)), replace=False)]
    natural = rng.choice(len(labels), min(40_000, len(labels)), replace=False)

    multi = _fit_logistic(x[balanced], labels[balanced])
    classes = multi[-1].classes_
    binary = _fit_logistic(x[natural], (labels > 0)[natural])
    n_classes = int(test_masks.max())
    hits = np.zeros((len(test), n_classes), np.int64)
    unions, toy_hits, toy_unions = (
        np.zeros(shape, np.int64) for shape in (hits.shape, len(test), len(test))
    )
    for row, (patches, mask) in enumerate(zip(test, test_masks, strict=True)):
        flat = patches.reshape(-1, patches.shape[-1])
        grid = patches.shape[:2]
        scores = multi.predict_proba(flat).reshape(1, *grid, -1).astype(np.float32)
        predicted = classes[enlarge(scores, mask.shape)[0].argmax(-1)]
        for k in range(1, n_classes + 1):
            hits[row, k - 1] = ((predicted == k) & (mask == k)).sum()
            unions[row, k - 1] = ((predicted == k) | (mask == k)).sum()
        toy = binary.predict_proba(flat)[:, 1:].reshape(1, *grid, 1).astype(np.float32)
        found = enlarge(toy, mask.shape)[0, ..., 0] > 0.5
        toy_hits[row] = (found & (mask > 0)).sum()
        toy_unions[row] = (found | (mask > 0)).sum()
    return Segmentation(hits, unions, toy_hits, toy_unions)


def _fit_logistic(x: Array, y: NDArray) -> Pipeline:
    model = make_pipeline(StandardScaler(), LogisticRegression(C=0.1, max_iter=300))
    with warnings.catch_warnings():
        # A probe on useless features need not converge for its score to be low.
        warnings.simplefilter("ignore", ConvergenceWarning)
        return model.fit(x, y)


@dataclass(frozen=True)
class Depth:
    """Errors of a depth probe on held-out pictures, summed over the pixels of each of them.

    Attributes:
        pixels: Pixels with depth, ``(n,)``.
        within: Those whose predicted and true depth differ by less than a factor of 1.25.
        errors: Sum of ``|predicted - true| / true``.
    """

    pixels: Pixels
    within: Pixels
    errors: NDArray[np.float64]

    def delta1(self, rows: Rows) -> float:
        """Return the share of pixels within a factor of 1.25, of all pixels of these pictures."""
        return float(self.within[rows].sum() / self.pixels[rows].sum())

    def abs_rel(self, rows: Rows) -> float:
        """Return the mean error of all pixels of these pictures."""
        return float(self.errors[rows].sum() / self.pixels[rows].sum())


def depth_probe(train: Array, train_depths: Array, test: Array, test_depths: Array) -> Depth:
    """Fit ridge regression of log depth on patches and score it pixel by pixel.

    Measures as in Eigen et al. 2014, section 4.2.

    Args:
        train: Patches ``(n, h, w, dim)``.
        train_depths: Depth maps ``(n, H, W)`` in metres, NaN where there is none.
        test: Patches of held-out pictures.
        test_depths: Their depth maps.
    """
    y = np.log(patch_depths(train_depths, train.shape[1:3])).ravel()
    x, known = train.reshape(len(y), -1), np.isfinite(y)
    model = make_pipeline(StandardScaler(), RidgeCV(np.logspace(-1, 4, 6)))
    model.fit(x[known], y[known])
    pixels, within, errors = [], [], []
    for patches, truth in zip(test, test_depths, strict=True):
        logs = model.predict(patches.reshape(-1, patches.shape[-1])).reshape(*patches.shape[:2], 1)
        depth = np.exp(enlarge(logs[None].astype(np.float32), truth.shape)[0, ..., 0])
        seen = np.isfinite(truth)
        ratio = depth[seen] / truth[seen]
        pixels.append(seen.sum())
        within.append((np.maximum(ratio, 1 / ratio) < 1.25).sum())
        errors.append(np.abs(ratio - 1).sum(dtype=np.float64))
    return Depth(np.array(pixels), np.array(within), np.array(errors))

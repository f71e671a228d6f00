"""Scores of seven techniques, and how sure a score is that was measured on some hundred pictures.

One way to each number, for lessons, evidence and library: thin over scikit-learn, scipy and
scikit-image where they have it.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]
DRAWS = 2000  # of a bootstrap: the 50 outermost ones lie on each side of 95 %
EIGHT_CONNECTED = np.ones((3, 3), bool)


class Interval(NamedTuple):
    """A measured value, and the ends of its 95 % interval.

    Example:
        >>> print(wilson(93, 100))
        0.930 (0.863 to 0.966)
        >>> f"{wilson(93, 100):.1%}"
        '93.0% (86.3% to 96.6%)'
    """

    value: float
    low: float
    high: float

    def __format__(self, spec: str) -> str:
        value, low, high = (format(number, spec or ".3f") for number in self)
        return f"{value} ({low} to {high})"

    def __str__(self) -> str:
        return format(self, ".3f")


def wilson(hits: int, n: int) -> Interval:
    """Return a share of n independent trials with its 95 % interval (Wilson 1927).

    Args:
        hits: Number of successes, 0 to n.
        n: Number of trials, 1 or more.

    Raises:
        ValueError: There was no trial, or there are more hits than trials.

    Example:
        >>> wilson(0, 10).high > 0.25
        True
    """
    from scipy.stats import binomtest

    if n < 1 or not 0 <= hits <= n:
        raise ValueError(f"{hits} hits in {n} trials is no share")
    low, high = binomtest(int(hits), int(n)).proportion_ci(method="wilson")
    return Interval(hits / n, float(low), float(high))


def share(hits: ArrayLike) -> Interval:
    """Return the share of hits, booleans (N,), with its Wilson interval."""
    found = np.asarray(hits, bool)
    return wilson(int(found.sum()), found.size)


class Disagreement(NamedTuple):
    """How two methods differ on the same things: on how many only one of them is right."""

    only_first: int
    only_second: int
    p: float  # of such a difference or a larger one if a coin said who is right; 0 to 1


def mcnemar(first: ArrayLike, second: ArrayLike) -> Disagreement:
    """Compare two methods by the things on which they disagree (McNemar 1947), exactly.

    Args:
        first: (N,) booleans, whether the first method is right.
        second: The same things by the second.

    Raises:
        ValueError: Not the same number of things.

    Example:
        >>> mcnemar([1, 1, 1, 1, 1, 1], [0, 0, 0, 0, 0, 0]).p
        0.03125
    """
    from scipy.stats import binomtest

    ours, theirs = np.asarray(first, bool), np.asarray(second, bool)
    if ours.ndim != 1 or ours.shape != theirs.shape:
        raise ValueError(f"{ours.shape} and {theirs.shape}: give one answer each for N things")
    only_first, only_second = int((ours & ~theirs).sum()), int((theirs & ~ours).sum())
    n = only_first + only_second
    p = float(binomtest(only_first, n).pvalue) if n else 1.0
    return Disagreement(only_first, only_second, p)


def bootstrap(
    values: ArrayLike,
    *,
    clusters: ArrayLike | None = None,
    draws: int = DRAWS,
    seed: int = 0,
    confidence: float = 0.95,
) -> Interval:
    """Return the mean of values with its percentile interval over new draws (Efron 1979).

    For a difference between two methods on the same pictures give the differences of each picture:
    that is the paired bootstrap.

    Args:
        values: (N,), one of each thing that was sampled.
        clusters: (N,) labels of what was sampled as one, such as the scene that a question comes
            from or the toy that a view shows: clusters are drawn, with all their values. None:
            each value by itself.
        draws: Number of new draws with replacement.
        seed: Of the draws.
        confidence: Share of the draws between low and high, 0 to 1.

    Raises:
        ValueError: No value, values that are not finite, or not one label for each value.

    Example:
        >>> bootstrap([0.0, 1.0, 1.0, 1.0]).value
        0.75
    """
    numbers = np.asarray(values, np.float64)  # (N,)
    if numbers.ndim != 1 or not len(numbers):
        raise ValueError(f"values of shape {numbers.shape}: one value or more in one row is needed")
    if not np.isfinite(numbers).all():
        raise ValueError(f"{(~np.isfinite(numbers)).sum()} of {len(numbers)} values are not finite")
    labels = np.arange(len(numbers)) if clusters is None else np.asarray(clusters)
    if labels.shape != numbers.shape:
        raise ValueError(f"{labels.shape} labels of clusters for {numbers.shape} values")
    _, member = np.unique(labels, return_inverse=True)  # (N,) cluster of each value
    totals = np.bincount(member, numbers)  # (C,)
    sizes = np.bincount(member)  # (C,)
    random = np.random.default_rng(seed)
    picks = random.integers(len(totals), size=(draws, len(totals)))  # (draws, C)
    means = totals[picks].sum(1) / sizes[picks].sum(1)  # (draws,)
    tail = (1 - confidence) / 2
    low, high = np.quantile(means, [tail, 1 - tail])
    return Interval(float(numbers.mean()), float(low), float(high))


def bootstrap_of(
    score: Callable[[NDArray[np.int64]], float], n: int, *, draws: int = DRAWS, seed: int = 0
) -> Interval:
    """Return a score that is no mean, such as an AUROC, with its 95 % interval over new draws.

    Args:
        score: Of the rows (n,) that are drawn, of 0 to n - 1; draws for which it is NaN, since one
            side of a comparison is missing in them, are left out.
        n: Number of things that were sampled.
        draws: Number of new draws with replacement.
        seed: Of the draws.
    """
    random = np.random.default_rng(seed)
    found = [score(random.integers(n, size=n)) for _ in range(draws)]
    low, high = np.nanquantile(found, [0.025, 0.975])
    return Interval(float(score(np.arange(n))), float(low), float(high))


# Ranking of things by a score


def auroc(scores: ArrayLike, positive: ArrayLike) -> float:
    """Return the chance that a positive has a higher score than a negative, 0.5 by guessing.

    Args:
        scores: (N,) or of any shape; larger is more likely positive.
        positive: Booleans of the same shape.

    Raises:
        ValueError: Only positives or only negatives.
    """
    from sklearn.metrics import roc_auc_score

    truth = np.asarray(positive, bool).ravel()
    if truth.all() or not truth.any():
        raise ValueError("an AUROC needs positives and negatives; here there are only one kind")
    return float(roc_auc_score(truth, np.asarray(scores).ravel()))


def in_order(similarity: ArrayLike, relevant: ArrayLike) -> Bools:
    """Return which pictures are relevant in the order of falling similarity, (Q, N) bool.

    Args:
        similarity: (Q, N) of each query to each picture; equal ones keep the pictures' order.
        relevant: (Q, N) booleans, at least one in each row.

    Raises:
        ValueError: A query to which nothing is relevant.
    """
    truth = np.asarray(relevant, bool)
    without = np.flatnonzero(~truth.any(1))
    if len(without):
        raise ValueError(f"nothing is relevant to query {without[0]} ({len(without)} such queries)")
    order = np.argsort(-np.asarray(similarity), axis=1, kind="stable")  # (Q, N)
    return np.take_along_axis(truth, order, axis=1)


def hit_at(ordered: Bools, k: int) -> Floats:
    """Return 1 for each query with a relevant picture among the first k, else 0: (Q,).

    Papers on retrieval by captions, where one picture is right, call its mean recall@k.
    """
    found: Floats = np.any(ordered[:, :k], axis=1).astype(np.float64)
    return found


def recall_at(ordered: Bools, k: int) -> Floats:
    """Return the share of all relevant pictures that is among the first k: (Q,)."""
    found: Floats = ordered[:, :k].sum(1) / ordered.sum(1)
    return found


def average_precision(ordered: Bools) -> Floats:
    """Return the mean, over the relevant pictures, of the precision at their places: (Q,)."""
    places = np.arange(1, ordered.shape[1] + 1)
    precision = np.cumsum(ordered, axis=1) / places  # (Q, N)
    found: Floats = (precision * ordered).sum(1) / ordered.sum(1)
    return found


def overlap_at(found: ArrayLike, exact: ArrayLike) -> Floats:
    """Return the share of the exact neighbours that an index found, (Q,): recall@k of an index.

    Args:
        found: (Q, k) ids that the index gave; -1 is nothing.
        exact: (Q, k) ids of the true neighbours.
    """
    pairs = zip(np.asarray(found), np.asarray(exact), strict=True)
    return np.array([len(np.intersect1d(ours, true)) / len(true) for ours, true in pairs])


# Masks


def iou(mask: ArrayLike, truth: ArrayLike) -> float:
    """Return the intersection over the union of two masks, 0 to 1; 1 if both are empty.

    Raises:
        ValueError: Masks of different shapes.
    """
    ours, theirs = _two_masks(mask, truth)
    union = (ours | theirs).sum()
    return float((ours & theirs).sum() / union) if union else 1.0


def boundary_f(mask: ArrayLike, truth: ArrayLike, tolerance: int = 2) -> float:
    """Return the F-score of boundary pixels with a partner in reach, 0 to 1 (Csurka et al. 2013).

    Args:
        mask: (H, W) booleans; the frame of the picture is no boundary.
        truth: The same.
        tolerance: Radius of reach, in pixels.

    Returns:
        1 if neither mask has a boundary, 0 if only one has.

    Raises:
        ValueError: Masks of different shapes.
    """
    ours, theirs = (_boundary(one) for one in _two_masks(mask, truth))
    if not ours.any() or not theirs.any():
        return float(ours.any() == theirs.any())
    precision = _reach(theirs, tolerance)[ours].mean()
    recall = _reach(ours, tolerance)[theirs].mean()
    if precision + recall == 0:
        return 0.0
    return float(2 * precision * recall / (precision + recall))


def _two_masks(mask: ArrayLike, truth: ArrayLike) -> tuple[Bools, Bools]:
    ours, theirs = np.asarray(mask, bool), np.asarray(truth, bool)
    if ours.shape != theirs.shape:
        raise ValueError(f"a mask of {ours.shape} pixels and a truth of {theirs.shape}")
    return ours, theirs


def _reach(mask: Bools, radius: int) -> Bools:
    from scipy.ndimage import binary_dilation
    from skimage.morphology import disk

    found: Bools = binary_dilation(mask, disk(radius))
    return found


def _boundary(mask: Bools) -> Bools:
    return mask & _reach(~mask, 1)


# Maps of anomalies


def pixel_auroc(maps: Sequence[Any], masks: Sequence[Any]) -> float:
    """Return the AUROC of all pixels of all pictures.

    Args:
        maps: N maps, each (H, W); larger is more anomalous. Sizes may differ.
        masks: N boolean masks of the same sizes, True on flaws.

    Raises:
        ValueError: No flawed or no good pixel.
    """
    scores = np.concatenate([np.asarray(one).ravel() for one in maps])
    flawed = np.concatenate([np.asarray(one, bool).ravel() for one in masks])
    return auroc(scores, flawed)


def aupro(maps: Sequence[Any], masks: Sequence[Any], limit: float = 0.3) -> float:
    """Return the area under the per-region overlap curve, 0 to 1 (Bergmann et al. 2020, 5.2).

    Each connected flaw counts alike: the mean share of each that is found, as a function of the
    share of good pixels called bad, integrated up to `limit` of those and divided by it. The
    integral is exact; pixels of equal scores are taken in bit by bit.

    Args:
        maps: N maps, each (H, W); larger is more anomalous. Sizes may differ.
        masks: N boolean masks of the same sizes, True on flaws. Neighbours by a corner are
            connected.
        limit: Largest false positive rate, above 0 and up to 1.

    Raises:
        ValueError: No flawed or no good pixel.
    """
    scores, regions = _regions(maps, masks)  # (P,) each; region 0 is good
    flawed = regions > 0
    if flawed.all() or not flawed.any():
        raise ValueError("AUPRO needs flawed and good pixels; here there are only one kind")
    good = np.sort(-scores[~flawed])
    flaw = -scores[flawed]
    # false positive rates between which a flawed pixel is found; they differ where scores are equal
    first = np.searchsorted(good, flaw, "left") / len(good)
    last = np.searchsorted(good, flaw, "right") / len(good)
    inside = np.clip(limit - first, 0, last - first)
    during = np.divide(inside**2, 2 * (last - first), out=np.zeros_like(first), where=inside > 0)
    area = during + np.clip(limit - last, 0, None)  # of the curve of one pixel
    region = regions[flawed]
    size = np.bincount(region)[region]  # pixels of the flaw that a pixel belongs to
    return float((area / size).sum() / regions.max() / limit)


def _regions(maps: Sequence[Any], masks: Sequence[Any]) -> tuple[Floats, NDArray[np.int64]]:
    """Give all pixels' scores, and the number of the flaw that each is of, from 1; 0: good."""
    from scipy.ndimage import label

    scores, regions, before = [], [], 0
    for heat, mask in zip(maps, masks, strict=True):
        labels, count = label(np.asarray(mask, bool), EIGHT_CONNECTED)
        if labels.shape != np.shape(heat):
            raise ValueError(f"a map of {np.shape(heat)} pixels and a mask of {labels.shape}")
        scores.append(np.asarray(heat, np.float64).ravel())
        regions.append(np.where(labels > 0, labels + before, 0).ravel())
        before += count
    return np.concatenate(scores), np.concatenate(regions).astype(np.int64)


# Depth


def depth_scores(predicted: ArrayLike, truth: ArrayLike) -> dict[str, float]:
    """Score one depth map (Eigen et al. 2014).

    Args:
        predicted: (H, W), above 0, in the truth's unit.
        truth: (H, W), above 0; NaN where it is not known.

    Returns:
        "delta1", "delta2", "delta3": shares of pixels within a factor of 1.25, 1.25^2, 1.25^3;
        "AbsRel": mean of |p - t| / t; "RMSE", in the unit of depth; "SILog": standard deviation of
        log(p / t), which a wrong scale does not change.

    Raises:
        ValueError: Nothing is known, or a depth is not above 0.
    """
    guess, true = _known(predicted, truth)
    error = np.log(guess / true)
    scores = {f"delta{k}": float(np.mean(np.abs(error) < k * np.log(1.25))) for k in (1, 2, 3)}
    scores["AbsRel"] = float(np.mean(np.abs(guess - true) / true))
    scores["RMSE"] = float(np.sqrt(np.mean((guess - true) ** 2)))
    scores["SILog"] = float(error.std())
    return scores


def fit_scale(predicted: ArrayLike, truth: ArrayLike) -> float:
    """Return the factor that brings the median of the known depths to the truth's."""
    guess, true = _known(predicted, truth)
    return float(np.median(true) / np.median(guess))


def fit_scale_and_shift(predicted: ArrayLike, truth: ArrayLike) -> tuple[float, float]:
    """Return a and b such that 1 / (a / predicted + b) fits the truth (Ranftl et al. 2020, 5).

    Least squares in disparity, 1 / depth, in which far depths weigh little. The sign of a is free.
    """
    guess, true = _known(predicted, truth)
    columns = np.stack([1 / guess, np.ones_like(guess)], axis=1)  # (P, 2)
    (scale, shift), *_ = np.linalg.lstsq(columns, 1 / true, rcond=None)
    return float(scale), float(shift)


def _known(predicted: ArrayLike, truth: ArrayLike) -> tuple[Floats, Floats]:
    guess, true = np.asarray(predicted, np.float64), np.asarray(truth, np.float64)
    if guess.shape != true.shape:
        raise ValueError(f"depth of {guess.shape} pixels and a truth of {true.shape}")
    known = np.isfinite(true)
    if not known.any():
        raise ValueError("no pixel of the truth is known")
    if not (guess[known] > 0).all() or not (true[known] > 0).all():
        raise ValueError("a depth is not above 0, or not a number where the truth is known")
    return guess[known], true[known]

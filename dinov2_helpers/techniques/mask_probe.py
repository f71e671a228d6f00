"""A linear probe for one kind of thing, learned from a few masks, with a threshold that is chosen.

The target of a patch is the share of it that the mask covers. Layer, penalty and threshold are
chosen on pictures that the probe did not see, so that few masks suffice and none is wasted.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from .dense import Floats, Kind, enlarge

Bools = NDArray[np.bool_]
STRENGTHS = (1e-4, 1e-3, 1e-2)  # that are tried as scikit-learn's C
USUAL = 1e-3  # with which layers are compared
MANY = 50  # pictures from which on a fifth of them is held out, and cross-validation saved
FOLDS = 5
LEVELS = np.linspace(0.02, 0.98, 49)  # quantiles of the scores that are tried as thresholds
CELLS = 4  # a patch is scored at so many pixels a side when thresholds are compared


@dataclass(frozen=True, eq=False)
class LinearProbe:
    """A logistic regression of a patch on whether it shows the thing.

    Args:
        weights: (D,).
        offset: Of the logit.
    """

    weights: Floats
    offset: float
    kind: ClassVar[str] = "probe"

    @classmethod
    def fit(
        cls, maps: Sequence[Floats], shares: Sequence[Floats], strength: float
    ) -> "LinearProbe":
        """Fit on patches (h, w, D) of pictures and the shares (h, w) of them that a mask covers.

        A patch that a mask covers in part counts as two, one of each class, weighted by its share:
        that is the cross-entropy with the share as the target.

        Args:
            maps: Of each picture.
            shares: Of each picture, in 0-1.
            strength: scikit-learn's `C`: the smaller, the smaller the weights, which are those of
                standardised columns.

        Raises:
            ValueError: The masks cover all or nothing.
        """
        from sklearn.linear_model import LogisticRegression

        x = np.concatenate([one.reshape(-1, one.shape[-1]) for one in maps])  # (P, D)
        y = np.concatenate([one.ravel() for one in shares])  # (P,)
        if y.max() == 0 or y.min() == 1:
            raise ValueError("the masks cover " + ("nothing" if y.max() == 0 else "everything"))
        mean, deviation = x.mean(0), x.std(0) + 1e-6
        x = (x - mean) / deviation
        mixed = (y > 0) & (y < 1)
        rows = np.concatenate([x, x[mixed]])
        inside = np.concatenate([y > 0, np.zeros(mixed.sum(), bool)])
        weights = np.concatenate([np.where(mixed, y, 1), 1 - y[mixed]])
        model = LogisticRegression(C=strength, max_iter=200)
        model.fit(rows, inside, sample_weight=weights)
        slope = model.coef_[0] / deviation
        offset = float(model.intercept_[0] - mean @ slope)
        return cls(slope.astype(np.float32), offset)

    def score(self, patches: Floats) -> Floats:
        """Return the logit of each patch (h, w) float32, from patches (h, w, D)."""
        return (patches @ self.weights + np.float32(self.offset)).astype(np.float32)

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Return weights and offset."""
        return {"weights": self.weights, "offset": np.array([self.offset])}


class Choice(NamedTuple):
    """What did best on pictures that the probe did not see."""

    kind: Kind  # which token
    strength: float  # as for `LinearProbe.fit`
    threshold: float  # of the logit
    scores: dict[str, float]  # mean IoU of all that was tried, such as "layer 5, C=0.001"


def choose(
    maps: Mapping[Kind, Sequence[Floats]],
    shares: Sequence[Floats],
    masks: Sequence[Bools],
    seed: int,
    strengths: Sequence[float] = STRENGTHS,
) -> Choice:
    """Choose layer, then penalty, and the threshold, by the mean IoU on pictures held out.

    With fewer than `MANY` pictures all are held out in turn (cross-validation by `FOLDS` parts, or
    one by one if there are fewer); with more, a fifth of them once.

    Args:
        maps: Of each kind, of each picture, (h, w, D).
        shares: Of each picture (h, w).
        masks: Of each picture (H, W), two pictures or more.
        seed: Of the order in which pictures are held out.
        strengths: As for `LinearProbe.fit`.
    """
    parts = held_out_parts(len(masks), seed)
    scores: dict[str, float] = {}
    usual = USUAL if USUAL in strengths else strengths[0]
    found = []
    for kind, patches in maps.items():
        threshold, score = _try(patches, shares, masks, parts, usual)
        scores[f"{kind.facet} of layer {kind.layer}, C={usual:g}"] = score
        found.append((score, Choice(kind, usual, threshold, scores)))
    best, choice = max(found, key=lambda one: one[0])
    for strength in strengths:
        if strength == usual:
            continue
        threshold, score = _try(maps[choice.kind], shares, masks, parts, strength)
        scores[f"{choice.kind.facet} of layer {choice.kind.layer}, C={strength:g}"] = score
        if score > best:
            best, choice = score, Choice(choice.kind, strength, threshold, scores)
    return choice


def held_out_parts(n: int, seed: int) -> list[NDArray[np.int64]]:
    """Return the pictures that are held out, part by part; n is 2 or more."""
    order = np.random.default_rng(seed).permutation(n)
    if n >= MANY:
        return [order[: n // FOLDS]]
    return np.array_split(order, min(FOLDS, n))


def _try(
    maps: Sequence[Floats],
    shares: Sequence[Floats],
    masks: Sequence[Bools],
    parts: Sequence[NDArray[np.int64]],
    strength: float,
) -> tuple[float, float]:
    """Return threshold and IoU on pictures that are held out, part by part."""
    scores, truths = [], []
    for part in parts:
        rest = np.setdiff1d(np.arange(len(maps)), part)
        try:
            probe = LinearProbe.fit([maps[i] for i in rest], [shares[i] for i in rest], strength)
        except ValueError:
            continue  # nothing to learn from without this part
        scores += [probe.score(maps[i]) for i in part]
        truths += [masks[i] for i in part]
    if not scores:
        return 0.0, 0.0
    return best_threshold(scores, truths)


def best_threshold(scores: Sequence[Floats], masks: Sequence[Bools]) -> tuple[float, float]:
    """Return the threshold with the largest mean IoU, and that IoU.

    They are compared at `CELLS` x `CELLS` points of each patch.

    Args:
        scores: Of each picture (h, w).
        masks: Of each picture, of any size.
    """
    pairs = []
    for score, mask in zip(scores, masks, strict=True):
        size = score.shape[0] * CELLS, score.shape[1] * CELLS
        pairs.append((enlarge(score, size), nearest(mask, size)))
    values = np.concatenate([large.ravel() for large, _ in pairs])
    best = (-1.0, 0.0)
    for threshold in np.unique(np.quantile(values, LEVELS)):
        found = float(np.mean([_iou(large > threshold, truth) for large, truth in pairs]))
        best = max(best, (found, float(threshold)))
    return best[1], best[0]


def _iou(mask: Bools, truth: Bools) -> float:
    union = (mask | truth).sum()
    return float((mask & truth).sum() / union) if union else 1.0


def nearest(mask: Bools, size: tuple[int, int]) -> Bools:
    """Return a mask at (height, width): the value at the centre of each new pixel."""
    down, across = (
        ((np.arange(new) + 0.5) * old / new).astype(int)
        for new, old in zip(size, mask.shape, strict=True)
    )
    return mask[down[:, None], across]


def shares_of(mask: Bools, grid: tuple[int, int]) -> Floats:
    """Return which share of each patch a mask (H, W) covers, (h, w) in 0-1."""
    whole = Image.fromarray(mask.astype(np.float32))
    found = np.asarray(whole.resize(grid[::-1], Image.Resampling.BOX))
    return np.clip(found, 0, 1)

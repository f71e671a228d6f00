"""A threshold for "none of these", with the promise that so many known pictures can bear."""

import math
import warnings
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike


@dataclass(frozen=True)
class Promise:
    """A threshold of familiarity, and how many known pictures fall below it.

    Attributes:
        threshold: What is less familiar is none of these.
        alpha: The share of known pictures that was allowed to be lost, 0 to 1.
        promised: The largest expected share of new known pictures that is lost, 0 to 1: alpha
            rounded down to what n pictures can tell.
        low: Lower end of the 95 % interval of that share, given the pictures that were drawn.
        high: Upper end of it.
        n: Number of known pictures that it rests on.
    """

    threshold: float
    alpha: float
    promised: float
    low: float
    high: float
    n: int

    def __str__(self) -> str:
        return (
            f"at most {self.promised:.1%} of known pictures are lost on average over draws of "
            f"{self.n}; for this one {self.low:.1%} to {self.high:.1%} (95 %)"
        )


def conformal_promise(familiarity: ArrayLike, alpha: float) -> Promise:
    """Put a threshold where a share alpha of known pictures is lost, by split conformal rule.

    With n scores of known pictures, of which nothing was learned, the k-th smallest with
    k = floor(alpha (n + 1)) is the threshold. A new picture of the same kind falls below it with
    a probability of k / (n + 1) at most, whatever the distribution. Given the n pictures, the
    share follows Beta(k, n + 1 - k).

    Source: Vovk, Gammerman & Shafer 2005, "Algorithmic Learning in a Random World", chapter 2;
    for the Beta distribution Angelopoulos & Bates 2023, "Conformal Prediction: A Gentle
    Introduction", section 3.2.

    Args:
        familiarity: (n,), larger is more like what is known.
        alpha: Share of known pictures that may be lost, between 0 and 1.

    Raises:
        ValueError: No score, scores that are not finite, or an impossible alpha.

    Warns:
        UserWarning: Fewer than 1 / alpha - 1 scores. They cannot bear the promise; the smallest
            is the threshold then, and `promised` says what it promises.

    Example:
        >>> conformal_promise(range(99), alpha=0.05).threshold
        4.0
    """
    scores = np.sort(np.asarray(familiarity, np.float64).ravel())  # (n,)
    n = len(scores)
    if not 0 < alpha < 1:
        raise ValueError(f"alpha={alpha}: it must lie between 0 and 1")
    if not n or not np.isfinite(scores).all():
        raise ValueError(f"{n} scores of known pictures, which must be one or more and finite")
    k = math.floor(alpha * (n + 1) + 1e-9)
    if k < 1:
        needed = math.ceil(1 / alpha - 1 - 1e-9)
        warnings.warn(
            f"alpha={alpha:g} needs {needed} pictures of known names or more, and there are {n}: "
            f"the threshold promises {1 / (n + 1):.1%} instead",
            stacklevel=3,
        )
        k = 1
    low, high = _interval(k, n)
    return Promise(float(scores[k - 1]), alpha, k / (n + 1), low, high, n)


def _interval(k: int, n: int) -> tuple[float, float]:
    from scipy.stats import beta

    low, high = beta.ppf([0.025, 0.975], k, n + 1 - k)
    return float(low), float(high)

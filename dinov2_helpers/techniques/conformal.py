"""Thresholds with a promise: how many ordinary things will be called odd, and how sure that is.

It is split conformal prediction (Vovk, Gammerman and Shafer 2005, chapter 4; Lei et al. 2018): from
n scores of ordinary things that had no part in what scores them, a threshold follows that a new
ordinary one exceeds with a chance of at most alpha, whatever the scores are distributed like.
Nothing is said of things that are not ordinary: how many of those pass only they can tell.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from ..measure import Interval

ROUNDING = 1e-9  # (n + 1) * (1 - alpha) may miss a whole number by so much


@dataclass(frozen=True)
class ConformalThreshold:
    """A threshold above which a thing is called odd, and what it promises.

    Args:
        value: One of the held-out scores; what is higher is odd, what is equal is not.
        n: Number of held-out scores.
        alpha: Share of false alarms that was asked for, between 0 and 1.
        holds: Whether n scores can promise it: n >= 1 / alpha - 1. If not, `value` is the highest
            of them, which promises 1 / (n + 1).

    Example:
        >>> line = threshold(range(100), alpha=0.05)
        >>> line.value, line.rank, line.holds
        (95.0, 96, True)
    """

    value: float
    n: int
    alpha: float
    holds: bool

    @property
    def rank(self) -> int:
        """Place of `value` among the scores in rising order, 1 to n."""
        return min(_rank(self.n, self.alpha), self.n)

    @property
    def promised(self) -> float:
        """The expected share of false alarms, 0-1: alpha or a little less, if the promise holds."""
        return (self.n + 1 - self.rank) / (self.n + 1)

    def rate(self, confidence: float = 0.95) -> Interval:
        """Return the share of false alarms to expect of this very threshold, with its interval.

        Over all that the n scores could have been, the true share has a Beta(n + 1 - rank, rank)
        distribution where scores do not tie (Vovk 2012, section 3; Angelopoulos and Bates 2023,
        section 3.2). The value is its mean, low and high are its quantiles.

        Args:
            confidence: Share of the distribution between low and high, between 0 and 1.

        Example:
            >>> print(threshold(range(100), 0.05).rate())
            0.050 (0.016 to 0.099)
        """
        from scipy.stats import beta

        tail = (1 - confidence) / 2
        low, high = beta.ppf([tail, 1 - tail], self.n + 1 - self.rank, self.rank)
        return Interval(self.promised, float(low), float(high))

    def promise(self, what: str = "ordinary one") -> str:
        """Say in words what is promised, and what is not.

        Args:
            what: What such a thing is called, in the singular.
        """
        rate = self.rate()
        between = f"between {rate.low:.1%} and {rate.high:.1%}"
        if self.holds:
            return (
                f"A new {what} is called odd with a chance of {rate.value:.1%}, at most the "
                f"{self.alpha:.1%} asked for; with this threshold, from {self.n} held-out scores, "
                f"the share lies {between} (95 % sure)."
            )
        return (
            f"{self.n} held-out scores cannot promise {self.alpha:.1%} false alarms: that takes "
            f"{needed(self.alpha)}. The threshold is the highest of them: a new {what} is called "
            f"odd with a chance of {rate.value:.1%} (95 % sure: {between})."
        )


def needed(alpha: float) -> int:
    """Return how many held-out scores it takes to promise a share of false alarms.

    Args:
        alpha: That share, between 0 and 1.

    Raises:
        ValueError: It is not.

    Example:
        >>> needed(0.05)
        19
    """
    check_alpha(alpha)
    return math.ceil(1 / alpha - 1 - ROUNDING)


def threshold(scores: ArrayLike, alpha: float) -> ConformalThreshold:
    """Return the threshold that a new ordinary thing exceeds with a chance of at most alpha.

    It is the ceil((n + 1) (1 - alpha))-th score in rising order, or the highest if n are too few.
    The promise holds if the new thing and those n are exchangeable (drawn alike, in any order), and
    if none of the n had a part in what scores them.

    Args:
        scores: (n,) of held-out ordinary things, higher is odder, 1 or more.
        alpha: Share of false alarms, between 0 and 1.

    Raises:
        ValueError: No scores, scores that are not finite, or alpha is not between 0 and 1.

    Example:
        >>> threshold([0.3, 0.9, 0.1, 0.5], alpha=0.4)
        ConformalThreshold(value=0.5, n=4, alpha=0.4, holds=True)
    """
    check_alpha(alpha)
    ordered = np.sort(np.asarray(scores, np.float64))  # (n,)
    if ordered.ndim != 1 or not len(ordered):
        raise ValueError(f"scores of shape {ordered.shape}: one score or more in one row is needed")
    if not np.isfinite(ordered).all():
        raise ValueError(f"{(~np.isfinite(ordered)).sum()} of {len(ordered)} scores are not finite")
    n = len(ordered)
    rank = _rank(n, alpha)
    return ConformalThreshold(float(ordered[min(rank, n) - 1]), n, float(alpha), rank <= n)


def check_alpha(alpha: float, name: str = "alpha") -> None:
    """Raise a ValueError if a share of false alarms is not between 0 and 1."""
    if not 0 < alpha < 1:
        raise ValueError(f"{name}={alpha}: a share between 0 and 1, such as 0.05")


def _rank(n: int, alpha: float) -> int:
    return max(1, math.ceil((n + 1) * (1 - alpha) - ROUNDING))

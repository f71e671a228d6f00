"""Ridge regression of one number per patch in closed form, its penalty chosen on held-out groups.

A row is a patch's token and, if wanted, the CLS token of its picture. Only sums are kept, so
memory does not grow with the number of patches.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
PENALTIES = (0.001, 0.01, 0.03, 0.1, 1.0)
# There are far fewer pictures than patches, so CLS, which is one vector per picture, bears a
# larger penalty.
CLS_FACTORS = (1.0, 10.0, 100.0)


@dataclass
class Moments:
    """Sums over rows x (F,) and targets y: all that least squares needs to know of them."""

    n: float
    x: Floats  # (F,), sum of x
    y: float  # sum of y
    xx: Floats  # (F, F), sum of x x^T
    xy: Floats  # (F,), sum of y x
    yy: float  # sum of y^2

    @classmethod
    def zero(cls, width: int) -> "Moments":
        """Return those of no row."""
        square = np.zeros((width, width))
        return cls(0.0, np.zeros(width), 0.0, square, np.zeros(width), 0.0)

    def add(self, patches: Floats, cls: Floats, target: Floats) -> None:
        """Take in one picture.

        Args:
            patches: (P, A) tokens of the patches whose target is known.
            cls: (B,) CLS token, the same for all; A + B is F. Of no width if it is not wanted.
            target: (P,).
        """
        count = len(patches)
        a = patches.shape[1]
        token_sum = patches.sum(0)
        target_sum = float(target.sum())
        self.n += count
        self.x[:a] += token_sum
        self.x[a:] += count * cls
        self.y += target_sum
        self.xx[:a, :a] += patches.T @ patches
        self.xx[:a, a:] += np.outer(token_sum, cls)
        self.xx[a:, :a] += np.outer(cls, token_sum)
        self.xx[a:, a:] += count * np.outer(cls, cls)
        self.xy[:a] += patches.T @ target
        self.xy[a:] += target_sum * cls
        self.yy += float(target @ target)

    def plus(self, other: "Moments", sign: int = 1) -> "Moments":
        """Return the sums of both, or with -1 those of this less the other."""
        return Moments(
            self.n + sign * other.n,
            self.x + sign * other.x,
            self.y + sign * other.y,
            self.xx + sign * other.xx,
            self.xy + sign * other.xy,
            self.yy + sign * other.yy,
        )


class Line(NamedTuple):
    """A linear map: y = x . weights + intercept."""

    weights: Floats  # (F,)
    intercept: float

    def mean_squared_error(self, on: Moments) -> float:
        """Return the mean of (x . weights + intercept - y)^2 over rows of which sums are known."""
        squares = self.weights @ on.xx @ self.weights + on.n * self.intercept**2 + on.yy
        products = self.intercept * (self.weights @ on.x - on.y) - self.weights @ on.xy
        return float((squares + 2 * products) / on.n)


class Penalty(NamedTuple):
    """How strongly weights are held back, as a share of the mean variance of the columns.

    So it means the same for any number of rows and any scale of the tokens.
    """

    patch: float  # of the columns of the patch's token, above 0
    cls: float  # of those of the CLS token


def solve(moments: Moments, penalty: Penalty, n_patch_columns: int) -> Line:
    """Return the ridge regression (Hoerl & Kennard 1970); the intercept is not penalised.

    Args:
        moments: Of the rows to fit.
        penalty: Of both kinds of columns.
        n_patch_columns: A of F columns; the others are of the CLS token.
    """
    from scipy.linalg import cho_factor, cho_solve

    mean = moments.x / moments.n
    mean_target = moments.y / moments.n
    spread = moments.xx - moments.n * np.outer(mean, mean)
    slope = moments.xy - moments.n * mean_target * mean
    unit = max(np.trace(spread) / len(mean), 1e-9)
    held = np.full(len(mean), penalty.patch * unit)
    held[n_patch_columns:] = penalty.cls * unit
    spread.flat[:: len(mean) + 1] += held
    weights = cho_solve(cho_factor(spread, overwrite_a=True), slope)
    return Line(weights, float(mean_target - mean @ weights))


class Chosen(NamedTuple):
    """A ridge regression with the penalty that was best on pictures held out."""

    line: Line
    penalty: Penalty
    errors: dict[Penalty, float]  # mean squared error on pictures held out, of each penalty


def fit_ridge(folds: Sequence[Moments], penalties: Sequence[Penalty], n_columns: int) -> Chosen:
    """Fit on all folds with the penalty that does best on each fold when fitted on the others.

    Args:
        folds: Sums over disjoint groups of pictures, 1 or more; with one there is nothing to
            choose by, and the last penalty is taken.
        penalties: To choose from.
        n_columns: As `n_patch_columns` of `solve`.
    """
    total = folds[0]
    for fold in folds[1:]:
        total = total.plus(fold)
    errors: dict[Penalty, float] = {}
    if len(folds) > 1:
        errors = dict.fromkeys(penalties, 0.0)
        for fold in folds:
            others = total.plus(fold, sign=-1)
            for penalty in penalties:
                line = solve(others, penalty, n_columns)
                errors[penalty] += line.mean_squared_error(fold) * fold.n / total.n
    best = min(errors, key=errors.__getitem__) if errors else penalties[-1]
    return Chosen(solve(total, best, n_columns), best, errors)

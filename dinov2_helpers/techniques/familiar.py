"""How much of a picture looks like the pictures that an object was fitted on."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
SHRINKAGE = 0.01  # of the mean variance, added to each, so that few pictures give an inverse
QUANTILE = 0.99  # of the patches held out that count as familiar


@dataclass(frozen=True, eq=False)
class Familiar:
    """Where the tokens of patches lie, by mean and covariance (Mahalanobis; Lee et al. 2018).

    Args:
        mean: (D,).
        whiten: (D, D); the length of (x - mean) whiten is the distance of a token x.
        limit: Distance within which 99 % of the patches of training pictures lie that were held
            out; of all, where there is one picture alone.
    """

    mean: Floats
    whiten: Floats
    limit: float

    @classmethod
    def of_folds(cls, folds: Sequence[Floats]) -> "Familiar":
        """Return that of patches (P, D) of disjoint groups of pictures, 1 group or more."""
        parts = [_sums(patches) for patches in folds]
        held_out = []
        for k, patches in enumerate(folds):
            others = [part for i, part in enumerate(parts) if i != k] or parts
            held_out.append(_distance(patches, *_whitening(others)))
        limit = float(np.quantile(np.concatenate(held_out), QUANTILE))
        return cls(*_whitening(parts), limit)

    def unlike(self, patches: Floats) -> float:
        """Return the share of patches (..., D) beyond the limit, 0 to 1; about 0.01 is usual."""
        tokens = patches.reshape(-1, patches.shape[-1])
        return float((_distance(tokens, self.mean, self.whiten) > self.limit).mean())


Sums = tuple[int, NDArray[np.float64], NDArray[np.float64]]


def _sums(patches: Floats) -> Sums:
    x = patches.astype(np.float64)  # (P, D)
    return len(x), x.sum(0), x.T @ x


def _whitening(parts: Sequence[Sums]) -> tuple[Floats, Floats]:
    from scipy.linalg import cholesky, solve_triangular

    n = sum(part[0] for part in parts)
    mean = sum((part[1] for part in parts), np.zeros(1)) / n
    second = sum((part[2] for part in parts), np.zeros((1, 1))) / n
    covariance = second - np.outer(mean, mean)
    variance = max(np.trace(covariance) / len(mean), 1e-9)
    covariance.flat[:: len(mean) + 1] += SHRINKAGE * variance
    lower = cholesky(covariance, lower=True)
    whiten = solve_triangular(lower, np.eye(len(mean)), lower=True).T
    return mean.astype(np.float32), whiten.astype(np.float32)


def _distance(tokens: Floats, mean: Floats, whiten: Floats) -> Floats:
    found: Floats = np.linalg.norm((tokens - mean) @ whiten, axis=1)
    return found

"""Which patches belong to a thing, by rules that were shown no mask: four scorers, and their sign.

A scorer gives each patch of a picture a number that is larger on things. All stand on one
assumption of photographers: a thing is seldom at the edge of a picture.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

import numpy as np
from numpy.typing import NDArray

from .dense import unit

Floats = NDArray[np.float32]
Maps = Sequence[Floats]  # of each picture (h, w, D)
SAMPLE = 6000  # patches that k-means sees
RARE = 0.2  # a cluster this often as frequent at the border as patches are on average is a thing


class Scorer(Protocol):
    """What gives each patch a number."""

    kind: ClassVar[str]

    def score(self, patches: Floats) -> Floats:
        """Return (h, w) float32, larger on things, from patches (h, w, D)."""

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Return what was learned, by name, to be saved."""


def border(h: int, w: int) -> NDArray[np.bool_]:
    """Return which patches of a grid are outermost, (h, w)."""
    mask = np.ones((h, w), bool)
    mask[1:-1, 1:-1] = False
    return mask


@dataclass(frozen=True, eq=False)
class UnlikeBorder:
    """1 minus the mean cosine with the patches at the border of the same picture."""

    kind: ClassVar[str] = "border"

    def score(self, patches: Floats) -> Floats:
        """Return (h, w) in 0-2."""
        x = unit(patches)
        ground = x[border(*x.shape[:2])].mean(0)  # (D,)
        return (1 - x @ ground).astype(np.float32)

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Return nothing: nothing is learned."""
        return {}


@dataclass(frozen=True, eq=False)
class FirstComponent:
    """The first principal component of the patches of many pictures (Oquab et al. 2024, 7.5).

    Args:
        mean: (D,) of unit patches.
        direction: (D,), its sign such that the border of pictures has the smaller scores.
    """

    mean: Floats
    direction: Floats
    kind: ClassVar[str] = "pca"

    @classmethod
    def fit(cls, maps: Maps) -> "FirstComponent":
        """Fit on pictures' patches."""
        from sklearn.decomposition import PCA

        rows = _rows(maps).astype(np.float64)
        pca = PCA(1, svd_solver="covariance_eigh").fit(rows)
        found = cls(pca.mean_.astype(np.float32), pca.components_[0].astype(np.float32))
        scores = [found.score(one) for one in maps]
        at_border = np.concatenate([one[border(*one.shape)] for one in scores]).mean()
        everywhere = np.concatenate([one.ravel() for one in scores]).mean()
        if at_border < everywhere:
            return found
        return cls(found.mean, -found.direction)

    def score(self, patches: Floats) -> Floats:
        """Return (h, w), 0 for the mean of all patches."""
        return ((unit(patches) - self.mean) @ self.direction).astype(np.float32)

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Return mean and direction."""
        return {"mean": self.mean, "direction": self.direction}


@dataclass(frozen=True, eq=False)
class ClusterVotes:
    """Clusters of patches over many pictures, which vote by how seldom they are at the border.

    Several runs of k-means vote together, for one run is an accident of its start. Clusters over
    pictures as in Amir et al. 2021 ("Deep ViT Features as Dense Visual Descriptors", section 4.1).

    Args:
        centres: (R, k, D) of each run.
        votes: (R, k), minus the share of a cluster's patches that lie at the border: -1 to 0.
    """

    centres: Floats
    votes: Floats
    kind: ClassVar[str] = "clusters"

    @classmethod
    def fit(cls, maps: Maps, clusters: int, seed: int, runs: int = 5) -> "ClusterVotes":
        """Fit on pictures' patches.

        Args:
            maps: Of each picture (h, w, D).
            clusters: Of each run; not more than there are patches.
            seed: Of the first run.
            runs: Number of runs.
        """
        from sklearn.cluster import KMeans

        rows = _rows(maps)
        outside = np.concatenate([border(*one.shape[:2]).ravel() for one in maps])
        k = min(clusters, len(rows))
        centres, votes = [], []
        for start in range(seed, seed + runs):
            sample = np.random.default_rng(start).permutation(rows)[:SAMPLE]
            model = KMeans(k, n_init=1, max_iter=40, random_state=start).fit(sample)
            member = model.predict(rows)
            size = np.bincount(member, minlength=k)
            at_border = np.bincount(member, outside, minlength=k)
            centres.append(model.cluster_centers_)
            votes.append(-at_border / np.maximum(size, 1))
        return cls(np.array(centres, np.float32), np.array(votes, np.float32))

    def score(self, patches: Floats) -> Floats:
        """Return the mean vote of the cluster of each patch, (h, w) from -1 to 0."""
        rows = unit(patches).reshape(-1, patches.shape[-1])
        total = np.zeros(len(rows))
        for centres, votes in zip(self.centres, self.votes, strict=True):
            # the nearest: |x - c|^2 = |x|^2 - 2 x.c + |c|^2, where |x| is the same for all
            distance = (centres**2).sum(1) - 2 * rows @ centres.T
            total += votes[distance.argmin(1)]
        return (total / len(self.votes)).reshape(patches.shape[:2]).astype(np.float32)

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Return centres and votes."""
        return {"centres": self.centres, "votes": self.votes}


@dataclass(frozen=True, eq=False)
class NormalisedCut:
    """The normalised cut of one picture's patches (Shi & Malik 2000; TokenCut, Wang et al. 2022).

    Patches are the nodes of a graph, joined where their cosine exceeds `tau`. The second smallest
    eigenvector of (D - W) v = lambda D v separates two sides, split at its mean; things are the
    side that has less of the border.

    Args:
        tau: Cosine above which two patches are joined.
    """

    tau: float = 0.4
    kind: ClassVar[str] = "cut"

    def score(self, patches: Floats) -> Floats:
        """Return (h, w), above 0 on the side of things, with a deviation of 1."""
        rows = unit(patches).reshape(-1, patches.shape[-1])
        graph = np.where(rows @ rows.T > self.tau, 1.0, 1e-5)  # as TokenCut's
        vector = second_eigenvector(graph).reshape(patches.shape[:2])
        vector = vector - vector.mean()
        if (vector > 0)[border(*vector.shape)].mean() >= 0.5:
            vector = -vector
        return (vector / (vector.std() or 1)).astype(np.float32)

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Return tau."""
        return {"tau": np.array([self.tau])}


def second_eigenvector(graph: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the second smallest generalised eigenvector (T,) of a graph's weights (T, T).

    Found as D^-1/2 u, u being the second largest eigenvector of D^-1/2 W D^-1/2, which is quicker.
    """
    from scipy.linalg import eigh

    scale = graph.sum(1) ** -0.5
    second = len(graph) - 2
    _, vectors = eigh(scale[:, None] * graph * scale, subset_by_index=[second, second])
    found: NDArray[np.float64] = scale * vectors[:, 0]
    return found


def threshold_without_masks(scorer: Scorer, scores: Maps) -> float:
    """Return above which score a patch is one of a thing, where no mask can say so.

    Args:
        scorer: Of whom.
        scores: Of the pictures that it was fitted on, (h, w) each.

    Returns:
        For clusters `RARE` times the share of patches that lie at the border; for the first
        component and the cut 0; for the border's unlikeness the threshold of Otsu (1979).
    """
    if isinstance(scorer, ClusterVotes):
        outside = np.concatenate([border(*one.shape).ravel() for one in scores])
        return -RARE * float(outside.mean())
    if isinstance(scorer, UnlikeBorder):
        from skimage.filters import threshold_otsu

        return float(threshold_otsu(np.concatenate([one.ravel() for one in scores])))
    return 0.0


def _rows(maps: Maps) -> Floats:
    return np.concatenate([unit(one).reshape(-1, one.shape[-1]) for one in maps])

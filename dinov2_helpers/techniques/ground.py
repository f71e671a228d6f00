"""The ground that a bridge knows: whether it can be trusted with a picture at all."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .familiar import Familiar, held_out_distances

Floats = NDArray[np.float32]
LEAST = 1e-9  # of a distance, whose logarithm is taken


@dataclass(frozen=True, eq=False)
class Ground:
    """What a bridge was fitted on, and what it says of the like of it.

    A linear map takes what it has never seen to a mixture of what it knows, which may be as near to
    a name as anything. The text cannot tell then; the distance from the pictures of the fit can.
    Where the unknown was among those pictures, the text tells and the distance cannot. So both are
    asked, each in deviations of pictures that were held out, and the smaller answer counts.

    Args:
        familiar: Where the CLS tokens of the fit lie.
        distances: (N,) logarithms of distances of pictures from others of the fit.
        vectors: (N, d) the same pictures, crossed by fits that did not see them; unit length.
    """

    familiar: Familiar
    distances: Floats
    vectors: Floats

    @classmethod
    def of_folds(cls, tokens: Sequence[Floats], vectors: Sequence[Floats]) -> "Ground":
        """Return that of pictures in disjoint groups, 1 group or more.

        Args:
            tokens: Of each group (n, D), CLS.
            vectors: Of each group (n, d), crossed by fits without it.
        """
        distances = np.log(np.maximum(np.concatenate(held_out_distances(tokens)), LEAST))
        every = np.concatenate(vectors)
        return cls(Familiar.of_folds(tokens), distances, every.astype(np.float32))

    def logarithms(self, tokens: Floats) -> Floats:
        """Return the logarithm of the distance of CLS tokens (N, D) from the fit, (N,)."""
        found: Floats = np.log(np.maximum(self.familiar.distance(tokens), LEAST))
        return found

    def familiarity(self, distances: Floats, vectors: Floats, texts: Floats) -> Floats:
        """Return how familiar pictures are, (N,), in deviations; about 0 is usual.

        Args:
            distances: (N,), from `logarithms`.
            vectors: (N, d), crossed by the bridge.
            texts: (K, d), of the names.
        """
        near = _standard(-distances, -self.distances)
        alike = _standard((vectors @ texts.T).max(1), (self.vectors @ texts.T).max(1))
        return np.minimum(near, alike).astype(np.float32)

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Return all of it by name, to be saved."""
        return {
            "ground.mean": self.familiar.mean,
            "ground.whiten": self.familiar.whiten,
            "ground.limit": np.array([self.familiar.limit], np.float32),
            "ground.distances": self.distances,
            "ground.vectors": self.vectors,
        }

    @classmethod
    def from_arrays(cls, arrays: dict[str, NDArray[Any]]) -> "Ground":
        """Return what `arrays` gave; KeyError: it is not there."""
        limit = float(arrays["ground.limit"][0])
        familiar = Familiar(arrays["ground.mean"], arrays["ground.whiten"], limit)
        return cls(familiar, arrays["ground.distances"], arrays["ground.vectors"])


def _standard(values: Floats, usual: Floats) -> Floats:
    """Return values in deviations of what is usual, from its mean."""
    return (values - usual.mean()) / (usual.std() or 1.0)

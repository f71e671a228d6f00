"""A bridge from DINOv2 to the words of a CLIP: one matrix, fitted on pictures without a label."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..clip import Clip
from ..extraction import Embeddings, Features, Maps
from ..extraction.result import Pooling
from ..lit import Lit
from ..models import Model
from .inputs import NotFittedError
from .vectors import Vectors, unit, vectors_of

Floats = NDArray[np.float64]
STRENGTHS = (1e-4, 1e-3, 1e-2, 1e-1, 1.0, 10.0)


class Bridge:
    """Ridge regression from DINOv2's vectors of pictures to CLIP's of the same pictures."""

    def __init__(
        self,
        dinov2: Model,
        clip: Clip | Lit,
        *,
        names: Sequence[str] = (),
        pooling: Pooling = "both",
        strengths: Sequence[float] = STRENGTHS,
        folds: int = 5,
        size: int | None = None,
    ) -> None:
        self.dinov2 = dinov2
        self.clip = clip
        self.names = tuple(names)
        self.pooling = pooling
        self.strengths = tuple(strengths)
        self.folds = folds
        self.size = size

    def fit(self, pictures: Any, embeddings: Embeddings | None = None) -> "Bridge":
        """Fit the matrix on pictures of any kind, without labels."""
        if isinstance(pictures, Iterator):
            pictures = list(pictures)
        found = vectors_of(self.dinov2, pictures, pooling="both", size=self.size)
        if embeddings is None:
            if isinstance(pictures, Features):
                raise ValueError("features of DINOv2 alone: give embeddings=clip.embed_images(...)")
            embeddings = self.clip.embed_images(pictures)
        _, ours, theirs = np.intersect1d(found.index, embeddings.index, return_indices=True)
        x, y = found.vectors[ours].astype(np.float64), embeddings.vectors[theirs]
        self.strength_ = 1.0
        self.matrix_, self.offset_ = ridge(x, y, self.strength_)
        dim = self.dinov2.dim
        self.patch_matrix_, self.patch_offset_ = ridge(x[:, dim:], y, self.strength_)
        return self

    def transform(self, features: Features | Vectors) -> NDArray[np.float32]:
        """Return unit vectors in CLIP's space of pictures, (N, d) float32."""
        self._check_fitted()
        found = vectors_of(self.dinov2, features, pooling="both", size=self.size)
        return unit(found.vectors @ self.matrix_ + self.offset_)

    def transform_patches(self, features: Features) -> Maps:
        """Return unit vectors of all patches, (N, h, w, d) or a list of (h, w, d)."""
        self._check_fitted()
        if features.patches is None:
            raise ValueError("the features lack patches: extract with patches=True")
        maps = [unit(one @ self.patch_matrix_ + self.patch_offset_) for one in features.patches]
        same = len({one.shape for one in maps}) == 1
        return np.stack(maps) if same else maps

    def _check_fitted(self) -> None:
        if not hasattr(self, "matrix_"):
            raise NotFittedError("this Bridge has no matrix yet: call fit(pictures)")


def ridge(x: Floats, y: NDArray[Any], strength: float) -> tuple[NDArray[np.float32], ...]:
    """Return the matrix (D, d) and the offset (d,) that take x (N, D) to y (N, d)."""
    mean_x, mean_y = x.mean(0), y.mean(0)
    x, y = x - mean_x, y - mean_y
    penalty = strength * (x**2).sum() / x.shape[1] * np.eye(x.shape[1])
    matrix = np.linalg.solve(x.T @ x + penalty, x.T @ y)
    return matrix.astype(np.float32), (mean_y - mean_x @ matrix).astype(np.float32)

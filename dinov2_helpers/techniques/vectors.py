"""One vector for each picture, with its name and its place in the input, and labels to match."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..extraction import Embeddings, Features, Skipped, stream_features
from ..extraction.result import Pooling
from ..models import Model
from .inputs import features_of


@dataclass(frozen=True, eq=False)
class Vectors:
    """Vectors of N pictures in the order of the input, without those that cannot be read."""

    vectors: NDArray[np.float32]  # (N, D), not scaled
    index: NDArray[np.int64]  # (N,), position in the input
    names: tuple[str, ...]  # as in `Features`
    skipped: tuple[Skipped, ...]  # the pictures that could not be used

    def __len__(self) -> int:
        return len(self.vectors)


def vectors_of(
    dinov2: Model,
    pictures: Any,
    *,
    pooling: Pooling = "cls",
    size: int | None = None,
    cache: Any = None,
    progress: bool | None = None,
) -> Vectors:
    """Return one vector for each picture, in memory that the number of patches does not fill.

    Args:
        dinov2: The model.
        pictures: What `extract_features` takes, or its result; or vectors already made, as
            `Vectors` or `Embeddings`, which are given back.
        pooling: "cls", "mean" or "both", as in `Features.pooled`.
        size: As for `extract_features`.
        cache: As there.
        progress: As there.

    Raises:
        FileNotFoundError, TypeError, ValueError: As `extract_features`.
        ValueError: Features of another model or size, or without the patches that are needed.
    """
    if isinstance(pictures, Vectors):
        return pictures
    if isinstance(pictures, Embeddings):
        made = pictures
        return Vectors(made.vectors, made.index, made.names, made.skipped)
    needs_patches = pooling != "cls"
    if isinstance(pictures, Features):
        found = features_of(dinov2, pictures, size=size, patches=needs_patches)
        return Vectors(found.pooled(pooling), found.index, found.names, found.skipped)
    parts = [
        Vectors(part.pooled(pooling), part.index, part.names, part.skipped)
        for part in stream_features(
            dinov2, pictures, size=size, patches=needs_patches, cache=cache, progress=progress
        )
    ]
    return _joined(parts)


def _joined(parts: Sequence[Vectors]) -> Vectors:
    skipped = tuple(one for part in parts for one in part.skipped)
    names = tuple(name for part in parts for name in part.names)
    if not names:
        reasons = "; ".join(f"{one.name}: {one.reason}" for one in skipped[:20])
        raise ValueError(f"no picture could be used; {len(skipped)} skipped. {reasons}")
    vectors = np.concatenate([part.vectors for part in parts])
    index = np.concatenate([part.index for part in parts])
    return Vectors(vectors, index, names, skipped)


def unit(vectors: NDArray[Any]) -> NDArray[np.float32]:
    """Return vectors (..., D) scaled to length 1, float32; one of length 0 stays as it is."""
    length = np.linalg.norm(vectors, axis=-1, keepdims=True)
    return (vectors / np.where(length == 0, 1, length)).astype(np.float32)

"""One vector for each picture, with its name and its place in the input, and labels to match."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..extraction import Embeddings, Features, Skipped, stream_features
from ..extraction.result import Pooling
from ..models import Model
from ..pictures.files import printable
from .inputs import features_of

LISTED = 20  # pictures that a message names


@dataclass(frozen=True, eq=False)
class Vectors:
    """Vectors of N pictures in the order of the input, without those that cannot be read."""

    vectors: NDArray[np.float32]  # (N, D), of any length
    index: NDArray[np.int64]  # (N,), position in the input
    names: tuple[str, ...]  # as in `Features`
    skipped: tuple[Skipped, ...] = ()  # the pictures that could not be used

    def __len__(self) -> int:
        return len(self.vectors)


@dataclass(frozen=True)
class Reading:
    """How pictures are read; the numbers depend on the first two.

    Args:
        pooling: "cls", "mean" or "both", as in `Features.pooled`.
        size: As for `extract_features`; the fit is "crop", as the model's processor does it.
        cache: As there.
        progress: As there.
    """

    pooling: Pooling = "cls"
    size: int | None = None
    cache: str | os.PathLike[str] | None = None
    progress: bool | None = None


def vectors_of(dinov2: Model, pictures: Any, reading: Reading, width: int | None = None) -> Vectors:
    """Return one vector for each picture, in memory that the number of patches does not fill.

    Args:
        dinov2: The model.
        pictures: What `extract_features` takes, or its result; or vectors already made, as
            `Vectors` or `Embeddings`, which are given back.
        reading: How to read pictures.
        width: As for `check_vectors`.

    Raises:
        FileNotFoundError, TypeError, ValueError: As `extract_features`.
        ValueError: Features of another model or size, or without the patches that are needed; or
            as `check_vectors`.
    """
    found = _read(dinov2, pictures, reading)
    check_vectors(found, width)
    return found


def check_vectors(found: Vectors | Embeddings, width: int | None = None) -> None:
    """Refuse vectors that cannot be compared with others.

    Args:
        found: Vectors of N pictures.
        width: How many numbers those have that they will be compared with; None: with none yet.

    Raises:
        ValueError: They are not (N, D), have another width, or hold values that are not finite.
    """
    shape = np.shape(found.vectors)
    if len(shape) != 2:
        raise ValueError(f"vectors of pictures have the shape {shape}: (N, D) is needed")
    if width is not None and shape[1] != width:
        raise ValueError(
            f"vectors of {shape[1]} numbers cannot be compared with those of {width} that are "
            "known: give pictures, or vectors that were made as those were"
        )
    is_bad = ~np.isfinite(found.vectors).all(1)  # (N,)
    if is_bad.any():
        bad = [printable(found.names[row]) for row in np.flatnonzero(is_bad)]
        more = ", ..." if len(bad) > LISTED else ""
        raise ValueError(
            f"the vectors of {len(bad)} of {shape[0]} pictures hold values that are not "
            f"finite, and are like no others: {', '.join(bad[:LISTED])}{more}. Leave these out, "
            "or make their vectors again"
        )


def _read(dinov2: Model, pictures: Any, reading: Reading) -> Vectors:
    if isinstance(pictures, Vectors):
        return pictures
    if isinstance(pictures, Embeddings):
        return Vectors(pictures.vectors, pictures.index, pictures.names, pictures.skipped)
    needs_patches = reading.pooling != "cls"
    if isinstance(pictures, Features):
        found = features_of(dinov2, pictures, size=reading.size, patches=needs_patches)
        return Vectors(found.pooled(reading.pooling), found.index, found.names, found.skipped)
    chunks = stream_features(
        dinov2,
        pictures,
        size=reading.size,
        patches=needs_patches,
        cache=reading.cache,
        progress=reading.progress,
    )
    parts = [
        Vectors(chunk.pooled(reading.pooling), chunk.index, chunk.names, chunk.skipped)
        for chunk in chunks
    ]
    return _joined(parts)


def _joined(parts: Sequence[Vectors]) -> Vectors:
    skipped = tuple(one for part in parts for one in part.skipped)
    names = tuple(name for part in parts for name in part.names)
    if not names:
        reasons = "; ".join(f"{printable(one.name)}: {one.reason}" for one in skipped[:LISTED])
        raise ValueError(f"no picture could be used; {len(skipped)} skipped. {reasons}")
    vectors = np.concatenate([part.vectors for part in parts])
    index = np.concatenate([part.index for part in parts])
    return Vectors(vectors, index, names, skipped)


def labels_for(found: Vectors, labels: Sequence[Any] | NDArray[Any] | None) -> NDArray[Any]:
    """Return the label of each picture that could be used, (N,).

    Args:
        found: The pictures.
        labels: One for each picture of the input, or for each that could be used. None: the
            folder that a picture lies in is its label, as in "dog/1.jpg".

    Raises:
        ValueError: Another number of labels, or no folders to take them from.
    """
    if labels is None:
        folders = [PurePosixPath(name).parent.name for name in found.names]
        if not all(folders):
            lacking = printable(found.names[folders.index("")])
            raise ValueError(f"labels=None takes the folder for the label; {lacking} lies in none")
        return np.array(folders)
    given = np.asarray(labels)
    if given.dtype.kind == "U" and not all(isinstance(one, str) for one in labels):
        given = np.array(list(labels), object)  # numpy has made texts of numbers, and "nan" of NaN
    if given.shape == (len(found),):
        return given
    if given.shape == (len(found) + len(found.skipped),):
        return given[found.index]
    raise ValueError(
        f"labels of shape {given.shape} for {len(found) + len(found.skipped)} pictures, of which "
        f"{len(found)} could be used: give one for each"
    )


def classes_of(labels: NDArray[Any]) -> tuple[NDArray[Any], NDArray[np.int64]]:
    """Return the classes (K,) that labels name, sorted, and the class of each label, (N,).

    Args:
        labels: (N,).

    Raises:
        ValueError: There is no label; one is missing, as None or NaN; or they cannot be sorted.

    Example:
        >>> classes_of(np.array(["dog", "cat", "dog"]))[1].tolist()
        [1, 0, 1]
    """
    given = labels.tolist()
    if not given:
        raise ValueError("no picture, and so no label, is there to learn from: give one or more")
    # NaN, and what stands for it elsewhere, is not equal to itself
    missing = [i for i, one in enumerate(given) if one is None or (one != one) is not False]
    if missing:
        raise ValueError(
            f"labels: {len(missing)} of {len(given)} are missing, the first of them that of number "
            f"{missing[0]} ({given[missing[0]]}): leave out pictures without a label"
        )
    try:
        classes, class_of = np.unique(labels, return_inverse=True)
    except TypeError:
        kinds = ", ".join(sorted({type(one).__name__ for one in given}))
        raise ValueError(f"labels of several types, {kinds}: give all of them as text") from None
    return classes, class_of


def unit(vectors: NDArray[Any]) -> NDArray[np.float32]:
    """Return vectors (..., D) scaled to length 1, float32; one of length 0 stays as it is."""
    if vectors.dtype == np.float16:
        vectors = vectors.astype(np.float32)
    with np.errstate(over="ignore"):  # of squares, which is seen to below
        length = np.linalg.norm(vectors, axis=-1, keepdims=True)
    scaled = (vectors / np.where(length == 0, 1, length)).astype(np.float32)
    # what is smaller or infinite comes of squares that their type cannot hold
    limits = np.finfo(length.dtype)
    least = np.sqrt(limits.tiny / limits.eps)
    is_lost = ~((length[..., 0] > least) & (length[..., 0] < np.inf))
    if is_lost.any():
        scaled[is_lost] = _unit_of_any_length(vectors[is_lost])
    return scaled


def _unit_of_any_length(vectors: NDArray[Any]) -> NDArray[np.float32]:
    wide = vectors.astype(np.float64)
    largest = np.abs(wide).max(axis=-1, keepdims=True, initial=0)
    near_one = wide / np.where(largest == 0, 1, largest)
    length = np.linalg.norm(near_one, axis=-1, keepdims=True)
    return (near_one / np.where(length == 0, 1, length)).astype(np.float32)

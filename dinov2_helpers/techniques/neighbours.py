"""Nearest pictures: search for them, and let them vote."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..extraction.result import Pooling
from ..models import Model
from .answers import Answers, Classifier, answer
from .inputs import NotFittedError
from .keeping import load_object, save_object
from .matching import Matches, correspondences
from .patch_colours import PatchColours, pca_rgb
from .promise import Promise
from .vectors import Reading, Vectors, classes_of, labels_for, unit, vectors_of

__all__ = [
    "KnnClassifier",
    "Matches",
    "Neighbours",
    "PatchColours",
    "correspondences",
    "pca_rgb",
    "search",
]

KIND = "knn-classifier"


@dataclass(frozen=True, eq=False)
class Neighbours:
    """The k nearest of a gallery to each of Q queries, best first."""

    rows: NDArray[np.int64]  # (Q, k), rows of the gallery
    cosines: NDArray[np.float32]  # (Q, k), -1 to 1

    def __len__(self) -> int:
        return len(self.rows)


def search(
    queries: NDArray[Any], gallery: NDArray[Any] | None = None, *, k: int = 10
) -> Neighbours:
    """Find the nearest by cosine, exactly, without the table of all similarities.

    Faiss compares block by block and keeps the k best of each query.

    Args:
        queries: (Q, D), of any length but 0, which is near nothing.
        gallery: (M, D). None: the queries themselves, of which none finds itself.
        k: How many; fewer come back where the gallery holds fewer.

    Raises:
        ValueError: Shapes that do not fit, an empty gallery, values that are not finite, or k
            below 1.

    Example:
        >>> search(np.eye(3)[:1], np.array([[1, 1, 0], [0, 0, 2], [3, 0, 0]]), k=2).rows
        array([[2, 0]])
    """
    among_themselves = gallery is None
    against = queries if gallery is None else gallery
    _check_tables(queries, against, k)
    wanted = k + 1 if among_themselves else k
    found = _nearest(unit(queries), unit(against), min(wanted, len(against)))
    return _without_itself(found, k) if among_themselves else found


def _nearest(queries: NDArray[np.float32], gallery: NDArray[np.float32], k: int) -> Neighbours:
    import faiss

    x, y = np.ascontiguousarray(queries), np.ascontiguousarray(gallery)
    cosines, rows = faiss.knn(x, y, k, metric=faiss.METRIC_INNER_PRODUCT)
    return Neighbours(rows.astype(np.int64), cosines)


def _without_itself(found: Neighbours, k: int) -> Neighbours:
    """Take each query out of its own neighbours; of equal ones, which is which does not matter."""
    is_itself = found.rows == np.arange(len(found))[:, None]  # (Q, k + 1)
    missing = ~is_itself.any(1)
    is_itself[missing, -1] = True
    shape = (len(found), found.rows.shape[1] - 1)
    rows, cosines = found.rows[~is_itself], found.cosines[~is_itself]
    return Neighbours(rows.reshape(shape)[:, :k], cosines.reshape(shape)[:, :k])


def _check_tables(queries: NDArray[Any], gallery: NDArray[Any], k: int) -> None:
    if k < 1:
        raise ValueError(f"k={k}: it must be 1 or more")
    for name, table in (("queries", queries), ("gallery", gallery)):
        if np.ndim(table) != 2:
            raise ValueError(f"{name} have the shape {np.shape(table)}: (N, D) is needed")
        if not np.isfinite(table).all():
            raise ValueError(f"{name} hold values that are not finite")
    if queries.shape[1] != gallery.shape[1] or not len(gallery):
        raise ValueError(f"queries {queries.shape} cannot be compared with gallery {gallery.shape}")


def vote(
    found: Neighbours, classes: NDArray[np.int64], n_classes: int, temperature: float
) -> NDArray[np.float64]:
    """Return the shares of the votes, (Q, K), each neighbour's being exp(cosine / temperature).

    Source: Caron et al. 2021, "Emerging Properties in Self-Supervised Vision Transformers",
    appendix F.1, after Wu et al. 2018.

    Args:
        found: The neighbours of Q queries.
        classes: (M,) of the gallery, 0 to K - 1.
        n_classes: K.
        temperature: 0.07 in DINO; the smaller, the more the nearest decides.
    """
    nearest_first = found.cosines - found.cosines.max(1, keepdims=True)  # exp() stays below 1
    weights = np.exp(nearest_first.astype(np.float64) / temperature)  # (Q, k)
    votes = np.zeros((len(found), n_classes))
    queries = np.arange(len(found))[:, None]
    np.add.at(votes, (queries, classes[found.rows]), weights)
    return votes / votes.sum(1, keepdims=True)


class KnnClassifier(Classifier):
    """The k nearest labelled pictures vote, by cosine and with DINO's weights.

    Nothing is learned but the gallery, so what it knows is what the features know.

    Args:
        dinov2: The model.
        k: Number of neighbours that vote; 10 and 20 are DINO's and DINOv2's choice.
        temperature: Of the weights exp(cosine / temperature), above 0.
        pooling: What stands for a picture: "cls", "mean" or "both".
        size: As for `extract_features`.
        cache: As there.
        progress: As there.

    Attributes:
        gallery_: (M, D) float32, unit length.
        labels_: (M,) their labels.
        names_: Names of the M pictures.
        classes_: (K,) the labels that there are, sorted.
        skipped_: Pictures that could not be used.
        promise_: The `Promise` behind "none of these"; None before `calibrate`.

    Source: Caron et al. 2021, "Emerging Properties in Self-Supervised Vision Transformers".

    Example:
        >>> from dinov2_helpers import load_dinov2, load_scenes
        >>> from dinov2_helpers.techniques import KnnClassifier
        >>> portraits = load_scenes("train", framing="portrait", surface=["grass", "snow"])
        >>> knn = KnnClassifier(load_dinov2("tiny"), k=1)
        >>> knn = knn.fit(portraits, portraits.labels("class"))
        >>> knn.predict(portraits.images[:2]).labels == tuple(portraits.labels("class")[:2])
        True
    """

    def __init__(
        self,
        dinov2: Model,
        *,
        k: int = 10,
        temperature: float = 0.07,
        pooling: Pooling = "cls",
        size: int | None = None,
        cache: str | os.PathLike[str] | None = None,
        progress: bool | None = None,
    ) -> None:
        if k < 1:
            raise ValueError(f"k={k}: it must be 1 or more")
        if not temperature > 0:
            raise ValueError(f"temperature={temperature}: it must be above 0")
        self.dinov2 = dinov2
        self.k = k
        self.temperature = temperature
        self.pooling = pooling
        self.size = size
        self.cache = cache
        self.progress = progress

    def fit(
        self, pictures: Any, labels: Sequence[Any] | NDArray[Any] | None = None
    ) -> "KnnClassifier":
        """Keep labelled pictures as the gallery.

        Args:
            pictures: What `extract_features` takes, or its result, or `Embeddings`.
            labels: One for each picture. None: the folder that it lies in, as in "dog/1.jpg".

        Raises:
            FileNotFoundError, TypeError, ValueError: As `extract_features`.
            ValueError: Another number of labels than of pictures, or one is missing; no picture;
                vectors that are not finite.
        """
        found = self._read(pictures)
        self.labels_ = labels_for(found, labels)
        self.classes_, self._class_of_ = classes_of(self.labels_)
        self.gallery_ = unit(found.vectors)
        self.names_ = found.names
        self.skipped_ = found.skipped
        self.promise_ = None
        return self

    def search(self, pictures: Any, k: int | None = None) -> Neighbours:
        """Return the nearest pictures of the gallery; `names_` and `labels_` tell what they are.

        Args:
            pictures: As for `fit`. Those that cannot be read are reported and have no row.
            k: How many; None: as many as vote.

        Raises:
            NotFittedError: Before `fit`.
            ValueError: As `predict`.
        """
        self._check_fitted()
        found = self._read_to_compare(pictures)
        return search(found.vectors, self.gallery_, k=self.k if k is None else k)

    def predict(self, pictures: Any) -> Answers:
        """Return the class of each picture, with the shares of the votes as probabilities.

        Its `familiarity` is the cosine to the nearest picture of the gallery.

        Args:
            pictures: As for `fit`.

        Raises:
            NotFittedError: Before `fit`.
            FileNotFoundError, TypeError, ValueError: As `extract_features`.
            ValueError: Vectors of another width than those of the fit, or not finite.
        """
        self._check_fitted()
        found = self._read_to_compare(pictures)
        near = search(found.vectors, self.gallery_, k=self.k)
        shares = vote(near, self._class_of_, len(self.classes_), self.temperature)
        return answer(found, self.classes_.tolist(), shares, near.cosines[:, 0], self.promise_)

    def save(self, folder: str | os.PathLike[str]) -> None:
        """Write the classifier into a folder; OSError: it cannot be written."""
        self._check_fitted()
        settings = {
            "k": self.k,
            "temperature": self.temperature,
            "pooling": self.pooling,
            "size": self.size,
            "classes": self.classes_.tolist(),
            "names": self.names_,
            "promise": self.promise_ and vars(self.promise_),
        }
        arrays: dict[str, NDArray[Any]] = {"gallery": self.gallery_, "class_of": self._class_of_}
        save_object(folder, KIND, settings, arrays, {"dinov2": self.dinov2})

    @classmethod
    def load(cls, folder: str | os.PathLike[str], dinov2: Model | None = None) -> "KnnClassifier":
        """Read what `save` wrote.

        Args:
            folder: The folder.
            dinov2: The model; None: that of the recorded name is loaded.

        Raises:
            KeptError: No classifier there, or one of another model.
            ModelError: The recorded model cannot be loaded.
        """
        kept = load_object(folder, KIND)
        model = kept.model("dinov2", dinov2)
        with kept.understood():
            of = kept.settings
            settings = {name: of[name] for name in ("k", "temperature", "pooling", "size")}
            loaded = cls(model, **settings)
            loaded.classes_ = np.array(of["classes"])
            loaded._class_of_ = kept.arrays["class_of"]
            loaded.labels_ = loaded.classes_[loaded._class_of_]
            loaded.gallery_ = kept.arrays["gallery"]
            loaded.names_ = tuple(of["names"])
            loaded.skipped_ = ()
            loaded.promise_ = Promise(**of["promise"]) if of["promise"] else None
            return loaded

    def _read(self, pictures: Any, width: int | None = None) -> Vectors:
        reading = Reading(self.pooling, self.size, self.cache, self.progress)
        return vectors_of(self.dinov2, pictures, reading, width)

    def _read_to_compare(self, pictures: Any) -> Vectors:
        return self._read(pictures, self.gallery_.shape[1])

    def _check_fitted(self) -> None:
        if not hasattr(self, "gallery_"):
            raise NotFittedError("this KnnClassifier has no gallery: call fit(pictures, labels)")

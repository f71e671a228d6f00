"""Classes from a few labelled pictures: three plain heads on DINOv2's features."""

import os
from collections.abc import Sequence
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from ..extraction.result import Pooling
from ..models import Model
from .answers import Answers, Classifier, answer
from .inputs import NotFittedError
from .keeping import load_object, save_object
from .naming import probabilities
from .neighbours import search, vote
from .promise import Promise
from .vectors import Reading, Vectors, classes_of, labels_for, unit, vectors_of

Head = Literal["mean", "knn", "logistic"]
KIND = "few-shot"


class FewShot(Classifier):
    """Learns classes from a few labelled pictures.

    Args:
        dinov2: The model.
        head: "mean", the nearest mean of a class, for one to a few pictures each; "knn", the
            nearest pictures vote; "logistic", logistic regression.
        pooling: What stands for a picture: "cls", "mean" or "both", scaled to length 1.
        k: Neighbours that vote; no more than the smallest class has pictures.
        temperature: Of the probabilities of "mean" and "knn", above 0.
        regularisation: scikit-learn's C of "logistic", above 0: the larger, the closer the fit.
        size: As for `extract_features`.
        cache: As there.
        progress: As there.

    Attributes:
        classes_: (K,) the labels that there are, sorted.
        means_: (K, D) float32, mean of the unit vectors of each class.
        gallery_: (M, D) float32, the labelled pictures, unit length.
        labels_: (M,) their labels.
        skipped_: Pictures that could not be used.
        coefficients_: (K, D) float32 and `intercepts_` (K,), of "logistic" alone.
        promise_: The `Promise` behind "none of these"; None before `calibrate`.

    Source: nearest means: Snell et al. 2017, "Prototypical Networks for Few-shot Learning";
    logistic regression on frozen features: Oquab et al. 2024, section 7.1, and Tian et al. 2020,
    "Rethinking Few-Shot Image Classification: a Good Embedding Is All You Need?".

    Example:
        >>> from dinov2_helpers import load_dinov2, load_scenes
        >>> from dinov2_helpers.techniques import FewShot
        >>> toys = load_scenes("train", framing="portrait", surface="grass", class_=["cat", "mug"])
        >>> few = FewShot(load_dinov2("tiny")).fit(toys, toys.labels("class"))
        >>> few.predict(toys.images[:1]).labels[0] == toys.labels("class")[0]
        True
    """

    def __init__(
        self,
        dinov2: Model,
        head: Head = "mean",
        *,
        pooling: Pooling = "cls",
        k: int = 5,
        temperature: float = 0.07,
        regularisation: float = 100.0,
        size: int | None = None,
        cache: str | os.PathLike[str] | None = None,
        progress: bool | None = None,
    ) -> None:
        if head not in get_args(Head):
            raise ValueError(f"head={head!r}: choose one of {get_args(Head)}")
        if pooling not in get_args(Pooling):
            raise ValueError(f"pooling={pooling!r}: choose one of {get_args(Pooling)}")
        if k < 1:
            raise ValueError(f"k={k}: it must be 1 or more")
        for name, value in (("temperature", temperature), ("regularisation", regularisation)):
            if not value > 0:
                raise ValueError(f"{name}={value}: it must be above 0")
        self.dinov2 = dinov2
        self.head = head
        self.pooling = pooling
        self.k = k
        self.temperature = temperature
        self.regularisation = regularisation
        self.size = size
        self.cache = cache
        self.progress = progress

    def fit(self, pictures: Any, labels: Sequence[Any] | NDArray[Any] | None = None) -> "FewShot":
        """Learn from labelled pictures.

        Args:
            pictures: What `extract_features` takes, or its result, or `Embeddings`.
            labels: One for each picture. None: the folder that it lies in, as in "dog/1.jpg".

        Raises:
            FileNotFoundError, TypeError, ValueError: As `extract_features`.
            ValueError: Another number of labels than of pictures, one is missing, or all are of a
                single class; vectors that are not finite.
        """
        found = self._read(pictures)
        self.labels_ = labels_for(found, labels)
        self.classes_, self._class_of_ = classes_of(self.labels_)
        if len(self.classes_) < 2:
            raise ValueError(f"all pictures are {self.classes_.tolist()}: give two classes or more")
        self.gallery_ = unit(found.vectors)
        self.skipped_ = found.skipped
        self.promise_ = None
        members = [self.gallery_[self._class_of_ == k] for k in range(len(self.classes_))]
        self.means_ = np.stack([one.mean(0) for one in members])  # (K, D)
        self._smallest_ = min(len(one) for one in members)
        if self.head == "logistic":
            self.coefficients_, self.intercepts_ = self._regress()
        return self

    def _regress(self) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        from sklearn.linear_model import LogisticRegression

        model = LogisticRegression(C=self.regularisation, max_iter=2000)
        model.fit(self.gallery_, self._class_of_)
        coefficients, intercepts = model.coef_, model.intercept_
        if len(self.classes_) == 2:  # scikit-learn gives the odds of the second class alone
            coefficients = np.concatenate([0 * coefficients, coefficients])
            intercepts = np.concatenate([0 * intercepts, intercepts])
        return coefficients.astype(np.float32), intercepts.astype(np.float32)

    def predict(self, pictures: Any) -> Answers:
        """Return the class of each picture; `familiarity` is the cosine to the nearest mean.

        Args:
            pictures: As for `fit`.

        Raises:
            NotFittedError: Before `fit`.
            FileNotFoundError, TypeError, ValueError: As `extract_features`.
            ValueError: Vectors of another width than those of the fit, or not finite.
        """
        self._check_fitted()
        found = self._read_to_compare(pictures)
        vectors = unit(found.vectors)
        cosines = vectors @ unit(self.means_).T  # (N, K)
        shares = self._shares(vectors, cosines)
        return answer(found, self.classes_.tolist(), shares, cosines.max(1), self.promise_)

    def _shares(self, vectors: NDArray[np.float32], cosines: NDArray[np.float32]) -> NDArray[Any]:
        if self.head == "mean":
            return probabilities(cosines, self.temperature)
        if self.head == "logistic":
            return probabilities(vectors @ self.coefficients_.T + self.intercepts_, 1.0)
        found = search(vectors, self.gallery_, k=min(self.k, self._smallest_))
        return vote(found, self._class_of_, len(self.classes_), self.temperature)

    def save(self, folder: str | os.PathLike[str]) -> None:
        """Write the classifier into a folder; OSError: it cannot be written."""
        self._check_fitted()
        settings = {
            "head": self.head,
            "pooling": self.pooling,
            "k": self.k,
            "temperature": self.temperature,
            "regularisation": self.regularisation,
            "size": self.size,
            "classes": self.classes_.tolist(),
            "smallest": self._smallest_,
            "promise": self.promise_ and vars(self.promise_),
        }
        arrays: dict[str, NDArray[Any]] = {
            "gallery": self.gallery_,
            "class_of": self._class_of_,
            "means": self.means_,
        }
        if self.head == "logistic":
            arrays |= {"coefficients": self.coefficients_, "intercepts": self.intercepts_}
        save_object(folder, KIND, settings, arrays, {"dinov2": self.dinov2})

    @classmethod
    def load(cls, folder: str | os.PathLike[str], dinov2: Model | None = None) -> "FewShot":
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
            settings = dict(kept.settings)
            classes, smallest = settings.pop("classes"), settings.pop("smallest")
            promise = settings.pop("promise")
            loaded = cls(model, **settings)
            loaded.classes_ = np.array(classes)
            loaded._smallest_ = smallest
            loaded.promise_ = Promise(**promise) if promise else None
            loaded._class_of_ = kept.arrays["class_of"]
            loaded.labels_ = loaded.classes_[loaded._class_of_]
            loaded.gallery_ = kept.arrays["gallery"]
            loaded.means_ = kept.arrays["means"]
            loaded.skipped_ = ()
            if loaded.head == "logistic":
                loaded.coefficients_ = kept.arrays["coefficients"]
                loaded.intercepts_ = kept.arrays["intercepts"]
            return loaded

    def _read(self, pictures: Any, width: int | None = None) -> Vectors:
        reading = Reading(self.pooling, self.size, self.cache, self.progress)
        return vectors_of(self.dinov2, pictures, reading, width)

    def _read_to_compare(self, pictures: Any) -> Vectors:
        return self._read(pictures, self.gallery_.shape[1])

    def _check_fitted(self) -> None:
        if not hasattr(self, "gallery_"):
            raise NotFittedError("this FewShot has no classes yet: call fit(pictures, labels)")

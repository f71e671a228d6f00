"""What a classifier says of pictures."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from ..extraction import Skipped
from ..measure import Interval, share
from .promise import Promise, conformal_promise
from .vectors import Vectors, labels_for

Fitted = TypeVar("Fitted", bound="Classifier")


@dataclass(frozen=True, eq=False)
class Answers:
    """What is said of N pictures, in the order of the input, without those that cannot be read.

    Example:
        >>> from dinov2_helpers import load_clip, photographs
        >>> from dinov2_helpers.techniques import ZeroShot
        >>> answers = ZeroShot(load_clip("tiny"), ["cat", "mug"]).predict(photographs())
        >>> answers.probabilities.shape
        (13, 2)
    """

    labels: tuple[Any, ...]  # (N,), the most probable class of each; None: none of these
    classes: tuple[Any, ...]  # (K,), in the order of the columns below
    probabilities: NDArray[np.float32]  # (N, K), each row adds up to 1
    familiarity: NDArray[np.float32]  # (N,), cosine to what is known that is most alike
    index: NDArray[np.int64]  # (N,), position in the input
    names: tuple[str, ...]  # of the pictures, as in `Features`
    skipped: tuple[Skipped, ...]  # the pictures that could not be used

    def __len__(self) -> int:
        return len(self.labels)

    def hits(self, labels: Sequence[Any] | NDArray[Any] | None = None) -> NDArray[np.bool_]:
        """Return whether each picture was given its true label, (N,).

        Args:
            labels: One for each picture of the input, or for each that could be used; None: its
                folder. None among them is the truth of a picture that shows none of these.

        Raises:
            ValueError: Another number of labels.
        """
        truth = labels_for(
            Vectors(self.probabilities, self.index, self.names, self.skipped), labels
        )
        pairs = zip(self.labels, truth.tolist(), strict=True)
        return np.array([said == true for said, true in pairs], bool)

    def accuracy(self, labels: Sequence[Any] | NDArray[Any] | None = None) -> Interval:
        """Return the share of `hits` with its 95 % interval (Wilson)."""
        return share(self.hits(labels))


def answer(
    found: Vectors,
    classes: Sequence[Any],
    probabilities: NDArray[Any],
    familiarity: NDArray[Any],
    promise: Promise | None,
) -> Answers:
    """Take the most probable class of each picture, or none where it is less than familiar.

    Args:
        found: The pictures.
        classes: (K,).
        probabilities: (N, K).
        familiarity: (N,).
        promise: The threshold of familiarity; None: every picture is given a class.
    """
    best = probabilities.argmax(1)  # (N,)
    known = np.ones(len(best), bool) if promise is None else familiarity >= promise.threshold
    labels = [classes[k] if is_known else None for k, is_known in zip(best, known, strict=True)]
    return Answers(
        labels=tuple(labels),
        classes=tuple(classes),
        probabilities=probabilities.astype(np.float32),
        familiarity=familiarity.astype(np.float32),
        index=found.index,
        names=found.names,
        skipped=found.skipped,
    )


class Classifier:
    """What all classifiers of this room can do with their answers."""

    promise_: Promise | None = None

    def predict(self, pictures: Any) -> Answers:
        """Return what is said of each picture."""
        raise NotImplementedError

    def predict_proba(self, pictures: Any) -> NDArray[np.float32]:
        """Return the probabilities of `predict` alone, (N, K); its columns are the classes."""
        return self.predict(pictures).probabilities

    def score(self, pictures: Any, labels: Sequence[Any] | NDArray[Any] | None = None) -> Interval:
        """Return the accuracy with its 95 % interval (Wilson).

        Args:
            pictures: As for `predict`.
            labels: As for `Answers.hits`.
        """
        return self.predict(pictures).accuracy(labels)

    def calibrate(self: Fitted, pictures: Any, alpha: float = 0.05) -> Fitted:
        """Learn below which familiarity a picture shows none of these.

        Args:
            pictures: Held-out pictures that do show one of these, as for `predict`; their labels
                are not needed. Nothing may have been fitted on them.
            alpha: Share of such pictures that may be called none of these, between 0 and 1.

        Raises:
            ValueError: An impossible alpha.

        Warns:
            UserWarning: Fewer than 1 / alpha - 1 pictures, which cannot bear the promise.
        """
        self.promise_ = None
        self.promise_ = conformal_promise(self.predict(pictures).familiarity, alpha)
        return self

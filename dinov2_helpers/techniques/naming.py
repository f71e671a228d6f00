"""Pictures and names that share a space: cosines become answers."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..extraction import Embeddings
from .answers import Answers, answer
from .promise import Promise
from .vectors import Vectors


def probabilities(cosines: NDArray[Any], temperature: float) -> NDArray[np.float32]:
    """Return the softmax of cosines (..., K) divided by a temperature."""
    from scipy.special import softmax

    found = softmax(np.asarray(cosines, np.float64) / temperature, axis=-1)
    return np.asarray(found, np.float32)


def answer_by_names(
    found: Embeddings,
    names: Sequence[str],
    texts: NDArray[np.float32],
    temperature: float,
    promise: Promise | None = None,
) -> Answers:
    """Give each picture the name whose text is most alike, or none of them.

    The largest cosine is the familiarity: it tells what is none of these better than the largest
    probability does, which is large as soon as the other names fit even less.

    Args:
        found: N pictures, in the space of the texts.
        names: (K,).
        texts: (K, D), unit length.
        temperature: Of the probabilities.
        promise: The threshold of familiarity; None: every picture gets a name.
    """
    cosines = found.vectors @ texts.T  # (N, K)
    pictures = Vectors(found.vectors, found.index, found.names, found.skipped)
    shares = probabilities(cosines, temperature)
    return answer(pictures, names, shares, cosines.max(1), promise)

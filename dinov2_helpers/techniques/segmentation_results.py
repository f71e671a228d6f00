"""What a segmenter returns: masks, and how sure they are, in the pictures' own pixels."""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from ..extraction import Skipped
from .dense import Floats
from .things import Bools


@dataclass(frozen=True, eq=False)
class Segmentation:
    """The mask of a picture, in its own pixels."""

    name: str  # as in `Features`
    index: int  # position in the input
    mask: Bools = field(repr=False)  # (H, W)
    probability: Floats = field(repr=False)  # (H, W) in 0-1; above 0.5 is the mask
    turned: bool  # whether the other side than that of the fit was taken
    note: str  # which side was taken and why


@dataclass(frozen=True, eq=False)
class Segmentations:
    """The masks of N pictures in the order of the input, without those that cannot be used."""

    masks: tuple[Bools, ...] = field(repr=False)  # N of (H, W), each in its picture's own pixels
    names: tuple[str, ...]
    index: NDArray[np.int64]  # (N,), position in the input
    turned: Bools  # (N,), whether the other side than that of the fit was taken
    notes: tuple[str, ...]  # which side was taken and why
    skipped: tuple[Skipped, ...]

    def __len__(self) -> int:
        return len(self.masks)


@dataclass(frozen=True, eq=False)
class SoftMasks:
    """The same as probabilities."""

    probabilities: tuple[Floats, ...] = field(repr=False)  # N of (H, W) in 0-1
    names: tuple[str, ...]
    index: NDArray[np.int64]  # (N,), position in the input
    skipped: tuple[Skipped, ...]

    def __len__(self) -> int:
        return len(self.probabilities)

"""What a depth head answers, and how right it is."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..extraction import Skipped
from ..measure import Interval

Floats = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class DepthMaps:
    """Depth of N pictures, in the order of the input, without those that could not be read.

    Args:
        depth: N maps (H, W) float32 in the pictures' own pixels, above 0, in `unit`.
        unit: "metres", or "relative": right up to one factor for each picture.
        focal: (N,) focal length in pixels of each picture that its depth is for; NaN: none was
            given, so depth is for the camera of the training pictures.
        beyond: (N,) share of pixels, 0 to 1, whose depth, for the training camera, lies beyond the
            range that the head was fitted on, `DepthHead.range_`. That holds 99 % of the training
            pixels, so 0.01 is usual.
        unlike: (N,) share of patches, 0 to 1, that look unlike those of the training pictures. 0.01
            is usual, and from 0.2 on the depth is a guess, whatever it is. A low share promises
            nothing: smooth pictures of another world have it too.
        names: As in `Features`.
        index: (N,), position in the input.
        skipped: The pictures that could not be read.
    """

    depth: list[Floats]
    unit: str
    focal: Floats
    beyond: Floats
    unlike: Floats
    names: tuple[str, ...]
    index: NDArray[np.int64]
    skipped: tuple[Skipped, ...]

    def __len__(self) -> int:
        return len(self.depth)

    def __repr__(self) -> str:
        return f"depth of {len(self)} pictures in {self.unit}, {len(self.skipped)} skipped"


@dataclass(frozen=True, eq=False)
class DepthScores:
    """How right a depth head is on N pictures.

    Args:
        values: (N,) float64 by the names of `measure.depth_scores`, over all known pixels.
        mean: The mean of each over pictures, with its 95 % interval.
        given: What was fitted to the truth of each picture beforehand: "nothing" or "scale".
        names: Of the pictures.
        index: (N,), position in the input.
        skipped: Pictures that could not be read, or whose depth could not.
    """

    values: dict[str, NDArray[np.float64]]
    mean: dict[str, Interval]
    given: str
    names: tuple[str, ...]
    index: NDArray[np.int64]
    skipped: tuple[Skipped, ...]

    def __str__(self) -> str:
        return ", ".join(f"{name} {interval}" for name, interval in self.mean.items())

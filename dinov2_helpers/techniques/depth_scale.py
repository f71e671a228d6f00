"""Bring a depth map to metres by a few distances that were measured."""

import logging
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..measure import fit_scale, fit_scale_and_shift

log = logging.getLogger("dinov2_helpers")
Way = Literal["scale", "scale and shift"]
SPREAD = 1.25  # the farthest of the points over the nearest, below which a shift means nothing


@dataclass(frozen=True, eq=False)
class AlignedDepth:
    """A depth map that agrees with measured distances.

    Args:
        depth: (H, W) float32, in the unit of the distances. NaN where the fit puts a pixel beyond
            infinity, which a shift can do.
        way: "scale": depth is `scale` times what was predicted. "scale and shift": 1 / depth is
            `scale` / predicted + `shift`.
        scale: As above.
        shift: As above, in 1 / unit; 0 for "scale".
        residuals: (K,) measured over aligned depth at each point, 1 where they agree.
        spare: Points beyond those that the fit needs: 0 says that the residuals show nothing.
        note: What to know of the fit, in a sentence; "" if there is nothing.
    """

    depth: NDArray[np.float32]
    way: Way
    scale: float
    shift: float
    residuals: NDArray[np.float64]
    spare: int
    note: str


def align_depth(
    depth: ArrayLike,
    distances: ArrayLike,
    pixels: ArrayLike | None = None,
    *,
    way: Way | None = None,
) -> AlignedDepth:
    """Fit a depth map to a few distances that were measured in the scene.

    By a scale, from one point on: the median of the measured depths over that of the predicted ones
    at the same points, which some bad points do not move. By scale and shift, from two points on
    that differ in depth: least squares in disparity, 1 / depth (Ranftl et al. 2020, section 5), for
    relative depth whose zero is unknown; a bad point moves it.

    Args:
        depth: (H, W), above 0 at the points.
        distances: (K,) measured along the optical axis (`Camera.depth_along_axis` turns a tape's
            reading into that); or a map (H, W) that is NaN where nothing was measured.
        pixels: (K, 2), x and y of each point, the centre of the top left pixel being (0.5, 0.5);
            None if `distances` is a map.
        way: None: "scale and shift" if three points or more bear it, else "scale"; the note says
            why.

    Raises:
        ValueError: No distance, or one that is not above 0; a point outside the picture or where
            no depth was predicted; or "scale and shift" by points that leave it open: fewer than
            two, all at about one depth, or such that near and far would be exchanged.

    Example:
        >>> predicted = np.array([[1.0, 2.0], [3.0, 4.0]])
        >>> aligned = align_depth(predicted, [2.0, 6.0, 8.0], [[0.5, 0.5], [0.5, 1.5], [1.5, 1.5]])
        >>> aligned.depth.tolist()
        [[2.0, 4.0], [6.0, 8.0]]
    """
    values = np.asarray(depth, np.float64)
    guess, true = _at_points(values, distances, pixels)
    if way not in (None, "scale", "scale and shift"):
        raise ValueError(f"way={way!r}: choose 'scale', 'scale and shift' or None")
    shift_open = _why_open(guess, true)
    if way == "scale and shift" and shift_open:
        raise ValueError(f"scale and shift are under-determined: {shift_open}")
    if way is None:
        bears = not shift_open and len(guess) > 2
        way = "scale and shift" if bears else "scale"
    if way == "scale":
        scale, shift = fit_scale(guess, true), 0.0
        fitted, at_points = scale * values, scale * guess
    else:
        scale, shift = fit_scale_and_shift(guess, true)
        fitted, at_points = (_shifted(one, scale, shift) for one in (values, guess))
    spare = len(guess) - (1 if way == "scale" else 2)
    note = _note(fitted, values, spare, shift_open if way == "scale" else "")
    if note:
        log.warning("Depth aligned by %s: %s", way, note)
    return AlignedDepth(fitted.astype(np.float32), way, scale, shift, true / at_points, spare, note)


def _at_points(
    depth: NDArray[np.float64], distances: ArrayLike, pixels: ArrayLike | None
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return predicted and measured depth of each point, (K,) both."""
    true = np.asarray(distances, np.float64)
    if pixels is None:
        if true.shape != depth.shape:
            raise ValueError(
                f"distances of shape {true.shape} without pixels: a map of {depth.shape} is needed"
            )
        rows = np.nonzero(np.isfinite(true))
        true = true[rows]
    else:
        places = np.asarray(pixels, np.float64)
        true = np.atleast_1d(true)
        if places.shape != (len(true), 2):
            raise ValueError(f"pixels of shape {places.shape} for {len(true)} distances: (K, 2)")
        columns, lines = np.floor(places).astype(int).T
        inside = (columns >= 0) & (columns < depth.shape[1])
        inside &= (lines >= 0) & (lines < depth.shape[0])
        if not inside.all():
            outside = places[~inside][0].tolist()
            raise ValueError(f"pixels: {outside} is outside a picture of {depth.shape[::-1]} px")
        rows = (lines, columns)
    guess = depth[rows]
    if not len(true):
        raise ValueError("distances: none is given")
    if not (np.isfinite(true).all() and (true > 0).all()):
        raise ValueError("distances: one is not above 0")
    if not (np.isfinite(guess).all() and (guess > 0).all()):
        raise ValueError("pixels: no depth was predicted at one of them")
    return guess, true


def _why_open(guess: NDArray[np.float64], true: NDArray[np.float64]) -> str:
    """Say why these points cannot give a shift; "" if they can."""
    if len(guess) < 2:
        return "one point gives a scale, and not a shift"
    for kind, values in (("predicted", guess), ("measured", true)):
        if values.max() < SPREAD * values.min():
            return (
                f"all points lie at about the same {kind} depth ({values.min():.3g} to "
                f"{values.max():.3g}): measure one that is near and one that is far"
            )
    scale, _ = fit_scale_and_shift(guess, true)
    if scale <= 0:
        return "what is measured as nearer was predicted as farther"
    return ""


def _shifted(depth: NDArray[np.float64], scale: float, shift: float) -> NDArray[np.float64]:
    with np.errstate(divide="ignore", invalid="ignore"):
        disparity = scale / depth + shift
        found: NDArray[np.float64] = np.where(disparity > 0, 1 / disparity, np.nan)
    return found


def _note(
    fitted: NDArray[np.float64], depth: NDArray[np.float64], spare: int, shift_open: str
) -> str:
    said = []
    if shift_open:
        said.append(f"no shift, for {shift_open}")
    if spare == 0:
        said.append("no point is left over to check the fit by")
    lost = float(np.mean(np.isfinite(depth) & ~np.isfinite(fitted)))
    if lost:
        said.append(f"{lost:.1%} of the pixels would lie beyond infinity, and are NaN")
    return "; ".join(said)

"""How sure a share is that was measured on some hundred pictures."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

Z = 1.959964  # 97.5 % point of the normal distribution


def wilson(hits: int, n: int) -> tuple[float, float]:
    """Return the 95 % interval of a share (Wilson 1927), which stays within 0 and 1.

    Args:
        hits: Number of successes.
        n: Number of trials.

    Raises:
        ValueError: There was no trial.

    Example:
        >>> wilson(0, 10)
        (0.0, 0.2775)
    """
    if n < 1:
        raise ValueError("no trials, so no share")
    share = hits / n
    centre = share + Z**2 / (2 * n)
    half = Z * math.sqrt(share * (1 - share) / n + Z**2 / (4 * n**2))
    low, high = ((centre + sign * half) / (1 + Z**2 / n) for sign in (-1, 1))
    return round(max(0.0, low), 4), round(min(1.0, high), 4)


def shares(hits: Mapping[str, NDArray[Any]]) -> dict[str, float]:
    """Return the share of hits by name and, as "NAME_low" and "NAME_high", its interval.

    Args:
        hits: Of each name, booleans ``(n,)``.
    """
    results: dict[str, float] = {}
    for name, found in hits.items():
        low, high = wilson(int(np.count_nonzero(found)), len(found))
        results |= {name: round(float(np.mean(found)), 4), f"{name}_low": low, f"{name}_high": high}
    return results


def with_interval(results: Mapping[str, float], name: str) -> str:
    """Write a share for a table, with its interval if it has one: "0.930 (0.892 to 0.955)"."""
    if f"{name}_low" not in results:
        return f"{results[name]:.3f}"
    low, high = results[f"{name}_low"], results[f"{name}_high"]
    return f"{results[name]:.3f} ({low:.3f} to {high:.3f})"

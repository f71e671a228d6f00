"""How sure a share is that was measured on some hundred pictures."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dinov2_helpers.measure import Interval, share


def flat(name: str, interval: Interval) -> dict[str, float]:
    """Return a value by its name and, as "NAME_low" and "NAME_high", its interval."""
    value, low, high = (round(end, 4) for end in interval)
    return {name: value, f"{name}_low": low, f"{name}_high": high}


def jackknife(score: Callable[[NDArray[np.int64]], float], n: int) -> Interval:
    """Return a score and the 95 % interval of the jackknife (Efron 1982, section 3).

    For scores that new draws with repeated pictures distort, as a Fréchet distance is: each draw
    here leaves out one picture.

    Args:
        score: Of the rows that are kept, of 0 to n - 1.
        n: Number of things that were sampled.
    """
    rows = np.arange(n)
    without = np.array([score(np.delete(rows, one)) for one in rows])
    error = np.sqrt((n - 1) / n * ((without - without.mean()) ** 2).sum())
    value = score(rows)
    return Interval(value, value - 1.96 * error, value + 1.96 * error)


def shares(hits: Mapping[str, NDArray[Any]]) -> dict[str, float]:
    """Return the share of hits by name and, as "NAME_low" and "NAME_high", its interval.

    Args:
        hits: Of each name, booleans ``(n,)``.
    """
    results: dict[str, float] = {}
    for name, found in hits.items():
        results |= flat(name, share(found))
    return results


def with_interval(results: Mapping[str, float], name: str) -> str:
    """Write a share for a table, with its interval if it has one: "0.930 (0.892 to 0.955)"."""
    if f"{name}_low" not in results:
        return f"{results[name]:.3f}"
    low, high = results[f"{name}_low"], results[f"{name}_high"]
    return f"{results[name]:.3f} ({low:.3f} to {high:.3f})"

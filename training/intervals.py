"""How sure a share is that was measured on some hundred pictures."""

from collections.abc import Mapping
from typing import Any

from numpy.typing import NDArray

from dinov2_helpers.measure import share


def shares(hits: Mapping[str, NDArray[Any]]) -> dict[str, float]:
    """Return the share of hits by name and, as "NAME_low" and "NAME_high", its interval.

    Args:
        hits: Of each name, booleans ``(n,)``.
    """
    results: dict[str, float] = {}
    for name, found in hits.items():
        value, low, high = (round(end, 4) for end in share(found))
        results |= {name: value, f"{name}_low": low, f"{name}_high": high}
    return results


def with_interval(results: Mapping[str, float], name: str) -> str:
    """Write a share for a table, with its interval if it has one: "0.930 (0.892 to 0.955)"."""
    if f"{name}_low" not in results:
        return f"{results[name]:.3f}"
    low, high = results[f"{name}_low"], results[f"{name}_high"]
    return f"{results[name]:.3f} ({low:.3f} to {high:.3f})"

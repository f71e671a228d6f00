"""Headlines against their own past: none may fall unseen.

notebooks/results/headlines.json holds the best value that each headline has ever had. Executing the
notebooks raises it and never lowers it. Where a later value is lower, a person sets "best" to it by
hand and says why in "lowered"; the words stay there for whoever asks.
"""

from collections.abc import Mapping
from typing import Any

from tools import pairing, recorded
from tools.project import Project


def read(project: Project) -> dict[str, Any]:
    """The best values so far, by key."""
    return recorded.read(project.results / "headlines.json")


def headline(project: Project, stem: str) -> str:
    """The recorded number that stands for a notebook; "" while its source names none."""
    return next(iter(pairing.read_source(project, stem).metadata.get("headline", {})), "")


def raised(best: Mapping[str, Any], key: str, value: float) -> dict[str, Any]:
    """The best values after a new one of a headline, which may be better."""
    entry = {"best": value, **best.get(key, {})}
    entry["best"] = max(entry["best"], value)
    return {**best, key: entry}


def fallen(best: Mapping[str, Any], numbers: Mapping[str, float]) -> list[str]:
    """Headlines that are gone, or lower than they were, by more than machines differ."""
    problems = []
    for key, entry in sorted(best.items()):
        if key not in numbers:
            problems.append(f"{key} is no longer recorded; its best was {entry['best']:g}")
        elif numbers[key] < recorded.lowest(entry["best"]):
            problems.append(f"{key} fell from {entry['best']:g} to {numbers[key]:g}")
    return problems

"""Numbers in texts for teachers: they are recorded by the notebooks, and filled in by code.

`{01.knn_class:.0%}` in a text stands for the recorded number `01.knn_class`, as "91%". A condition
such as `01.knn_class > 01.knn_class_pixels` says on what a sentence rests.
"""

import operator
import re
from collections.abc import Mapping

from tools import pairing, recorded
from tools.project import Project

_PLACE = re.compile(r"\{(?P<name>[A-Za-z0-9_]+\.[\w.]+)(?::(?P<format>[^{}]*))?\}")
_CONDITION = re.compile(r"(?P<left>.+) (?P<sign><=|>=|<|>) (?P<right>.+)")
_NUMBER = re.compile(r"\d+(?:\.\d+)?")
_SIGNS = {"<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge}


def numbers(project: Project) -> dict[str, float]:
    """The recorded numbers of all notebooks, by name."""
    return recorded.read(project.results / f"{pairing.COMMITTED_PROFILE}.json")


def fill(text: str, values: Mapping[str, float | str]) -> str:
    """The text with a number in each of its places.

    Raises:
        ValueError: no number has the name of a place.
    """

    def value(place: re.Match[str]) -> str:
        return format(_value(place["name"], values), place["format"] or "")

    return _PLACE.sub(value, text)


def without_places(text: str) -> str:
    """The text with nothing in its places: what was typed."""
    return _PLACE.sub(" ", text)


def holds(condition: str, values: Mapping[str, float | str]) -> bool:
    """Whether a condition is so.

    Args:
        condition: two sides, as "02.bridge_top1 > 0.8"; a side may be a difference, "NAME - OTHER".
        values: the numbers by name.

    Raises:
        ValueError: it is no condition, or no number has such a name.
    """
    found = _CONDITION.fullmatch(condition)
    if found is None:
        raise ValueError(f'{condition!r} is no condition: write it as "NAME > OTHER"')
    left, right = (_side(found[side], values) for side in ("left", "right"))
    return bool(_SIGNS[found["sign"]](left, right))


def _side(text: str, values: Mapping[str, float | str]) -> float:
    first, *others = [_term(term, values) for term in text.split(" - ")]
    return first - sum(others)


def _term(text: str, values: Mapping[str, float | str]) -> float:
    return float(text if _NUMBER.fullmatch(text) else _value(text, values))


def _value(name: str, values: Mapping[str, float | str]) -> float | str:
    if name not in values:
        raise ValueError(f"no notebook has recorded {name}: see notebooks/results")
    return values[name]

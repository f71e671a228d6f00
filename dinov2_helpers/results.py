"""Numbers and claims that the notebooks measure, kept in `notebooks/results`, and their display."""

import json
import math
import os
import re
from numbers import Integral
from pathlib import Path
from typing import Any, Literal, get_args

from .models import current_profile
from .writing import write_whole

Verdict = Literal["holds", "holds in part", "does not hold"]


def results_dir() -> Path:
    """Return the folder that DINOV2_RESULTS names, else the checkout's, else ./results."""
    if named := os.environ.get("DINOV2_RESULTS"):
        return Path(named)
    notebooks = Path(__file__).resolve().parents[1] / "notebooks"
    return notebooks / "results" if notebooks.is_dir() else Path("results")


def _store(name: str, key: str, value: Any) -> None:
    if not re.fullmatch(r"\d\d\.[a-z][a-z0-9_]*", key):
        raise ValueError(f"key {key!r} is not a notebook's number and a name, as '01.knn_class'")
    path = results_dir() / f"{name}.json"
    known = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    text = json.dumps(known | {key: value}, indent=2, sort_keys=True, ensure_ascii=False)
    write_whole(path, f"{text}\n".encode())


def record(key: str, value: float) -> float:
    """Store a number, as "01.knn_class", with four significant digits if not whole; return that.

    A key of another form, or a number that is not finite, is a ValueError.
    """
    number = int(value) if isinstance(value, Integral) else float(f"{float(value):.4g}")
    if not math.isfinite(number):
        raise ValueError(f"{key} is {number}: only finite numbers are results")
    _store(current_profile().name, key, number)
    return number


def claim(key: str, claim: str, *, how: str, measured: str, verdict: Verdict, cell: str) -> None:
    """Store a row of the claims ledger.

    The `key` is as "01.geometric_consistency"; `claim` is what the article says, `how` it was
    tested, `measured` the result as text made from computed values, and `cell` the heading of the
    notebook's section that measures it. Another form of key, or verdict, is a ValueError.
    """
    if verdict not in get_args(Verdict):
        raise ValueError(f"verdict {verdict!r} of {key}: choose one of {get_args(Verdict)}")
    row = {"claim": claim, "how": how, "measured": measured, "verdict": verdict, "cell": cell}
    _store(f"{current_profile().name}_claims", key, row)


def say(text: str, **values: Any) -> None:
    """Display Markdown with computed values in it: `say("k-NN finds {acc:.0%}", acc=acc)`."""
    from IPython.display import Markdown, display

    display(Markdown(text.format(**values) if values else text))

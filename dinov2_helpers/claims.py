"""Numbers and claims that the notebooks measure, kept in `results_dir()`, and their display."""

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
LOCK_SECONDS = 60  # a result is written in milliseconds: whoever holds a file longer hangs


def results_dir() -> Path:
    """Return the folder that numbers and claims are kept in.

    Returns:
        The folder that DINOV2_RESULTS names; else, in a checkout of the project, `build/results`,
        which git ignores, so that working on a notebook changes no committed number; else
        `results` in the current folder.
    """
    named = os.environ.get("DINOV2_RESULTS")
    if named:
        return Path(named)
    checkout = Path(__file__).resolve().parents[1]
    if (checkout / "notebooks").is_dir():
        return checkout / "build" / "results"
    return Path("results")


def _store(name: str, key: str, value: Any) -> None:
    """Add an entry to a file of results; others may add theirs to the same file meanwhile."""
    from filelock import FileLock

    if not re.fullmatch(r"\d\d\.[a-z][a-z0-9_]*", key):
        raise ValueError(f"key {key!r} is not a notebook's number and a name, as '01.knn_class'")
    path = results_dir() / f"{name}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(path.with_suffix(".lock"), timeout=LOCK_SECONDS):
        known = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
        text = json.dumps(known | {key: value}, indent=2, sort_keys=True, ensure_ascii=False)
        write_whole(path, f"{text}\n".encode())


def record(key: str, value: float) -> float:
    """Store a number that a notebook measured, with four significant digits if not whole.

    Args:
        key: The notebook's number and a name, as "01.knn_class".
        value: A finite number.

    Returns:
        The number as it is stored.

    Raises:
        ValueError: The key has another form, or the number is not finite.
    """
    number = int(value) if isinstance(value, Integral) else float(f"{float(value):.4g}")
    if not math.isfinite(number):
        raise ValueError(f"{key} is {number}: only finite numbers are results")
    _store(current_profile().name, key, number)
    return number


def claim(key: str, claim: str, *, how: str, measured: str, verdict: Verdict, cell: str) -> None:
    """Store a row of the claims ledger.

    Args:
        key: The notebook's number and a name, as "01.geometric_consistency".
        claim: What the article says.
        how: How it was tested.
        measured: The result, as text made from computed values.
        verdict: "holds", "holds in part" or "does not hold".
        cell: Heading of the notebook's section that measures it.

    Raises:
        ValueError: The key or the verdict has another form.
    """
    if verdict not in get_args(Verdict):
        raise ValueError(f"verdict {verdict!r} of {key}: choose one of {get_args(Verdict)}")
    row = {"claim": claim, "how": how, "measured": measured, "verdict": verdict, "cell": cell}
    _store(f"{current_profile().name}_claims", key, row)


def decide(*, holds: Any, fails: Any) -> Verdict:
    """Return the verdict on a claim: "holds", "does not hold", or "holds in part" between the two.

    Args:
        holds: Whether what was measured bears the claim out.
        fails: Whether it refutes it.

    Raises:
        ValueError: It does both: the rule is at odds with itself.
    """
    if holds and fails:
        raise ValueError("a claim cannot hold and fail: mend the rule")
    if holds:
        return "holds"
    return "does not hold" if fails else "holds in part"


def conclude(condition: Any, sentence: str) -> None:
    """Display a sentence that states a result, if its condition holds.

    Where it does not, as it may with another model, the sentence is displayed as one that is not
    so here. On the embedded models, in tests, that is an error: DINOV2_STRICT=1 asks for it.

    Args:
        condition: What makes the sentence true; anything with a truth value.
        sentence: Markdown.

    Raises:
        AssertionError: The condition does not hold, and DINOV2_STRICT is 1.
    """
    if condition:
        say(sentence)
        return
    if os.environ.get("DINOV2_STRICT") == "1":
        raise AssertionError(f"this is no longer so: {sentence}")
    say(f"*Not so with the models of profile {current_profile().name}:* ~~{sentence}~~")


def say(text: str, **values: Any) -> None:
    """Display Markdown with computed values in it.

    Args:
        text: Markdown; with values, a template as `str.format` takes it.
        **values: What its braces stand for.

    Example:
        `say("k-NN finds **{accuracy:.0%}**", accuracy=0.874)`
    """
    from IPython.display import Markdown, display

    display(Markdown(text.format(**values) if values else text))

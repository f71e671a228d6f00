"""The quiz of a lesson as a cell shows it: each answer opens to whether it is right, and why.

The questions come with the package, one file for each lesson, with the numbers that the embedded
models give. What is shown is HTML that browsers unfold by themselves: it needs no script, no kernel
and no network, so it answers in a saved notebook, on a page and in JupyterLab alike.
"""

import html
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

LETTERS = "abcd"
_FOLDER = Path(__file__).parent / "questions"
_EMPHASIS = re.compile(r"\*([^*]+)\*")
# No background, so that both hold on light and on dark; the words say the same as the colours.
_RIGHT = "#009E73"
_WRONG = "#D55E00"


@dataclass(frozen=True)
class Option:
    """An answer to choose.

    Attributes:
        text: the answer.
        right: whether it is the right one.
        why: what leads people to it; "" where nothing is to be said.
    """

    text: str
    right: bool
    why: str = ""


@dataclass(frozen=True)
class Question:
    """A question with one right answer.

    Attributes:
        ask: the question.
        options: the answers in the order in which they are shown.
        why: why the right one is right.
    """

    ask: str
    options: tuple[Option, ...]
    why: str

    @property
    def right(self) -> int:
        """Place of the right answer among the options, from 0."""
        (place,) = (place for place, option in enumerate(self.options) if option.right)
        return place


class Quiz:
    """The questions of a lesson, which Jupyter shows with answers to choose.

    A click on an answer opens it, and so does Enter once Tab has reached it. Where there is no
    HTML, the questions are text, with the right letters in the last line.

    Args:
        lesson: Number of the lesson, as "01".

    Attributes:
        title: The lesson's title.
        questions: The questions, in their order.

    Raises:
        ValueError: No lesson has this number.

    Example:
        >>> quiz = Quiz("01")
        >>> quiz.title, len(quiz.questions)
        ('1. Feature space', 8)
        >>> quiz.questions[1].options[quiz.questions[1].right].text
        'It does not hold.'
    """

    def __init__(self, lesson: str) -> None:
        known = sorted(path.stem for path in _FOLDER.glob("*.json"))
        if lesson not in known:
            raise ValueError(f"no lesson {lesson!r}: choose one of {', '.join(known)}")
        entry = json.loads((_FOLDER / f"{lesson}.json").read_text(encoding="utf-8"))
        self.lesson = lesson
        self.title: str = entry["title"]
        self.questions = [_question(one) for one in entry["questions"]]

    def _repr_html_(self) -> str:
        return as_html(self.title, f"quiz-{self.lesson}", self.questions)

    def __repr__(self) -> str:
        return as_text(self.title, self.questions)


def _question(entry: Mapping[str, Any]) -> Question:
    options = tuple(Option(**option) for option in entry["options"])
    return Question(entry["ask"], options, entry["why"])


def as_html(title: str, name: str, questions: Sequence[Question]) -> str:
    """HTML of questions: each answer is a `<details>` that opens to whether it is right.

    Args:
        title: What the questions are on.
        name: Begins the names that hold the answers of a question together: a browser that knows
            them closes one answer when the next is opened.
        questions: The questions; `code` and *emphasis* in them are shown, all else is plain text.
    """
    parts = [
        f'<section aria-label="Quiz: {html.escape(title)}">',
        "<p><strong>Quiz.</strong> Choose an answer: it says whether it is right, and why. "
        "The numbers are the evidence's, often of more pictures than the lesson, so they may "
        "differ a little from those above.</p>",
    ]
    for number, question in enumerate(questions, start=1):
        parts.append(f"<p><strong>{number}.</strong> {_inline(question.ask)}</p>")
        for letter, option in zip(LETTERS, question.options, strict=False):
            parts.append(_answer(f"{name}-{number}", letter, option, question.why))
    return "\n".join([*parts, "</section>"])


def _answer(name: str, letter: str, option: Option, why_right: str) -> str:
    verdict, colour, why = "Wrong.", _WRONG, option.why
    if option.right:
        verdict, colour, why = "Right.", _RIGHT, why_right
    box = f"border-left: 4px solid {colour}; margin: 4px 0 8px 16px; padding-left: 8px"
    explained = f"<strong>{verdict}</strong> {_inline(why)}".strip()
    return (
        f'<details name="{html.escape(name)}" style="margin-left: 16px">'
        f'<summary style="cursor: pointer"><strong>{letter}.</strong> {_inline(option.text)}'
        f'</summary><p style="{box}">{explained}</p></details>'
    )


def _inline(markdown: str) -> str:
    """HTML of a text with `code` and *emphasis*; every other sign stands for itself."""
    parts = []
    for place, part in enumerate(markdown.split("`")):
        safe = html.escape(part)
        if place % 2:  # what stands between two backticks
            parts.append(f"<code>{safe}</code>")
        else:
            parts.append(_EMPHASIS.sub(r"<em>\1</em>", safe))
    return "".join(parts)


def as_text(title: str, questions: Sequence[Question]) -> str:
    """Plain text of questions, with the letters of the right answers in the last line."""
    lines = [f"Quiz. {title}"]
    right = []
    for number, question in enumerate(questions, start=1):
        lines += ["", f"{number}. {question.ask}"]
        for letter, option in zip(LETTERS, question.options, strict=False):
            lines.append(f"   {letter}. {option.text}")
        right.append(f"{number} {LETTERS[question.right]}")
    return "\n".join([*lines, "", f"Right: {', '.join(right)}"])

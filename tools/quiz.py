"""The quiz: eight questions for each lesson, in its notebook, on docs/quiz.md and for Moodle.

    python -m tools.quiz --gift quiz.gift [LESSON...]

writes the questions of all lessons, or of those whose names begin so (as 01), in GIFT, the format
that Moodle imports (https://docs.moodle.org/en/GIFT_format). From the same questions `python -m
tools.readme` makes docs/quiz.md, the files from which a lesson's last but one cell shows them
(`dinov2_helpers.quiz`), and the output of that cell in the committed notebook: it is made anew when
a number has changed, without the lesson being executed.

The questions of a lesson are in notebooks/quiz/NN_name.toml. One on a claim of the ledger names the
claim, the verdict that its answer explains, and what leads people to each of the two others; it may
have a `note`, which follows the claim in the question:

    [[question]]
    claim = "01.tsne_of_three"
    verdict = "does not hold"
    wrong = [["holds", "what leads there"], ["holds in part", "..."]]
    why = "..."

Any other has a right answer and wrong ones, each with what leads people there:

    [[question]]
    ask = "..."
    right = "..."
    wrong = [["a wrong answer", "what leads there"], ["another", "..."]]
    why = "..."
    holds = ["01.knn_class > 01.knn_class_pixels"]

Numbers stand in places such as {01.knn_class:.0%}, see `tools.quoted`; `holds` are conditions on
them without which the answer would be another. A verdict or a condition that is no longer so is an
error.
"""

import argparse
import hashlib
import json
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from html import escape
from pathlib import Path
from typing import Any

import nbformat
from nbformat import NotebookNode

from dinov2_helpers.quiz import LETTERS, Option, Question, as_html, as_text
from tools import pairing, quoted, recorded
from tools.project import Project, read_toml

QUESTIONS = 8  # for each lesson
VERDICTS = {
    "holds": "It holds.",
    "holds in part": "It holds in part.",
    "does not hold": "It does not hold.",
}
TAG = "quiz"  # of the cell of a lesson that shows its quiz
_GIFT_SIGNS = re.compile(r"[\\~=#{}:]")


def path_of(project: Project, stem: str) -> Path:
    """The file with the questions of a lesson."""
    return project.root / "notebooks" / "quiz" / f"{stem}.toml"


def questions(project: Project, stem: str) -> list[Question]:
    """The questions of a lesson, with the recorded numbers in them.

    Args:
        project: the checkout.
        stem: name of the lesson, as "01_feature_space".

    Raises:
        ValueError: a question is not whole, or what it says is no longer so.
    """
    path = path_of(project, stem)
    numbers = quoted.numbers(project)
    _, claims = recorded.files(pairing.COMMITTED_PROFILE)
    ledger = recorded.read(project.results / claims)
    made = []
    for number, entry in enumerate(read_toml(path)["question"], start=1):
        try:
            if "claim" in entry:
                made.append(_on_claim(entry, ledger, numbers))
            else:
                made.append(_with_answers(entry, numbers))
        except (KeyError, ValueError) as error:
            raise ValueError(f"{path.name}, question {number}: {error}") from error
    return made


def _on_claim(
    entry: Mapping[str, Any], ledger: Mapping[str, Any], numbers: Mapping[str, float]
) -> Question:
    row = ledger[entry["claim"]]
    if row["verdict"] != entry["verdict"]:
        raise ValueError(f"{entry['claim']} {row['verdict']} by now, not: {entry['verdict']}")
    led = dict(entry["wrong"])
    if {*led, row["verdict"]} != set(VERDICTS):
        raise ValueError(
            f"of {entry['claim']} the wrong verdicts are not the two others: {list(led)}"
        )
    options = []
    for verdict, text in VERDICTS.items():
        why = _filled(entry, led.get(verdict, ""), numbers)
        options.append(Option(text, verdict == row["verdict"], why))
    note = f" {entry['note']}" if "note" in entry else ""
    end = "" if row["measured"].endswith((".", ".)")) else "."
    return Question(
        ask=f"The article says: *{row['claim']}.*{note} What came out?",
        options=tuple(options),
        why=f"{_filled(entry, entry['why'], numbers)} Measured: {row['measured']}{end}",
    )


def _with_answers(entry: Mapping[str, Any], numbers: Mapping[str, float]) -> Question:
    options = [Option(_filled(entry, entry["right"], numbers), True)]
    for text, why in entry["wrong"]:
        options.append(Option(_filled(entry, text, numbers), False, _filled(entry, why, numbers)))
    # an order that is nobody's choice, and the same on every machine
    options.sort(key=lambda option: hashlib.sha256(option.text.encode()).digest())
    return Question(
        ask=_filled(entry, entry["ask"], numbers),
        options=tuple(options),
        why=_filled(entry, entry["why"], numbers),
    )


def _filled(entry: Mapping[str, Any], text: str, numbers: Mapping[str, float]) -> str:
    """A text of a question in one line, if all that the question rests on is so."""
    for condition in entry.get("holds", ()):
        if not quoted.holds(condition, numbers):
            raise ValueError(f"it is no longer so that {condition}")
    return " ".join(quoted.fill(text, numbers).split())


def passage(project: Project, stem: str) -> str:
    """Markdown of the questions of a lesson, each with its answer folded away."""
    title, _ = pairing.title_and_promise(pairing.read_source(project, stem))
    parts = [f"## {title}", f"[The lesson](../notebooks/{stem}.ipynb)"]
    for number, question in enumerate(questions(project, stem), start=1):
        parts += _shown(number, question)
    return "\n\n".join(parts)


def _shown(number: int, question: Question) -> list[str]:
    lettered = list(zip(LETTERS, question.options, strict=False))
    letter = LETTERS[question.right]
    lines = [f"- **{mark}.** {option.text}" for mark, option in lettered]
    led = [f"- {mark}: {option.why}" for mark, option in lettered if option.why]
    answer = [f"**{letter}.** {question.why}", *(["\n".join(led)] if led else [])]
    summary = f"Answer to question {number}"
    return [
        f"**{number}.** {question.ask}",
        "\n".join(lines),
        f"<details><summary>{escape(summary)}</summary>",
        *answer,
        "</details>",
    ]


def shipped(project: Project, stem: str) -> Path:
    """The file from which the package shows the quiz of a lesson."""
    return project.root / "dinov2_helpers" / "questions" / f"{stem[:2]}.json"


def as_shipped(project: Project, stem: str) -> str:
    """What is to be in that file: the lesson's title and its questions, as JSON."""
    title, _ = pairing.title_and_promise(pairing.read_source(project, stem))
    entries = [asdict(question) for question in questions(project, stem)]
    return json.dumps({"title": title, "questions": entries}, indent=2, ensure_ascii=False) + "\n"


def renewed(project: Project, stem: str) -> NotebookNode | None:
    """The committed notebook with its quiz as it is now; None if nothing is to be changed.

    A cell that was not executed yet stays without an output.
    """
    if not project.notebook(stem).exists():
        return None
    notebook = pairing.read_notebook(project, stem)
    title, _ = pairing.title_and_promise(pairing.read_source(project, stem))
    asked = questions(project, stem)
    data = {
        "text/html": as_html(title, f"quiz-{stem[:2]}", asked),
        "text/plain": as_text(title, asked),
    }
    changed = False
    for cell in notebook.cells:
        if TAG in cell.metadata.get("tags", ()):
            for output in cell.outputs:
                changed = changed or output.data != data
                output.data = nbformat.from_dict(data)
    return notebook if changed else None


def gift(project: Project, stems: Sequence[str]) -> str:
    """The questions of lessons in GIFT, one category for each lesson."""
    parts = []
    for stem in stems:
        title, _ = pairing.title_and_promise(pairing.read_source(project, stem))
        parts.append(f"$CATEGORY: DINOv2 in Practice/{title}")
        for number, question in enumerate(questions(project, stem), start=1):
            parts.append(_in_gift(f"{stem[:2]}, question {number}", question))
    return "\n\n".join(parts) + "\n"


def _in_gift(title: str, question: Question) -> str:
    lines = [f"::{_escaped(title)}::[markdown]{_escaped(question.ask)} {{"]
    for option in question.options:
        why = question.why if option.right else option.why
        feedback = f" #{_escaped(why)}" if why else ""
        lines.append(f"\t{'=' if option.right else '~'}{_escaped(option.text)}{feedback}")
    lines += [f"\t####{_escaped(question.why)}", "}"]
    return "\n".join(lines)


def _escaped(text: str) -> str:
    """A text in which the signs of GIFT stand for themselves."""
    return _GIFT_SIGNS.sub(lambda sign: f"\\{sign[0]}", text)


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line: see the module's text."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("lessons", nargs="*", help="as 01; none: all")
    parser.add_argument("--gift", type=Path, required=True, metavar="FILE", help="for Moodle")
    options = parser.parse_args(arguments)
    project = Project()
    stems = [stem for stem in project.chosen(options.lessons) if stem in project.lessons()]
    options.gift.write_text(gift(project, stems), encoding="utf-8", newline="\n")
    print(f"{options.gift}: {QUESTIONS * len(stems)} questions of {len(stems)} lessons")
    return 0


if __name__ == "__main__":
    sys.exit(main())

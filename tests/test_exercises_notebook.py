"""Wrong answers that learners give to exercises: no check takes them, all say what is wrong."""

import ast

import pytest

from tools import pairing
from tools.checks import exercises, solution_code, wrong_answers
from tools.lift import lift, used_names
from tools.project import Project

PROJECT = Project()
LESSONS = PROJECT.lessons()


def answers():
    """(lesson, exercise, what the answer is, its code) of all that stands below the exercises."""
    for stem in LESSONS:
        for number, cells in sorted(exercises(pairing.read_source(PROJECT, stem)).items()):
            yield stem, number, "right", solution_code(cells["solution"])
            for place, code in enumerate(wrong_answers(cells["solution"]), start=1):
                yield stem, number, f"wrong {place}", code


ANSWERS = list(answers())


@pytest.mark.parametrize(
    ("stem", "number", "kind", "answer"),
    ANSWERS,
    ids=[f"{stem[:2]}-{number}-{kind}" for stem, number, kind, _ in ANSWERS],
)
def test_a_printed_answer_ends_as_it_is_said_to(stem, number, kind, answer, capsys):
    notebook = pairing.read_source(PROJECT, stem)
    check = exercises(notebook)[number]["check"].source
    namespace = lift(notebook, *used_names(ast.parse(f"{answer}\n{check}")))
    if kind == "right":
        exec(f"{answer}\n{check}", namespace)
        assert capsys.readouterr().out == "Right!\n"
    else:
        with pytest.raises(AssertionError, match=r"\S+ \S+"):
            exec(f"{answer}\n{check}", namespace)


@pytest.mark.parametrize("stem", LESSONS)
def test_each_checked_exercise_has_its_classic_wrong_answers(stem):
    kinds = {}
    for lesson, number, kind, _ in ANSWERS:
        if lesson == stem:
            kinds.setdefault(number, []).append(kind)
    assert len(kinds) >= 2
    assert all("wrong 1" in of_exercise for of_exercise in kinds.values())

"""Wrong answers that learners give to exercises: no check takes them, all say what is wrong."""

import ast

import pytest

from tools import pairing
from tools.checks import exercises, solution_code, wrong_answers
from tools.lift import lift, used_names
from tools.project import Project

WRONG = [
    (
        "03_semantic_segmentation",
        1,
        "def cut_cost(graph, side):\n"
        "    return 2 * graph[side][:, ~side].sum() / graph[side].sum()\n",
        "each side by its own volume",
    ),
    (
        "03_semantic_segmentation",
        1,
        "def cut_cost(graph, side):\n    return 4 * graph[side][:, ~side].sum() / graph.sum()\n",
        "each side by its own volume",
    ),
    (
        "03_semantic_segmentation",
        2,
        "def one_shot(patches, mask, new):\n"
        "    return unit(new) @ (unit(patches[mask][0]) - unit(patches[~mask][0]))\n",
        "mean of the patches",
    ),
    (
        "03_semantic_segmentation",
        2,
        "def one_shot(patches, mask, new):\n"
        "    toy, ground = unit(patches[mask]), unit(patches[~mask])\n"
        "    return (unit(new) @ toy.T).max(-1) - (unit(new) @ ground.T).max(-1)\n",
        "mean of the patches",
    ),
    (
        "03_semantic_segmentation",
        2,
        "def one_shot(patches, mask, new):\n"
        "    toy, ground = unit(patches[mask]).mean(0), unit(patches[~mask]).mean(0)\n"
        "    return unit(new) @ (unit(toy) - unit(ground))\n",
        "mean of the patches",
    ),
    (
        "04_cross_modal_retrieval",
        1,
        "def cosine_index(vectors):\n"
        "    index = faiss.IndexFlatL2(vectors.shape[1])\n"
        "    index.add(unit(vectors))\n"
        "    return index\n",
        "by inner products",
    ),
    (
        "04_cross_modal_retrieval",
        1,
        "def cosine_index(vectors):\n"
        "    faiss.normalize_L2(vectors)\n"
        "    index = faiss.IndexFlatIP(vectors.shape[1])\n"
        "    index.add(vectors)\n"
        "    return index\n",
        "normalise a copy",
    ),
    (
        "04_cross_modal_retrieval",
        2,
        "def fuse_ranks(a, b, constant=60):\n"
        "    places = [np.argsort(-s, axis=1) + 1 for s in (a, b)]\n"
        "    return sum(1 / (constant + place) for place in places)\n",
        "np.argsort gives the pictures in order",
    ),
]


@pytest.mark.parametrize(("stem", "number", "answer", "hint"), WRONG)
def test_a_classic_wrong_answer_gets_a_hint(stem, number, answer, hint):
    notebook = pairing.read_source(Project(), stem)
    check = exercises(notebook)[number]["check"].source
    namespace = lift(notebook, *used_names(ast.parse(answer + check)))
    with pytest.raises(AssertionError, match=hint):
        exec(answer + check, namespace)


PROJECT = Project()
LESSONS = [stem for stem in PROJECT.lessons() if f"evidence/{stem}" in PROJECT.evidence()]


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

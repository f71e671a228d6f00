"""The committed notebooks and the passages of README.md that are made from them."""

from pathlib import Path

import pytest

from tools import pairing, readme
from tools.checks import check
from tools.lift import exercise_problems
from tools.project import Project

PROJECT = Project()


@pytest.mark.parametrize("stem", PROJECT.stems())
def test_the_notebook_is_as_it_must_be(stem):
    assert check(PROJECT, stem) == []


@pytest.mark.parametrize("stem", PROJECT.stems())
def test_stubs_fail_and_solutions_pass(stem):
    assert exercise_problems(pairing.read_source(PROJECT, stem)) == []


def test_no_notebook_without_source():
    folder = PROJECT.root / "notebooks"
    found = {path.relative_to(folder).with_suffix("") for path in folder.rglob("*.ipynb")}
    assert {path.as_posix() for path in found} == set(PROJECT.stems())


def test_each_evidence_has_its_lesson():
    assert {Path(stem).name for stem in PROJECT.evidence()} <= set(PROJECT.lessons())


def test_the_readme_is_current():
    assert readme.main(["--check"]) == 0

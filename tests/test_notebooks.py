"""The committed notebooks and the passages of README.md that are made from them."""

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
    stems = {path.stem for path in (PROJECT.root / "notebooks").glob("*.ipynb")}
    assert stems == set(PROJECT.stems())


def test_the_readme_is_current():
    assert readme.main(["--check"]) == 0

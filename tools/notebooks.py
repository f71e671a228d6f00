"""Makes, runs and checks the notebooks: `python -m tools.notebooks COMMAND`.

    sync      write notebooks/NN_name.ipynb from notebooks/src/NN_name.py; cells that did not
              change keep their outputs
    execute   execute the notebooks whose outputs are stale (--all: every one) and write what is
              to be committed: outputs, costs, recorded numbers and claims
    run       execute every notebook into build/ and write build/index.html
    check     check skeleton, outputs, exercises and costs of the committed notebooks, as the unit
              tests do too
    test      run the committed notebooks under pytest --nbmake and compare the numbers that they
              record with the committed ones

`execute`, `run` and `test` run notebooks without a network (tools/offline). A slow notebook never
fails. One that hangs is given up: when it has used no CPU time for five minutes, or has not ended
in an hour. These variables set it otherwise:

    DINOV2_STALL_SECONDS     seconds without CPU time, 300
    DINOV2_NOTEBOOK_SECONDS  seconds for all cells of a notebook (of `test`: for one cell), 3600
    DINOV2_THREADS           threads to compute with; else the cores that affinity and the quota
                             of a container allow

How a source looks (notebooks/src/NN_name.py, jupytext's py:percent format)
---------------------------------------------------------------------------
The header says which recorded number stands for the notebook; the first one is the headline:

    # ---
    # jupyter:
    #   jupytext:
    #     notebook_metadata_filter: headline
    #     text_representation: {extension: .py, format_name: percent}
    #   kernelspec: {display_name: Python 3, language: python, name: python3}
    #   headline:
    #     01.knn_class: k-NN accuracy of the class, portraits of unseen toys
    # ---

The first cell has the title, the promise (one sentence, a paragraph of its own), two empty blocks,
which are filled in the notebook and nowhere else, and the finished picture, which `execute` saves
from the cell tagged "finished-picture":

    # %% [markdown]
    # # 1. Feature space
    #
    # Find out what the numbers that DINOv2 gives to a picture know about it.
    #
    # <!-- badge:begin --><!-- badge:end -->
    # <!-- cost-card:begin --><!-- cost-card:end -->
    #
    # ![What there is to see](figures/01_feature_space.jpeg)

The first code cell is the set-up cell, word for word as `python -m tools.setup_cell` prints it;
`sync` and `execute` renew it where it is an older one.
Sections are `##` headings, in this order, with others between them as needed: Learning goals
(bullets with the goal in **bold**), What the article does, Measured, Try it, Your own images,
Exercises, Recap. A number before them ("## 4. Measured") and words after them are allowed.

Code cells have at most 20 lines. Pictures, PNG or JPEG, carry their alt text in the output's
metadata, {"image/png": {"alt": "..."}}, or in the <img> of an HTML output. Nothing goes to stderr.

An exercise is three cells, told apart by their tags, N from 1:

    # %% tags=["exercise-N-stub"]       defines one function that raises NotImplementedError
    # %% tags=["exercise-N-check"]      asserts what is expected of it; catches
                                        NotImplementedError only and prints "Not solved yet"
    # %% [markdown] tags=["exercise-N-solution"]
                                        <details> with the solution in a ```python block

Tests run the check on the stub, on the solution and on a wrong answer, outside the notebook: the
three cells may use imports, plain functions and ALL_CAPS constants of the notebook, not variables.
"""

import argparse
import math
import shutil
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import nbformat

from tools import pairing, recorded
from tools.checks import check
from tools.execution import Execution, execute, offline_environment, profile
from tools.page import write_pages
from tools.project import Project
from tools.watch import Limits, run_watched


def sync_all(project: Project) -> int:
    """Writes every notebook from its source."""
    for stem in project.stems():
        pairing.sync(project, stem)
    return 0


def execute_stale(project: Project, everything: bool = False) -> int:
    """Executes stale notebooks in place; a notebook that fails is left as it was.

    Args:
        project: the checkout.
        everything: execute all notebooks, stale or not.

    Returns:
        Number of notebooks that failed.
    """
    if profile() != pairing.COMMITTED_PROFILE:
        raise SystemExit(
            f"the committed notebooks show the profile {pairing.COMMITTED_PROFILE!r}, "
            f"not DINOV2_PROFILE={profile()}"
        )
    failures = 0
    for stem in project.stems():
        pairing.renew_setup_cell(project, stem)
        if not everything and not pairing.is_stale(project, stem):
            continue
        results = _empty(project, "execute")
        execution = execute(project, stem, results)
        print(_report(execution))
        if execution.error is not None:
            failures += 1
            continue
        costs = pairing.read_costs(project) | {stem: asdict(execution.costs)}
        recorded.write(project.results / "costs.json", costs)
        recorded.merge(stem, results, project.results, pairing.COMMITTED_PROFILE)
        pairing.write_notebook(project, stem, execution.notebook)
        media, picture, _ = pairing.finished_picture(execution.notebook)
        figure = pairing.figure_path(project, stem, media)
        figure.parent.mkdir(exist_ok=True)
        figure.write_bytes(picture)
    sync_all(project)
    return failures


def run(project: Project) -> int:
    """Executes every notebook into build/ and writes the page; the number of failures."""
    results = _empty(project, "results")
    folder = _empty(project, "notebooks")
    executions = []
    for stem in project.stems():
        print(f"{stem} ...", flush=True)
        execution = execute(project, stem, results)
        print(_report(execution), flush=True)
        nbformat.write(execution.notebook, folder / f"{stem}.ipynb")
        executions.append(execution)
    index = write_pages(project, executions, recorded.read(results / f"{profile()}.json"))
    print(f"\nOpen {index.relative_to(project.root)} in a browser.")
    return sum(execution.error is not None for execution in executions)


def check_all(project: Project) -> int:
    """Prints all that is wrong with the committed notebooks, and counts it."""
    stems = project.stems()
    problems = [f"{stem}: {problem}" for stem in stems for problem in check(project, stem)]
    print("\n".join(problems) or f"{len(stems)} notebooks checked, nothing is wrong")
    return len(problems)


def test(project: Project) -> int:
    """Runs the committed notebooks under nbmake, then compares what they recorded."""
    results = _empty(project, "test")
    notebooks = [str(project.notebook(stem)) for stem in project.stems()]
    if not notebooks:
        raise SystemExit("no notebook sources in notebooks/src")
    limits = Limits.from_environment()
    timeout = f"--nbmake-timeout={math.ceil(limits.notebook_seconds)}"
    command = [sys.executable, "-m", "pytest", "-v", "--nbmake", timeout, "--rootdir"]
    command += [str(project.root), *notebooks]
    status = run_watched(command, project.root, offline_environment(results), limits)
    if status is None:
        print(f"\nThe notebook named last hangs: {limits.stalled()}")
        return 1
    if status:
        return status
    if profile() != pairing.COMMITTED_PROFILE:
        return 0
    problems = recorded.differences(project.results, results, profile())
    for problem in problems:
        print(f"notebooks/results/{problem}: run `make notebooks` if that is right")
    return len(problems)


def _empty(project: Project, name: str) -> Path:
    folder = project.build / name
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder


def _report(execution: Execution) -> str:
    costs = execution.costs
    outcome = execution.error or "ok"
    return f"{execution.stem}: {outcome}, {costs.seconds:.1f} s, {costs.peak_mb:,.0f} MB"


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command; 0 if all is well."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", required=True)
    for name in ("sync", "execute", "run", "check", "test"):
        commands.add_parser(name)
    commands.choices["execute"].add_argument("--all", action="store_true")
    options = parser.parse_args(arguments)
    project = Project()
    if options.command == "execute":
        return min(1, execute_stale(project, options.all))
    command = {"sync": sync_all, "run": run, "check": check_all, "test": test}[options.command]
    return min(1, command(project))


if __name__ == "__main__":
    sys.exit(main())

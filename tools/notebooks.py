"""Makes, runs and checks the notebooks: `python -m tools.notebooks COMMAND`.

    sync      write notebooks/NN_name.ipynb from notebooks/src/NN_name.py; cells that did not
              change keep their outputs
    execute   execute the notebooks whose outputs are stale (--all: every one) and write what is
              to be committed: outputs, costs, recorded numbers and claims
    run       execute the lessons into build/ and write build/index.html
    evidence  execute the notebooks that measure, notebooks/evidence/, into build/, and write the
              same page; either shows those of the other as they were executed last
    guides    print what the guides for a lesson say of each notebook
    check     check skeleton, outputs, exercises and costs of the committed notebooks, as the unit
              tests do too
    test      run the committed notebooks under pytest --nbmake and compare the numbers that they
              record with the committed ones; --weekly: those that pyproject.toml leaves to that
    profile   execute notebooks (STEM..., as 01; none: all) and print the CPU seconds of their cells
    rerun     run every code cell a second time after all have run (STEM...), and compare those that
              fail with notebooks/rerun_known.json (--write: write them there)

All but `sync` and `check` run notebooks without a network (tools/offline). A slow notebook never
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
which are filled in the notebook and nowhere else, a link, and in a lesson the finished picture,
which `execute` saves from the cell tagged "finished-picture":

    # %% [markdown]
    # # 1. Feature space
    #
    # **What does DINOv2 see in a picture?**
    #
    # <!-- badge:begin --><!-- badge:end -->
    #
    # ![What there is to see](figures/01_feature_space.jpeg)
    #
    # Measured to the end in [the evidence](evidence/01_feature_space.ipynb).
    #
    # <!-- cost-card:begin --><!-- cost-card:end -->

The first code cell is the set-up cell, word for word as `python -m tools.setup_cell` prints it;
`sync` and `execute` renew it where it is an older one.
The evidence on notebooks/src/NN_name.py is notebooks/src/evidence/NN_name.py. Its first cell links
the lesson; it has no exercises and no finished picture. One of the two records a number, not both.
A lesson with evidence has these sections, `##` headings, in this order, with others between them:
Where it fails, Try it, Your own images, Exercises, What you found. One without: Learning goals
(bullets with the goal in **bold**), What the article does, Measured, Try it, Your own images,
Exercises, Recap. A number before them ("## 4. Measured") and words after them are allowed.

Sentences that state a result are made by `conclude`. Digits that are typed into the prose of
lessons and evidence have their reasons in tests/test_digits.py.

Pictures, PNG or JPEG, carry their alt text in the output's metadata, {"image/png": {"alt": "..."}},
or in the <img> of an HTML output. Nothing goes to stderr. Links to other notebooks, pictures and
documents are relative; tools/links.py makes them public.

An exercise is three cells, told apart by their tags, N from 1:

    # %% tags=["exercise-N-stub"]       defines one function that raises NotImplementedError
    # %% tags=["exercise-N-check"]      asserts what is expected of it; catches
                                        NotImplementedError only and prints "Not solved yet"
    # %% [markdown] tags=["exercise-N-solution"]
                                        <details> with the solution in a ```python block, and
                                        classic wrong answers in further ones

Tests run the check on the stub, on the solution and on wrong answers, outside the notebook: the
three cells may use imports, plain functions and ALL_CAPS constants of the notebook, not variables.
"""

import argparse
import math
import shutil
import sys
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path

import nbformat
from nbformat import NotebookNode

from dinov2_helpers.threads import SETTING, usable_cores
from tools import guides, headlines, machine, pairing, recorded, rerun
from tools.checks import check
from tools.execution import Execution, execute, offline_environment, profile
from tools.page import write_pages
from tools.progress import Progress, expectation
from tools.project import Project
from tools.watch import Limits, run_watched

MOST_WORKERS = 4  # notebooks at once; each may take 2.5 GB
PROFILED_SECONDS = 1.0  # of CPU time; cells that take less are not shown


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
    for stem in project.stems():
        pairing.renew_setup_cell(project, stem)
    stale = [stem for stem in project.stems() if everything or pairing.is_stale(project, stem)]
    gflops = _measure(project) if stale else 0.0
    failures = 0
    for stem in stale:
        results = _empty(project, "execute")
        execution = _execute(project, stem, results, gflops)
        if execution.error is None:
            _commit(project, execution, results)
        else:
            failures += 1
    sync_all(project)
    return failures


def _commit(project: Project, execution: Execution, results: Path) -> None:
    """Writes what is to be committed of a notebook that has come to its end."""
    stem = execution.stem
    recorded.merge(stem, results, project.results, pairing.COMMITTED_PROFILE)
    costs = pairing.read_costs(project) | {stem: asdict(execution.costs)}
    recorded.write(project.results / "costs.json", costs)
    raise_headline(project, stem)
    pairing.write_notebook(project, stem, execution.notebook)
    media, picture, _ = pairing.finished_picture(execution.notebook)
    if picture:
        figure = pairing.figure_path(project, stem, media)
        figure.parent.mkdir(parents=True, exist_ok=True)
        figure.write_bytes(picture)


def raise_headline(project: Project, stem: str) -> None:
    """Keeps the best value that the headline of a notebook has had."""
    numbers = recorded.read(project.results / recorded.files(pairing.COMMITTED_PROFILE)[0])
    key = headlines.headline(project, stem)
    if key in numbers:
        best = headlines.raised(headlines.read(project), key, numbers[key])
        recorded.write(project.results / "headlines.json", best)


def run(project: Project) -> int:
    """Executes the lessons into build/ and writes the pages; the number of failures."""
    return _into_pages(project, project.lessons(), "results")


def run_evidence(project: Project) -> int:
    """Executes the evidence into build/ and writes the pages; the number of failures."""
    return _into_pages(project, project.evidence(), "results-of-evidence")


def show_guides(project: Project) -> int:
    """Prints what the guides for a lesson say of each notebook."""
    print(guides.report(project))
    return 0


def _into_pages(project: Project, stems: Sequence[str], recorded_in: str) -> int:
    """Executes notebooks and writes the pages of all; the number of failures.

    Args:
        project: the checkout.
        stems: names of the notebooks.
        recorded_in: folder in build/ for their numbers.
    """
    results = _empty(project, recorded_in)
    # what several notebooks need of data/ is computed once, and kept for the next run
    features = project.build / "features"
    gflops = _measure(project)
    executions = []
    for stem in stems:
        execution = _execute(project, stem, results, gflops, features)
        copy = _executed_copy(project, stem)
        copy.parent.mkdir(parents=True, exist_ok=True)
        if execution.error is not None:  # what has failed is not to be shown as current later
            del execution.notebook.metadata["executed"]
        nbformat.write(execution.notebook, copy)
        executions.append(execution)
    numbers = recorded.read(project.results / f"{profile()}.json")
    numbers |= recorded.read(results / f"{profile()}.json")
    others = {stem: last_executed(project, stem) for stem in project.stems() if stem not in stems}
    index = write_pages(project, executions, numbers, others)
    print(f"\nOpen {index.relative_to(project.root)} in a browser.")
    return sum(execution.error is not None for execution in executions)


def _executed_copy(project: Project, stem: str) -> Path:
    """Where `run` and `evidence` leave a notebook that they have executed."""
    return project.build / "notebooks" / f"{stem}.ipynb"


def last_executed(project: Project, stem: str) -> NotebookNode:
    """A notebook as it was executed into build/, if that is current, or as it is committed."""
    path = _executed_copy(project, stem)
    if path.exists():
        copy = nbformat.read(path, as_version=4)
        current = pairing.fingerprint(project, pairing.read_source(project, stem))
        if copy.metadata.get("executed") == {"profile": profile(), "sha256": current}:
            return copy
    return pairing.read_notebook(project, stem)


def show_profile(project: Project, stems: Sequence[str]) -> int:
    """Executes notebooks and prints the CPU time of their cells; the number of failures."""
    results = _empty(project, "profile")
    gflops = _measure(project)
    failures = 0
    for stem in stems:
        execution = _execute(project, stem, results, gflops)
        for cell in execution.cells:
            if cell.cpu_seconds > PROFILED_SECONDS:
                print(f"{cell.cpu_seconds:8.1f} s  cell {cell.number:2}  {cell.first_line}")
        print(f"{execution.costs.cpu_seconds:8.1f} s  of CPU time in all\n", flush=True)
        failures += execution.error is not None
    return failures


def run_again(project: Project, stems: Sequence[str], write: bool = False) -> int:
    """Runs all cells of notebooks twice, and counts what is wrong.

    Args:
        project: the checkout.
        stems: names of the notebooks.
        write: write the cells that fail to notebooks/rerun_known.json, instead of comparing.
    """
    results = _empty(project, "rerun")
    known = rerun.read_known(project)
    failures = {}
    count = 0
    for stem in stems:
        progress = Progress(stem)
        progress.start("every code cell, and then every code cell again")
        error, failures[stem] = rerun.run_twice(project, stem, results, progress.cell)
        wrong = [error] if error else []
        if not error and not write:
            wrong += rerun.problems(known.get(stem, []), failures[stem])
        progress.end(f"{len(failures[stem])} cells fail when they run again")
        for line in wrong:
            print(f"{stem}: {line}", flush=True)
        count += len(wrong)
    if write and not count:
        rerun.write_known(project, failures)
    return count


def check_all(project: Project) -> int:
    """Prints all that is wrong with the committed notebooks, and counts it."""
    stems = project.stems()
    problems = [f"{stem}: {problem}" for stem in stems for problem in check(project, stem)]
    print("\n".join(problems) or f"{len(stems)} notebooks checked, nothing is wrong")
    return len(problems)


def test(project: Project, weekly: bool = False) -> int:
    """Runs committed notebooks under nbmake, then compares what they recorded.

    Those that pyproject.toml names as weekly are left out, or run alone. As many run at once as
    there are cores, each on its share: that is sooner done than one after the other on all of them.
    """
    results = _empty(project, "test")
    features = _empty(project, "test-features")  # of this code alone
    slow = project.settings["weekly_notebooks"]
    stems = [stem for stem in project.stems() if (stem in slow) == weekly]
    notebooks = [str(project.notebook(stem)) for stem in stems]
    if not notebooks:
        raise SystemExit("no notebook sources in notebooks/src")
    limits = Limits.from_environment()
    timeout = f"--nbmake-timeout={math.ceil(limits.notebook_seconds)}"
    workers = min(usable_cores(), len(notebooks), MOST_WORKERS)
    command = [sys.executable, "-m", "pytest", "-v", "--nbmake", timeout, "--rootdir"]
    # run_watched knows a slow notebook from one that hangs, which the limits of tests do not
    command += [str(project.root), "-o", "timeout=0", "-o", "faulthandler_timeout=0", *notebooks]
    command += ["-n", str(workers if workers > 1 else 0)]
    share = str(usable_cores() // workers)
    environment = offline_environment(results, features)
    environment |= {SETTING: share, "OMP_NUM_THREADS": share}
    status = run_watched(command, project.root, environment, limits)
    if status is None:
        print(f"\nA notebook that is named last, and has not passed, hangs: {limits.stalled()}")
        return 1
    if status:
        return status
    if profile() != pairing.COMMITTED_PROFILE:
        return 0
    problems = recorded.differences(project.results, results, profile(), stems)
    for problem in problems:
        print(f"notebooks/results/{problem}: run `make notebooks` if that is right")
    return len(problems)


def _empty(project: Project, name: str) -> Path:
    folder = project.build / name
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder


def _measure(project: Project) -> float:
    """Measures this machine, and says how fast it computes, in GFLOP/s."""
    gflops = machine.gflops(offline_environment(project.build))
    print(f"This machine: {gflops:.3g} GFLOP/s on {usable_cores()} threads", flush=True)
    return gflops


def _execute(
    project: Project, stem: str, results: Path, gflops: float, features: Path | None = None
) -> Execution:
    """Executes one notebook, and says what to expect, how far it is, and how it ended."""
    expected = f"no costs are known of profile {profile()!r}"
    if profile() == pairing.COMMITTED_PROFILE:
        expected = expectation(pairing.read_costs(project).get(stem), gflops)
    progress = Progress(stem)
    progress.start(expected)
    execution = execute(project, stem, results, on_cell=progress.cell, features=features)
    costs = replace(execution.costs, gflops=gflops)
    outcome = execution.error or "ok"
    progress.end(f"{outcome}, {costs.seconds:.1f} s, {costs.peak_mb:,.0f} MB")
    return replace(execution, costs=costs)


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command; 0 if all is well."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", required=True)
    names = ("sync", "execute", "run", "evidence", "guides", "check", "test", "profile", "rerun")
    for name in names:
        commands.add_parser(name)
    commands.choices["execute"].add_argument("--all", action="store_true")
    commands.choices["test"].add_argument("--weekly", action="store_true")
    for name in ("profile", "rerun"):
        commands.choices[name].add_argument("stems", nargs="*", metavar="STEM")
    commands.choices["rerun"].add_argument("--write", action="store_true")
    options = parser.parse_args(arguments)
    return min(1, _do(Project(), options))


def _do(project: Project, options: argparse.Namespace) -> int:
    """Does one command; the number of failures."""
    if options.command == "execute":
        return execute_stale(project, options.all)
    if options.command == "test":
        return test(project, options.weekly)
    if options.command == "profile":
        return show_profile(project, project.chosen(options.stems))
    if options.command == "rerun":
        return run_again(project, project.chosen(options.stems), options.write)
    commands = {
        "sync": sync_all,
        "run": run,
        "evidence": run_evidence,
        "guides": show_guides,
        "check": check_all,
    }
    return commands[options.command](project)


if __name__ == "__main__":
    sys.exit(main())

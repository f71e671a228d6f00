"""Cells that work once only: readers run cells again, and each must bear it.

Every code cell of a notebook runs a second time after all have run, in the same kernel and in
order. Those that may still fail are known by name, in notebooks/rerun_known.json: for each notebook
the first lines of their cells. The list only gets shorter: one that no longer fails is a problem,
too.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path

from nbformat import NotebookNode

from tools import pairing
from tools.execution import OnCell, first_line, run_cells
from tools.project import Project
from tools.recorded import read, write

KNOWN = "notebooks/rerun_known.json"


@dataclass(frozen=True)
class Failure:
    """A cell that failed when it ran again, known by its first line, and its error."""

    first_line: str
    error: str


def read_known(project: Project) -> dict[str, list[str]]:
    """Name of a notebook -> first lines of its cells that may fail when they run again."""
    return read(project.root / KNOWN)


def write_known(project: Project, failures: Mapping[str, Sequence[Failure]]) -> None:
    """Replaces the entries of these notebooks; one without failures gets none."""
    entries = read_known(project)
    for stem, of_notebook in failures.items():
        entries[stem] = [failure.first_line for failure in of_notebook]
    write(project.root / KNOWN, {stem: lines for stem, lines in entries.items() if lines})


def run_twice(
    project: Project, stem: str, results: Path, on_cell: OnCell | None = None
) -> tuple[str | None, list[Failure]]:
    """Runs all code cells of a notebook, and then all of them again.

    Args:
        project: the checkout.
        stem: name of the notebook.
        results: folder in which it records its numbers.
        on_cell: called as each code cell starts; first and second runs are counted together.

    Returns:
        Why it did not reach its end, or None; and the cells that failed the second time.
    """
    notebook = pairing.read_source(project, stem)
    once = len(notebook.cells)
    notebook.cells += [_again(cell) for cell in notebook.cells if cell.cell_type == "code"]
    execution = run_cells(stem, notebook, results, on_cell=on_cell)
    failures = [
        Failure(first_line(cell), f"{output.ename}: {output.evalue}")
        for cell in notebook.cells[once:]
        for output in cell.outputs
        if output.output_type == "error"
    ]
    return execution.error, failures


def problems(known: Sequence[str], failures: Sequence[Failure]) -> Iterator[str]:
    """What is wrong with a notebook, one line each.

    Args:
        known: first lines of the cells that may fail.
        failures: the cells that failed.
    """
    left = Counter(known)
    for failure in failures:
        if left[failure.first_line]:
            left[failure.first_line] -= 1
        else:
            yield f"`{failure.first_line}` fails when it runs again: {failure.error}"
    for line in left.elements():
        yield f"`{line}` no longer fails: take it out of {KNOWN}"


def _again(cell: NotebookNode) -> NotebookNode:
    """A copy that may fail without ending the run."""
    copy = deepcopy(cell)
    copy.id = f"{cell.id}-again"
    copy.metadata["tags"] = [*cell.metadata.get("tags", []), "raises-exception"]
    return copy

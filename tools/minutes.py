"""How long each section of a lesson takes in a room: `python -m tools.minutes [LESSON...]`.

Reading aloud takes a minute for 150 words or 12 lines of code, as the guides for a lesson count
(`tools.guides`); solutions are left out. Exercises take what `EXERCISES` plans for them, which
nobody has timed in a room. Run all cells before you begin: what that takes is recorded for the
whole lesson and stands in the last row.
"""

import argparse
import re
import sys
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from nbformat import NotebookNode

from tools import guides, pairing
from tools.project import Project

OPENING = "Opening"  # what stands before the first section
EXERCISES = {1: 5, 2: 10, 3: 15}  # minutes by number: a warm-up, a changed experiment, an open one
_HEADING = re.compile(r"^## (.*)$", re.M)


class Section(NamedTuple):
    """A section of a lesson and what is in it."""

    title: str
    words: int
    code_lines: int

    @property
    def minutes(self) -> float:
        """To read its words and its code."""
        return self.words / guides.WORDS_A_MINUTE + self.code_lines / guides.LINES_A_MINUTE


def sections(notebook: NotebookNode) -> list[Section]:
    """The sections of a lesson in order, each from its `##` heading to the next."""
    words = {OPENING: 0}
    lines = {OPENING: 0}
    current = OPENING
    for cell in notebook.cells:
        if cell.cell_type == "code":
            lines[current] += len(guides.code_lines(cell.source))
        elif not _is_solution(cell):
            before, *rest = _HEADING.split(cell.source)
            words[current] += _count(before)
            for title, text in zip(rest[::2], rest[1::2], strict=True):
                current = title
                words[current] = _count(text)
                lines[current] = 0
    return [Section(title, words[title], lines[title]) for title in words]


def _is_solution(cell: NotebookNode) -> bool:
    return any(tag.endswith("-solution") for tag in cell.metadata.get("tags", ()))


def _count(markdown: str) -> int:
    return len(re.findall(r"\S*\w\S*", guides.prose(markdown)))


def is_exercises(title: str) -> bool:
    """Whether a section has the exercises, whose time is planned and not counted."""
    return title.startswith("Exercises")


def rows(project: Project, stem: str) -> list[list[str]]:
    """Rows of a table: sections with words, lines of code and minutes; the sum; the run."""
    table = []
    total = 0.0
    for section in sections(pairing.read_source(project, stem)):
        minutes = section.minutes
        if is_exercises(section.title):
            minutes = sum(EXERCISES.values())
        total += minutes
        table.append([section.title, str(section.words), str(section.code_lines), f"{minutes:.1f}"])
    cost: Mapping[str, Any] = pairing.read_costs(project)[stem]
    table.append(["**all, with the exercises**", "", "", f"**{total:.0f}**"])
    run = f"its run, on {_cores(cost['cores'])}, {cost['gflops']:.0f} GFLOP/s"
    table.append([run, "", "", f"{cost['seconds'] / 60:.1f}"])
    return table


def _cores(count: int) -> str:
    return "1 CPU core" if count == 1 else f"{count} CPU cores"


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line: see the module's text."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split(":")[0])
    parser.add_argument("lessons", nargs="*", help="as 01; none: all")
    options = parser.parse_args(arguments)
    project = Project()
    for stem in project.chosen(options.lessons):
        if stem in project.lessons():
            print(stem)
            for title, words, lines, minutes in rows(project, stem):
                print(f"  {minutes.strip('*'):>6}  {words:>5}  {lines:>4}  {title.strip('*')}")
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""What the guides for a lesson say of each notebook: a report, not a test.

    python -m tools.notebooks guides

Guides: 300 to 350 lines of code, 1,500 to 2,000 words, a median cell of 3 to 5 lines, 45 to 60
minutes at 150 words and 12 lines of code a minute, 30 s on two cores (evidence: 120 s).
"""

import ast
import re
from collections.abc import Mapping
from statistics import median
from typing import Any, NamedTuple

from nbformat import NotebookNode

from tools import pairing
from tools.project import Project

WORDS_A_MINUTE = 150
LINES_A_MINUTE = 12


class Guide(NamedTuple):
    """Measures of a notebook."""

    cells: int
    code_lines: int  # neither blank nor a comment alone
    words: int  # of Markdown, without code blocks
    median_cell: float  # lines of code
    longest_cell: int  # lines of code
    nodes_a_line: float  # of the syntax tree
    minutes: float  # to read it, without the run
    seconds: float | None  # that its run took where it was last executed


def guide(notebook: NotebookNode, cost: Mapping[str, Any]) -> Guide:
    """Measures a notebook; the cost is its entry in costs.json, or nothing."""
    lines = []
    nodes = 0
    words = 0
    for cell in notebook.cells:
        if cell.cell_type == "code":
            lines.append(len(code_lines(cell.source)))
            nodes += count_nodes(cell.source)
        elif cell.cell_type == "markdown":
            words += len(re.findall(r"\S*\w\S*", prose(cell.source)))
    total = sum(lines)
    return Guide(
        cells=len(notebook.cells),
        code_lines=total,
        words=words,
        median_cell=median(lines),
        longest_cell=max(lines),
        nodes_a_line=nodes / total,
        minutes=words / WORDS_A_MINUTE + total / LINES_A_MINUTE,
        seconds=cost.get("seconds"),
    )


def code_lines(source: str) -> list[str]:
    """The lines that are neither blank nor a comment alone."""
    stripped = [line.strip() for line in source.splitlines()]
    return [line for line in stripped if line and not line.startswith("#")]


def count_nodes(source: str) -> int:
    """Nodes of the syntax tree that stand for something; contexts such as `Load` do not."""
    commands_out = re.sub(r"(?m)^(\s*)[!%].*$", r"\1pass", source)
    tree = ast.walk(ast.parse(commands_out))
    return sum(not isinstance(node, ast.expr_context) for node in tree)


def prose(markdown: str) -> str:
    """Markdown without code blocks, HTML and the addresses of links."""
    without_code = re.sub(r"```.*?```", " ", markdown, flags=re.DOTALL)
    without_html = re.sub(r"<!--.*?-->|<[^>]+>", " ", without_code, flags=re.DOTALL)
    return re.sub(r"\]\([^)]*\)", "]", without_html)


def report(project: Project) -> str:
    """The measures of all notebooks as a table."""
    costs = pairing.read_costs(project)
    lines = [
        f"{'notebook':36} cells  lines  words  median  longest  nodes/line  minutes  seconds",
    ]
    for stem in project.stems():
        found = guide(pairing.read_source(project, stem), costs.get(stem, {}))
        seconds = "" if found.seconds is None else f"{found.seconds:.0f}"
        lines.append(
            f"{stem:36} {found.cells:5} {found.code_lines:6} {found.words:6}"
            f"  {found.median_cell:6g}  {found.longest_cell:7}  {found.nodes_a_line:10.1f}"
            f"  {found.minutes:7.0f}  {seconds:>7}"
        )
    return "\n".join(lines)

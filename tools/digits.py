"""Digits in prose: a number that a sentence states should have been computed.

Headings, code, formulas, addresses, shapes ("16 x 16"), sizes in pixels, years and the numbers of
lessons and exercises are not results. `REASONS` says of every other digit why it may stand there.
"""

import re
from collections.abc import Iterator

from nbformat import NotebookNode

from tools.guides import prose

NO_RESULTS = (
    r"(?m)^#+ .*$",  # headings
    r"(?m)^\s*\d+\. ",  # numbers of a list
    r"(?m)^\*\*\d+\. .*?\*\*",  # titles of exercises
    r"`[^`]*`",
    r"\$\$[^$]*\$\$|\$[^$]*\$",
    r"《[^》]*》",  # titles
    r"\[[^\]]*\]",  # texts of links, citations among them
    r"\b\d+ x \d+( x \d+)?\b",
    r"\b(19|20)\d\d\b",
    r"\blessons? \d\b|\bexercise \d\b",
    r"\b[A-Za-z]+-?v?\d+(\.\d+)*\b",  # names, as DINOv2, SigLIP 2 is one with its number apart
    r"\b(SigLIP|Apache|CIELAB|JPEG)[ -]\d+(\.\d+)?",
)


def sentences(notebook: NotebookNode) -> Iterator[str]:
    """The lines of prose that hold a digit that is no name, shape, year or heading."""
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            yield from lines(cell.source)


def lines(markdown: str) -> Iterator[str]:
    """The lines of a Markdown text that hold such a digit."""
    text = prose(markdown)
    for pattern in NO_RESULTS:
        text = re.sub(pattern, " ", text)
    for line in text.splitlines():
        if re.search(r"\d", line):
            yield " ".join(line.split())

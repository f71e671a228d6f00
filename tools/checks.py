"""What every notebook must look like: its skeleton, its outputs, its exercises."""

import base64
import re
from collections.abc import Iterator
from pathlib import Path

from bs4 import BeautifulSoup
from nbformat import NotebookNode

from tools import blocks, pairing
from tools.project import Project
from tools.setup_cell import setup_cell_of

SETUP_LINES = 7  # that are not blank
IMAGE_BYTES = 250_000
NOTEBOOK_BYTES = 2_000_000
SECTIONS = ("Where it fails", "Try it", "Your own images", "Exercises", "What you found")
TITLE_BLOCKS = ["badge", "cost-card"]
EXERCISE_TAG = re.compile(r"exercise-(\d+)-(stub|check|solution)")

# An absolute path has at least two parts; what stands before it tells it from a URL, a fraction,
# a media type, or the end of an HTML tag.
_ABSOLUTE_PATH = re.compile(r"(?<![\w.:/<~-])/[\w.-]+/[\w.-]+|\b[A-Za-z]:\\\w+|file:///")
_DATA_URI = re.compile(r"data:[\w/+.-]+;base64,([A-Za-z0-9+/=\s]*)")


def check(project: Project, stem: str) -> list[str]:
    """All that is wrong with a notebook, one sentence each; empty if nothing is."""
    try:
        notebook = pairing.read_notebook(project, stem)
    except FileNotFoundError as missing:
        return [str(missing)]
    source = pairing.read_source(project, stem)
    problems = [
        *_pairing(project, stem, source, notebook),
        *_title(notebook),
        *_setup_cell(project, notebook),
        *_execution(notebook),
        *_outputs(notebook),
        *costs(project, stem),
    ]
    if stem in project.evidence():
        problems += _link_to(notebook, f"../{Path(stem).name}.ipynb", "its lesson")
    else:
        problems += [*_exercises(notebook), *_finished_picture(project, stem, notebook)]
        problems += _sections(notebook)
        if f"evidence/{stem}" in project.evidence():
            problems += _link_to(notebook, f"evidence/{stem}.ipynb", "its evidence")
    size = project.notebook(stem).stat().st_size
    if size > NOTEBOOK_BYTES:
        problems.append(f"the notebook has {size:,} bytes, more than {NOTEBOOK_BYTES:,}")
    return problems


def _pairing(
    project: Project, stem: str, source: NotebookNode, notebook: NotebookNode
) -> Iterator[str]:
    made = [(cell.cell_type, blocks.empty(cell.source), cell.metadata) for cell in notebook.cells]
    if made != [(cell.cell_type, cell.source, cell.metadata) for cell in source.cells]:
        yield "its cells are not those of its source: run `make notebooks`"
    if notebook.metadata.get("headline") != source.metadata.get("headline"):
        yield "its headline is not that of its source: run `make notebooks`"
    elif pairing.is_stale(project, stem):
        yield "its outputs are stale, made by other code or data: run `make notebooks`"


def _title(notebook: NotebookNode) -> Iterator[str]:
    first = notebook.cells[0]
    if first.cell_type != "markdown" or not re.match(r"# \S.*\n\s*\n\S", first.source):
        yield "cell 1 must be Markdown: a title `# ...`, then the promise, one sentence"
    if blocks.names(first.source) != TITLE_BLOCKS:
        yield f"cell 1 must have the generated blocks {TITLE_BLOCKS}, in this order"
    headline = notebook.metadata.get("headline")
    if not isinstance(headline, dict) or not headline:
        yield "the metadata must have `headline`: {key of a recorded number: what it is}"


def _link_to(notebook: NotebookNode, target: str, what: str) -> Iterator[str]:
    if f"]({target})" not in notebook.cells[0].source:
        yield f"cell 1 must link {what}: {target}"


def _sections(notebook: NotebookNode) -> Iterator[str]:
    markdown = [cell.source for cell in notebook.cells if cell.cell_type == "markdown"]
    headings = re.findall(r"^## +(.*)$", "\n".join(markdown), re.MULTILINE)
    position = 0
    for section in SECTIONS:
        found = [
            index
            for index, heading in enumerate(headings)
            if index >= position and re.match(rf"(\d+\.? )?{section}\b", heading, re.IGNORECASE)
        ]
        if not found:
            yield f"section `## {section}` is missing or out of order"
            continue
        position = found[0] + 1


def _setup_cell(project: Project, notebook: NotebookNode) -> Iterator[str]:
    code = [cell.source for cell in notebook.cells if cell.cell_type == "code"]
    current = setup_cell_of(project)
    if not code or code[0] != current:
        yield "its first code cell is not the set-up cell: python -m tools.setup_cell prints it"
    if len([line for line in current.splitlines() if line]) > SETUP_LINES:
        yield f"the set-up cell has more than {SETUP_LINES} lines"


def _execution(notebook: NotebookNode) -> Iterator[str]:
    counts = [cell.execution_count for cell in notebook.cells if cell.cell_type == "code"]
    if counts != list(range(1, len(counts) + 1)):
        yield f"its code cells were not executed once and in order: {counts}"


def _outputs(notebook: NotebookNode) -> Iterator[str]:
    if "widgets" in notebook.metadata:
        yield "metadata.widgets must not be committed: GitHub cannot show such a notebook"
    for number, cell in enumerate(notebook.cells, start=1):
        for output in cell.get("outputs", []):
            for problem in _output(output):
                yield f"cell {number}: {problem}"


def _output(output: NotebookNode) -> Iterator[str]:
    if output.output_type == "error":
        yield f"ended in {output.ename}"
        return
    if output.output_type == "stream":
        if output.name == "stderr":
            yield f"wrote to stderr (a warning?): {output.text.strip()[:80]!r}"
        yield from _absolute_paths(output.text)
        return
    for kind, content in output.data.items():
        if kind == "image/svg+xml":
            yield "SVG output: draw PNG, which every viewer shows"
        elif kind.startswith("image/"):
            yield from _image(base64.b64decode(content), _alt(output, kind))
        elif kind.startswith("text/"):
            yield from _absolute_paths(_DATA_URI.sub("", content))
            if kind == "text/html":
                yield from _images_in_html(content)


def _absolute_paths(text: str) -> Iterator[str]:
    found = _ABSOLUTE_PATH.search(text)
    if found:
        yield f"shows an absolute path: {text[found.start() : found.end() + 40]!r}"


def _alt(output: NotebookNode, kind: str) -> str:
    return output.metadata.get(kind, {}).get("alt") or output.metadata.get("alt", "")


def _image(content: bytes, alt: str) -> Iterator[str]:
    if len(content) > IMAGE_BYTES:
        yield f"a picture of {len(content):,} bytes, more than {IMAGE_BYTES:,}"
    if not alt.strip():
        yield "a picture without alt text"


def _images_in_html(html: str) -> Iterator[str]:
    for image in BeautifulSoup(html, "html.parser").find_all("img"):
        embedded = _DATA_URI.match(str(image.get("src", "")))
        if not embedded:
            yield "an <img> that is not embedded"
            continue
        yield from _image(base64.b64decode(embedded[1]), str(image.get("alt", "")))


def exercises(notebook: NotebookNode) -> dict[int, dict[str, NotebookNode]]:
    """The cells of each exercise: number -> {"stub", "check", "solution"} -> cell."""
    found: dict[int, dict[str, NotebookNode]] = {}
    for cell in notebook.cells:
        for tag in cell.metadata.get("tags", []):
            if match := EXERCISE_TAG.fullmatch(tag):
                found.setdefault(int(match[1]), {})[match[2]] = cell
    return found


def solution_code(cell: NotebookNode) -> str:
    """The Python code in the folded solution; "" where there is none."""
    blocks = _folded_code(cell)
    return blocks[0] if blocks else ""


def wrong_answers(cell: NotebookNode) -> list[str]:
    """The classic wrong answers that stand behind the solution."""
    return _folded_code(cell)[1:]


def _folded_code(cell: NotebookNode) -> list[str]:
    folded = re.search(r"<details>(.*?)</details>", cell.source, re.DOTALL)
    return re.findall(r"```python\n(.*?)```", folded[1], re.DOTALL) if folded else []


def _exercises(notebook: NotebookNode) -> Iterator[str]:
    found = exercises(notebook)
    if not 2 <= len(found) <= 3:
        yield f"it has {len(found)} exercises, not 2 or 3"
    for number, cells in sorted(found.items()):
        if list(cells) != ["stub", "check", "solution"]:
            yield f"exercise {number} must have its stub, check and solution cells, in this order"
            continue
        if "raise NotImplementedError" not in cells["stub"].source:
            yield f"the stub of exercise {number} must raise NotImplementedError"
        if not solution_code(cells["solution"]):
            yield f"exercise {number} needs a solution, ```python in <details>"


def _finished_picture(project: Project, stem: str, notebook: NotebookNode) -> Iterator[str]:
    media, picture, _ = pairing.finished_picture(notebook)
    if not picture:
        yield f"no cell tagged {pairing.FINISHED_PICTURE!r} has drawn a picture"
        return
    figure = pairing.figure_path(project, stem, media)
    if f"](figures/{figure.name})" not in notebook.cells[0].source:
        yield f"cell 1 must show the finished picture, figures/{figure.name}"
    if not figure.exists() or figure.read_bytes() != picture:
        yield f"figures/{figure.name} is not the picture in the notebook: run `make notebooks`"


def costs(project: Project, stem: str) -> Iterator[str]:
    """What a notebook costs more than it may."""
    cost = pairing.read_costs(project).get(stem)
    if cost is None:
        yield "its costs were not measured: run `make notebooks`"
        return
    limits = project.settings
    reference = limits["reference_gflops"]
    rate = cost.get("gflops") or reference
    seconds = cost["seconds"] * rate / reference
    most = limits["max_seconds"][_kind(project, stem)]
    if seconds > most:
        yield (
            f"it took {cost['seconds']:,} s at {rate:,} GFLOP/s, which are {seconds:,.0f} s at "
            f"{reference:,}, more than {most:,}"
        )
    most_mb = limits["max_peak_mb"][_kind(project, stem)]
    if cost["peak_mb"] > most_mb:
        yield f"it took {cost['peak_mb']:,} MB, more than {most_mb:,}"


def _kind(project: Project, stem: str) -> str:
    """What a notebook is, "lesson" or "evidence"."""
    return "evidence" if stem in project.evidence() else "lesson"

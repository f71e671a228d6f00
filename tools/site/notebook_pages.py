"""A notebook as a page: pictures beside the page, each with its alt text, and no bookkeeping."""

import base64
import io
import posixpath
from collections import defaultdict
from collections.abc import Collection
from html import escape
from pathlib import Path

import nbformat
from nbformat import NotebookNode
from PIL import Image

from tools import blocks, pairing
from tools.project import Project
from tools.site import markdown

MEDIA = {"image/png": "png", "image/jpeg": "jpeg"}
FOLDER = "pictures"  # on the site
OUT_OF_DATE = (
    "*The notebook of this page has changed since it was last executed. Outputs that are not "
    "here come with its next execution.*"
)


def assembled(project: Project, stem: str) -> NotebookNode:
    """The notebook as its source has it, with the committed outputs of the cells that are the same.

    Where the committed notebook is up to date, that is the committed notebook.
    """
    notebook = pairing.read_source(project, stem)
    executed: dict[str, list[NotebookNode]] = defaultdict(list)
    if project.notebook(stem).exists():
        committed = pairing.read_notebook(project, stem)
        notebook.metadata["executed"] = committed.metadata.get("executed", {})
        for cell in committed.cells:
            if cell.cell_type == "code":
                executed[cell.source].append(cell)
    for cell in notebook.cells:
        if cell.cell_type == "code" and executed[cell.source]:
            kept = executed[cell.source].pop(0)
            cell.outputs, cell.execution_count = kept.outputs, kept.execution_count
    return notebook


def is_whole(notebook: NotebookNode) -> bool:
    """Whether all of its code cells have been executed."""
    codes = [cell for cell in notebook.cells if cell.cell_type == "code"]
    return all(cell.execution_count is not None for cell in codes)


def write(project: Project, stem: str, sources: Path, extra: Path, pages: Collection[str]) -> None:
    """Writes a notebook that myst-nb reads, and its pictures.

    Args:
        project: the checkout.
        stem: the notebook's name.
        sources: folder of Sphinx's sources.
        extra: folder whose files are copied to the site as they are.
        pages: all pages of the site.
    """
    notebook = assembled(project, stem)
    path = f"notebooks/{stem}.ipynb"
    whole = is_whole(notebook)
    for number, cell in enumerate(notebook.cells, start=1):
        cell.metadata = {}
        if cell.cell_type == "markdown":
            text = blocks.fill(cell.source, _passages(project, stem, cell.source))
            cell.source = markdown.as_page(project, path, text, pages)
            continue
        for output in cell.outputs:
            words = output.get("data", {}).get("text/markdown")
            if words:
                linked = markdown.as_page(project, path, words, pages, made=True)
                output.data["text/markdown"] = linked
        name = f"{FOLDER}/{stem}/{number:03d}"
        cell.outputs = [
            shown
            for place, output in enumerate(cell.outputs)
            for shown in _shown(output, f"{name}-{place}", path, extra)
        ]
    if not whole:
        notebook.cells[0].source += f"\n\n{OUT_OF_DATE}\n"
    target = sources / path
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(nbformat.writes(notebook), encoding="utf-8")


def _passages(project: Project, stem: str, text: str) -> dict[str, str]:
    known = {"badge": pairing.badge, "cost-card": pairing.cost_card}
    return {
        name: known[name](project, stem) if name in known else "" for name in blocks.names(text)
    }


def _shown(output: NotebookNode, name: str, path: str, extra: Path) -> list[NotebookNode]:
    """An output as the page has it; pictures become files."""
    data = output.get("data", {})
    for media, suffix in MEDIA.items():
        if media in data:
            alt = output.metadata.get(media, {}).get("alt", "")
            if not alt:
                raise ValueError(f"{path}: a picture has no alt text: run `make notebooks`")
            content = base64.b64decode(data[media])
            there = posixpath.relpath(f"{name}.{suffix}", posixpath.dirname(path))
            target = extra / f"{name}.{suffix}"
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(content)
            return [_html(picture(content, there, alt))]
    return [output]


def picture(content: bytes, address: str, alt: str) -> str:
    """HTML of a picture; the browser keeps its place free until it is there."""
    width, height = Image.open(io.BytesIO(content)).size
    return (
        f'<img class="figure" src="{escape(address)}" alt="{escape(alt)}" width="{width}" '
        f'height="{height}" loading="lazy">'
    )


def _html(html: str) -> NotebookNode:
    return nbformat.v4.new_output("display_data", data={"text/html": html, "text/plain": ""})

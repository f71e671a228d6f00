"""The page build/index.html: the executed notebooks, what they cost and what they found.

Everything is embedded: no script, no font, no style sheet comes from elsewhere. Formulas are MathML,
which browsers draw by themselves.
"""

import base64
import io
import platform
from collections.abc import Mapping, Sequence
from html import escape
from importlib.metadata import version
from pathlib import Path
from typing import Any

from jinja2 import pass_context
from latex2mathml.converter import convert
from nbconvert import HTMLExporter
from nbconvert.filters.markdown_mistune import IPythonRenderer, MarkdownWithMath
from nbformat import NotebookNode
from PIL import Image
from pygments.formatters import HtmlFormatter

from tools import pairing
from tools.execution import Execution
from tools.project import Project

THUMBNAIL = (640, 480)


class _Renderer(IPythonRenderer):
    """Markdown to HTML, with formulas in MathML."""

    def block_math(self, body: str) -> str:
        return str(convert(body, display="block"))

    def inline_math(self, body: str) -> str:
        return str(convert(body))


class _Exporter(HTMLExporter):
    """nbconvert's exporter, which would leave formulas to a script from elsewhere."""

    @pass_context
    def markdown2html(self, context: Any, source: str) -> str:
        """HTML of a Markdown cell, with its pictures embedded."""
        cell = context.get("cell", {})
        renderer = _Renderer(
            escape=False,
            attachments=cell.get("attachments", {}),
            embed_images=True,
            path=context["resources"]["metadata"]["path"],
            anchor_link_text=self.anchor_link_text,
        )
        return str(MarkdownWithMath(renderer=renderer).render(source))


def write_pages(
    project: Project,
    executions: Sequence[Execution],
    numbers: Mapping[str, float],
    folder: Path | None = None,
) -> Path:
    """Writes one page per notebook and the index.

    Args:
        project: the checkout.
        executions: the notebooks, in order.
        numbers: the recorded numbers of all of them.
        folder: where the pages go; None: the checkout's build folder.

    Returns:
        Path of the index.
    """
    folder = folder or project.build
    folder.mkdir(parents=True, exist_ok=True)
    exporter = _Exporter(template_name="basic", embed_images=True)
    pictures = {"metadata": {"path": str(project.root / "notebooks")}}
    rows = []
    for execution in executions:
        title, _ = pairing.title_and_promise(execution.notebook)
        body, _ = exporter.from_notebook_node(execution.notebook, resources=pictures)
        body = f'<nav><a href="index.html">All notebooks</a></nav><main>{body}</main>'
        page = folder / f"{Path(execution.stem).name}.html"
        page.write_text(_document(title, body), encoding="utf-8")
        rows.append(_row(execution, page.name, numbers))
    index = folder / "index.html"
    index.write_text(_document("DINOv2 in Practice", _index(rows)), encoding="utf-8")
    return index


def _document(title: str, body: str) -> str:
    css = Path(__file__).with_suffix(".css").read_text(encoding="utf-8")
    light = HtmlFormatter(style="default").get_style_defs(".highlight")
    dark = HtmlFormatter(style="github-dark").get_style_defs(".highlight")
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n<style>\n{light}\n"
        f"@media (prefers-color-scheme: dark) {{\n{dark}\n}}\n{css}</style>\n"
        f"</head>\n<body>\n{body}\n</body>\n</html>\n"
    )


def _index(rows: Sequence[str]) -> str:
    packages = ("torch", "transformers", "numpy", "scikit-learn")
    versions = ", ".join(f"{name} {version(name)}" for name in packages)
    heads = ("Picture", "Notebook", "Headline", "Time", "Peak memory")
    return (
        "<main>\n<h1>DINOv2 in Practice</h1>\n"
        '<table class="series">\n<caption>Executed just now on this machine, without a network. '
        f"Python {platform.python_version()}, {escape(versions)}.</caption>\n<thead><tr>"
        + "".join(f'<th scope="col">{head}</th>' for head in heads)
        + "</tr></thead>\n<tbody>\n"
        + "\n".join(rows)
        + "\n</tbody>\n</table>\n</main>"
    )


def _row(execution: Execution, href: str, numbers: Mapping[str, float]) -> str:
    title, promise = pairing.title_and_promise(execution.notebook)
    headline = ""
    if execution.error is not None:
        headline = f'<span class="failed">failed</span> {escape(execution.error)}'
    key, meaning = next(iter(execution.notebook.metadata["headline"].items()))
    if execution.error is None and key in numbers:
        headline = (
            f'<span class="headline">{numbers[key]:.3f}</span>'
            f'<br><span class="soft">{escape(meaning)}</span>'
        )
    return (
        f"<tr><td>{_thumbnail(execution.notebook)}</td>"
        f'<th scope="row"><a href="{href}">{escape(title)}</a>'
        f'<br><span class="soft">{escape(promise)}</span></th>'
        f"<td>{headline}</td>"
        f'<td class="number">{execution.costs.seconds:.0f} s</td>'
        f'<td class="number">{execution.costs.peak_mb:,.0f} MB</td></tr>'
    )


def _thumbnail(notebook: NotebookNode) -> str:
    _, content, alt = pairing.finished_picture(notebook)
    if not content:
        return ""
    picture = Image.open(io.BytesIO(content)).convert("RGB")
    picture.thumbnail(THUMBNAIL)
    encoded = io.BytesIO()
    picture.save(encoded, "PNG")
    data = base64.b64encode(encoded.getvalue()).decode()
    return f'<img src="data:image/png;base64,{data}" alt="{escape(alt)}">'

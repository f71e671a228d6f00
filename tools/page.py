"""The page build/index.html: the executed notebooks, what they cost and what they found.

Each lesson has a row, with its evidence in it. Everything is embedded: no script, no font, no style
sheet comes from elsewhere. Formulas are MathML, which browsers draw by themselves.
"""

import base64
import io
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
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

from tools import links, pairing
from tools.execution import Costs, Execution
from tools.project import Project

THUMBNAIL = (640, 480)


class _Renderer(IPythonRenderer):
    """Markdown to HTML, with formulas in MathML, and other notebooks as their pages."""

    def link(self, text: str, url: str, title: str | None = None) -> str:
        return str(super().link(text, links.as_page(url), title))

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
    others: Mapping[str, NotebookNode] | None = None,
) -> Path:
    """Writes one page per notebook, at its place in the build folder, and the index.

    Args:
        project: the checkout.
        executions: the notebooks that were executed just now.
        numbers: the recorded numbers of all of them.
        others: notebooks by name that were executed before; the index says so.

    Returns:
        Path of the index.
    """
    shown = {execution.stem: _Shown.just_now(execution) for execution in executions}
    for stem, notebook in (others or {}).items():
        shown[stem] = _Shown(stem, notebook)
    for one in shown.values():
        _write_page(project, one)
    pairs: dict[str, list[_Shown]] = {}  # a lesson and its evidence have the same name
    for stem in sorted(shown, key=lambda stem: stem.count("/")):
        pairs.setdefault(Path(stem).name, []).append(shown[stem])
    rows = [_row(pairs[name], numbers) for name in sorted(pairs)]
    index = project.build / "index.html"
    index.write_text(_document("DINOv2 in Practice", _index(rows)), encoding="utf-8")
    return index


@dataclass(frozen=True)
class _Shown:
    """A notebook on the page.

    Attributes:
        stem: its name.
        notebook: with its outputs.
        costs: of the execution that was just now; None: there was none.
        error: why it did not come to its end.
    """

    stem: str
    notebook: NotebookNode
    costs: Costs | None = None
    error: str | None = None

    @classmethod
    def just_now(cls, execution: Execution) -> "_Shown":
        return cls(execution.stem, execution.notebook, execution.costs, execution.error)

    @property
    def title(self) -> str:
        return pairing.title_and_promise(self.notebook)[0]

    @property
    def link(self) -> str:
        return f'<a href="{self.stem}.html">{escape(self.title)}</a>'


def _write_page(project: Project, shown: _Shown) -> None:
    page = project.build / f"{shown.stem}.html"
    page.parent.mkdir(parents=True, exist_ok=True)
    exporter = _Exporter(template_name="basic", embed_images=True)
    pictures = {"metadata": {"path": str(project.notebook(shown.stem).parent)}}
    body, _ = exporter.from_notebook_node(shown.notebook, resources=pictures)
    home = "../" * shown.stem.count("/") + "index.html"
    body = f'<nav><a href="{home}">All notebooks</a></nav><main>{body}</main>'
    page.write_text(_document(shown.title, body), encoding="utf-8")


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
        '<table class="series">\n<caption>Those with a time were executed just now on this '
        "machine, without a network. "
        f"Python {platform.python_version()}, {escape(versions)}.</caption>\n<thead><tr>"
        + "".join(f'<th scope="col">{head}</th>' for head in heads)
        + "</tr></thead>\n<tbody>\n"
        + "\n".join(rows)
        + "\n</tbody>\n</table>\n</main>"
    )


def _row(pair: Sequence[_Shown], numbers: Mapping[str, float]) -> str:
    """The row of a lesson and its evidence, or of one that is alone."""
    first, *evidence = pair
    _, promise = pairing.title_and_promise(first.notebook)
    notebooks = [first.link, f'<span class="soft">{escape(promise)}</span>']
    notebooks += [f'<span class="evidence">{one.link}</span>' for one in evidence]
    return (
        f"<tr><td>{_thumbnail(first.notebook)}</td>"
        f'<th scope="row">{"<br>".join(notebooks)}</th>'
        f"<td>{_headline(pair, numbers)}</td>"
        f'<td class="number">{"<br>".join(_cost(one, "seconds", "s") for one in pair)}</td>'
        f'<td class="number">{"<br>".join(_cost(one, "peak_mb", "MB") for one in pair)}</td></tr>'
    )


def _headline(pair: Sequence[_Shown], numbers: Mapping[str, float]) -> str:
    failed = [
        f'<span class="failed">{escape(one.title)} failed</span> {escape(one.error)}'
        for one in pair
        if one.error is not None
    ]
    if failed:
        return "<br>".join(failed)
    key, meaning = next(iter(pair[0].notebook.metadata["headline"].items()))
    if key not in numbers:
        return ""
    return (
        f'<span class="headline">{numbers[key]:.3f}</span>'
        f'<br><span class="soft">{escape(meaning)}</span>'
    )


def _cost(shown: _Shown, name: str, unit: str) -> str:
    if shown.costs is None:
        return '<span class="soft">not run now</span>'
    return f"{getattr(shown.costs, name):,.0f} {unit}"


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

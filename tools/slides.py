"""Slides of the lessons: `make slides`, or `python -m tools.slides [LESSON...] [--pdf]`.

Each lesson becomes one HTML file in build/slides, with everything in it: pictures, style and
script, so that it works from a stick. A slide has one idea: a figure, or the numbers that were
printed, and the sentence that the lesson concludes from it. Before a figure comes the question of
the teacher's guide. What the lesson says in between are the speaker's notes: the key n shows them.

All is taken from the committed notebooks, as they were executed. `--pdf` prints each deck by
Chromium, which must be on the path.
"""

import argparse
import base64
import re
import shutil
import subprocess
import sys
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from nbconvert.filters import markdown2html
from nbformat import NotebookNode

from tools import blocks, pairing, teaching
from tools.minutes import OPENING, is_exercises
from tools.project import Project

MEDIA = ("image/png", "image/jpeg")
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
LONGEST_CODE = 12  # lines that can be read from the last row
BESIDE_A_FIGURE = 4  # printed lines
ON_A_SLIDE = 14
LONG = 260  # characters of a sentence that needs smaller letters
_NOT_FOR_SLIDES = re.compile(r"^(Profile \w+ on |[\w-]+: [\d.]+ M parameters|Not solved yet)")
_LINK = re.compile(r"\[([^\]]*)\]\([^)]*\)")
_EXERCISE = re.compile(r"^\*\*(\d\. .*?)\*\*", re.M | re.S)


@dataclass
class Slide:
    """One idea.

    Attributes:
        heading: the section of the lesson.
        kind: of the layout: "title", "question", "figure" or "text".
        figure: (media type, base64, alternative text), or nothing.
        code: lines whose result is shown.
        numbers: what was printed.
        says: Markdown of the sentence, or of the question.
        notes: Markdown of what the lesson says before.
    """

    heading: str
    kind: str = "text"
    figure: tuple[str, str, str] | None = None
    code: str = ""
    numbers: list[str] = field(default_factory=list)
    says: str = ""
    notes: list[str] = field(default_factory=list)


class _Deck:
    """Slides as they are put together, cell by cell."""

    def __init__(self, questions: Mapping[str, list[tuple[str, str]]]) -> None:
        self.slides: list[Slide] = []
        self.questions = questions
        self.section = OPENING
        self.notes: list[str] = []
        self.open: Slide | None = None

    def close(self) -> None:
        """Ends the slide that is being put together."""
        if self.open is not None:
            self.slides.append(self.open)
        self.open = None

    def enter(self, section: str) -> None:
        """Begins a section, by the questions that the guide asks before its figures."""
        self.close()
        self.section = section
        for ask, notes in self.questions.get(section, ()):
            self.slides.append(Slide(section, "question", says=ask, notes=[notes]))

    def begin(self, kind: str) -> Slide:
        """A new slide, to which the notes since the last one belong."""
        self.close()
        self.open = Slide(self.section, kind, notes=self.notes)
        self.notes = []
        return self.open

    def prose(self, markdown: str) -> None:
        """What a Markdown cell says: headings begin sections, the rest are notes."""
        before, *rest = re.split(r"^##+ (.*)$", blocks.uncommented(markdown), flags=re.M)
        self._note(before)
        for title, text in zip(rest[::2], rest[1::2], strict=True):
            self.enter(title)
            self._note(text)

    def _note(self, text: str) -> None:
        if text.strip():
            self.notes.append(_LINK.sub(r"\1", text.strip()))
        if is_exercises(self.section):
            for title in _EXERCISE.findall(text):
                slide = self.open or self.begin("text")
                slide.says += f"**{' '.join(title.split())}**\n\n"

    def image(self, figure: tuple[str, str, str]) -> None:
        """A figure always has a slide of its own."""
        self.begin("figure").figure = figure

    def printed(self, text: str, code: str) -> None:
        """Numbers: a few of them beside the figure above, else on a slide with their code.

        Below code stands what this code gives, and nothing that was printed later.
        """
        lines = [line for line in text.splitlines() if not _NOT_FOR_SLIDES.match(line)]
        if not any(line.strip() for line in lines):
            return
        slide = self.open
        beside = slide is not None and not code and not slide.code
        if slide is None or not beside or not self._has_room(slide, len(lines)):
            slide = self.begin("text")
            slide.code = code
        slide.numbers += lines

    def _has_room(self, slide: Slide, lines: int) -> bool:
        most = BESIDE_A_FIGURE if slide.figure is not None else ON_A_SLIDE
        return len(slide.numbers) + lines <= most

    def concluded(self, markdown: str) -> None:
        """A sentence that the lesson concludes ends its slide."""
        slide = self.open or self.begin("text")
        slide.says = _LINK.sub(r"\1", markdown)
        self.close()


def slides(project: Project, stem: str) -> list[Slide]:
    """The slides of a lesson, from its committed notebook.

    Raises:
        ValueError: a picture has no alternative text.
    """
    notebook = pairing.read_notebook(project, stem)
    deck = _Deck(teaching.questions(project, stem))
    title, question = pairing.title_and_promise(notebook)
    media, picture, alt = pairing.finished_picture(notebook)
    figure = (media, base64.b64encode(picture).decode(), alt) if picture else None
    deck.slides.append(Slide(title, "title", figure=figure, says=question))
    goals = re.findall(r"^\d\. .*?(?=^\d\. |^\s*$)", notebook.cells[0].source, re.M | re.S)
    if goals:
        listed = "".join(goals)
        deck.slides.append(Slide("When you are through you can", says=listed))
    for cell in notebook.cells[1:]:
        _add(deck, cell)
    deck.close()
    return [slide for slide in deck.slides if not _is_empty(slide)]


def _add(deck: _Deck, cell: NotebookNode) -> None:
    if cell.cell_type == "markdown":
        if _is_tagged(cell, "-solution"):
            return
        deck.prose(cell.source)
        return
    if _is_tagged(cell, "-stub") or _is_tagged(cell, "-check"):
        return
    for output in cell.outputs:
        _show(deck, output, cell.source)


def _is_tagged(cell: NotebookNode, end: str) -> bool:
    return any(tag.endswith(end) for tag in cell.metadata.get("tags", ()))


def _show(deck: _Deck, output: NotebookNode, source: str) -> None:
    code = source.strip() if len(source.strip().splitlines()) <= LONGEST_CODE else ""
    data: Mapping[str, Any] = output.get("data", {})
    for media in MEDIA:
        if media in data:
            deck.image((media, data[media].strip(), _alt(output, media)))
            return
    if "text/markdown" in data:
        deck.concluded(data["text/markdown"])
    elif output.output_type == "stream":
        deck.printed(output.text, "")
    elif "text/plain" in data and "text/html" not in data and code:  # alone it says nothing
        deck.printed(data["text/plain"], code)


def _alt(output: NotebookNode, media: str) -> str:
    alt = str(output.metadata.get(media, {}).get("alt", ""))
    if not alt:
        raise ValueError("a picture has no alternative text: run `make notebooks`")
    return alt


def _is_empty(slide: Slide) -> bool:
    return slide.figure is None and not slide.numbers and not slide.says


def html(title: str, made: Sequence[Slide]) -> str:
    """A deck in one file."""
    here = Path(__file__).parent
    style = (here / "slides.css").read_text(encoding="utf-8")
    script = (here / "slides.js").read_text(encoding="utf-8")
    body = "\n".join(_section(slide) for slide in made)
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n<style>\n{style}</style>\n</head>\n<body>\n{body}\n"
        '<nav aria-label="Slides"><button id="before" aria-label="Slide before">&lt;</button>'
        '<output aria-live="polite"></output>'
        '<button id="after" aria-label="Next slide">&gt;</button>'
        '<button id="notes">notes</button></nav>\n'
        f"<script>\n{script}</script>\n</body>\n</html>\n"
    )


def _section(slide: Slide) -> str:
    parts = [f"<{_level(slide)}>{escape(slide.heading)}</{_level(slide)}>"]
    says = ""
    if slide.says:
        long = " long" if len(slide.says) > LONG else ""
        says = f'<div class="says{long}">{markdown2html(slide.says).strip()}</div>'
    if slide.kind == "title":
        parts.append(says)
    if slide.code:
        parts.append(f'<pre class="code">{escape(slide.code)}</pre>')
    if slide.figure is not None:
        media, content, alt = slide.figure
        source = f"data:{media};base64,{content}"
        parts.append(f'<div class="figure"><img src="{source}" alt="{escape(alt)}"></div>')
    if slide.numbers:
        numbers = textwrap.dedent("\n".join(slide.numbers))
        parts.append(f'<pre class="numbers">{escape(numbers)}</pre>')
    if slide.kind != "title":
        parts.append(says)
    notes = markdown2html("\n\n".join(slide.notes)).strip()
    inside = "\n".join(part for part in parts if part)
    return f'<section class="{slide.kind}">\n{inside}\n</section>\n<aside>{notes}</aside>'


def _level(slide: Slide) -> str:
    return "h1" if slide.kind == "title" else "h2"


def print_pdf(page: Path) -> Path:
    """Prints a deck by Chromium, one slide on each page.

    Raises:
        SystemExit: there is no Chromium, or it prints nothing.
    """
    found = next((name for name in BROWSERS if shutil.which(name)), None)
    if found is None:
        raise SystemExit(f"--pdf needs one of {', '.join(BROWSERS)} on the path")
    target = page.with_suffix(".pdf")
    target.unlink(missing_ok=True)
    with TemporaryDirectory() as profile:
        command = [
            found,
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            f"--user-data-dir={profile}",
        ]
        command += ["--no-pdf-header-footer", f"--print-to-pdf={target}", page.resolve().as_uri()]
        subprocess.run(command, check=False, capture_output=True)
    if not target.exists():
        raise SystemExit(f"{found} has printed no {target}")
    return target


def write(project: Project, stems: Sequence[str], folder: Path) -> Iterator[Path]:
    """Writes the decks of lessons, and yields each file."""
    folder.mkdir(parents=True, exist_ok=True)
    for stem in stems:
        made = slides(project, stem)
        path = folder / f"{stem}.html"
        path.write_text(html(made[0].heading, made), encoding="utf-8", newline="\n")
        yield path


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line: see the module's text."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split(":")[0])
    parser.add_argument("lessons", nargs="*", help="as 01; none: all")
    parser.add_argument("--pdf", action="store_true", help="print each deck too")
    parser.add_argument("--out", type=Path, help="folder, instead of build/slides")
    options = parser.parse_args(arguments)
    project = Project()
    stems = [stem for stem in project.chosen(options.lessons) if stem in project.lessons()]
    for page in write(project, stems, options.out or project.build / "slides"):
        count = page.read_text(encoding="utf-8").count("<section")
        print(f"{page}: {count} slides, {page.stat().st_size / 1e6:.1f} MB", flush=True)
        if options.pdf:
            print(print_pdf(page), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())

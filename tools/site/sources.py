"""Writes Sphinx's sources: every page in its place, and what stands around it."""

import io
import re
import shutil
from collections import Counter
from dataclasses import dataclass
from html import escape
from pathlib import Path

from PIL import Image

from tools import blocks, pairing, recorded
from tools.project import Project
from tools.site import contents, markdown, notebook_pages, reference

THUMBNAIL = (640, 480)
VERDICTS = {"holds": "holds", "holds in part": "part", "does not hold": "not"}


@dataclass(frozen=True)
class Folders:
    """Where a site is made.

    Attributes:
        sources: what Sphinx reads.
        extra: what is copied to the site as it is.
        doctrees: what Sphinx keeps.
        site: the pages.
    """

    sources: Path
    extra: Path
    doctrees: Path
    site: Path

    @classmethod
    def under(cls, build: Path) -> "Folders":
        """The folders of a build."""
        work = build / "site-work"
        return cls(work / "sources", work / "extra", work / "doctrees", build / "site")

    def clear(self) -> None:
        """Removes what is there, so that no page outlives its source."""
        for folder in (self.sources, self.extra, self.doctrees, self.site):
            shutil.rmtree(folder, ignore_errors=True)
        self.sources.mkdir(parents=True)
        self.extra.mkdir(parents=True)


def write(project: Project, folders: Folders) -> None:
    """Writes everything that Sphinx reads, and the pictures beside it."""
    pages = {*contents.pages(project), contents.API}
    for stem in project.stems():
        notebook_pages.write(project, stem, folders.sources, folders.extra, pages)
    for page, text in reference.pages().items():
        _write(folders, page, text)
    sections = contents.sections(project)
    below = {section.page: contents.toctree(section.pages) for section in sections if section.pages}
    notebooks = {f"notebooks/{stem}" for stem in project.stems()}
    for page in contents.pages(project):
        if page not in notebooks and page != contents.API:
            _write(folders, page, _page(project, folders, page, pages) + below.get(page, ""))
    for figure in sorted((project.root / "notebooks" / "figures").iterdir()):
        target = folders.sources / "notebooks" / "figures" / figure.name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(figure, target)


def _write(folders: Folders, page: str, text: str) -> None:
    path = folders.sources / f"{page}.md"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def _page(project: Project, folders: Folders, page: str, pages: set[str]) -> str:
    if page == contents.FRONT:
        return _front(project, folders, pages)
    if page == contents.LESSONS:
        return _list("Lessons", LESSONS_ARE, _cards(project, folders, ""))
    if page == contents.EVIDENCE:
        return _list("Evidence", EVIDENCE_IS, _evidence(project))
    path = f"{page}.md"
    text = (project.root / path).read_text(encoding="utf-8")
    if page == contents.LEDGER:
        text = _coloured(text)
    return _with_pictures(project, folders, path, markdown.as_page(project, path, text, pages))


LESSONS_ARE = (
    "Seven lessons of about 50 minutes, one question each, in any order. Each builds the right way "
    "step by step, shows beside it what the article does, and ends with exercises and your own "
    "images. What it says in passing is measured to the end in [the evidence](evidence/index.md)."
)
EVIDENCE_IS = (
    "For sceptics, and for whoever chooses a method: the questions of [the lessons](../index.md), "
    "measured to the end. Sweeps, ablations, controls, rivals that know nothing, and the rows of "
    "[the ledger of claims](../../docs/ledger.md)."
)


def _list(title: str, about: str, listed: str) -> str:
    return f"# {title}\n\n{about}\n\n{listed}\n"


def _front(project: Project, folders: Folders, pages: set[str]) -> str:
    """README.md, its table of lessons as cards, and its verdicts in colour."""
    text = (project.root / "README.md").read_text(encoding="utf-8")
    passages = blocks.passages(text)
    cards = _cards(project, folders, "notebooks/")
    passages |= {"notebooks": cards, "verdicts": _summary(project)}
    text = markdown.as_page(project, "README.md", blocks.fill(text, passages), pages)
    sections = contents.sections(project)
    titles = {section.page: section.title for section in sections}
    text = _with_pictures(project, folders, "README.md", text)
    return text + contents.toctree(tuple(titles), titles)


def _summary(project: Project) -> str:
    _, claims = recorded.files(pairing.COMMITTED_PROFILE)
    verdicts = Counter(row["verdict"] for row in recorded.read(project.results / claims).values())
    counted = ", ".join(f"{verdicts[verdict]} {_coloured_word(verdict)}" for verdict in VERDICTS)
    return f"{sum(verdicts.values())} claims: {counted}."


def _coloured_word(verdict: str) -> str:
    return f'<span class="verdict {VERDICTS[verdict]}">{verdict}</span>'


def _coloured(ledger: str) -> str:
    for verdict in VERDICTS:
        ledger = ledger.replace(f"| {verdict} |", f"| {_coloured_word(verdict)} |")
    return ledger


def _cards(project: Project, folders: Folders, to_notebooks: str) -> str:
    """HTML of the lessons: picture, title, question, and the number that each comes to."""
    numbers = recorded.read(project.results / f"{pairing.COMMITTED_PROFILE}.json")
    up = "" if to_notebooks else "../"
    cards = []
    for stem in project.lessons():
        notebook = pairing.read_source(project, stem)
        title, question = pairing.title_and_promise(notebook)
        key, meaning = next(iter(notebook.metadata["headline"].items()))
        number = f"{numbers[key]:.3f}: {escape(meaning)}" if key in numbers else ""
        address = f"{to_notebooks}{stem}.html"
        cards.append(
            f'<div class="lesson">{_thumbnail(project, folders, stem, up)}'
            f'<p class="name"><a href="{address}">{escape(title)}</a></p>'
            f'<p class="question">{escape(question)}</p><p class="number">{number}</p></div>'
        )
    return '<div class="lessons">\n' + "\n".join(cards) + "\n</div>"


def _thumbnail(project: Project, folders: Folders, stem: str, up: str) -> str:
    """HTML of a lesson's finished picture; its title says the same, so it needs no words."""
    for path in sorted((project.root / "notebooks" / "figures").glob(f"{stem}.*")):
        image = Image.open(path).convert("RGB")
        image.thumbnail(THUMBNAIL)
        encoded = io.BytesIO()
        image.save(encoded, "JPEG", quality=85)
        name = f"{notebook_pages.FOLDER}/cards/{stem}.jpeg"
        target = folders.extra / name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(encoded.getvalue())
        return notebook_pages.picture(encoded.getvalue(), up + name, _alt(project, stem))
    return ""


def _alt(project: Project, stem: str) -> str:
    """What the header picture of a lesson shows."""
    first = pairing.read_source(project, stem).cells[0].source
    found = re.search(r"!\[([^\]]+)\]", first)
    return found[1] if found else pairing.title_and_promise(pairing.read_source(project, stem))[0]


def _evidence(project: Project) -> str:
    rows = []
    for stem in project.evidence():
        notebook = pairing.read_source(project, stem)
        title, question = pairing.title_and_promise(notebook)
        name = stem.removeprefix("evidence/")
        rows.append(f"- **[{title}]({name}.ipynb)**. {question}")
    return "\n".join(rows)


def _with_pictures(project: Project, folders: Folders, path: str, text: str) -> str:
    """Copies the pictures that a page shows or links, those of written HTML to the site itself."""
    folder = Path(path).parent
    kinds = r"[\w./-]+\.(?:png|jpe?g|svg)"
    wanted = [(folders.sources, name) for name in re.findall(rf"\]\(({kinds})\)", text)]
    wanted += [(folders.extra, name) for name in re.findall(rf'src="({kinds})"', text)]
    for root, name in wanted:
        picture = (project.root / folder / name).resolve()
        if picture.is_file():
            target = root / picture.relative_to(project.root.resolve())
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(picture, target)
    return text

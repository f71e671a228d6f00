"""The folders of the kit: for everybody, and for whoever teaches."""

import re
import shutil
import subprocess
import sys
import zipfile
from html import escape
from pathlib import Path

import nbformat
from nbconvert.filters import markdown2html
from nbformat import NotebookNode

from tools import blocks, front, lab, links, pairing, quiz
from tools.project import Project
from tools.workshop import start

WORKSHOP = "dinov2-workshop"
TEACHER = "dinov2-teacher"
WHEELS = "wheels"
LESSONS = "lessons"
START_HERE = "START-HERE.html"
TROUBLE = "What goes wrong in rooms, and the cure"  # a section of docs/teaching.md
_LINK = re.compile(r"\[([^\]]*)\]\([^)]*\)")
_STYLE = """
body { font: 18px/1.5 system-ui, sans-serif; max-width: 46rem; margin: 2rem auto; padding: 0 1rem }
pre { background: #f2f2f2; color: #111; padding: .6rem 1rem; overflow-x: auto }
table { border-collapse: collapse }
th, td { border-bottom: 1px solid #999; padding: .3rem .6rem; text-align: left }
td { vertical-align: top }
@media (prefers-color-scheme: dark) {
  body { background: #111; color: #eee } a { color: #8cf } pre { background: #222; color: #eee }
}
"""


def write(project: Project, folder: Path) -> None:
    """Writes the folder for everybody, but for the wheels of what the package needs.

    Args:
        project: the checkout.
        folder: is emptied first, but for wheels that are there.
    """
    _clear(folder, kept=WHEELS)
    for stem in project.lessons():
        _write(folder / LESSONS / "notebooks" / f"{stem}.ipynb", for_everybody(project, stem))
    for stem in project.evidence():
        committed = pairing.read_notebook(project, stem)
        _write(folder / LESSONS / "notebooks" / f"{stem}.ipynb", committed)
    _beside(project, folder / LESSONS)
    shutil.copy(project.root / "constraints.txt", folder)
    shutil.copy(project.root / "LICENSE", folder)
    shutil.copy(Path(__file__).with_name("start.py"), folder)
    shutil.copytree(lab.SETTINGS, folder / start.SETTINGS.name)
    build_wheel(project, folder / WHEELS)
    (folder / START_HERE).write_text(start_here(project), encoding="utf-8", newline="\n")


def write_teacher(project: Project, folder: Path) -> None:
    """Writes the folder for whoever teaches: outputs, solutions, guide and quiz."""
    _clear(folder)
    for stem in project.stems():
        path = folder / LESSONS / "notebooks" / f"{stem}.ipynb"
        _write(path, pairing.read_notebook(project, stem))
    _beside(project, folder / LESSONS)
    text = (project.root / "docs" / "teaching.md").read_text(encoding="utf-8")
    page = _page("Teaching the course", _as_html(_LINK.sub(r"\1", blocks.uncommented(text))))
    (folder / "GUIDE.html").write_text(page, encoding="utf-8", newline="\n")
    (folder / "quiz.gift").write_text(
        quiz.gift(project, project.lessons()), encoding="utf-8", newline="\n"
    )


def for_everybody(project: Project, stem: str) -> NotebookNode:
    """A lesson as its source has it, without outputs and without the solutions of exercises."""
    notebook = pairing.read_source(project, stem)
    notebook.cells = [cell for cell in notebook.cells if not _is_solution(cell)]
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            cell.source = links.localise(project, stem, blocks.uncommented(cell.source))
    return notebook


def _is_solution(cell: NotebookNode) -> bool:
    return any(tag.endswith("-solution") for tag in cell.metadata.get("tags", ()))


def _clear(folder: Path, kept: str = "") -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for path in folder.iterdir():
        if path.name == kept:
            continue
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()


def _write(path: Path, notebook: NotebookNode) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(nbformat.writes(notebook) + "\n", encoding="utf-8", newline="\n")


def _beside(project: Project, folder: Path) -> None:
    """Copies what the notebooks show and link to."""
    shutil.copytree(project.root / "notebooks" / "figures", folder / "notebooks" / "figures")
    (folder / "docs").mkdir()
    for path in sorted((project.root / "docs").glob("*.md")):
        if path.stem not in ("teaching", "quiz"):  # they have answers in them
            shutil.copy(path, folder / "docs")
    for path in sorted(project.root.glob("README*.md")):
        shutil.copy(path, folder)


def build_wheel(project: Project, folder: Path) -> Path:
    """Builds the package's wheel, with data and models in it, in place of an older one.

    Raises:
        SystemExit: pip cannot build it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for older in folder.glob("dinov2_in_practice-*.whl"):
        older.unlink()
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps"]
    done = subprocess.run([*command, "--wheel-dir", str(folder), str(project.root)], check=False)
    if done.returncode:
        raise SystemExit("the package's wheel cannot be built: pip has said why")
    (wheel,) = folder.glob("dinov2_in_practice-*.whl")
    return wheel


def start_here(project: Project) -> str:
    """HTML of the page that people open first."""
    lessons = []
    for stem in project.lessons():
        notebook = pairing.read_source(project, stem)
        title, question = pairing.title_and_promise(notebook)
        lessons.append(f"| {title} | {question} | {front.minutes(notebook)} |")
    guide = (project.root / "docs" / "teaching.md").read_text(encoding="utf-8")
    text = Path(__file__).with_name("start-here.md").read_text(encoding="utf-8")
    made = blocks.fill(
        text,
        {
            "lessons": "\n".join(
                ["| lesson | question | minutes |", "| --- | --- | --- |", *lessons]
            ),
            "trouble": _LINK.sub(r"\1", _section(guide, TROUBLE)),
        },
    )
    return _page("Start here", _as_html(blocks.uncommented(made)))


def _section(markdown: str, title: str) -> str:
    """The table of a section of a document."""
    _, _, rest = markdown.partition(f"\n## {title}\n")
    lines = [line for line in rest.split("\n## ")[0].splitlines() if line.startswith("|")]
    if not lines:
        raise ValueError(f"docs/teaching.md has no table in the section {title!r}")
    return "\n".join(lines)


def _as_html(markdown: str) -> str:
    return str(markdown2html(markdown))


def _page(title: str, body: str) -> str:
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n<style>{_STYLE}</style>\n</head>\n"
        f"<body>\n<main>\n{body}\n</main>\n</body>\n</html>\n"
    )


def pack(folder: Path) -> Path:
    """A zip of a folder, beside it; what is packed already, as wheels are, is stored as it is."""
    target = folder.with_suffix(".zip")
    with zipfile.ZipFile(target, "w") as archive:
        for path in sorted(folder.rglob("*")):
            if path.is_file():
                packed = path.suffix in (".whl", ".png", ".jpeg")
                kind = zipfile.ZIP_STORED if packed else zipfile.ZIP_DEFLATED
                archive.write(path, path.relative_to(folder.parent), compress_type=kind)
    return target

"""The contents of the site: which pages there are, and in which order they are read."""

from dataclasses import dataclass

from tools.project import Project

FRONT = "index"  # README.md
LESSONS = "notebooks/index"
EVIDENCE = "notebooks/evidence/index"
LEDGER = "docs/ledger"
API = "api/index"
CHINESE = "README.zh-CN"
# what a file of the repository is called on the site, where that is not its path
RENAMED = {"README.md": FRONT, "notebooks/README.md": LESSONS}


@dataclass(frozen=True)
class Section:
    """A part of the site.

    Attributes:
        title: in the bar at the top of all pages.
        page: what it opens with.
        pages: the others, in order; all are paths in the repository without their suffix.
    """

    title: str
    page: str
    pages: tuple[str, ...] = ()


def sections(project: Project) -> tuple[Section, ...]:
    """All of them; the pages under `API` are made by `reference` and listed there."""
    lessons = tuple(f"notebooks/{stem}" for stem in project.lessons())
    evidence = tuple(f"notebooks/{stem}" for stem in project.evidence())
    other_languages: tuple[Section, ...] = ()
    if (project.root / f"{CHINESE}.md").exists():
        other_languages = (Section("中文", CHINESE),)
    return (
        Section("Lessons", LESSONS, lessons),
        Section("Evidence", EVIDENCE, evidence),
        Section("Claims", LEDGER),
        Section("Library", "docs/library", ("docs/models", "docs/2026", "docs/scaling", API)),
        Section("Teach", "docs/teaching", ("docs/quiz",)),
        Section("Help", "docs/faq", ("docs/glossary", "docs/references", "CHANGELOG")),
        *other_languages,
    )


def pages(project: Project) -> list[str]:
    """Every page but those of the API, the front page first."""
    listed = [FRONT]
    for section in sections(project):
        listed += [section.page, *section.pages]
    return listed


def page_of(path: str) -> str:
    """The page that a file of the repository is, or would be: "docs/faq" of "docs/faq.md"."""
    return RENAMED.get(path, path.rpartition(".")[0])


def toctree(pages: tuple[str, ...], titles: dict[str, str] | None = None) -> str:
    """Markdown that puts pages under the one that it stands on, without showing it."""
    entries = [f"{titles[page]} </{page}>" if titles else f"/{page}" for page in pages]
    return "\n".join(["", "```{toctree}", ":hidden:", "", *entries, "```", ""])

"""Passages of the front door, README.md and README.zh-CN.md: the same numbers in two languages.

Names of Chinese passages end in "-zh". Their words are in `tools.chinese`.
"""

import re
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from html import escape

from nbformat import NotebookNode

from dinov2_helpers.models import PROFILES, WEIGHTS
from tools import chinese, launch, pairing, recorded, tables
from tools.project import Project

THUMBNAIL = 200  # pixels of width
VERDICTS = ("holds", "holds in part", "does not hold")
_MINUTES = re.compile(r"^About (?:(?P<minutes>\d+) minutes|(?P<hour>an hour))\.", re.M)
_FIGURE = re.compile(r"!\[([^\]]+)\]\(figures/")


@dataclass(frozen=True)
class Language:
    """What the tables of a language say.

    Attributes:
        suffix: of the names of its passages.
        word: the language's words for an English text of the course.
        evidence: the word for an evidence notebook.
        lessons: heads of the table of lessons.
        open_in: head of its last column, once there are buttons.
        verdicts: a line for each of `VERDICTS`, to be filled with a number.
        downloads: heads of the table of downloads.
        nothing: the word for a download that is none.
    """

    suffix: str
    word: Callable[[str], str]
    evidence: str
    lessons: tuple[str, ...]
    open_in: str
    verdicts: tuple[str, ...]
    downloads: tuple[str, ...]
    nothing: str


ENGLISH = Language(
    suffix="",
    word=str,
    evidence="evidence",
    lessons=("", "lesson", "question", "minutes"),
    open_in="open in",
    verdicts=("**{} hold**", "**{} hold in part**", "**{} do not hold**"),
    downloads=("profile", "DINOv2", "CLIP", "Stable Diffusion, lesson 7 alone"),
    nothing="nothing",
)
CHINESE = Language(
    suffix="-zh",
    word=chinese.word,
    evidence="实测",
    lessons=("", "课程", "问题", "分钟"),
    open_in="在线打开",
    verdicts=("**{} 条成立**", "**{} 条部分成立**", "**{} 条不成立**"),
    downloads=("配置", "DINOv2", "CLIP", "Stable Diffusion（仅第 7 课）"),
    nothing="无需下载",
)


def passages(project: Project) -> dict[str, str]:
    """Markdown of the passages of both front pages, and of what each lesson comes to."""
    _, claims = recorded.files(pairing.COMMITTED_PROFILE)
    rows = recorded.read(project.results / claims)
    owners = recorded.read(project.results / recorded.OWNERS).get(claims, {})
    made = {"outcomes": _outcomes(project), "claims-zh": _claims_in_chinese(rows, owners)}
    for language in (ENGLISH, CHINESE):
        made["notebooks" + language.suffix] = _lessons(project, language)
        made["verdicts" + language.suffix] = _verdicts(rows, language)
        made["downloads" + language.suffix] = _downloads(language)
    return made


def minutes(notebook: NotebookNode) -> int:
    """How long a lesson takes, as its first cell says.

    Raises:
        ValueError: it does not say so.
    """
    found = _MINUTES.search(notebook.cells[0].source)
    if found is None:
        raise ValueError('the first cell must have a line that begins "About 50 minutes."')
    return 60 if found["hour"] else int(found["minutes"])


def alt(notebook: NotebookNode) -> str:
    """What the finished picture of a lesson shows, as its first cell says.

    Raises:
        ValueError: it shows none.
    """
    found = _FIGURE.search(notebook.cells[0].source)
    if found is None:
        raise ValueError("the first cell shows no figure with an alternative text")
    return found[1]


def _lessons(project: Project, language: Language) -> str:
    rows = []
    for stem in project.lessons():
        notebook = pairing.read_source(project, stem)
        title, question = pairing.title_and_promise(notebook)
        (figure,) = (project.root / "notebooks" / "figures").glob(f"{stem}.*")
        words = escape(language.word(alt(notebook)))
        picture = f'<img src="notebooks/figures/{figure.name}" alt="{words}" width="{THUMBNAIL}">'
        name = f"[{language.word(title)}](notebooks/{stem}.ipynb)"
        if f"evidence/{stem}" in project.evidence():
            name += f"<br>[{language.evidence}](notebooks/evidence/{stem}.ipynb)"
        row = [picture, name, language.word(question), str(minutes(notebook))]
        if project.repository:
            row.append(launch.buttons(project, stem))
        rows.append(row)
    heads = [*language.lessons, language.open_in] if project.repository else language.lessons
    return tables.markdown(heads, rows)


def _verdicts(claims: Mapping[str, Mapping[str, str]], language: Language) -> str:
    """How many claims hold: a list of three lines."""
    counts = Counter(row["verdict"] for row in claims.values())
    lines = zip(VERDICTS, language.verdicts, strict=True)
    return "\n".join(f"- {line.format(counts[verdict])}" for verdict, line in lines)


def _downloads(language: Language) -> str:
    """What each profile fetches once; those with registers weigh what the others do."""
    rows: dict[tuple[str, ...], list[str]] = {}
    for profile in PROFILES.values():
        names = (profile.dinov2, profile.clip, profile.diffusion)
        sizes = [
            f"{WEIGHTS[name]['megabytes']:,} MB" if name in WEIGHTS else language.nothing
            for name in names
        ]
        rows.setdefault(tuple(sizes), [f"`{profile.name}`", *sizes])
    return tables.markdown(language.downloads, list(rows.values()))


def _claims_in_chinese(claims: Mapping[str, Mapping[str, str]], owners: Mapping[str, str]) -> str:
    """The claims in our own Chinese words, with verdict and notebook."""
    rows = []
    for key, row in sorted(claims.items()):
        place = key[:2]
        if key in owners:
            place = f"[{place}](notebooks/{owners[key]}.ipynb)"
        rows.append([chinese.word(row["claim"]), chinese.word(row["verdict"]), place])
    return tables.markdown(("文章的说法", "结论", "实测"), rows)


def _outcomes(project: Project) -> str:
    """What each lesson comes to, and what it costs, for docs/ledger.md."""
    numbers = recorded.read(project.results / f"{pairing.COMMITTED_PROFILE}.json")
    costs = pairing.read_costs(project)
    rows = []
    for stem in project.lessons():
        notebook = pairing.read_source(project, stem)
        title, _ = pairing.title_and_promise(notebook)
        key, meaning = next(iter(notebook.metadata["headline"].items()))
        cost = f"{pairing.time_of(costs[stem])}; {costs[stem]['peak_mb'] / 1000:.1f} GB"
        lesson = f"[{title}](../notebooks/{stem}.ipynb)"
        rows.append([lesson, f"{numbers[key]:.3f}: {meaning}", cost])
    return tables.markdown(("lesson", "what it comes to", "time and memory"), rows)

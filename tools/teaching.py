"""What a teacher needs beside the lessons: passages of docs/teaching.md.

notebooks/teaching/NN_name.toml says of a lesson which misconception it cures, what to ask before
its main figures, what people answer, what the figure then shows, what to draw on the board and what
to watch for in the exercises. Numbers stand in places, see `tools.quoted`: {shown.NAME} is what the
committed lesson shows, found in its outputs by the pattern NAME of the table `shown`.

notebooks/teaching/schedules.toml puts sections into an hour, half a day and two days.
"""

import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from tools import minutes, pairing, quoted, recorded, tables
from tools.project import Project, read_toml

ASKING = 1  # minute for each question before a figure
EXPECTED = "Answers to expect"
PEOPLE = 30  # in a room, and cores of a server, for the table of what they take together
CORES = 16


def folder(project: Project) -> Path:
    """Where the texts for teachers are."""
    return project.root / "notebooks" / "teaching"


def passages(project: Project) -> dict[str, str]:
    """Markdown of the passages of docs/teaching.md."""
    lessons = [lesson(project, stem) for stem in project.lessons()]
    return {
        "lessons-taught": "\n\n".join(lessons),
        "room": server(project),
        "schedules": schedules(project),
    }


def lesson(project: Project, stem: str) -> str:
    """What a teacher needs for a lesson.

    Raises:
        ValueError: a text names a section, an output or a number that is not there.
    """
    path = folder(project) / f"{stem}.toml"
    entry = read_toml(path)
    notebook = pairing.read_source(project, stem)
    titles = [section.title for section in minutes.sections(notebook)]
    values: dict[str, float | str] = {
        **quoted.numbers(project),
        **_shown(project, stem, entry, path),
    }
    title, question = pairing.title_and_promise(notebook)
    parts = [
        f"### {title}",
        f"*{question}* [Lesson](../notebooks/{stem}.ipynb), "
        f"[evidence](../notebooks/evidence/{stem}.ipynb), [quiz](quiz.md#{_anchor(title)})",
        f"**The misconception it cures.** {_one_line(entry['misconception'])} Of the article's "
        f"claims: {_claims(project, stem)}.",
        "**Before the figures**",
    ]
    for figure in entry["figure"]:
        if figure["section"] not in titles:
            raise ValueError(f"{path.name}: the lesson has no section {figure['section']!r}")
        parts.append(_figure(figure, values, path))
    parts += ["**On the board**", f"```text\n{entry['board'].strip(chr(10))}\n```", "**Exercises**"]
    parts.append(_exercises(entry["exercise"]))
    heads = ("section", "words", "lines of code", "minutes")
    parts += ["**Minutes**", tables.markdown(heads, minutes.rows(project, stem))]
    return "\n\n".join(parts)


def server(project: Project) -> str:
    """What the kernels of a room take on one server, from the recorded costs of each lesson."""
    costs = pairing.read_costs(project)
    rows = []
    for stem in project.lessons():
        title, _ = pairing.title_and_promise(pairing.read_source(project, stem))
        peak = costs[stem]["peak_mb"] / 1000
        work = costs[stem]["cpu_seconds"]
        waits = PEOPLE * work / CORES / 60
        rows.append(
            [
                title,
                f"{peak:.1f} GB",
                f"{PEOPLE * peak:.0f} GB",
                f"{work:.0f} s",
                f"{waits:.0f} min",
            ]
        )
    heads = (
        "lesson",
        "memory of a kernel, at most",
        f"of {PEOPLE} kernels, at most",
        "CPU time of a run",
        f"{PEOPLE} runs at once on {CORES} cores",
    )
    return tables.markdown(heads, rows)


def questions(project: Project, stem: str) -> dict[str, list[tuple[str, str]]]:
    """What to ask before the figures of each section of a lesson, and what then to say."""
    path = folder(project) / f"{stem}.toml"
    entry = read_toml(path)
    values: dict[str, float | str] = {
        **quoted.numbers(project),
        **_shown(project, stem, entry, path),
    }
    asked: dict[str, list[tuple[str, str]]] = {}
    for figure in entry["figure"]:
        ask, answers, then = _filled(figure, values, path)
        asked.setdefault(figure["section"], []).append(
            (ask, f"{EXPECTED}: {answers}\n\nThen: {then}")
        )
    return asked


def _shown(
    project: Project, stem: str, entry: Mapping[str, Any], path: Path
) -> Mapping[str, float | str]:
    """What the patterns of a file find in the outputs of the committed lesson."""
    outputs = _texts(project, stem)
    found = {}
    for name, pattern in entry["shown"].items():
        match = re.search(pattern, outputs)
        if match is None:
            raise ValueError(f"{path.name}: no output of the lesson has {pattern!r} ({name})")
        found[f"shown.{name}"] = match[1].rstrip(",;.")
    return found


def _texts(project: Project, stem: str) -> str:
    """All that the outputs of a committed lesson say in words."""
    texts = []
    for cell in pairing.read_notebook(project, stem).cells:
        for output in cell.get("outputs", ()):
            data = output.get("data", {})
            texts.append(
                output.get("text") or data.get("text/markdown") or data.get("text/plain", "")
            )
    return "\n".join(texts)


def _figure(figure: Mapping[str, Any], values: Mapping[str, float | str], path: Path) -> str:
    ask, answers, then = _filled(figure, values, path)
    return f"- *{figure['section']}*: **{ask}** {EXPECTED}: {answers} Then: {then}"


def _filled(
    figure: Mapping[str, Any], values: Mapping[str, float | str], path: Path
) -> tuple[str, str, str]:
    """The question before a figure, the answers to expect, and what to say then."""
    try:
        ask = quoted.fill(figure["ask"], values)
        expected = [quoted.fill(answer, values) for answer in figure["expect"]]
        then = quoted.fill(figure["then"], values)
    except ValueError as error:
        raise ValueError(f"{path.name}, {figure['section']}: {error}") from error
    return ask, " ".join(f'"{answer}"' for answer in expected), then


def _exercises(exercises: Sequence[Mapping[str, Any]]) -> str:
    lines = []
    for exercise in exercises:
        planned = minutes.EXERCISES[exercise["number"]]
        lines.append(f"{exercise['number']}. {planned} minutes. {exercise['watch']}")
    return "\n".join(lines)


def _claims(project: Project, stem: str) -> str:
    """The verdicts on the claims that a lesson weighs, in a sentence."""
    _, name = recorded.files(pairing.COMMITTED_PROFILE)
    rows = recorded.read(project.results / name)
    said = [
        f"*{row['claim']}*: {row['verdict']}"
        for key, row in sorted(rows.items())
        if key.startswith(f"{stem[:2]}.")
    ]
    return "; ".join(said)


def _one_line(text: str) -> str:
    return " ".join(text.split())


def _anchor(title: str) -> str:
    kept = re.sub(r"[^\w\s-]", "", title.lower())
    return kept.replace(" ", "-")


class _Taught(NamedTuple):
    """What schedules need to know of a lesson."""

    title: str
    sections: list[minutes.Section]
    asked: list[str]  # sections before whose figures a question is asked, one for each question


def _taught(project: Project, stem: str) -> _Taught:
    notebook = pairing.read_source(project, stem)
    title, _ = pairing.title_and_promise(notebook)
    figures = read_toml(folder(project) / f"{stem}.toml")["figure"]
    asked = [figure["section"] for figure in figures]
    return _Taught(f"Lesson {title}", minutes.sections(notebook), asked)


def schedules(project: Project) -> str:
    """Each schedule as a table, with the minute at which each part begins.

    Raises:
        ValueError: a schedule names a section that is not there, or takes longer than it may.
    """
    path = folder(project) / "schedules.toml"
    taught = {stem: _taught(project, stem) for stem in project.lessons()}
    parts = []
    for schedule in read_toml(path)["schedule"]:
        begins = 0
        rows = []
        for part in schedule["parts"]:
            taken = _minutes_of(part, taught)
            rows.append([_clock(begins), _what(part, taught), str(taken)])
            begins += taken
        if begins > schedule["minutes"]:
            raise ValueError(
                f"{path.name}: {schedule['name']} takes {begins} minutes, "
                f"{begins - schedule['minutes']} too many"
            )
        rows.append([_clock(begins), f"end, {schedule['minutes'] - begins} minutes to spare", ""])
        parts.append(f"**{schedule['name']}**")
        parts.append(tables.markdown(("from", "what", "minutes"), rows))
    return "\n\n".join(parts)


def _clock(minute: int) -> str:
    return f"{minute // 60}:{minute % 60:02d}"


def _minutes_of(part: Mapping[str, Any], taught: Mapping[str, _Taught]) -> int:
    """Whole minutes of a part of a schedule."""
    if "minutes" in part:
        return int(part["minutes"])
    if "exercises" in part:
        return sum(minutes.EXERCISES[number] for number in part["exercises"])
    chosen = _chosen(part, taught)
    titles = {section.title for section in chosen}
    asked = sum(section in titles for section in taught[part["lesson"]].asked)
    return math.ceil(sum(section.minutes for section in chosen) + ASKING * asked)


def _chosen(part: Mapping[str, Any], taught: Mapping[str, _Taught]) -> list[minutes.Section]:
    """The sections of a lesson that a part of a schedule names."""
    there = taught[part["lesson"]].sections
    names = part.get("sections")
    if names is None:
        return [section for section in there if not minutes.is_exercises(section.title)]
    missing = set(names) - {section.title for section in there}
    if missing:
        raise ValueError(f"schedules.toml: {part['lesson']} has no section {sorted(missing)}")
    return [section for section in there if section.title in names]


def _what(part: Mapping[str, Any], taught: Mapping[str, _Taught]) -> str:
    """What is done in a part of a schedule."""
    if "what" in part:
        return str(part["what"])
    title = taught[part["lesson"]].title
    if "exercises" in part:
        numbers = " and ".join(str(number) for number in part["exercises"])
        return f"{title}: exercise {numbers}"
    if "sections" in part:
        return f"{title}: {', '.join(part['sections'])}"
    return f"{title}, all but the exercises"

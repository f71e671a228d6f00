"""The teacher's guide: its minutes, its schedules, and that what it quotes is there."""

import re
import shutil
from itertools import pairwise

import pytest

from tools import blocks, digits, guides, minutes, pairing, quoted, teaching
from tools.project import ROOT, Project, read_toml

PROJECT = Project()
LESSONS = PROJECT.lessons()
GUIDE = (ROOT / "docs" / "teaching.md").read_text(encoding="utf-8")


def material(stem):
    return read_toml(teaching.folder(PROJECT) / f"{stem}.toml")


@pytest.mark.parametrize("stem", LESSONS)
def test_sections_hold_all_of_a_lesson_but_its_solutions(stem):
    notebook = pairing.read_source(PROJECT, stem)
    found = minutes.sections(notebook)
    whole = guides.guide(notebook, {})
    assert sum(section.code_lines for section in found) == whole.code_lines
    # headings and the words of solutions are not read aloud
    assert 0.8 * whole.words < sum(section.words for section in found) < whole.words
    assert found[0].title == minutes.OPENING
    assert sum(minutes.is_exercises(section.title) for section in found) == 1


def test_minutes_are_counted_from_words_and_lines():
    notebook = pairing.read_source(PROJECT, LESSONS[0])
    section = minutes.Section("A", words=300, code_lines=24)
    assert section.minutes == 4
    rows = minutes.rows(PROJECT, LESSONS[0])
    assert [row[0] for row in rows[:-2]] == [one.title for one in minutes.sections(notebook)]
    assert float(rows[-1][3]) == round(pairing.read_costs(PROJECT)[LESSONS[0]]["seconds"] / 60, 1)
    total = sum(float(row[3]) for row in rows[:-2])
    assert abs(float(rows[-2][3].strip("*")) - total) < 1


def test_minutes_are_printed(capsys):
    assert minutes.main(["03"]) == 0
    out = capsys.readouterr().out
    assert out.startswith("03_semantic_segmentation\n")
    assert "What is a good mask?" in out


@pytest.mark.parametrize("stem", LESSONS)
def test_a_lesson_has_all_that_its_teacher_needs(stem):
    entry = material(stem)
    assert len(entry["figure"]) >= 5
    assert [exercise["number"] for exercise in entry["exercise"]] == [1, 2, 3]
    for figure in entry["figure"]:
        assert figure["expect"], figure["ask"]
    passage = teaching.lesson(PROJECT, stem)
    assert passage in GUIDE
    assert "{shown." not in passage
    assert max(len(line) for line in entry["board"].splitlines()) <= 100
    used = set(re.findall(r"\{shown\.(\w+)", str(entry)))
    assert used <= set(entry["shown"]), "a place without a pattern"


@pytest.mark.parametrize("stem", LESSONS)
def test_no_number_is_typed_before_a_figure(stem):
    for figure in material(stem)["figure"]:
        texts = (figure["ask"], *figure["expect"], figure["then"])
        left = [line for text in texts for line in digits.lines(quoted.without_places(text))]
        assert left == []


def test_no_number_is_typed_into_the_guide_without_a_reason():
    reasons = {
        "Python 3.10 or newer, and 3 GB free": "what README.md says of Python and of the disk",
        "a minute for 150 words or 12 lines": "the rate of tools.guides, checked below",
        "lines have up to 100 characters": "the limit of pyproject.toml, checked below",
        "Lesson 7 needs": "the number of a lesson",
        "one Python are about 0.4 GB": "measured in November 2026, as make workshop prints it",
        "want macOS 14": "the tag of torch's wheel",
    }
    assert (guides.WORDS_A_MINUTE, guides.LINES_A_MINUTE) == (150, 12)
    assert PROJECT.pyproject["tool"]["ruff"]["line-length"] == 100
    left = list(digits.lines(blocks.empty(GUIDE)))
    assert [line for line in left if not any(part in line for part in reasons)] == []
    assert [part for part in reasons if not any(part in line for line in left)] == []


def test_schedules_fit_and_begin_where_the_part_before_ends():
    for table in blocks.passages(GUIDE)["schedules"].split("\n\n")[1::2]:
        rows = [line.strip("| ").split(" | ") for line in table.splitlines()[2:]]
        clock = [60 * int(row[0].split(":")[0]) + int(row[0].split(":")[1]) for row in rows]
        taken = [int(row[2]) for row in rows[:-1]]
        assert clock[0] == 0
        assert [b - a for a, b in pairwise(clock)] == taken


def test_what_a_server_needs_is_the_recorded_cost_times_the_people():
    rows = blocks.passages(GUIDE)["room"].splitlines()[2:]
    costs = pairing.read_costs(PROJECT)
    for row, stem in zip(rows, LESSONS, strict=True):
        _, one, all_of_them, work, _ = row.strip("| ").split(" | ")
        assert one == f"{costs[stem]['peak_mb'] / 1000:.1f} GB"
        assert work == f"{costs[stem]['cpu_seconds']:.0f} s"
        assert abs(float(all_of_them.split()[0]) - 0.03 * costs[stem]["peak_mb"]) < 1


@pytest.fixture
def small(tmp_path):
    """A copy of all that the guide is made from, which a test may change."""
    for name in ("src", "teaching", "results"):
        shutil.copytree(ROOT / "notebooks" / name, tmp_path / "notebooks" / name)
    for path in (ROOT / "notebooks").glob("*.ipynb"):
        shutil.copy(path, tmp_path / "notebooks")
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    return Project(tmp_path)


def edit(project, name, old, new):
    path = teaching.folder(project) / name
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new), encoding="utf-8")


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('section = "Measure it"', 'section = "Count it"', "no section 'Count it'"),
        (r"'CLS: class (\d+%)'", r"'CLS: kind (\d+%)'", r"no output .*\(cls\)"),
        ("{shown.usual}", "{shown.rare}", "Where it fails: .*shown.rare"),
    ],
)
def test_what_is_not_there_is_named(small, old, new, message):
    edit(small, "01_feature_space.toml", old, new)
    with pytest.raises(ValueError, match=message) as raised:
        teaching.lesson(small, "01_feature_space")
    assert "01_feature_space.toml" in str(raised.value)


def test_a_schedule_that_takes_too_long_is_an_error(small):
    edit(small, "schedules.toml", "minutes = 60\n", "minutes = 40\n")
    with pytest.raises(ValueError, match=r"one lesson, to its first failure takes 52 .* 12 too"):
        teaching.schedules(small)


def test_a_schedule_names_sections_that_are_there(small):
    edit(small, "schedules.toml", '"Who is alike?"', '"Who is who?"')
    with pytest.raises(ValueError, match=r"no section .*Who is who"):
        teaching.schedules(small)

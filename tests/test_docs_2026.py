"""docs/2026.md: no number without its source, its licence, and the day on which it was read."""

import datetime
import re

import pytest

from dinov2_helpers.models import PROFILES
from tools.project import ROOT, Project

PAGE = (ROOT / "docs" / "2026.md").read_text(encoding="utf-8")
HEADS = [
    "use", "measured on", "it", "DINOv2 there", "source", "licence", "without a form", "checked",
]  # fmt: skip


def tables(text):
    """The rows of each table, by the heading that it stands under."""
    found = {}
    for part in re.split(r"^## ", text, flags=re.M)[1:]:
        title, body = part.split("\n", 1)
        lines = [line for line in body.splitlines() if line.startswith("| ")]
        rows = [[cell.strip() for cell in line[1:-1].split("|")] for line in lines]
        if rows and rows[0] == HEADS:
            found[title] = [dict(zip(HEADS, row, strict=True)) for row in rows[2:]]
    return found


ROWS = [(title, row) for title, rows in tables(PAGE).items() for row in rows]


def test_each_lesson_has_its_table():
    numbers = sorted(title.split(".")[0] for title in tables(PAGE))
    assert numbers == [stem[1] for stem in Project().lessons()] == [*"1234567"]
    assert all(len(rows) >= 2 for rows in tables(PAGE).values())


@pytest.mark.parametrize(("title", "row"), ROWS, ids=[f"{t}: {r['use']}" for t, r in ROWS])
def test_a_row_has_its_number_source_licence_and_day(title, row):
    assert re.search(r"\d", row["it"])
    assert re.fullmatch(r"\[.+\]\(https://\S+\)", row["source"])
    assert row["licence"]
    assert set(row["without a form"].split("; ")) <= {"yes", "no"}
    day, commit = row["checked"].split(", ")
    assert datetime.date.fromisoformat(day) >= datetime.date(2026, 11, 1)
    assert re.fullmatch(r"[0-9a-f]{7}", commit)


def test_what_is_behind_a_form_is_said_to_be():
    for _, row in ROWS:
        if row["use"].startswith("DINOv3"):
            assert (row["licence"], row["without a form"]) == ("DINOv3 License", "no")


def test_profiles_that_are_named_are_there():
    named = re.findall(r"`((?:dinov3|siglip2)-\w+)`", PAGE)
    assert {"dinov3-small", "siglip2-base"} <= set(named) <= set(PROFILES)

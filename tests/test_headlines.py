"""Headlines do not fall unseen: the committed ones against the best that each has had."""

import ast
from pathlib import Path

from tools import headlines, notebooks, pairing, recorded
from tools.project import Project
from tools.syntax import as_python

PROJECT = Project()
NUMBERS = recorded.read(PROJECT.results / "tiny.json")


def test_no_headline_is_lower_than_it_was():
    assert headlines.fallen(headlines.read(PROJECT), NUMBERS) == []


def test_every_notebook_has_a_headline_with_a_past():
    keys = {headlines.headline(PROJECT, stem) for stem in PROJECT.stems()}
    assert keys == headlines.read(PROJECT).keys()


def test_a_headline_stands_for_one_lesson_and_its_evidence_alone():
    claimed = {}
    for stem in PROJECT.stems():
        for key, meaning in pairing.read_source(PROJECT, stem).metadata["headline"].items():
            assert key.startswith(f"{Path(stem).name[:2]}."), stem
            claimed.setdefault(key, {})[stem] = meaning
    for key, meanings in claimed.items():
        assert len({Path(stem).name for stem in meanings}) == 1, key
        assert len(set(meanings.values())) == 1, key
    for lesson in PROJECT.lessons():
        evidence = f"evidence/{lesson}"
        if evidence in PROJECT.evidence():
            assert headlines.headline(PROJECT, lesson) == headlines.headline(PROJECT, evidence)


def records(stem, key):
    """Whether the code of a notebook records a number of this name, as it stands there."""
    code = [c.source for c in pairing.read_source(PROJECT, stem).cells if c.cell_type == "code"]
    return any(
        isinstance(node, ast.Call) and ast.unparse(node).startswith(f"record({key!r},")
        for node in ast.walk(ast.parse(as_python("\n\n".join(code))))
    )


def test_one_notebook_of_each_pair_records_its_headline():
    for evidence in PROJECT.evidence():
        pair = [Path(evidence).name, evidence]
        key = headlines.headline(PROJECT, evidence)
        assert [stem for stem in pair if records(stem, key)] in (pair[:1], pair[1:]), key


def test_a_headline_is_held_against_its_past_whichever_notebook_records_it(tmp_path):
    """The lesson names it and records nothing; its evidence does, in three runs."""
    head = "# ---\n# jupyter:\n#   jupytext:\n#     notebook_metadata_filter: headline\n"
    head += "#   headline:\n#     01.a: the answer\n# ---\n\n# %%\n"
    project = Project(tmp_path)
    for stem in ("01_small", "evidence/01_small"):
        project.source(stem).parent.mkdir(parents=True, exist_ok=True)
        project.source(stem).write_text(head, encoding="utf-8")
    seen = []
    for value in (0.8, 0.9, 0.7):
        recorded.write(project.results / "tiny.json", {"01.a": value})
        for stem in project.stems():
            notebooks.raise_headline(project, stem)
        seen.append(headlines.read(project))
    assert [entry["01.a"]["best"] for entry in seen] == [0.8, 0.9, 0.9]
    assert headlines.fallen(seen[-1], {"01.a": 0.7}) == ["01.a fell from 0.9 to 0.7"]


def test_a_lowered_headline_says_why():
    for key, entry in headlines.read(PROJECT).items():
        assert set(entry) <= {"best", "lowered"}, key
        assert entry.get("lowered", "because") != "", key


def test_the_best_is_raised_and_never_lowered():
    best = headlines.raised({}, "01.a", 0.5)
    assert best == {"01.a": {"best": 0.5}}
    assert headlines.raised(best, "01.a", 0.4) == best
    lowered = {"01.a": {"best": 0.5, "lowered": "harder pictures"}}
    assert headlines.raised(lowered, "01.a", 0.6)["01.a"] == {
        "best": 0.6,
        "lowered": "harder pictures",
    }


def test_a_fall_is_seen_and_what_machines_differ_by_is_none():
    best = {"01.a": {"best": 0.9}, "02.b": {"best": 0.5}}
    assert headlines.fallen(best, {"01.a": 0.88, "02.b": 0.5}) == []
    (fell,) = headlines.fallen(best, {"01.a": 0.86, "02.b": 0.7})
    assert fell == "01.a fell from 0.9 to 0.86"
    assert headlines.fallen(best, {"01.a": 0.9}) == ["02.b is no longer recorded; its best was 0.5"]

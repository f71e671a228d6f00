"""Headlines do not fall unseen: the committed ones against the best that each has had."""

from tools import headlines, recorded
from tools.project import Project

PROJECT = Project()
NUMBERS = recorded.read(PROJECT.results / "tiny.json")


def test_no_headline_is_lower_than_it_was():
    assert headlines.fallen(headlines.read(PROJECT), NUMBERS) == []


def test_every_notebook_has_a_headline_with_a_past():
    keys = {headlines.headline(PROJECT, stem) for stem in PROJECT.stems()}
    assert keys == headlines.read(PROJECT).keys()


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

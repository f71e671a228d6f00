"""The quiz: every number in it is recorded, every answer still so, and Moodle reads it."""

import json
import re
import shutil

import pytest

from tools import blocks, digits, pairing, quiz, quoted, recorded
from tools.project import ROOT, Project, read_toml

PROJECT = Project()
LESSONS = PROJECT.lessons()
TITLE = re.compile(r"::(?P<title>(?:\\.|[^\\:])*)::\[markdown\]")
TYPED = {
    "patches 14 pixels wide": "a shape of the lesson",
    "Lesson 1 measured": "the number of a lesson",
}


def typed(entry):
    """All texts of an entry of a file, as they were typed."""
    for name in ("ask", "right", "why"):
        yield entry.get(name, "")
    for text, why in entry.get("wrong", ()):
        yield text
        yield why


@pytest.mark.parametrize("stem", LESSONS)
def test_a_lesson_has_eight_whole_questions(stem):
    made = quiz.questions(PROJECT, stem)
    assert len(made) == quiz.QUESTIONS
    assert len({question.ask for question in made}) == quiz.QUESTIONS
    for question in made:
        texts = [option.text for option in question.options]
        assert 3 <= len(texts) <= len(quiz.LETTERS), question.ask
        assert len(set(texts)) == len(texts), question.ask
        assert sum(option.right for option in question.options) == 1
        assert "{" not in "".join([question.ask, question.why, *texts])


def test_no_number_is_typed_without_a_reason():
    left = []
    for stem in LESSONS:
        for entry in read_toml(quiz.path_of(PROJECT, stem))["question"]:
            for text in typed(entry):
                left += digits.lines(quoted.without_places(text))
    assert [line for line in left if not any(part in line for part in TYPED)] == []
    assert [part for part in TYPED if not any(part in line for line in left)] == []


@pytest.mark.parametrize("stem", LESSONS)
def test_questions_rest_on_the_ledger_and_on_what_the_lesson_recorded(stem):
    entries = read_toml(quiz.path_of(PROJECT, stem))["question"]
    text = quiz.path_of(PROJECT, stem).read_text(encoding="utf-8")
    names = set(re.findall(r"\b0\d\.\w+", text))
    assert names and all(name.startswith(f"{stem[:2]}.") for name in names)
    assert len([entry for entry in entries if "claim" in entry]) >= 1
    for entry in entries:
        if "claim" not in entry:
            places = re.findall(r"\{(0\d\.\w+)", " ".join(typed(entry)))
            assert not places or entry.get("holds"), f"{entry['ask']} says no condition"


def test_most_claims_of_the_ledger_are_asked_for():
    _, name = recorded.files(pairing.COMMITTED_PROFILE)
    asked = set()
    for stem in LESSONS:
        entries = read_toml(quiz.path_of(PROJECT, stem))["question"]
        asked |= {entry["claim"] for entry in entries if "claim" in entry}
    assert asked <= set(recorded.read(PROJECT.results / name))
    assert len(asked) >= 15


@pytest.fixture
def small(tmp_path):
    """A project with one lesson, of which a test may change the numbers or the questions."""
    for folder in ("src", "quiz", "results"):
        (tmp_path / "notebooks" / folder).mkdir(parents=True)
    stem = LESSONS[0]
    shutil.copy(PROJECT.source(stem), tmp_path / "notebooks" / "src")
    shutil.copy(quiz.path_of(PROJECT, stem), tmp_path / "notebooks" / "quiz")
    for name in recorded.files(pairing.COMMITTED_PROFILE):
        shutil.copy(PROJECT.results / name, tmp_path / "notebooks" / "results")
    return Project(tmp_path)


def change(project, name, key, value):
    path = project.results / name
    entries = json.loads(path.read_text(encoding="utf-8"))
    entries[key] = value
    path.write_text(json.dumps(entries), encoding="utf-8")


def test_an_answer_that_is_no_longer_so_is_an_error(small):
    change(small, "tiny.json", "01.knn_class", 0.01)
    with pytest.raises(ValueError, match=r"01_feature_space.toml, question 3: .*01.knn_class > "):
        quiz.questions(small, LESSONS[0])


def test_a_verdict_that_is_another_by_now_is_an_error(small):
    row = recorded.read(small.results / "tiny_claims.json")["01.tsne_of_three"]
    change(small, "tiny_claims.json", "01.tsne_of_three", {**row, "verdict": "holds"})
    with pytest.raises(ValueError, match=r"question 2: 01.tsne_of_three holds by now"):
        quiz.questions(small, LESSONS[0])


def test_a_number_that_changes_is_said_as_it_is(small):
    change(small, "tiny.json", "01.knn_class_pixels", 0.2222)
    assert "pixels 22%" in quiz.questions(small, LESSONS[0])[2].why


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ('ask = "Why?"\nright = "So {01.unknown:.0%}."\nwrong = []\nwhy = ""', "01.unknown"),
        ('claim = "01.no_claim"\nverdict = "holds"\nwhy = ""', "01.no_claim"),
        ('ask = "Why?"\nwrong = []\nwhy = ""', "right"),
        (
            'ask = "Why?"\nright = "So."\nwrong = []\nwhy = ""\nholds = ["01.knn_class"]',
            "no condition",
        ),
        ("ask = Why?", "01_feature_space.toml"),
    ],
)
def test_a_question_that_is_not_whole_is_named(small, entry, message):
    quiz.path_of(small, LESSONS[0]).write_text(f"[[question]]\n{entry}\n", encoding="utf-8")
    with pytest.raises(ValueError, match=message) as raised:
        quiz.questions(small, LESSONS[0])
    assert "01_feature_space.toml" in str(raised.value)


@pytest.mark.parametrize(
    ("condition", "so"),
    [
        ("a.b > 0.4", True),
        ("a.b >= 0.5", True),
        ("a.b < a.c", True),
        ("a.c - a.b > a.b", False),
        ("a.c - a.b <= 0.25", True),
    ],
)
def test_conditions(condition, so):
    assert quoted.holds(condition, {"a.b": 0.5, "a.c": 0.75}) is so


def test_places_are_filled_and_code_with_braces_is_left_alone():
    values = {"01.x": 0.123, "shown.y": "7 toys"}
    text = 'It is {01.x:.0%}, {shown.y}; `f"{name}"` and {"a": 1} stay.'
    assert quoted.fill(text, values) == 'It is 12%, 7 toys; `f"{name}"` and {"a": 1} stay.'
    assert quoted.without_places("{01.x:.0%} of 5") == "  of 5"


def test_the_page_has_every_question_and_folds_every_answer():
    text = (ROOT / "docs" / "quiz.md").read_text(encoding="utf-8")
    (passage,) = blocks.passages(text).values()
    assert passage.count("<details>") == passage.count("</details>") == 8 * len(LESSONS)
    for stem in LESSONS:
        for question in quiz.questions(PROJECT, stem):
            right = question.options[question.right].text
            assert f" {question.ask}\n" in passage
            assert f"- **{quiz.LETTERS[question.right]}.** {right}\n" in passage
            assert f"\n**{quiz.LETTERS[question.right]}.** {question.why}\n" in passage


def test_the_right_answer_is_in_every_place():
    places = set()
    for stem in LESSONS:
        places |= {question.right for question in quiz.questions(PROJECT, stem)}
    assert places == {0, 1, 2, 3}


# What Moodle does with GIFT, as its documentation describes the format: a sign behind a backslash
# stands for itself; = and ~ begin answers, # their feedback, #### that of the question.


def hidden(text):
    """The text with each escaped sign as one that has no meaning."""
    return re.sub(r"\\([\\~=#{}:])", lambda sign: chr(0xE000 + ord(sign[1])), text)


def shown(text):
    return "".join(chr(ord(c) - 0xE000) if 0xE000 <= ord(c) < 0xE100 else c for c in text).strip()


def parsed(gift):
    """(category, title, question, [(right, text, feedback)], general feedback) of all questions."""
    category = ""
    for entry in re.split(r"\n[ \t]*\n", hidden(gift).strip()):
        if entry.startswith("$CATEGORY:"):
            category = entry.removeprefix("$CATEGORY:").strip()
            continue
        whole = re.fullmatch(r"::(.*?)::\[markdown\]([^{}]*)\{([^{}]*)\}", entry, re.DOTALL)
        assert whole is not None, entry
        title, ask, inside = whole.groups()
        answers, _, general = inside.partition("####")
        options = []
        for sign, answer in re.findall(r"([=~])([^=~]*)", answers):
            text, _, feedback = answer.partition("#")
            options.append((sign == "=", shown(text), shown(feedback)))
        yield category, shown(title), shown(ask), options, shown(general)


def test_moodle_reads_what_was_written(tmp_path, capsys):
    file = tmp_path / "quiz.gift"
    assert quiz.main(["--gift", str(file)]) == 0
    assert "56 questions of 7 lessons" in capsys.readouterr().out
    entries = list(parsed(file.read_text(encoding="utf-8")))
    written = [question for stem in LESSONS for question in quiz.questions(PROJECT, stem)]
    assert len(entries) == len(written) == len({title for _, title, *_ in entries})
    for (category, _, ask, options, general), question in zip(entries, written, strict=True):
        assert category.startswith("DINOv2 in Practice/")
        assert (ask, general) == (question.ask, question.why)
        expected = [
            (option.right, option.text, question.why if option.right else option.why)
            for option in question.options
        ]
        assert options == expected


def test_signs_of_gift_in_a_text_stand_for_themselves():
    text = r"a = {b: c} ~ #1 \n, 100% of x::y"
    question = quiz.Question(text, (quiz.Option(text, True), quiz.Option("no", False, text)), text)
    ((_, title, ask, options, general),) = parsed(quiz._in_gift(text, question))
    assert title == ask == general == text
    assert options == [(True, text, text), (False, "no", text)]


def test_one_lesson_alone(tmp_path):
    file = tmp_path / "quiz.gift"
    assert quiz.main(["02", "--gift", str(file)]) == 0
    entries = list(parsed(file.read_text(encoding="utf-8")))
    assert len(entries) == quiz.QUESTIONS
    assert {category for category, *_ in entries} == {
        "DINOv2 in Practice/2. Zero-shot classification"
    }

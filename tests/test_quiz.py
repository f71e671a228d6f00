"""The quiz: every number in it is recorded, every answer still so, and Moodle reads it."""

import json
import re
import shutil

import nbformat
import pytest
from bs4 import BeautifulSoup

from dinov2_helpers.quiz import Option, Question, Quiz, as_html, as_text
from tools import blocks, checks, digits, pairing, quiz, quoted, readme, recorded
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
        assert all(option.why for option in question.options if not option.right), question.ask
        assert not question.why.endswith(".).")
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
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
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
        (
            'claim = "01.tsne_of_three"\nverdict = "does not hold"\n'
            'wrong = [["holds", "So."]]\nwhy = ""',
            "not the two others",
        ),
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


# ------------------------------------------------------------------------------------------------
# as a cell


@pytest.mark.parametrize("stem", LESSONS)
def test_the_package_has_the_questions_as_they_are_now(stem):
    assert quiz.shipped(PROJECT, stem).read_text(encoding="utf-8") == quiz.as_shipped(PROJECT, stem)
    shown = Quiz(stem[:2])
    assert shown.questions == quiz.questions(PROJECT, stem)


def test_the_package_has_no_questions_of_other_lessons():
    folder = quiz.shipped(PROJECT, LESSONS[0]).parent
    assert sorted(path.stem for path in folder.iterdir()) == [stem[:2] for stem in LESSONS]
    with pytest.raises(ValueError, match=r"no lesson '1': choose one of 01, 02"):
        Quiz("1")


@pytest.mark.parametrize("stem", LESSONS)
def test_a_lesson_shows_its_own_quiz_once(stem):
    cells = pairing.read_source(PROJECT, stem).cells
    (cell,) = [cell for cell in cells if quiz.TAG in cell.metadata.get("tags", ())]
    assert cell.source.endswith(f'Quiz("{stem[:2]}")')
    assert cells.index(cell) == len(cells) - 2


@pytest.mark.parametrize("stem", LESSONS)
def test_each_answer_opens_to_whether_it_is_right_and_why(stem):
    shown = Quiz(stem[:2])
    page = BeautifulSoup(shown._repr_html_(), "html.parser")
    assert page.section["aria-label"] == f"Quiz: {shown.title}"
    answers = page.find_all("details")
    names = {answer["name"] for answer in answers}
    assert len(names) == quiz.QUESTIONS
    for number, question in enumerate(shown.questions, start=1):
        group = [one for one in answers if one["name"] == f"quiz-{stem[:2]}-{number}"]
        assert len(group) == len(question.options)
        for answer, option in zip(group, question.options, strict=True):
            verdict = "Right." if option.right else "Wrong."
            why = question.why if option.right else option.why
            assert answer.summary.text[3:] == without_marks(option.text)
            assert answer.p.text == f"{verdict} {without_marks(why)}".strip()
    assert not {tag.name for tag in page.find_all()} & {"script", "style", "input", "img", "a"}
    assert "`" not in page.text and "*" not in page.text


def without_marks(text):
    return text.replace("`", "").replace("*", "")


def test_what_is_folded_says_nothing_before_it_is_opened():
    page = BeautifulSoup(Quiz("01")._repr_html_(), "html.parser")
    for answer in page.find_all("details"):
        assert not answer.has_attr("open")
        answer.p.decompose()
    assert "Right." not in page.text and "Wrong." not in page.text


@pytest.mark.parametrize("stem", LESSONS)
def test_the_output_is_one_that_a_committed_notebook_may_have(stem):
    shown = Quiz(stem[:2])
    output = nbformat.v4.new_output(
        "execute_result", {"text/html": shown._repr_html_(), "text/plain": repr(shown)}
    )
    assert list(checks._output(output)) == []


def test_every_sign_in_a_question_stands_for_itself():
    text = '<b>1 & 2</b> "x" </details><script>'
    asked = Question(f"{text} `a<b*c*`", (Option(text, True), Option(f"*{text}*", False)), text)
    page = BeautifulSoup(as_html(text, "a", [asked]), "html.parser")
    assert page.find("script") is None and page.find("b") is None
    assert page.section["aria-label"] == f"Quiz: {text}"
    assert page.code.text == "a<b*c*"
    assert page.em.text == text
    right, wrong = page.find_all("details")
    assert right.p.text == f"Right. {text}" and wrong.p.text == "Wrong."


def test_without_html_the_questions_are_text():
    asked = Question("Why?", (Option("So.", False), Option("Therefore.", True)), "")
    assert as_text("A title", [asked, asked]).splitlines() == [
        "Quiz. A title",
        *("", "1. Why?", "   a. So.", "   b. Therefore."),
        *("", "2. Why?", "   a. So.", "   b. Therefore."),
        *("", "Right: 1 b, 2 b"),
    ]
    assert repr(Quiz("01")).startswith("Quiz. 1. Feature space")


@pytest.fixture
def executed(small):
    """The small project with a committed notebook in which the quiz was shown."""
    notebook = pairing.read_source(small, LESSONS[0])
    for cell in notebook.cells:
        if quiz.TAG in cell.metadata.get("tags", ()):
            cell.outputs = [nbformat.v4.new_output("execute_result", {"text/plain": "older"})]
    pairing.write_notebook(small, LESSONS[0], notebook)
    quiz.shipped(small, LESSONS[0]).parent.mkdir(parents=True)
    return small


def test_a_number_that_changes_is_renewed_in_the_notebook_and_in_the_package(executed):
    older = readme._renew_quizzes(executed, write=False)
    assert older == [quiz.shipped(executed, LESSONS[0]), executed.notebook(LESSONS[0])]
    assert readme._renew_quizzes(executed, write=True) == older
    assert readme._renew_quizzes(executed, write=False) == []
    change(executed, "tiny.json", "01.knn_class_pixels", 0.2222)
    assert readme._renew_quizzes(executed, write=True) == older
    assert "pixels 22%" in older[0].read_text(encoding="utf-8")
    assert "pixels 22%" in older[1].read_text(encoding="utf-8")


def test_a_notebook_that_never_showed_its_quiz_is_left_as_it_is(small):
    assert quiz.renewed(small, LESSONS[0]) is None
    pairing.write_notebook(small, LESSONS[0], pairing.read_source(small, LESSONS[0]))
    assert quiz.renewed(small, LESSONS[0]) is None


def test_a_changed_quiz_makes_no_output_stale(executed):
    notebook = pairing.read_source(executed, LESSONS[0])
    (executed.root / "data").mkdir()
    (executed.root / "data" / "MANIFEST.sha256").touch()
    package = executed.root / "dinov2_helpers"
    (package / "__init__.py").touch()
    (package / "quiz.py").touch()
    before = pairing.fingerprint(executed, notebook)
    quiz.shipped(executed, LESSONS[0]).write_text("{}", encoding="utf-8")
    assert pairing.fingerprint(executed, notebook) == before
    (package / "other.json").write_text("{}", encoding="utf-8")
    assert pairing.fingerprint(executed, notebook) != before

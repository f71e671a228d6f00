"""Slides: one idea each, every picture described, no request to another host."""

import re
import shutil

import pytest
from bs4 import BeautifulSoup

from tools import pairing, slides, teaching
from tools.project import Project

PROJECT = Project()
LESSON = PROJECT.lessons()[0]


@pytest.fixture(scope="module")
def made():
    return slides.slides(PROJECT, LESSON)


@pytest.fixture(scope="module")
def page(made):
    return slides.html(made[0].heading, made)


def test_the_first_slide_is_the_lesson_and_its_picture(made):
    title, promise = pairing.title_and_promise(pairing.read_source(PROJECT, LESSON))
    first = made[0]
    assert (first.kind, first.heading, first.says) == ("title", title, promise)
    assert first.figure is not None
    assert made[1].says.count("\n") >= 2  # the goals


def test_every_figure_of_the_lesson_is_on_a_slide_of_its_own(made):
    shown = []
    for cell in pairing.read_notebook(PROJECT, LESSON).cells:
        for output in cell.get("outputs", ()):
            shown += [
                output.data[media].strip()
                for media in slides.MEDIA
                if media in output.get("data", {})
            ]
    assert [slide.figure[1] for slide in made if slide.kind == "figure"] == shown
    assert len(shown) > 5


def test_what_the_lesson_concludes_is_on_the_slides_once(made):
    concluded = []
    for cell in pairing.read_notebook(PROJECT, LESSON).cells:
        for output in cell.get("outputs", ()):
            if "text/markdown" in output.get("data", {}):
                concluded.append(slides._LINK.sub(r"\1", output.data["text/markdown"]))
    assert concluded
    said = [slide.says for slide in made]
    assert [sentence for sentence in concluded if said.count(sentence) != 1] == []


def test_a_question_stands_before_the_figures_of_its_section(made):
    for section, asked in teaching.questions(PROJECT, LESSON).items():
        places = [place for place, slide in enumerate(made) if slide.heading == section]
        kinds = [made[place].kind for place in places]
        assert kinds[: len(asked)] == ["question"] * len(asked)
        assert "Then: " in made[places[0]].notes[0]


def test_no_solution_and_no_bookkeeping_is_shown(made, page):
    text = "\n".join("\n".join(slide.numbers) + slide.code for slide in made)
    assert "Not solved yet" not in text and "parameters" not in text
    assert "Classic wrong answers" not in page
    (exercises,) = [slide for slide in made if slide.heading == "Exercises"]
    assert exercises.says.count("**") == 6


def test_numbers_do_not_crowd_a_figure(made):
    for slide in made:
        most = slides.BESIDE_A_FIGURE if slide.figure else slides.ON_A_SLIDE
        assert len(slide.numbers) <= most or slide.code
        assert len(slide.code.splitlines()) <= slides.LONGEST_CODE


def test_a_deck_is_one_file_and_every_picture_is_described(made, page):
    soup = BeautifulSoup(page, "html.parser")
    assert len(soup.find_all("section")) == len(soup.find_all("aside")) == len(made)
    pictures = soup.find_all("img")
    assert pictures and all(one["alt"] and one["src"].startswith("data:image/") for one in pictures)
    assert not soup.find_all("link") and not soup.find_all(src=re.compile("^http"))
    assert all(not script.get("src") for script in soup.find_all("script"))
    assert "http" not in soup.find("style").text + soup.find("script").text
    assert [one.get("aria-label") for one in soup.find_all("button")][:2] == [
        "Slide before",
        "Next slide",
    ]


def test_a_slide_with_code_shows_code_and_result():
    deck = slides._Deck({})
    deck.printed("(256, 192)", "seen.cls.shape")
    deck.concluded("**So it is.** [Lesson 2](02.ipynb)")
    (slide,) = deck.slides
    assert (slide.code, slide.numbers) == ("seen.cls.shape", ["(256, 192)"])
    assert slide.says == "**So it is.** Lesson 2"


def test_a_result_whose_code_is_too_long_is_left_out():
    output = slides.NotebookNode(
        output_type="execute_result", data={"text/plain": "(1, 2)"}, metadata={}
    )
    for lines, shown in ((slides.LONGEST_CODE, 1), (slides.LONGEST_CODE + 1, 0)):
        deck = slides._Deck({})
        slides._show(deck, output, "x = 1\n" * lines)
        deck.close()
        assert len(deck.slides) == shown


def test_numbers_that_have_no_room_beside_a_figure_get_a_slide():
    deck = slides._Deck({})
    deck.image(("image/png", "abc", "a curve"))
    deck.printed("one\ntwo\nthree", "")
    deck.printed("four\nfive", "")
    deck.close()
    assert [slide.kind for slide in deck.slides] == ["figure", "text"]
    assert deck.slides[1].numbers == ["four", "five"]


def test_what_is_printed_later_does_not_stand_below_code_that_did_not_print_it():
    deck = slides._Deck({})
    deck.printed("tensor(8.7)", "mean_of_bins(scores).exp()")
    deck.printed("one depth: 0.625", "")
    deck.close()
    assert [slide.numbers for slide in deck.slides] == [["tensor(8.7)"], ["one depth: 0.625"]]
    assert [bool(slide.code) for slide in deck.slides] == [True, False]


def test_numbers_begin_at_the_left_and_keep_their_columns():
    slide = slides.Slide("Measured", numbers=["    row: 36%", "  place: 35%"])
    assert '<pre class="numbers">  row: 36%\nplace: 35%</pre>' in slides._section(slide)


def test_a_picture_without_words_is_refused():
    output = {"output_type": "display_data", "data": {"image/png": "abc"}, "metadata": {}}
    with pytest.raises(ValueError, match="no alternative text"):
        slides._show(slides._Deck({}), slides.NotebookNode(output | {"metadata": {}}), "")


def test_pdf_says_what_it_needs(tmp_path, monkeypatch):
    monkeypatch.setattr(slides.shutil, "which", lambda name: None)
    with pytest.raises(SystemExit, match="chromium"):
        slides.print_pdf(tmp_path / "deck.html")


@pytest.mark.weekly
@pytest.mark.skipif(not any(map(shutil.which, slides.BROWSERS)), reason="no Chromium")
def test_a_printed_deck_has_a_page_for_each_slide(made, page, tmp_path):
    deck = tmp_path / "deck.html"
    deck.write_text(page, encoding="utf-8")
    content = slides.print_pdf(deck).read_bytes()
    assert len(re.findall(rb"/Type\s*/Page\b", content)) == len(made)

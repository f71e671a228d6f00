"""The captions of the trainings, in both languages, and the batches that are drawn for them."""

import re
from collections import Counter

import numpy as np
import pytest
from transformers import CLIPTokenizer

from dinov2_helpers.samples import data_dir, load_scenes
from training.batches import Squares
from training.captions import UNSEEN, WRITERS, mirrored, vocabulary
from training.clip.tokenizer import make_tokenizer
from training.world.captions import COLOURS_ZH, NOUNS, PLACES, TEMPLATES, TEMPLATES_ZH
from training.world.colours import COLOURS
from training.world.toys import CLASSES, EXCEPTIONS

LANGUAGES = ("en", "zh")


def toy(name="dog", colour="red", x=100.0, flying=False):
    return {"class": name, "colour": colour, "flying": flying, "x": x}


def facts(*objects, framing="wide", surface="grass"):
    return {"surface": surface, "framing": framing, "objects": list(objects)}


def captions(language, shown, n=300, grey=False):
    writer = WRITERS[language](np.random.default_rng(0))
    return [writer.caption(shown, grey) for _ in range(n)]


def words(language, name):
    """Every word for a class."""
    noun = NOUNS[name][0 if language == "en" else 3]
    return (noun, *WRITERS[language].NAMES.get(noun, ()))


def hues(language):
    """Every word for a colour."""
    own = list(COLOURS) if language == "en" else list(COLOURS_ZH.values())
    return {*own, *(word for others in WRITERS[language].COLOURS.values() for word in others)}


def names_a_colour(language, text):
    return any(word in (text.split() if language == "en" else text) for word in hues(language))


@pytest.mark.parametrize("language", LANGUAGES)
def test_captions_vary_and_stay_true(language):
    written = captions(language, facts(toy("rocket", "brown")))
    assert len(set(written)) > 50
    others = {word for name in CLASSES if name != "rocket" for word in words(language, name)}
    grounds = [
        place[LANGUAGES.index(language)] for name, place in PLACES.items() if name != "grass"
    ]
    for text in written:
        assert any(word in text for word in words(language, "rocket"))
        assert not others & set(text.split() if language == "en" else [text])
        assert not any(place in text for place in grounds)
        assert "fly" not in text and "飞行" not in text
        assert "red" not in text.split() and "红" not in text


@pytest.mark.parametrize("language", LANGUAGES)
def test_the_class_alone_is_told_about_as_often_as_colour_and_ground(language):
    places = (PLACES["wood"][LANGUAGES.index(language)], "wood", "木")
    told = Counter(
        (names_a_colour(language, text), any(place in text for place in places))
        for text in captions(language, facts(toy(), surface="wood"), n=2000)
    )
    assert 0.3 < told[False, False] / 2000 < 0.4
    assert 0.3 < told[True, True] / 2000 < 0.4


@pytest.mark.parametrize("language", LANGUAGES)
def test_a_grey_picture_has_no_named_colour(language):
    for shown in (facts(toy("car", "red")), facts(toy("car", "pink"), toy("cat", "gray"))):
        written = captions(language, shown, grey=True)
        assert not any(names_a_colour(language, text) for text in written)


@pytest.mark.parametrize("language", LANGUAGES)
def test_colours_are_told_of_all_toys_or_of_none(language):
    shown = facts(toy("cat", "blue", 30.0), toy("boat", "red", 190.0), toy("boat", "red", 200.0))
    blue, red = {"en": ("blue", "red"), "zh": ("蓝", "红")}[language]
    written = captions(language, shown)
    assert {(blue in text, red in text) for text in written} == {(True, True), (False, False)}


def a_scene(rng):
    """Facts of a picture of one to three toys, half of the time all of one class."""
    number = int(rng.integers(1, 4))
    names = rng.choice(CLASSES, number)
    if rng.random() < 0.5:
        names[:] = names[0]
    hues = rng.choice(list(COLOURS), number)
    toys = [toy(str(name), str(hue)) for name, hue in zip(names, hues, strict=True)]
    toys[0]["flying"] = number == 1 and names[0] == "rocket" and bool(rng.random() < 0.5)
    framing = "portrait" if number == 1 and rng.random() < 0.5 else "wide"
    return facts(*toys, framing=framing, surface=str(rng.choice(list(PLACES))))


@pytest.fixture(scope="module")
def many():
    """Captions of some thousand scenes, by language."""
    rng = np.random.default_rng(4)
    scenes = [a_scene(rng) for _ in range(4000)]
    return {
        language: [WRITERS[language](rng).caption(one, bool(rng.random() < 0.2)) for one in scenes]
        for language in LANGUAGES
    }


COLOUR = rf"({'|'.join([*COLOURS, 'grey', 'violet'])})"
NOUN = rf"({'|'.join(word for name in CLASSES for word in words('en', name))})"
WRONG = {
    "en": {
        "a frame around a bare noun": rf"\b(of|is|see|with|and) ({COLOUR} )?{NOUN}\b",
        "a picture of a close-up": r"(of|is|with|see) a close-up",
        "two in the singular": r"\bis (two|three)\b",
        "several toys in the singular": r"this is an? [^,]*, an? (?!.* on it)",
        "tiles in the singular": r"tiles with|(this|there) is tiles",
        "only the last toy on the ground": rf"one {COLOUR} (standing )?on|right (standing )?on",
        "there is the": r"there (is|are) the ",
        "a scene with a ground with toys": r"toy scene with .* on it",
        "standing on water": r"standing on (water|a lake|the water)",
        "a fish that stands": r"fish.* standing",
        "two words for one class": r"\bmugs?\b.*\bcup|\bcup.*\bmug|\bcars?\b.*\bautomobile",
    },
    "zh": {
        "a sentence behind 有 or 是": "(有|是)左边是|(有|是)[^，]*在[^，]*的(左|右)边",
        "two places in one sentence": "(左|右)边在|右边是[^，]*在",
        "only the last toy on the ground": "，一\\w\\w+色在",
        "a photo's 的 behind a list of colours": "，一\\w\\w+色的(照片|图片)",
        "one piece of one": "一张[一两三]",
        "a near one that is there": "(有|是)(近|远)处",
        "a colour without 的 before a short noun": "色(狗(?!狗)|猫(?!咪)|船|树|鱼|灯)",
    },
}


@pytest.mark.parametrize(
    ("language", "fault"), [(one, fault) for one in LANGUAGES for fault in WRONG[one]]
)
def test_no_caption_has_a_fault_of_grammar(language, fault, many):
    pattern = WRONG[language][fault]
    assert [text for text in many[language] if re.search(pattern, text)] == []


def test_a_name_without_an_article_stands_alone(many):
    bare = [text for text in many["en"] if re.match(rf"({COLOUR} )?{NOUN}\b", text)]
    assert 0.01 < len(bare) / len(many["en"]) < 0.1
    assert set(CLASSES) & set(bare)


def test_the_vocabulary_is_that_of_the_embedded_tower():
    """New wording of old words: what was trained before it reads captions written after it."""
    embedded = CLIPTokenizer.from_pretrained(data_dir() / "models" / "lit-tiny")
    assert make_tokenizer(vocabulary(*LANGUAGES), 64).get_vocab() == embedded.get_vocab()


@pytest.mark.parametrize("language", LANGUAGES)
def test_relations_follow_the_picture(language):
    shown = facts(toy("cat", "blue", 30.0), toy("boat", "red", 190.0))
    related = 0
    for text in captions(language, shown):
        cat, boat = (
            min(text.find(word) for word in words(language, name) if word in text)
            for name in ("cat", "boat")
        )
        if "left of" in text or "的左边" in text or "左边是" in text or "on the left" in text:
            assert cat < boat, text
            related += 1
        elif "right of" in text or "的右边" in text:
            assert boat < cat, text
            related += 1
    assert 60 < related < 180


def test_a_mirrored_picture_has_mirrored_facts():
    shown = facts(toy("cat", x=30.0), toy("boat", x=190.0))
    flipped = mirrored(shown, 224)
    assert [(one["class"], one["x"]) for one in flipped["objects"]] == [("boat", 34), ("cat", 194)]
    assert mirrored(flipped, 224) == shown


def test_toys_alike_are_counted():
    alike = facts(toy("snowman", "white"), toy("snowman", "white"))
    assert all("two snowmen" in text for text in captions("en", alike))
    assert all("两个" in text and "雪人" in text for text in captions("zh", alike))
    apart = facts(toy("dog", "white"), toy("dog", "red"))
    assert any("two dogs, one white and one red" in text for text in captions("en", apart, 1000))
    assert any("，一只白色，一只红色" in text for text in captions("zh", apart, 2000))


def test_several_toys_are_spoken_of_in_the_plural():
    alike = facts(toy("dog"), toy("dog"))
    written = captions("en", alike)
    assert not any("is two" in text or "a dog" in text for text in written)
    assert any(text.startswith("these are two") for text in written)


def test_some_wording_of_the_sample_data_is_never_used():
    templates = {"en": TEMPLATES, "zh": TEMPLATES_ZH}
    for language in LANGUAGES:
        unseen = [one for one in templates[language] if one in UNSEEN[language]]
        assert len(unseen) == 2
        grounds = {"en": "(a lawn|the grass|grass)", "zh": "(草地|草坪)"}
        for template in unseen:
            pattern = template.format(toys=".+", place=grounds[language])
            written = captions(language, facts(toy("dog", "red")), n=1000)
            assert not any(re.fullmatch(pattern, text) for text in written)


def test_every_unit_of_a_caption_is_one_token_and_captions_fit():
    tokenizer = make_tokenizer(vocabulary(*LANGUAGES), 64)
    rng = np.random.default_rng(1)
    known = set(vocabulary(*LANGUAGES))
    for language in LANGUAGES:
        writer = WRITERS[language](rng)
        for _ in range(500):
            objects = [
                toy(str(rng.choice(CLASSES)), str(rng.choice(list(COLOURS))), float(x))
                for x in range(1, 4)
            ]
            surface = str(rng.choice(list(PLACES)))
            text = writer.caption(facts(*objects[: rng.integers(1, 4)], surface=surface))
            pieces = tokenizer.tokenize(text)
            units = re.findall(r"[a-z]+|[^a-z\s]", text)
            assert set(units) <= known, text
            assert len(pieces) == len(units), text
            assert len(pieces) + 2 <= 64


def test_the_captions_of_the_sample_data_fit():
    tokenizer = make_tokenizer(vocabulary(*LANGUAGES), 64)
    for split in ("train", "test"):
        for language in LANGUAGES:
            texts = load_scenes(split).labels(f"caption_{language}").tolist()
            assert max(map(len, tokenizer(texts).input_ids)) <= 64


@pytest.fixture(scope="module")
def crossed():
    """Facts of pictures in which every class has every colour but those kept for tests."""
    rng, shown = np.random.default_rng(0), []
    for name in CLASSES:
        for colour in [one for one in COLOURS if one not in EXCEPTIONS[name]]:
            shown += [facts(toy(name, colour))] * int(rng.integers(1, 5))
    return shown + [facts(toy(), toy("cat"))] * 40


def test_half_of_a_batch_is_squares_of_classes_and_colours(crossed):
    squares = Squares(crossed, share=1.0)
    rng = np.random.default_rng(0)
    for _ in range(20):
        rows = squares.square(rng)
        cells = {(o["class"], o["colour"]) for row in rows for o in crossed[row]["objects"]}
        assert len(cells) == 4
        assert len({name for name, _ in cells}) == len({colour for _, colour in cells}) == 2


def test_in_a_batch_of_squares_each_toy_has_its_rivals(crossed):
    rows = Squares(crossed, share=1.0).draw(np.random.default_rng(0), 80)
    assert len(set(rows.tolist())) == 80
    toys = [crossed[row]["objects"][0] for row in rows if len(crossed[row]["objects"]) == 1]
    cells = Counter((one["class"], one["colour"]) for one in toys)
    lonely = 0
    for name, colour in cells:
        in_other_colours = any(a == name and b != colour for a, b in cells)
        others_in_colour = any(a != name and b == colour for a, b in cells)
        lonely += not (in_other_colours and others_in_colour)
    assert lonely <= 2  # a repeated picture was replaced by one drawn from all


def test_batches_can_be_repeated_and_reach_every_picture(crossed):
    squares = Squares(crossed)
    first, second = (squares.draw(np.random.default_rng(3), 64) for _ in range(2))
    assert (first == second).all()
    rng = np.random.default_rng(0)
    assert len({int(row) for _ in range(200) for row in squares.draw(rng, 64)}) == len(crossed)
    assert len(squares.draw(rng, 10_000)) == len(crossed)


def test_material_without_crossed_colours_has_no_squares():
    with pytest.raises(ValueError, match="crossed"):
        Squares([facts(toy("dog", "red")), facts(toy("cat", "blue"))])

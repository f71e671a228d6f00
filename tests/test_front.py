"""The front door in two languages: the same numbers, links and commands, and nothing forgotten."""

import re
from collections import Counter

import nbformat
import pytest

from tools import blocks, chinese, front, launch, pairing, recorded
from tools.project import ROOT, Project
from tools.setup import LOCKED_TORCH

PROJECT = Project()
ENGLISH = (ROOT / "README.md").read_text(encoding="utf-8")
CHINESE = (ROOT / "README.zh-CN.md").read_text(encoding="utf-8")
# for readers in China alone: mirrors, and the claims, which in English are in docs/ledger.md
OWN_SECTION = re.compile(r"^### 国内镜像\n.*?(?=^## )", re.M | re.S)
OWN_TABLE = re.compile(r"^<details>.*?^</details>\n", re.M | re.S)
FENCE = re.compile(r"^```\w*\n(.*?)^```", re.M | re.S)
IN_LINE = re.compile(r"`[^`\n]+`")
LINK = re.compile(r"\]\(([^)]+)\)")
NUMBER = re.compile(r"(?<![A-Za-z\d.])\d+(?:[.,]\d+)*")


def said(text):
    """What a front page says that does not depend on its language."""
    text = OWN_TABLE.sub("", OWN_SECTION.sub("", text))
    commands = [
        line.partition("#")[0].split() for code in FENCE.findall(text) for line in code.splitlines()
    ]
    prose = FENCE.sub("", text)
    other_page = re.compile(r"^README(\.zh-CN)?\.md$|^#.*")
    return {
        "commands": commands,
        "code": Counter(IN_LINE.findall(prose)),
        "links": [link for link in LINK.findall(prose) if not other_page.match(link)],
        "pictures": re.findall(r'src="([^"]+)" alt="[^"]+" width="(\d+)"', prose),
        "numbers": Counter(NUMBER.findall(LINK.sub("", prose))),
        "headings": re.findall(r"^#+(?= )", prose, re.M),
    }


def claims():
    _, name = recorded.files(pairing.COMMITTED_PROFILE)
    return recorded.read(PROJECT.results / name)


@pytest.mark.parametrize("what", said(ENGLISH))
def test_both_pages_say_the_same(what):
    assert said(CHINESE)[what] == said(ENGLISH)[what] != []


@pytest.mark.parametrize("what", said(ENGLISH))
def test_they_do_once_there_is_a_public_repository(what, tmp_path):
    (tmp_path / "pyproject.toml").write_text(
        '[tool.dinov2-in-practice]\nrepository = "some-owner/some-name"\npypi = ""\n',
        encoding="utf-8",
    )
    public = launch.passages(Project(tmp_path))
    chinese_page, english_page = (
        said(blocks.fill(text, blocks.passages(text) | public)) for text in (CHINESE, ENGLISH)
    )
    assert chinese_page[what] == english_page[what]
    assert ["git", "clone", "--depth", "1"] in [line[:4] for line in english_page["commands"]]


@pytest.mark.parametrize(
    ("what", "text", "other"),
    [
        ("numbers", "150 MB", "160 MB"),
        ("commands", "conda activate", "conda enter"),
        ("code", "`make wheel`", "`make wheels`"),
        ("links", "docs/faq.md", "docs/glossary.md"),
        ("pictures", 'width="200"', 'width="100"'),
    ],
)
def test_what_is_changed_in_one_page_alone_is_seen(what, text, other):
    if text not in CHINESE:
        pytest.skip(f"{text} is not said while there is a public repository")
    assert said(CHINESE.replace(text, other, 1))[what] != said(ENGLISH)[what]


def test_each_page_leads_to_the_other():
    assert "[简体中文](README.zh-CN.md)" in ENGLISH
    assert "[English](README.md)" in CHINESE


def test_blocks_of_the_chinese_page_are_those_of_the_english_one():
    own = [name for name in blocks.names(CHINESE) if name != "claims-zh"]
    assert [name.removesuffix("-zh") for name in own] == blocks.names(ENGLISH)


def test_three_lines_count_every_claim():
    for text in (ENGLISH, CHINESE):
        name = "verdicts" if text is ENGLISH else "verdicts-zh"
        lines = blocks.passages(text)[name].splitlines()
        counts = [int(re.search(r"\d+", line)[0]) for line in lines]
        assert len(counts) == 3 and sum(counts) == len(claims())
    table = blocks.passages(CHINESE)["claims-zh"].splitlines()[2:]
    assert len(table) == len(claims())
    assert {row["verdict"] for row in claims().values()} <= set(front.VERDICTS)


def english_texts():
    """All that generated tables of the Chinese page take from the course."""
    texts = [*front.VERDICTS, *(row["claim"] for row in claims().values())]
    for stem in PROJECT.lessons():
        notebook = pairing.read_source(PROJECT, stem)
        texts += [*pairing.title_and_promise(notebook), front.alt(notebook)]
    return texts


def test_every_text_has_its_chinese_and_none_is_left_over():
    missing = set(english_texts()) - chinese.TEXTS.keys()
    unused = chinese.TEXTS.keys() - set(english_texts())
    assert (missing, unused) == (set(), set()), "write them in tools/chinese.py"


def test_the_chinese_is_chinese_with_the_same_numbers():
    for text, translated in chinese.TEXTS.items():
        assert re.search(r"[\u4e00-\u9fff]", translated), text
        assert NUMBER.findall(translated) == NUMBER.findall(text), text


def test_a_text_without_chinese_stays_english():
    assert chinese.word("not translated yet") == "not translated yet"


def test_pages_install_the_torch_that_setup_installs():
    for text in (ENGLISH, CHINESE):
        assert set(re.findall(r'"(torch[^"]*)"', text)) == {LOCKED_TORCH}


def lesson(text):
    return nbformat.from_dict({"cells": [{"cell_type": "markdown", "source": text}]})


def test_the_minutes_of_a_lesson_are_those_that_it_says():
    assert front.minutes(lesson("# A\n\nAbout 45 minutes. More.")) == 45
    assert front.minutes(lesson("# A\n\nAbout an hour. More.")) == 60
    with pytest.raises(ValueError, match="About 50 minutes"):
        front.minutes(lesson("# A\n\nIn about 45 minutes."))


def test_a_lesson_without_a_figure_is_refused():
    assert front.alt(lesson("![Toys](figures/a.png)")) == "Toys"
    with pytest.raises(ValueError, match="alternative text"):
        front.alt(lesson("![Toys](elsewhere/a.png)"))


def test_the_models_table_has_each_size_once():
    rows = blocks.passages(ENGLISH)["downloads"].splitlines()[2:]
    assert [row.split("|")[1].strip() for row in rows] == [
        "`tiny`",
        "`small`",
        "`base`",
        "`large`",
        "`giant`",
        "`dinov3-small`",
        "`dinov3-base`",
        "`dinov3-large`",
        "`siglip2-base`",
    ]

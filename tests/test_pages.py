"""The built pages of a lesson and its evidence, and formulas on them."""

import nbformat
import pytest
from bs4 import BeautifulSoup
from nbformat import v4

from tools import notebooks, pairing
from tools.execution import Costs, Execution
from tools.page import write_pages
from tools.project import ROOT, Project

LESSON, EVIDENCE = "01_small", "evidence/01_small"
COSTS = Costs(seconds=12, peak_mb=345, download_mb=0, cores=2, cpu_seconds=9)


def notebook(*texts):
    """A notebook of Markdown cells, with a headline."""
    cells = [v4.new_markdown_cell(text) for text in texts]
    return v4.new_notebook(cells=cells, metadata={"headline": {"01.a": "the answer"}})


@pytest.fixture
def project(tmp_path):
    (tmp_path / "pyproject.toml").write_text(
        (ROOT / "pyproject.toml").read_text(encoding="utf-8"), encoding="utf-8"
    )
    return Project(tmp_path, "setup")


@pytest.fixture
def pair():
    lesson = notebook("# A lesson\n\n**Why?**\n\nSee [the evidence](evidence/01_small.ipynb).")
    evidence = notebook("# What was measured\n\nFor [lesson 1](../01_small.ipynb#why).")
    return lesson, evidence


def read(path):
    return BeautifulSoup(path.read_text(encoding="utf-8"), "html.parser")


def built(project, text):
    """The page of a notebook of one cell of text."""
    write_pages(project, [Execution(LESSON, notebook(f"# T\n\nWhy?\n\n{text}"), COSTS, None)], {})
    return read(project.build / "01_small.html").main


def dead_links(page):
    addresses = [link["href"].partition("#")[0] for link in read(page).find_all("a")]
    return [one for one in addresses if one and not (page.parent / one).is_file()]


def test_lesson_evidence_and_index_link_each_other(project, pair):
    lesson, evidence = pair
    executed = [Execution(LESSON, lesson, COSTS, None)]
    index = write_pages(project, executed, {"01.a": 0.5}, {EVIDENCE: evidence})
    pages = [index, project.build / "01_small.html", project.build / "evidence" / "01_small.html"]
    assert [dead_links(page) for page in pages] == [[], [], []]
    (row,) = read(index).tbody.find_all("tr")
    assert row.find(class_="soft").text == "Why?"
    assert [link["href"] for link in row.find_all("a")] == [
        "01_small.html",
        "evidence/01_small.html",
    ]
    assert row.find(class_="headline").text == "0.500"
    times, memory = (cell.get_text("|") for cell in row.find_all(class_="number"))
    assert times == "12 s|not run now" and memory == "345 MB|not run now"


def test_the_index_says_which_of_a_pair_has_failed(project, pair):
    lesson, evidence = pair
    failed = [Execution(EVIDENCE, evidence, COSTS, "ValueError: <no>")]
    index = write_pages(project, failed, {"01.a": 0.5}, {LESSON: lesson}).read_text(
        encoding="utf-8"
    )
    assert "What was measured failed</span> ValueError: &lt;no&gt;" in index
    assert "0.500" not in index


def test_what_was_executed_last_is_shown_while_it_is_current(project, pair):
    _, committed = pair
    (project.root / "data").mkdir()
    (project.root / "data" / "MANIFEST.sha256").write_text("no data\n", encoding="utf-8")
    for path, text in (
        (project.source(EVIDENCE), "# %%\n1 + 1\n"),
        (project.notebook(EVIDENCE), nbformat.writes(committed)),
    ):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    shown = notebooks.last_executed(project, EVIDENCE)
    assert shown.cells[0].source == committed.cells[0].source
    current = pairing.fingerprint(project, pairing.read_source(project, EVIDENCE))
    fresh = notebook("# Executed just now")
    fresh.metadata["executed"] = {"profile": "tiny", "sha256": current}
    copy = project.build / "notebooks" / f"{EVIDENCE}.ipynb"
    copy.parent.mkdir(parents=True)
    nbformat.write(fresh, copy)
    assert notebooks.last_executed(project, EVIDENCE).cells[0].source == "# Executed just now"
    project.source(EVIDENCE).write_text("# %%\n1 + 2\n", encoding="utf-8")
    shown = notebooks.last_executed(project, EVIDENCE)
    assert shown.cells[0].source == committed.cells[0].source


@pytest.mark.parametrize(
    ("text", "display"),
    [
        (r"The matrix $B = (X^\top X + \lambda I)^{-1}$ is small.", "inline"),
        (r"$$ B = (X^\top X + \lambda I)^{-1} $$", "block"),
    ],
)
def test_formulas_are_mathml(project, text, display):
    page = built(project, text)
    (formula,) = page.find_all("math")
    assert formula["display"] == display and "λ" in formula.text
    assert "$" not in page.text and "\\top" not in page.text


@pytest.mark.parametrize(
    "text",
    [
        "`echo $HOME $PATH`",
        "```\necho $HOME\nls $PATH\n```",
        "It costs $5.",
        r"It costs \$5, and the other \$7 more.",  # two need a backslash in Lab, too
    ],
)
def test_dollars_in_code_and_prices_are_left_alone(project, text):
    page = built(project, text)
    assert page.find("math") is None
    assert page.text.count("$") == text.count("$")

"""The site: its pages and links without Sphinx; weekly, the site itself in a browser."""

import doctest
import functools
import http.server
import importlib
import inspect
import logging
import re
import shutil
import threading
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from bs4 import BeautifulSoup
from PIL import Image

from tools import pairing
from tools.project import ROOT, Project
from tools.site import __main__ as site
from tools.site import contents, docstrings, finish, markdown, notebook_pages, reference

PROJECT = Project()
SITE = ROOT / "tools" / "site"
LARGEST_PAGE = 3_000_000  # bytes
WIDTHS = (390, 768, 1440)  # pixels: a phone, a tablet, a desk
# An answer of a quiz closes the others of the same name.
OPEN_ALL = """() => {
    for (const one of document.querySelectorAll("details")) {
        one.removeAttribute("name");
        one.open = true;
    }
}"""
# a page of each kind, and those that people come by
LOOKED_AT = (
    "index",
    "notebooks/index",
    "notebooks/01_feature_space",
    "notebooks/evidence/02_zero_shot_classification",
    "docs/ledger",
    "docs/library",
    "docs/faq",
    "docs/glossary",
    "api/index",
    "api/AnomalyDetector",
    "api/dinov2_helpers.extraction",
    "search",
)


@functools.cache
def text_of(page):
    """The Markdown that a page is made from, of a notebook that of its cells."""
    if page in contents.RENAMED.values():
        page = {name: path for path, name in contents.RENAMED.items()}[page].removesuffix(".md")
    stem = page.removeprefix("notebooks/")
    if stem in PROJECT.stems():
        cells = pairing.read_source(PROJECT, stem).cells
        return "\n\n".join(cell.source for cell in cells if cell.cell_type == "markdown")
    return (ROOT / f"{page}.md").read_text(encoding="utf-8")


def anchors(page):
    return {markdown.slug(heading) for heading in markdown.headings(text_of(page))}


def links(page):
    """(page, anchor) of every relative link to a page of the site."""
    folder = Path(page).parent
    found = re.findall(r"\]\(([\w./-]+\.(?:md|ipynb))(?:#([\w-]+))?\)", text_of(page))
    for path, anchor in found:
        target = (ROOT / folder / path).resolve().relative_to(ROOT.resolve())
        yield contents.page_of(target.as_posix()), anchor


def test_every_page_of_docs_is_in_the_contents():
    listed = contents.pages(PROJECT)
    assert len(listed) == len(set(listed))
    for path in (ROOT / "docs").glob("*.md"):
        assert f"docs/{path.stem}" in listed, f"list it in {contents.__name__}"
    for stem in PROJECT.stems():
        assert f"notebooks/{stem}" in listed


@pytest.mark.parametrize(
    "page",
    ["docs/faq", "docs/glossary", "docs/references", "docs/ledger", "docs/teaching", "docs/quiz"],
)
def test_its_links_lead_to_a_section_that_is_there(page):
    listed = contents.pages(PROJECT)
    found = list(links(page))
    assert found or page == "docs/references"
    for target, anchor in found:
        assert target in listed, target
        assert not anchor or anchor in anchors(target), f"{target}#{anchor}"


def test_slugs_are_those_of_github():
    assert markdown.slug('Can it say "none of these"?') == "can-it-say-none-of-these"
    assert markdown.slug("1. Published numbers") == "1-published-numbers"


def test_the_words_of_the_glossary_are_sorted():
    words = re.findall(r"^- \*\*(.+?)\*\*", text_of("docs/glossary"), re.M)
    assert len(words) >= 30
    assert words == sorted(words, key=str.casefold)


def test_every_question_has_an_answer():
    parts = re.split(r"^### ", text_of("docs/faq"), flags=re.M)[1:]
    assert len(parts) == 15
    for part in parts:
        question, answer = part.split("\n", 1)
        assert question.endswith("?") or "?" in question, question
        assert "](" in answer, f"{question} links to nothing"


def test_every_paper_that_a_notebook_links_is_among_the_references():
    papers = re.compile(r"https?://(?:arxiv\.org/abs|doi\.org|www\.jmlr\.org)/[^)\s]+")
    known = set(papers.findall(text_of("docs/references")))
    for page in (*(f"notebooks/{stem}" for stem in PROJECT.stems()), "docs/faq"):
        for paper in papers.findall(text_of(page)):
            assert paper in known, f"{page} links {paper}"


def test_every_public_name_is_on_a_page_of_the_api():
    text = "\n".join(reference.pages().values())
    for module in ("dinov2_helpers", "dinov2_helpers.techniques", "dinov2_scale"):
        for name in importlib.import_module(module).__all__:
            assert re.search(rf"^\.\. auto\w+:: [\w.]+\.{name}$", text, re.M), f"{module}.{name}"


@pytest.mark.parametrize("module", ["dinov2_helpers", "dinov2_helpers.techniques", "dinov2_scale"])
def test_every_public_name_has_an_example(module):
    room = importlib.import_module(module)
    without = [name for name in room.__all__ if ">>> " not in inspect.getdoc(getattr(room, name))]
    assert without == []


def test_no_name_is_described_twice():
    described = re.findall(r"^\.\. auto\w+:: (\S+)$", "\n".join(reference.pages().values()), re.M)
    assert len(described) == len(set(described))


def with_examples():
    """Modules with examples beside those of tests/test_library_page.py."""
    names = set()
    for room in reference.ROOMS:
        module = importlib.import_module(room.module)
        for name in reference.public_names(module):
            value = getattr(module, name)
            if ">>>" in (inspect.getdoc(value) or "") and hasattr(value, "__module__"):
                names.add(value.__module__)
    return sorted(name for name in names if "techniques" not in name and "measure" not in name)


@pytest.fixture
def files_of_examples(tmp_path, monkeypatch):
    """The folder "holiday" and the pictures "holiday.jpg" and "scan.tif" that examples name."""
    Image.new("RGB", (4000, 3000)).save(tmp_path / "holiday.jpg")
    (tmp_path / "holiday").mkdir()
    Image.new("RGB", (20, 20)).save(tmp_path / "holiday" / "3.png")
    for name in ("1.HEIC", "2.HEIC", "notes.txt"):
        (tmp_path / "holiday" / name).write_bytes(b"no picture")
    scan = np.linspace(12, 4071, 400).astype(np.uint16).reshape(20, 20)
    Image.fromarray(scan).save(tmp_path / "scan.tif")
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("name", with_examples())
def test_the_examples_of_the_api_are_true(name, caplog, files_of_examples):
    caplog.set_level(logging.CRITICAL, logger="dinov2_helpers")
    module = importlib.import_module(name)
    names = vars(importlib.import_module("dinov2_helpers")) | vars(module)
    found = doctest.testmod(module, extraglobs=names, optionflags=doctest.ELLIPSIS)
    assert found.attempted > 0 and found.failed == 0


def test_what_is_not_a_page_asks_no_other_host():
    for path in (SITE / "static").iterdir():
        text = path.read_text(encoding="utf-8").replace("http://www.w3.org/2000/svg", "")
        assert not re.search(r"https?://|@import|url\(", text), path.name


def test_pictures_of_other_hosts_become_words():
    badge = "[![Open in Colab](https://example.org/badge.svg)](https://example.org/a)"
    pages = contents.pages(PROJECT)
    assert markdown.as_page(PROJECT, "README.md", badge, pages) == (
        "[Open in Colab](https://example.org/a)"
    )


@pytest.mark.parametrize(
    ("path", "text", "page"),
    [
        ("docs/faq.md", "[l](../README.md#profiles)", "[l](../index.md#profiles)"),
        ("docs/faq.md", "[l](models.md)", "[l](models.md)"),
        ("docs/faq.md", "[l](../LICENSE)", "l (`LICENSE`)"),
        ("README.md", "[environment.yml](environment.yml)", "environment.yml"),
        ("README.md", "```\n[l](LICENSE)\n```", "```\n[l](LICENSE)\n```"),
        ("README.md", "[l](https://example.org)", "[l](https://example.org)"),
        ("README.md", '<a href="docs/faq.md#a">', '<a href="docs/faq.html#a">'),
        ("docs/faq.md", '<a href="../README.md">', '<a href="../index.html">'),
    ],
)
def test_links_lead_to_pages_or_name_the_file(path, text, page, tmp_path):
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    for name in ("README.md", "LICENSE", "environment.yml", "docs/models.md"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    project = Project(tmp_path)
    if project.repository:
        pytest.skip("with a repository such files have a public address")
    assert markdown.as_page(project, path, text, contents.pages(PROJECT)) == page


def test_links_of_outputs_name_the_pages_as_they_are_made():
    path = "notebooks/evidence/01_feature_space.ipynb"
    text = "[3](../03_semantic_segmentation.ipynb#edges), [s](../../docs/scaling.md)"
    made = markdown.as_page(PROJECT, path, text, contents.pages(PROJECT), made=True)
    assert made == "[3](../03_semantic_segmentation.html#edges), [s](../../docs/scaling.html)"


def test_a_picture_without_words_is_refused(tmp_path):
    output = {"output_type": "display_data", "data": {"image/png": ""}, "metadata": {}}
    node = notebook_pages.nbformat.from_dict(output)
    with pytest.raises(ValueError, match="no alt text"):
        notebook_pages._shown(node, "a", "notebooks/a.ipynb", tmp_path)


def test_a_notebook_that_changed_says_so_and_keeps_the_outputs_of_the_rest():
    for stem in PROJECT.stems():
        notebook = notebook_pages.assembled(PROJECT, stem)
        if PROJECT.notebook(stem).exists():
            committed = pairing.read_notebook(PROJECT, stem)
            sources = [cell.source for cell in committed.cells if cell.cell_type == "code"]
            same = [cell.source for cell in notebook.cells if cell.cell_type == "code"]
            assert notebook_pages.is_whole(notebook) == (sources == same), stem
        else:
            assert not notebook_pages.is_whole(notebook), stem


def test_signatures_and_toggles_can_be_listened_to():
    html = "<dt>f(\n<dl>\n<dd>a,</dd>\n<dd>b,</dd>\n</dl>)</dt><dl>\n<dt>x</dt>\n<dd>y</dd>\n</dl>"
    page = finish.accessible(html)
    assert page.count("<dd>") == 1 and page.count('class="parameter"') == 2
    assert 'aria-label="Pages below"' in finish.accessible(finish._TOGGLE)


def test_fields_that_a_comment_explains_are_described():
    pytest.importorskip("sphinx", reason="Sphinx is not installed: pip install '.[site]'")
    from dinov2_helpers.extraction import Features

    lines = docstrings.commented_fields(Features)
    assert any(line.strip().startswith("cls: (N, D), CLS token") for line in lines)
    assert docstrings.without_substitutions("|a - b| of `|c|`") == r"\|a - b\| of `|c|`"


# The site itself, once a week.


@pytest.fixture(scope="session")
def built(tmp_path_factory):
    """The folder of a site that was made now."""
    missing = [name for name in site.NEEDED if find_spec(name) is None]
    if missing:
        pytest.skip(f"{', '.join(missing)} not installed: pip install '.[site]'")
    build = tmp_path_factory.mktemp("build")
    assert site.main(["--build", str(build)]) == 0
    return build / "site"


@pytest.fixture(scope="session")
def pages(built):
    """The soup of every page, by its path."""
    return {
        path.relative_to(built).as_posix(): BeautifulSoup(path.read_text("utf-8"), "html.parser")
        for path in sorted(built.rglob("*.html"))
    }


@pytest.mark.weekly
def test_every_page_is_built_and_not_too_large(built, pages):
    for page in contents.pages(PROJECT):
        assert f"{page}.html" in pages
    for path in built.rglob("*.html"):
        assert path.stat().st_size < LARGEST_PAGE, path.name


@pytest.mark.weekly
def test_no_link_is_broken(built, pages):
    named = {page: {node["id"] for node in soup.find_all(id=True)} for page, soup in pages.items()}
    for page, soup in pages.items():
        for link in soup.find_all("a", href=True):
            path, _, anchor = link["href"].partition("#")
            if ":" in path:
                continue
            target = (built / page).parent / path if path else built / page
            assert target.resolve().exists(), f"{page}: {link['href']}"
            name = target.resolve().relative_to(built.resolve()).as_posix()
            if anchor and name in named:
                assert anchor in named[name], f"{page}: {link['href']}"


@pytest.mark.weekly
def test_formulas_are_drawn_and_pictures_are_described(built, pages):
    assert any(soup.find("math") for soup in pages.values())
    for page, soup in pages.items():
        for code in soup.find_all(["pre", "code", "script"]):
            code.extract()
        assert "$$" not in soup.get_text(), page
        for picture in soup.find_all("img"):
            assert picture.get("alt"), f"{page}: {picture.get('src')}"
            assert ((built / page).parent / picture["src"]).exists(), f"{page}: {picture['src']}"


@pytest.mark.weekly
def test_no_page_asks_another_host(pages):
    for page, soup in pages.items():
        for node in soup.find_all(["script", "img", "iframe", "link", "source"]):
            address = node.get("src") or node.get("href") or ""
            if node.name == "link" and "stylesheet" not in node.get("rel", []):
                continue
            assert "//" not in address, f"{page}: {address}"


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_):
        pass


@pytest.fixture(scope="session")
def browser(built):
    """Debian's Chromium, and the address at which it finds the site."""
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    if chromium is None:
        pytest.skip("Chromium is not installed (Debian: apt-get install chromium)")
    # brings axe-core, which asks for nothing else
    for name in ("playwright", "axe_playwright_python"):
        if find_spec(name) is None:
            pytest.skip(f"{name} is not installed: pip install axe-playwright-python")
    from playwright.sync_api import sync_playwright

    handler = functools.partial(_Quiet, directory=str(built))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    flags = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--no-first-run"]
    flags += ["--disable-component-update", "--disable-sync"]
    with sync_playwright() as play:
        opened = play.chromium.launch(executable_path=chromium, args=flags)
        yield opened, f"http://127.0.0.1:{server.server_port}"
        opened.close()
    server.shutdown()


@pytest.mark.weekly
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", WIDTHS)
def test_pages_can_be_used_by_all(browser, width, scheme):
    from axe_playwright_python.sync_playwright import Axe

    opened, address = browser
    context = opened.new_context(
        viewport={"width": width, "height": 900}, color_scheme=scheme, reduced_motion="reduce"
    )
    page = context.new_page()
    asked = []
    page.on("request", lambda request: asked.append(request.url))
    found = []
    for name in LOOKED_AT:
        page.goto(f"{address}/{name}.html")
        wide = page.evaluate("document.documentElement.scrollWidth")
        assert wide <= width, f"{name} is {wide} pixels wide"
        page.evaluate(OPEN_ALL)  # the answers of a quiz must be legible too
        violations = Axe().run(page).response["violations"]
        found += [(name, one["id"], one["nodes"][0]["html"][:200]) for one in violations]
    context.close()
    assert found == []
    assert [url for url in asked if not url.startswith((address, "data:"))] == []


@pytest.mark.weekly
def test_search_finds_the_threshold_of_the_anomalies(browser):
    opened, address = browser
    page = opened.new_page()
    page.goto(f"{address}/search.html?q=anomaly+threshold")
    first = page.locator("#search-results li a").first
    first.wait_for()
    assert "nomaly" in first.inner_text()
    page.close()


@pytest.mark.weekly
def test_a_lesson_is_printed_whole_and_dark_on_white(browser):
    opened, address = browser
    context = opened.new_context(color_scheme="dark")
    page = context.new_page()
    page.emulate_media(media="print", color_scheme="dark")
    page.goto(f"{address}/notebooks/01_feature_space.html")
    boxes = page.evaluate(
        """() => {
            const found = [];
            let box = document.querySelector("article.bd-article").parentElement;
            for (; box !== document.body; box = box.parentElement) {
                const style = getComputedStyle(box);
                found.push([box.className, style.display, style.overflowY]);
            }
            return found;
        }"""
    )
    # others keep the height that they have on a screen, and cut what page breaks push down
    assert [box for box in boxes if box[1:] != ["block", "visible"]] == []
    for text in ("article p", "article .highlight pre span"):
        colour = page.locator(text).first.evaluate("node => getComputedStyle(node).color")
        assert max(int(part) for part in re.findall(r"\d+", colour)[:3]) < 128, text
    context.close()

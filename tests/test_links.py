"""Links of notebooks: relative in a source, public in a committed notebook, pages on the site."""

import pytest

from tools import links, pairing
from tools.project import ROOT, Project

LESSON = "01_small"
EVIDENCE = "evidence/01_small"
COLAB = "https://colab.research.google.com/github/some-owner/some-name/blob/main/notebooks"
FILES = "https://raw.githubusercontent.com/some-owner/some-name/main/notebooks"


@pytest.fixture
def published(tmp_path):
    """A project whose repository has a public address."""
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    (tmp_path / "pyproject.toml").write_text(
        text.replace('repository = ""', 'repository = "some-owner/some-name"'), encoding="utf-8"
    )
    return Project(tmp_path)


@pytest.mark.parametrize(
    ("stem", "relative", "public"),
    [
        (LESSON, "[e](evidence/01_small.ipynb)", f"[e]({COLAB}/evidence/01_small.ipynb)"),
        (LESSON, "[next](02_other.ipynb#end)", f"[next]({COLAB}/02_other.ipynb#end)"),
        (EVIDENCE, "[l](../01_small.ipynb)", f"[l]({COLAB}/01_small.ipynb)"),
        (EVIDENCE, "[e](02_other.ipynb)", f"[e]({COLAB}/evidence/02_other.ipynb)"),
        (LESSON, "![a toy](figures/a.png)", f"![a toy]({FILES}/figures/a.png)"),
        (EVIDENCE, "![a toy](../figures/a.jpeg)", f"![a toy]({FILES}/figures/a.jpeg)"),
        (
            EVIDENCE,
            "[models](../../docs/models.md#size)",
            "[models](https://github.com/some-owner/some-name/blob/main/docs/models.md#size)",
        ),
    ],
)
def test_a_relative_link_is_made_public_and_back(published, stem, relative, public):
    assert links.publish(published, stem, relative) == public
    assert links.localise(published, stem, public) == relative


@pytest.mark.parametrize(
    "markdown",
    [
        "[DINOv2](https://arxiv.org/abs/2304.07193)",
        "[the data](https://example.org/data/README.md)",
        "`names[0](x)` and\n```python\nindex[0](row)\n```",
    ],
)
def test_other_links_and_code_stay(published, markdown):
    assert links.publish(published, LESSON, markdown) == markdown
    assert links.localise(published, LESSON, markdown) == markdown


def test_the_badge_stays_public(published):
    badge = pairing.badge(published, EVIDENCE)
    assert f"]({COLAB}/evidence/01_small.ipynb)" in badge
    assert links.localise(published, EVIDENCE, badge) == badge
    assert links.publish(published, EVIDENCE, badge) == badge


def test_without_a_repository_links_stay_relative(tmp_path):
    (tmp_path / "pyproject.toml").write_text(
        '[tool.dinov2-in-practice]\nrepository = ""\n', encoding="utf-8"
    )
    project = Project(tmp_path)
    assert links.publish(project, LESSON, "[e](evidence/a.ipynb)") == "[e](evidence/a.ipynb)"
    assert links.localise(project, LESSON, "[e](evidence/a.ipynb)") == "[e](evidence/a.ipynb)"


def test_every_link_of_every_notebook_comes_back_as_it_was(published):
    project = Project()
    for stem in project.stems():
        for cell in pairing.read_source(project, stem).cells:
            public = links.publish(published, stem, cell.source)
            assert "](../" not in public and "](evidence/" not in public, stem
            assert links.localise(published, stem, public) == cell.source


@pytest.mark.parametrize(
    ("address", "page"),
    [
        ("evidence/01_small.ipynb", "evidence/01_small.html"),
        ("../01_small.ipynb#part", "../01_small.html#part"),
        ("https://example.org/a.ipynb", "https://example.org/a.ipynb"),
        ("../README.md#profiles", "../README.md#profiles"),
        ("#part", "#part"),
    ],
)
def test_pages_link_pages(address, page):
    assert links.as_page(address) == page

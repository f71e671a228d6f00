"""One switch: a made-up address goes everywhere, and out of everything again to the last byte."""

import re
import shutil

import nbformat
import pytest
import yaml

from tools import blocks, launch, links, pairing, publish, readme
from tools.project import ROOT, Project
from tools.setup_cell import as_comments, setup_cell_of, without_installation

SLUG = "some-owner/some-name"
COPIED = ("notebooks", "docs", "benchmarks/results", "dinov2_helpers", "dinov2_scale", ".github")
SERVICES = ("colab.research.google.com", "kaggle.com", "mybinder.org", "studiolab.sagemaker.aws")


@pytest.fixture(scope="module")
def copy(tmp_path_factory):
    """A copy of all that a publication can change or that notebooks depend on, made current."""
    root = tmp_path_factory.mktemp("copy")
    ignored = shutil.ignore_patterns("__pycache__", ".ipynb_checkpoints")
    for name in COPIED:
        shutil.copytree(ROOT / name, root / name, ignore=ignored)
    for path in ROOT.iterdir():
        if path.suffix in {".md", ".toml", ".cff"} or path.name == "Makefile":
            shutil.copy(path, root / path.name)
    (root / "data").mkdir()
    shutil.copy(ROOT / "data" / "MANIFEST.sha256", root / "data")
    assert publish.main(["--repository", "", "--pypi", ""], Project(root)) == 0
    return Project(root)


def content(project):
    return {path: path.read_bytes() for path in project.root.rglob("*") if path.is_file()}


def executed(project):
    """What the notebooks show, and whether that is current."""
    shown = {}
    for stem in project.stems():
        cells = nbformat.read(project.notebook(stem), as_version=4).cells
        outputs = [cell.outputs for cell in cells if cell.cell_type == "code"]
        shown[stem] = (outputs, pairing.is_stale(project, stem))
    return shown


def texts(project):
    """The text of each file that readers open, by its name in the repository."""
    return {
        path.relative_to(project.root).as_posix(): path.read_text(encoding="utf-8")
        for path in project.root.rglob("*")
        if path.suffix in {".md", ".toml", ".cff", ".yml", ".ipynb", ".py"}
    }


def test_the_switch_changes_every_place_and_back(copy, capsys):
    before, shown = content(copy), executed(copy)
    assert not any(SLUG in text for text in texts(copy).values())

    assert publish.main(["--repository", SLUG, "--pypi", "some-package"], copy) == 0
    public = Project(copy.root)
    changed = set(capsys.readouterr().out.splitlines())
    assert {path.relative_to(copy.root).as_posix() for path in changed_files(copy, before)} == (
        changed | {"pyproject.toml"}
    )
    assert publish.main(["--check"], public) == 0
    found = texts(public)
    assert f"git clone --depth 1 https://github.com/{SLUG}\n" in found["README.md"]
    assert f"git clone --depth 1 https://github.com/{SLUG}\n" in found["README.zh-CN.md"]
    assert f"https://github.com/{SLUG}/issues/new/choose" in found["CONTRIBUTING.md"]
    assert f"https://github.com/{SLUG}/security/advisories/new" in found["SECURITY.md"]
    assert "pip install some-package\n" in found["docs/library.md"]
    assert f'repository-code: "https://github.com/{SLUG}"' in found["CITATION.cff"]
    form = yaml.safe_load(found[".github/ISSUE_TEMPLATE/config.yml"])
    assert form["contact_links"][0]["url"].startswith(f"https://github.com/{SLUG}/")
    urls = public.pyproject["project"]["urls"]
    assert urls["Homepage"] == f"https://github.com/{SLUG}"
    assert urls["Documentation"] == "https://some-owner.github.io/some-name/"
    assert "pip install -q --no-deps some-package\n" in setup_cell_of(public)
    for stem in public.stems():
        check_notebook(public, stem, found)
        for service in SERVICES:
            assert f"{service}" in found[f"notebooks/{stem}.ipynb"]
    for stem in public.lessons():
        assert launch.buttons(public, stem) in found["README.md"]
        assert launch.buttons(public, stem) in found["README.zh-CN.md"]
        assert launch.buttons(public, stem) in found["notebooks/README.md"]
    assert executed(public) == shown

    assert publish.main(["--repository", "", "--pypi", ""], public) == 0
    assert content(copy) == before


def changed_files(project, before):
    return [path for path, now in content(project).items() if before.get(path) != now]


def check_notebook(project, stem, found):
    """The first cells of a notebook and of its source name the address."""
    cells = nbformat.read(project.notebook(stem), as_version=4).cells
    first = next(cell for cell in cells if cell.cell_type == "code")
    assert first.source == setup_cell_of(project)
    assert as_comments(setup_cell_of(project)) in found[f"notebooks/src/{stem}.py"]
    assert "make wheel" not in cells[0].source
    relative = re.findall(r"\]\((?!https?:|#)[^)]*\)", cells[0].source)
    assert relative == []


def test_a_place_that_was_forgotten_is_named(copy, capsys):
    public = publish.set_in_pyproject(copy, repository=SLUG)
    assert publish.main(["--check"], public) == 1
    said = capsys.readouterr().out
    for name in ("README.md", "CITATION.cff", f"notebooks/{copy.stems()[0]}.ipynb"):
        assert f"{name} is not current: run `make publish`" in said
    publish.set_in_pyproject(copy, repository="")
    assert publish.main(["--check"], Project(copy.root)) == 0


@pytest.mark.parametrize(
    "options",
    [["--repository", "name"], ["--repository", "https://github.com/o/n"], ["--pypi", "a b"]],
)
def test_what_is_no_address_is_refused_and_nothing_is_written(copy, options, capsys):
    before = content(copy)
    with pytest.raises(SystemExit):
        publish.main(options, copy)
    assert "must be" in capsys.readouterr().err
    assert content(copy) == before


def test_the_documents_of_this_checkout_are_current():
    project = Project()
    files = [path for path, text in publish.current(project) if path.read_text("utf-8") != text]
    assert files == []


def test_documents_have_the_markers():
    """Without them the switch would turn nothing on."""
    wanted = {
        "README.md": {"badges", "clone", "hosted", "notebooks"},
        "README.zh-CN.md": {"badges", "clone-zh", "hosted-zh", "notebooks-zh"},
        "CONTRIBUTING.md": {"clone", "issues"},
        "SECURITY.md": {"advisories"},
        "docs/library.md": {"install"},
        "notebooks/README.md": {"welcome"},
    }
    for name, names in wanted.items():
        assert names <= set(blocks.names((ROOT / name).read_text(encoding="utf-8"))), name


def test_the_name_of_a_users_own_page_is_no_folder(tmp_path):
    (tmp_path / "pyproject.toml").write_text(
        '[tool.dinov2-in-practice]\nrepository = "Owner/owner.github.io"\n', encoding="utf-8"
    )
    assert launch.site(Project(tmp_path)) == "https://Owner.github.io/"


def test_all_four_buttons_open_the_same_notebook(copy):
    public = publish.set_in_pyproject(copy, repository=SLUG)
    stem = public.evidence()[0]
    targets = re.findall(r"\]\((https[^)]*)\)(?: |$)", launch.buttons(public, stem))
    assert [target.split("/")[2] for target in targets] == [*SERVICES]
    for target in targets:
        assert target.replace("%2F", "/").endswith(f"{links.NOTEBOOKS}/{stem}.ipynb")
    publish.set_in_pyproject(copy, repository="")


def test_only_a_set_up_cell_is_cut_to_what_stays():
    setup = setup_cell_of(Project())
    stays = "from dinov2_helpers import course\n\ncourse.setup()"
    assert without_installation(setup) == stays
    assert without_installation(stays) == stays
    for other in (f"{setup}\nprint(1)", f"x = 1\n{stays}", "x = 1"):
        assert without_installation(other) == other


def test_the_welcome_page_shows_every_lesson():
    text = (ROOT / "notebooks" / "README.md").read_text(encoding="utf-8")
    project = Project()
    for stem in project.lessons():
        assert f"]({stem}.ipynb)" in text
    for picture in re.findall(r'src="([^"]+)"', text):
        assert (ROOT / "notebooks" / picture).is_file()
    assert blocks.fill(text, readme.passages(project)) == text

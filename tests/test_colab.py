"""The set-up cell on a Colab of paper: pip's answers are written here, shell and cell are real."""

import json
import os
import re
import sys

import nbformat
import pytest

from tools import colab, pairing
from tools.project import ROOT, Project
from tools.setup_cell import COLAB_HAS, lacking, setup_cell, setup_cell_of

DEPENDENCIES = Project().dependencies
PACKAGES = {
    "google": ("google-colab", "1.0.0"),
    "huggingface_hub": ("huggingface-hub", "0.36.0"),
    "numpy": ("numpy", "2.0.2"),
    "sklearn": ("scikit-learn", "1.6.1"),
    "torch": ("torch", "2.9.0+cpu"),
    "transformers": ("transformers", "4.57.6"),
    "PIL": ("pillow", "11.3.0"),
}
FAISS = "Collecting faiss-cpu\nInstalling collected packages: faiss-cpu\n"
CHECK = """\
ipython 7.34.0 requires jedi, which is not installed.
dinov2-in-practice 0.1.0 requires jupyterlab, which is not installed.
"""
PIP = """#!/bin/sh
cd "$(dirname "$0")"
echo "$*" >> calls
case "$*" in
  check*) cat check; exit 1 ;;
  *--no-deps*)
    touch package
    echo "Successfully built dinov2-in-practice"
    echo "Successfully installed dinov2-in-practice-0.1.0" ;;
  *) cat > constraints
    cat answer; exit "$(cat status)" ;;
esac
"""


class PaperColab:
    """A folder with a pip that says what a test wants, and a kernel to run the cell in."""

    def __init__(self, folder):
        self.folder = folder
        (folder / "pip").write_text(PIP)
        (folder / "pip").chmod(0o755)
        self.answers(check=CHECK, status="0", calls="")

    def answers(self, **files):
        for name, text in files.items():
            (self.folder / name).write_text(text)

    def run(self, repository="owner/name"):
        exec(setup_cell(repository, DEPENDENCIES), {})

    def packages(self):
        """Stands for `packages_distributions`: the package is there once pip has installed it."""
        found = {module: [name] for module, (name, _) in PACKAGES.items()}
        if (self.folder / "package").exists():
            found["dinov2_helpers"] = ["dinov2-in-practice"]
        return found

    @property
    def calls(self):
        return (self.folder / "calls").read_text().splitlines()

    @property
    def constraints(self):
        return sorted((self.folder / "constraints").read_text().splitlines())


@pytest.fixture
def paper(tmp_path, monkeypatch):
    paper = PaperColab(tmp_path)
    for name in PACKAGES.keys() - {"google"}:
        monkeypatch.delitem(sys.modules, name, raising=False)
    for name in ("google", "google.colab", "PIL"):
        monkeypatch.setitem(sys.modules, name, object())
    versions = dict(PACKAGES.values())
    monkeypatch.setattr("importlib.metadata.packages_distributions", paper.packages)
    monkeypatch.setattr("importlib.metadata.version", versions.__getitem__)
    monkeypatch.setattr("dinov2_helpers.course.about", lambda: "Profile tiny")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", os.pathsep.join([str(tmp_path), os.environ["PATH"]]))
    return paper


def test_what_is_missing_is_added_and_all_else_is_kept(paper, capsys):
    paper.answers(answer=FAISS + "Successfully installed faiss-cpu-1.15.1\n")
    paper.run()
    assert capsys.readouterr().out.splitlines() == [
        "Successfully installed faiss-cpu-1.15.1; Successfully installed dinov2-in-practice-0.1.0",
        "Profile tiny",
    ]
    assert [call.split()[0] for call in paper.calls] == ["--no-color", "install", "check"]
    assert paper.calls[0].endswith(" ".join(lacking(DEPENDENCIES)))


def test_an_old_transformers_is_replaced_and_the_line_says_so(paper, capsys):
    replaced = ["tokenizers-0.22.2", "transformers-4.57.6"]
    said = [f"      Successfully uninstalled {name}\n" for name in replaced]
    said.append("Successfully installed faiss-cpu-1.15.1 tokenizers-0.23.3 transformers-5.23.0\n")
    paper.answers(answer=FAISS + "".join(said))
    paper.run()
    line, _ = capsys.readouterr().out.splitlines()
    assert line == (
        "Successfully uninstalled tokenizers-0.22.2; Successfully uninstalled transformers-4.57.6; "
        "Successfully installed faiss-cpu-1.15.1 tokenizers-0.23.3 transformers-5.23.0; "
        "Successfully installed dinov2-in-practice-0.1.0"
    )


IMPORTED = ["google-colab==1.0.0", "numpy==2.0.2", "pillow==11.3.0", "torch==2.9.0+cpu"]


def test_torch_and_numpy_and_what_is_imported_are_kept(paper, monkeypatch):
    paper.answers(answer="")
    paper.run()
    assert paper.constraints == IMPORTED
    (paper.folder / "package").unlink()
    monkeypatch.setitem(sys.modules, "transformers", object())
    paper.run()
    assert paper.constraints == [*IMPORTED, "transformers==4.57.6"]


def test_where_nothing_is_missing_only_the_package_is_installed(paper, capsys):
    paper.answers(answer="Requirement already satisfied: faiss-cpu in /usr/lib (1.15.1)\n")
    paper.run()
    line, _ = capsys.readouterr().out.splitlines()
    assert line == "Successfully installed dinov2-in-practice-0.1.0"


def test_the_second_run_does_nothing(paper, capsys):
    paper.answers(answer=FAISS)
    paper.run()
    before = paper.calls
    capsys.readouterr()
    paper.run()
    assert paper.calls == before
    assert capsys.readouterr().out == "Profile tiny\n"


def test_outside_colab_nothing_is_installed(paper, monkeypatch, capsys):
    monkeypatch.delitem(sys.modules, "google.colab")
    paper.run()
    assert paper.calls == []
    assert capsys.readouterr().out == "Profile tiny\n"


def test_a_torch_too_old_is_said_and_not_replaced(paper, capsys):
    complaint = "dinov2-in-practice 0.1.0 has requirement torch>=2.6, but you have torch 2.5.0."
    paper.answers(answer=FAISS, check=f"{CHECK}{complaint}\n")
    paper.run()
    line, _ = capsys.readouterr().out.splitlines()
    assert line == f"Successfully installed dinov2-in-practice-0.1.0; {complaint}"


def test_after_a_failure_the_line_says_why_and_the_next_run_tries_again(paper, capsys):
    paper.answers(answer="ERROR: No matching distribution found for faiss-cpu\n", status="1")
    paper.run()
    out = capsys.readouterr().out
    assert out.startswith("ERROR: No matching distribution found for faiss-cpu\n")
    assert [call.split()[0] for call in paper.calls] == ["--no-color"]
    paper.answers(answer=FAISS, status="0")
    paper.run()
    assert "Successfully installed dinov2-in-practice-0.1.0" in capsys.readouterr().out


def test_the_real_pip_does_not_replace_numpy(paper, capsys, monkeypatch):
    """Another numpy than Colab's would be needed here: pip installs nothing and says why."""
    for name, value in {"PIP_NO_INDEX": "1", "PIP_DRY_RUN": "1", "PIP_FIND_LINKS": ""}.items():
        monkeypatch.setenv(name, value)
    paper.answers(pip=f'#!/bin/sh\nexec {sys.executable} -m pip "$@"\n')
    monkeypatch.setattr("importlib.metadata.version", {"numpy": "1.0"}.__getitem__)
    monkeypatch.setattr("importlib.metadata.packages_distributions", lambda: {"numpy": ["numpy"]})
    paper.run()
    out = capsys.readouterr().out
    assert "ERROR: Cannot install" in out and "(constraint) numpy==1.0" in out
    assert "Successfully" not in out


def test_the_wheel_beside_the_notebook_is_enough_without_a_repository(paper):
    paper.answers(answer=FAISS, **{"dinov2_in_practice-0.1.0-py3-none-any.whl": ""})
    paper.run(repository="")
    assert paper.calls[1] == "install --no-deps --no-index --find-links=. dinov2-in-practice"


def test_without_wheel_and_repository_it_says_what_to_do_before_pip(paper):
    with pytest.raises(FileNotFoundError, match=r"dist/dinov2_in_practice-.*make wheel.*again"):
        paper.run(repository="")
    assert paper.calls == []


def test_bounds_among_what_colab_is_not_asked_for():
    names = {re.match(r"[\w-]+", line)[0] for line in DEPENDENCIES}
    # another one lengthens the cell: is it in Colab's list, see tools/setup_cell.py?
    assert names - COLAB_HAS == {"faiss-cpu", "transformers", "diffusers"}
    assert names >= COLAB_HAS
    unasked = set(DEPENDENCIES) - set(lacking(DEPENDENCIES))
    # Colab ships later ones, and `pip check` would say so if it did not
    assert {line for line in unasked if line not in names} == {"torch>=2.6", "pillow>=11"}


@pytest.fixture
def published(tmp_path):
    """The project as it is when its repository has a public address."""
    text = (ROOT / "pyproject.toml").read_text()
    changed = re.sub(r'(?m)^repository = ".*"$', 'repository = "some-owner/some-name"', text)
    (tmp_path / "pyproject.toml").write_text(changed)
    return Project(tmp_path)


@pytest.mark.parametrize("stem", Project().stems())
def test_a_badge_opens_its_own_notebook(published, stem):
    (link,) = re.findall(r"\((https://colab[^)]*/github/[^)]*)\)", pairing.badge(published, stem))
    address = "https://colab.research.google.com/github/some-owner/some-name/blob/main/"
    assert link.startswith(address)
    assert ROOT / link.removeprefix(address) == Project().notebook(stem)
    assert Project().notebook(stem).is_file()


def test_the_repository_is_named_in_one_place(published):
    assert '"git+https://github.com/some-owner/some-name"' in setup_cell_of(published)
    files = [*(ROOT / "tools").glob("*.py"), *(ROOT / "dinov2_helpers").glob("*.py")]
    readers = [file.name for file in files if '["repository"]' in file.read_text()]
    assert readers == ["project.py"]
    slug = Project().repository
    sources = [path.read_text() for path in (ROOT / "notebooks" / "src").glob("*.py")]
    assert all(("git+https" in text) == bool(slug) for text in sources)


@pytest.fixture
def site(tmp_path):
    """A site-packages of two distributions."""
    for name in ("torch", "transformers"):
        add(tmp_path, name, "1.0")
    return tmp_path


def add(site, name, version):
    """Installs a distribution of one module by hand."""
    for old in site.glob(f"{name}-*.dist-info"):
        for file in old.iterdir():
            file.unlink()
        old.rmdir()
    facts = site / f"{name}-{version}.dist-info"
    facts.mkdir()
    (facts / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    (facts / "RECORD").write_text(f"{name}.py,,\n{facts.name}/METADATA,,\n{facts.name}/RECORD,,\n")
    (site / f"{name}.py").write_text(f"version = '{version}'\n" + "#" * len(version))


def lay(site, *changes, older=False):
    """What `differences` says of an installation that also made other changes."""
    before = colab.installed(site), colab.snapshot(site)
    for name in colab.LACKS:
        add(site, name.replace("-", "_"), "1.0")
    for change in changes:
        change()
    return list(colab.differences(site, before, older))


def test_an_installation_that_only_adds_is_clean(site):
    assert lay(site) == []


def test_another_version_of_a_package_is_found(site):
    problems = lay(site, lambda: add(site, "torch", "1.10"))
    assert problems[0] == "changed torch"


def test_a_changed_file_of_another_package_is_found(site):
    problems = lay(site, lambda: (site / "torch.py").write_text("another\n"))
    assert problems == ["changed files as torch.py (1)"]


def test_a_file_of_no_package_is_found(site):
    problems = lay(site, lambda: (site / "stray.pth").write_text(""))
    assert problems == ["left files as stray.pth (1)"]


def test_another_package_is_found(site):
    assert lay(site, lambda: add(site, "extra", "1.0")) == [
        "added dinov2-in-practice, extra, faiss-cpu"
    ]


def test_a_replaced_transformers_is_fine_where_it_was_too_old_and_torch_is_not(site):
    def newer():
        add(site, "transformers", "5.10")

    assert lay(site, newer, older=True) == []
    problems = lay(site, lambda: add(site, "torch", "1.10"), older=True)
    assert "changed torch" in problems


def facts(**other):
    good = {"changed": [], "replaced": []}
    return json.dumps(good | other)


@pytest.mark.parametrize(
    ("said", "other", "complaint"),
    [
        ("Success\nProfile", {}, None),
        ("Success\nProfile", {"changed": ["torch"]}, "imported and changed: torch"),
        ("Success\nProfile", {"replaced": ["numpy"]}, "imported and replaced: numpy"),
        ("Success\nProfile", {"data": "/elsewhere"}, "the data is not the installed one"),
        ("ERROR: no\nProfile", {}, "the set-up cell said"),
    ],
)
def test_what_is_wrong_in_the_kernel_is_found(tmp_path, said, other, complaint):
    places = {name: str(tmp_path / name) for name in ("package", "data", "faiss")}
    texts = ["", said, "", facts(**(places | other)), said.splitlines()[-1]]
    cells = [
        nbformat.v4.new_code_cell("", outputs=[nbformat.v4.new_output("stream", text=text)])
        for text in texts
    ]
    problems = list(colab.findings(tmp_path, nbformat.v4.new_notebook(cells=cells)))
    assert len(problems) == (complaint is not None)
    assert complaint is None or complaint in problems[0]


@pytest.mark.parametrize("stem", Project().stems())
def test_the_trial_has_the_set_up_cell_and_the_imports_of_the_notebook(stem):
    notebook = colab.tried(Project(), stem, "git", full=False)
    _, setup, imports, _, again = [cell.source for cell in notebook.cells]
    assert setup == again == setup_cell(colab.REPOSITORY, DEPENDENCIES)
    compile(imports, stem, "exec")
    assert "import numpy as np" in imports and "from dinov2_helpers import" in imports

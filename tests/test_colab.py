"""The set-up cell on a Colab of paper: pip's answers are written here, shell and cell are real."""

import importlib.util
import json
import logging
import os
import re
import subprocess
import sys
from importlib import metadata
from types import SimpleNamespace

import nbformat
import pytest
from packaging.requirements import Requirement

from dinov2_helpers.colab import NOT_NEEDED, TOGETHER, install, requirements
from tools import colab, pairing
from tools.project import ROOT, Project
from tools.setup_cell import as_comments, setup_cell, setup_cell_of
from tools.syntax import as_python

MODULES = {
    "google": "google-colab",
    "huggingface_hub": "huggingface-hub",
    "numpy": "numpy",
    "sklearn": "scikit-learn",
    "torch": "torch",
    "transformers": "transformers",
    "PIL": "pillow",
}
VERSIONS = {
    **dict.fromkeys(
        ("accelerate", "anywidget", "filelock", "ipywidgets", "matplotlib", "packaging"), "99.0"
    ),
    **dict.fromkeys(
        ("psutil", "safetensors", "scikit-image", "scipy", "threadpoolctl", "tqdm"), "9.0"
    ),
    "diffusers": "0.40.0",
    "google-colab": "1.0.0",
    "huggingface-hub": "1.27.0",
    "numpy": "2.0.2",
    "pillow": "11.3.0",
    "scikit-learn": "1.6.1",
    "torch": "2.9.0+cpu",
    "transformers": "5.20.0",
}
FAISS = "Collecting faiss-cpu\nInstalling collected packages: faiss-cpu\n"
(ASKED_FAISS,) = (line for line in Project().dependencies if line.startswith("faiss-cpu"))
FAISS_DONE = "Successfully installed faiss-cpu-1.15.1"
PIP = """#!/bin/sh
cd "$(dirname "$0")"
echo "$*" >> calls
case "$*" in
  *--no-deps*)
    test -e refuse && exit 1
    touch package ;;
  *) cat > constraints
    test "$(cat status)" = 0 && touch done
    cat answer; exit "$(cat status)" ;;
esac
"""


class PaperColab:
    """A folder with a pip that says what a test wants, and a Python without our package."""

    def __init__(self, folder):
        self.folder = folder
        self.versions = dict(VERSIONS)
        self.brings = {"faiss-cpu": "1.15.1"}  # what pip installs where it succeeds
        for name in ("pip", "python"):
            (folder / name).write_text(PIP, encoding="utf-8")
            (folder / name).chmod(0o755)
        self.answers(status="0", calls="", answer=f"{FAISS}{FAISS_DONE}\n")

    def answers(self, **files):
        for name, text in files.items():
            (self.folder / name).write_text(text, encoding="utf-8")

    def run(self, origin="git+https://github.com/owner/name"):
        shell = SimpleNamespace(system=self.shell)
        exec(as_python(setup_cell(origin)), {"get_ipython": lambda: shell})

    def shell(self, line):
        run = subprocess.run(line, shell=True, capture_output=True, text=True, check=False)
        print(run.stdout, end="")

    def find_spec(self, name):
        return True if (self.folder / "package").exists() else None

    def version(self, name):
        if name == "dinov2-in-practice":
            return "0.1.0"
        installed = self.versions | (self.brings if (self.folder / "done").exists() else {})
        if name not in installed:
            raise metadata.PackageNotFoundError(name)
        return installed[name]

    @property
    def calls(self):
        return (self.folder / "calls").read_text(encoding="utf-8").splitlines()

    @property
    def constraints(self):
        return (self.folder / "constraints").read_text(encoding="utf-8").splitlines()


def requires():
    """What the metadata of the package say, made of pyproject.toml as its wheel has it."""
    project = Project().pyproject["project"]
    lines = list(project["dependencies"])
    for extra, asked in project["optional-dependencies"].items():
        for line in asked:
            requirement, _, marker = line.partition(";")
            both = " and ".join(filter(None, [marker.strip(), f"extra == '{extra}'"]))
            lines.append(f"{requirement}; {both}")
    return lines


@pytest.fixture
def paper(tmp_path, monkeypatch):
    paper = PaperColab(tmp_path)
    for name in MODULES.keys() - {"google"}:
        monkeypatch.delitem(sys.modules, name, raising=False)
    google = SimpleNamespace(colab=None)
    for name in ("google", "google.colab", "PIL"):
        monkeypatch.setitem(sys.modules, name, google)
    owners = {module: [name] for module, name in MODULES.items()}
    monkeypatch.setattr(metadata, "packages_distributions", lambda: owners)
    monkeypatch.setattr(metadata, "version", paper.version)
    monkeypatch.setattr(metadata, "requires", lambda _: requires())
    monkeypatch.setattr(importlib.util, "find_spec", paper.find_spec)
    monkeypatch.setattr("dinov2_helpers.course.about", lambda: "Profile tiny")
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", os.pathsep.join([str(tmp_path), os.environ["PATH"]]))
    monkeypatch.setattr(logging.getLogger("dinov2_helpers"), "propagate", False)
    return paper


def test_what_is_missing_is_added_and_all_else_is_kept(paper, capsys):
    paper.run()
    assert capsys.readouterr().out.splitlines() == [FAISS_DONE, "Profile tiny"]
    first, second = paper.calls
    assert first == "install -q --no-deps git+https://github.com/owner/name"
    assert second == f"-m pip install --no-color -c /dev/stdin {ASKED_FAISS}"


def test_an_old_transformers_is_replaced_together_with_diffusers_and_the_line_says_so(
    paper, capsys
):
    paper.versions["transformers"] = "4.57.6"
    paper.brings["transformers"] = "5.23.0"
    said = [
        "      Successfully uninstalled transformers-4.57.6",
        "ERROR: pip's dependency resolver does not take peft into account.",
        "peft 0.1 requires transformers<5, but you have transformers 5.23.0.",
        "Successfully installed faiss-cpu-1.15.1 transformers-5.23.0",
    ]
    paper.answers(answer=FAISS + "\n".join(said))
    paper.run()
    line, _ = capsys.readouterr().out.splitlines()
    assert line == (
        "Successfully uninstalled transformers-4.57.6; "
        "Successfully installed faiss-cpu-1.15.1 transformers-5.23.0"
    )
    assert paper.calls[1].endswith(f" diffusers>=0.40 {ASKED_FAISS} transformers>=5.18")


IMPORTED = ["google-colab==1.0.0", "numpy==2.0.2", "pillow==11.3.0", "torch==2.9.0+cpu"]


def test_torch_and_numpy_and_what_is_imported_are_kept(paper, monkeypatch):
    paper.run()
    assert paper.constraints == IMPORTED
    (paper.folder / "done").unlink()
    monkeypatch.setitem(sys.modules, "transformers", object())
    paper.run()
    assert paper.constraints == [*IMPORTED, "transformers==5.20.0"]


def test_where_nothing_is_missing_only_the_package_is_installed(paper, capsys):
    paper.versions |= paper.brings
    paper.run()
    assert capsys.readouterr().out == "Profile tiny\n"
    assert len(paper.calls) == 1


def test_the_second_run_does_nothing(paper, capsys):
    paper.run()
    before = paper.calls
    capsys.readouterr()
    paper.run()
    assert paper.calls == before
    assert capsys.readouterr().out == "Profile tiny\n"


def test_outside_colab_nothing_is_installed(paper, monkeypatch, capsys):
    monkeypatch.delitem(sys.modules, "google.colab")
    monkeypatch.delitem(sys.modules, "google")
    with pytest.raises(ModuleNotFoundError, match="google"):
        paper.run()
    (paper.folder / "package").touch()
    paper.run()
    assert paper.calls == []
    assert capsys.readouterr().out == "Profile tiny\n"


@pytest.mark.parametrize(
    ("name", "version", "needed"),
    [("torch", "2.5.0", "torch>=2.6"), ("transformers", "4.57.6", "transformers>=5.18")],
)
def test_what_is_in_use_and_too_old_is_said_and_not_replaced(
    paper, monkeypatch, capsys, name, version, needed
):
    monkeypatch.setitem(sys.modules, name, object())
    paper.versions[name] = version
    paper.run()
    done, complaint, _ = capsys.readouterr().out.splitlines()
    assert done == FAISS_DONE
    assert complaint.startswith(f"{needed} is needed and {version} is here, in use: choose Runtime")
    assert needed not in paper.calls[1]
    assert f"{name}=={version}" in paper.constraints


def test_after_a_failure_the_lines_say_why_and_what_to_do_and_the_next_run_tries_again(
    paper, capsys
):
    said = "ERROR: No matching distribution found for faiss-cpu"
    paper.answers(answer=f"{said}\n", status="1")
    paper.run()
    why, what, _ = capsys.readouterr().out.splitlines()
    assert why == said
    assert what.startswith(f"{ASKED_FAISS} is needed and nothing is here: run this cell again")
    paper.answers(answer=f"{FAISS}{FAISS_DONE}\n", status="0")
    paper.run()
    assert capsys.readouterr().out.splitlines() == [FAISS_DONE, "Profile tiny"]


def test_the_real_pip_does_not_replace_numpy(monkeypatch):
    """Another numpy than Colab's would be needed here: pip installs nothing and says why."""
    for name, value in {"PIP_NO_INDEX": "1", "PIP_DRY_RUN": "1", "PIP_FIND_LINKS": ""}.items():
        monkeypatch.setenv(name, value)
    out = install([Requirement("numpy>=2")], {"numpy": "1.0"})
    assert "ERROR: Cannot install" in out and "(constraint) numpy==1.0" in out
    assert "Successfully" not in out


def test_the_wheel_beside_the_notebook_is_enough_without_a_repository(paper, capsys):
    paper.answers(**{"dinov2_in_practice-0.1.0-py3-none-any.whl": ""})
    paper.run(origin="")
    assert paper.calls[0] == "install -q --no-deps dinov2_in_practice-0.1.0-py3-none-any.whl"
    assert capsys.readouterr().out.splitlines() == [FAISS_DONE, "Profile tiny"]


def test_without_a_wheel_it_says_what_to_do_before_it_installs_anything(paper, capsys):
    with pytest.raises(AssertionError, match=r"^Run `make setup`, or on Colab upload the wheel"):
        paper.run(origin="")
    assert capsys.readouterr().out == ""
    assert paper.calls == []
    assert "make wheel" in pairing.badge(Project(), "01_feature_space")  # "above"


def test_a_package_that_lies_there_without_being_installed_is_said(paper, monkeypatch):
    def not_installed(name):
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "requires", not_installed)
    with pytest.raises(RuntimeError, match="pip install --no-deps FOLDER"):
        paper.run()


def test_what_is_required_is_what_pyproject_says(monkeypatch):
    monkeypatch.setattr(metadata, "requires", lambda _: requires())
    asked = {str(Requirement(line)) for line in Project().dependencies}
    wanted = {line for line in asked if Requirement(line).name not in NOT_NEEDED}
    assert {str(requirement) for requirement in requirements()} == wanted
    assert {requirement.name for requirement in requirements()} > TOGETHER


def test_the_package_alone_imports_with_what_colab_has():
    """Its requirements are installed by a function of its own, which must be there before them."""
    script = """
import sys
before = set(sys.modules)
import dinov2_helpers.course
print(*{name.partition(".")[0] for name in set(sys.modules) - before})
"""
    said = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    others = set(said.stdout.split()) - sys.stdlib_module_names - {"dinov2_helpers"}
    # What older releases of Pillow and numpy import, where it is there.
    others -= {"defusedxml", *(name for name in others if "cython" in name)}
    assert others <= {"PIL", "numpy", "packaging", "psutil", "safetensors", "tqdm"}


@pytest.fixture
def published(tmp_path):
    """The project as it is when its repository has a public address."""
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    changed = re.sub(r'(?m)^repository = ".*"$', 'repository = "some-owner/some-name"', text)
    (tmp_path / "pyproject.toml").write_text(changed, encoding="utf-8")
    return Project(tmp_path)


@pytest.mark.parametrize("stem", Project().stems())
def test_a_badge_opens_its_own_notebook(published, stem):
    link, *_ = re.findall(
        r"\]\((https://colab[^)]*/github/[^)]*)\)", pairing.badge(published, stem)
    )
    address = "https://colab.research.google.com/github/some-owner/some-name/blob/main/"
    assert link.startswith(address)
    assert ROOT / link.removeprefix(address) == Project().notebook(stem)
    assert Project().notebook(stem).is_file()


def test_the_repository_is_named_in_one_place(published):
    assert "git+https://github.com/some-owner/some-name" in setup_cell_of(published)
    files = [*(ROOT / "tools").glob("*.py"), *(ROOT / "dinov2_helpers").glob("*.py")]
    readers = [file.name for file in files if '["repository"]' in file.read_text(encoding="utf-8")]
    assert readers == ["project.py"]
    current = as_comments(setup_cell_of(Project()))
    sources = [
        path.read_text(encoding="utf-8") for path in (ROOT / "notebooks" / "src").rglob("*.py")
    ]
    assert all(current in text for text in sources)


def test_pictures_have_their_public_address_in_published_notebooks_alone(published):
    stem = "01_small"
    published.source(stem).parent.mkdir(parents=True)
    text = "# %% [markdown]\n# # Title\n#\n# ![A toy](figures/01_small.png)\n"
    published.source(stem).write_text(text, encoding="utf-8")
    pairing.write_notebook(published, stem, pairing.read_source(published, stem))
    address = "https://raw.githubusercontent.com/some-owner/some-name/main/notebooks/figures/"
    assert f"![A toy]({address}01_small.png)" in published.notebook(stem).read_text(
        encoding="utf-8"
    )
    (cell,) = pairing.read_notebook(published, stem).cells
    assert cell.source == pairing.read_source(published, stem).cells[0].source


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
    (facts / "METADATA").write_text(
        f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n", encoding="utf-8"
    )
    (facts / "RECORD").write_text(
        f"{name}.py,,\n{facts.name}/METADATA,,\n{facts.name}/RECORD,,\n", encoding="utf-8"
    )
    (site / f"{name}.py").write_text(
        f"version = '{version}'\n" + "#" * len(version), encoding="utf-8"
    )


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
    problems = lay(site, lambda: (site / "torch.py").write_text("another\n", encoding="utf-8"))
    assert problems == ["changed files as torch.py (1)"]


def test_a_file_of_no_package_is_found(site):
    problems = lay(site, lambda: (site / "stray.pth").write_text("", encoding="utf-8"))
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
    assert setup == again == setup_cell(colab.VARIANTS["git"])
    compile(imports, stem, "exec")
    assert "import numpy as np" in imports and "from dinov2_helpers import" in imports

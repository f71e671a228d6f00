"""The copies that `make lab` opens: renewed until a reader changes them, and then theirs."""

import json
import os
import posixpath
import re
import subprocess
import sys

import pytest
from nbformat import read

from tools import lab, links
from tools.project import ROOT, Project

NOTEBOOK = "notebooks/01_small.ipynb"
EVIDENCE = "notebooks/evidence/01_small.ipynb"


@pytest.fixture
def project(tmp_path):
    write(tmp_path / "pyproject.toml", '[tool.dinov2-in-practice]\nrepository = ""\n')
    write(tmp_path / NOTEBOOK, "first version")
    write(tmp_path / EVIDENCE, "measured")
    write(tmp_path / "notebooks" / "figures" / "01_small.png", "a picture")
    write(tmp_path / "docs" / "models.md", "a document")
    return Project(tmp_path, "")


def write(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def test_a_copy_has_what_the_notebook_links_to(project):
    assert lab.refresh(project) == []
    copied = project.lab / NOTEBOOK
    assert copied.read_text(encoding="utf-8") == "first version"
    assert (copied.parent / "figures" / "01_small.png").is_file()
    assert (copied.parent / ".." / "docs" / "models.md").is_file()
    assert (copied.parent / "evidence" / "01_small.ipynb").read_text(encoding="utf-8") == "measured"


def markdown_of(path):
    if path.suffix == ".md":
        return path.read_text(encoding="utf-8")
    cells = read(path, as_version=4).cells
    return "\n".join(cell.source for cell in cells if cell.cell_type == "markdown")


def test_what_notebooks_and_documents_link_to_is_copied():
    copied = {name.as_posix() for name in lab.files(Project())}
    assert links.WELCOME in copied
    read_there = [name for name in copied if name.startswith(("notebooks/", "docs/", "README"))]
    for name in read_there:
        if not name.endswith((".md", ".ipynb")):
            continue
        for target in re.findall(r"\]\(([\w./-]+)(?=[)#])", markdown_of(ROOT / name)):
            path = posixpath.normpath(posixpath.join(posixpath.dirname(name), target))
            assert path in copied, f"{name} links to {target}: name it in {lab.__name__}.COPIED"


def test_links_of_copies_lead_to_the_copies(project):
    write(project.root / "pyproject.toml", '[tool.dinov2-in-practice]\nrepository = "o/n"\n')
    address = "https://colab.research.google.com/github/o/n/blob/main/notebooks"
    write(project.root / EVIDENCE, f"[the lesson]({address}/01_small.ipynb)")
    public = Project(project.root, "")
    lab.refresh(public)
    assert (public.lab / EVIDENCE).read_text(encoding="utf-8") == "[the lesson](../01_small.ipynb)"
    assert lab.refresh(public) == []


def test_an_unchanged_copy_is_renewed(project):
    lab.refresh(project)
    write(project.root / NOTEBOOK, "second version")
    assert lab.refresh(project) == []
    assert (project.lab / NOTEBOOK).read_text(encoding="utf-8") == "second version"


def test_a_readers_work_stays_and_a_newer_version_is_named(project):
    lab.refresh(project)
    write(project.lab / NOTEBOOK, "first version, solved")
    assert lab.refresh(project) == []
    write(project.root / NOTEBOOK, "second version")
    assert lab.refresh(project) == [NOTEBOOK]
    assert (project.lab / NOTEBOOK).read_text(encoding="utf-8") == "first version, solved"
    (project.lab / NOTEBOOK).unlink()
    assert lab.refresh(project) == []
    assert (project.lab / NOTEBOOK).read_text(encoding="utf-8") == "second version"


def test_a_lost_ledger_loses_no_work(project):
    lab.refresh(project)
    write(project.lab / NOTEBOOK, "first version, solved")
    (project.lab / lab.LEDGER).unlink()
    lab.refresh(project)
    assert (project.lab / NOTEBOOK).read_text(encoding="utf-8") == "first version, solved"


def test_git_ignores_the_folder_and_cleaning_leaves_it():
    assert "/lab/" in (ROOT / ".gitignore").read_text(encoding="utf-8").splitlines()
    clean = (ROOT / "Makefile").read_text(encoding="utf-8").partition("\nclean:")[2]
    assert "lab" not in clean


def test_jupyterlab_starts_at_the_notebooks_with_threads_that_sleep(project, monkeypatch):
    for name in ("OMP_NUM_THREADS", "OMP_WAIT_POLICY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("DINOV2_THREADS", "3")
    said = project.root / "said.json"
    script = "import json, os, sys; json.dump(dict(os.environ), open(sys.argv[1], 'w'))"
    monkeypatch.setattr(lab, "Project", lambda: project)
    monkeypatch.setattr(lab, "command", lambda *_: [sys.executable, "-c", script, str(said)])
    assert lab.main([]) == 0
    environment = json.loads(said.read_text(encoding="utf-8"))
    assert environment["OMP_WAIT_POLICY"] == "PASSIVE"
    assert environment["OMP_NUM_THREADS"] == "3"


def test_what_is_recorded_goes_to_the_same_folder(project, monkeypatch):
    monkeypatch.delenv("DINOV2_RESULTS", raising=False)
    assert lab.environment(project)["DINOV2_RESULTS"] == str(project.lab / "results")


def test_a_folder_of_ones_own_is_kept(project, monkeypatch, tmp_path):
    monkeypatch.setenv("DINOV2_RESULTS", str(tmp_path))
    assert lab.environment(project)["DINOV2_RESULTS"] == str(tmp_path)


def test_the_welcome_page_opens_as_it_reads(project, monkeypatch, tmp_path):
    assert f"--LabApp.default_url=/lab/tree/{links.WELCOME}" in lab.command(project, [])
    monkeypatch.delenv("JUPYTER_CONFIG_PATH", raising=False)
    assert lab.environment(project)["JUPYTER_CONFIG_PATH"] == str(lab.SETTINGS)
    monkeypatch.setenv("JUPYTER_CONFIG_PATH", str(tmp_path))
    own = lab.environment(project)["JUPYTER_CONFIG_PATH"].split(os.pathsep)
    assert own == [str(tmp_path), str(lab.SETTINGS)]
    text = (lab.SETTINGS / "labconfig" / "default_setting_overrides.json").read_text("utf-8")
    settings = json.loads(text)
    of_documents = settings["@jupyterlab/docmanager-extension:plugin"]
    assert of_documents["defaultViewers"] == {"markdown": "Markdown Preview"}
    assert settings["@jupyter-widgets/jupyterlab-manager:plugin"] == {"saveState": True}
    silent = {"checkForUpdates": False, "fetchNews": "false"}
    assert settings["@jupyterlab/apputils-extension:notification"] == silent


def test_jupyterlab_takes_the_options(project):
    options = [*lab.command(project, ["--version"])]
    run = subprocess.run(options, capture_output=True, text=True, env=os.environ, check=True)
    assert run.stdout.strip()

"""JupyterLab as `make lab` starts it."""

import json
import subprocess
from pathlib import Path

from tools import lab
from tools.project import ROOT, Project


def test_the_checkout_is_the_root_and_the_notebooks_are_in_view():
    run = subprocess.run(
        lab.command(["--show-config-json"]),
        cwd=ROOT,
        env=lab.environment(Project()),
        capture_output=True,
        text=True,
        check=True,
    )
    settings = json.loads(run.stdout)
    assert settings["ServerApp"]["root_dir"] == "."
    assert settings["LabApp"]["default_url"] == "/lab/tree/notebooks"


def test_what_is_recorded_goes_to_an_ignored_folder_with_threads_that_sleep(monkeypatch):
    monkeypatch.delenv("DINOV2_RESULTS", raising=False)
    monkeypatch.setenv("DINOV2_THREADS", "5")
    environment = lab.environment(Project())
    assert Path(environment["DINOV2_RESULTS"]).is_relative_to(ROOT / "build")
    assert "/build/" in (ROOT / ".gitignore").read_text().splitlines()
    assert environment["OMP_NUM_THREADS"] == "5"
    assert environment["OMP_WAIT_POLICY"] == "PASSIVE"


def test_a_folder_of_ones_own_is_kept(monkeypatch, tmp_path):
    monkeypatch.setenv("DINOV2_RESULTS", str(tmp_path))
    assert lab.environment(Project())["DINOV2_RESULTS"] == str(tmp_path)

"""Continuous integration runs what the Makefile has."""

import re

import pytest
import yaml

from tools.project import ROOT


@pytest.mark.parametrize(
    ("name", "commands"), [("test", ["make test"]), ("weekly", ["make test", "make rerun"])]
)
def test_a_workflow_runs_targets_of_the_makefile(name, commands):
    text = (ROOT / ".github" / "workflows" / f"{name}.yml").read_text(encoding="utf-8")
    (job,) = yaml.safe_load(text)["jobs"].values()
    assert [step["run"] for step in job["steps"] if "run" in step] == commands
    targets = re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.M)
    assert {command.removeprefix("make ") for command in commands} <= set(targets)

"""The Makefile is whole, and continuous integration runs what it has."""

import importlib.util
import re

import pytest
import yaml

from tools.project import ROOT

MAKEFILE = (ROOT / "Makefile").read_text(encoding="utf-8")
TARGETS = re.findall(r"^([a-z]+):", MAKEFILE, re.M)


def test_each_target_is_there_once_and_none_is_a_file():
    (phony,) = re.findall(r"^\.PHONY: (.*)$", MAKEFILE, re.M)
    assert sorted(TARGETS) == sorted(phony.split())


def test_every_module_that_the_makefile_runs_is_there():
    modules = set(re.findall(r"-m ((?:tools|benchmarks|training)[\w.]*)", MAKEFILE))
    assert {module for module in modules if importlib.util.find_spec(module) is None} == set()


def test_every_command_with_a_main_that_a_reader_calls_has_its_target():
    for module in ("tools.colab", "tools.lab", "tools.rehearse", "tools.prefetch"):
        assert f"-m {module}" in MAKEFILE


@pytest.mark.parametrize(
    ("name", "commands"), [("test", ["make test"]), ("weekly", ["make test", "make rerun"])]
)
def test_a_workflow_runs_targets_of_the_makefile(name, commands):
    text = (ROOT / ".github" / "workflows" / f"{name}.yml").read_text(encoding="utf-8")
    (job,) = yaml.safe_load(text)["jobs"].values()
    assert [step["run"] for step in job["steps"] if "run" in step] == commands
    assert {command.removeprefix("make ") for command in commands} <= set(TARGETS)

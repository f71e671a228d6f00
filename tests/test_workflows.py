"""The Makefile is whole, and continuous integration runs what it has."""

import importlib.util
import re

import pytest
import yaml

from tools.project import ROOT

MAKEFILE = (ROOT / "Makefile").read_text(encoding="utf-8")
TARGETS = re.findall(r"^([a-z][a-z0-9-]*):", MAKEFILE, re.M)


def test_each_target_is_there_once_and_none_is_a_file():
    (phony,) = re.findall(r"^\.PHONY: ((?:.*\\\n)*.*)$", MAKEFILE, re.M)
    assert sorted(TARGETS) == sorted(phony.replace("\\\n", " ").split())


def test_each_target_has_a_line_of_help():
    shown = re.findall(r"^([a-z0-9-]+):.*## \S", MAKEFILE, re.M)
    assert shown == TARGETS


def test_each_embedded_model_has_a_target_that_makes_it_from_nothing():
    for path in sorted((ROOT / "data" / "models").iterdir()):
        name = path.name.removesuffix("-tiny")
        (commands,) = re.findall(rf"^train-{name}: .*\n((?:\t.*\n)+)", MAKEFILE, re.M)
        assert "training.world.material" in commands or "$(CROSSED)" in commands
        assert f"-m training.{name}.train" in commands
        assert f"$(RELEASE) {path.name} --run runs/{name}" in commands


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

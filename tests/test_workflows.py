"""The Makefile is whole, and continuous integration runs what it has."""

import importlib.util
import re
import subprocess
import sys

import pytest
import yaml

from tools import commands, setup
from tools.project import ROOT, Project

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


WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))


def jobs(name):
    """The commands of each job of a workflow."""
    text = (ROOT / ".github" / "workflows" / f"{name}.yml").read_text(encoding="utf-8")
    return {
        job: [step["run"] for step in described["steps"] if "run" in step]
        for job, described in yaml.safe_load(text)["jobs"].items()
    }


def test_a_push_runs_the_tests_on_the_locked_packages():
    assert jobs("test") == {"test": ["make test"]}


def test_a_week_has_slow_tests_other_systems_and_other_packages():
    run = jobs("weekly")
    assert set(run) == {"slow", "newest", "oldest", "links"}
    assert run["slow"] == ["make weekly", "make rerun"]
    assert run["oldest"] == ["make test-oldest"]
    extras = ",".join(setup.EXTRAS)
    assert run["newest"][1] == f'python -m pip install --editable ".[{extras}]"'


def test_the_weekly_run_has_every_python_that_is_allowed():
    text = (ROOT / ".github" / "workflows" / "weekly.yml").read_text(encoding="utf-8")
    matrix = yaml.safe_load(text)["jobs"]["newest"]["strategy"]["matrix"]
    assert matrix["python"] == ["3.10", "3.11", "3.12", "3.13"]
    assert {system.partition("-")[0] for system in matrix["os"]} == {"ubuntu", "macos", "windows"}


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_a_workflow_runs_targets_and_modules_that_are_there(path):
    if path.stem == "site" and "site" not in TARGETS:
        pytest.skip("the Makefile has no target `site` yet")
    for command in [line for lines in jobs(path.stem).values() for line in lines]:
        if command.startswith("make "):
            assert command.removeprefix("make ") in TARGETS
        elif module := re.match(r"python -m (tools[.\w]*)", command):
            assert importlib.util.find_spec(module[1])


SCHEMAS = {
    "vendor.github-workflows": [".github/workflows/*.yml"],
    "vendor.github-issue-forms": [".github/ISSUE_TEMPLATE/[0-9]*.yml"],
    "custom.github-workflows-require-timeout": [".github/workflows/*.yml"],
    "vendor.github-issue-config": [".github/ISSUE_TEMPLATE/config.yml"],
    "vendor.dependabot": [".github/dependabot.yml"],
    "vendor.citation-file-format": ["CITATION.cff"],
}


@pytest.mark.parametrize("schema", SCHEMAS)
def test_files_for_github_have_the_shape_that_it_wants(schema):
    if importlib.util.find_spec("check_jsonschema") is None:
        pytest.skip("check-jsonschema is not installed: pip install '.[test]'")
    files = [path for pattern in SCHEMAS[schema] for path in ROOT.glob(pattern)]
    assert files
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", schema]
    run = subprocess.run([*command, *files], capture_output=True, text=True, check=False)
    if run.returncode == 2 and "invalid choice" in run.stderr.lower():
        pytest.skip(f"this check-jsonschema carries no schema {schema}")
    assert run.returncode == 0, run.stdout + run.stderr


def forms():
    return sorted((ROOT / ".github" / "ISSUE_TEMPLATE").glob("[0-9]*.yml"))


@pytest.mark.parametrize("path", forms(), ids=lambda path: path.stem)
def test_every_form_asks_for_the_output_of_the_check(path):
    fields = yaml.safe_load(path.read_text(encoding="utf-8"))["body"]
    (check,) = (field for field in fields if field.get("id") == "check")
    assert "`dinov2 check`" in check["attributes"]["label"]
    required = check.get("validations", {}).get("required", False)
    assert required == (path.stem == "1-fault")


def test_hooks_run_what_make_test_runs():
    config = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8"))
    (repo,) = config["repos"]
    assert repo["repo"] == "local"  # nothing else is fetched, and versions are those of the lock
    entries = [hook["entry"] for hook in repo["hooks"]]
    for tool in ("ruff check", "ruff format --check", "mypy"):
        assert any(entry.startswith(f"python -m {tool}") for entry in entries)
        assert f"$(PY) -m {tool}" in MAKEFILE


def test_the_version_to_cite_is_the_version():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    project = Project().pyproject["project"]
    assert citation["version"] == project["version"]
    assert citation["license"] == project["license"]


def test_contributing_begins_with_which_file_to_edit_and_says_what_each_target_does():
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    assert re.findall(r"^## (.*)$", text, re.M)[0] == "Which file do I edit?"
    for name in set(TARGETS) - {"help", "clean"}:
        assert f"`make {name}`" in text or name.startswith("train-"), name
    for path in re.findall(r"`((?:notebooks|docs|tools|training|dinov2_\w+)/)`", text):
        assert (ROOT / path).is_dir()


def test_lines_without_make_are_those_of_the_makefile():
    found = {name: lines for name, _, lines in commands.targets(MAKEFILE)}
    assert found["run"] == ["python -m tools.notebooks run"]
    assert found["prefetch"] == ["python -m tools.prefetch small"]
    assert found["wheel"] == ["python -m pip wheel --no-deps --wheel-dir dist ."]
    assert found["test-oldest"] == ["python -m tools.oldest"]
    assert not any("$" in line for lines in found.values() for line in lines)

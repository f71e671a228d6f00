"""The environments agree: pyproject.toml, constraints.txt, environment.yml, what make installs."""

import re
import subprocess
import sys

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tools import constraints, oldest, setup
from tools.project import ROOT, Project

LINES = [
    line
    for line in (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    if not line.startswith("#")
]
LOCKED = [Requirement(line) for line in LINES]
PYTHONS = ("3.10", "3.11", "3.12", "3.13")
SYSTEMS = {"linux": "Linux", "darwin": "Darwin", "win32": "Windows"}


def asked(extras=setup.EXTRAS):
    """What `make setup` asks pip for, beside torch."""
    project = Project().pyproject["project"]
    lines = list(project["dependencies"])
    for extra in extras:
        lines += project["optional-dependencies"][extra]
    requirements = [Requirement(line) for line in lines]
    return [requirement for requirement in requirements if requirement.name != "torch"]


def where(python, system):
    """The markers of a machine."""
    machine = "AMD64" if system == "win32" else "x86_64"
    return {
        "python_version": python,
        "python_full_version": f"{python}.9",
        "sys_platform": system,
        "platform_system": SYSTEMS[system],
        "platform_machine": machine,
        "os_name": "nt" if system == "win32" else "posix",
        "implementation_name": "cpython",
        "platform_python_implementation": "CPython",
        "extra": "",
    }


def holds(requirement, machine):
    return requirement.marker is None or requirement.marker.evaluate(machine)


@pytest.mark.parametrize("system", SYSTEMS)
@pytest.mark.parametrize("python", PYTHONS)
def test_everything_that_is_asked_for_is_locked_once_in_a_version_that_will_do(python, system):
    machine = where(python, system)
    locked = {}
    for requirement in LOCKED:
        if holds(requirement, machine):
            assert requirement.name not in locked, requirement.name
            (pin,) = requirement.specifier
            assert pin.operator == "=="
            locked[canonicalize_name(requirement.name)] = pin.version
    for requirement in asked():
        if holds(requirement, machine):
            version = locked[canonicalize_name(requirement.name)]
            assert requirement.specifier.contains(version), str(requirement)


def test_the_lock_names_no_address_and_no_torch():
    text = (ROOT / "constraints.txt").read_text(encoding="utf-8")
    assert "://" not in text and " @ " not in text
    names = {requirement.name for requirement in LOCKED}
    left_out = {name for name in names if re.match(r"torch$|triton$|nvidia-|cuda-", name)}
    assert left_out == set()


def test_what_a_resolution_says_of_torch_and_cuda_is_left_out():
    lines = ["# made by", "", "tqdm==4.70", "torch==2.13.0", "torchmetrics==1.0", "triton==3.6.0"]
    lines += ["nvidia-cublas==13.1 ; sys_platform == 'linux'", "cuda-bindings==13.4.4"]
    assert constraints.kept(lines) == ["tqdm==4.70", "torchmetrics==1.0"]


def test_environment_yml_installs_what_make_does():
    environment = yaml.safe_load((ROOT / "environment.yml").read_text(encoding="utf-8"))
    (pip,) = (entry["pip"] for entry in environment["dependencies"] if isinstance(entry, dict))
    locked = setup.package_arguments(newest=False)
    assert locked[:2] == ["--constraint", str(ROOT / "constraints.txt")]
    assert pip[1:] == [
        "--constraint constraints.txt",
        setup.LOCKED_TORCH,
        locked[-1].replace(str(ROOT), "-e ."),
    ]
    python = environment["dependencies"][0]
    assert python.removeprefix("python=") in PYTHONS


def test_pythons_are_those_that_are_allowed():
    (minimum,) = Requirement(f"x{Project().pyproject['project']['requires-python']}").specifier
    assert (minimum.operator, minimum.version) == (">=", PYTHONS[0])
    assert ".".join(map(str, setup.OLDEST)) == PYTHONS[0] == constraints.OLDEST


def test_bounds_of_torch_are_those_of_the_package():
    (torch,) = (
        line for line in Project().pyproject["project"]["dependencies"] if line.startswith("torch")
    )
    assert torch == setup.TORCH
    assert setup.LOCKED_TORCH.startswith(f"{torch},<")


@pytest.mark.parametrize(
    ("gpu", "newest", "index", "wanted"),
    [
        (True, False, "address", ["torch>=2.6"]),
        (False, False, "", [setup.LOCKED_TORCH]),
        (False, False, "address", ["--index-url", "address", setup.LOCKED_TORCH]),
        (False, True, "address", ["--index-url", "address", "torch>=2.6"]),
    ],
)
def test_which_torch_is_installed(gpu, newest, index, wanted):
    assert setup.torch_arguments(gpu, newest, index) == wanted


def test_an_environment_that_is_there_is_completed(monkeypatch, tmp_path, capsys):
    calls = []

    def run(command, **_):
        calls.append(command)
        return subprocess.CompletedProcess(command, 0)

    monkeypatch.setattr(setup, "ENVIRONMENT", tmp_path)
    setup.python_of(tmp_path).parent.mkdir()
    setup.python_of(tmp_path).touch()
    monkeypatch.setattr(setup, "has_gpu", lambda: False)
    monkeypatch.setattr(setup.subprocess, "run", run)
    assert setup.main(["--newest"]) == 0
    assert [call[-1] for call in calls] == [setup.TORCH, f"{ROOT}[{','.join(setup.EXTRAS)}]"]
    assert not any("--constraint" in call for call in calls)
    assert "No NVIDIA GPU found" in capsys.readouterr().out


def test_a_failure_of_pip_ends_it(monkeypatch, tmp_path):
    monkeypatch.setattr(setup, "ENVIRONMENT", tmp_path)
    setup.python_of(tmp_path).parent.mkdir()
    setup.python_of(tmp_path).touch()
    monkeypatch.setattr(setup, "has_gpu", lambda: False)
    failed = subprocess.CompletedProcess([], 3)
    monkeypatch.setattr(setup.subprocess, "run", lambda *_, **__: failed)
    assert setup.main([]) == 3


@pytest.mark.parametrize("name", ["setup", "oldest", "workshop.start"])
def test_what_runs_before_anything_is_installed_needs_python_alone(name):
    script = f"import sys, tools.{name}; print(*sorted(sys.modules))"
    run = subprocess.run(
        [sys.executable, "-I", "-c", f"import sys; sys.path.insert(0, {str(ROOT)!r}); {script}"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert "tools" in run.stdout.split()
    not_there = {"packaging", "yaml", "numpy", "torch", "tomli", "tomllib"}  # on Python 3.10
    assert not_there & set(run.stdout.split()) == set()


def test_floors_are_the_lower_bounds():
    project = Project().pyproject["project"]
    lines = list(project["dependencies"])
    for extra, of_extra in project["optional-dependencies"].items():
        lines += [f"{line}; extra == '{extra}'" for line in of_extra]
    found = oldest.floors(lines)
    assert "torch==2.6" in found and "transformers==5.18" in found and "ray==2.50" in found
    assert not any(name in line for line in found for name in (">", "<", "[", "pytest"))
    for requirement in asked([extra for extra in setup.EXTRAS if extra != oldest.TOOLS]):
        bounds = [bound for bound in requirement.specifier if bound.operator == ">="]
        assert len(bounds) == 1 or requirement.name in BOUNDED_BY_TRANSFORMERS, requirement.name


BOUNDED_BY_TRANSFORMERS = {"huggingface-hub", "safetensors", "tokenizers"}

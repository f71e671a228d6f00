"""Installs the course from this folder and opens it: `python start.py`.

    python start.py              JupyterLab with the lessons
    python start.py --install    install only

An environment is made in the folder `environment`, from the wheels of `wheels` where this machine's
are there, else from the network. This file needs Python 3.10 or newer, and nothing else.
"""

import os
import subprocess
import sys
import venv
from collections.abc import Sequence
from pathlib import Path

HERE = Path(__file__).resolve().parent
WHEELS = HERE / "wheels"
LESSONS = HERE / "lessons"
ENVIRONMENT = HERE / "environment"
READY = ENVIRONMENT / "ready"  # written when all is installed
OLDEST = (3, 10)
PACKAGE = "dinov2-in-practice[course]"


def python_of(environment: Path) -> Path:
    """The interpreter of a virtual environment."""
    if os.name == "nt":
        return environment / "Scripts" / "python.exe"
    return environment / "bin" / "python"


def pythons(folder: Path) -> set[str]:
    """The versions of Python that the wheels of torch in a folder are for, as "3.11"."""
    found = set()
    for path in folder.glob("torch-*.whl"):
        for tag in path.name.split("-")[2].split("."):
            found.add(f"{tag[2]}.{tag[3:]}")
    return found


def has_wheels(folder: Path, platform: str, version: Sequence[int]) -> bool:
    """Whether a folder has torch for a system, as `sys.platform` names it, and a Python."""
    signs = {"win32": "win", "darwin": "macosx"}
    sign = signs.get(platform, "linux")
    number = f"cp{version[0]}{version[1]}"
    return any(
        sign in path.name.rsplit("-", 1)[1] and f"-{number}-" in path.name
        for path in folder.glob("torch-*.whl")
    )


def install(folder: Path, offline: bool) -> list[str]:
    """The command that installs the course, from a folder of wheels alone or with a network."""
    command = [str(python_of(ENVIRONMENT)), "-m", "pip", "install", "--find-links", str(folder)]
    if offline:
        command.append("--no-index")
    return [*command, "--constraint", str(HERE / "constraints.txt"), PACKAGE, "torch<2.14"]


def jupyter(options: Sequence[str]) -> list[str]:
    """The command that opens the lessons."""
    folder = ["--notebook-dir", str(LESSONS), "--LabApp.default_url=/lab/tree/notebooks"]
    return [str(python_of(ENVIRONMENT)), "-m", "jupyterlab", *folder, *options]


def complaint(platform: str, version: Sequence[int]) -> str:
    """What to say when this Python is too old, or is not one that the wheels are for; or ""."""
    here = f"{version[0]}.{version[1]}"
    if tuple(version[:2]) < OLDEST:
        return f"Python 3.10 or newer is needed; this is {here}: {sys.executable}"
    if has_wheels(WHEELS, platform, version) or not pythons(WHEELS):
        return ""
    there = ", ".join(sorted(pythons(WHEELS)))
    return (
        f"No wheels here for Python {here} on this system, so the network is asked; those that are "
        f"here are for Python {there}."
    )


def main(arguments: Sequence[str]) -> int:
    """Makes the environment if it is not there, and opens JupyterLab."""
    version = sys.version_info[:2]
    said = complaint(sys.platform, version)
    if said:
        print(said, flush=True)
    if version < OLDEST:
        return 1
    if not READY.exists():
        print(f"Installing into {ENVIRONMENT}: some minutes, once.", flush=True)
        venv.create(ENVIRONMENT, with_pip=True, clear=True)
        done = subprocess.run(
            install(WHEELS, has_wheels(WHEELS, sys.platform, version)), check=False
        )
        if done.returncode:
            print("It could not be installed; what pip says stands above.", flush=True)
            return done.returncode
        READY.touch()
    options = [argument for argument in arguments if argument != "--install"]
    if "--install" in arguments:
        print(f"All is installed: {python_of(ENVIRONMENT)}")
        return 0
    results = {"DINOV2_RESULTS": str(LESSONS / "results")}
    return subprocess.run(jupyter(options), env={**results, **os.environ}, check=False).returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

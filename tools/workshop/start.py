"""Installs the course from this folder and opens it: `python start.py`.

    python start.py              JupyterLab with the lessons
    python start.py --install    install only

An environment is made in the folder `environment`, from the wheels of `wheels` where this machine's
are there, else from the network. Of its wheels a lock has the versions, so that pip neither looks
for any nor works out what needs what. This file needs Python 3.10 or newer, and nothing else.
"""

import os
import platform
import subprocess
import sys
import venv
from collections.abc import Sequence
from pathlib import Path

HERE = Path(__file__).resolve().parent
WHEELS = HERE / "wheels"
LESSONS = HERE / "lessons"
ENVIRONMENT = HERE / "environment"
SETTINGS = HERE / "jupyter"  # of JupyterLab
READY = ENVIRONMENT / "ready"  # written when all is installed
OLDEST = (3, 10)
PACKAGE = "dinov2-in-practice"
# as `platform.system()` names them
SYSTEMS = {"Linux": "linux", "Windows": "windows", "Darwin": "macos"}
PROCESSORS = {"linux": "x86_64", "windows": "AMD64", "macos": "arm64"}  # that the wheels are for


def python_of(environment: Path) -> Path:
    """The interpreter of a virtual environment."""
    if os.name == "nt":
        return environment / "Scripts" / "python.exe"
    return environment / "bin" / "python"


def lock_name(system: str, python: str) -> str:
    """Name of the file that lists the wheels for a system and a Python, as "linux" and "3.11"."""
    return f"lock-{system}-{python}.txt"


def pythons(folder: Path, system: str) -> list[str]:
    """The versions of Python for which a folder has all wheels of a system, as "3.11"."""
    begin, end = lock_name(system, "*").split("*")
    found = folder.glob(lock_name(system, "*"))
    return sorted(path.name.removeprefix(begin).removesuffix(end) for path in found)


def lock_for(folder: Path, system: str, processor: str, python: str) -> Path | None:
    """The list of wheels that are for a machine; None if the folder has not all of them.

    Args:
        folder: with the wheels.
        system: one of `SYSTEMS`; "" for any other.
        processor: as `platform.machine()` names it.
        python: as "3.11".
    """
    lock = folder / lock_name(system, python)
    if PROCESSORS.get(system) == processor and lock.exists():
        return lock
    return None


def install(folder: Path, lock: Path | None) -> list[str]:
    """The command that installs the course, by a lock from a folder of wheels, or by a network."""
    command = [str(python_of(ENVIRONMENT)), "-m", "pip", "install", "--find-links", str(folder)]
    command += ["--disable-pip-version-check"]
    if lock is not None:
        return [*command, "--no-index", "--no-deps", "--requirement", str(lock), PACKAGE]
    constraints = str(HERE / "constraints.txt")
    return [*command, "--constraint", constraints, f"{PACKAGE}[course]", "torch<2.14"]


def jupyter(options: Sequence[str]) -> list[str]:
    """The command that opens the lessons."""
    folder = ["--notebook-dir", str(LESSONS), "--LabApp.default_url=/lab/tree/notebooks"]
    return [str(python_of(ENVIRONMENT)), "-m", "jupyterlab", *folder, *options]


def environment() -> dict[str, str]:
    """Variables of JupyterLab and its kernels; what somebody has set comes first."""
    results = {"DINOV2_RESULTS": str(LESSONS / "results")}
    settings = [os.environ.get("JUPYTER_CONFIG_PATH", ""), str(SETTINGS)]
    paths = {"JUPYTER_CONFIG_PATH": os.pathsep.join(filter(None, settings))}
    return {**results, **os.environ, **paths}


def complaint(folder: Path, system: str, processor: str, version: Sequence[int]) -> str:
    """What to say when this Python is too old, or is not one that the wheels are for; or "".

    Args:
        folder: with the wheels.
        system: one of `SYSTEMS`; "" for any other.
        processor: as `platform.machine()` names it.
        version: of this Python.
    """
    here = f"{version[0]}.{version[1]}"
    if tuple(version[:2]) < OLDEST:
        return f"Python 3.10 or newer is needed; this is {here}: {sys.executable}"
    there = pythons(folder, system)
    if not there or lock_for(folder, system, processor, here) is not None:
        return ""
    return (
        f"No wheels here for Python {here} on {processor}, so the network is asked; those that are "
        f"here are for Python {', '.join(there)} on {PROCESSORS[system]}."
    )


def main(arguments: Sequence[str]) -> int:
    """Makes the environment if it is not there, and opens JupyterLab."""
    version = sys.version_info[:2]
    system = SYSTEMS.get(platform.system(), "")
    processor = platform.machine()
    lock = lock_for(WHEELS, system, processor, f"{version[0]}.{version[1]}")
    said = complaint(WHEELS, system, processor, version)
    if said:
        print(said, flush=True)
    if version < OLDEST:
        return 1
    if not READY.exists():
        print(f"Installing into {ENVIRONMENT}: some minutes, once.", flush=True)
        venv.create(ENVIRONMENT, with_pip=True, clear=True)
        done = subprocess.run(install(WHEELS, lock), check=False)
        if done.returncode:
            print("It could not be installed; what pip says stands above.", flush=True)
            return done.returncode
        READY.touch()
    options = [argument for argument in arguments if argument != "--install"]
    if "--install" in arguments:
        print(f"All is installed: {python_of(ENVIRONMENT)}")
        return 0
    return subprocess.run(jupyter(options), env=environment(), check=False).returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

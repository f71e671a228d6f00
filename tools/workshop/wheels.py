"""Wheels for machines other than this one, with all that they need in turn.

`pip download --platform` chooses wheels for another machine, but reads the markers of requirements
("; sys_platform == 'win32'") as if it were this one. So pip downloads the wheels that it is told
to, and what they need in turn is read from them, with the markers of the machine that they are for.
The versions are those of constraints.txt.
"""

import re
import subprocess
import sys
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from email.parser import Parser
from pathlib import Path

from packaging.requirements import Requirement
from packaging.tags import Tag
from packaging.utils import canonicalize_name, parse_wheel_filename

from tools.project import Project
from tools.setup import LOCKED_TORCH

_LINUX = tuple(f"manylinux_2_{minor}_x86_64" for minor in range(28, 4, -1))
PLATFORMS: Mapping[str, tuple[str, ...]] = {
    "linux": (*_LINUX, "manylinux2014_x86_64", "manylinux2010_x86_64", "linux_x86_64"),
    "windows": ("win_amd64",),
    "macos": ("macosx_14_0_arm64",),
}
_MARKERS = {
    "linux": {"sys_platform": "linux", "platform_system": "Linux", "platform_machine": "x86_64"},
    "windows": {"sys_platform": "win32", "platform_system": "Windows", "platform_machine": "AMD64"},
    "macos": {"sys_platform": "darwin", "platform_system": "Darwin", "platform_machine": "arm64"},
}
_BEGINNINGS = {"linux": ("manylinux", "linux"), "windows": ("win",), "macos": ("macosx",)}


@dataclass(frozen=True)
class Target:
    """A machine to fetch wheels for.

    Attributes:
        system: a name of `PLATFORMS`.
        python: its version of CPython, as "3.11".
    """

    system: str
    python: str

    @property
    def whole_python(self) -> str:
        """Its version in full: a late one, as some packages need more than the first."""
        return f"{self.python}.9"

    def markers(self) -> dict[str, str]:
        """What markers of requirements are read with."""
        return {
            **_MARKERS[self.system],
            "os_name": "nt" if self.system == "windows" else "posix",
            "python_version": self.python,
            "python_full_version": self.whole_python,
            "implementation_name": "cpython",
            "platform_python_implementation": "CPython",
        }

    def fits(self, tag: Tag) -> bool:
        """Whether a wheel with this tag is one for the machine."""
        number = self.python.replace(".", "")
        python = tag.interpreter in (f"cp{number}", "py3", f"py{number}") or tag.abi == "abi3"
        here = tag.platform == "any" or tag.platform.startswith(_BEGINNINGS[self.system])
        return python and here


def fetch(project: Project, target: Target, folder: Path, torch_index: str = "") -> int:
    """Downloads the wheels of all that the lessons need on a machine.

    Args:
        project: the checkout, whose own wheel is not among them.
        target: the machine.
        folder: where the wheels go; those that are there already are not downloaded again.
        torch_index: where torch's CPU build for Linux is; "": where pip looks by itself.

    Returns:
        How many wheels the machine needs.

    Raises:
        SystemExit: a wheel cannot be had, or torch would bring the libraries of CUDA.
    """
    folder.mkdir(parents=True, exist_ok=True)
    pins = _pins(project, target)
    waiting = [Requirement(line) for line in (*project.dependencies, "pip")]
    extras: dict[str, set[str]] = {}
    files: dict[str, Path] = {}
    while waiting:
        asked = _new(waiting, extras)
        missing = {name: Requirement(pins.get(name, name)) for name in asked if name not in files}
        _download(list(missing.values()), target, folder, torch_index)
        files |= {name: _found(wanted, target, folder) for name, wanted in missing.items()}
        waiting = [need for name in asked for need in _needed_by(files[name], target, extras[name])]
    return len(files)


def _pins(project: Project, target: Target) -> dict[str, str]:
    """The versions of constraints.txt that hold on a machine, and torch's, as pip is told them."""
    pins = {"torch": LOCKED_TORCH}
    for line in (project.root / "constraints.txt").read_text(encoding="utf-8").splitlines():
        if line and not line.startswith("#"):
            locked = Requirement(line)
            if locked.marker is None or locked.marker.evaluate(target.markers()):
                pins[canonicalize_name(locked.name)] = f"{locked.name}{locked.specifier}"
    return pins


def _new(waiting: list[Requirement], extras: dict[str, set[str]]) -> list[str]:
    """Names of which something is asked that was not before; it is noted in `extras`."""
    names = []
    for requirement in waiting:
        name = canonicalize_name(requirement.name)
        known = extras.get(name)
        if known is None or not requirement.extras <= known:
            extras[name] = {*(known or ()), *requirement.extras}
            names.append(name)
    return list(dict.fromkeys(names))


def _needed_by(wheel: Path, target: Target, extras: set[str]) -> Iterator[Requirement]:
    """What a wheel requires on a machine.

    Raises:
        SystemExit: it is a torch for NVIDIA's GPUs, whose libraries are larger than all the rest.
    """
    for requirement in requirements(wheel):
        if requirement.marker is not None and not any(
            requirement.marker.evaluate({**target.markers(), "extra": extra})
            for extra in ("", *extras)
        ):
            continue
        if requirement.name.startswith("nvidia-"):
            raise SystemExit(
                f"{wheel.name} is torch's CUDA build, which needs several GB of {requirement.name} "
                "and its like: name the index of the CPU build by --torch-index, as "
                "https://download.pytorch.org/whl/cpu"
            )
        yield requirement


def requirements(wheel: Path) -> list[Requirement]:
    """All that a wheel says it requires, with its markers."""
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (
            name for name in archive.namelist() if re.fullmatch(r"[^/]+\.dist-info/METADATA", name)
        )
        text = archive.read(name).decode("utf-8")
    lines = Parser().parsestr(text).get_all("Requires-Dist") or []
    return [Requirement(line) for line in lines]


def _download(
    wanted: Sequence[Requirement], target: Target, folder: Path, torch_index: str
) -> None:
    """Downloads a wheel for each requirement that has none in the folder."""
    missing = [one for one in wanted if find(one, target, folder) is None]
    for_torch = target.system == "linux" and torch_index
    elsewhere = [one for one in missing if one.name == "torch" and for_torch]
    here = [one for one in missing if one not in elsewhere]
    pip = _pip(target, folder)
    if here:
        subprocess.run([*pip, *map(str, here)], check=False)
    if elsewhere:
        subprocess.run([*pip, "--index-url", torch_index, *map(str, elsewhere)], check=False)


def _pip(target: Target, folder: Path) -> list[str]:
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"]
    command += ["--only-binary=:all:", "--dest", str(folder), "--implementation", "cp"]
    command += ["--python-version", target.whole_python]
    for platform in PLATFORMS[target.system]:
        command += ["--platform", platform]
    return command


def _found(wanted: Requirement, target: Target, folder: Path) -> Path:
    """The wheel in the folder that is of a requirement.

    Raises:
        SystemExit: there is none; pip has said why.
    """
    found = find(wanted, target, folder)
    if found is None:
        raise SystemExit(
            f"pip finds no wheel of {wanted} for {target.system} and Python {target.python}: "
            "choose other --systems or --pythons"
        )
    return found


def find(requirement: Requirement, target: Target, folder: Path) -> Path | None:
    """A wheel in a folder that is of a requirement and for a machine."""
    for path in sorted(folder.glob("*.whl"), reverse=True):
        name, version, _, tags = parse_wheel_filename(path.name)
        if (
            name == canonicalize_name(requirement.name)
            and requirement.specifier.contains(version, prereleases=True)
            and any(target.fits(tag) for tag in tags)
        ):
            return path
    return None

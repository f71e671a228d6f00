"""Wheels for machines other than this one, with all that they need in turn.

`pip download --platform` chooses wheels for another machine, but reads the markers of requirements
("; sys_platform == 'win32'") as if it were this one. So pip downloads the wheels that it is told
to, and what they need in turn is read from them, with the markers of the machine that they are for.
The versions are those of constraints.txt. What belongs together is written into a lock beside the
wheels, by which `start.py` installs without asking again what needs what.
"""

import re
import subprocess
import sys
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from email.message import Message
from email.parser import Parser
from pathlib import Path

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.tags import Tag
from packaging.utils import canonicalize_name, parse_wheel_filename
from packaging.version import Version

from tools.project import Project
from tools.setup import LOCKED_TORCH
from tools.workshop import start

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
        """Its version in full: the first, as what runs on it runs on the later ones too."""
        return f"{self.python}.0"

    @property
    def lock(self) -> str:
        """Name of the file that lists its wheels."""
        return start.lock_name(self.system, self.python)

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
    """Downloads the wheels of all that the lessons need on a machine, and writes their lock.

    Args:
        project: the checkout, whose own wheel is not among them.
        target: the machine.
        folder: where the wheels go; those that are there already are not downloaded again.
        torch_index: where torch's CPU build for Linux is; "": where pip looks by itself.

    Returns:
        How many wheels the machine needs.

    Raises:
        SystemExit: wheels cannot be had, or do not fit together, or torch would bring the libraries
            of CUDA. There is no lock then.
    """
    folder.mkdir(parents=True, exist_ok=True)
    (folder / target.lock).unlink(missing_ok=True)
    pins = _pins(project, target)
    waiting = [Requirement(line) for line in project.dependencies]
    extras: dict[str, set[str]] = {}
    files: dict[str, Path] = {}
    while waiting:
        asked = _new(waiting, extras)
        missing = {name: Requirement(pins.get(name, name)) for name in asked if name not in files}
        _download(list(missing.values()), target, folder, torch_index)
        files |= _all_found(missing, target, folder)
        waiting = [need for name in asked for need in _needed_by(files[name], target, extras[name])]
    problems = unmet(files, target, extras)
    if problems:
        heading = f"for {target.system} and Python {target.python} wheels do not fit together:"
        raise SystemExit("\n".join([heading, *problems]))
    lines = [f"{name}=={_version(path)}\n" for name, path in sorted(files.items())]
    (folder / target.lock).write_text("".join(lines), encoding="utf-8", newline="\n")
    return len(files)


def unmet(files: Mapping[str, Path], target: Target, extras: Mapping[str, set[str]]) -> list[str]:
    """What wheels ask for and do not have, a sentence each.

    Args:
        files: the wheels, by the name of their package.
        target: the machine that they are for.
        extras: of each package, the extras that are used.
    """
    problems = []
    for name, wheel in files.items():
        pythons = SpecifierSet(metadata(wheel)["Requires-Python"] or "")
        if not pythons.contains(target.whole_python):
            problems.append(f"{wheel.name} needs Python {pythons}, not {target.whole_python}")
        for need in _needed_by(wheel, target, extras[name]):
            found = files.get(canonicalize_name(need.name))
            if found is None:
                problems.append(f"{wheel.name} needs {need}, of which there is no wheel")
            elif not need.specifier.contains(_version(found), prereleases=True):
                problems.append(f"{wheel.name} needs {need}, not {found.name}")
    return problems


def _version(wheel: Path) -> Version:
    return parse_wheel_filename(wheel.name)[1]


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
    lines = metadata(wheel).get_all("Requires-Dist") or []
    return [Requirement(line) for line in lines]


def metadata(wheel: Path) -> Message:
    """What a wheel says of itself."""
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (
            name for name in archive.namelist() if re.fullmatch(r"[^/]+\.dist-info/METADATA", name)
        )
        text = archive.read(name).decode("utf-8")
    return Parser().parsestr(text)


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


def _all_found(wanted: Mapping[str, Requirement], target: Target, folder: Path) -> dict[str, Path]:
    """The wheels in the folder that are of requirements, by the name of their package.

    Raises:
        SystemExit: some have none; pip has said why.
    """
    found = {}
    lacking = []
    for name, requirement in wanted.items():
        wheel = find(requirement, target, folder)
        if wheel is None:
            lacking.append(str(requirement))
        else:
            found[name] = wheel
    if lacking:
        raise SystemExit(
            f"pip finds no wheel of {', '.join(lacking)} for {target.system} and Python "
            f"{target.python}: choose other --systems or --pythons"
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

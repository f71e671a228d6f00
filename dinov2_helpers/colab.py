"""On Colab: install what the notebooks need and Colab lacks, and touch nothing that is in use.

The first cell of a notebook installs this package alone, without what it requires, and
`course.setup` then calls `complete`. pip is asked for nothing that is there already: it would look
into all that torch and IPython ask for, which Colab has in part, and in other versions.
"""

import importlib
import logging
import subprocess
import sys
from collections.abc import Mapping, Sequence
from importlib import metadata

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

LOGGER = logging.getLogger(__name__)

PACKAGE = "dinov2-in-practice"
EXTRA = "course"
NOT_NEEDED = {"jupyterlab"}  # Colab is in its place
KEPT = {"numpy", "torch"}  # never replaced, imported or not: all of Colab is built on them
TOGETHER = {"diffusers", "transformers"}  # have to agree on the libraries of Hugging Face
SAID_OF_SUCCESS = ("Successfully uninstalled", "Successfully installed")
SAID_OF_FAILURE = ("ERROR:", "The user requested")


def on_colab() -> bool:
    """Whether this is a notebook on Google Colab."""
    return "google.colab" in sys.modules


def complete() -> None:
    """Install what the notebooks need and this Colab lacks, or has in a version too old.

    pip may replace neither torch nor numpy nor anything that is imported: it finds versions that
    fit these, or changes nothing. What it did, or why it could not, is reported in one line; where
    something is still missing then, so is what to do. A second call does nothing more; after a
    failure it tries again.
    """
    missing = lacking(requirements())
    if not missing:
        return
    in_use = versions_in_use()
    wanted = [each for each in missing if canonicalize_name(each.name) not in in_use]
    if wanted:
        LOGGER.info(install(with_companions(wanted), in_use))
    for requirement in lacking(requirements()):
        LOGGER.warning(advice(requirement, in_use))


def requirements() -> list[Requirement]:
    """What the notebooks require, as the installed package says: itself, and its extra `course`.

    Raises:
        RuntimeError: the package lies here without being installed.
    """
    try:
        lines = metadata.requires(PACKAGE) or []
    except metadata.PackageNotFoundError:
        raise RuntimeError(
            "dinov2_helpers is here but was not installed: run `!pip install --no-deps FOLDER` "
            "with the folder that has its pyproject.toml, then this cell again"
        ) from None
    found = []
    for line in lines:
        requirement = Requirement(line)
        marker = requirement.marker
        if requirement.name in NOT_NEEDED:
            continue
        if marker is None or marker.evaluate({"extra": EXTRA}):
            requirement.marker = None  # it has been answered; pip would ask it again
            found.append(requirement)
    return found


def lacking(asked: Sequence[Requirement]) -> list[Requirement]:
    """Those of the requirements that are not installed, or in a version that will not do."""
    return [requirement for requirement in asked if not is_met(requirement)]


def is_met(requirement: Requirement) -> bool:
    """Whether a requirement is installed, in a version that it allows."""
    version = installed_version(requirement)
    return version is not None and requirement.specifier.contains(version, prereleases=True)


def installed_version(requirement: Requirement) -> str | None:
    """The version of a required package that is installed; None if none is."""
    try:
        return metadata.version(requirement.name)
    except metadata.PackageNotFoundError:
        return None


def versions_in_use() -> dict[str, str]:
    """Packages that pip must not touch, and their versions: `KEPT`, and all that is imported.

    A module that is imported stays what it is until Python starts again, and its files must fit it.
    """
    owners = metadata.packages_distributions()  # {"PIL": ["pillow"], ...}
    modules = (KEPT | set(sys.modules)) & set(owners)
    names = {name for module in modules for name in owners[module]}
    return {canonicalize_name(name): metadata.version(name) for name in names}


def with_companions(wanted: Sequence[Requirement]) -> list[Requirement]:
    """The requirements, and with one of `TOGETHER` the others, so that pip makes them fit."""
    names = {requirement.name for requirement in wanted}
    if TOGETHER.isdisjoint(names):
        return list(wanted)
    others = TOGETHER - names
    return [*wanted, *(each for each in requirements() if each.name in others)]


def install(wanted: Sequence[Requirement], kept: Mapping[str, str]) -> str:
    """Let pip install requirements.

    Args:
        wanted: what to install.
        kept: packages that must stay in the version that they have.

    Returns:
        What pip did, or why it could not, in one line. Where it did its work, its remarks on other
        packages of Colab are left out: the notebooks do not use them.
    """
    constraints = "\n".join(f"{name}=={version}" for name, version in sorted(kept.items()))
    command = [sys.executable, "-m", "pip", "install", "--no-color", "-c", "/dev/stdin"]
    command += sorted(str(requirement) for requirement in wanted)
    run = subprocess.run(
        command,
        input=constraints,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    importlib.invalidate_caches()  # or Python may overlook what has just come
    telling = SAID_OF_FAILURE if run.returncode else SAID_OF_SUCCESS
    lines = [line.strip() for line in run.stdout.splitlines()]
    return "; ".join(line for line in lines if line.startswith(telling))


def advice(requirement: Requirement, in_use: Mapping[str, str]) -> str:
    """What to do about a requirement that is not met and that pip could not or must not install."""
    state = installed_version(requirement) or "nothing"
    has = f"{requirement} is needed and {state} is here"
    if canonicalize_name(requirement.name) in in_use:
        return (
            f"{has}, in use: choose Runtime > Restart session and run this cell before any other; "
            "if that changes nothing, take the latest version under Runtime > Change runtime type."
        )
    return f"{has}: run this cell again, if need be after Runtime > Disconnect and delete runtime."

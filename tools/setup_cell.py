"""The set-up cell, identical in all notebooks: `python -m tools.setup_cell` prints it."""

import re
import shlex
from collections.abc import Iterable

from tools.project import Project

_TEMPLATE = r"""
import re
import subprocess
import sys
from importlib.metadata import packages_distributions, version
{path_import}
if "google.colab" in sys.modules:
    owner = packages_distributions()
    if "dinov2_helpers" not in owner:
{wheel_test}
        kept = {"numpy", "torch", *sys.modules} & {*owner}  # pip must not touch what is imported
        pins = "\n".join({f"{name}=={version(name)}" for module in kept for name in owner[module]})
        lack = "{lacking}"
        this = "{origin}"
        add = f"echo '{pins}' | pip --no-color install -c /dev/stdin {lack}"
        end = f"pip install --no-deps {this} && pip check | grep -v jupyter"
        said = subprocess.getoutput(f"{add} && {end}")
        told = r"(?m)Succ\w+ [iu].*|ERROR: [A-Z].*|The user.*|^dinov2-.*"
        print(*re.findall(told, said), sep="; ")
from dinov2_helpers import course

course.setup()
"""
_WHEEL_TEST = """
        if not any(Path().glob("dinov2_in_practice-*.whl")):
            raise FileNotFoundError(
                "Upload the file dist/dinov2_in_practice-*.whl, which `make wheel` builds in the "
                "project's folder, in the panel of files on the left, and run this cell again."
            )
"""

# What Colab has long shipped in versions that will do, as its own list says (pip-freeze.txt of
# googlecolab/backend-info on GitHub); in JupyterLab's place it is itself. These are not asked for,
# or pip would look into all that torch and IPython ask for, which Colab has in part, and in other
# versions. Should one be missing or too old all the same, `pip check` says so.
COLAB_HAS = {
    "accelerate",
    "filelock",
    "huggingface-hub",
    "ipywidgets",
    "jupyterlab",
    "matplotlib",
    "numpy",
    "packaging",
    "pillow",
    "psutil",
    "safetensors",
    "scikit-image",
    "scikit-learn",
    "scipy",
    "torch",
    "tqdm",
}


def lacking(dependencies: Iterable[str]) -> list[str]:
    """The requirements of the package that Colab lacks, or may have in a version too old.

    diffusers is one of them, as it has to fit the Hugging Face libraries that transformers needs.

    Args:
        dependencies: all of them, as pyproject.toml lists them.
    """
    return sorted(line for line in dependencies if re.split(r"[^\w-]", line)[0] not in COLAB_HAS)


def setup_cell(repository: str, dependencies: Iterable[str]) -> str:
    """Text of the set-up cell.

    pip adds what Colab lacks and replaces what is too old there, such as transformers, but by its
    constraints never torch, numpy or anything that is imported already. It finds versions that fit
    these, or changes nothing, and the line says why. The package itself comes last: once it is
    there the cell has nothing to do, and after a failure it tries again. Errors that begin in small
    letters are remarks on packages of Colab that the notebooks do not use. Where the package cannot
    be had the cell says so before pip changes anything.

    Args:
        repository: "owner/name" on GitHub that Colab installs from; "": a wheel of the package
            that the reader uploaded beside the notebook.
        dependencies: requirements of the package, as pyproject.toml lists them.
    """
    if repository:
        origin, path_import, wheel_test = f"git+https://github.com/{repository}", "", ""
    else:
        origin = "--no-index --find-links=. dinov2-in-practice"
        path_import = "from pathlib import Path\n"
        wheel_test = _WHEEL_TEST.removeprefix("\n")
    values = {
        "{origin}": origin,
        "{lacking}": shlex.join(lacking(dependencies)),
        "{path_import}": path_import,
        "{wheel_test}\n": wheel_test,
    }
    cell = _TEMPLATE
    for place, value in values.items():
        cell = cell.replace(place, value)
    return cell.strip()


def setup_cell_of(project: Project) -> str:
    """Text that the set-up cell of every notebook of a project must have."""
    if project.setup_code is not None:
        return project.setup_code
    return setup_cell(project.repository, project.dependencies)


if __name__ == "__main__":
    print(setup_cell_of(Project()))

"""The set-up cell, identical in all notebooks: `python -m tools.setup_cell` prints it."""

import re
import shlex
import sys
from pathlib import Path

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

_TEMPLATE = r"""
import re
import subprocess
import sys
from importlib.metadata import packages_distributions, version

if "google.colab" in sys.modules and "dinov2_helpers" not in (owner := packages_distributions()):
    kept = {"numpy", "torch", *sys.modules} & {*owner}  # pip must not touch what is imported
    pins = "\n".join({f"{name}=={version(name)}" for module in kept for name in owner[module]})
    lack = "pip --no-color install -c /dev/stdin {lacking}"
    this = "pip install --no-deps {origin}"
    said = subprocess.getoutput(f"echo '{pins}' | {lack} && {this} && pip check | grep -v jupyter")
    print(*re.findall(r"(?m)Succ\w+ [iu].*|ERROR: [A-Z].*|The user.*|^dinov2-.*", said), sep="; ")
from dinov2_helpers.models import about

print(about())
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
    "pillow",
    "psutil",
    "safetensors",
    "scikit-image",
    "scikit-learn",
    "scipy",
    "torch",
    "tqdm",
}


def lacking() -> list[str]:
    """The requirements of the package that Colab lacks, or may have in a version too old.

    diffusers is one of them, as it has to fit the Hugging Face libraries that transformers needs.
    """
    pyproject = Path(__file__).resolve().parent.parent / "pyproject.toml"
    lines = tomllib.loads(pyproject.read_text(encoding="utf-8"))["project"]["dependencies"]
    return [line for line in lines if re.split(r"[^\w-]", line)[0] not in COLAB_HAS]


def setup_cell(repository: str) -> str:
    """Text of the set-up cell.

    pip adds what Colab lacks and replaces what is too old there, such as transformers, but by its
    constraints never torch, numpy or anything that is imported already. It finds versions that fit
    these, or changes nothing, and the line says why. The package itself comes last: once it is
    there the cell has nothing to do, and after a failure it tries again. Errors that begin in small
    letters are remarks on packages of Colab that the notebooks do not use.

    Args:
        repository: "owner/name" on GitHub that Colab installs from; "": a wheel of the package
            that the reader uploaded beside the notebook.
    """
    origin = "--no-index --find-links=. dinov2-in-practice"
    if repository:
        origin = f"git+https://github.com/{repository}"
    cell = _TEMPLATE.replace("{origin}", origin).replace("{lacking}", shlex.join(lacking()))
    return cell.strip()


if __name__ == "__main__":
    from tools.project import Project

    print(Project().setup_cell)

"""The set-up cell, identical in all notebooks: `python -m tools.setup_cell` prints it."""

_TEMPLATE = r"""
import re
import subprocess
import sys
from importlib.util import find_spec

if "google.colab" in sys.modules and not find_spec("dinov2_helpers"):  # add only what is missing
    add = [sys.executable, "-m", "pip", "install", "-q", "--no-deps"]
    subprocess.check_call([*add, {origin}])
    report = subprocess.getoutput(f"{sys.executable} -m pip check")
    missing = re.findall(r"^dinov2-in-practice .* requires (?!jupyterlab)(\S+),", report, re.M)
    subprocess.check_call([*add, "dinov2-in-practice", *missing])
    print("Installed dinov2-in-practice", *missing)
from dinov2_helpers.models import about

print(about())
"""


def setup_cell(repository: str) -> str:
    """Text of the set-up cell.

    `--no-deps` keeps Colab's own torch and numpy: pip adds the packages that `pip check` misses,
    and never replaces one. JupyterLab is not missed, as Colab stands in for it.

    Args:
        repository: "owner/name" on GitHub that Colab installs from; "": a wheel of the package
            that the reader uploaded beside the notebook.
    """
    origin = '"--no-index", "--find-links=.", "dinov2-in-practice"'
    if repository:
        origin = f'"git+https://github.com/{repository}"'
    return _TEMPLATE.replace("{origin}", origin).strip()


if __name__ == "__main__":
    from tools.project import Project

    print(Project().setup_cell)

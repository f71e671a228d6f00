"""JupyterLab on the notebooks: `make lab`.

The root folder is the checkout, so that the links from notebooks to docs/ work. Numbers that the
notebooks record go to build/lab-results, so that working with them changes no committed numbers.
Arguments go on to JupyterLab: `python -m tools.lab --no-browser`.
"""

import os
import subprocess
import sys
from collections.abc import Sequence

from dinov2_helpers.threads import thread_environment
from tools.project import ROOT, Project


def environment(project: Project) -> dict[str, str]:
    """Variables of the server and its kernels; DINOV2_RESULTS stays where it is set."""
    results = {"DINOV2_RESULTS": str(project.build / "lab-results")}
    return {**results, **os.environ, **thread_environment()}


def command(arguments: Sequence[str]) -> list[str]:
    """What starts JupyterLab in the root folder of a checkout, with the notebooks in view."""
    options = ["--notebook-dir=.", "--LabApp.default_url=/lab/tree/notebooks"]
    return [sys.executable, "-m", "jupyterlab", *options, *arguments]


def main(arguments: Sequence[str] | None = None) -> int:
    """Starts JupyterLab and waits for its end; its exit status."""
    given = sys.argv[1:] if arguments is None else arguments
    return subprocess.run(
        command(given), cwd=ROOT, env=environment(Project()), check=False
    ).returncode


if __name__ == "__main__":
    sys.exit(main())

"""Runs the tests with the oldest packages that pyproject.toml allows: `make test-oldest`.

    python -m tools.oldest [--torch-index URL] [OPTIONS OF PYTEST]

They are installed in build/oldest, with what the tests need beside them in its newest version. The
oldest Python that is allowed is the one to run it with. The notebooks are not run.
"""

import argparse
import re
import subprocess
import sys
import venv
from collections.abc import Sequence

from tools.project import Project
from tools.setup import EXTRAS, python_of

TOOLS = "test"  # the extra whose packages are no part of what is tested
# They hold what the committed notebooks show, which is that of the locked packages.
OF_NOTEBOOKS = ("tests/test_notebooks.py", "tests/test_results.py", "tests/test_headlines.py")


def floors(project: Project) -> list[str]:
    """The lower bounds of all that the package and its extras need, as versions."""
    described = project.pyproject["project"]
    lines = list(described["dependencies"])
    for extra in EXTRAS:
        if extra != TOOLS:
            lines += described["optional-dependencies"][extra]
    found = {}
    for line in lines:
        name, bound, version = re.sub(r"\[.*?\]", "", line).partition(">=")
        if bound:
            found[name] = f"{name}=={version}"
    return sorted(found.values())


def main(arguments: Sequence[str] | None = None) -> int:
    """Installs and tests; the exit status of pytest."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split(":")[0])
    parser.add_argument("--torch-index", default="", metavar="URL", help="of torch's CPU build")
    options, of_pytest = parser.parse_known_args(arguments)
    project = Project()
    environment = project.build / "oldest"
    if not python_of(environment).exists():
        venv.create(environment, with_pip=True)
    constraints = project.build / "oldest.txt"
    constraints.write_text("\n".join(floors(project)) + "\n", encoding="utf-8")
    python = str(python_of(environment))
    pip = [python, "-m", "pip", "install", "--quiet", "--constraint", str(constraints)]
    index = ["--index-url", options.torch_index] if options.torch_index else []
    package = f"{project.root}[{','.join(EXTRAS)}]"
    for wanted in ([*index, "torch"], ["--editable", package]):
        subprocess.run([*pip, *wanted], cwd=project.root, check=True)
    ignored = [f"--ignore={name}" for name in OF_NOTEBOOKS]
    command = [python, "-m", "pytest", *ignored, *of_pytest]
    return subprocess.run(command, cwd=project.root, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())

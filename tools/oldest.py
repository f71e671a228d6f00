"""Runs the tests with the oldest packages that pyproject.toml allows: `make test-oldest`.

    python -m tools.oldest [--torch-index URL] [OPTIONS OF PYTEST]

They are installed in build/oldest, with what the tests need beside them in its newest version. The
oldest Python that is allowed is the one to run it with. The notebooks are not run. This module
needs Python alone.
"""

import argparse
import re
import subprocess
import sys
import venv
from collections.abc import Iterable, Sequence
from pathlib import Path

from tools.setup import EXTRAS, ROOT, python_of

BUILD = ROOT / "build"
TOOLS = "test"  # the extra whose packages are no part of what is tested
# They hold what the committed notebooks show, which is that of the locked packages.
OF_NOTEBOOKS = ("tests/test_notebooks.py", "tests/test_results.py", "tests/test_headlines.py")
# The installed package is asked, as pyproject.toml needs a reader of TOML, which Python 3.10 lacks.
ASK = "from importlib.metadata import requires; print(*requires('dinov2-in-practice'), sep='\\n')"


def floors(requirements: Iterable[str]) -> list[str]:
    """The lower bounds of all that the package and its extras need, as versions.

    Args:
        requirements: lines of its metadata, `NAME[EXTRAS]>=VERSION; extra == 'NAME'`.
    """
    found = {}
    for line in requirements:
        requirement, _, condition = line.partition(";")
        extra = re.search(r"extra == ['\"](\w+)", condition)
        if extra and (extra[1] == TOOLS or extra[1] not in EXTRAS):
            continue
        name, bound, version = re.sub(r"\[.*?\]", "", requirement).partition(">=")
        if bound:
            found[name] = f"{name}=={version.strip()}"
    return sorted(found.values())


def requirements_of(python: str) -> list[str]:
    """What the package needs, by its metadata where an interpreter has installed it."""
    asked = subprocess.run([python, "-c", ASK], capture_output=True, text=True, check=True)
    return asked.stdout.splitlines()


def constrain(python: str, file: Path) -> None:
    """Installs the package alone, and writes down its lower bounds."""
    alone = [python, "-m", "pip", "install", "--quiet", "--no-deps", "--editable", str(ROOT)]
    subprocess.run(alone, cwd=ROOT, check=True)
    file.write_text("\n".join(floors(requirements_of(python))) + "\n", encoding="utf-8")


def main(arguments: Sequence[str] | None = None) -> int:
    """Installs and tests; the exit status of pytest."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split(":")[0])
    parser.add_argument("--torch-index", default="", metavar="URL", help="of torch's CPU build")
    options, of_pytest = parser.parse_known_args(arguments)
    environment = BUILD / "oldest"
    if not python_of(environment).exists():
        venv.create(environment, with_pip=True)
    python = str(python_of(environment))
    constraints = BUILD / "oldest.txt"
    constrain(python, constraints)
    pip = [python, "-m", "pip", "install", "--quiet", "--constraint", str(constraints)]
    index = ["--index-url", options.torch_index] if options.torch_index else []
    package = f"{ROOT}[{','.join(EXTRAS)}]"
    for wanted in ([*index, "torch"], ["--editable", package]):
        subprocess.run([*pip, *wanted], cwd=ROOT, check=True)
    ignored = [f"--ignore={name}" for name in OF_NOTEBOOKS]
    command = [python, "-m", "pytest", *ignored, *of_pytest]
    return subprocess.run(command, cwd=ROOT, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())

"""Writes constraints.txt: `python -m tools.constraints`, which needs uv (`pip install uv`).

The file locks every package that `make setup` installs, for all Pythons and systems at once; a line
says which of them it is for. Versions that are there already stay where they still fit, `--upgrade`
takes the newest. torch and its CUDA packages are left out: which build is right depends on the
machine, and tools/setup.py has their line. No address of a registry is written.
"""

import argparse
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path

from tools.project import Project
from tools.setup import EXTRAS, LOCKED_TORCH

OLDEST = "3.10"
HEADER = """\
# What `make setup`, continuous integration and Binder install: `python -m tools.constraints` writes
# it. torch is not in it, see tools/setup.py.
"""
_LEFT_OUT = re.compile(r"(torch|triton|cuda-[\w-]+|nvidia-[\w-]+)==")


def kept(lines: Iterable[str]) -> list[str]:
    """The lines of a resolution that lock something other than torch and its CUDA packages."""
    return [line for line in lines if line.strip() and not _LEFT_OUT.match(line) and line[0] != "#"]


def command(project: Project, resolved: Path, torch: Path, upgrade: bool) -> list[str]:
    """The command of uv that resolves for all Pythons and systems.

    Args:
        project: the checkout.
        resolved: file that is written; versions in it are kept.
        torch: file with the bounds of torch.
        upgrade: do not keep versions.
    """
    extras = [f"--extra={extra}" for extra in EXTRAS]
    options = ["--universal", f"--python-version={OLDEST}", "--no-emit-index-url", "--no-header"]
    options += ["--no-annotate", "--quiet", "--constraint", str(torch), "--output-file"]
    options += [str(resolved), *(["--upgrade"] if upgrade else [])]
    return ["uv", "pip", "compile", *options, *extras, str(project.root / "pyproject.toml")]


def main(arguments: Sequence[str] | None = None) -> int:
    """Writes the file; 0 if all is well."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split(":")[0])
    parser.add_argument("--upgrade", action="store_true", help="take the newest versions")
    options = parser.parse_args(arguments)
    project = Project()
    path = project.root / "constraints.txt"
    with tempfile.TemporaryDirectory() as folder:
        resolved, torch = Path(folder) / "resolved.txt", Path(folder) / "torch.txt"
        torch.write_text(f"{LOCKED_TORCH}\n", encoding="utf-8")
        if path.exists():
            resolved.write_text(path.read_text(encoding="utf-8"), encoding="utf-8")
        subprocess.run(command(project, resolved, torch, options.upgrade), check=True)
        lines = kept(resolved.read_text(encoding="utf-8").splitlines())
    path.write_text(HEADER + "\n".join(lines) + "\n", encoding="utf-8", newline="\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())

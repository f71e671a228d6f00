"""Opens the notebooks in JupyterLab: `make lab`, or `python -m tools.lab [OPTIONS OF JUPYTERLAB]`.

The first page is notebooks/README.md. What opens are copies in lab/, a folder that git ignores,
laid out as the checkout is, with what the notebooks and documents link to. Saving one, as
JupyterLab also does by itself, changes no tracked file, so that a later `git pull` finds nothing
in its way; numbers that they record go to lab/results. Copies that nobody has changed are renewed
each time; one that a reader has worked in is never touched again, and is named when the course has
a newer one. `make clean` leaves the folder alone.
"""

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from dinov2_helpers.threads import thread_environment
from dinov2_helpers.writing import write_whole
from tools import links
from tools.project import Project

LEDGER = ".copied.json"
"""File in lab/ that holds the SHA-256 of each copy as it was made."""
COPIED = (
    "notebooks/**/*.ipynb",
    "notebooks/figures/*",
    links.WELCOME,
    "docs/*",
    "README*.md",
    "CONTRIBUTING.md",
    "LICENSE",
    "environment.yml",
    "benchmarks/results/growth.png",
    "benchmarks/results/quality_zero_shot.json",
    "data/README.md",
    "data/models/clip-tiny/run_notes.md",
    "dinov2_helpers/photographs.json",
)
"""Patterns of what is copied: what readers work in, what they read, and what both link to."""
SETTINGS = Path(__file__).parent / "jupyter"
"""Settings that yield to the reader's own: Markdown opens as it reads, not as it is typed; widgets
are saved; JupyterLab asks nobody for news."""


def files(project: Project) -> Iterator[Path]:
    """What is copied, relative to the checkout: notebooks, and what they show and link to."""
    for pattern in COPIED:
        for path in sorted(project.root.glob(pattern)):
            if path.is_file():
                yield path.relative_to(project.root)


def refresh(project: Project) -> list[str]:
    """Makes or renews the copies that the reader has not changed.

    Returns:
        Names of the files of which the reader has an own, older version.
    """
    ledger_file = project.lab / LEDGER
    ledger: dict[str, str] = {}
    if ledger_file.exists():
        ledger = json.loads(ledger_file.read_text(encoding="utf-8"))
    kept = []
    for name in files(project):
        content = _content(project, name)
        copy = project.lab / name
        key = name.as_posix()
        if copy.exists() and _sha256(copy.read_bytes()) != ledger.get(key):
            if ledger.get(key) != _sha256(content):
                kept.append(key)
            continue
        write_whole(copy, content)
        ledger[key] = _sha256(content)
    write_whole(ledger_file, json.dumps(ledger, indent=1).encode())
    return kept


def _content(project: Project, name: Path) -> bytes:
    """What a copy is made of: a notebook with links to the copies beside it, a file as it is."""
    content = (project.root / name).read_bytes()
    if name.suffix != ".ipynb":
        return content
    stem = name.relative_to("notebooks").with_suffix("").as_posix()
    return links.localise(project, stem, content.decode()).encode()


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def command(project: Project, options: Sequence[str]) -> list[str]:
    """The command that opens JupyterLab on the welcome page, with all that it links to in reach."""
    folder = ["--notebook-dir", str(project.lab), f"--LabApp.default_url=/lab/tree/{links.WELCOME}"]
    return [sys.executable, "-m", "jupyterlab", *folder, *options]


def environment(project: Project) -> dict[str, str]:
    """Variables of the server and its kernels; DINOV2_RESULTS stays where it is set."""
    results = {"DINOV2_RESULTS": str(project.lab / "results")}
    settings = [os.environ.get("JUPYTER_CONFIG_PATH", ""), str(SETTINGS)]
    paths = {"JUPYTER_CONFIG_PATH": os.pathsep.join(filter(None, settings))}
    return {**results, **os.environ, **paths, **thread_environment()}


def main(options: Sequence[str] | None = None) -> int:
    """Renews the copies and runs JupyterLab until it is closed."""
    project = Project()
    for name in refresh(project):
        print(
            f"lab/{name} is yours and stays; the course has another version by now. "
            "Rename or remove yours to get it."
        )
    arguments = command(project, sys.argv[1:] if options is None else options)
    return subprocess.run(arguments, env=environment(project), check=False).returncode


if __name__ == "__main__":
    sys.exit(main())

"""Generated passages of README.md and of all other documents that have markers for them.

`python -m tools.readme` writes them, `--check` compares them. Those on speed are files that
`python -m benchmarks.passages` makes. The quiz of each lesson is kept in step as well, in the
package and in the committed notebook, see `tools.quiz`.
"""

import argparse
import sys
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path

from dinov2_helpers.models import PROFILES, WEIGHTS
from tools import blocks, commands, front, launch, pairing, quiz, recorded, tables, teaching
from tools.project import Project

DOCUMENTS = ("*.md", "docs/**/*.md", "notebooks/*.md", ".github/**/*.md")


def documents(project: Project) -> list[Path]:
    """The Markdown files that have generated passages."""
    found = {path for pattern in DOCUMENTS for path in project.root.glob(pattern)}
    return sorted(path for path in found if blocks.names(path.read_text(encoding="utf-8")))


def passages(project: Project) -> dict[str, str]:
    """Markdown of every generated passage."""
    _, claims = recorded.files(pairing.COMMITTED_PROFILE)
    owners = recorded.read(project.results / recorded.OWNERS).get(claims, {})
    return {
        "ledger-page": ledger(recorded.read(project.results / claims), owners, up="../"),
        "profiles": _profiles(),
        "weights": _weights(),
        "bench": _measured(project, "bench"),
        "backends": _measured(project, "backends"),
        "large": _measured(project, "large"),
        "sizing": _measured(project, "sizing"),
        "guidance_widths": _measured(project, "guidance_widths"),
        "datasets": _measured(project, "datasets"),
        "stores": _measured(project, "stores"),
        "workshop": _measured(project, "workshop"),
        "models": _measured(project, "models"),
        "welcome": _welcome(project),
        "commands": commands.table(project),
        "quiz": "\n\n".join(quiz.passage(project, stem) for stem in project.lessons()),
        **front.passages(project),
        **teaching.passages(project),
        **launch.passages(project),
    }


def ledger(claims: Mapping[str, Mapping[str, str]], owners: Mapping[str, str], up: str = "") -> str:
    """The claims ledger as a Markdown table, in the order of the notebooks.

    Args:
        claims: the rows, by key.
        owners: the notebooks that have recorded them, by key, which the last column links.
        up: what leads from the page to the top level.
    """
    rows = []
    for key, row in sorted(claims.items()):
        cells = [row["claim"], row["how"], row["measured"], row["verdict"]]
        place = f"{key[:2]}, {row['cell']}"
        if key in owners:
            place = f"[{key[:2]}]({up}notebooks/{owners[key]}.ipynb), {row['cell']}"
        rows.append([cell.replace("|", r"\|") for cell in [*cells, place]])
    heads = ("The article claims", "Tested by", "We measured", "Verdict", "Notebook, section")
    return tables.markdown(heads, rows)


def _welcome(project: Project) -> str:
    """The seven lessons, each with its picture and its question, for notebooks/README.md."""
    lessons = []
    for stem in project.lessons():
        notebook = pairing.read_source(project, stem)
        title, promise = pairing.title_and_promise(notebook)
        (figure,) = (project.root / "notebooks" / "figures").glob(f"{stem}.*")
        links = [f"[Open the lesson]({stem}.ipynb)"]
        if f"evidence/{stem}" in project.evidence():
            links.append(f"[its evidence](evidence/{stem}.ipynb)")
        lessons += [
            f"## [{title}]({stem}.ipynb)",
            promise,
            f'<img src="figures/{figure.name}" alt="{escape(front.alt(notebook))}" width="480">',
            ", ".join(links),
        ]
        buttons = launch.buttons(project, stem)
        lessons += [buttons] if buttons else []
    return "\n\n".join(lessons)


def _profiles() -> str:
    rows = [
        [f"`{name}`" for name in (profile.name, profile.dinov2, profile.clip)]
        for profile in PROFILES.values()
    ]
    return tables.markdown(("profile", "DINOv2", "CLIP"), rows)


def _weights() -> str:
    rows = [
        [
            f"`{name}`",
            weights["licence"],
            weights.get("gate", "none"),
            f"{weights['megabytes']:,} MB",
            f"`{weights['revision'][:7]}`",
        ]
        for name, weights in WEIGHTS.items()
    ]
    heads = ("on the Hugging Face hub", "licence", "gate", "download", "revision")
    return tables.markdown(heads, rows)


def _measured(project: Project, name: str) -> str:
    """A passage that the benchmarks have made from their results."""
    path = project.root / "benchmarks" / "results" / f"{name}.md"
    if not path.exists():
        raise FileNotFoundError(f"{path} does not exist: run `python -m benchmarks.passages`")
    return path.read_text(encoding="utf-8")


def main(arguments: Sequence[str] | None = None) -> int:
    """Writes or checks the files; 0 if they are current."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="do not write, fail if not current")
    check = parser.parse_args(arguments).check
    project = Project()
    known, stale = passages(project), 0
    for path in documents(project):
        text = path.read_text(encoding="utf-8")
        current = blocks.fill(text, known)
        if check and text != current:
            print(f"{path.relative_to(project.root)} is not current: run `make notebooks`")
            stale = 1
        elif not check:
            path.write_text(current, encoding="utf-8", newline="\n")
    for path in _renew_quizzes(project, write=not check):
        if check:
            print(f"{path.relative_to(project.root)} has an older quiz: run `make notebooks`")
            stale = 1
    return stale


def _renew_quizzes(project: Project, write: bool) -> list[Path]:
    """The files in which the quiz of a lesson is an older one; they are written if asked."""
    older = []
    for stem in project.lessons():
        path = quiz.shipped(project, stem)
        text = quiz.as_shipped(project, stem)
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            older.append(path)
            if write:
                path.write_text(text, encoding="utf-8", newline="\n")
        notebook = quiz.renewed(project, stem)
        if notebook is not None:
            older.append(project.notebook(stem))
            if write:
                pairing.write_notebook(project, stem, notebook)
    return older


if __name__ == "__main__":
    sys.exit(main())

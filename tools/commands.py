"""What each target of the Makefile does, as lines that need no make: for CONTRIBUTING.md."""

import re
from collections.abc import Iterator

from tools.project import Project

_TARGET = re.compile(
    r"^(?P<name>[a-z][a-z0-9-]*):[^\n]*?## (?P<help>[^\n]*)\n(?P<recipe>(?:\t[^\n]*\n)+)", re.M
)
_SETTING = re.compile(r"^(?P<name>[A-Z_]+) [?:]= ?(?P<value>.*)$", re.M)
_IF_ASKED = re.compile(r"\$\(if (?:\$\([A-Z_]+\)|[^()])*\)")
_LINE = re.compile(r"^\t@?\$\((?:PY|PYTHON|PIP)\) .*$", re.M)
PLACES = {"$(PYTHON)": "python", "$(PY)": "python", "$(PIP)": "python -m pip"}


def targets(makefile: str) -> Iterator[tuple[str, str, list[str]]]:
    """Name and help of each target that runs modules of Python, and its lines without make."""
    values = {match["name"]: match["value"] for match in _SETTING.finditer(makefile)}
    for target in _TARGET.finditer(makefile):
        lines = _LINE.findall(target["recipe"].replace("\\\n\t", ""))
        shown = [_without_make(line, values) for line in lines]
        if shown and not target["name"].startswith("train-"):
            yield target["name"], target["help"], shown


def _without_make(line: str, values: dict[str, str]) -> str:
    text = line.strip().lstrip("@")
    for name, place in PLACES.items():
        text = text.replace(name, place)
    text = _IF_ASKED.sub("", text)
    text = re.sub(r"\$\(([A-Z_]+)\)", lambda match: values[match[1]], text)
    return " ".join(text.replace("--quiet ", "").split())


def table(project: Project) -> str:
    """Markdown of the targets, and of what does the same without make."""
    makefile = (project.root / "Makefile").read_text(encoding="utf-8")
    rows = ["| make | what it does | without make |", "| --- | --- | --- |"]
    for name, what, lines in targets(makefile):
        commands = "<br>".join(f"`{line}`" for line in lines)
        rows.append(f"| `make {name}` | {what} | {commands} |")
    rows += ["", "The trainings have their lines in [training/README.md](training/README.md)."]
    return "\n".join(rows)

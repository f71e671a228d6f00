"""Writes where the course is public into everything that says so: `make publish`.

    python -m tools.publish                            after an edit of pyproject.toml
    python -m tools.publish --repository owner/name    the edit too ("" takes it back)
    python -m tools.publish --pypi NAME                the package can be had from PyPI as well
    python -m tools.publish --check                    write nothing, fail if something is not so

The two settings are `repository` and `pypi` in [tool.dinov2-in-practice]. What depends on them:
the buttons, set-up cells and links of all notebooks and their sources, the generated passages of
README.md and of all other documents, [project.urls], CITATION.cff and the forms for issues. Nothing
is executed for it: notebooks keep their outputs, and those that were current stay so.
"""

import argparse
import json
import re
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from tools import blocks, launch, pairing, readme
from tools.project import Project

SLUG = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?/[A-Za-z0-9._-]+")
PACKAGE = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?")
WITH_LINES = ("pyproject.toml", "CITATION.cff", ".github/ISSUE_TEMPLATE/config.yml")


def set_in_pyproject(project: Project, **settings: str) -> Project:
    """Writes settings into pyproject.toml; returns the project that it describes then."""
    path = project.root / "pyproject.toml"
    text = path.read_text(encoding="utf-8")
    for name, value in settings.items():
        line = f"{name} = {json.dumps(value)}"
        text, count = re.subn(rf'(?m)^{name} = ".*"$', line.replace("\\", r"\\"), text)
        if count != 1:
            raise ValueError(f'{path.name} must have one line `{name} = "..."`, not {count}')
    path.write_text(text, encoding="utf-8", newline="\n")
    return Project(project.root, project.setup_code)


def valid(project: Project) -> Project:
    """The project, if its settings can be an address.

    Raises:
        ValueError: they cannot.
    """
    if project.repository and not SLUG.fullmatch(project.repository):
        raise ValueError(f'repository must be "owner/name", not {project.repository!r}')
    if project.pypi and not PACKAGE.fullmatch(project.pypi):
        raise ValueError(f"pypi must be the name of a package, not {project.pypi!r}")
    return project


def current(project: Project) -> Iterator[tuple[Path, str]]:
    """Files with generated lines or passages, notebooks left out, and what they must hold."""
    passages = readme.passages(project)
    for path in readme.documents(project):
        yield path, blocks.fill(path.read_text(encoding="utf-8"), passages)
    for name in WITH_LINES:
        path = project.root / name
        if path.exists():
            text = path.read_text(encoding="utf-8")
            yield path, blocks.fill_lines(text, launch.lines(project))


def publish(project: Project) -> list[str]:
    """Writes everything; names of the files that changed."""
    changed = []
    for stem in project.stems():
        paths = (project.source(stem), project.notebook(stem))
        before = [path.read_bytes() if path.exists() else b"" for path in paths]
        pairing.sync(project, stem)
        after = [path.read_bytes() for path in paths]
        changed += [path for path, old, new in zip(paths, before, after, strict=True) if old != new]
    for path, text in current(project):
        if path.read_text(encoding="utf-8") != text:
            path.write_text(text, encoding="utf-8", newline="\n")
            changed.append(path)
    return [path.relative_to(project.root).as_posix() for path in changed]


def stale(project: Project) -> list[str]:
    """Names of the files that say something else; of notebooks, what their first cells say."""
    files = [path for path, text in current(project) if path.read_text(encoding="utf-8") != text]
    for stem in project.stems():
        if not pairing.is_published(project, stem):
            files.append(project.notebook(stem))
    return [path.relative_to(project.root).as_posix() for path in files]


def main(arguments: Sequence[str] | None = None, project: Project | None = None) -> int:
    """Command line: see the module's text; 0 if everything says the same."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--repository", metavar="OWNER/NAME", help='"" for none')
    parser.add_argument("--pypi", metavar="NAME", help='"" for none')
    parser.add_argument("--check", action="store_true", help="write nothing")
    options = parser.parse_args(arguments)
    project = project or Project()
    asked = {"repository": options.repository, "pypi": options.pypi}
    settings = {name: value for name, value in asked.items() if value is not None}
    if options.check:
        if settings:
            parser.error("--check changes no settings")
        wrong = stale(valid(project))
        print("\n".join(f"{name} is not current: run `make publish`" for name in wrong) or "ok")
        return min(1, len(wrong))
    before = (project.root / "pyproject.toml").read_bytes()
    try:
        project = valid(set_in_pyproject(project, **settings))
    except ValueError as mistake:
        (project.root / "pyproject.toml").write_bytes(before)
        parser.error(str(mistake))
    changed = publish(project)
    print("\n".join(changed) or "everything said so already")
    return 0


if __name__ == "__main__":
    sys.exit(main())

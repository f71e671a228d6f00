"""Links of a notebook to what is beside it: relative in its source, public in the notebook.

A notebook on Colab is alone, so what it links to has to be named by its public address. While there
is no repository, links stay relative, and lead on wherever the notebook lies in its folder.
"""

import posixpath
import re

from tools.project import Project

COLAB = "https://colab.research.google.com/github"
NOTEBOOKS = "notebooks"  # their folder in the repository
WELCOME = f"{NOTEBOOKS}/README.md"
_BESIDE = r"[\w./-]+\.(?:ipynb|md|png|jpe?g)"
# the link of a badge stands behind a picture's bracket, and is always public
_LINK = re.compile(rf"(?<!\))\]\((?P<target>{_BESIDE})(?=[)#])")


def notebook_address(project: Project, stem: str) -> str:
    """Where Colab opens a notebook of the public repository."""
    return f"{_address(project, 'x.ipynb')}{NOTEBOOKS}/{stem}.ipynb"


def publish(project: Project, stem: str, markdown: str) -> str:
    """Markdown of a source, as the committed notebook has it."""
    if not project.repository:
        return markdown

    def public(link: re.Match[str]) -> str:
        path = posixpath.normpath(posixpath.join(_folder(stem), link["target"]))
        return f"]({_address(project, path)}{path}"

    return _LINK.sub(public, markdown)


def localise(project: Project, stem: str, markdown: str) -> str:
    """Markdown of a committed notebook, as its source has it."""
    if not project.repository:
        return markdown
    bases = {_address(project, path) for path in ("x.ipynb", "x.md", "x.png")}
    pattern = rf"(?<!\))\]\((?:{'|'.join(map(re.escape, sorted(bases)))})(?P<path>{_BESIDE})"

    def relative(link: re.Match[str]) -> str:
        return f"]({posixpath.relpath(link['path'], _folder(stem))}"

    return re.sub(pattern, relative, markdown)


def as_page(address: str) -> str:
    """The address of a notebook beside another, as the built pages of both have it."""
    path, sharp, anchor = address.partition("#")
    if ":" in path or not path.endswith(".ipynb"):
        return address
    return f"{path.removesuffix('.ipynb')}.html{sharp}{anchor}"


def _folder(stem: str) -> str:
    return posixpath.dirname(f"{NOTEBOOKS}/{stem}")


def _address(project: Project, path: str) -> str:
    """What stands before the path of a file in the repository, where readers open it."""
    if path.endswith(".ipynb"):
        return f"{COLAB}/{project.repository}/blob/main/"
    if path.endswith(".md"):
        return f"https://github.com/{project.repository}/blob/main/"
    return f"https://raw.githubusercontent.com/{project.repository}/main/"

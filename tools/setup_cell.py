"""The set-up cell, identical in all notebooks: `python -m tools.setup_cell` prints it.

On Colab it installs the package, and nothing else: `dinov2_helpers.colab` knows the rest. Where the
package is there it installs nothing; elsewhere than on Colab it stops at `import google.colab`,
whose comment says what to do.
"""

from tools.project import Project

_TEMPLATE = """\
from importlib.util import find_spec

if not find_spec("dinov2_helpers"):
    import google.colab  # only there is it installed here; elsewhere run `make setup` first
    !pip install -q --no-deps {origin}
from dinov2_helpers import course

course.setup()
"""
# pip says why GitHub did not answer; that a file has to be uploaded it cannot know
_WHEEL = 'dinov2_in_practice-*.whl || echo "Upload the wheel, as said above"'


def setup_cell(repository: str) -> str:
    """Text of the set-up cell, in the language of IPython.

    Args:
        repository: "owner/name" on GitHub that Colab installs from; "": a wheel of the package
            that the reader uploaded beside the notebook.
    """
    origin = f"git+https://github.com/{repository}" if repository else _WHEEL
    return _TEMPLATE.replace("{origin}", origin).strip()


def setup_cell_of(project: Project) -> str:
    """Text that the set-up cell of every notebook of a project must have."""
    if project.setup_code is not None:
        return project.setup_code
    return setup_cell(project.repository)


def as_comments(cell: str) -> str:
    """A cell as the text sources have it, where commands to the shell are comments."""
    lines = cell.splitlines()
    return "\n".join(
        line.replace("!", "# !", 1) if line.lstrip().startswith("!") else line for line in lines
    )


if __name__ == "__main__":
    print(setup_cell_of(Project()))

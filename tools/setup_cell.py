"""The set-up cell, identical in all notebooks: `python -m tools.setup_cell` prints it.

On Colab it installs the package, and nothing else: `dinov2_helpers.colab` knows the rest. Where the
package is there it installs nothing; where it can install nothing it stops and says what to do.
"""

from tools import launch
from tools.project import Project

_BEGINNING = """\
from dinov2_helpers import course

course.setup()
"""
_FROM_AFAR = """\
from importlib.util import find_spec

if not find_spec("dinov2_helpers"):
    import google.colab  # only there is it installed here; elsewhere run `make setup` first
    !pip install -q --no-deps {origin}
"""
# Who has the notebook alone is told what to do before anything is installed.
_FROM_A_WHEEL = """\
from glob import glob
from importlib.util import find_spec

if not find_spec("dinov2_helpers"):
    assert glob("dinov2_in_practice-*.whl"), "Run `make setup`, or on Colab upload the wheel first"
    !pip install -q --no-deps dinov2_in_practice-*.whl
"""


def setup_cell(origin: str) -> str:
    """Text of the set-up cell, in the language of IPython.

    Args:
        origin: what pip installs the package from on Colab, a name on PyPI or "git+https://...";
            "": a wheel that the reader uploaded beside the notebook.
    """
    installing = _FROM_AFAR.replace("{origin}", origin) if origin else _FROM_A_WHEEL
    return (installing + _BEGINNING).strip()


def without_installation(code: str) -> str:
    """What a cell does once the package is there: of the set-up cell, that it begins the course.

    Outputs do not depend on the rest, which is another one where the course is published.
    """
    before, beginning, after = code.partition(_BEGINNING.strip())
    if beginning and not after.strip() and "find_spec" in before:
        return beginning
    return code


def setup_cell_of(project: Project) -> str:
    """Text that the set-up cell of every notebook of a project must have."""
    if project.setup_code is not None:
        return project.setup_code
    return setup_cell(launch.origin(project))


def as_comments(cell: str) -> str:
    """A cell as the text sources have it, where commands to the shell are comments."""
    lines = cell.splitlines()
    return "\n".join(
        line.replace("!", "# !", 1) if line.lstrip().startswith("!") else line for line in lines
    )


if __name__ == "__main__":
    print(setup_cell_of(Project()))

"""Where things are in the repository, and the settings of `[tool.dinov2-in-practice]`."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).resolve().parent.parent


def read_toml(path: Path) -> dict[str, Any]:
    """A parsed TOML file.

    Raises:
        ValueError: it is no TOML; the text names the file and the line.
    """
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except tomllib.TOMLDecodeError as error:
        raise ValueError(f"{path}: {error}") from error


@dataclass(frozen=True)
class Project:
    """A checkout of this repository, or a small one that a test builds.

    Attributes:
        root: folder that holds pyproject.toml, notebooks/, data/ and dinov2_helpers/.
        setup_code: text that the set-up cell of every notebook must have; None: the real one.
    """

    root: Path = ROOT
    setup_code: str | None = None

    @cached_property
    def pyproject(self) -> dict[str, Any]:
        """The parsed pyproject.toml."""
        return read_toml(self.root / "pyproject.toml")

    @property
    def settings(self) -> dict[str, Any]:
        """The table `[tool.dinov2-in-practice]`."""
        return self.pyproject["tool"]["dinov2-in-practice"]

    @property
    def repository(self) -> str:
        """The public repository, as "owner/name"; empty while there is none."""
        return self.settings["repository"]

    @property
    def pypi(self) -> str:
        """The name of the package on PyPI; empty while it is not there."""
        return self.settings.get("pypi", "")

    @property
    def dependencies(self) -> list[str]:
        """What the notebooks require: the package, and its extra for the course."""
        project = self.pyproject["project"]
        return [*project["dependencies"], *project["optional-dependencies"]["course"]]

    @property
    def build(self) -> Path:
        """Ignored folder for everything that is made and not committed."""
        return self.root / "build"

    @property
    def lab(self) -> Path:
        """Ignored folder of the notebooks that readers work in; it is theirs, not remade."""
        return self.root / "lab"

    @property
    def results(self) -> Path:
        """Folder of the committed numbers."""
        return self.root / "notebooks" / "results"

    def lessons(self) -> list[str]:
        """Names of the lessons, as "01_feature_space", in order."""
        return self._named("")

    def evidence(self) -> list[str]:
        """Names of the notebooks that measure, as "evidence/01_feature_space", in order."""
        return self._named("evidence/")

    def stems(self) -> list[str]:
        """Names of all notebooks, the lessons first."""
        return [*self.lessons(), *self.evidence()]

    def chosen(self, names: Sequence[str]) -> list[str]:
        """The notebooks whose names begin so, as "01" or "evidence/01" do; all if there are none.

        Raises:
            SystemExit: none begins so.
        """
        chosen = []
        for name in names:
            found = [stem for stem in self.stems() if stem.startswith(name)]
            if not found:
                raise SystemExit(f"no notebook begins with {name!r}: {', '.join(self.stems())}")
            chosen += found
        return chosen or self.stems()

    def _named(self, folder: str) -> list[str]:
        sources = (self.root / "notebooks" / "src" / folder).glob("[0-9]*_*.py")
        return sorted(f"{folder}{path.stem}" for path in sources)

    def source(self, stem: str) -> Path:
        """Path of the text form that people edit."""
        return self.root / "notebooks" / "src" / f"{stem}.py"

    def notebook(self, stem: str) -> Path:
        """Path of the committed notebook."""
        return self.root / "notebooks" / f"{stem}.ipynb"

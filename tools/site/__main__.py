"""`python -m tools.site`: writes build/site/; exit status 1 if Sphinx has warned of anything."""

import argparse
import sys
import time
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

from tools.project import Project
from tools.site import finish, sources

NEEDED = ("sphinx", "myst_nb", "pydata_sphinx_theme", "sphinx_copybutton")


def main(arguments: Sequence[str] | None = None) -> int:
    """Makes the site; 0 if that went without a warning."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--build", type=Path, help="folder to build in, instead of build/")
    build = parser.parse_args(arguments).build
    missing = [name for name in NEEDED if find_spec(name) is None]
    if missing:
        print(f"{', '.join(missing)} not installed: run `make site`, or `pip install '.[site]'`")
        return 1
    from sphinx.cmd.build import main as sphinx

    started = time.monotonic()
    project = Project()
    folders = sources.Folders.under(build or project.build)
    folders.clear()
    sources.write(project, folders)
    options = ["-b", "html", "-q", "-W", "--keep-going", "-d", str(folders.doctrees)]
    options += ["-c", str(Path(__file__).parent), "-D", f"html_extra_path={folders.extra}"]
    status = sphinx([*options, str(folders.sources), str(folders.site)])
    pages = finish.finish(folders.site)
    seconds = time.monotonic() - started
    print(f"{folders.site / 'index.html'}: {pages} pages in {seconds:.0f} s")
    return int(status != 0)


if __name__ == "__main__":
    sys.exit(main())

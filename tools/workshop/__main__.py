"""Makes the workshop kit: `make workshop`, or `python -m tools.workshop OUT [--wheels]`.

OUT/dinov2-workshop is for everybody: START-HERE.html, the lessons without outputs and without
solutions, their evidence, what they link to, and the package's wheel, which has data and models in
it. `python start.py` in that folder installs and opens it, by the same line on every system.
OUT/dinov2-teacher has the lessons with outputs and solutions, the guide, and the quiz for Moodle.
Beside each folder is a zip of it.

    --wheels            wheels of all that is needed too, so that no network is: for the systems
                        and Pythons named by
    --systems NAME...   linux, windows, macos; default: all
    --pythons X.Y...    default: 3.11 3.12
    --torch-index URL   where pip finds torch's CPU build for Linux, as make's TORCH_INDEX
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from tools.project import Project
from tools.workshop import kit, wheels

PYTHONS = ("3.11", "3.12")
# The folder first: behind options with several values it would pass for one of them.
USAGE = """python -m tools.workshop OUT [--wheels]
    [--systems SYSTEM...] [--pythons X.Y...] [--torch-index URL]"""


def parser() -> argparse.ArgumentParser:
    """The command line."""
    made = argparse.ArgumentParser(description=(__doc__ or "").split(":")[0], usage=USAGE)
    made.add_argument("out", type=Path, help="folder to write into")
    made.add_argument("--wheels", action="store_true", help="with all that is needed")
    made.add_argument("--systems", nargs="+", choices=wheels.PLATFORMS, default=[*wheels.PLATFORMS])
    made.add_argument("--pythons", nargs="+", default=[*PYTHONS], metavar="X.Y")
    made.add_argument("--torch-index", default="", metavar="URL", help="of torch's CPU build")
    return made


def main(arguments: Sequence[str] | None = None) -> int:
    """Makes both folders and their zips, and says how large they are."""
    options = parser().parse_args(arguments)
    project = Project()
    folder = options.out / kit.WORKSHOP
    kit.write(project, folder)
    if options.wheels:
        for system in options.systems:
            for python in options.pythons:
                target = wheels.Target(system, python)
                count = wheels.fetch(project, target, folder / kit.WHEELS, options.torch_index)
                print(f"{system}, Python {python}: {count} wheels", flush=True)
    teacher = options.out / kit.TEACHER
    kit.write_teacher(project, teacher)
    for made in (folder, teacher):
        size = sum(path.stat().st_size for path in made.rglob("*") if path.is_file())
        packed = kit.pack(made)
        print(f"{made}: {size / 1e6:,.0f} MB; {packed.name}: {packed.stat().st_size / 1e6:,.0f} MB")
    return 0


if __name__ == "__main__":
    sys.exit(main())

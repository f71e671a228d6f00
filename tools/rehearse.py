"""Rehearses the notebooks where no test goes: `make rehearse`, `make rehearse-all`.

    python -m tools.rehearse shapes [01 02 ...]
    python -m tools.rehearse small [01 evidence/01 ...]
    python -m tools.rehearse tiny --own [01 02 ...]

executes them, all or those whose names begin so. Under a profile of the hub they run on stand-ins
(tools/standins.py) in build/standins: the code paths, shapes and sizes of the real models, with
random weights, so that what they show and record means nothing. "shapes" stands for one profile of
each shape that there is, and for one lesson with each where none is named. With --own the sections
"Your own images" get a folder of pictures in many formats, some of them broken. Everything goes to
build/rehearsal. All of a profile take up to an hour on two cores, so that no test does it.
"""

import argparse
import os
import shutil
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import nbformat

from dinov2_helpers import data_dir, photographs
from dinov2_helpers.models import PROFILES
from tools.execution import execute
from tools.project import Project
from tools.standins import standins
from tools.watch import Limits

SECONDS = 7200
# One profile of each shape, with the lesson that is run where none is named: together the lessons
# read vectors, maps of patches, inner layers and gradients, each of another shape.
SHAPES = {
    "small": "01",
    "base": "02",
    "base-with-registers": "04",
    "dinov3-small": "07",
    "siglip2-base": "02",
}


def own_pictures(folder: Path) -> None:
    """Fills a folder as readers have them: formats, sizes and places mixed, and some files broken.

    Below `parts` is one in the layout of MVTec AD, with a broken picture and a mask missing.
    """
    shutil.rmtree(folder, ignore_errors=True)
    (folder / "holiday 2024" / "süß").mkdir(parents=True)
    suffixes = ("jpg", "png", "webp", "bmp", "tif", "gif", "JPEG")
    for i, (name, image) in enumerate(photographs().items()):
        place = folder / ("" if i % 3 else "holiday 2024")
        image.resize((90 + 60 * i, 400 - 20 * i)).save(place / f"{name} ({i}).{suffixes[i % 7]}")
    cat = photographs()["cat"]
    nested = folder / "holiday 2024" / "süß"
    cat.convert("CMYK").save(nested / "cmyk.jpg")
    cat.convert("RGBA").save(nested / "alpha.png")
    cat.convert("P").save(nested / "palette.png")
    cat.save(nested / "animated.gif", save_all=True, append_images=[cat.rotate(90)])
    whole = (nested / "cmyk.jpg").read_bytes()
    (folder / "truncated.jpg").write_bytes(whole[: len(whole) // 2])
    (folder / "00 empty.png").touch()
    (folder / "notes.txt").write_text("not a picture", encoding="utf-8")
    parts = shutil.copytree(data_dir() / "defects" / "mug", folder / "parts" / "mug")
    kept = {path for kind in parts.glob("*/*") for path in sorted(kind.iterdir())[:6]}
    for path in parts.glob("*/*/*"):
        if path not in kept:
            path.unlink()
    (parts / "train" / "good" / "broken.png").write_bytes(b"")
    next(iter(sorted((parts / "ground_truth").rglob("*.png")))).unlink()


def replacements(folder: Path) -> dict[str, str]:
    """What makes the sections "Your own images" use a folder of `own_pictures`."""
    parts = folder / "parts" / "mug"
    [target, *_] = sorted(folder.glob("*.png"))[1:]
    return {
        "FOLDER = None": f"FOLDER = {str(folder)!r}",
        "GOOD = None": f"GOOD = {str(parts / 'train' / 'good')!r}",
        "NEW = None": f"NEW = {str(parts / 'test')!r}",
        "TARGET = None": f"TARGET = {str(target)!r}",
    }


def rehearse(project: Project, profile: str, stems: Sequence[str], own: bool) -> int:
    """Executes notebooks; returns how many failed."""
    if profile != "tiny":
        standins(profile, project.build / "standins")
    os.environ |= {"DINOV2_PROFILE": profile, "HF_HUB_CACHE": str(project.build / "standins")}
    folder, pictures = project.build / "rehearsal" / profile, project.build / "own pictures"
    folder.mkdir(parents=True, exist_ok=True)
    own_pictures(pictures)
    limits = replace(Limits.from_environment(), notebook_seconds=SECONDS)
    failures = 0
    for stem in stems:
        changes = replacements(pictures) if own else None
        done = execute(project, stem, folder, changes, limits)
        copy = folder / f"{stem}.ipynb"
        copy.parent.mkdir(parents=True, exist_ok=True)
        nbformat.write(done.notebook, copy)
        costs = done.costs
        outcome = done.error or "ok"
        spent = f"{costs.seconds:.0f} s, {costs.peak_mb:,.0f} MB"
        print(f"{profile}, {stem}: {outcome}, {spent}", flush=True)
        failures += done.error is not None
    return failures


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line: see the module's text; 0 if all reached their end."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("profile", choices=["shapes", *PROFILES])
    parser.add_argument("names", nargs="*", help="as 01 or evidence/01; none means all, see above")
    parser.add_argument("--own", action="store_true", help='rehearse "Your own images" too')
    options = parser.parse_args(arguments)
    project = Project()
    failures = 0
    for profile, names in plan(options.profile, options.names).items():
        failures += rehearse(project, profile, project.chosen(names), options.own)
    return min(1, failures)


def plan(profile: str, names: Sequence[str]) -> dict[str, Sequence[str]]:
    """Which notebooks to run under which profiles, by how their names begin; none means all."""
    if profile != "shapes":
        return {profile: names}
    return {shape: names or [lesson] for shape, lesson in SHAPES.items()}


if __name__ == "__main__":
    sys.exit(main())

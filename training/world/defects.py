"""Renders ``data/defects``: inspection pictures with exact masks of their flaws, MVTec AD layout.

    python -m training.world.defects --out data/defects

writes five categories: ``mug``, ``car`` and ``rocket``, one toy each on an inspection table under
a camera and a light that hardly move, and ``wood`` and ``tiles``, close views of a surface. Each
has the folders of MVTec AD (Bergmann et al. 2019): ``train/good``, ``test/good``, ``test/<kind>``
and ``ground_truth/<kind>`` with one ``NNN_mask.png`` (0 or 255) per picture. The folder is replaced
only after all new files are written. ``--format png`` writes pictures without loss, several times
larger. With ``--contact FILE.png`` or ``--summary`` nothing is rendered: a sheet of the pictures
that are there is written, or a table of them printed.

A mask is exact: a scene is drawn twice, with and without its flaw, and a pixel belongs to the flaw
if what is seen there is another piece of the thing, another place of it or another paint, and if
the picture shows it. Shadows that a flaw throws or takes away are not part of it.
"""

from __future__ import annotations

import argparse
import math
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image
from scipy import ndimage
from tqdm import tqdm

from training.world import flaws
from training.world.colours import COLOURS
from training.world.flaws import Mark, Spot
from training.world.render import CANVAS
from training.world.scene import FRAME, Scene
from training.world.stations import (
    CAR_BODY,
    NOISE,
    SEED,
    STATIONS,
    Shot,
    close_up,
    inspection,
    painted,
    shoot,
)
from training.world.toys import Toy
from training.world.workers import rendering_pool

COUNTS = {"train": 40, "good": 30, "kind": 10}
JPEG_QUALITY = 90
SEEN = 6  # grey levels by which a flaw must change a pixel
LEAST_AREA = 25  # pixels of a flaw
TRIES = 60
CONTACT_COLUMNS = 10
KINDS = {
    "mug": ("crack", "misplaced_part", "missing_part", "stain"),
    "car": ("dent", "missing_part", "scratch", "wrong_colour"),
    "rocket": ("misplaced_part", "missing_part", "scratch", "wrong_colour"),
    "wood": ("crack", "knot", "scratch", "stain"),
    "tiles": ("crack", "missing_tile", "stain", "wrong_colour"),
}
CATEGORIES = tuple(KINDS)
GOOD = "good"

# Flaws. Each function takes what it needs of: the scene, its shot without a flaw, and a source of
# chance; and returns the shot with the flaw, or None if this chance was not a good one.


def _spot(rng: np.random.Generator, shot: Shot, where: np.ndarray, margin: int) -> Spot | None:
    """A visible place of the thing with ``where`` (H, W) true for so many pixels around it."""
    inside = ndimage.binary_erosion(where & shot.thing, iterations=margin)
    rows, columns = np.nonzero(inside[margin:-margin, margin:-margin])
    if not len(rows):
        return None
    pick = rng.integers(len(rows))
    row, column = rows[pick] + margin, columns[pick] + margin
    down = shot.points[row + 2, column] - shot.points[row - 2, column]
    right = shot.points[row, column + 2] - shot.points[row, column - 2]
    normal = np.cross(down, right)
    return Spot(shot.points[row, column], normal / np.linalg.norm(normal))


def _log_uniform(rng: np.random.Generator, low: float, high: float) -> float:
    return float(np.exp(rng.uniform(np.log(low), np.log(high))))


MUG_HANDLE = (2,)
DOTS = tuple((number,) for number in range(3, 33))
FRONT_WHEELS, REAR_WHEELS = ((8, 9), (19, 20)), ((6, 7), (17, 18))
CAR_LOSSES = (
    *((hub,) for hub in (7, 9, 18, 20)),
    *FRONT_WHEELS,
    *REAR_WHEELS,
    *((number,) for number in (10, 21, 12, 23, 13, 24, 26, 27)),
)
CAR_PAINTED = ((2,), (9,), (18,), (20,), (10,), (21,), (13,), (24,), (26,), (27,), (14,), (15,))
FINS = ((4,), (5,), (6,), (7,))
PORTHOLES = ((10, 11), (14, 15))
NOSE, WAIST, BELL = (1,), (2,), (3,)
ROCKET_PAINTED = (NOSE, WAIST, *FINS, (11,), (15,), (10,), (14,), BELL)
LOSSES = {
    "mug": (*[MUG_HANDLE] * 6, *DOTS),
    "car": CAR_LOSSES,
    "rocket": (*FINS, *PORTHOLES, *PORTHOLES, (11,), (15,), WAIST, NOSE),
}


def _pick(rng: np.random.Generator, groups: tuple[tuple[int, ...], ...]) -> tuple[int, ...]:
    return groups[rng.integers(len(groups))]


def _reshaped(scene: Scene, toy: Toy) -> Shot:
    """The shot of the same scene with another toy in the same place."""
    first, *others = scene.placed
    return shoot(replace(scene, placed=(replace(first, toy=toy), *others)))


def missing_part(scene: Scene, shot: Shot, rng: np.random.Generator) -> Shot:
    """A part was not mounted."""
    toy = scene.toys[0].toy
    return _reshaped(scene, flaws.without(toy, _pick(rng, LOSSES[toy.class_name])))


def misplaced_part(scene: Scene, shot: Shot, rng: np.random.Generator) -> Shot:
    """A part was mounted askew or in the wrong place."""
    toy = scene.toys[0].toy
    sign = float(rng.choice([-1, 1]))
    if toy.class_name == "mug":
        # The mug's axis is not the toy's: the handle counts for the middle of the toy.
        middle = toy.parts[0].mesh.vertices
        axis = tuple((middle.min(axis=0) + middle.max(axis=0)) / 2)
        if rng.random() < 0.4:
            turn = (0.0, sign * _log_uniform(rng, 6, 20), 0.0)
            centre = tuple(toy.parts[2].mesh.vertices.mean(axis=0))
            return _reshaped(scene, flaws.moved(toy, MUG_HANDLE, turn, centre))
        group = _pick(rng, DOTS)
        around, up = sign * _log_uniform(rng, 5, 14), float(rng.uniform(-0.03, 0.03))
        return _reshaped(scene, flaws.moved(toy, group, (0, 0, around), axis, (0, 0, up)))
    part = rng.integers(3)
    if part == 0:
        group = _pick(rng, FINS)
        shift = (0.0, 0.0, _log_uniform(rng, 0.03, 0.12))
        return _reshaped(scene, flaws.moved(toy, group, offset=shift))
    if part == 1:
        group = _pick(rng, PORTHOLES)
        around, up = sign * _log_uniform(rng, 6, 25), float(rng.uniform(-0.04, 0.04))
        return _reshaped(scene, flaws.moved(toy, group, (0, 0, around), offset=(0, 0, up)))
    base = (0.0, 0.0, float(toy.parts[1].mesh.vertices[:, 2].min()))
    return _reshaped(scene, flaws.moved(toy, NOSE, (sign * _log_uniform(rng, 3, 12), 0, 0), base))


def wrong_colour(scene: Scene, shot: Shot, rng: np.random.Generator) -> Shot:
    """A part of another colour: quite another, or the right one from a bad batch."""
    toy = scene.toys[0].toy
    group = _pick(rng, {"car": CAR_PAINTED, "rocket": ROCKET_PAINTED}[toy.class_name])
    colour = COLOURS[str(rng.choice(sorted(COLOURS)))]
    return _reshaped(scene, flaws.repainted(toy, group, colour, _log_uniform(rng, 0.25, 1.0)))


def dent(scene: Scene, shot: Shot, rng: np.random.Generator) -> Shot | None:
    """The car's body was pushed in."""
    toy = scene.toys[0].toy
    spot = _spot(rng, shot, painted(shot, toy.parts[CAR_BODY].colour), 5)
    if spot is None:
        return None
    radius = _log_uniform(rng, 0.05, 0.12)
    depth = radius * rng.uniform(0.15, 0.40)
    return _reshaped(scene, flaws.dented(toy, CAR_BODY, spot, radius, depth))


PAINT_PIXEL = 0.006  # metres of a picture's pixel on a toy
MAIN_PART = {"mug": 0, "car": 0, "rocket": 0}


def _main_paint(scene: Scene, shot: Shot) -> np.ndarray:
    toy = scene.toys[0].toy
    return painted(shot, toy.parts[MAIN_PART[toy.class_name]].colour)


def toy_scratch(scene: Scene, shot: Shot, rng: np.random.Generator) -> Shot | None:
    """A thin line down to the primer."""
    spot = _spot(rng, shot, _main_paint(scene, shot), 4)
    if spot is None:
        return None
    size = _log_uniform(rng, 0.08, 0.30), _log_uniform(rng, 0.004, 0.011)
    primer = np.array([0.55, 0.55, 0.57]) * rng.uniform(0.75, 1.15)
    tint = primer / np.array(scene.toys[0].toy.parts[0].colour)
    return shot.marked(flaws.line(rng, shot.points, spot, size, tint, 0.008, pixel=PAINT_PIXEL))


def toy_crack(scene: Scene, shot: Shot, rng: np.random.Generator) -> Shot | None:
    """A jagged dark line through the glaze."""
    spot = _spot(rng, shot, _main_paint(scene, shot), 4)
    if spot is None:
        return None
    size = _log_uniform(rng, 0.08, 0.35), _log_uniform(rng, 0.004, 0.011)
    tint = np.array([0.45, 0.42, 0.40]) * rng.uniform(0.6, 1.4)
    return shot.marked(flaws.line(rng, shot.points, spot, size, tint, 0.045, pixel=PAINT_PIXEL))


def toy_stain(scene: Scene, shot: Shot, rng: np.random.Generator) -> Shot | None:
    """A dried drop of coffee."""
    spot = _spot(rng, shot, _main_paint(scene, shot), 4)
    if spot is None:
        return None
    strength = _log_uniform(rng, 0.18, 0.8)
    tint = 1 - strength * np.array([0.45, 0.62, 0.78])
    return shot.marked(flaws.stain(rng, shot.points, spot, _log_uniform(rng, 0.025, 0.09), tint))


def _anywhere(rng: np.random.Generator, shot: Shot) -> Spot:
    """A place of a surface, not at the very edge of its picture."""
    row, column = rng.integers(40, CANVAS - 40, 2)
    return Spot(shot.points[row, column], np.array([0.0, 0.0, 1.0]))


def surface_crack(category: str, shot: Shot, rng: np.random.Generator) -> Shot:
    """Wood splits along its grain, a tile in any direction but not beyond its joints."""
    spot = _anywhere(rng, shot)
    tint = np.array([0.40, 0.37, 0.35]) * rng.uniform(0.6, 1.5)
    # At angle 0 ``Spot.along`` looks along +y of a surface.
    grain = math.pi / 2 + rng.normal(0, 0.05) if category == "wood" else None
    size = _log_uniform(rng, 35, 150), _log_uniform(rng, 1.0, 3.2)
    mark = flaws.line(
        rng, shot.points, spot, size, tint, 0.012 if category == "wood" else 0.05, grain, 1.0
    )
    if category == "tiles":
        mark = replace(mark, cover=mark.cover * _same_tile(shot.points, spot))
    return shot.marked(mark)


def surface_scratch(category: str, shot: Shot, rng: np.random.Generator) -> Shot:
    """A straight line, brighter or darker than the surface."""
    size = _log_uniform(rng, 40, 170), _log_uniform(rng, 0.9, 2.4)
    change = _log_uniform(rng, 0.18, 0.45) * rng.choice([-1, 1])
    tint = np.array([1.0, 1.0, 1.0]) + change
    return shot.marked(
        flaws.line(rng, shot.points, _anywhere(rng, shot), size, tint, 0.004, pixel=1.0)
    )


def surface_stain(category: str, shot: Shot, rng: np.random.Generator) -> Shot:
    """Something was spilt: water or oil on wood, coffee on tiles."""
    strength = _log_uniform(rng, 0.12, 0.6)
    hue = [0.55, 0.60, 0.62] if category == "wood" else [0.45, 0.62, 0.78]
    tint = 1 - strength * np.array(hue)
    radius = _log_uniform(rng, 8, 36)
    return shot.marked(flaws.stain(rng, shot.points, _anywhere(rng, shot), radius, tint))


def surface_knot(category: str, shot: Shot, rng: np.random.Generator) -> Shot:
    """A branch left the wood."""
    radius, strength = _log_uniform(rng, 5, 17), _log_uniform(rng, 0.35, 1.0)
    return shot.marked(flaws.knot(rng, shot.points, _anywhere(rng, shot), radius, strength))


TILE, JOINT = 128, 5  # texels: of a tile with its joint, of the joint


def _same_tile(points: np.ndarray, spot: Spot) -> np.ndarray:
    """Whether points lie on the tile of a spot, joints excluded."""
    same = (points // TILE == spot.centre // TILE)[..., :2].all(axis=-1)
    return same & (points % TILE >= JOINT)[..., :2].all(axis=-1)


def missing_tile(category: str, shot: Shot, rng: np.random.Generator) -> Shot:
    """A tile fell off, or a corner of it broke off, and the mortar shows."""
    spot = _anywhere(rng, shot)
    gone = _same_tile(shot.points, spot)
    x, y = (shot.points[..., i] % TILE / TILE for i in (0, 1))
    if rng.random() < 0.7:
        x, y = (value if rng.random() < 0.5 else 1 - value for value in (x, y))
        cut = _log_uniform(rng, 0.2, 0.9)
        gone &= x * rng.uniform(0.7, 1.4) + y + 0.05 * flaws.wobble(rng, x - y, 5) < cut
    rough = ndimage.gaussian_filter(rng.normal(size=gone.shape), 1.5)
    mortar = np.array([0.47, 0.44, 0.41]) * (0.9 + 0.35 * rough[..., None])
    # The rim throws a shadow into the hole.
    shadow = ~np.roll(gone, (5, 4), axis=(0, 1))
    mortar = (
        mortar * np.where(ndimage.gaussian_filter(shadow * 1.0, 1.5) > 0.5, 0.6, 1.0)[..., None]
    )
    return shot.marked(Mark(gone.astype(float), mortar / np.maximum(shot.colour, 0.05)))


def wrong_tile(category: str, shot: Shot, rng: np.random.Generator) -> Shot:
    """A tile of another colour, or of another batch."""
    colour = np.array(COLOURS[str(rng.choice(sorted(COLOURS)))])
    amount = _log_uniform(rng, 0.08, 0.6)
    mark = Mark(
        _same_tile(shot.points, _anywhere(rng, shot)) * amount,
        colour / np.maximum(shot.colour, 0.05),
    )
    return shot.marked(mark)


TOY_FLAWS: dict[str, Callable[[Scene, Shot, np.random.Generator], Shot | None]] = {
    "crack": toy_crack,
    "dent": dent,
    "misplaced_part": misplaced_part,
    "missing_part": missing_part,
    "scratch": toy_scratch,
    "stain": toy_stain,
    "wrong_colour": wrong_colour,
}
SURFACE_FLAWS: dict[str, Callable[[str, Shot, np.random.Generator], Shot]] = {
    "crack": surface_crack,
    "knot": surface_knot,
    "missing_tile": missing_tile,
    "scratch": surface_scratch,
    "stain": surface_stain,
    "wrong_colour": wrong_tile,
}


def changed_pixels(good: Shot, bad: Shot) -> np.ndarray:
    """The mask of a flaw, (FRAME, FRAME) bool: what is another thing, and looks different."""
    other = np.abs(good.depth - bad.depth) > 0.003
    other |= np.abs(good.paint - bad.paint).max(axis=-1) > 0.02
    other &= good.thing | bad.thing
    quarter = np.asarray(Image.fromarray(other).convert("L").reduce(CANVAS // FRAME)) >= 63
    difference = np.abs(good.picture().astype(int) - bad.picture()).max(axis=-1)
    # A pixel that happens to look alike amid others that do not belongs to the flaw.
    seen = ndimage.binary_closing(np.pad(difference >= SEEN, 2), iterations=2)[2:-2, 2:-2]
    mask = quarter & ndimage.binary_fill_holes(seen)
    labels, count = ndimage.label(mask, np.ones((3, 3)))
    large = np.bincount(labels.ravel(), minlength=count + 1) >= 4
    large[0] = False
    return large[labels]


def make(category: str, kind: str, key: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Makes a picture and its mask, (FRAME, FRAME, 3) uint8 and (FRAME, FRAME) bool.

    Args:
        category: one of ``CATEGORIES``.
        kind: ``GOOD`` or one of the category's ``KINDS``.
        key: numbers that the picture depends on.

    Raises:
        RuntimeError: no try gave a flaw that can be seen.
    """
    for attempt in range(TRIES):
        rng = np.random.default_rng([SEED, CATEGORIES.index(category), *key, attempt])
        scene = inspection(category, rng) if category in STATIONS else None
        good = shot = shoot(scene) if scene else close_up(category, rng)
        if kind != GOOD:
            bad = (
                TOY_FLAWS[kind](scene, good, rng)
                if scene
                else SURFACE_FLAWS[kind](category, good, rng)
            )
            if bad is None or changed_pixels(good, bad).sum() < LEAST_AREA:
                continue
            shot = bad
        noise = rng.normal(0, NOISE, (FRAME, FRAME, 3))
        picture = (shot.picture() + noise).round().clip(0, 255).astype(np.uint8)
        return picture, changed_pixels(good, shot)
    raise RuntimeError(f"no {kind} of {category} could be seen in {TRIES} tries")


@dataclass(frozen=True)
class Order:
    """A picture to make: where it goes, what it shows, and the numbers that it depends on."""

    category: str
    split: str
    kind: str
    number: int

    @property
    def key(self) -> tuple[int, ...]:
        """Different for every picture of a category."""
        kinds = (GOOD, *KINDS[self.category])
        return ("train", "test").index(self.split), kinds.index(self.kind), self.number


def orders() -> list[Order]:
    """All pictures of the folder: the same for every export."""
    found = []
    for category, kinds in KINDS.items():
        for split, kind, count in (
            ("train", GOOD, COUNTS["train"]),
            ("test", GOOD, COUNTS["good"]),
            *(("test", kind, COUNTS["kind"]) for kind in kinds),
        ):
            found += [Order(category, split, kind, number) for number in range(count)]
    return found


def write(order: Order, folder: Path, suffix: str) -> None:
    """Makes the files of one order below a folder."""
    picture, mask = make(order.category, order.kind, order.key)
    name = f"{order.number:03d}"
    path = folder / order.category / order.split / order.kind / f"{name}.{suffix}"
    path.parent.mkdir(parents=True, exist_ok=True)
    options = {"quality": JPEG_QUALITY, "optimize": True} if suffix == "jpg" else {"optimize": True}
    Image.fromarray(picture).save(path, **options)
    if order.kind != GOOD:
        path = folder / order.category / "ground_truth" / order.kind / f"{name}_mask.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(mask.astype(np.uint8) * 255).save(path, optimize=True)


def export(out: Path, workers: int, suffix: str) -> None:
    """Renders all categories and puts them into a folder in place of those that are there.

    Args:
        out: the folder; what else is in it stays.
        workers: number of processes.
        suffix: "jpg" or "png".
    """
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".new-", dir=out) as name, rendering_pool(workers) as p:
        new, todo = Path(name), orders()
        task = partial(write, folder=new, suffix=suffix)
        for _ in tqdm(p.imap_unordered(task, todo), "defects", len(todo)):
            pass
        for category in CATEGORIES:
            if (out / category).exists():
                shutil.move(out / category, new / f"old-{category}")
            shutil.move(new / category, out / category)


def contact_sheet(out: Path, sheet: Path) -> None:
    """Writes a PNG with the first pictures of every folder, each flaw outlined below its picture.

    Args:
        out: the folder with the categories.
        sheet: the file to write.
    """
    rows = []
    for category, kinds in KINDS.items():
        for kind in (GOOD, *kinds):
            files = sorted((out / category / "test" / kind).iterdir())[:CONTACT_COLUMNS]
            pictures = [np.asarray(Image.open(file)) for file in files]
            rows.append(np.hstack(pictures))
            if kind == GOOD:
                continue
            for i, file in enumerate(files):
                place = out / category / "ground_truth" / kind / f"{file.stem}_mask.png"
                mask = np.asarray(Image.open(place)) > 0
                rim = ndimage.binary_dilation(mask, iterations=2) & ~ndimage.binary_dilation(mask)
                pictures[i] = np.where(
                    rim[..., None], np.array([255, 0, 255], np.uint8), pictures[i]
                )
            rows.append(np.hstack(pictures))
    Image.fromarray(np.vstack(rows)).save(sheet)


def summary(out: Path) -> str:
    """Counts what is in the folder, as a Markdown table.

    Args:
        out: the folder with the categories.
    """
    lines = [
        "| category | train, good | test, good | test, with a flaw | area of a flaw, median | MB |",
        "| --- | ---: | ---: | --- | ---: | ---: |",
    ]
    for category, kinds in KINDS.items():
        folder = out / category
        good = [len(list((folder / split / GOOD).iterdir())) for split in ("train", "test")]
        bad = ", ".join(f"{len(list((folder / 'test' / k).iterdir()))} {k}" for k in kinds)
        masks = [np.asarray(Image.open(file)) > 0 for file in folder.rglob("*_mask.png")]
        area = float(np.median([mask.mean() for mask in masks]))
        size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
        lines.append(
            f"| {category} | {good[0]} | {good[1]} | {bad} | {area:.1%} | {size / 1e6:.1f} |"
        )
    return "\n".join(lines)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--out", type=Path, default=Path("data/defects"))
    parser.add_argument("--workers", type=int, default=2, help="processes that render")
    parser.add_argument("--format", choices=("jpg", "png"), default="jpg", help="of the pictures")
    parser.add_argument("--contact", type=Path, metavar="FILE.png", help="only write a sheet")
    parser.add_argument("--summary", action="store_true", help="only print a table of counts")
    args = parser.parse_args()
    if args.contact:
        contact_sheet(args.out, args.contact)
    elif args.summary:
        print(summary(args.out))
    else:
        export(args.out, args.workers, args.format)


if __name__ == "__main__":
    main()

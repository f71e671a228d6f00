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
from functools import cache, partial
from pathlib import Path

import numpy as np
from PIL import Image
from scipy import ndimage
from tqdm import tqdm

from training.world import flaws
from training.world.colours import COLOURS
from training.world.flaws import Mark, Spot
from training.world.postprocess import ambient_occlusion, grade
from training.world.render import (
    CANVAS,
    EXTENT,
    GROUND,
    NOTHING,
    PROPS,
    Z_FAR,
    Z_NEAR,
    Passes,
    shrink,
)
from training.world.scene import FRAME, Camera, Light, Placed, Scene, Sky
from training.world.surfaces import TEXTURE_SIZE, surface_texture
from training.world.toys import Part, Toy, make_toy
from training.world.toys.builder import BOX
from training.world.workers import renderer, rendering_pool

SEED = 3_000_000  # beyond every pool of toys: no other picture shows these
COUNTS = {"train": 40, "good": 30, "kind": 10}
JPEG_QUALITY = 90
NOISE = 1.0  # grey levels of the camera's noise
SEEN = 6  # grey levels by which a flaw must change a pixel
LEAST_AREA = 25  # pixels of a flaw
TRIES = 60
TABLE = 0.1  # metres, its height
CONTACT_COLUMNS = 10


@dataclass(frozen=True)
class Station:
    """Where a camera of an inspection line stands.

    Attributes:
        seed: of the toy's shape; the class is the category's name.
        azimuth: of the camera, degrees.
        elevation: of the camera, degrees.
        distance: from ``lookat`` to the camera, metres.
        lookat: the middle of the picture, metres.
        table: colour that the toy stands on.
    """

    seed: int
    azimuth: float
    elevation: float
    distance: float
    lookat: tuple[float, float, float]
    table: tuple[float, float, float]


STATIONS = {
    "mug": Station(SEED + 1, -38.0, 28.0, 1.65, (0.0, 0.0, 0.40), (0.36, 0.43, 0.47)),
    "car": Station(SEED + 5, 42.0, 30.0, 1.75, (0.04, -0.05, 0.30), (0.58, 0.58, 0.56)),
    "rocket": Station(SEED + 4, 22.0, 26.0, 1.95, (0.0, 0.0, 0.60), (0.40, 0.42, 0.40)),
}
# Texture variant of a surface, and how many texels of it a picture is wide.
CLOSE_UPS = {"wood": (1, 230.0), "tiles": (3, 320.0)}
KINDS = {
    "mug": ("crack", "misplaced_part", "missing_part", "stain"),
    "car": ("dent", "missing_part", "scratch", "wrong_colour"),
    "rocket": ("misplaced_part", "missing_part", "scratch", "wrong_colour"),
    "wood": ("crack", "knot", "scratch", "stain"),
    "tiles": ("crack", "missing_tile", "stain", "wrong_colour"),
}
CATEGORIES = tuple(KINDS)
GOOD = "good"
CAR_BODY = 0  # number of the part


@cache
def design(category: str) -> Toy:
    """The one toy that a line makes."""
    toy = make_toy(category, STATIONS[category].seed)
    if category != "car":
        return toy
    # The body has few vertices where it is flat: not enough for a dent.
    body = flaws.inflated(flaws.refined(toy.parts[CAR_BODY].mesh, 0.022), 0.32)
    return replace(toy, parts=(replace(toy.parts[0], mesh=body), *toy.parts[1:]))


@dataclass(frozen=True)
class Shot:
    """What the camera of a station sees, ``CANVAS`` pixels a side unless said otherwise.

    Attributes:
        colour: (H, W, 3) shaded, in [0, 1].
        paint: (H, W, 3) without light; a surface's is 1.
        depth: (H, W) metres; a surface's is 1.
        points: (H, W, 3) where on the thing a pixel is: the toy's metres, a surface's texels.
        thing: (H, W) whether a pixel shows the thing and not its table.
        shade: (FRAME, FRAME, 1) factor of the surroundings' light.
        warmth: of the light, -1 to 1.
    """

    colour: np.ndarray
    paint: np.ndarray
    depth: np.ndarray
    points: np.ndarray
    thing: np.ndarray
    shade: np.ndarray
    warmth: float

    def picture(self) -> np.ndarray:
        """The picture, (FRAME, FRAME, 3) uint8, without noise."""
        small = shrink((self.colour.clip(0, 1) * 255 + 0.5).astype(np.uint8))
        return grade(small * self.shade, self.warmth)

    def marked(self, mark: Mark) -> Shot:
        """The shot with a mark on the thing."""
        mark = replace(mark, cover=np.where(self.thing, mark.cover, 0.0))
        return replace(self, colour=mark.on(self.colour), paint=mark.on(self.paint))


def inspection(category: str, rng: np.random.Generator) -> Scene:
    """The scene of a station; toy, camera and light differ a little from picture to picture."""
    station, toy = STATIONS[category], design(category)
    side = station.azimuth + 55 + rng.uniform(-12, 12)
    around, above = math.radians(side), math.radians(rng.uniform(48, 58))
    sun = np.array([0.60, 0.59, 0.57]) * rng.uniform(0.93, 1.07)
    x, y = rng.normal(0, 0.008, 2)
    table = Part(BOX.scaled((30, 30, TABLE / 2)), station.table, "matte")
    return Scene(
        placed=(
            Placed(toy, (float(x), float(y), TABLE), float(rng.uniform(-4, 4))),
            Placed(Toy("prop", "", 0, (table,), 30.0, TABLE), (0, 0, TABLE / 2), role="prop"),
        ),
        surface="snow",
        variant=0,
        ground_turn=0.0,
        ground_scale=1.0,
        light=Light(
            (
                math.cos(around) * math.cos(above),
                math.sin(around) * math.cos(above),
                math.sin(above),
            ),
            tuple(map(float, sun)),  # type: ignore[arg-type]
            (0.37, 0.37, 0.39),
            float(rng.uniform(-0.3, 0.3)),
        ),
        camera=Camera(
            station.azimuth + rng.uniform(-1.5, 1.5),
            station.elevation + rng.uniform(-1, 1),
            station.distance * rng.uniform(0.985, 1.015),
            tuple(np.array(station.lookat) + rng.normal(0, 0.008, 3)),
        ),
        walls=(),
        wall_paint=0,
        sky=Sky(0, 0, 0.0, (0, 0), ()),
        framing="portrait",
        occluded=False,
        seed=SEED,
    )


def shoot(scene: Scene) -> Shot:
    """Draws a station's scene; needs the renderer of a pool."""
    renderer()
    passes = Passes(scene)
    try:
        passes._select(range(NOTHING))
        colour, _ = passes._draw(CANVAS, SHADOW=True)
        colour = colour / 255
        code, raw = passes._draw(CANVAS, SEGMENT=True, IDCOLOR=True)
        _, frame_depth = passes._owners()
        geoms = passes.items.geoms[: passes.items.ngeom]
        paint, group = np.ones((len(geoms) + 1, 3)), np.full(len(geoms) + 1, GROUND)
        for geom in geoms:
            paint[geom.segid + 1] = passes.model.mat_rgba[geom.matid, :3]
            group[geom.segid + 1] = passes.model.geom_group[geom.objid]
    finally:
        passes.free()
    number = code.astype(np.int64) @ (1, 256, 65536)
    near, far = Z_NEAR * EXTENT, Z_FAR * EXTENT
    depth = near * far / (far - near) / (raw.astype(np.float64) + near / (far - near))
    toy = scene.toys[0]
    return Shot(
        colour,
        paint[number],
        depth,
        _local(toy, _unproject(scene.camera, depth)),
        ~np.isin(group[number], (GROUND, PROPS)),
        _occlusion(scene.camera, frame_depth)[..., None],
        scene.light.warmth,
    )


def _unproject(camera: Camera, depth: np.ndarray) -> np.ndarray:
    """World points (H, W, 3) of the pixels of a square depth map."""
    v, u = (np.mgrid[0 : len(depth), 0 : len(depth)] + 0.5) * (FRAME / len(depth))
    rays = np.stack([u, v, np.ones_like(u)], axis=-1) @ np.linalg.inv(camera.intrinsics()).T
    return (rays * depth[..., None]) @ camera.axes().T + camera.position()


def _occlusion(camera: Camera, depth: np.ndarray) -> np.ndarray:
    """The share of light that reaches each pixel (FRAME, FRAME), undisturbed at the border."""
    rays = _unproject(camera, np.ones_like(depth)) - camera.position()
    table = (TABLE - camera.position()[2]) / rays[..., 2]
    return ambient_occlusion(depth) / ambient_occlusion(table)


def _local(item: Placed, points: np.ndarray) -> np.ndarray:
    """World points in the coordinates of a toy that is turned about z only."""
    turn = item.to_world(np.eye(3)) - np.array(item.position)
    return (points - np.array(item.position)) @ turn.T


@cache
def _texture(category: str) -> np.ndarray:
    return surface_texture(category, CLOSE_UPS[category][0]) / 255


def close_up(category: str, rng: np.random.Generator) -> Shot:
    """A close view of a surface from straight above: anywhere on it, hardly turned."""
    _, width = CLOSE_UPS[category]
    width *= rng.uniform(0.97, 1.03)
    v, u = (np.mgrid[0:CANVAS, 0:CANVAS] + 0.5) / CANVAS - 0.5
    turn = math.radians(rng.uniform(-2, 2))
    x = width * (math.cos(turn) * u - math.sin(turn) * v) + rng.uniform(0, TEXTURE_SIZE)
    y = width * (math.sin(turn) * u + math.cos(turn) * v) + rng.uniform(0, TEXTURE_SIZE)
    texture = _texture(category)
    colour = np.stack(
        [
            ndimage.map_coordinates(texture[..., i], [y, x], order=1, mode="grid-wrap")
            for i in range(3)
        ],
        axis=-1,
    )
    slope = rng.uniform(0, 0.16)
    towards = rng.uniform(0, 2 * np.pi)
    light = rng.uniform(0.92, 1.04) + slope * (math.cos(towards) * u + math.sin(towards) * v)
    return Shot(
        colour * light[..., None],
        np.ones_like(colour),
        np.ones_like(x),
        np.stack([x, y, np.zeros_like(x)], axis=-1),
        np.ones(x.shape, bool),
        np.ones((FRAME, FRAME, 1), np.float32),
        float(rng.uniform(-0.25, 0.25)),
    )


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


def _painted(shot: Shot, colour: tuple[float, float, float]) -> np.ndarray:
    return (np.abs(shot.paint - np.array(colour)) < 0.01).all(axis=-1)


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
    spot = _spot(rng, shot, _painted(shot, toy.parts[CAR_BODY].colour), 5)
    if spot is None:
        return None
    radius = _log_uniform(rng, 0.05, 0.12)
    depth = radius * rng.uniform(0.15, 0.40)
    return _reshaped(scene, flaws.dented(toy, CAR_BODY, spot, radius, depth))


PAINT_PIXEL = 0.006  # metres of a picture's pixel on a toy
MAIN_PART = {"mug": 0, "car": 0, "rocket": 0}


def _main_paint(scene: Scene, shot: Shot) -> np.ndarray:
    toy = scene.toys[0].toy
    return _painted(shot, toy.parts[MAIN_PART[toy.class_name]].colour)


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

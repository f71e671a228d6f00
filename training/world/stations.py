"""What an inspection camera sees: toys on a table, one design each, and surfaces close by."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import cache

import numpy as np
from scipy import ndimage

from training.world import flaws
from training.world.flaws import Mark
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
from training.world.workers import renderer

SEED = 3_000_000  # beyond every pool of toys: no other picture shows these
NOISE = 1.0  # grey levels of the camera's noise
TABLE = 0.1  # metres, its height


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
        passes.select(range(NOTHING))
        colour, _ = passes.draw(CANVAS, SHADOW=True)
        colour = colour / 255
        code, raw = passes.draw(CANVAS, SEGMENT=True, IDCOLOR=True)
        _, frame_depth = passes.owners()
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
        local(toy, _unproject(scene.camera, depth)),
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


def local(item: Placed, points: np.ndarray) -> np.ndarray:
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


def painted(shot: Shot, colour: tuple[float, float, float]) -> np.ndarray:
    """Where a shot shows parts painted so, (H, W) bool."""
    return (np.abs(shot.paint - np.array(colour)) < 0.01).all(axis=-1)

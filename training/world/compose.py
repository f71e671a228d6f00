"""Composes scenes at random: where toys stand, how large they appear, what surrounds them.

Everything is a pure function of a seed; nothing here draws from a global generator.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from training.world.scene import (
    FRAME,
    MOST_TOYS,
    WALL_PAINTS,
    Camera,
    Framing,
    Light,
    Placed,
    Scene,
    Seed,
    Sky,
    Vector,
    Wall,
    entropy,
)
from training.world.surfaces import N_VARIANTS, OUTDOOR, SKIES, SURFACES
from training.world.toys import Toy, make_prop, with_flame

# Largest side of a toy's box as a share of the frame's side.
PORTRAIT_SIDE = (0.55, 0.85)
WIDE_SIDE = (0.22, 0.45)
WIDE_GROUP_SIDE = (0.20, 0.48)
MARGIN = 0.02  # share of the frame that stays free on each side of the toys
ELEVATIONS = (7.0, 38.0)
LOWEST_CAMERA = 0.15
ATTEMPTS = 200

DRAUGHT = {"boat": 0.06, "duck": 0.10}  # how deep a floating toy sits in the water, metres


@dataclass(frozen=True)
class View:
    """One picture of a turntable.

    Attributes:
        kind: 'turntable', 'elevation', 'relit' or 'occluded'.
        light_id: 0 is the toy's own light, 1 and up are the others.
        scene: what to render.
    """

    kind: Literal["turntable", "elevation", "relit", "occluded"]
    light_id: int
    scene: Scene


def sample_scene(
    seed: Seed,
    toys: Sequence[Toy],
    framing: Framing = "portrait",
    surface: str | None = None,
    occluded: bool | None = None,
) -> Scene:
    """Puts toys into random surroundings.

    Args:
        seed: the same seed gives the same scene.
        toys: one to three toys; a portrait takes one.
        framing: 'portrait' (one toy fills most of the frame) or 'wide'.
        surface: a name from ``SURFACES``; drawn if None.
        occluded: whether a prop stands partly in front of a toy; drawn if None (1 in 5).

    Returns:
        A scene in which every toy lies inside the frame at its framing's size. What hides what is
        known only after rendering: see ``render.draw``.

    Raises:
        ValueError: no toys, more than three, or several in a portrait.
        RuntimeError: no arrangement was found (toys far larger than the others).
    """
    if not 1 <= len(toys) <= (1 if framing == "portrait" else MOST_TOYS):
        raise ValueError(f"a {framing} scene cannot hold {len(toys)} toys")
    for attempt in range(ATTEMPTS):
        scene = _compose(entropy(seed, attempt), toys, framing, surface, occluded)
        if scene is not None:
            return replace(scene, seed=seed)
    raise RuntimeError(f"found no {framing} arrangement of {len(toys)} toys for seed {seed}")


def _compose(
    seed: Seed,
    toys: Sequence[Toy],
    framing: Framing,
    surface: str | None,
    occluded: bool | None,
) -> Scene | None:
    """One try at a scene; None if the toys do not fit the frame as they should."""
    rng = np.random.default_rng(seed)
    surface = surface or SURFACES[rng.integers(len(SURFACES))]
    occluded = bool(rng.random() < 0.2) if occluded is None else occluded
    azimuth, elevation = rng.uniform(0, 360), rng.uniform(*ELEVATIONS)
    placed = [
        _pose(rng, toy, place, azimuth, surface)
        for toy, place in zip(toys, _spots(rng, toys), strict=True)
    ]
    camera = _frame(rng, placed, azimuth, elevation, framing)
    if camera is None:
        return None
    if occluded:
        occluder = _occluder(rng, placed, camera)
        if occluder is None:
            return None
        placed.append(occluder)
    if rng.random() < 0.3:
        placed.append(_decoration(rng, placed, camera))
    return Scene(
        placed=tuple(placed),
        surface=surface,
        camera=camera,
        light=sample_light(rng, azimuth),
        walls=() if surface in OUTDOOR else _walls_behind(rng, placed, camera),
        framing=framing,
        occluded=occluded,
        seed=seed,
        **_surroundings(rng, surface),
    )


def _surroundings(rng: np.random.Generator, surface: str) -> dict:
    """The scene's fields that neither toys nor camera depend on."""
    hills = surface != "water" or rng.random() < 0.4
    return {
        "variant": int(rng.integers(N_VARIANTS[surface])),
        "ground_turn": float(rng.uniform(0, 360)),
        "ground_scale": float(rng.uniform(0.85, 1.15)),
        "wall_paint": int(rng.integers(len(WALL_PAINTS))),
        "sky": Sky(
            palette=int(rng.integers(len(SKIES))),
            cloud_field=int(rng.integers(4)),
            cloud_cover=float(rng.uniform(0.1, 0.9)),
            cloud_shift=(int(rng.integers(512)), int(rng.integers(512))),
            ridges=tuple((int(rng.integers(4)), float(rng.uniform(0, 360))) for _ in range(2))
            if hills
            else (),
        ),
    }


def sample_light(rng: np.random.Generator, azimuth: float) -> Light:
    """A sun behind or beside the camera.

    Args:
        rng: source of the choices.
        azimuth: of the camera, degrees.
    """
    side = rng.choice([-1, 1]) * rng.uniform(25, 110)
    around, above = math.radians(azimuth + side), math.radians(rng.uniform(32, 68))
    warmth = float(rng.uniform(-1, 1))
    sun = np.array([0.62 + 0.05 * warmth, 0.60, 0.58 - 0.06 * warmth]) * rng.uniform(0.92, 1.12)
    ambient = np.array([0.36, 0.37, 0.40]) * rng.uniform(0.92, 1.1)
    return Light(
        sun_direction=(
            math.cos(around) * math.cos(above),
            math.sin(around) * math.cos(above),
            math.sin(above),
        ),
        sun=_vector(sun),
        ambient=_vector(ambient),
        warmth=warmth,
    )


def _vector(values: np.ndarray) -> Vector:
    x, y, z = (float(value) for value in values)
    return x, y, z


def _spots(rng: np.random.Generator, toys: Sequence[Toy]) -> np.ndarray:
    """Places on the ground, (len(toys), 2), close together without touching."""
    if len(toys) == 1:
        return np.zeros((1, 2))
    gap = np.array([[(a.radius + b.radius) * 0.92 + 0.05 for b in toys] for a in toys])
    np.fill_diagonal(gap, 0.0)
    reach = 0.35 + 0.2 * len(toys)
    while True:
        spots = rng.uniform(-reach, reach, (len(toys), 2))
        if (np.linalg.norm(spots[:, None] - spots[None], axis=-1) >= gap).all():
            return spots - spots.mean(axis=0)
        reach *= 1.02  # wide toys need more room than usual


def _pose(
    rng: np.random.Generator, toy: Toy, spot: np.ndarray, azimuth: float, surface: str
) -> Placed:
    """Stands a toy on the ground, mostly showing face or side, or lets it float or fly."""
    yaw = rng.uniform(0, 360)
    if rng.random() < 0.65:
        yaw = azimuth + rng.choice([-1, 1]) * rng.uniform(10, 80)
    height = pitch = roll = 0.0
    outdoor = surface in OUTDOOR
    if toy.flies and outdoor and rng.random() < 0.6:
        height, roll, pitch = rng.uniform(0.25, 0.6), rng.uniform(-14, 14), rng.uniform(-14, 8)
    elif toy.floats and surface == "water":
        height = -DRAUGHT[toy.class_name]
    elif toy.launches and outdoor and rng.random() < 0.35:
        toy, height = with_flame(toy), rng.uniform(0.3, 0.5)
    position = (float(spot[0]), float(spot[1]), float(height))
    return Placed(toy, position, float(yaw % 360), float(pitch), float(roll))


def _box(camera: Camera, item: Placed) -> np.ndarray:
    """The box of an object in the frame, (4,): left, top, right, bottom as shares of its side."""
    pixels = camera.project(item.points)[:, :2] / FRAME
    return np.concatenate([pixels.min(axis=0), pixels.max(axis=0)])


def _frame(
    rng: np.random.Generator,
    placed: Sequence[Placed],
    azimuth: float,
    elevation: float,
    framing: Framing,
) -> Camera | None:
    """The camera that shows the toys at their framing's size; None if there is none."""
    together = len(placed) > 1
    if framing == "portrait":
        low, high = PORTRAIT_SIDE
        target = rng.uniform(low, high)
    elif together:
        (low, high), target = WIDE_GROUP_SIDE, rng.uniform(0.62, 0.88)
    else:
        low, high = WIDE_SIDE
        target = rng.uniform(low, high)
    shift = np.array([rng.uniform(-0.6, 0.6), rng.uniform(-0.25, 0.5)])
    points = np.concatenate([item.points for item in placed])
    camera = Camera(azimuth, elevation, 6.0, _vector((points.min(0) + points.max(0)) / 2))
    for _ in range(8):
        pixels = camera.project(points)[:, :2] / FRAME
        start, end = pixels.min(axis=0), pixels.max(axis=0)
        size = end - start
        miss = (start + end) / 2 - (0.5 + shift * (1 - 2 * MARGIN - size) / 2)
        width = 2 * camera.distance * math.tan(math.radians(camera.fovy) / 2)
        lookat = np.array(camera.lookat) + camera.axes()[:, :2] @ (miss * width)
        distance = camera.distance * float(size.max()) / target
        camera = replace(camera, distance=distance, lookat=_vector(lookat))
    boxes = np.stack([_box(camera, item) for item in placed])
    sides = (boxes[:, 2:] - boxes[:, :2]).max(axis=1)
    inside = boxes[:, :2].min() >= 0.5 * MARGIN and boxes[:, 2:].max() <= 1 - 0.5 * MARGIN
    sized = low - 0.01 <= sides.min() and sides.max() <= high + 0.01
    return camera if inside and sized and camera.position()[2] >= LOWEST_CAMERA else None


def _towards(azimuth: float) -> np.ndarray:
    """The unit ground vector, (2,), in a direction given in degrees."""
    return np.array([math.cos(math.radians(azimuth)), math.sin(math.radians(azimuth))])


def _clear(item: Placed, placed: Sequence[Placed]) -> bool:
    """Whether the footprint of an object touches no other's."""
    return all(
        math.dist(item.position[:2], other.position[:2]) > item.toy.radius + other.toy.radius
        for other in placed
    )


def _stand(rng: np.random.Generator, prop: Toy, spot: np.ndarray) -> Placed:
    """A prop on the ground, turned anyhow."""
    yaw = float(rng.uniform(0, 360))
    return Placed(prop, (float(spot[0]), float(spot[1]), 0.0), yaw, role="prop")


def _enlarged(prop: Toy, factor: float) -> Toy:
    """A prop of another size: as they are, they hide little of a tall toy."""
    parts = tuple(replace(part, mesh=part.mesh.scaled(factor)) for part in prop.parts)
    return replace(prop, parts=parts, radius=prop.radius * factor, height=prop.height * factor)


def _occluder(rng: np.random.Generator, placed: Sequence[Placed], camera: Camera) -> Placed | None:
    """A prop between the camera and one toy whose box covers a part of the toy's box."""
    target = placed[int(rng.integers(len(placed)))]
    left, top, right, bottom = _box(camera, target)
    to_camera = _towards(camera.azimuth)
    sideways = np.array([-to_camera[1], to_camera[0]])
    middle = np.array(target.position[:2])
    ahead, aside = np.stack([to_camera, sideways]) @ (target.points[:, :2] - middle).T
    others = [item for item in placed if item is not target]
    for _ in range(12):
        prop = _enlarged(make_prop(rng), rng.uniform(1.0, 1.7))
        shift = rng.uniform(aside.min(), aside.max())
        # As near as the toy's own outline allows: a low prop far in front hides nothing.
        reach = ahead[np.abs(aside - shift) < prop.radius].max(initial=0.0)
        reach += prop.radius + rng.uniform(0.02, 0.25)
        spot = middle + reach * to_camera + shift * sideways
        item = _stand(rng, prop, spot)
        if not _clear(item, others) or camera.project(item.points)[:, 2].min() < 0.4:
            continue
        box = _box(camera, item)
        overlap = max(0.0, min(right, box[2]) - max(left, box[0])) * max(
            0.0, min(bottom, box[3]) - max(top, box[1])
        )
        if 0.12 <= overlap / ((right - left) * (bottom - top)) <= 0.5:
            return item
    return None


def _decoration(rng: np.random.Generator, placed: Sequence[Placed], camera: Camera) -> Placed:
    """A prop behind or beside the toys, as seen from the camera."""
    away = -_towards(camera.azimuth)
    sideways = np.array([-away[1], away[0]])
    reach = max(math.hypot(*item.position[:2]) + item.toy.radius for item in placed)
    while True:
        prop = make_prop(rng)
        spot = away * rng.uniform(0.1, 0.9) * reach + sideways * rng.choice([-1, 1]) * (
            rng.uniform(0.6, 1.5) * reach
        )
        item = _stand(rng, prop, spot)
        if _clear(item, placed):
            return item
        reach *= 1.05


def _walls_behind(
    rng: np.random.Generator, placed: Sequence[Placed], camera: Camera
) -> tuple[Wall, ...]:
    """One wall across the view, or two that meet in a corner, beyond everything placed."""
    reach = max(math.hypot(*item.position[:2]) + item.toy.radius for item in placed)
    distance = reach + rng.uniform(0.7, 1.9)
    slant = rng.uniform(-28, 28)
    front = Wall(float(camera.azimuth + 180 + slant), float(distance))
    if rng.random() < 0.5:
        return (front,)
    # The second wall closes the side on which the first one runs away from the camera.
    return front, Wall(front.azimuth + (90 if slant < 0 else -90), float(0.95 * distance))


def with_occluder(seed: Seed, scene: Scene) -> Scene | None:
    """The scene with one more prop, between the camera and a toy; None if this seed finds none."""
    occluder = _occluder(np.random.default_rng(entropy(seed)), scene.toys, scene.camera)
    if occluder is None:
        return None
    return replace(scene, placed=(*scene.placed, occluder), occluded=True)


def turntable(toy: Toy, seed: Seed, surface: str | None = None) -> Iterator[View]:
    """The 40 views of one toy in one place.

    Only camera, light or an occluder changes between them, so points of toy and ground
    correspond exactly.

    Args:
        toy: stands at the origin, facing +x.
        seed: of surface, light and sky.
        surface: a name from ``SURFACES``; drawn if None.

    Yields:
        24 azimuths 15 degrees apart at elevation 20 ('turntable'), 4 at elevation 8 and 4 at 38
        ('elevation'), then 4 of the turntable's cameras again, under 4 other lights ('relit') and
        for a prop in front ('occluded'; ``render.draw_occluded`` puts it there).
    """
    rng = np.random.default_rng(entropy(seed))
    surface = surface or SURFACES[rng.integers(len(SURFACES))]
    depth = DRAUGHT[toy.class_name] if toy.floats and surface == "water" else 0.0
    item = Placed(toy, (0.0, 0.0, -depth))
    distance = _turntable_distance(item)
    room = distance + 0.9
    scene = Scene(
        placed=(item,),
        surface=surface,
        camera=Camera(0.0, 20.0, distance, (0.0, 0.0, 0.5 * toy.height - depth)),
        light=sample_light(rng, float(rng.uniform(0, 360))),
        walls=()
        if surface in OUTDOOR
        else tuple(Wall(float(a), room) for a in rng.uniform(0, 90) + np.arange(0, 360, 90)),
        framing="portrait",
        occluded=False,
        seed=seed,
        **_surroundings(rng, surface),
    )

    def seen_from(azimuth: float, elevation: float) -> Scene:
        return replace(scene, camera=replace(scene.camera, azimuth=azimuth, elevation=elevation))

    for azimuth in range(0, 360, 15):
        yield View("turntable", 0, seen_from(float(azimuth), 20.0))
    for elevation in (8.0, 38.0):
        for azimuth in range(45, 360, 90):
            yield View("elevation", 0, seen_from(float(azimuth), elevation))
    for number, azimuth in enumerate(range(30, 360, 90), start=1):
        view = seen_from(float(azimuth), 20.0)
        yield View("relit", number, replace(view, light=sample_light(rng, azimuth)))
    for azimuth in range(30, 360, 90):
        yield View("occluded", 0, seen_from(float(azimuth), 20.0))


def _turntable_distance(item: Placed) -> float:
    """How far the camera stays so that a margin of 0.14 of the frame's side is always free."""
    distance = 4.0
    for _ in range(6):
        boxes = [
            _box(Camera(a, e, distance, (0.0, 0.0, item.toy.height / 2 + item.position[2])), item)
            for a in range(0, 360, 45)
            for e in (8.0, 20.0, 38.0)
        ]
        distance *= float(np.abs(np.array(boxes) - 0.5).max()) / (0.5 - 0.14)
    return distance

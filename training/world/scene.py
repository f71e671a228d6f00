"""What a picture shows: placed toys and props, ground, light, sky or walls, and the camera.

The world's axes are x, y on the ground and z up, in metres; angles are degrees. A toy at yaw 0
faces +x.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np

from training.world.meshes import rotation_matrix
from training.world.surfaces import OUTDOOR
from training.world.toys import Toy

FRAME = 224  # side of a picture in pixels
MOST_TOYS = 3
FOVY = 38.0

Framing = Literal["portrait", "wide"]
Seed = int | tuple[int, ...]
Vector = tuple[float, float, float]

WALL_PAINTS = (
    (0.86, 0.83, 0.76),
    (0.72, 0.80, 0.84),
    (0.80, 0.72, 0.70),
    (0.74, 0.80, 0.70),
    (0.90, 0.88, 0.86),
    (0.55, 0.62, 0.72),
)


@dataclass(frozen=True)
class Camera:
    """A pinhole camera that looks at a point; square pixels, ``FRAME`` x ``FRAME`` of them.

    Attributes:
        azimuth: direction from ``lookat`` to the camera around z, degrees; 0 is +x.
        elevation: the same direction above the ground, degrees.
        distance: from ``lookat`` to the camera, metres.
        lookat: the world point in the middle of the picture, metres.
        fovy: full vertical (and horizontal) angle of view, degrees.
    """

    azimuth: float
    elevation: float
    distance: float
    lookat: Vector
    fovy: float = FOVY

    def axes(self) -> np.ndarray:
        """The camera's axes in the world, (3, 3) float64: columns right, down, forward."""
        azimuth, elevation = math.radians(self.azimuth), math.radians(self.elevation)
        cos_a, sin_a = math.cos(azimuth), math.sin(azimuth)
        cos_e, sin_e = math.cos(elevation), math.sin(elevation)
        return np.array(
            [
                [-sin_a, cos_a * sin_e, -cos_a * cos_e],
                [cos_a, sin_a * sin_e, -sin_a * cos_e],
                [0.0, -cos_e, -sin_e],
            ]
        )

    def position(self) -> np.ndarray:
        """The camera's place in the world, (3,) float64, metres."""
        return np.array(self.lookat) - self.distance * self.axes()[:, 2]

    def intrinsics(self) -> np.ndarray:
        """K, (3, 3) float64, of ``FRAME`` x ``FRAME`` pixels with centres at integer + 0.5."""
        focal = 0.5 * FRAME / math.tan(math.radians(self.fovy) / 2)
        return np.array([[focal, 0, FRAME / 2], [0, focal, FRAME / 2], [0, 0, 1.0]])

    def world_from_camera(self) -> np.ndarray:
        """Pose, (4, 4) float64, from camera (OpenCV: x right, y down, z forward) to world."""
        pose = np.eye(4)
        pose[:3, :3] = self.axes()
        pose[:3, 3] = self.position()
        return pose

    def project(self, points: np.ndarray) -> np.ndarray:
        """World points in the picture.

        Args:
            points: (N, 3) metres, in front of the camera.

        Returns:
            (N, 3) float64: u and v in pixels, and z, the depth along the view axis in metres.
        """
        local = (points - self.position()) @ self.axes()
        pixels = local @ self.intrinsics().T
        return np.column_stack([pixels[:, :2] / local[:, 2:], local[:, 2]])


@dataclass(frozen=True)
class Placed:
    """A toy or prop standing (or flying) somewhere.

    Attributes:
        toy: what it is.
        position: where its origin (middle of its foot) is, metres.
        yaw: turn around z, degrees; ``pitch`` (around y) and ``roll`` (around x) come first.
        pitch: degrees.
        roll: degrees.
        role: 'toy' for what the picture is about, 'prop' for decoration and occluders.
    """

    toy: Toy
    position: Vector
    yaw: float = 0.0
    pitch: float = 0.0
    roll: float = 0.0
    role: Literal["toy", "prop"] = "toy"

    def to_world(self, points: np.ndarray) -> np.ndarray:
        """The toy's own points, (N, 3), as world points, (N, 3) float64."""
        turn = rotation_matrix(self.roll, self.pitch, self.yaw)
        return points @ turn.T + np.array(self.position)

    @cached_property
    def points(self) -> np.ndarray:
        """All its vertices in the world, (V, 3) float64."""
        return self.to_world(np.concatenate([part.mesh.vertices for part in self.toy.parts]))


@dataclass(frozen=True)
class Light:
    """A sun with a weak sky around it.

    Attributes:
        sun_direction: unit vector from the ground towards the sun.
        sun: the sun's colour, RGB.
        ambient: the surroundings' colour, RGB.
        warmth: -1 (cool) to 1 (warm) tint of the whole picture.
    """

    sun_direction: Vector
    sun: Vector
    ambient: Vector
    warmth: float


@dataclass(frozen=True)
class Sky:
    """The view beyond the ground of an outdoor scene.

    Attributes:
        palette: which of ``SKIES``.
        cloud_field: which cloud noise.
        cloud_cover: 0 (clear) to 1 (overcast).
        cloud_shift: where in the noise, two texels.
        ridges: (profile, rotation in degrees) of each chain of hills, far to near; may be empty.
    """

    palette: int
    cloud_field: int
    cloud_cover: float
    cloud_shift: tuple[int, int]
    ridges: tuple[tuple[int, float], ...]


@dataclass(frozen=True)
class Wall:
    """A wall that faces the origin, ``distance`` metres away in direction ``azimuth`` (degrees)."""

    azimuth: float
    distance: float


@dataclass(frozen=True)
class Scene:
    """Everything that a picture depends on.

    Attributes:
        placed: the toys first (1 to 3), then the props.
        surface: a name from ``SURFACES``.
        variant: which texture of that surface.
        ground_turn: rotation of the texture, degrees.
        ground_scale: factor on the texture's repeats per metre.
        light: sun and ambient light.
        camera: the view.
        walls: none outdoors.
        wall_paint: which of ``WALL_PAINTS``.
        sky: seen where there is neither ground nor wall.
        framing: 'portrait' or 'wide'.
        occluded: whether a prop was put in front of a toy on purpose.
        seed: what it was sampled from.
    """

    placed: tuple[Placed, ...]
    surface: str
    variant: int
    ground_turn: float
    ground_scale: float
    light: Light
    camera: Camera
    walls: tuple[Wall, ...]
    wall_paint: int
    sky: Sky
    framing: Framing
    occluded: bool
    seed: Seed

    @property
    def toys(self) -> tuple[Placed, ...]:
        """The placed toys, in the order of their instance numbers 1, 2, ..."""
        return tuple(item for item in self.placed if item.role == "toy")

    @property
    def indoor(self) -> bool:
        """Whether there are walls instead of a sky."""
        return self.surface not in OUTDOOR


def entropy(seed: Seed, *more: int) -> tuple[int, ...]:
    """The seed and further numbers as one key for ``np.random.default_rng``."""
    return (*(seed if isinstance(seed, tuple) else (seed,)), *more)

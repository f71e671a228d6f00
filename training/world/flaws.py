"""Flaws of things on an inspection line: parts lost, moved or repainted, dents, and marks.

A flaw of shape is a changed toy. A mark (crack, scratch, stain, knot) is a change of colour at some
points of a surface: `cover` says how much each point has of it, `tint` by what its colour is
multiplied there. Points are in the toy's metres or in texels of a surface, so a mark lies on the
thing whatever the camera does.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace

import numpy as np

from training.world.colours import Colour, tidy
from training.world.meshes import Mesh, rotation_matrix
from training.world.toys import Part, Toy


@dataclass(frozen=True)
class Mark:
    """A change of colour.

    Attributes:
        cover: (H, W) in [0, 1].
        tint: (3,) or (H, W, 3), what the colour is multiplied by where the cover is 1.
    """

    cover: np.ndarray
    tint: np.ndarray

    def on(self, colour: np.ndarray) -> np.ndarray:
        """The colours (H, W, 3) with the mark on them."""
        return colour * (1 + self.cover[..., None] * (self.tint - 1))


@dataclass(frozen=True)
class Spot:
    """A place on a surface.

    Attributes:
        centre: (3,) in the coordinates of the marks.
        normal: (3,) unit vector out of the surface.
    """

    centre: np.ndarray
    normal: np.ndarray

    def along(self, points: np.ndarray, angle: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Coordinates of points (..., 3) at the spot: along a direction, across it, and outwards.

        Args:
            points: where.
            angle: of the direction in the surface, radians.
        """
        helper = np.array([0.0, 0.0, 1.0]) if abs(self.normal[2]) < 0.9 else np.array([1.0, 0, 0])
        first = np.cross(helper, self.normal)
        first /= np.linalg.norm(first)
        second = np.cross(self.normal, first)
        ahead = np.cos(angle) * first + np.sin(angle) * second
        aside = np.cross(self.normal, ahead)
        offset = points - self.centre
        return offset @ ahead, offset @ aside, offset @ self.normal


def without(toy: Toy, lost: Collection[int]) -> Toy:
    """The toy without the parts of these numbers."""
    return replace(toy, parts=tuple(p for i, p in enumerate(toy.parts) if i not in lost))


def moved(
    toy: Toy,
    group: Collection[int],
    turn: tuple[float, float, float] = (0, 0, 0),
    pivot: tuple[float, float, float] = (0, 0, 0),
    offset: tuple[float, float, float] = (0, 0, 0),
) -> Toy:
    """The toy with some parts turned about a point, by degrees about x, y and z, and shifted."""
    matrix = rotation_matrix(*turn)

    def move(part: Part) -> Part:
        vertices = (part.mesh.vertices - pivot) @ matrix.T + pivot + offset
        return replace(part, mesh=Mesh(vertices, part.mesh.faces))

    parts = tuple(move(p) if i in group else p for i, p in enumerate(toy.parts))
    return replace(toy, parts=parts)


def repainted(toy: Toy, group: Collection[int], colour: Colour, amount: float) -> Toy:
    """The toy with the colour of some parts mixed with another one: ``amount`` 1 replaces it."""

    def paint(part: Part) -> Part:
        return replace(part, colour=tidy(np.array(part.colour) * (1 - amount) + amount * mixed))

    mixed = np.array(colour)
    parts = tuple(paint(p) if i in group else p for i, p in enumerate(toy.parts))
    return replace(toy, parts=parts)


def dented(toy: Toy, part: int, spot: Spot, radius: float, depth: float) -> Toy:
    """The toy with one part pushed in around a spot, deepest in the middle."""
    mesh = toy.parts[part].mesh
    distance = np.linalg.norm(mesh.vertices - spot.centre, axis=1) / radius
    push = depth * np.exp(-(distance**2) * 2)[:, None] * spot.normal
    parts = list(toy.parts)
    parts[part] = replace(parts[part], mesh=Mesh(mesh.vertices - push, mesh.faces))
    return replace(toy, parts=tuple(parts))


def refined(mesh: Mesh, longest: float) -> Mesh:
    """The mesh with every edge split until none is longer than ``longest``.

    Neighbouring faces share the new vertices, so the surface stays closed and smooth.
    """
    vertices, faces = mesh.vertices, mesh.faces
    while True:
        edges = np.sort(faces[:, [[0, 1], [1, 2], [2, 0]]], axis=-1)  # (F, 3, 2)
        length = np.linalg.norm(vertices[edges[..., 0]] - vertices[edges[..., 1]], axis=-1)
        # A face is halved at its longest edge if that is too long; so is its neighbour there.
        chosen = edges[np.arange(len(faces)), length.argmax(axis=1)][length.max(axis=1) > longest]
        if not len(chosen):
            return Mesh(vertices, faces)
        chosen = np.unique(chosen, axis=0)
        middle = {(a, b): i for i, (a, b) in enumerate(chosen.tolist(), start=len(vertices))}
        vertices = np.vstack([vertices, vertices[chosen].mean(axis=1)])
        faces = np.array([piece for face in faces.tolist() for piece in _split(face, middle)])


def _split(face: list[int], middle: dict[tuple[int, int], int]) -> list[list[int]]:
    """A face cut at those of its edges that have a middle."""
    for turn in range(3):
        a, b, c = face[turn], face[(turn + 1) % 3], face[(turn + 2) % 3]
        half = middle.get((min(a, b), max(a, b)))
        if half is not None:
            return [*_split([half, b, c], middle), *_split([half, c, a], middle)]
    return [face]


def inflated(mesh: Mesh, roundness: float) -> Mesh:
    """The vertices of a refined superellipsoid put back on its surface, not on its old facets."""
    low, high = mesh.vertices.min(axis=0), mesh.vertices.max(axis=0)
    middle, half = (low + high) / 2, (high - low) / 2
    x, y, z = (np.abs((mesh.vertices - middle) / half) ** (2 / roundness)).T
    return Mesh(
        (mesh.vertices - middle) / ((x + y + z) ** (roundness / 2))[:, None] + middle, mesh.faces
    )


def wobble(rng: np.random.Generator, t: np.ndarray, octaves: int = 4) -> np.ndarray:
    """A smooth random function of t, deviation about 1, which varies over lengths of 1 to 2^-n."""
    waves = 2.0 ** np.arange(octaves)
    phase = rng.uniform(0, 2 * np.pi, octaves)
    weight = rng.normal(size=octaves) / waves**1.05
    return np.tensordot(weight, np.sin(np.multiply.outer(2 * np.pi * waves, t).T + phase).T, 1)


def _soft(inside: np.ndarray, edge: float) -> np.ndarray:
    """1 where ``inside`` exceeds ``edge``, 0 below ``-edge``, linear between."""
    return np.clip(0.5 + inside / (2 * edge), 0, 1)


def stain(
    rng: np.random.Generator,
    points: np.ndarray,
    spot: Spot,
    radius: float,
    tint: np.ndarray,
    blur: float = 0.2,
) -> Mark:
    """A drop that dried: an uneven blob with a stronger rim.

    Args:
        rng: of its outline.
        points: (H, W, 3).
        spot: its middle.
        radius: its mean size, in units of the points, as are all lengths.
        tint: (3,).
        blur: width of its edge over its radius.
    """
    x, y, out = spot.along(points, rng.uniform(0, 2 * np.pi))
    y = y * rng.uniform(1.0, 1.6)
    outline = 1 + 0.16 * wobble(rng, np.arctan2(y, x) / (2 * np.pi), 3)
    inside = outline - np.hypot(x, y) / radius
    rim = 0.72 + 0.28 * np.exp(-((inside / 0.15) ** 2))
    return Mark(_soft(inside, blur) * rim * (np.abs(out) < 0.7 * radius), tint)


def line(
    rng: np.random.Generator,
    points: np.ndarray,
    spot: Spot,
    size: tuple[float, float],
    tint: np.ndarray,
    jagged: float,
    angle: float | None = None,
    pixel: float = 1.0,
) -> Mark:
    """A scratch, or with ``jagged`` a crack, that grows thin towards its ends.

    Args:
        rng: of its course.
        points: (H, W, 3).
        spot: its middle.
        size: its length and width.
        tint: (3,).
        jagged: how far it strays from a straight line, over its length.
        angle: of its direction in the surface, radians; drawn if None.
        pixel: the side of a picture's pixel there.
    """
    length, width = size
    angle = rng.uniform(0, np.pi) if angle is None else angle
    x, y, out = spot.along(points, angle)
    t = x / length
    course = length * (jagged * wobble(rng, t + 0.5, 5) + rng.normal(0, 0.1) * t**2)
    taper = np.sqrt(np.clip(1 - (2 * t) ** 2, 0, 1))
    inside = width / 2 * taper - np.abs(y - course)
    # A line thinner than a pixel covers a part of it.
    cover = np.clip(0.5 + inside / pixel, 0, 1) * (taper > 0)
    return Mark(cover * (np.abs(out) < 0.4 * length), tint)


def knot(
    rng: np.random.Generator, points: np.ndarray, spot: Spot, radius: float, strength: float
) -> Mark:
    """Where a branch left the wood: rings around a dark core, longer along the grain (x)."""
    x, y = (points[..., i] - spot.centre[i] for i in (0, 1))
    distance = np.hypot(x / rng.uniform(1.2, 1.8), y) / radius
    distance = distance * (1 + 0.06 * wobble(rng, np.arctan2(y, x) / (2 * np.pi), 2))
    rings = 0.65 + 0.35 * np.cos(2 * np.pi * rng.uniform(1.5, 3) * distance)
    cover = np.clip(1.15 - distance, 0, 1) ** 0.6 * rings
    return Mark(strength * np.clip(cover, 0, 1), np.array([0.42, 0.33, 0.28]))

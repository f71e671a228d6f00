"""Triangle meshes: the primitives that toys are built from.

Every primitive is closed and its faces are wound counter-clockwise seen from outside, because the
renderer culls and lights by winding. Angles are in degrees, lengths in world units.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

Vector = Sequence[float] | np.ndarray


def rotation_matrix(x: float = 0.0, y: float = 0.0, z: float = 0.0) -> np.ndarray:
    """The (3, 3) rotation about x, then y, then z, by degrees, all axes fixed."""
    (cx, cy, cz), (sx, sy, sz) = np.cos(np.radians([x, y, z])), np.sin(np.radians([x, y, z]))
    about_x = np.array([[1, 0, 0], [0, cx, -sx], [0, sx, cx]])
    about_y = np.array([[cy, 0, sy], [0, 1, 0], [-sy, 0, cy]])
    about_z = np.array([[cz, -sz, 0], [sz, cz, 0], [0, 0, 1]])
    return about_z @ about_y @ about_x


@dataclass(frozen=True)
class Mesh:
    """A closed triangle mesh.

    Attributes:
        vertices: (V, 3) float64.
        faces: (F, 3) int64, rows of vertex indices, counter-clockwise seen from outside.
    """

    vertices: np.ndarray
    faces: np.ndarray

    def scaled(self, factors: float | Vector) -> Mesh:
        """The mesh scaled about the origin, by one factor or one per axis; negative ones mirror."""
        factors = np.broadcast_to(np.asarray(factors, float), 3)
        faces = self.faces if np.prod(factors) > 0 else self.faces[:, ::-1]
        return Mesh(self.vertices * factors, faces)

    def rotated(self, x: float = 0.0, y: float = 0.0, z: float = 0.0) -> Mesh:
        """The mesh rotated about the origin: about x, then y, then z, in degrees."""
        return Mesh(self.vertices @ rotation_matrix(x, y, z).T, self.faces)

    def moved(self, offset: Vector) -> Mesh:
        """The mesh moved by ``offset`` (3,)."""
        return Mesh(self.vertices + np.asarray(offset, float), self.faces)

    def faceted(self) -> Mesh:
        """The mesh with no vertex shared between faces, so that every edge renders sharp."""
        return Mesh(
            self.vertices[self.faces].reshape(-1, 3), np.arange(self.faces.size).reshape(-1, 3)
        )


def loft(rings: np.ndarray | Sequence[np.ndarray], closed: bool = False) -> Mesh:
    """Skins a row of rings and caps both ends.

    A ring may collapse to a point, which becomes one vertex.

    Args:
        rings: (M, N, 3): M rings of N points, counter-clockwise about the direction of travel.
        closed: join the last ring to the first instead of capping the ends.
    """
    rings = np.asarray(rings, float)
    n_rings, n_points, _ = rings.shape
    index = np.arange(n_rings * n_points).reshape(n_rings, n_points)
    is_point = np.ptp(rings, axis=1).max(axis=1) < 1e-9
    index[is_point] = index[is_point, :1]
    if closed:
        index = np.concatenate([index, index[:1]])
    here, ahead = index[:-1], index[1:]
    here_next, ahead_next = np.roll(here, -1, axis=1), np.roll(ahead, -1, axis=1)
    triangles = [
        np.stack([here, here_next, ahead_next], axis=-1),
        np.stack([here, ahead_next, ahead], axis=-1),
    ]
    faces = np.concatenate([t.reshape(-1, 3) for t in triangles])
    vertices = rings.reshape(-1, 3)
    if not closed:
        for ring, order in ((0, -1), (n_rings - 1, 1)):
            if is_point[ring]:
                continue
            # The cap has its own rim: shared vertices would round the edge's shading.
            rim = np.arange(n_points) + len(vertices)
            centre = np.full(n_points, len(vertices) + n_points)
            cap = np.stack([centre, rim, np.roll(rim, -1)], axis=-1)[:, ::order]
            vertices = np.vstack([vertices, rings[ring], rings[ring].mean(axis=0)])
            faces = np.vstack([faces, cap])
    corner_a, corner_b, corner_c = faces.T
    proper = (corner_a != corner_b) & (corner_b != corner_c) & (corner_c != corner_a)
    used, compact = np.unique(faces[proper], return_inverse=True)
    return Mesh(vertices[used], compact.reshape(-1, 3))


def revolve(
    profile: Sequence[tuple[float, float]], segments: int = 24, closed: bool = False
) -> Mesh:
    """Turns a profile about z.

    Args:
        profile: (radius, z) points, upwards on an outer wall, downwards on an inner one.
        segments: points around a ring.
        closed: join the last point to the first, which leaves a hole along the axis, instead of
            capping both ends.
    """
    radius, height = np.asarray(profile, float).T
    angle = np.linspace(0.0, 2.0 * np.pi, segments, endpoint=False)
    rings = np.stack(
        [
            radius[:, None] * np.cos(angle),
            radius[:, None] * np.sin(angle),
            np.repeat(height[:, None], segments, axis=1),
        ],
        axis=-1,
    )
    return loft(rings, closed)


@functools.cache
def superellipsoid(roundness: float = 1.0, segments: int = 24, rings: int = 13) -> Mesh:
    """A superellipsoid filling [-1, 1] in x, y and z (Barr 1981).

    Args:
        roundness: the exponent: 1 is a sphere, towards 0 a box with rounded edges.
        segments: points around a ring.
        rings: rings from pole to pole, the poles included.
    """

    def power(value: np.ndarray) -> np.ndarray:
        return np.sign(value) * np.abs(value) ** roundness

    latitude = np.linspace(-np.pi / 2, np.pi / 2, rings)[:, None]
    longitude = np.linspace(0.0, 2.0 * np.pi, segments, endpoint=False)
    girth = np.cos(latitude).clip(min=0.0) ** roundness
    girth[[0, -1]] = 0.0
    points = np.stack(
        np.broadcast_arrays(
            girth * power(np.cos(longitude)),
            girth * power(np.sin(longitude)),
            power(np.sin(latitude)),
        ),
        axis=-1,
    )
    return loft(points)


def sphere(segments: int = 24, rings: int = 13) -> Mesh:
    """The unit sphere."""
    return superellipsoid(1.0, segments, rings)


def cylinder(segments: int = 24) -> Mesh:
    """A cylinder about z of radius 1, from z = -1 to 1."""
    return revolve([(1, -1), (1, 1)], segments)


def cone(segments: int = 20) -> Mesh:
    """A cone about z with base radius 1 at z = 0 and its tip at z = 1."""
    return revolve([(1, 0), (0, 1)], segments)


def dome(segments: int = 24, rings: int = 8) -> Mesh:
    """The upper half of the unit sphere, closed below."""
    angle = np.linspace(0.0, np.pi / 2, rings)
    radius = np.cos(angle)
    radius[-1] = 0.0
    return revolve(list(zip(radius, np.sin(angle), strict=True)), segments)


def torus(thickness: float = 0.25, segments: int = 28, sides: int = 10) -> Mesh:
    """A ring about z of radius 1; ``thickness`` is the radius of its tube."""
    around = np.linspace(0.0, 2.0 * np.pi, segments, endpoint=False)[:, None]
    across = np.linspace(0.0, 2.0 * np.pi, sides, endpoint=False)
    distance = 1.0 + thickness * np.cos(across)
    # Travel runs towards +y at angle 0, so a ring must turn from z to x to be counter-clockwise.
    points = np.stack(
        np.broadcast_arrays(
            distance * np.cos(around), distance * np.sin(around), -thickness * np.sin(across)
        ),
        axis=-1,
    )
    return loft(points, closed=True)


def extrude(outline: Sequence[tuple[float, float]], half_width: float = 1.0) -> Mesh:
    """Gives a flat outline thickness along y; all edges are sharp.

    Args:
        outline: (x, z) points in either order, star-shaped about their mean.
        half_width: the solid spans y in [-half_width, half_width].
    """
    x, z = np.asarray(outline, float).T
    signed_area = np.sum(x * np.roll(z, -1) - np.roll(x, -1) * z)
    if signed_area > 0:
        # Seen along +y, x and z turn clockwise: a positive outline must be reversed.
        x, z = x[::-1], z[::-1]
    rings = [np.stack([x, np.full_like(x, y), z], axis=-1) for y in (-half_width, half_width)]
    return loft(rings).faceted()


def box() -> Mesh:
    """The cube [-1, 1]^3."""
    return extrude([(-1, -1), (1, -1), (1, 1), (-1, 1)])


def _frame(direction: np.ndarray) -> np.ndarray:
    """Two unit vectors (2, 3) that with ``direction`` make a right-handed frame."""
    helper = np.array([0.0, 0.0, 1.0]) if abs(direction[2]) < 0.99 else np.array([0.0, 1.0, 0.0])
    first = np.cross(helper, direction)
    first /= np.linalg.norm(first)
    return np.stack([first, np.cross(direction, first)])


def capsule(
    start: Vector, end: Vector, start_radius: float, end_radius: float, segments: int = 14
) -> Mesh:
    """A limb from ``start`` to ``end`` (3,) that tapers between two radii, with round ends."""
    start, end = np.asarray(start, float), np.asarray(end, float)
    length = float(np.linalg.norm(end - start))
    direction = (end - start) / length
    quarter = np.linspace(0.0, np.pi / 2, 5)
    cosine, sine = np.cos(quarter), np.sin(quarter)
    cosine[-1] = 0.0
    profile = [
        *zip(start_radius * cosine[::-1], -start_radius * sine[::-1], strict=True),
        *zip(end_radius * cosine, length + end_radius * sine, strict=True),
    ]
    upright = revolve(profile, segments)
    axes = np.vstack([_frame(direction), direction])
    return Mesh(upright.vertices @ axes + start, upright.faces)


def tube(path: np.ndarray, radius: float | np.ndarray, sides: int = 10) -> Mesh:
    """A tube along a smooth path, with flat ends.

    Args:
        path: (M, 3) points.
        radius: of the tube, one or one per point.
        sides: points around a ring.
    """
    path = np.asarray(path, float)
    radii = np.broadcast_to(np.asarray(radius, float), len(path))
    tangents = np.gradient(path, axis=0)
    tangents /= np.linalg.norm(tangents, axis=1, keepdims=True)
    angle = np.linspace(0.0, 2.0 * np.pi, sides, endpoint=False)[:, None]
    first = _frame(tangents[0])[0]
    rings = []
    for point, tangent, ring_radius in zip(path, tangents, radii, strict=True):
        # The first axis is carried along and made square to the path, so that rings do not twist.
        first = first - tangent * (first @ tangent)
        first /= np.linalg.norm(first)
        second = np.cross(tangent, first)
        rings.append(point + ring_radius * (np.cos(angle) * first + np.sin(angle) * second))
    return loft(rings)

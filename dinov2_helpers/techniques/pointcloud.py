"""Cameras, and pictures with depth as points in space, written as PLY.

Pixel coordinates are (x, y) with the centre of the top left pixel at (0.5, 0.5); cameras follow
OpenCV: x right, y down, z forward, along which depth is measured.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..pictures.decode import open_image
from ..pictures.files import local_path
from ..samples import unproject
from ..writing import home_path, write_whole

_EXIF, _FOCAL_35 = 0x8769, 0xA405  # block of the camera's settings; its FocalLengthIn35mmFilm
_DIAGONAL_35 = float(np.hypot(36, 24))  # mm of a frame of 35 mm film


@dataclass(frozen=True, eq=False)
class Camera:
    """A pinhole camera.

    Args:
        intrinsics: (3, 3), in pixels of the picture.
        world_from_camera: (4, 4) pose. None: the camera is the origin.

    Example:
        >>> camera = Camera.of_focal(325, (224, 224))
        >>> camera.focal, float(camera.intrinsics[0, 2])
        (325.0, 112.0)
    """

    intrinsics: NDArray[np.float64]
    world_from_camera: NDArray[np.float64] = field(default_factory=lambda: np.eye(4))

    @classmethod
    def of_focal(cls, focal: float, size: tuple[int, int]) -> "Camera":
        """Return one with square pixels that looks through the middle of the picture.

        Args:
            focal: Focal length in pixels.
            size: (width, height) of the picture.

        Raises:
            ValueError: A focal length that is not above 0.
        """
        if not (np.isfinite(focal) and focal > 0):
            raise ValueError(f"focal={focal}: a focal length in pixels is above 0")
        width, height = size
        matrix = [[focal, 0, width / 2], [0, focal, height / 2], [0, 0, 1]]
        return cls(np.array(matrix, np.float64))

    @classmethod
    def of_row(cls, camera: Mapping[str, Any]) -> "Camera":
        """Return that of a row of `Scenes.table`: `Camera.of_row(scenes.table[0]["camera"])`."""
        intrinsics = np.array(camera["intrinsics"], np.float64)
        return cls(intrinsics, np.array(camera["world_from_camera"], np.float64))

    @property
    def focal(self) -> float:
        """Focal length in pixels, the geometric mean of that across and down."""
        return float(np.sqrt(self.intrinsics[0, 0] * self.intrinsics[1, 1]))

    def depth_along_axis(self, pixels: ArrayLike, distances: ArrayLike) -> NDArray[np.float64]:
        """Return the depth (K,) of points whose straight distance from the lens was measured.

        That is what a tape or a laser gives; depth maps hold the part of it along the axis.

        Args:
            pixels: (K, 2) x and y.
            distances: (K,) from the lens.
        """
        rays = np.insert(np.asarray(pixels, np.float64), 2, 1, axis=1)  # (K, 3)
        directions = rays @ np.linalg.inv(self.intrinsics).T  # z is 1
        depth: NDArray[np.float64] = np.asarray(distances) / np.linalg.norm(directions, axis=1)
        return depth


def focal_of_photo(path: str | os.PathLike[str]) -> float | None:
    """Return the focal length in pixels that the EXIF of a photograph tells, if it does.

    Phones and cameras write the length that would have the same field of view on 35 mm film; it is
    rounded to a millimetre, and wrong for a photograph that has been cut since.

    Args:
        path: Of the file.

    Raises:
        OSError: It cannot be read.

    Example:
        >>> from PIL import Image
        >>> exif = Image.Exif()
        >>> exif.get_ifd(0x8769)[0xA405] = 26  # millimetres on 35 mm film, as a phone writes it
        >>> Image.new("RGB", (4000, 3000)).save("phone.jpg", exif=exif)
        >>> round(focal_of_photo("phone.jpg"))
        3005
    """
    from PIL import Image

    with Image.open(local_path(path)) as image:
        millimetres = image.getexif().get_ifd(_EXIF).get(_FOCAL_35)
        diagonal = float(np.hypot(*image.size))
    if not millimetres:
        return None
    return float(millimetres) * diagonal / _DIAGONAL_35


@dataclass(frozen=True, eq=False)
class PointCloud:
    """Points with colours.

    Args:
        points: (P, 3) float32, in the unit of the depth.
        colours: (P, 3) uint8, RGB.
    """

    points: NDArray[np.float32]
    colours: NDArray[np.uint8]

    def __len__(self) -> int:
        return len(self.points)

    def write_ply(self, path: str | os.PathLike[str]) -> Path:
        """Write a binary PLY, little endian, which MeshLab, Blender and CloudCompare open.

        Returns:
            The path of the file, which is whole or not there.

        Raises:
            OSError: It cannot be written.
        """
        vertex = np.dtype([("place", "<f4", 3), ("colour", "u1", 3)])  # packed: 15 bytes
        rows = np.empty(len(self), vertex)
        rows["place"] = self.points
        rows["colour"] = self.colours
        lines = ["ply", "format binary_little_endian 1.0", f"element vertex {len(self)}"]
        lines += [f"property float {name}" for name in "xyz"]
        lines += [f"property uchar {name}" for name in ("red", "green", "blue")]
        header = "\n".join([*lines, "end_header", ""])
        target = home_path(path)
        write_whole(target, header.encode("ascii") + rows.tobytes())
        return target


def to_points(
    depth: ArrayLike, camera: Camera | float, picture: Any, *, jump: float | None = None
) -> PointCloud:
    """Return the points that a picture shows, by its depth.

    Args:
        depth: (H, W) along the optical axis; NaN where it is not known, which makes no point.
        camera: Of the picture; or its focal length in pixels.
        picture: What `open_image` opens, of the same size.
        jump: Leave out pixels whose depth differs from a neighbour's by more than this factor,
            such as 1.1: they lie on the edge of a thing, where depth is blurred, and would hang as
            threads between it and what is behind. None: keep them.

    Returns:
        Points of the world, or of the camera where it has no pose.

    Raises:
        ImageError: The picture cannot be read.
        ValueError: Depth and picture of different sizes, or a `jump` not above 1.

    Example:
        >>> cloud = to_points(np.ones((4, 6)), 10.0, np.zeros((4, 6, 3), np.uint8))
        >>> cloud.points.shape, float(cloud.points[0, 2])
        ((24, 3), 1.0)
    """
    values = np.asarray(depth, np.float64)  # (H, W)
    image = open_image(picture)
    if values.shape != image.size[::-1]:
        raise ValueError(
            f"depth of shape {values.shape} for a picture of {image.width}x{image.height} px: "
            "(height, width) is needed"
        )
    if not isinstance(camera, Camera):
        camera = Camera.of_focal(float(camera), image.size)
    kept = np.isfinite(values) & (values > 0)
    if jump is not None:
        kept &= ~_at_a_jump(values, jump)
    y, x = np.nonzero(kept)
    pixels = np.stack([x, y], axis=1) + 0.5
    pose = {"intrinsics": camera.intrinsics, "world_from_camera": camera.world_from_camera}
    points = unproject(pixels, values[y, x], pose)
    return PointCloud(points.astype(np.float32), np.asarray(image)[y, x])


def _at_a_jump(depth: NDArray[np.float64], factor: float) -> NDArray[np.bool_]:
    """Say which pixels (H, W) have a neighbour farther or nearer by more than a factor."""
    from scipy.ndimage import maximum_filter, minimum_filter

    if not factor > 1:
        raise ValueError(f"jump={factor}: a factor above 1, such as 1.1")
    known = np.isfinite(depth) & (depth > 0)
    farthest = maximum_filter(np.where(known, depth, 0), 3)
    nearest = minimum_filter(np.where(known, depth, np.inf), 3)
    found: NDArray[np.bool_] = farthest > factor * nearest
    return found

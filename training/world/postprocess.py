"""What the rasteriser leaves out, added in numpy: contact shade, sky, haze and a grade.

All functions take and return float32 images with values around [0, 1]; none of them is random.
"""

from __future__ import annotations

import math
from functools import cache

import numpy as np
from scipy.ndimage import gaussian_filter, map_coordinates

from training.world.colours import Colour
from training.world.scene import FRAME, Camera, Scene
from training.world.surfaces import HILL_COLOURS, SKIES, cloud_fields, hill_profiles

HORIZON_DEPTH = 25.0  # metres; what lies farther looks the same
HAZE_START, HAZE_LENGTH = 7.0, 15.0  # metres

# Per ridge, far then near: share of the horizon's colour in it, and its height.
RIDGES = ((0.62, 1.25), (0.35, 0.70))
# Distance in pixels and weight of the rings of the occlusion estimate.
RINGS = ((3, 0.8), (6, 1.0), (11, 1.0), (19, 0.8))


def _colour(values: Colour) -> np.ndarray:
    return np.array(values, dtype=np.float32)


def ambient_occlusion(depth: np.ndarray) -> np.ndarray:
    """How much of the surroundings' light reaches each pixel.

    Compares the inverse depth of a pixel with the mean of opposite neighbours. Inverse depth is
    linear over the image of a plane, so planes come out as exactly unshaded.

    Args:
        depth: (H, W) metres.

    Returns:
        (H, W) float32 factors in [0.5, 1.13]; above 1 on exposed edges.
    """
    inverse = (1.0 / np.minimum(depth, HORIZON_DEPTH)).astype(np.float32)
    border = max(radius for radius, _ in RINGS) + 1
    padded = np.pad(inverse, border, mode="edge")
    height, width = inverse.shape
    total = np.zeros_like(inverse)
    for radius, weight in RINGS:
        for quarter in range(4):
            angle = quarter * math.pi / 4 + radius
            dx, dy = round(radius * math.cos(angle)), round(radius * math.sin(angle))
            one = padded[border + dy : border + dy + height, border + dx : border + dx + width]
            two = padded[border - dy : border - dy + height, border - dx : border - dx + width]
            rise = (one + two) / (2 * inverse) - 1
            # A much nearer neighbour is another object in front, which shades nothing here.
            beside = np.maximum(one, two) < 1.12 * inverse
            total += weight * np.clip(18 * rise, -0.35, 1) * beside
    occlusion = gaussian_filter(total / (4 * sum(weight for _, weight in RINGS)), 1.0)
    return np.clip(1 - 0.8 * occlusion, 0.5, 1.13)


@cache
def _camera_rays() -> np.ndarray:
    """Directions of the pixels in camera axes, (FRAME, FRAME, 3) float32, not normalised."""
    intrinsics = Camera(0.0, 0.0, 1.0, (0.0, 0.0, 0.0)).intrinsics()
    v, u = np.mgrid[0:FRAME, 0:FRAME] + 0.5
    pixels = np.stack([u, v, np.ones_like(u)], axis=-1)
    return (pixels @ np.linalg.inv(intrinsics).T).astype(np.float32)


def sky_picture(scene: Scene) -> np.ndarray:
    """Sky, clouds and hills in every direction of the camera, (FRAME, FRAME, 3) float32."""
    sky = scene.sky
    zenith, horizon = map(_colour, SKIES[sky.palette])
    rays = _camera_rays() @ scene.camera.axes().T.astype(np.float32)
    rays /= np.linalg.norm(rays, axis=-1, keepdims=True)
    up = rays[..., 2]
    above = np.clip(up, 0, 1)
    picture = horizon + (zenith - horizon) * (np.clip(2.4 * above, 0, 1) ** 0.7)[..., None]

    # Clouds lie on a plane overhead: its coordinates stretch towards the horizon.
    stretch = 55 / (above + 0.09)
    place = [rays[..., axis] * stretch + sky.cloud_shift[axis] for axis in (1, 0)]
    noise = map_coordinates(cloud_fields()[sky.cloud_field], place, order=1, mode="grid-wrap")
    cover = np.clip(1.1 * (noise - 1.2 + 1.4 * sky.cloud_cover), 0, 1) * np.clip(9 * above, 0, 1)
    picture += (_colour((1.0, 0.99, 0.98)) - picture) * (0.85 * cover)[..., None]

    azimuth = np.degrees(np.arctan2(rays[..., 1], rays[..., 0]))
    hills = _colour(HILL_COLOURS[scene.surface])
    for (number, turn), (mist, height) in zip(sky.ridges, RIDGES, strict=False):
        profile = hill_profiles()[number]
        along = np.linspace(0, 360, len(profile), endpoint=False)
        crest = height * (
            0.02 + 0.10 * np.interp((azimuth + turn) % 360, along, profile, period=360)
        )
        cover = np.clip((crest - up) * 0.9 * FRAME + 0.5, 0, 1)[..., None]
        picture += (hills * (1 - mist) + horizon * mist - picture) * cover
    return picture.astype(np.float32)


def add_sky(image: np.ndarray, depth: np.ndarray, share: np.ndarray, scene: Scene) -> np.ndarray:
    """Fills the sky and lets the ground fade into the horizon.

    Args:
        image: (FRAME, FRAME, 3), black where the sky is.
        depth: (FRAME, FRAME) metres.
        share: (FRAME, FRAME), how much of each pixel is sky, in [0, 1].
        scene: where the sky is described.

    Returns:
        (FRAME, FRAME, 3) float32.
    """
    solid = (1 - share)[..., None]
    haze = (
        0.9
        * np.clip((np.minimum(depth, HORIZON_DEPTH) - HAZE_START) / HAZE_LENGTH, 0, 1)[..., None]
        ** 1.1
    )
    horizon = 0.96 * _colour(SKIES[scene.sky.palette][1])
    # The image is already multiplied by its own coverage, so the haze is weighted by it too.
    return image + (horizon * solid - image) * haze * (solid > 0) + sky_picture(scene) * (1 - solid)


def grade(image: np.ndarray, warmth: float) -> np.ndarray:
    """Tint, a little contrast and saturation, and darker corners.

    Args:
        image: (FRAME, FRAME, 3).
        warmth: -1 (bluish) to 1 (reddish).

    Returns:
        (FRAME, FRAME, 3) uint8.
    """
    image = np.clip(image * (1 + _colour((0.035, 0.0, -0.04)) * np.float32(warmth)), 0, 1)
    image = image + 0.18 * (image * image * (3 - 2 * image) - image)
    gray = image.mean(axis=-1, keepdims=True)
    image = gray + 1.1 * (image - gray)
    y, x = np.mgrid[0:FRAME, 0:FRAME].astype(np.float32) * (2 / (FRAME - 1)) - 1
    image = image * (1 - 0.05 * (x * x + y * y))[..., None]
    return (np.clip(image, 0, 1) * 255 + 0.5).astype(np.uint8)

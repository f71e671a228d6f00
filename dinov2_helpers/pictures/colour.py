"""Colours as a file states them, by an ICC profile or by PNG's gamma, brought to sRGB."""

import functools
import io
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageCms

_SRGB_GAMMA = 1 / 2.2
_GAMMA_TOLERANCE = 0.05  # of the gamma, as libpng's: a PNG that says 1/2.2 means sRGB
# x and y of white, red, green and blue, as PNG's cHRM gives them
_SRGB_CHROMATICITY = (0.3127, 0.329, 0.64, 0.33, 0.3, 0.6, 0.15, 0.06)
_XYZ_TO_CONES = np.array(  # of Bradford: Lam 1985, as in the ICC specification, annex E
    [[0.8951, 0.2664, -0.1614], [-0.7502, 1.7135, 0.0367], [0.0389, -0.0685, 1.0296]]
)
_CHANNELS = {"GRAY": "L", "RGB": "RGB", "CMYK": "CMYK"}


class ColourError(ValueError):
    """A statement on colours that cannot be followed."""


def to_srgb(image: Image.Image, profile: bytes) -> Image.Image:
    """Bring an L, RGB or CMYK picture with an ICC profile to sRGB, mode RGB.

    By LittleCMS, in perceptual intent. A profile that moves no colour by more than one of 255
    steps is sRGB under another name, and changes nothing.

    Raises:
        ColourError: The profile is damaged, or is not one of pictures of this kind.
    """
    try:
        space = _space(profile)
        if space == "RGB" and image.mode == "L":
            image = image.convert("RGB")
        if _CHANNELS.get(space) != image.mode:
            raise ColourError(f"its colour profile is for {space} and the picture is {image.mode}")
        transform = _transform(profile, image.mode)
        return transform.apply(image) if transform else image.convert("RGB")
    except (ImageCms.PyCMSError, OSError, ImportError) as error:
        raise ColourError(f"its colour profile cannot be used ({error})") from error


@functools.lru_cache(maxsize=16)
def _space(profile: bytes) -> str:
    return _open(profile).profile.xcolor_space.strip()


@functools.lru_cache(maxsize=16)
def _transform(profile: bytes, mode: str) -> Any:
    """Return the way to sRGB; None if it is no way at all."""
    srgb = ImageCms.createProfile("sRGB")
    transform = ImageCms.buildTransform(_open(profile), srgb, mode, "RGB")
    if mode == "CMYK":
        return transform
    probe = Image.fromarray(np.arange(256, dtype=np.uint8)[None])
    if mode == "RGB":
        levels = np.arange(0, 256, 51, dtype=np.uint8)  # 6 x 6 x 6 colours
        colours = np.stack(np.meshgrid(levels, levels, levels), -1)
        probe = Image.fromarray(colours.reshape(1, -1, 3))
    there = np.asarray(transform.apply(probe), int)
    moved = np.abs(there - np.asarray(probe.convert("RGB"), int)).max()
    return transform if moved > 1 else None


def _open(profile: bytes) -> ImageCms.ImageCmsProfile:
    return ImageCms.ImageCmsProfile(io.BytesIO(profile))


def from_gamma(
    image: Image.Image, gamma: float, chromaticity: tuple[float, ...] | None
) -> Image.Image:
    """Bring an L or RGB picture of PNG's gAMA and cHRM to sRGB, mode RGB.

    By the PNG specification, 13.13 and 13.14: light is the stored value to the power of 1 / gamma.

    Args:
        image: Of mode L or RGB.
        gamma: That of gAMA, 1/2.2 for what is sRGB in all but name.
        chromaticity: x and y of white, red, green and blue of cHRM; None: those of sRGB.

    Raises:
        ColourError: The numbers cannot be.
    """
    if not gamma > 0:
        raise ColourError(f"its gamma of {gamma} cannot be")
    same_gamma = abs(gamma / _SRGB_GAMMA - 1) < _GAMMA_TOLERANCE
    same_colours = chromaticity is None or np.allclose(chromaticity, _SRGB_CHROMATICITY, atol=2e-3)
    if same_gamma and (same_colours or image.mode == "L"):
        return image.convert("RGB")
    light = (np.arange(256) / 255) ** (1 / gamma)
    if same_colours or image.mode == "L":
        table = _encoded(light).tolist()
        return image.point(table * len(image.getbands())).convert("RGB")
    assert chromaticity is not None
    linear = light[np.asarray(image.convert("RGB"))] @ _to_linear_srgb(chromaticity).T
    return Image.fromarray(_encoded(linear))


def _encoded(light: NDArray[np.float64]) -> NDArray[np.uint8]:
    """Encode light from 0 to 1 as sRGB's 0 to 255 (IEC 61966-2-1)."""
    light = np.clip(light, 0, 1)
    curve = np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)
    return np.round(255 * curve).astype(np.uint8)


def _to_linear_srgb(chromaticity: tuple[float, ...]) -> NDArray[np.float64]:
    """Return the matrix (3, 3) from linear RGB of some primaries to that of sRGB."""
    try:
        theirs, white = _to_xyz(chromaticity)
        ours, our_white = _to_xyz(_SRGB_CHROMATICITY)
        gain = (_XYZ_TO_CONES @ our_white) / (_XYZ_TO_CONES @ white)
        adapt = np.linalg.inv(_XYZ_TO_CONES) @ np.diag(gain) @ _XYZ_TO_CONES
        return np.linalg.inv(ours) @ adapt @ theirs
    except (np.linalg.LinAlgError, ZeroDivisionError, ValueError) as error:
        raise ColourError(f"its primaries {chromaticity} cannot be") from error


def _to_xyz(
    chromaticity: tuple[float, ...],
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the matrix (3, 3) from linear RGB to XYZ, and the XYZ (3,) of its white."""
    points = [(x / y, 1.0, (1 - x - y) / y) for x, y in _pairs(chromaticity)]
    white, primaries = np.array(points[0]), np.array(points[1:]).T
    return primaries * np.linalg.solve(primaries, white), white


def _pairs(values: tuple[float, ...]) -> list[tuple[float, float]]:
    return list(zip(values[::2], values[1::2], strict=True))

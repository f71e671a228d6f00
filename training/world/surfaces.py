"""What toys stand on and what lies behind: textures of the eight surfaces, sky, clouds and hills.

All textures tile: they are made of noise from the inverse Fourier transform and of patterns with a
whole number of periods. They depend on the surface and the variant only.
"""

from __future__ import annotations

import functools
from collections.abc import Callable

import numpy as np
from PIL import Image, ImageDraw
from scipy import ndimage

from training.world.colours import COLOURS, Colour

SURFACES = ("grass", "sand", "snow", "road", "water", "wood", "tiles", "carpet")
OUTDOOR = SURFACES[:5]

N_VARIANTS = {
    "grass": 4,
    "sand": 3,
    "snow": 2,
    "road": 4,
    "water": 3,
    "wood": 4,
    "tiles": 4,
    "carpet": 6,
}
# How many times the texture repeats per world unit, and how much of a mirror the surface is.
REPEAT = {
    "grass": 1.1,
    "sand": 0.8,
    "snow": 0.5,
    "road": 0.42,
    "water": 0.5,
    "wood": 0.7,
    "tiles": 0.55,
    "carpet": 0.6,
}
REFLECTANCE = {
    "grass": 0.0,
    "sand": 0.0,
    "snow": 0.0,
    "road": 0.0,
    "water": 0.32,
    "wood": 0.07,
    "tiles": 0.14,
    "carpet": 0.0,
}

# (zenith, horizon) pairs: blue noon, warm afternoon, evening, overcast.
SKIES: tuple[tuple[Colour, Colour], ...] = (
    ((0.35, 0.58, 0.90), (0.80, 0.90, 0.98)),
    ((0.28, 0.50, 0.82), (0.93, 0.90, 0.84)),
    ((0.45, 0.58, 0.75), (0.96, 0.80, 0.66)),
    ((0.60, 0.68, 0.76), (0.86, 0.89, 0.92)),
)
HILL_COLOURS: dict[str, Colour] = {
    "grass": (0.30, 0.45, 0.25),
    "sand": (0.72, 0.58, 0.42),
    "snow": (0.72, 0.78, 0.88),
    "road": (0.35, 0.45, 0.38),
    "water": (0.32, 0.45, 0.42),
}

TEXTURE_SIZE = 512
HILL_SAMPLES = 720

_GRASS_COLOURS = ((0.26, 0.50, 0.13), (0.33, 0.55, 0.16), (0.22, 0.45, 0.16), (0.42, 0.52, 0.18))
_SAND_COLOURS = ((0.86, 0.73, 0.50), (0.90, 0.80, 0.60), (0.80, 0.66, 0.46))
_SNOW_COLOUR = (0.90, 0.92, 0.96)
_ROAD_COLOUR = (0.30, 0.30, 0.32)
_ROAD_BRIGHTNESS = (1.0, 1.2, 0.85)
_ROAD_PAINTS = ((0.92, 0.92, 0.89), (0.94, 0.78, 0.24))
_WATER_COLOURS = ((0.10, 0.38, 0.60), (0.08, 0.45, 0.60), (0.14, 0.33, 0.55))
_WOOD_COLOURS = ((0.62, 0.42, 0.24), (0.74, 0.56, 0.36), (0.45, 0.29, 0.17), (0.66, 0.47, 0.33))
_TILE_COLOURS = (
    ((0.88, 0.87, 0.83), (0.88, 0.87, 0.83)),
    ((0.93, 0.93, 0.92), (0.16, 0.17, 0.19)),
    ((0.80, 0.52, 0.38), (0.76, 0.48, 0.35)),
    ((0.55, 0.72, 0.78), (0.85, 0.90, 0.90)),
)
_CARPET_COLOURS = (
    COLOURS["red"],
    COLOURS["blue"],
    COLOURS["green"],
    (0.55, 0.50, 0.45),
    COLOURS["purple"],
    (0.75, 0.62, 0.48),
)


def periodic_noise(
    rng: np.random.Generator, exponent: float, stretch: tuple[float, float] = (1.0, 1.0)
) -> np.ndarray:
    """Noise that tiles, with mean 0, deviation 1 and amplitude spectrum 1 / frequency^exponent.

    Args:
        rng: source of the white noise.
        exponent: 0 is white noise, 2 is clouds.
        stretch: weights of horizontal and vertical frequency; the smaller one's direction is the
            one the pattern varies in faster.

    Returns:
        (512, 512) float64.
    """
    spectrum = np.fft.fft2(rng.standard_normal((TEXTURE_SIZE, TEXTURE_SIZE)))
    frequency = np.fft.fftfreq(TEXTURE_SIZE) * TEXTURE_SIZE
    radius = np.hypot(frequency[None] * stretch[0], frequency[:, None] * stretch[1])
    radius[0, 0] = 1.0
    noise = np.fft.ifft2(spectrum / radius**exponent).real
    noise -= noise.mean()
    return noise / noise.std()


def _mix(base: np.ndarray | Colour, *layers: tuple[np.ndarray, np.ndarray | Colour]) -> np.ndarray:
    """The base colour plus fields (H, W) times colours: (H, W, 3)."""
    image = np.tile(np.asarray(base, float), (TEXTURE_SIZE, TEXTURE_SIZE, 1))
    for field, colour in layers:
        image += field[..., None] * np.asarray(colour)
    return image


def _grid() -> tuple[np.ndarray, np.ndarray]:
    """Row and column coordinates in [0, 1), each (512, 512)."""
    rows, columns = np.mgrid[0:TEXTURE_SIZE, 0:TEXTURE_SIZE] / TEXTURE_SIZE
    return rows, columns


def _grass(rng: np.random.Generator, variant: int) -> np.ndarray:
    base = np.array(_GRASS_COLOURS[variant])
    soil = _mix(base * 0.75, (periodic_noise(rng, 1.3), base * 0.12))
    image = Image.fromarray((soil.clip(0, 1) * 255).astype(np.uint8))
    draw = ImageDraw.Draw(image)
    n_blades, longest = 15_000, 16.0
    shades = np.stack([base, base * 1.18, base * 0.82, base * 1.05 + [0.08, 0.04, 0.0]])
    roots = rng.uniform(0, TEXTURE_SIZE, (n_blades, 2))
    angles = rng.normal(-np.pi / 2, 0.6, n_blades)
    lengths = rng.uniform(0.5, 1.0, n_blades) * longest
    reach = lengths[:, None] * np.stack([np.cos(angles), np.sin(angles)], axis=-1)
    colours = shades[rng.integers(len(shades), size=n_blades)] * rng.uniform(
        0.85, 1.15, (n_blades, 1)
    )
    bytes_ = (colours.clip(0, 1) * 255).astype(int)
    for root, blade, colour in zip(roots.tolist(), reach.tolist(), bytes_.tolist(), strict=True):
        # A blade that leaves on one side comes in again on the other.
        for wrap_x in (-TEXTURE_SIZE, 0, TEXTURE_SIZE):
            for wrap_y in (-TEXTURE_SIZE, 0, TEXTURE_SIZE):
                x, y = root[0] + wrap_x, root[1] + wrap_y
                if -longest < x < TEXTURE_SIZE + longest and -longest < y < TEXTURE_SIZE + longest:
                    draw.line([(x, y), (x + blade[0], y + blade[1])], fill=tuple(colour))
    return np.asarray(image) / 255.0


def _sand(rng: np.random.Generator, variant: int) -> np.ndarray:
    base = np.array(_SAND_COLOURS[variant])
    rows, _ = _grid()
    ripples = np.sin(2 * np.pi * (14 * rows + 0.6 * periodic_noise(rng, 2.2)))
    return _mix(
        base,
        (periodic_noise(rng, 0.2), base * 0.045),
        (ripples, base * 0.035),
        (periodic_noise(rng, 1.6), base * 0.04),
    )


def _snow(rng: np.random.Generator, variant: int) -> np.ndarray:
    drift = 1.0 if variant == 0 else 1.8
    return _mix(
        _SNOW_COLOUR,
        (periodic_noise(rng, 1.7), np.array([0.022, 0.018, 0.012]) * drift),
        (periodic_noise(rng, 0.1), (0.012, 0.012, 0.012)),
    )


def _road(rng: np.random.Generator, variant: int) -> np.ndarray:
    base = np.array(_ROAD_COLOUR) * _ROAD_BRIGHTNESS[variant % len(_ROAD_BRIGHTNESS)]
    image = _mix(
        base,
        (periodic_noise(rng, 0.1), (0.035, 0.035, 0.035)),
        (periodic_noise(rng, 1.5), (0.018, 0.018, 0.018)),
    )
    wear = ndimage.gaussian_filter(
        (rng.random(image.shape[:2]) > 0.12).astype(float), 1, mode="wrap"
    )
    paint = np.array(_ROAD_PAINTS[variant % len(_ROAD_PAINTS)])
    dashed_line, solid_line = np.s_[70:90, 0:300], np.s_[330:342, :]
    for line in (dashed_line, solid_line):
        cover = 0.9 * wear[line][..., None]
        image[line] = image[line] * (1 - cover) + paint * cover
    return image


def _water(rng: np.random.Generator, variant: int) -> np.ndarray:
    base = np.array(_WATER_COLOURS[variant])
    swell = np.clip(1 - np.abs(periodic_noise(rng, 1.9, (1.0, 0.6))), 0, 1) ** 4
    ripples = np.clip(1 - np.abs(periodic_noise(rng, 1.6, (1.0, 0.7))), 0, 1) ** 6
    return _mix(
        base,
        (swell, (0.16, 0.20, 0.20)),
        (ripples, (0.10, 0.12, 0.12)),
        (periodic_noise(rng, 1.5), base * 0.08),
    )


def _wood(rng: np.random.Generator, variant: int) -> np.ndarray:
    base = np.array(_WOOD_COLOURS[variant])
    image = np.zeros((TEXTURE_SIZE, TEXTURE_SIZE, 3))
    n_planks, joint = 8, 2
    plank, half = TEXTURE_SIZE // n_planks, TEXTURE_SIZE // 2
    for top in range(0, TEXTURE_SIZE, plank):
        rows = slice(top, top + plank)
        grain = periodic_noise(rng, 1.1, (1.4, 0.12))[:plank]
        start = rng.integers(TEXTURE_SIZE)
        for board in range(2):
            columns = (np.arange(half) + start + board * half) % TEXTURE_SIZE
            tone = base * rng.uniform(0.84, 1.12)
            image[rows, columns] = tone + grain[:, columns][..., None] * base * 0.10
            image[rows, columns[:joint]] *= 0.5
        image[top : top + joint] *= 0.5
    return image


def _tiles(rng: np.random.Generator, variant: int) -> np.ndarray:
    image = np.zeros((TEXTURE_SIZE, TEXTURE_SIZE, 3))
    per_side, joint = 4, 5
    side = TEXTURE_SIZE // per_side
    for row in range(per_side):
        for column in range(per_side):
            colour = np.array(_TILE_COLOURS[variant][(row + column) % 2])
            place = np.s_[row * side : (row + 1) * side, column * side : (column + 1) * side]
            image[place] = colour * rng.uniform(0.94, 1.04)
    image += periodic_noise(rng, 1.5)[..., None] * 0.02
    for edge in range(0, TEXTURE_SIZE, side):
        image[edge : edge + joint] = 0.62
        image[:, edge : edge + joint] = 0.62
    return image


def _carpet(rng: np.random.Generator, variant: int) -> np.ndarray:
    base = np.array(_CARPET_COLOURS[variant]) * 0.62 + 0.1
    rows, columns = _grid()
    from_centre_x, from_centre_y = np.abs((columns * 4) % 1 - 0.5), np.abs((rows * 4) % 1 - 0.5)
    pattern = (
        from_centre_x + from_centre_y < 0.25,
        (rows * 8) % 1 < 0.25,
        np.hypot(from_centre_x, from_centre_y) < 0.2,
    )[variant % 3]
    image = np.where(pattern[..., None], (base * 1.5 + 0.1).clip(0, 1), base)
    return image * (1 + periodic_noise(rng, 0.15)[..., None] * 0.06)


_PAINTERS: dict[str, Callable[[np.random.Generator, int], np.ndarray]] = {
    "grass": _grass,
    "sand": _sand,
    "snow": _snow,
    "road": _road,
    "water": _water,
    "wood": _wood,
    "tiles": _tiles,
    "carpet": _carpet,
}


@functools.cache
def surface_texture(surface: str, variant: int) -> np.ndarray:
    """The texture of a surface.

    Args:
        surface: one of ``SURFACES``.
        variant: from 0 to ``N_VARIANTS[surface] - 1``.

    Returns:
        (512, 512, 3) uint8, read-only, tileable.

    Raises:
        ValueError: there is no such surface or variant.
    """
    if surface not in SURFACES:
        raise ValueError(f"unknown surface {surface!r}; choose one of {', '.join(SURFACES)}")
    if not 0 <= variant < N_VARIANTS[surface]:
        raise ValueError(f"{surface} has variants 0 to {N_VARIANTS[surface] - 1}, not {variant}")
    rng = np.random.default_rng([SURFACES.index(surface), variant])
    image = (_PAINTERS[surface](rng, variant).clip(0, 1) * 255).astype(np.uint8)
    image.setflags(write=False)
    return image


@functools.cache
def cloud_fields() -> np.ndarray:
    """Four fields of cloud density, (4, 512, 512) float32, mean 0, deviation 1, tileable."""
    rng = np.random.default_rng(5)
    fields = np.stack([periodic_noise(rng, 1.75) for _ in range(4)]).astype(np.float32)
    fields.setflags(write=False)
    return fields


@functools.cache
def hill_profiles() -> np.ndarray:
    """Four outlines of hills, (4, 720) float64 in [0, 1]: height every half degree of azimuth."""
    rng = np.random.default_rng(6)
    azimuth = np.arange(HILL_SAMPLES)
    profiles = []
    for n_peaks in (8, 13, 21, 30):
        heights = rng.uniform(0, 1, n_peaks)
        knots = np.linspace(0, HILL_SAMPLES, n_peaks + 1)
        outline = np.interp(azimuth, knots, np.append(heights, heights[0]))
        profiles.append(ndimage.gaussian_filter1d(outline, 6, mode="wrap"))
    stacked = np.stack(profiles)
    stacked.setflags(write=False)
    return stacked

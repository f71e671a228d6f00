"""Things that stand around and in the way: they have no class."""

from __future__ import annotations

import numpy as np

from training.world.colours import COLOURS, Paint
from training.world.toys.builder import BALL, BOX, CYLINDER, STONE, Toy, ToyBuilder


def _stone(shape: np.random.Generator, paint: Paint) -> ToyBuilder:
    toy = ToyBuilder()
    size = (shape.uniform(0.15, 0.24), shape.uniform(0.13, 0.19), shape.uniform(0.11, 0.18))
    toy.add(STONE, paint.jitter((0.45, 0.44, 0.43)), (0, 0, 0), size, (0, 0, 30), "matte")
    return toy


def _crate(shape: np.random.Generator, paint: Paint) -> ToyBuilder:
    toy = ToyBuilder()
    half = shape.uniform(0.14, 0.19)
    batten = half * 0.17
    frame = paint.jitter((0.48, 0.33, 0.18))
    toy.add(BOX, paint.jitter((0.60, 0.43, 0.25)), (0, 0, half), half)
    for x in (-1, 1):
        for y in (-1, 1):
            post = (x * half * 0.9, y * half * 0.9, half)
            toy.add(BOX, frame, post, (batten, batten, half * 1.03))
    for z in (0.12, 1.88):
        toy.add(BOX, frame, (0, 0, z * half), (half * 1.045, half * 1.045, batten * 0.85))
    return toy


def _ball(shape: np.random.Generator, paint: Paint) -> ToyBuilder:
    toy = ToyBuilder()
    radius = shape.uniform(0.12, 0.19)
    toy.add(BALL, paint.main, (0, 0, radius), radius, material="gloss")
    stripe = (radius * 1.004, radius * 1.004, radius * 0.14)
    toy.add(CYLINDER, COLOURS["white"], (0, 0, radius), stripe, (25, 15, 0), "gloss")
    return toy


def _post(shape: np.random.Generator, paint: Paint) -> ToyBuilder:
    toy = ToyBuilder()
    radius, half_height = shape.uniform(0.03, 0.042), shape.uniform(0.20, 0.30)
    wood = paint.jitter((0.55, 0.40, 0.25))
    toy.add(CYLINDER, wood, (0, 0, half_height), (radius, radius, half_height))
    toy.add(BALL, wood, (0, 0, 2 * half_height), (radius, radius, radius * 0.6))
    return toy


def make_prop(rng: np.random.Generator) -> Toy:
    """Draws a stone, a crate, a ball or a post, up to about 0.6 high."""
    maker = (_stone, _crate, _ball, _post)[rng.integers(4)]
    seed = int(rng.integers(2**31))
    names = list(COLOURS)
    paint = Paint(names[rng.integers(len(names))], rng)
    return maker(rng, paint).finish("prop", "", seed)

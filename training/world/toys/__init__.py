"""Sixteen classes of toys, each a parametric function of a seed and a colour."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from training.world import meshes
from training.world.colours import COLOURS, Paint
from training.world.toys.animals import cat, dog, duck, fish
from training.world.toys.builder import MATERIALS, Nozzle, Part, Toy, ToyBuilder
from training.world.toys.household import chair, lamp, mug
from training.world.toys.outdoors import house, mushroom, snowman, tree
from training.world.toys.palettes import CLASSES, EXCEPTIONS, PALETTES
from training.world.toys.props import make_prop
from training.world.toys.vehicles import airplane, boat, car, rocket, truck

__all__ = [
    "CLASSES",
    "EXCEPTIONS",
    "MATERIALS",
    "PALETTES",
    "POOLS",
    "Nozzle",
    "Part",
    "Toy",
    "make_prop",
    "make_toy",
    "with_flame",
]

POOLS = {
    "pretrain": range(0, 1_000_000),
    "train": range(1_000_000, 2_000_000),
    "test": range(2_000_000, 3_000_000),
}

_MAKERS: dict[str, Callable[[np.random.Generator, Paint], ToyBuilder]] = {
    "dog": dog,
    "cat": cat,
    "car": car,
    "truck": truck,
    "airplane": airplane,
    "boat": boat,
    "rocket": rocket,
    "house": house,
    "tree": tree,
    "mushroom": mushroom,
    "snowman": snowman,
    "mug": mug,
    "chair": chair,
    "lamp": lamp,
    "duck": duck,
    "fish": fish,
}

_EXTENTS = {
    "dog": 0.95,
    "cat": 0.92,
    "car": 1.0,
    "truck": 1.02,
    "airplane": 1.0,
    "boat": 0.98,
    "rocket": 1.0,
    "house": 1.04,
    "tree": 1.0,
    "mushroom": 0.90,
    "snowman": 0.95,
    "mug": 0.90,
    "chair": 0.98,
    "lamp": 0.98,
    "duck": 0.90,
    "fish": 0.95,
}

_SHAPE, _PAINT, _COLOUR, _EXTENT = range(4)


def make_toy(class_name: str, seed: int, colour: str | None = None) -> Toy:
    """Makes one toy: the same arguments give the same toy in any process.

    Args:
        class_name: one of ``CLASSES``.
        seed: of its shape, at least 0; ``POOLS`` says which seeds are for what.
        colour: a key of ``COLOURS``; it changes no vertex. None draws one from ``PALETTES``.

    Raises:
        ValueError: the class or the colour is unknown.
    """
    if class_name not in CLASSES:
        raise ValueError(f"unknown class {class_name!r}; choose one of {', '.join(CLASSES)}")

    def stream(purpose: int) -> np.random.Generator:
        return np.random.default_rng([seed, CLASSES.index(class_name), purpose])

    if colour is None:
        palette = PALETTES[class_name]
        colour = palette[stream(_COLOUR).integers(len(palette))]
    if colour not in COLOURS:
        raise ValueError(f"unknown colour {colour!r}; choose one of {', '.join(COLOURS)}")
    builder = _MAKERS[class_name](stream(_SHAPE), Paint(colour, stream(_PAINT)))
    return builder.finish(
        class_name,
        colour,
        seed,
        extent=_EXTENTS[class_name] * stream(_EXTENT).uniform(0.95, 1.05),
        flies=class_name == "airplane",
        floats=class_name in ("boat", "duck"),
    )


def with_flame(toy: Toy) -> Toy:
    """The toy with a flame under its nozzle, reaching below z = 0: for one that has lifted off.

    Raises:
        ValueError: the toy does not launch.
    """
    if toy.nozzle is None:
        raise ValueError(f"a {toy.class_name} has no nozzle; only toys with launches=True burn")
    flame = []
    for width, length, colour in ((1.0, 0.30, (1.0, 0.55, 0.08)), (0.6, 0.19, (1.0, 0.90, 0.40))):
        profile = [(0.0, -1.0), (0.55, -0.6), (0.9, -0.2), (0.8, 0.0), (0.6, 0.08)]
        radius = toy.nozzle.radius * width
        mesh = meshes.revolve([(radius * r, length * z) for r, z in profile], 16)
        flame.append(Part(mesh.moved((0, 0, toy.nozzle.height)), colour, "glow"))
    return replace(toy, parts=(*toy.parts, *flame))

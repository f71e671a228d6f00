"""House, tree, mushroom and snowman."""

from __future__ import annotations

import numpy as np

from training.world import meshes
from training.world.colours import (
    BARK,
    CARROT,
    CHALK,
    COLOURS,
    INK,
    TWIG,
    WINDOW,
    Colour,
    Paint,
    darker,
    lighter,
)
from training.world.meshes import Mesh
from training.world.toys.builder import (
    BALL,
    BEAD,
    BOX,
    CONE,
    CYLINDER,
    LENGTHWISE,
    RING,
    ROUNDED_BOX,
    SIDEWAYS,
    ToyBuilder,
)

GOLDEN_ANGLE = np.pi * (3.0 - np.sqrt(5.0))


def _window(toy: ToyBuilder, x: float, y: float, z: float, facing_x: bool, size: float) -> None:
    """A framed pane with a cross of bars, lying in the wall at (x, y, z)."""

    def slab(depth: float, breadth: float, height: float) -> tuple[float, float, float]:
        return (depth, breadth, height) if facing_x else (breadth, depth, height)

    toy.add(BOX, CHALK, (x, y, z), slab(0.012, size * 1.22, size * 1.22))
    toy.add(BOX, WINDOW, (x, y, z), slab(0.018, size, size), material="gloss")
    toy.add(BOX, CHALK, (x, y, z), slab(0.022, size * 0.11, size))
    toy.add(BOX, CHALK, (x, y, z), slab(0.022, size, size * 0.11))


def house(shape: np.random.Generator, paint: Paint) -> ToyBuilder:
    """A house of one or two storeys with a gable roof, a chimney, doors and windows."""
    toy = ToyBuilder()
    half_width = shape.uniform(0.34, 0.46)
    half_depth = shape.uniform(0.30, 0.40)
    two_storeys = shape.random() < 0.4
    storey = shape.uniform(0.40, 0.48) if not two_storeys else shape.uniform(0.32, 0.37)
    gable = shape.uniform(0.22, 0.36)
    chimney_side = shape.choice([-1, 1])
    door_colour = paint.accent("brown", "green", "blue", "red")
    roof_colour = darker(paint.accent("red", "brown", "gray", "gray"), 0.85)

    wall = storey * (2 if two_storeys else 1)
    toy.add(BOX, paint.main, (0, 0, wall / 2), (half_depth, half_width, wall / 2), material="matte")
    front = meshes.extrude([(-half_depth, 0), (half_depth, 0), (0, gable)], half_width * 0.995)
    toy.add(front, paint.main, (0, 0, wall), material="matte")
    pitch = np.degrees(np.arctan2(gable, half_depth))
    slope = np.hypot(gable, half_depth) * 0.6
    for side in (-1, 1):
        slab = (slope, half_width * 1.14, 0.026)
        place = (side * half_depth * 0.56, 0, wall + gable * 0.46)
        toy.add(BOX, roof_colour, place, slab, (0, side * pitch, 0), "matte")
    chimney = (-half_depth * 0.45, chimney_side * half_width * 0.5, wall + gable * 0.8)
    toy.add(BOX, paint.jitter((0.55, 0.25, 0.20)), chimney, (0.06, 0.06, 0.2), material="matte")
    pot = (chimney[0], chimney[1], chimney[2] + 0.2)
    toy.add(BOX, (0.30, 0.28, 0.28), pot, (0.07, 0.07, 0.02), material="matte")

    pane = min(0.085, storey * 0.2)
    for side in (-1, 1):
        toy.add(BOX, CHALK, (side * half_depth, 0, 0.155), (0.014, 0.105, 0.165))
        toy.add(BOX, door_colour, (side * half_depth, 0, 0.150), (0.022, 0.085, 0.150))
        toy.add(BEAD, (0.90, 0.80, 0.30), (side * (half_depth + 0.025), 0.055, 0.15), 0.016)
        for level in range(2 if two_storeys else 1):
            height = storey * (level + 0.58)
            for y in (-0.62, 0.62):
                _window(toy, side * half_depth, y * half_width, height, True, pane)
            for x in (-0.45, 0.45):
                _window(toy, x * half_depth, side * half_width, height, False, pane)
        if two_storeys:
            _window(toy, side * half_depth, 0, storey * 1.58, True, pane)
        attic = (0, side * half_width, wall + gable * 0.35)
        toy.add(CYLINDER, CHALK, attic, (0.082, 0.082, 0.012), SIDEWAYS)
        toy.add(CYLINDER, WINDOW, attic, (0.065, 0.065, 0.018), SIDEWAYS, "gloss")
    toy.add(BOX, (0.60, 0.60, 0.60), (half_depth + 0.06, 0, 0.02), (0.07, 0.14, 0.02))
    return toy


def _trunk(toy: ToyBuilder, height: float, radius: float, colour: Colour) -> None:
    """A trunk that flares at its foot."""
    profile = [(radius * 1.35, 0.0), (radius * 1.05, 0.05), (radius * 0.72, height)]
    toy.add(meshes.revolve(profile, 16), colour, material="matte")


def _conifer(toy: ToyBuilder, shape: np.random.Generator, paint: Paint) -> None:
    """Three or four skirts of needles, getting smaller."""
    trunk = shape.uniform(0.22, 0.38)
    skirts = shape.integers(3, 5)
    reach = shape.uniform(0.30, 0.40)
    _trunk(toy, trunk, 0.078, paint.jitter(BARK))
    bottom = trunk * 0.75
    for level in range(skirts):
        radius = reach * (1 - 0.24 * level)
        height = shape.uniform(0.34, 0.42)
        profile = [
            (0.0, 0.03),
            (radius * 0.6, 0.02),
            (radius, -0.02),
            (radius * 0.97, 0.03),
            (radius * 0.5, height * 0.5),
            (0.0, height),
        ]
        needles = paint.jitter(paint.main, 0.02)
        toy.add(meshes.revolve(profile, 20), needles, (0, 0, bottom), material="matte")
        bottom += height * 0.55


def _leafy(toy: ToyBuilder, shape: np.random.Generator, paint: Paint) -> None:
    """A crown of leaf balls, sometimes with fruit."""
    trunk = shape.uniform(0.32, 0.50)
    radius = shape.uniform(0.24, 0.32)
    fruit = shape.random() < 0.35
    crown = trunk + 0.12 + radius * 0.8
    _trunk(toy, trunk + 0.1, 0.085, paint.jitter(BARK))
    leaves = [paint.jitter(paint.main, 0.025) for _ in range(3)]
    puff = meshes.sphere(18, 10)
    fruit_colour = paint.accent("red", "yellow", "orange")
    toy.add(BALL, paint.main, (0, 0, crown), radius, material="matte")
    for index in range(9):
        around = index * GOLDEN_ANGLE + shape.uniform(-0.4, 0.4)
        away = radius * shape.uniform(0.4, 0.85)
        rise = radius * shape.uniform(-0.5, 0.5)
        place = np.array([away * np.cos(around), away * np.sin(around), crown + rise])
        size = radius * shape.uniform(0.55, 0.85)
        toy.add(puff, leaves[index % 3], place, size, material="matte")
        if fruit:
            for turn, up in ((-0.5, 0.35), (0.5, -0.3)):
                outward = np.array([np.cos(around + turn), np.sin(around + turn), up])
                outward /= np.linalg.norm(outward)
                toy.add(BEAD, fruit_colour, place + size * outward, 0.042, material="gloss")


def _poplar(toy: ToyBuilder, shape: np.random.Generator, paint: Paint) -> None:
    """One tall pointed crown on a short trunk."""
    trunk = shape.uniform(0.28, 0.38)
    girth = shape.uniform(0.21, 0.27)
    height = shape.uniform(0.75, 0.95)
    _trunk(toy, trunk + 0.1, 0.068, paint.jitter(BARK))
    leaves = [paint.main, *(paint.jitter(paint.main, 0.025) for _ in range(2))]
    outline = [(0.0, 0.50), (0.2, 1.0), (0.42, 0.95), (0.64, 0.72), (0.84, 0.42)]
    puff = meshes.sphere(14, 8)
    for level, (up, width) in enumerate(outline):
        toy.add(puff, paint.main, (0, 0, trunk + height * up), girth * width, material="matte")
        for index in range(5):
            around = 2 * np.pi * index / 5 + GOLDEN_ANGLE * level
            away = 0.6 * girth * width
            place = (away * np.cos(around), away * np.sin(around), trunk + height * up)
            size = girth * width * shape.uniform(0.52, 0.64)
            toy.add(puff, leaves[index % 3], place, (size, size, size * 1.25), material="matte")
    tip = (girth * 0.4, girth * 0.4, height * 0.26)
    toy.add(CONE, paint.main, (0, 0, trunk + height * 0.84), tip, material="matte")


def tree(shape: np.random.Generator, paint: Paint) -> ToyBuilder:
    """A conifer, a round leafy tree or a poplar."""
    toy = ToyBuilder()
    kind = shape.choice(3, p=[0.4, 0.4, 0.2])
    (_conifer, _leafy, _poplar)[kind](toy, shape, paint)
    return toy


def _one_mushroom(
    toy: ToyBuilder,
    shape: np.random.Generator,
    cap_colour: Colour,
    stem_colour: Colour,
    spotted: bool,
    scale: float,
    foot: tuple[float, float],
) -> None:
    """A stem with a skirt, gills and a cap, ``scale`` times full size, standing at ``foot``."""
    stem_height = shape.uniform(0.30, 0.48)
    stem = shape.uniform(0.095, 0.15)
    cap = shape.uniform(0.30, 0.44)
    cap_height = shape.uniform(0.20, 0.33)

    def add(mesh: Mesh, colour: Colour, material: str = "satin") -> None:
        toy.add(mesh, colour, (*foot, 0.0), scale, material=material)

    stalk = [
        (stem * 1.25, 0),
        (stem * 1.15, 0.06),
        (stem, 0.5 * stem_height),
        (stem * 0.9, stem_height + 0.05),
    ]
    add(meshes.revolve(stalk), stem_colour)
    skirt = [
        (stem * 0.95, stem_height * 0.66),
        (stem * 1.45, stem_height * 0.60),
        (stem * 1.45, stem_height * 0.64),
        (stem * 0.95, stem_height * 0.80),
    ]
    add(meshes.revolve(skirt), lighter(stem_colour, 0.4))
    rim = stem_height + 0.015
    angles = np.linspace(0, np.pi / 2, 9)[1:]
    top = [(cap * np.cos(angle), rim + cap_height * np.sin(angle)) for angle in angles[:-1]]
    hood = [(stem * 0.9, stem_height + 0.02), (cap * 0.9, stem_height - 0.015), (cap, rim), *top]
    add(meshes.revolve([*hood, (0.0, rim + cap_height)]), cap_colour, "gloss")
    gills = [
        (stem * 0.8, stem_height + 0.012),
        (cap * 0.93, stem_height - 0.022),
        (cap * 0.93, stem_height - 0.015),
        (stem * 0.8, stem_height + 0.030),
    ]
    add(meshes.revolve(gills, closed=True), darker(stem_colour, 0.85))
    if not spotted:
        return
    for index in range(15):
        around = index * GOLDEN_ANGLE
        up = np.arcsin(0.14 + 0.84 * index / 14)
        place = (
            cap * np.cos(up) * np.cos(around),
            cap * np.cos(up) * np.sin(around),
            rim + cap_height * np.sin(up),
        )
        size = shape.uniform(0.032, 0.062)
        lean = 90 - np.degrees(up)
        spot = BEAD.scaled((size, size, size * 0.4)).rotated(0, lean, np.degrees(around))
        add(spot.moved(place), CHALK)


def mushroom(shape: np.random.Generator, paint: Paint) -> ToyBuilder:
    """A mushroom, mostly spotted, sometimes with a small one beside it."""
    toy = ToyBuilder()
    stem_colour = paint.jitter((0.93, 0.88, 0.78), 0.02)
    spotted = shape.random() < 0.75
    twin = shape.random() < 0.35
    _one_mushroom(toy, shape, paint.main, stem_colour, spotted, 1.0, (0, 0))
    if twin:
        _one_mushroom(
            toy, shape, paint.main, stem_colour, spotted, shape.uniform(0.42, 0.55), (0.12, 0.36)
        )
    return toy


def snowman(shape: np.random.Generator, paint: Paint) -> ToyBuilder:
    """A snowman of three balls whose scarf, and often hat, have the toy's colour."""
    toy = ToyBuilder()
    bottom = shape.uniform(0.27, 0.33)
    chest = bottom * shape.uniform(0.68, 0.78)
    head = bottom * shape.uniform(0.52, 0.60)
    arm_lift = shape.uniform(0.05, 0.22)
    carrot = shape.uniform(0.15, 0.22)
    hat = shape.choice(["top hat", "bobble hat", "none"], p=[0.45, 0.35, 0.2])
    snow = paint.jitter((0.95, 0.96, 0.98), 0.01)
    hat_colour = paint.main if hat == "bobble hat" else paint.choose(INK, paint.main)
    band_colour = paint.main if hat_colour == INK else darker(paint.main, 0.6)

    bottom_z = bottom * 0.88
    chest_z = bottom_z + bottom * 0.8 + chest * 0.55
    head_z = chest_z + chest * 0.7 + head * 0.6
    latitude = np.linspace(np.arcsin(-0.88), np.pi / 2, 11)[:-1]
    flattened = [(bottom * np.cos(a), bottom_z + bottom * np.sin(a)) for a in latitude]
    toy.add(meshes.revolve([*flattened, (0.0, bottom_z + bottom)]), snow, material="matte")
    toy.add(BALL, snow, (0, 0, chest_z), chest, material="matte")
    toy.add(BALL, snow, (0, 0, head_z), head, material="matte")
    toy.add(CONE, CARROT, (head * 0.9, 0, head_z), (0.038, 0.038, carrot), LENGTHWISE)
    toy.eyes(head * 0.88, head * 0.38, head_z + head * 0.34, 0.028, eyeball=None)
    for angle in (-0.25, 0.2, 0.62):
        button = (chest * np.cos(angle) * 0.98, 0, chest_z + chest * np.sin(angle) * 0.98 - 0.03)
        toy.add(BEAD, INK, button, 0.028)
    for step in range(-2, 3):
        pebble = (head * 0.88, step * 0.045, head_z - head * 0.42 + 0.0072 * step**2)
        toy.add(BEAD, INK, pebble, 0.016)

    scarf_z = chest_z + chest * 0.82
    toy.add(RING, paint.main, (0, 0, scarf_z), (head * 0.82, head * 0.82, 0.19))
    knot = (head * 0.92, 0.09, scarf_z - 0.02)
    toy.add(BEAD, paint.main, knot, (0.055, 0.055, 0.055))
    tail = (head * 0.92, 0.10, scarf_z - 0.16)
    toy.add(ROUNDED_BOX, paint.main, tail, (0.028, 0.058, 0.16), (8, 8, 0))
    for side in (-1, 1):
        shoulder = (0, side * chest * 0.8, chest_z + 0.03)
        hand = (0.04, side * (chest + 0.26), chest_z + 0.03 + arm_lift)
        toy.limb(shoulder, hand, 0.019, TWIG)
        elbow = (0.025, side * (chest + 0.17), chest_z + 0.03 + arm_lift * 0.75)
        toy.limb(elbow, (0.05, side * (chest + 0.20), elbow[2] + 0.12), 0.012, TWIG)
    crown = head_z + head * 0.72
    if hat == "top hat":
        toy.add(CYLINDER, hat_colour, (0, 0, crown), (head * 1.15, head * 1.15, 0.016))
        toy.add(CYLINDER, hat_colour, (0, 0, crown + 0.12), (head * 0.75, head * 0.75, 0.12))
        toy.add(CYLINDER, band_colour, (0, 0, crown + 0.05), (head * 0.775, head * 0.775, 0.034))
    elif hat == "bobble hat":
        cuff = head_z + head * 0.48
        toy.add(RING, darker(hat_colour, 0.75), (0, 0, cuff), (head * 0.80, head * 0.80, 0.13))
        toy.add(
            meshes.dome(20, 6), hat_colour, (0, 0, cuff), (head * 0.86, head * 0.86, head * 0.95)
        )
        toy.add(BEAD, COLOURS["white"], (0, 0, cuff + head * 1.02), 0.055, material="matte")
    return toy

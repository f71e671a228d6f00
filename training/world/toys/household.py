"""Mug, chair and lamp."""

from __future__ import annotations

import numpy as np

from training.world import meshes
from training.world.colours import BULB, COFFEE, TIMBER, Paint, darker
from training.world.toys.builder import (
    BALL,
    BEAD,
    BOX,
    CYLINDER,
    ROUNDED_BOX,
    THIN_RING,
    ToyBuilder,
)


def mug(shape: np.random.Generator, paint: Paint) -> ToyBuilder:
    """A mug with something hot in it: plain, banded or dotted."""
    toy = ToyBuilder()
    top = shape.uniform(0.27, 0.34)
    bottom = top * shape.uniform(0.80, 1.0)
    height = shape.uniform(0.55, 0.75)
    handle = height * shape.uniform(0.24, 0.30)
    decoration = shape.choice(["plain", "one band", "two bands", "dots"])
    drink = paint.choose(COFFEE, (0.62, 0.42, 0.25))
    contrast = (
        paint.accent("white") if paint.name != "white" else paint.accent("red", "blue", "green")
    )
    thickness = 0.035

    def outer_radius(level: float) -> float:
        """The outer radius at ``level`` times the height."""
        return bottom + (top - bottom) * level

    wall = [
        (bottom * 0.9, 0),
        (bottom, 0.03),
        (top, height - 0.015),
        (top - thickness * 0.5, height),
        (top - thickness, height - 0.015),
        (top - thickness, 0.5 * height),
        (bottom - thickness, 0.06),
    ]
    toy.add(meshes.revolve(wall, 36), paint.main, material="gloss")
    surface = top - thickness * 0.9
    toy.add(CYLINDER, drink, (0, 0, height * 0.84), (surface, surface, 0.01), material="gloss")
    # The path starts and ends inside the wall, which hides the tube's flat ends.
    angle = np.linspace(np.radians(100), np.radians(-100), 16)
    middle = outer_radius(0.52) - 0.01
    path = np.stack(
        [
            middle + 0.8 * handle * (np.cos(angle) + 0.12),
            np.zeros_like(angle),
            height * 0.52 + handle * np.sin(angle),
        ],
        axis=-1,
    )
    toy.add(meshes.tube(path, 0.042, 12), paint.main, turn=(0, 0, -90), material="gloss")
    bands = {"one band": ((0.30, 0.46),), "two bands": ((0.14, 0.24), (0.62, 0.72))}
    for low, high in bands.get(decoration, ()):
        band = [
            (outer_radius(low) + 0.002, height * low),
            (outer_radius(low) + 0.008, height * low + 0.006),
            (outer_radius(high) + 0.008, height * high - 0.006),
            (outer_radius(high) + 0.002, height * high),
        ]
        toy.add(meshes.revolve(band, 36), contrast)
    if decoration == "dots":
        for row, level in enumerate((0.25, 0.50, 0.74)):
            for turn in np.arange(10) * 36 + 18 * (row % 2):
                dot = BEAD.scaled((0.012, 0.045, 0.045)).moved(
                    (outer_radius(level), 0, height * level)
                )
                toy.add(dot, contrast, turn=(0.0, 0.0, float(turn)))
    return toy


def chair(shape: np.random.Generator, paint: Paint) -> ToyBuilder:
    """A chair with round or square legs and a back of slats, a panel or spindles."""
    toy = ToyBuilder()
    half_width = shape.uniform(0.23, 0.29)
    seat = shape.uniform(0.36, 0.46)
    back = shape.uniform(0.40, 0.55)
    round_legs = shape.random() < 0.5
    style = shape.choice(["slats", "panel", "spindles"])
    frame = paint.choose(paint.main, paint.main, paint.jitter(TIMBER))

    corner = half_width - 0.03
    for x in (-corner, corner):
        for y in (-corner, corner):
            if round_legs:
                foot = (x * 1.12, y * 1.12, 0.026)
                toy.limb((x, y, seat), foot, 0.034, frame, 0.026)
            else:
                toy.add(BOX, frame, (x, y, seat / 2), (0.032, 0.032, seat / 2))
    cushion = (half_width * 1.05, half_width * 1.05, 0.05)
    toy.add(ROUNDED_BOX, paint.main, (0, 0, seat), cushion)
    for y in (-corner, corner):
        toy.limb((-corner, y, seat), (-half_width - 0.03, y, seat + back), 0.032, frame)
    if style == "slats":
        for level in (0.40, 0.67, 0.94):
            slat = (-corner - 0.06 * level, 0, seat + back * level)
            toy.add(BOX, paint.main, slat, (0.018, half_width * 0.95, 0.05), (0, -7, 0))
    elif style == "panel":
        panel = (-half_width - 0.005, 0, seat + back * 0.63)
        toy.add(ROUNDED_BOX, paint.main, panel, (0.034, half_width * 0.98, back * 0.38), (0, -7, 0))
    else:
        rail = (-half_width - 0.025, 0, seat + back * 0.95)
        toy.add(ROUNDED_BOX, paint.main, rail, (0.03, half_width, 0.06))
        for along in (-0.5, -0.17, 0.17, 0.5):
            y = along * half_width
            toy.limb(
                (-corner, y, seat), (-half_width - 0.022, y, seat + back * 0.95), 0.017, paint.main
            )
    return toy


def lamp(shape: np.random.Generator, paint: Paint) -> ToyBuilder:
    """A table lamp; its colour is the shade's."""
    toy = ToyBuilder()
    shade_z = shape.uniform(0.46, 0.68)
    wide = shape.uniform(0.27, 0.34)
    narrow = wide * shape.uniform(0.45, 0.80)
    shade_height = shape.uniform(0.30, 0.40)
    stand = shape.choice(["pole", "vase", "beads"])
    metal = paint.accent("gray", "black", "brown", "white")

    post = shade_z + shade_height * 0.4
    foot = [(0.20, 0), (0.20, 0.03), (0.06, 0.07), (0.03, 0.10)]
    toy.add(meshes.revolve(foot), metal, material="gloss")
    if stand == "vase":
        vase = [
            (0.07, 0.05),
            (0.13, 0.11),
            (0.15, 0.18),
            (0.13, 0.26),
            (0.05, 0.36),
            (0.025, 0.40),
            (0.02, post),
        ]
        toy.add(meshes.revolve(vase), metal, material="gloss")
    else:
        toy.limb((0, 0, 0.05), (0, 0, post), 0.024, metal, material="gloss")
    if stand == "beads":
        for level, size in ((0.13, 0.085), (0.26, 0.07), (0.37, 0.055)):
            toy.add(BALL, metal, (0, 0, level), (size, size, size * 0.9), material="gloss")
    thickness = 0.015
    top = shade_z + shade_height
    # Down the inside and up the outside: a closed wall, open above and below.
    ring = [(narrow - thickness, top), (wide - thickness, shade_z), (wide, shade_z), (narrow, top)]
    toy.add(meshes.revolve(ring, 32, closed=True), paint.main, material="shade")
    toy.add(BALL, BULB, (0, 0, shade_z + 0.10), 0.075, material="glow")
    toy.limb((-narrow * 0.9, 0, top - 0.03), (narrow * 0.9, 0, top - 0.03), 0.008, metal)
    toy.limb((0, 0, post), (0, 0, top - 0.03), 0.014, metal)
    for radius, level in ((wide, shade_z), (narrow, top)):
        trim = (radius, radius, 0.4 * radius)
        toy.add(THIN_RING, darker(paint.main, 0.75), (0, 0, level), trim)
    return toy

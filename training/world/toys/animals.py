"""Dog, cat, duck and fish."""

from __future__ import annotations

import numpy as np

from training.world import meshes
from training.world.colours import (
    BEAK,
    CHALK,
    INK,
    Paint,
    darker,
    lighter,
)
from training.world.toys.builder import (
    BALL,
    BEAD,
    CONE,
    CYLINDER,
    LENGTHWISE,
    RING,
    ToyBuilder,
)

PINK_SKIN = (0.95, 0.55, 0.58)


def dog(shape: np.random.Generator, paint: Paint) -> ToyBuilder:
    """A standing dog: floppy or pointed ears, sometimes spots, a collar or a tongue."""
    toy = ToyBuilder()
    half_length = shape.uniform(0.27, 0.40)
    leg = shape.uniform(0.22, 0.36)
    girth = shape.uniform(0.15, 0.19)
    head = shape.uniform(0.175, 0.215)
    snout = shape.uniform(0.10, 0.19)
    ear = shape.uniform(0.13, 0.19)
    tail_length = shape.uniform(0.22, 0.36)
    tail_angle = np.radians(shape.uniform(20, 70))
    floppy = shape.random() < 0.65
    spotted = shape.random() < 0.35
    collar = shape.random() < 0.5
    panting = shape.random() < 0.35
    second = paint.choose(lighter(paint.main, 0.45), darker(paint.main, 0.6))
    dark = darker(paint.main, 0.55)

    back = leg + girth * 0.55
    toy.limb(
        (-half_length, 0, back),
        (half_length * 0.85, 0, back + 0.03),
        girth * 0.95,
        paint.main,
        girth * 1.08,
    )
    belly = (half_length * 0.9, girth * 0.72, girth * 0.75)
    toy.add(BALL, second, (0.02, 0, back - girth * 0.35), belly)
    for end in (-1, 1):
        for side in (-1, 1):
            hip = end * half_length * 0.85
            foot = hip + shape.uniform(-0.05, 0.05)
            toy.limb(
                (hip, side * girth * 0.58, back - girth * 0.3),
                (foot, side * girth * 0.6, 0.05),
                0.078,
                paint.main,
                0.052,
            )
            toy.add(BEAD, second, (foot + 0.03, side * girth * 0.6, 0.045), (0.085, 0.06, 0.045))

    head_x = half_length + 0.17
    head_z = back + girth + head * 0.75
    toy.limb(
        (half_length * 0.85, 0, back + 0.08),
        (head_x - 0.04, 0, head_z - 0.05),
        girth * 0.72,
        paint.main,
        girth * 0.62,
    )
    toy.add(BALL, paint.main, (head_x, 0, head_z), (head, head * 0.92, head * 0.95))
    muzzle_x = head_x + head * 0.6 + snout
    toy.limb(
        (head_x + 0.05, 0, head_z - 0.06),
        (muzzle_x, 0, head_z - 0.085),
        head * 0.52,
        second,
        head * 0.38,
    )
    nose = (muzzle_x + head * 0.34, 0, head_z - 0.05)
    toy.add(BEAD, INK, nose, (0.05, 0.055, 0.042), material="gloss")
    if panting:
        tongue = (muzzle_x + head * 0.12, 0, head_z - 0.085 - head * 0.40)
        toy.add(BEAD, PINK_SKIN, tongue, (0.075, 0.045, 0.02), (0, 35, 0))
    toy.eyes(head_x + head * 0.80, head * 0.42, head_z + 0.06, 0.033, eyeball=None)
    for side in (-1, 1):
        if floppy:
            place = (head_x - 0.03, side * head * 0.98, head_z - 0.02)
            toy.add(BALL, dark, place, (0.075, 0.035, ear), (side * -14, 8, 0))
        else:
            place = (head_x - 0.04, side * head * 0.55, head_z + head * 0.6)
            toy.add(CONE, dark, place, (0.045, 0.085, ear * 1.25), (side * -14, -6, 0))
    toy.limb(
        (-half_length - 0.06, 0, back + 0.08),
        (
            -half_length - 0.06 - tail_length * np.cos(tail_angle),
            0,
            back + 0.08 + tail_length * np.sin(tail_angle),
        ),
        0.052,
        paint.main,
        0.03,
    )
    if collar:
        place = ((half_length * 0.85 + head_x - 0.04) / 2, 0, (back + head_z) / 2 + 0.06)
        colour = paint.accent("red", "blue", "yellow", "green")
        toy.add(RING, colour, place, (girth * 0.68, girth * 0.68, 0.1), (0, 40, 0))
    if spotted:
        for along, side in ((-0.75, 1), (-0.2, -1), (0.25, 1), (0.6, -1)):
            place = (along * half_length, side * girth * 0.62, back + girth * 0.58)
            width = shape.uniform(0.07, 0.1)
            toy.add(BEAD, dark, place, (width, width * 0.8, 0.045), (side * -45, 0, 0))
        patch = (head_x + head * 0.62, head * 0.45, head_z + 0.075)
        toy.add(BEAD, dark, patch, (0.06, 0.065, 0.075))
    return toy


def _cat_tail(sitting: bool, half_length: float, back: float) -> np.ndarray:
    """The path (12, 3) of a cat's tail: curled around it, or raised in an arch."""
    along = np.linspace(0.0, 1.0, 12)
    if sitting:
        angle = np.radians(180 - 150 * along)
        x, y = -0.10 + 0.29 * np.cos(angle), 0.05 + 0.32 * np.sin(angle)
        return np.stack([x, y, 0.055 + 0.02 * along], axis=-1)
    x = -half_length - 0.05 - 0.24 * np.sin(np.pi * along * 0.85)
    return np.stack([x, 0.06 * along, back + 0.05 + 0.5 * along], axis=-1)


def cat(shape: np.random.Generator, paint: Paint) -> ToyBuilder:
    """A cat, sitting or standing, sometimes striped."""
    toy = ToyBuilder()
    head = shape.uniform(0.20, 0.235)
    sitting = shape.random() < 0.55
    striped = shape.random() < 0.5
    half_length = shape.uniform(0.27, 0.36)
    back = shape.uniform(0.30, 0.36)
    girth = shape.uniform(0.12, 0.15)
    haunch = shape.uniform(0.22, 0.27)
    chest = shape.uniform(0.36, 0.46)
    second = lighter(paint.main, 0.55)
    stripe = darker(paint.main, 0.55)

    if sitting:
        toy.add(BALL, paint.main, (-0.06, 0, haunch * 0.9), (haunch * 1.12, haunch, haunch * 0.92))
        toy.limb((0, 0, haunch), (0.06, 0, chest + 0.1), haunch * 0.85, paint.main, haunch * 0.55)
        toy.add(BALL, second, (0.15, 0, chest * 0.75), (0.10, 0.12, 0.20))
        for side in (-1, 1):
            toy.limb((0.16, side * 0.09, 0.30), (0.20, side * 0.09, 0.04), 0.065, paint.main, 0.05)
            toy.add(BEAD, second, (0.23, side * 0.09, 0.038), (0.075, 0.052, 0.04))
            toy.add(BALL, paint.main, (0.03, side * haunch * 0.8, 0.12), (0.17, 0.09, 0.13))
        head_x, head_z = 0.10, chest + 0.1 + head * 0.95
        if striped:
            for along in (0.25, 0.5, 0.75):
                width = haunch * (0.85 - 0.3 * along) * 1.015
                place = (0.06 * along - 0.012, 0, haunch + (chest + 0.1 - haunch) * along)
                toy.add(CYLINDER, stripe, place, (width, width, 0.016), (0, 8, 0))
    else:
        toy.limb(
            (-half_length, 0, back), (half_length, 0, back + 0.02), girth * 1.05, paint.main, girth
        )
        for end in (-1, 1):
            for side in (-1, 1):
                hip = end * half_length * 0.9
                foot = hip + shape.uniform(-0.06, 0.06)
                toy.limb(
                    (hip, side * girth * 0.55, back - 0.03),
                    (foot, side * girth * 0.6, 0.04),
                    0.06,
                    paint.main,
                    0.044,
                )
                paw = (foot + 0.03, side * girth * 0.6, 0.037)
                toy.add(BEAD, second, paw, (0.068, 0.048, 0.037))
        head_x, head_z = half_length + 0.13, back + girth + head * 0.55
        if striped:
            for along in (-0.8, -0.4, 0.0, 0.4):
                width = girth * (1.025 - 0.025 * along) * 1.02
                place = (along * half_length, 0, back + 0.01 + 0.01 * along)
                toy.add(CYLINDER, stripe, place, (width, width, 0.018), LENGTHWISE)

    tail = _cat_tail(sitting, half_length, back)
    toy.add(meshes.tube(tail, 0.043), paint.main)
    toy.add(BEAD, second, tail[-1], 0.047)

    toy.add(BALL, paint.main, (head_x, 0, head_z), (head * 0.92, head * 1.08, head * 0.88))
    for side in (-1, 1):
        ear = (head_x - 0.01, side * head * 0.62, head_z + head * 0.5)
        toy.add(CONE, paint.main, ear, (0.05, 0.10, 0.20), (side * -18, 0, 0))
        inner_ear = (head_x + 0.028, side * head * 0.62, head_z + head * 0.5)
        toy.add(CONE, PINK_SKIN, inner_ear, (0.03, 0.065, 0.15), (side * -18, 0, 0))
        cheek = (head_x + head * 0.82, side * 0.045, head_z - 0.07)
        toy.add(BEAD, second, cheek, (0.055, 0.06, 0.045))
        eye_x, eye_y, eye_z = head_x + head * 0.78, side * head * 0.42, head_z + 0.045
        toy.add(
            BEAD,
            (0.45, 0.75, 0.25),
            (eye_x, eye_y, eye_z),
            (0.03, 0.047, 0.052),
            (0, 0, 0),
            "gloss",
        )
        toy.add(BEAD, INK, (eye_x + 0.022, eye_y, eye_z), (0.014, 0.014, 0.042), (0, 0, 0), "gloss")
        for lift in (-0.03, 0.03):
            root = np.array([head_x + head * 0.9, side * 0.07, head_z - 0.07])
            tip = np.array([head_x + head * 0.85, side * (head + 0.13), head_z - 0.07 + lift])
            toy.add(meshes.tube(np.stack([root, tip]), 0.006, 5), CHALK)
    nose = (head_x + head * 0.98, 0, head_z - 0.035)
    toy.add(BEAD, PINK_SKIN, nose, (0.025, 0.03, 0.022))
    if striped:
        for y in (-0.06, 0.0, 0.06):
            brow = (head_x + head * 0.52, y, head_z + head * 0.70)
            toy.add(BEAD, stripe, brow, (0.06, 0.014, 0.03), (0, 40, 0))
    return toy


def duck(shape: np.random.Generator, paint: Paint) -> ToyBuilder:
    """A duck with folded wings; sometimes a collar ring or a darker cap, as drakes have."""
    toy = ToyBuilder()
    breadth = shape.uniform(0.27, 0.33)
    half_length = breadth * shape.uniform(1.25, 1.5)
    head = shape.uniform(0.175, 0.215)
    neck_lift = shape.uniform(0.5, 0.8)
    wing_lift = shape.uniform(10, 18)
    ringed = shape.random() < 0.25
    crested = shape.random() < 0.25
    beak = paint.jitter(BEAK)
    wing = darker(paint.main, 0.86)

    middle = breadth * 0.72
    toy.add(BALL, paint.main, (0, 0, middle), (half_length, breadth, breadth * 0.8))
    tail = (-half_length * 0.8, 0, middle + breadth * 0.35)
    toy.add(BALL, paint.main, tail, (0.20, breadth * 0.5, 0.10), (0, 35, 0))
    head_x = half_length * 0.55
    head_z = middle + breadth * neck_lift + head * 0.8
    toy.limb(
        (half_length * 0.45, 0, middle + breadth * 0.2),
        (head_x, 0, head_z - 0.05),
        head * 0.8,
        paint.main,
        head * 0.75,
    )
    toy.add(BALL, paint.main, (head_x, 0, head_z), (head, head * 0.95, head))
    upper = (head_x + head * 1.05, 0, head_z - 0.035)
    toy.add(BALL, beak, upper, (0.14, 0.10, 0.03), (0, -6, 0))
    lower = (head_x + head * 1.0, 0, head_z - 0.06)
    toy.add(BALL, darker(beak, 0.9), lower, (0.11, 0.085, 0.025), (0, 8, 0))
    toy.eyes(head_x + head * 0.72, head * 0.55, head_z + 0.06, 0.03)
    for side in (-1, 1):
        place = (-half_length * 0.12, side * breadth * 0.9, middle + 0.06)
        size = (half_length * 0.52, 0.05, breadth * 0.4)
        toy.add(BALL, wing, place, size, (side * 10, wing_lift, 0))
        toy.add(BEAD, beak, (0.07, side * 0.10, 0.02), (0.10, 0.07, 0.02))
    if ringed:
        neck = (half_length * 0.5, 0, (middle + breadth * 0.2 + head_z) / 2)
        toy.add(RING, paint.accent("white", "red", "blue"), neck, (head * 0.72, head * 0.72, 0.09))
    if crested:
        for lean in (-35, -5, 25):
            crest = (head_x - head * 0.15, 0, head_z + head * 0.85)
            toy.add(CONE, wing, crest, (0.025, 0.025, 0.11), (0, lean - 25, 0))
    return toy


def fish(shape: np.random.Generator, paint: Paint) -> ToyBuilder:
    """A fish on a little stand, with fins, sometimes stripes."""
    toy = ToyBuilder()
    half_length = shape.uniform(0.38, 0.50)
    half_height = shape.uniform(0.20, 0.31)
    half_width = shape.uniform(0.11, 0.15)
    tail = shape.uniform(0.20, 0.30)
    sail = shape.uniform(0.16, 0.24)
    striped = shape.random() < 0.5
    second = paint.accent("white", "yellow", "orange", "blue")
    fin = paint.choose(darker(paint.main, 0.72), second)

    middle = half_height + 0.16
    toy.add(
        BALL, paint.main, (0, 0, middle), (half_length, half_width, half_height), material="gloss"
    )
    belly = (half_length * 0.82, half_width * 0.95, half_height * 0.7)
    toy.add(
        BALL,
        lighter(paint.main, 0.5),
        (0.05, 0, middle - half_height * 0.29),
        belly,
        material="gloss",
    )
    root = (-half_length * 0.88, 0, middle)
    toy.add(meshes.extrude([(0.06, -0.04), (-0.28, -tail), (-0.18, 0.02)], 0.022), fin, root)
    toy.add(meshes.extrude([(0.06, 0.04), (-0.28, tail), (-0.18, -0.02)], 0.022), fin, root)
    dorsal = meshes.extrude(
        [(0.2, -0.03), (0.02, sail), (-0.25, sail + 0.02), (-0.28, -0.06)], 0.018
    )
    toy.add(dorsal, fin, (0, 0, middle + half_height * 0.86))
    anal = meshes.extrude([(0.10, 0.03), (-0.16, 0.05), (-0.20, -0.13), (-0.06, -0.12)], 0.015)
    toy.add(anal, fin, (-0.06, 0, middle - half_height * 0.88))
    for side in (-1, 1):
        pectoral = (0.05, side * half_width * 1.05, middle - 0.05)
        toy.add(BALL, fin, pectoral, (0.12, 0.018, 0.075), (side * 25, 25, side * -20))
    toy.eyes(half_length * 0.68, half_width * 0.62, middle + half_height * 0.22, 0.037)
    mouth = (half_length * 0.97, 0, middle - 0.05)
    toy.add(BEAD, darker(paint.main, 0.6), mouth, (0.03, 0.05, 0.022))
    if striped:
        for along in (-0.5, -0.1, 0.3):
            girth = np.sqrt(1 - along**2) * 1.02
            size = (half_height * girth, half_width * girth, 0.03)
            toy.add(CYLINDER, second, (along * half_length, 0, middle), size, LENGTHWISE, "gloss")
    toy.limb((0, 0, 0.02), (0, 0, middle - half_height * 0.8), 0.018, (0.60, 0.60, 0.62))
    toy.add(CYLINDER, (0.35, 0.35, 0.37), (0, 0, 0.015), (0.14, 0.14, 0.015))
    return toy

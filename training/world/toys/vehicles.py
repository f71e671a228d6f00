"""Car, truck, airplane, boat and rocket."""

from __future__ import annotations

import numpy as np

from training.world import meshes
from training.world.colours import (
    CHALK,
    CHROME,
    GLASS,
    HEADLIGHT,
    INK,
    RUBBER,
    TAIL_LIGHT,
    TIMBER,
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
    CYLINDER,
    LENGTHWISE,
    ROUNDED_BOX,
    SIDEWAYS,
    STONE,
    Nozzle,
    ToyBuilder,
)

DARK_STEEL: Colour = (0.16, 0.16, 0.17)


def _wheel(toy: ToyBuilder, x: float, y: float, radius: float, half_width: float) -> None:
    """A tyre standing on the ground at (x, y), its hub cap on the outer side."""
    toy.add(CYLINDER, RUBBER, (x, y, radius), (radius, radius, half_width), SIDEWAYS)
    hub = (x, y + np.sign(y) * half_width * 0.75, radius)
    size = (radius * 0.55, radius * 0.55, half_width * 0.4)
    toy.add(CYLINDER, CHROME, hub, size, SIDEWAYS, "gloss")


def car(shape: np.random.Generator, paint: Paint) -> ToyBuilder:
    """A saloon, a hatchback or an estate car."""
    toy = ToyBuilder()
    half_length = shape.uniform(0.52, 0.62)
    half_width = shape.uniform(0.25, 0.29)
    wheel = shape.uniform(0.11, 0.135)
    half_height = shape.uniform(0.105, 0.135)
    roof = shape.uniform(0.26, 0.34)
    body = shape.integers(3)
    rack = shape.random() < 0.25
    # Ends of the windows' sill, then of the roof: front and rear, in half lengths of the car.
    sill_front, sill_rear, roof_front, roof_rear = (
        (0.50, -0.62, 0.20, -0.42),
        (0.52, -0.88, 0.20, -0.68),
        (0.50, -0.95, 0.24, -0.90),
    )[body]

    middle = wheel + half_height * 0.75
    toy.add(
        ROUNDED_BOX,
        paint.main,
        (0, 0, middle),
        (half_length, half_width, half_height),
        material="gloss",
    )
    sill = middle + half_height * 0.7
    cabin = [
        (sill_rear * half_length, 0),
        (sill_front * half_length, 0),
        (roof_front * half_length, roof),
        (roof_rear * half_length, roof),
    ]
    toy.add(meshes.extrude(cabin, half_width * 0.86), GLASS, (0, 0, sill), material="gloss")
    roof_middle = (roof_front + roof_rear) / 2 * half_length
    roof_half = (roof_front - roof_rear) / 2 * half_length * 1.06
    roof_place = (roof_middle, 0, sill + roof)
    toy.add(
        ROUNDED_BOX, paint.main, roof_place, (roof_half, half_width * 0.88, 0.035), material="gloss"
    )
    pillars = (
        (sill_front * 0.99, roof_front),
        ((sill_front + sill_rear) / 2, (roof_front + roof_rear) / 2),
        (sill_rear * 0.99, roof_rear),
    )
    for side in (-1, 1):
        edge = side * half_width * 0.855
        for foot, top in pillars:
            toy.limb(
                (foot * half_length, edge, sill),
                (top * half_length, edge, sill + roof),
                0.02,
                paint.main,
                material="gloss",
            )
        for x in (-0.62, 0.62):
            _wheel(toy, x * half_length, side * half_width * 0.92, wheel, 0.058)
        lamp_y = side * half_width * 0.63
        headlight = (half_length * 0.965, lamp_y, middle + 0.01)
        toy.add(BEAD, HEADLIGHT, headlight, (0.035, 0.058, 0.048), material="glow")
        tail_light = (-half_length * 0.97, lamp_y, middle + 0.01)
        toy.add(BEAD, TAIL_LIGHT, tail_light, (0.025, 0.052, 0.037), material="glow")
        handle = (-0.12 * half_length, side * half_width * 0.995, middle + half_height * 0.45)
        toy.add(BOX, CHROME, handle, (0.035, 0.012, 0.010), material="gloss")
        mirror = (sill_front * half_length - 0.07, side * half_width * 1.0, sill + 0.045)
        toy.add(BEAD, paint.main, mirror, (0.03, 0.045, 0.03), material="gloss")
        if rack:
            rail = (roof_middle, side * half_width * 0.6, sill + roof + 0.05)
            toy.add(BOX, DARK_STEEL, rail, (roof_half * 0.85, 0.014, 0.016))
    for end in (-1, 1):
        bumper = (end * half_length * 0.98, 0, middle - half_height * 0.55)
        toy.add(ROUNDED_BOX, (0.60, 0.60, 0.62), bumper, (0.035, half_width * 0.9, 0.032))
    grille = (half_length * 0.99, 0, middle)
    toy.add(BOX, DARK_STEEL, grille, (0.012, half_width * 0.32, 0.03))
    return toy


def _box_body(
    toy: ToyBuilder,
    x: float,
    half_length: float,
    half_width: float,
    floor: float,
    half_height: float,
    colour: Colour,
    trim: Colour,
) -> None:
    """A closed cargo box with ribs and a stripe in the cab's colour."""
    middle = floor + 0.04 + half_height
    toy.add(BOX, colour, (x, 0, middle), (half_length, half_width * 1.02, half_height))
    for along in (-0.97, -0.5, 0.0, 0.5, 0.97):
        rib = (0.012, half_width * 1.035, half_height * 1.005)
        toy.add(BOX, darker(colour, 0.82), (x + along * half_length, 0, middle), rib)
    stripe = (half_length * 1.005, half_width * 1.045, half_height * 0.16)
    toy.add(BOX, trim, (x, 0, middle - half_height * 0.55), stripe)


def _open_body(
    toy: ToyBuilder,
    x: float,
    half_length: float,
    half_width: float,
    floor: float,
    colour: Colour,
    load: list[Colour],
    shape: np.random.Generator,
) -> None:
    """An open bed with side boards and a load of stones or sacks."""
    toy.add(BOX, colour, (x, 0, floor + 0.06), (half_length, half_width, 0.03))
    for side in (-1, 1):
        toy.add(BOX, colour, (x, side * half_width, floor + 0.16), (half_length, 0.02, 0.12))
        board = (x + side * half_length, 0, floor + 0.16)
        toy.add(BOX, colour, board, (0.02, half_width * 1.07, 0.12))
    for piece in range(8):
        place = (
            x + shape.uniform(-0.7, 0.7) * half_length,
            shape.uniform(-0.6, 0.6) * half_width,
            floor + 0.16 + shape.uniform(0, 0.1),
        )
        turn = (0, 0, shape.uniform(0, 90))
        toy.add(STONE, load[piece % len(load)], place, (0.12, 0.11, 0.10), turn, "matte")


def _tank_body(
    toy: ToyBuilder, x: float, half_length: float, floor: float, colour: Colour, trim: Colour
) -> None:
    """A lying tank with bands and a filler cap."""
    radius = 0.235
    axis = floor + 0.27
    reach = half_length - 0.2
    toy.limb((x - reach, 0, axis), (x + reach, 0, axis), radius, colour, material="gloss")
    for along in (-1, 0, 1):
        band = (x + along * half_length * 0.5, 0, axis)
        toy.add(CYLINDER, trim, band, (radius + 0.006, radius + 0.006, 0.018), LENGTHWISE)
    toy.add(CYLINDER, CHROME, (x, 0, axis + radius + 0.02), (0.07, 0.07, 0.03))
    toy.add(BOX, DARK_STEEL, (x, 0, floor + 0.06), (half_length * 0.8, 0.16, 0.06))


def truck(shape: np.random.Generator, paint: Paint) -> ToyBuilder:
    """A cab with a cargo box, a loaded open bed or a tank behind it."""
    toy = ToyBuilder()
    wheel = shape.uniform(0.12, 0.145)
    half_width = shape.uniform(0.25, 0.29)
    cab_half_length = shape.uniform(0.16, 0.20)
    cab_half_height = shape.uniform(0.23, 0.28)
    body_half_length = shape.uniform(0.38, 0.48)
    body_half_height = shape.uniform(0.22, 0.32)
    body = shape.integers(3)
    body_colour = paint.choose(paint.main, paint.accent("white", "gray"))
    trim = paint.main if body_colour != paint.main else paint.accent("white", "yellow")

    floor = wheel * 1.35
    cab_x = 0.52
    body_x = cab_x - cab_half_length - 0.03 - body_half_length
    chassis_half = (cab_x + cab_half_length * 0.8 - body_x + body_half_length) / 2
    chassis_x = cab_x + cab_half_length * 0.8 - chassis_half
    toy.add(BOX, DARK_STEEL, (chassis_x, 0, floor), (chassis_half, half_width * 0.7, 0.035))

    cab_z = floor + cab_half_height
    cab = (cab_half_length, half_width * 0.97, cab_half_height)
    toy.add(ROUNDED_BOX, paint.main, (cab_x, 0, cab_z), cab, material="gloss")
    pane_z = floor + cab_half_height * 1.38
    windscreen = (cab_half_length * 0.44, half_width * 0.82, cab_half_height * 0.32)
    toy.add(BOX, GLASS, (cab_x + cab_half_length * 0.58, 0, pane_z), windscreen, material="gloss")
    side_panes = (cab_half_length * 0.5, half_width * 0.985, cab_half_height * 0.29)
    toy.add(BOX, GLASS, (cab_x + 0.02, 0, pane_z), side_panes, material="gloss")

    if body == 0:
        _box_body(
            toy, body_x, body_half_length, half_width, floor, body_half_height, body_colour, trim
        )
    elif body == 1:
        load = [paint.jitter((0.45, 0.33, 0.20)) for _ in range(3)]
        _open_body(toy, body_x, body_half_length, half_width, floor, body_colour, load, shape)
    else:
        _tank_body(toy, body_x, body_half_length, floor, body_colour, trim)

    rear = body_x - body_half_length * 0.55
    for side in (-1, 1):
        for x in (cab_x - 0.02, rear, rear + 2.15 * wheel):
            _wheel(toy, x, side * half_width * 0.9, wheel, 0.062)
        headlight = (
            cab_x + cab_half_length * 0.98,
            side * half_width * 0.65,
            floor + cab_half_height * 0.4,
        )
        toy.add(BEAD, HEADLIGHT, headlight, (0.032, 0.058, 0.052), material="glow")
        tail_light = (body_x - body_half_length, side * half_width * 0.7, floor + 0.03)
        toy.add(BOX, TAIL_LIGHT, tail_light, (0.02, 0.05, 0.025), material="glow")
        mirror = (cab_x + cab_half_length * 0.75, side * half_width * 1.08, pane_z)
        toy.add(BOX, DARK_STEEL, mirror, (0.012, 0.025, 0.055))
    bumper = (cab_x + cab_half_length, 0, floor + 0.02)
    toy.add(ROUNDED_BOX, (0.70, 0.70, 0.72), bumper, (0.035, half_width, 0.045))
    grille = (cab_x + cab_half_length * 0.995, 0, floor + cab_half_height * 0.5)
    toy.add(BOX, DARK_STEEL, grille, (0.014, half_width * 0.4, 0.06))
    return toy


def _wing(span: float, root: float, tip: float, sweep: float, thickness: float) -> Mesh:
    """A swept, tapering wing from y = 0 to ``span``; root and tip are half chords along x."""

    def section(
        y: float, x: float, half_chord: float, half_height: float, rise: float
    ) -> np.ndarray:
        corners = [(-1, -1), (-1, 1), (1, 1), (1, -1)]
        return np.array([(x + a * half_chord, y, rise + b * half_height) for a, b in corners])

    inner = section(0.0, 0.0, root, thickness, 0.0)
    outer = section(span, -sweep, tip, thickness * 0.55, span * 0.06)
    return meshes.loft([inner, outer]).faceted()


def airplane(shape: np.random.Generator, paint: Paint) -> ToyBuilder:
    """A jet with engines under its wings, or a propeller plane; low or high wings."""
    toy = ToyBuilder()
    half_length = shape.uniform(0.60, 0.72)
    girth = shape.uniform(0.11, 0.14)
    span = shape.uniform(0.58, 0.72)
    sweep = shape.uniform(0.05, 0.28)
    fin_height = shape.uniform(0.25, 0.31)
    propeller = shape.random() < 0.4
    high_wings = shape.random() < (0.5 if propeller else 0.15)
    trim = paint.accent("red", "blue", "yellow") if paint.name in ("white", "gray") else CHALK
    wing_colour = paint.choose(paint.main, paint.main, CHALK)
    steel: Colour = (0.55, 0.56, 0.58)

    axis = 0.34
    toy.limb(
        (-half_length * 0.55, 0, axis),
        (half_length * 0.75, 0, axis),
        girth,
        paint.main,
        material="gloss",
    )
    toy.limb(
        (-half_length * 0.5, 0, axis),
        (-half_length, 0, axis + girth * 0.6),
        girth * 0.95,
        paint.main,
        girth * 0.25,
        "gloss",
    )
    nose_length = girth * (1.35 if propeller else 1.9)
    toy.add(
        BALL,
        paint.main,
        (half_length * 0.75, 0, axis),
        (nose_length, girth, girth),
        material="gloss",
    )
    cockpit = (half_length * 0.80, 0, axis + girth * 0.48)
    toy.add(BALL, GLASS, cockpit, (girth * 0.9, girth * 0.62, girth * 0.5), material="gloss")
    wing = _wing(span, 0.17, 0.08, sweep, 0.020)
    tailplane = _wing(span * 0.42, 0.10, 0.05, sweep * 0.5, 0.014)
    wing_z = axis + girth * (0.85 if high_wings else -0.35)
    for side in (-1, 1):
        toy.add(wing, wing_colour, (0.08, 0, wing_z), (1, side, 1), material="gloss")
        tail_place = (-half_length * 0.88, 0, axis + girth * 0.6)
        toy.add(tailplane, trim, tail_place, (1, side, 1), material="gloss")
        if not propeller:
            engine = (0.10 - sweep * 0.42 + 0.06, side * span * 0.42, wing_z - 0.07)
            toy.add(CYLINDER, darker(wing_colour, 0.8), engine, (0.06, 0.06, 0.115), LENGTHWISE)
            intake = (engine[0] + 0.116, engine[1], engine[2])
            toy.add(CYLINDER, INK, intake, (0.045, 0.045, 0.006), LENGTHWISE)
        for along in np.linspace(-0.4, 0.5, 7):
            window = (along * half_length, side * girth * 0.97, axis + 0.025)
            toy.add(BEAD, GLASS, window, (0.026, 0.014, 0.030), material="gloss")
        strut = (0.02, side * 0.11)
        toy.limb((strut[0], side * 0.06, axis - girth * 0.7), (*strut, 0.06), 0.016, steel)
        _wheel(toy, *strut, 0.06, 0.026)
    toy.limb(
        (half_length * 0.72, 0, axis - girth * 0.6), (half_length * 0.72, 0, 0.06), 0.016, steel
    )
    toy.add(CYLINDER, RUBBER, (half_length * 0.72, 0, 0.055), (0.055, 0.055, 0.026), SIDEWAYS)
    fin = meshes.extrude(
        [(-0.19, -0.03), (0.12, -0.03), (-0.09, fin_height), (-0.21, fin_height)], 0.014
    )
    toy.add(fin, trim, (-half_length * 0.85, 0, axis + girth * 0.6), material="gloss")
    if propeller:
        hub_x = half_length * 0.75 + nose_length
        toy.add(BALL, trim, (hub_x, 0, axis), (0.05, 0.04, 0.04), material="gloss")
        for angle in (20, 140, 260):
            blade = meshes.sphere(12, 7).scaled((0.012, 0.034, 0.13)).moved((0, 0, 0.13))
            toy.add(blade, DARK_STEEL, (hub_x, 0, axis), 1.0, (angle, 0, 0))
    return toy


def _hull(half_length: float, half_width: float, height: float) -> tuple[Mesh, Mesh, Mesh]:
    """The hull of a boat with a raised bow at +x, its deck and the rim along its edge."""
    hull, deck, rim = [], [], []
    for x in np.linspace(-1, 1, 13):
        fullness = max((1 - max(0.0, x) ** 2.2) * (0.85 + 0.15 * min(1.0, (x + 1) * 3)), 0.02)
        beam = half_width * fullness
        edge = height * (1 + 0.25 * max(0.0, x) ** 2)

        def section(points: list[tuple[float, float]], x: float = x) -> np.ndarray:
            return np.array([(x * half_length, y, z) for y, z in points])

        keel = [
            (beam, edge),
            (-beam, edge),
            (-beam * 0.9, edge * 0.45),
            (-beam * 0.45, 0.0),
            (beam * 0.45, 0.0),
            (beam * 0.9, edge * 0.45),
        ]
        hull.append(section(keel))
        inner, outer = beam * 0.86, beam * 1.03
        low, high = edge - 0.02, edge + 0.006
        deck.append(section([(inner, high), (-inner, high), (-inner, low), (inner, low)]))
        low, high = edge - 0.045, edge - 0.004
        rim.append(section([(outer, high), (-outer, high), (-outer, low), (outer, low)]))
    return meshes.loft(hull), meshes.loft(deck), meshes.loft(rim)


def _sails(toy: ToyBuilder, deck: float, mast: float, colour: Colour, pennant: Colour) -> None:
    """A mast with a main sail, a jib, a boom and a pennant."""
    top = deck + mast
    toy.limb((0.05, 0, deck - 0.05), (0.05, 0, top), 0.018, TIMBER)
    main_sail = meshes.extrude([(0, 0), (0, mast * 0.86), (-0.46, 0)], 0.012)
    toy.add(main_sail, colour, (0.02, 0, deck + 0.1), material="matte")
    jib = meshes.extrude([(0, 0), (0.36, 0), (0, mast * 0.7)], 0.012)
    toy.add(jib, colour, (0.09, 0, deck + 0.1), material="matte")
    toy.limb((0.05, 0, deck + 0.09), (-0.45, 0, deck + 0.09), 0.015, TIMBER)
    flag = meshes.extrude([(0, 0), (0.14, 0.04), (0, 0.08)], 0.006)
    toy.add(flag, pennant, (0.05, 0, top - 0.06))


def boat(shape: np.random.Generator, paint: Paint) -> ToyBuilder:
    """A sailing boat or a steamer."""
    toy = ToyBuilder()
    half_length = shape.uniform(0.50, 0.62)
    half_width = shape.uniform(0.20, 0.26)
    height = shape.uniform(0.20, 0.25)
    sailing = shape.random() < 0.6
    mast = shape.uniform(0.62, 0.82)
    cabin = shape.uniform(0.11, 0.14)
    funnels = shape.integers(1, 3)
    rim_colour = CHALK if paint.name != "white" else paint.accent("red", "blue")
    sail_colour = paint.choose(CHALK, lighter(paint.main, 0.35), paint.main)
    accent = paint.accent("red", "yellow", "orange")

    hull, deck, rim = _hull(half_length, half_width, height)
    toy.add(hull, paint.main, material="gloss")
    toy.add(deck, paint.jitter((0.72, 0.52, 0.30)))
    toy.add(rim, rim_colour)
    if sailing:
        _sails(toy, height, mast, sail_colour, accent)
        return toy
    wall = height + cabin
    toy.add(BOX, CHALK, (-0.1, 0, wall), (0.22, half_width * 0.6, cabin))
    toy.add(BOX, GLASS, (-0.1, 0, wall + 0.035), (0.225, half_width * 0.5, 0.05), material="gloss")
    toy.add(BOX, GLASS, (-0.1, 0, wall + 0.035), (0.17, half_width * 0.61, 0.05), material="gloss")
    roof = wall + cabin + 0.015
    toy.add(
        ROUNDED_BOX, paint.main, (-0.1, 0, roof), (0.26, half_width * 0.72, 0.028), material="gloss"
    )
    funnel_x = (-0.2,) if funnels == 1 else (-0.22, -0.02)
    for x in funnel_x:
        toy.add(CYLINDER, accent, (x, 0, roof + 0.12), (0.062, 0.062, 0.12))
        toy.add(CYLINDER, INK, (x, 0, roof + 0.225), (0.066, 0.066, 0.03))
    return toy


def rocket(shape: np.random.Generator, paint: Paint) -> ToyBuilder:
    """A rocket standing on its fins, with portholes and a contrasting nose."""
    toy = ToyBuilder()
    girth = shape.uniform(0.15, 0.20)
    height = shape.uniform(0.80, 1.0)
    n_fins = shape.integers(3, 5)
    fin_reach = shape.uniform(0.17, 0.24)
    portholes = shape.integers(1, 3)
    if paint.name in ("white", "gray"):
        trim = paint.accent("red", "blue", "orange")
    else:
        trim = paint.choose(CHALK, paint.named("gray"))

    base = 0.16
    body = [
        (girth * 0.62, base),
        (girth * 0.80, base + 0.08),
        (girth * 0.94, base + 0.2 * height),
        (girth, base + 0.35 * height),
        (girth * 0.97, base + 0.52 * height),
        (girth * 0.82, base + 0.72 * height),
    ]
    toy.add(meshes.revolve(body), paint.main, material="gloss")
    nose = [
        (girth * 0.83, base + 0.72 * height),
        (girth * 0.70, base + 0.80 * height),
        (girth * 0.48, base + 0.89 * height),
        (girth * 0.22, base + 0.965 * height),
        (0.0, base + height),
    ]
    toy.add(meshes.revolve(nose), trim, material="gloss")
    waist = (0, 0, base + 0.25 * height)
    toy.add(CYLINDER, trim, waist, (girth * 0.985, girth * 0.985, 0.022))
    bell = [(girth * 0.70, base - 0.08), (girth * 0.50, base + 0.02)]
    toy.add(meshes.revolve(bell), (0.25, 0.25, 0.27))
    toy.nozzle = Nozzle(base - 0.08, girth * 0.55)
    outline = [
        (-0.03, 0.0),
        (fin_reach, -0.16),
        (fin_reach + 0.02, -0.13),
        (fin_reach * 0.9, 0.12),
        (-0.01, 0.32),
    ]
    fin = meshes.extrude(outline, 0.018)
    for turn in 45 + 360 * np.arange(n_fins) / n_fins:
        around = np.radians(turn)
        place = (girth * 0.7 * np.cos(around), girth * 0.7 * np.sin(around), base)
        toy.add(fin, trim, place, 1.0, (0, 0, turn), "gloss")
    for level in (0.54, 0.38)[:portholes]:
        size = 0.075 if level > 0.5 else 0.055
        for side in (-1, 1):
            ring = (side * girth * 0.93, 0, base + level * height)
            toy.add(CYLINDER, CHROME, ring, (size, size, 0.032), LENGTHWISE, "gloss")
            pane = (side * girth * 0.98, 0, base + level * height)
            toy.add(
                BALL, (0.20, 0.50, 0.80), pane, (0.03, size * 0.77, size * 0.77), material="gloss"
            )
    return toy

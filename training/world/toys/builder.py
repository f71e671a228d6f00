"""Parts, toys, and the builder that every toy function assembles its parts with."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from training.world import meshes
from training.world.colours import CHALK, INK, Colour, tidy
from training.world.meshes import Mesh, Vector

MATERIALS = ("matte", "satin", "gloss", "glow", "shade")

BALL = meshes.sphere()
BEAD = meshes.sphere(12, 7)
ROUNDED_BOX = meshes.superellipsoid(0.32, 24, 14)
STONE = meshes.superellipsoid(0.5, 16, 9)
BOX = meshes.box()
CYLINDER = meshes.cylinder()
CONE = meshes.cone()
RING = meshes.torus(0.28)
THIN_RING = meshes.torus(0.05, 32, 6)

LENGTHWISE = (0, 90, 0)  # turns a primitive's z axis to +x
SIDEWAYS = (90, 0, 0)  # turns a primitive's z axis to -y


@dataclass(frozen=True)
class Part:
    """One closed mesh of one colour.

    Attributes:
        mesh: in the toy's coordinates.
        colour: (red, green, blue) in [0, 1].
        material: one of ``MATERIALS``.
    """

    mesh: Mesh
    colour: Colour
    material: str


@dataclass(frozen=True)
class Nozzle:
    """Where a rocket's flame leaves: on the axis, in the toy's coordinates."""

    height: float
    radius: float


@dataclass(frozen=True)
class Toy:
    """A finished toy: at final scale, resting on z = 0, centred on x = y = 0, facing +x.

    Attributes:
        class_name: one of ``CLASSES``, or "prop".
        colour: name of its colour, a key of ``COLOURS``; "" for a prop.
        seed: the seed of its shape.
        parts: its meshes in world units.
        radius: of the smallest upright cylinder about x = y = 0 that holds it.
        height: of its highest point.
        flies: it may hover above the ground.
        floats: it sits in water rather than on it.
        launches: it may lift off; see ``with_flame``.
        nozzle: of a toy that launches.
    """

    class_name: str
    colour: str
    seed: int
    parts: tuple[Part, ...]
    radius: float
    height: float
    flies: bool = False
    floats: bool = False
    launches: bool = False
    nozzle: Nozzle | None = None

    @property
    def toy_id(self) -> str:
        """``class-seed-colour``, unique among toys."""
        return f"{self.class_name}-{self.seed}-{self.colour}"


class ToyBuilder:
    """Collects the parts of one toy in any convenient units, then scales and centres them."""

    def __init__(self) -> None:
        """Starts without parts."""
        self.parts: list[Part] = []
        self.nozzle: Nozzle | None = None

    def add(
        self,
        mesh: Mesh,
        colour: Colour,
        at: Vector = (0, 0, 0),
        size: float | Vector = 1.0,
        turn: Vector = (0, 0, 0),
        material: str = "satin",
    ) -> None:
        """Adds a mesh: scaled by ``size``, turned about x, y, z by degrees, moved to ``at``."""
        placed = mesh.scaled(size).rotated(*turn).moved(at)
        self.parts.append(Part(placed, tidy(colour), material))

    def limb(
        self,
        start: Vector,
        end: Vector,
        radius: float,
        colour: Colour,
        end_radius: float | None = None,
        material: str = "satin",
    ) -> None:
        """Adds a round-ended limb between two points; without ``end_radius`` it does not taper."""
        mesh = meshes.capsule(start, end, radius, radius if end_radius is None else end_radius)
        self.add(mesh, colour, material=material)

    def eyes(
        self, x: float, y: float, z: float, radius: float, eyeball: Colour | None = CHALK
    ) -> None:
        """Adds a pair of eyes looking along +x at (x, +-y, z): a pupil with a glint, in an eyeball.

        ``eyeball`` None leaves button eyes.
        """
        bulge = 0.0 if eyeball is None else 0.02
        for side in (-1, 1):
            if eyeball is not None:
                self.add(BEAD, eyeball, (x - 0.006, side * y, z), radius * 1.5, material="gloss")
            self.add(BEAD, INK, (x + bulge, side * y, z), radius, material="gloss")
            glint = (x + bulge + radius * 0.75, side * y + radius * 0.25, z + radius * 0.45)
            self.add(BEAD, CHALK, glint, radius * 0.28, material="glow")

    def bounds(self) -> tuple[np.ndarray, np.ndarray]:
        """The lowest and highest corner (3,) of all parts."""
        points = np.concatenate([part.mesh.vertices for part in self.parts])
        return points.min(axis=0), points.max(axis=0)

    def finish(
        self,
        class_name: str,
        colour: str,
        seed: int,
        extent: float | None = None,
        flies: bool = False,
        floats: bool = False,
    ) -> Toy:
        """Scales the parts, centres them and sets them on the ground.

        Args:
            class_name: of the toy.
            colour: name of its colour.
            seed: of its shape.
            extent: largest side of its bounding box afterwards; None keeps the builder's units.
            flies: it may hover.
            floats: it sits in water.
        """
        low, high = self.bounds()
        scale = 1.0 if extent is None else extent / float(np.max(high - low))
        base = np.array([(low[0] + high[0]) / 2, (low[1] + high[1]) / 2, low[2]])
        parts = tuple(
            Part(part.mesh.moved(-base).scaled(scale), part.colour, part.material)
            for part in self.parts
        )
        points = np.concatenate([part.mesh.vertices for part in parts])
        nozzle = self.nozzle
        if nozzle is not None:
            nozzle = Nozzle((nozzle.height - base[2]) * scale, nozzle.radius * scale)
        return Toy(
            class_name=class_name,
            colour=colour,
            seed=seed,
            parts=parts,
            radius=float(np.hypot(points[:, 0], points[:, 1]).max()),
            height=float(points[:, 2].max()),
            flies=flies,
            floats=floats,
            launches=nozzle is not None,
            nozzle=nozzle,
        )

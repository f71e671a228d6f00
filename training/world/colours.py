"""The eleven named colours of the world and small arithmetic on them.

A colour is a triple of red, green and blue in [0, 1], as MuJoCo's ``rgba`` takes it.
"""

from __future__ import annotations

import numpy as np

Colour = tuple[float, float, float]

COLOURS: dict[str, Colour] = {
    "red": (0.80, 0.10, 0.10),
    "orange": (0.95, 0.46, 0.08),
    "yellow": (0.97, 0.80, 0.12),
    "green": (0.16, 0.58, 0.22),
    "blue": (0.13, 0.33, 0.82),
    "purple": (0.50, 0.20, 0.70),
    "pink": (0.97, 0.50, 0.66),
    "brown": (0.46, 0.27, 0.13),
    "black": (0.10, 0.10, 0.11),
    "white": (0.93, 0.93, 0.91),
    "gray": (0.50, 0.51, 0.54),
}

INK: Colour = (0.04, 0.04, 0.05)
CHALK: Colour = (0.95, 0.95, 0.94)
GLASS: Colour = (0.16, 0.24, 0.32)
RUBBER: Colour = (0.07, 0.07, 0.075)
CHROME: Colour = (0.75, 0.76, 0.78)
HEADLIGHT: Colour = (1.0, 0.95, 0.70)
TAIL_LIGHT: Colour = (0.85, 0.08, 0.06)
TIMBER: Colour = (0.50, 0.34, 0.19)
BARK: Colour = (0.42, 0.27, 0.15)
TWIG: Colour = (0.33, 0.20, 0.10)
CARROT: Colour = (0.95, 0.45, 0.08)
BEAK: Colour = (0.97, 0.52, 0.08)
WINDOW: Colour = (0.35, 0.60, 0.80)
COFFEE: Colour = (0.25, 0.13, 0.06)
BULB: Colour = (1.0, 0.95, 0.75)


def tidy(colour: np.ndarray | Colour) -> Colour:
    """Clips a colour to [0, 1] and rounds it to 3 digits, so that equal paints share a material."""
    red, green, blue = np.round(np.clip(colour, 0.0, 1.0), 3)
    return float(red), float(green), float(blue)


def darker(colour: Colour, factor: float = 0.7) -> Colour:
    """The colour times ``factor``, a number in [0, 1]."""
    return tidy(np.asarray(colour) * factor)


def lighter(colour: Colour, amount: float = 0.5) -> Colour:
    """The colour mixed with white: ``amount`` 0 leaves it, 1 is white."""
    return tidy(np.asarray(colour) * (1.0 - amount) + amount)


class Paint:
    """Everything random about the colours of one toy; its geometry never asks it.

    Attributes:
        name: the toy's colour, a key of ``COLOURS``.
        main: that colour with a little jitter, the one that dominates the toy.
    """

    def __init__(self, name: str, rng: np.random.Generator) -> None:
        """Mixes the main colour.

        Args:
            name: a key of ``COLOURS``.
            rng: source of all the choices made here.
        """
        self.name = name
        self._rng = rng
        self.main = self.named(name)

    def jitter(self, colour: Colour, amount: float = 0.045) -> Colour:
        """The colour with brightness changed by up to 12 % and each channel by up to ``amount``.

        Dark colours shift less, or black would turn green or purple.
        """
        brightness = 1.0 + self._rng.uniform(-0.12, 0.12)
        shift = self._rng.uniform(-amount, amount, 3) * (0.2 + 0.8 * max(colour))
        return tidy(np.clip(np.asarray(colour) * brightness + shift, 0.02, 0.98))

    def named(self, name: str) -> Colour:
        """The named colour, jittered."""
        return self.jitter(COLOURS[name])

    def accent(self, *names: str) -> Colour:
        """One of the named colours, jittered; never the toy's own colour if another is offered."""
        others = [name for name in names if name != self.name] or list(names)
        return self.named(others[self._rng.integers(len(others))])

    def choose(self, *colours: Colour) -> Colour:
        """One of the given colours, as it is."""
        return colours[self._rng.integers(len(colours))]

"""Interactive explorers: controls above a picture that is drawn anew whenever one changes."""

from .canvas import Scratch, Spot
from .explorer import Explorer

__all__ = ["Explorer", "Scratch", "Spot"]

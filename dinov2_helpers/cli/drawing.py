"""Figures of the command: a picture beside what was found in it, with a scale that can be read."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..pictures.decode import open_image
from .files import whole_file

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SIDE = 4.0  # inches of the longest side of a picture
DPI = 200
STACKED = 1.5  # width by height from which on the two lie one above the other
LARGEST = 1600  # pixels a side that are drawn: twice what the figure shows


@dataclass(frozen=True)
class Scale:
    """What the colours of a map mean.

    Args:
        label: What it counts, with its unit.
        ticks: Values that are written, the first and the last at the ends of the colours.
        texts: What is written there.
        colours: Name of matplotlib's colour map.
        is_log: Whether colours change with the logarithm.
        line: A value that is marked, such as a threshold; None: none.
    """

    label: str
    ticks: Sequence[float]
    texts: Sequence[str]
    colours: str = "viridis"
    is_log: bool = False
    line: float | None = None

    @property
    def norm(self) -> Any:
        """What brings values to 0-1, for matplotlib."""
        from matplotlib.colors import LogNorm, Normalize

        return (LogNorm if self.is_log else Normalize)(self.ticks[0], self.ticks[-1], clip=True)


def colours(values: NDArray[np.float32], scale: Scale) -> NDArray[np.uint8]:
    """Return a map (H, W) in colours (H, W, 3)."""
    from matplotlib import colormaps

    found: NDArray[np.uint8] = colormaps[scale.colours](scale.norm(values), bytes=True)[..., :3]
    return found


def write_panel(
    target: Path, picture: Path, drawn: NDArray[np.uint8], title: str, scale: Scale
) -> None:
    """Write a figure of a picture beside a drawing of it, with the scale of its colours, as PNG.

    Args:
        target: The file; it is replaced as a whole.
        picture: The picture.
        drawn: (H, W, 3), of the same shape.
        title: Over the drawing.
        scale: Of the drawing.

    Raises:
        ImageError: The picture cannot be read any more.
    """
    from PIL import Image

    both = open_image(picture), Image.fromarray(drawn)
    for one in both:
        one.thumbnail((LARGEST, LARGEST))
    with whole_file(str(target)) as partial:
        _panel(both, title, scale).savefig(partial, format="png", dpi=DPI)


def _panel(both: Sequence[Any], title: str, scale: Scale) -> "Figure":
    from matplotlib import rc_context
    from matplotlib.cm import ScalarMappable
    from matplotlib.figure import Figure

    from ..plotting import STYLE

    ratio = both[0].width / both[0].height
    width, height = SIDE * min(1, ratio), SIDE / max(1, ratio)
    is_stacked = ratio > STACKED
    grid = (2, 1) if is_stacked else (1, 2)
    size = (width + 1.3, 2 * height + 1.0) if is_stacked else (2 * width + 1.5, height + 0.6)
    with rc_context(STYLE):
        figure = Figure(figsize=size, layout="constrained")
        axes = figure.subplots(*grid)
        for ax, image, text in zip(axes, both, ("picture", title), strict=True):
            ax.imshow(np.asarray(image))
            ax.axis("off")
            ax.set_title(text)
        mapped = ScalarMappable(scale.norm, scale.colours)
        bar = figure.colorbar(mapped, ax=axes, label=scale.label, shrink=0.9)
        bar.ax.minorticks_off()
        bar.set_ticks(list(scale.ticks), labels=list(scale.texts))
        if scale.line is not None:
            bar.ax.axhline(scale.line, color="black", linewidth=5)
            bar.ax.axhline(scale.line, color="white", linewidth=2.5)
    return figure

"""Pictures to point at and to draw on, by mouse, finger or keyboard."""

import base64
import io
import operator
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import anywidget
import traitlets

from ..pictures.decode import open_image

_SCRIPT = (Path(__file__).parent / "canvas.js").read_text(encoding="utf-8")


class _Canvas(anywidget.AnyWidget):
    """A picture that reports what was done to it; the script draws it and the marks on it."""

    _esm = _SCRIPT
    kind = traitlets.Unicode().tag(sync=True)
    picture = traitlets.Unicode().tag(sync=True)  # a data: address
    size = traitlets.List(traitlets.Int()).tag(sync=True)  # [width, height] in pixels
    grid = traitlets.List(traitlets.Int()).tag(sync=True)  # [rows, columns]
    value = traitlets.List(traitlets.Int()).tag(sync=True)
    description = traitlets.Unicode().tag(sync=True)

    def __init__(self, image: Any, **traits: Any) -> None:
        picture = open_image(image, "image")  # upright and in sRGB, as the model sees it
        picture.save(file := io.BytesIO(), "PNG")
        address = "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()
        super().__init__(picture=address, size=list(picture.size), **traits)


class Spot(_Canvas):
    """A picture in which a click chooses a cell of a grid, for instance a patch.

    A click chooses; so do the arrow keys, once the picture has the focus. `value` is [row, column],
    which `observe` reports as for other widgets.

    Args:
        image: What `open_image` opens, such as a Pillow image or an array (H, W, 3) of uint8;
            shown in its own size, upright.
        value: The [row, column] that is chosen at first.
        grid: Numbers of rows and columns.
        description: What stands above the picture; None: what to do.

    Raises:
        ImageError: The picture cannot be used.
        ValueError: `value` is no cell of the grid.

    Example:
        >>> from PIL import Image
        >>> Spot(Image.new("RGB", (224, 224)), (8, 3)).value
        [8, 3]
    """

    def __init__(
        self,
        image: Any,
        value: tuple[int, int] = (0, 0),
        grid: tuple[int, int] = (16, 16),
        description: str | None = None,
    ) -> None:
        place, counts = _whole("value", value, "row, column"), _whole("grid", grid, "rows, columns")
        if not all(0 <= one < count for one, count in zip(place, counts, strict=True)):
            raise ValueError(f"value: {tuple(place)} is not in a grid of {counts[0]} x {counts[1]}")
        super().__init__(
            image,
            kind="spot",
            value=place,
            grid=counts,
            description=description or "Click on the picture, or use the arrow keys",
        )


class Scratch(_Canvas):
    """A picture on which one straight line is drawn, for instance a scratch on a part.

    Dragging draws it; the arrow keys move its end, with Shift its start. `value` is [x, y, x, y]:
    start and end, in pixels from the upper left corner.

    Args:
        image: What `open_image` opens, such as a Pillow image or an array (H, W, 3) of uint8;
            shown in its own size, upright.
        value: The [x, y, x, y] of the line that is there at first.
        description: What stands above the picture; None: what to do.

    Raises:
        ImageError: The picture cannot be used.
        ValueError: `value` is no line, or leaves the picture.

    Example:
        >>> from PIL import Image
        >>> Scratch(Image.new("RGB", (224, 224)), (90, 100, 130, 120)).value
        [90, 100, 130, 120]
    """

    def __init__(
        self, image: Any, value: tuple[int, int, int, int], description: str | None = None
    ) -> None:
        line = _whole("value", value, "x, y, x, y")
        super().__init__(
            image,
            kind="scratch",
            value=line,
            grid=[1, 1],
            description=description or "Drag over the picture, or use the arrow keys (and Shift)",
        )
        width, height = self.size
        if not all(0 <= one < side for one, side in zip(line, (width, height) * 2, strict=True)):
            raise ValueError(f"value: {tuple(line)} leaves a picture of {width} x {height} pixels")


def _whole(name: str, numbers: Iterable[Any], parts: str) -> list[int]:
    """Return whole numbers, one for each of some parts, or a ValueError."""
    try:
        found = [operator.index(number) for number in numbers]
    except TypeError:
        found = []
    if len(found) != len(parts.split(", ")):
        raise ValueError(f"{name}: {numbers!r} is no [{parts}] of whole numbers")
    return found

"""What a search of an `ImageIndex` found, and a sheet of it to look at."""

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

from ..pictures.decode import ImageError, open_image
from ..pictures.files import printable

if TYPE_CHECKING:
    from PIL import Image

GREY = (224, 224, 224)
INK = (32, 32, 32)


@dataclass(frozen=True)
class Hit:
    """A picture that was found.

    Args:
        rank: From 1.
        score: The larger the better; see `ImageIndex.search`.
        path: Its file, which may be gone since.
        id: Its number in the store, which no other picture ever gets.
        attributes: What you told the store of it.
        width: Pixels of the upright picture.
        height: The same.
    """

    rank: int
    score: float
    path: Path
    id: int
    attributes: dict[str, Any]
    width: int
    height: int


@dataclass(frozen=True)
class Hits(Sequence[Hit]):
    """The hits of a search, best first.

    Args:
        hits: They.
        words: What was asked for; "" if it was a picture alone.
    """

    hits: tuple[Hit, ...]
    words: str = field(default="")

    @overload
    def __getitem__(self, index: int) -> Hit: ...

    @overload
    def __getitem__(self, index: slice) -> tuple[Hit, ...]: ...

    def __getitem__(self, index: int | slice) -> Hit | tuple[Hit, ...]:
        return self.hits[index]

    def __len__(self) -> int:
        return len(self.hits)

    def __str__(self) -> str:
        lines = [f"{hit.rank:3}  {hit.score:6.3f}  {printable(hit.path)}" for hit in self]
        return "\n".join(lines) or "nothing found"

    def sheet(self, *, columns: int = 5, side: int = 224) -> "Image.Image":
        """Draw the hits in rows, with rank, score and name.

        Args:
            columns: Of the sheet, at most.
            side: Largest width and height of a picture on it, in pixels.

        Returns:
            The sheet; a file that is gone or cannot be read is a grey card that says so.

        Raises:
            ValueError: There is no hit, or an impossible size.
        """
        from PIL import Image, ImageDraw, ImageFont

        if not self.hits:
            raise ValueError("nothing was found, so there is no sheet to draw")
        if columns < 1 or side < 16:
            raise ValueError(f"columns={columns}, side={side}: at least 1, and at least 16 pixels")
        gap, letters = 8, max(10, side // 14)
        font = ImageFont.load_default(letters)
        columns = min(columns, len(self))
        rows = -(-len(self) // columns)
        cell = (side + gap, side + gap + 3 * letters)
        sheet = Image.new("RGB", (columns * cell[0] + gap, rows * cell[1] + gap), "white")
        draw = ImageDraw.Draw(sheet)
        for place, hit in enumerate(self):
            left = gap + place % columns * cell[0]
            top = gap + place // columns * cell[1]
            card = _card(hit, side)
            corner = (left + (side - card.width) // 2, top + (side - card.height) // 2)
            sheet.paste(card, corner)
            name = _shortened(printable(hit.path.name), font, side)
            text = f"{hit.rank}   {hit.score:.3f}\n{name}"
            draw.multiline_text((left, top + side + 3), text, INK, font=font, spacing=2)
        return sheet

    def show(self, *, columns: int = 5, side: int = 224) -> None:
        """Show the sheet in a notebook."""
        from ..plotting import show, show_images

        words = f" for {self.words!r}" if self.words else ""
        alt = f"The {len(self)} best pictures{words}, in order"
        show(show_images([self.sheet(columns=columns, side=side)], alt=alt, columns=1))


def _card(hit: Hit, side: int) -> "Image.Image":
    """Return a picture that fits into a square, or a grey one with the reason why not."""
    from PIL import Image, ImageDraw

    try:
        picture = open_image(hit.path)
    except (ImageError, OSError) as error:
        card = Image.new("RGB", (side, side), GREY)
        gone = "the file is gone" if not os.path.exists(hit.path) else type(error).__name__
        ImageDraw.Draw(card).text((side / 2, side / 2), gone, INK, anchor="mm")
        return card
    picture.thumbnail((side, side))
    return picture


def _shortened(name: str, font: Any, width: int) -> str:
    """Return as much of the end of a name as fits into a width; its letters are Latin ones."""
    drawn = name.encode("latin-1", "replace").decode("latin-1")
    while len(drawn) > 4 and font.getlength(drawn) > width:
        drawn = "..." + drawn[4:]
    return drawn

"""One file, or a picture in memory, as 8-bit RGB: all that is decided about it, in one place.

The order is the same for every kind of picture: pixels, orientation, which end is white, bits,
colour profile, transparency. What stands beside the pixels and cannot be read (EXIF, texts, a
profile, a later page) costs a warning in the log, and not the picture.
"""

import functools
import io
import logging
import os
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import PIL
from numpy.typing import NDArray
from PIL import Image

from .colour import ColourError, from_gamma, to_srgb
from .files import FORMATS, local_path, printable
from .mending import mended

logger = logging.getLogger(__name__)

DECODE_VERSION = 1
"""Raised whenever the numbers that come out of this file or of `pixels` change."""

LARGE = 2**20
"""Pixels of a picture from which on `open_reduced` decodes a fraction of them."""

Size: TypeAlias = tuple[int, int]  # width, height
Box: TypeAlias = tuple[float, float, float, float]  # left, top, right, bottom

_REPLACE = "replace or convert it"
_LEAST_PILLOW = (11, 0)
_DEEP = ("I", "F", "I;16", "I;16L", "I;16B", "I;16N")
_TURNED = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_REDUCIBLE = ("JPEG", "MPO")  # formats of which a fraction of the pixels can be decoded
_MARGIN = 2  # times the size to which a picture is scaled afterwards: the least that is decoded
_FROM_RIGHT, _FROM_BOTTOM, _SIDEWAYS = (2, 3, 6, 7), (3, 4, 7, 8), (5, 6, 7, 8)  # orientations
# Formats that Pillow reads as a whole or searches byte by byte, so that a huge file would end or
# hang a run: JPEG, PNG, GIF, WebP, AVIF and HEIC. No picture in them has as many bytes.
_READ_WHOLE = re.compile(rb"\xff\xd8|\x89PNG\r\n\x1a\n|GIF8|RIFF....WEBP|....ftyp", re.DOTALL)
_MOST_BYTES = 2**32
_MENDABLE = re.compile(rb"\xff\xd8|\x89PNG\r\n\x1a\n")  # JPEG, PNG
_MOST_MENDABLE_BYTES = 2**30  # mending holds a file in memory several times
_ORIENTATION, _BITS_PER_SAMPLE, _PHOTOMETRIC, _WHITE_IS_ZERO = 0x0112, 258, 262, 0


def _check_pillow(version: str) -> None:
    major, minor = (int(part) for part in version.split(".")[:2])
    if (major, minor) < _LEAST_PILLOW:
        raise ImportError(f"Pillow {version} is too old to read pictures: pip install -U pillow")


_check_pillow(PIL.__version__)


class ImageError(ValueError):
    """A picture that cannot be used: its `name`, and the `reason` with what to do.

    Example:
        >>> try:
        ...     open_image("holiday/notes.txt")
        ... except ImageError as error:
        ...     print(error.reason)
        cannot be used: cannot identify image file ...; replace or convert it
    """

    def __init__(self, name: str | os.PathLike[str], reason: str) -> None:
        super().__init__(f"{printable(name)}: {reason}")
        self.name = os.fspath(name)
        self.reason = reason

    def __reduce__(self) -> tuple[type["ImageError"], tuple[str, str]]:
        return type(self), (self.name, self.reason)


class Depth(NamedTuple):
    """What is stored of a picture with more than 8 bits."""

    bits: int  # of a value
    low: float  # the least value
    high: float  # the greatest value


class Opened(NamedTuple):
    """A picture as RGB, of which a fraction of the pixels may have been decoded."""

    image: Image.Image  # as `open_image` gives it
    size: Size  # of the whole picture, upright
    box: Box  # where it is in `image`: a fraction of its sides need not be whole pixels

    @classmethod
    def whole(cls, image: Image.Image) -> "Opened":
        """Return a picture of which all pixels are there."""
        return cls(image, image.size, (0, 0, *image.size))


class Whole(NamedTuple):
    """What a picture was before a fraction of its pixels was decoded, upright."""

    size: Size
    box: Box  # where it is among the decoded pixels


@dataclass(frozen=True)
class Stored:
    """A picture as it is stored, in any mode of Pillow, but upright; nothing else is decided."""

    name: str
    image: Image.Image
    frames: int = 1
    format: str = ""  # Pillow's name of it; "" of a picture in memory
    bits: int = 8  # of a value
    white_is_zero: bool = False  # and Pillow has not turned the values round
    upper_bits: bool = False  # Pillow has kept 8 of 16 bits
    whole: Whole | None = None  # None: all pixels were decoded

    @property
    def values(self) -> NDArray[Any]:
        """The values (H, W) of a greyscale picture with more than 8 bits, 0 is black."""
        values = np.asarray(self.image)
        if not self.white_is_zero:
            return values
        top = 1 if values.dtype.kind == "f" else _top(self.bits)
        return (top - values.astype(np.float64)).astype(values.dtype)


def open_image(
    source: Any, name: str | os.PathLike[str] = "", *, bits: int | None = None
) -> Image.Image:
    """Open a picture as 8-bit RGB in the colours of sRGB, upright.

    Its EXIF orientation turns it; a colour profile, or the gamma that a PNG states, is followed;
    transparency is laid on white; of an animation the first frame is taken. Pictures without a
    profile are sRGB, and CMYK without one is converted plainly.

    Greyscale of 16 bits, and integers of 32 bits within 0-65535, are divided by 257, whatever part
    of that range is used: see `range_warning` for cameras of 10, 12 or 14 bits. Of the 16 bits of
    a file in colour Pillow reads the upper 8, which are taken; give arrays of uint16 to have
    them rounded, or scaled by `bits`. A TIFF that says it
    has 12 bits is divided by what 12 bits hold. Floating-point values lie within 0-1.

    Args:
        source: A path (`~` is the home folder), the bytes of a file, a PIL picture, or an array
            (H, W, 3) or (H, W): of uint8; of integers of 16 or 32 bits within 0-65535; or of
            floating-point values within 0-1.
        name: What errors call it. "": its path, or "picture".
        bits: Of the values in a picture with more than 8 bits, 8 to 16: 12 divides them by what 12
            bits hold, 4095 / 255. None: what the file says, else 16.

    Returns:
        (W, H) of mode RGB. `info["frames"]` counts its frames. `info["depth"]` is None, or the
        `Depth` of a picture with more than 8 bits, for `range_warning`.

    Raises:
        ImageError: A file that is unreadable, truncated or too large; values out of those ranges.
        ValueError: `bits` is not within 8 to 16.

    Example:
        >>> open_image("scan.tif", bits=12).info["depth"]
        Depth(bits=16, low=12.0, high=4071.0)
    """
    if bits is not None and not 8 <= bits <= 16:
        raise ValueError(f"bits={bits}: 8 to 16, or None")
    if isinstance(source, np.ndarray):
        eight, depth = _eight_bits(as_array(source, name), str(name) or "picture", bits)
        return _finished(Image.fromarray(eight).convert("RGB"), 1, depth)
    return _to_rgb(read_stored(source, name), bits)


def open_reduced(
    source: Any, name: str | os.PathLike[str] = "", *, scaled_to: Callable[[Size], Size]
) -> Opened:
    """Open a picture that will be scaled down; of a large JPEG, only as many pixels as that needs.

    A JPEG of `LARGE` pixels or more is decoded at 1/2, 1/4 or 1/8 of its sides: at the smallest of
    these that leaves both at least twice as long as they will be after scaling. libjpeg computes
    these from the lower frequencies of each block, several times as fast as all pixels.
    Orientation and colour profile are followed as in `open_image`, by which all other pictures are
    opened. How far features are from those of all pixels, docs/scaling.md says.

    Args:
        source: As for `open_image`. What is in memory as a PIL picture or an array is taken whole.
        name: As there.
        scaled_to: Says to which (width, height) a picture of some (width, height) will be scaled.

    Raises:
        ImageError: As there.

    Example:
        >>> opened = open_reduced("holiday.jpg", scaled_to=lambda size: (341, 256))
        >>> opened.size, opened.image.size
        ((4000, 3000), (1000, 750))

    Source: Pillow's `Image.draft`; libjpeg-turbo, libjpeg.txt, "scale_num, scale_denom".
    """
    if isinstance(source, np.ndarray | Image.Image):
        return Opened.whole(open_image(source, name))
    stored = read_stored(source, name, scaled_to)
    image = _to_rgb(stored, None)
    return Opened(image, *stored.whole) if stored.whole else Opened.whole(image)


def range_warning(depths: Sequence[Depth]) -> str | None:
    """Say that deep pictures are nearly black because they use a small part of their range.

    Args:
        depths: `info["depth"]` of the pictures of a folder, those that have one.

    Returns:
        A sentence with the remedy if no picture has a value beyond a quarter of its range, which
        cameras of 8 to 14 bits that store 16 never have; None otherwise, and for floating point.
    """
    integers = [depth for depth in depths if depth.high > 1]
    if not integers:
        return None
    share = max(depth.high / _top(depth.bits) for depth in integers)
    if share > 0.25:
        return None
    high = max(depth.high for depth in integers)
    likely = next(bits for bits in (8, 10, 12, 14) if high < 2**bits)
    return (
        f"{len(integers)} pictures with more than 8 bits use {share:.2%} of their range or less "
        f"(the greatest value is {high:.0f}), so they are nearly black. If they come from a "
        f"{likely}-bit camera, open them with open_image(path, bits={likely}) and pass on the "
        "pictures. (Of 16-bit colour, Pillow keeps the upper 8 bits: pass uint16 arrays.)"
    )


def read_stored(
    source: Any,
    name: str | os.PathLike[str] = "",
    scaled_to: Callable[[Size], Size] | None = None,
) -> Stored:
    """Read what `open_image` opens, but for arrays, as it is stored.

    Args:
        source: As there.
        name: As there.
        scaled_to: As for `open_reduced`. None: all pixels are decoded.

    Raises:
        ImageError: It cannot be read.
    """
    if isinstance(source, Image.Image):
        name = os.fspath(name) or "picture"
        if not all(source.size):
            raise ImageError(name, f"it has no pixels: {source.width}x{source.height} px")
        return _loaded(source, name, remedy="")
    if isinstance(source, bytes | bytearray | memoryview):
        return _read(bytes(source), os.fspath(name) or "picture", scaled_to)
    if not isinstance(source, str | os.PathLike):
        kind = type(source).__name__
        reason = f"it must be a path, the bytes of a file, a PIL picture or an array, not {kind}"
        raise ImageError(name or "picture", reason)
    path = os.fspath(local_path(source))
    name = os.fspath(name) or os.fsdecode(source)
    if os.path.exists(path) and not os.path.isfile(path):  # a pipe would never end
        raise ImageError(name, f"cannot be used: it is not a regular file; {_REPLACE}")
    _check_bytes(path, name)
    return _read(path, name, scaled_to)


def upright_size(source: Any, name: str | os.PathLike[str] = "") -> Size:
    """Return (width, height) of a picture as `open_image` gives it, from a file's header alone.

    Raises:
        ImageError: It cannot be read.
    """
    if isinstance(source, np.ndarray | Image.Image | bytes | bytearray | memoryview):
        if isinstance(source, np.ndarray):
            return source.shape[1], source.shape[0]
        return read_stored(source, name).image.size
    path = os.fspath(local_path(source))
    name = os.fspath(name) or os.fsdecode(source)
    _check_bytes(path, name)
    with _blaming(name, _REPLACE), Image.open(path, formats=_formats()) as image:
        turned = image.format != "TIFF" and _orientation(image, name) >= 5  # Pillow turns TIFF
        return image.size[::-1] if turned else image.size


def as_array(source: NDArray[Any], name: str | os.PathLike[str]) -> NDArray[Any]:
    """Return an array in this machine's order of bytes; ImageError: it is no picture's shape."""
    if source.ndim not in (2, 3) or source.shape[2:] not in ((), (3,)) or not source.size:
        reason = f"shape {source.shape} is neither (H, W, 3) nor (H, W), 1 or more each; change it"
        raise ImageError(name or "picture", f"cannot be used: {reason}")
    return source.astype(source.dtype.newbyteorder("="), copy=False)


@contextmanager
def _blaming(name: str, remedy: str) -> Iterator[None]:
    """Turn what Pillow raises on a damaged file into an ImageError.

    Only calls of Pillow stand inside: an error of this package's own is never a file's fault, and
    neither is a lack of memory.
    """
    try:
        yield
    except MemoryError:
        raise
    except Image.DecompressionBombError as error:
        how = "scale it down, or raise PIL.Image.MAX_IMAGE_PIXELS if you trust it"
        raise ImageError(name, f"cannot be used: {error}; {how}") from error
    # Pillow's decoders raise many types on damaged files, and one file must never stop a folder
    except Exception as error:
        reason = f"cannot be used: {_what(error)}"
        raise ImageError(name, f"{reason}; {remedy}" if remedy else reason) from error


def _what(error: BaseException) -> str:
    """Return an error's text without what names the file once more."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return str(error).split(" <_io.")[0] or type(error).__name__


def _check_bytes(path: str, name: str) -> None:
    """Refuse a file of more bytes than a picture of its format has."""
    with _blaming(name, _REPLACE):
        n_bytes = os.path.getsize(path)
        is_huge = n_bytes > _MOST_BYTES and _READ_WHOLE.match(_first_bytes(path))
    if is_huge:
        reason = f"its {n_bytes / 1e9:.1f} GB are more than a picture of its format has"
        raise ImageError(name, f"cannot be used: {reason}; {_REPLACE}")


def _first_bytes(path: str) -> bytes:
    with open(path, "rb") as file:
        return file.read(16)


def _mendable_bytes(path: str) -> bytes:
    """Return what a file holds; b"" where nothing of it could be mended."""
    if os.path.getsize(path) > _MOST_MENDABLE_BYTES or not _MENDABLE.match(_first_bytes(path)):
        return b""
    return Path(path).read_bytes()


def _read(file: str | bytes, name: str, scaled_to: Callable[[Size], Size] | None) -> Stored:
    """Read a file; where Pillow gives up, once more without what is not needed for the pixels."""
    try:
        return _decode(file, name, scaled_to)
    except ImageError as error:
        cause = error.__cause__
        unread = isinstance(cause, OSError) and cause.errno is not None
        if unread or isinstance(cause, Image.DecompressionBombError):
            raise
        with _blaming(name, _REPLACE):
            data = file if isinstance(file, bytes) else _mendable_bytes(file)
        lean = mended(data) if data else None
        if lean is None:
            raise
        stored = _decode(lean.data, name, scaled_to)
        logger.warning("%s: %s (%s)", printable(name), lean.note, _what(cause or error))
        return stored


def _decode(file: str | bytes, name: str, scaled_to: Callable[[Size], Size] | None) -> Stored:
    opened: Any = io.BytesIO(file) if isinstance(file, bytes) else file
    with _blaming(name, _REPLACE):
        image = Image.open(opened, formats=_formats())
    with image:
        return _loaded(image, name, _REPLACE, scaled_to)


def _reduce(
    image: Image.Image, orientation: int, scaled_to: Callable[[Size], Size]
) -> Whole | None:
    """Let Pillow decode a fraction of a large JPEG; None: it will decode all of it."""
    stored = image.size
    if stored[0] * stored[1] < LARGE:
        return None
    lies = orientation in _SIDEWAYS
    upright = _swapped_if(lies, stored)
    width, height = (max(1, _MARGIN * side) for side in scaled_to(upright))
    drafted = image.draft(None, _swapped_if(lies, (width, height)))
    if drafted is None or image.size == stored:
        return None
    _, (_, _, *filled) = drafted
    across, down = _swapped_if(lies, filled)
    # libjpeg rounds sides up: what is beyond the picture is at the end of its rows and columns
    right, bottom = _swapped_if(lies, image.size)
    left = right - across if orientation in _FROM_RIGHT else 0
    top = bottom - down if orientation in _FROM_BOTTOM else 0
    return Whole(upright, (left, top, left + across, top + down))


def _swapped_if(lies: bool, pair: Sequence[Any]) -> tuple[Any, Any]:
    first, second = pair
    return (second, first) if lies else (first, second)


@functools.cache
def _formats() -> tuple[str, ...]:
    """Return the formats that may be opened, with the plug-in for HEIC if it is installed."""
    if "HEIF" in FORMATS:
        import pillow_heif

        pillow_heif.register_heif_opener()
    return FORMATS


def _loaded(
    image: Image.Image,
    name: str,
    remedy: str,
    scaled_to: Callable[[Size], Size] | None = None,
) -> Stored:
    """Decode a picture that Pillow has opened."""
    kind = image.format or ""
    orientation, whole = None, None
    if kind in _REDUCIBLE:  # these have their EXIF before the pixels, others also behind them
        orientation = _orientation(image, name)
        whole = _reduce(image, orientation, scaled_to) if scaled_to else None
    tiles = getattr(image, "tile", ())  # what is still to be decoded
    upper_bits = image.mode not in _DEEP and any(";16" in str(tile) for tile in tiles)
    with _blaming(name, remedy):
        image.load()
    tags = getattr(image, "tag_v2", {})
    bits, white_is_zero = 8, False
    if image.mode in _DEEP:
        narrow = image.mode.startswith("I;16") or kind in ("PNG", "PPM")
        bits = tags.get(_BITS_PER_SAMPLE, (16 if narrow else 32,))[0]
        white_is_zero = tags.get(_PHOTOMETRIC) == _WHITE_IS_ZERO
    if orientation is None:
        orientation = _orientation(image, name)
    how = _TURNED.get(orientation)
    # a copy, for counting the frames moves on to other frames
    turned = image.copy() if how is None else image.transpose(how)
    frames = _frames(image, name)
    return Stored(name, turned, frames, kind, bits, white_is_zero, upper_bits, whole)


def _orientation(image: Image.Image, name: str) -> int:
    """Return the EXIF orientation, 1 if there is none or it cannot be read."""
    try:
        return int(image.getexif().get(_ORIENTATION, 1))
    except MemoryError:
        raise
    except Exception as error:
        text = "its EXIF cannot be read, so it is not turned upright"
        logger.warning("%s: %s (%s)", printable(name), text, _what(error))
        return 1


def _frames(image: Image.Image, name: str) -> int:
    try:
        return int(getattr(image, "n_frames", 1))
    except MemoryError:
        raise
    except Exception as error:
        text = "the pages or frames behind the first cannot be read"
        logger.warning("%s: %s (%s)", printable(name), text, _what(error))
        return 1


def _to_rgb(stored: Stored, bits: int | None) -> Image.Image:
    image, depth, opacity = stored.image, None, None
    if image.mode in _DEEP:
        values = stored.values
        eight, depth = _eight_bits(values, stored.name, bits, stored.bits)
        clear = image.info.get("transparency")
        if isinstance(clear, int):
            shown = np.asarray(image) != clear
            opacity = Image.fromarray(np.where(shown, np.uint8(255), np.uint8(0)))
        colour = Image.fromarray(eight)
    else:
        if stored.upper_bits:
            depth = _depth_of_upper_bits(stored, bits)
        colour, opacity = _without_opacity(image, stored.upper_bits)
    colour = _in_srgb(colour, image.info, stored.name)
    if opacity is not None:
        colour.putalpha(opacity)
        white = Image.new("RGBA", colour.size, "white")
        colour = Image.alpha_composite(white, colour).convert("RGB")
    return _finished(colour, stored.frames, depth)


def _finished(image: Image.Image, frames: int, depth: Depth | None) -> Image.Image:
    # without the profile and orientation that have been followed
    image.info = {"frames": frames, "depth": depth}
    return image


def _without_opacity(
    image: Image.Image, upper_bits: bool
) -> tuple[Image.Image, Image.Image | None]:
    """Return the colours as L, CMYK or RGB, and the opacity as L if there is one."""
    opacity = None
    if image.mode in ("La", "RGBa"):
        image = image.convert({"La": "LA", "RGBa": "RGBA"}[image.mode])
    if image.has_transparency_data:
        clear = image.info.get("transparency")
        if upper_bits and isinstance(clear, tuple):
            image.info["transparency"] = tuple(value >> 8 for value in clear)
        with_opacity = image.convert("RGBA")
        opacity = with_opacity.getchannel("A")
        if image.mode in ("P", "PA", "RGB"):
            image = with_opacity
    if image.mode in ("1", "L", "LA"):
        image = image.getchannel(0).convert("L")
        image.info.pop("transparency", None)
        return image, opacity
    return image if image.mode == "CMYK" else image.convert("RGB"), opacity


def _in_srgb(colour: Image.Image, info: dict[Any, Any], name: str) -> Image.Image:
    """Return RGB in the colours of sRGB, by the profile or the gamma that a file states."""
    profile = info.get("icc_profile")
    try:
        if profile:
            return to_srgb(colour, profile)
        if "gamma" in info and "srgb" not in info:
            return from_gamma(colour, info["gamma"], info.get("chromaticity"))
    except ColourError as error:
        logger.warning("%s: %s; its colours are taken for sRGB", printable(name), error)
    return colour.convert("RGB")


def _top(bits: int) -> int:
    """Return the value that is white."""
    return 2 ** min(bits, 16) - 1


def _eight_bits(
    values: NDArray[Any], name: str, bits: int | None, stored: int = 0
) -> tuple[NDArray[np.uint8], Depth | None]:
    """Bring values to 0-255; ImageError: they are out of the range of their kind."""
    if values.dtype == np.uint8:
        return values, None
    kind, size = values.dtype.kind, values.dtype.itemsize
    wanted = "not uint8, uint16 or floats within 0-1; bring them to one of these"
    if kind not in "biuf":
        raise ImageError(name, f"cannot be used: values are {values.dtype}, {wanted}")
    low, high = values.min(), values.max()
    stored = stored or 8 * size
    integers = kind in "iu" and size in (2, 4)
    top = _top(bits or stored) if integers else 1
    # NaN fails the comparisons
    if (integers or kind == "f") and low >= 0 and high <= top:
        eight = np.round(values * (255 / top)).astype(np.uint8)
        return eight, Depth(stored, float(low), float(high))
    if bits and integers and low >= 0:
        raise ImageError(name, f"values up to {high} do not fit into bits={bits}")
    span = f"{values.dtype} from {low} to {high}"
    raise ImageError(name, f"cannot be used: values are {span}, {wanted}")


def _depth_of_upper_bits(stored: Stored, bits: int | None) -> Depth:
    if bits not in (None, 16):
        reason = f"of 16-bit colour Pillow keeps the upper 8 bits, too few for bits={bits}"
        raise ImageError(stored.name, f"{reason}: give it as an array of uint16")
    colours = np.asarray(stored.image.convert("RGB"))
    return Depth(16, 256.0 * colours.min(), 256.0 * colours.max() + 255)

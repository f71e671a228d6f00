"""Masks, class maps and depth: pictures whose numbers mean something, and are no colours.

None of the rules for photographs holds for them: no profile, no white under transparency, no
division by 257. Each has a reader that checks what it reads. All are turned upright by their EXIF
orientation, as their pictures are. `size` is (width, height) in pixels of the upright picture that
an annotation belongs to; another size is an error, or with `resize=True` brought to it by taking
the nearest pixel.
"""

import os
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from .decode import ImageError, Stored, read_stored

Size = tuple[int, int]  # width, height

_LOSSY = ("JPEG", "MPO")
_FEW = 32  # values up to here are numbers of classes or objects, and no shades
_OPACITY = {"LA": 1, "La": 1, "PA": 1, "RGBA": 3, "RGBa": 3}  # channel of the opacity


def read_mask(
    source: Any, *, size: Size | None = None, resize: bool = False, name: str = ""
) -> NDArray[np.bool_]:
    """Read which pixels are marked, as any tool writes it.

    - Where the opacity varies, it is a drawing on a transparent layer: true is what is drawn, of
      whatever colour, at half of the greatest opacity or more.
    - Of an indexed picture, true is every index but 0. Only if the palette says that some other
      index is black, and 0 is not, true is every colour but black.
    - Else true is every value but 0, of the brightest channel: 255, 1, a class, red on black.
      Shades below half of the greatest value do not count if they are but rims and noise, as
      antialiased edges and JPEG make them; they do if they fill areas, or if no value exceeds 32.

    Nothing is guessed to be inverted. A mask may be empty or full: look at `mask.any()`.

    Args:
        source: A path, the bytes of a file, a PIL picture, or an array (H, W), (H, W, 3), (H, W, 4)
            of bool, integers or floating-point values.
        size: (width, height) of its picture; None: any.
        resize: Whether another size is brought to that by the nearest pixel.
        name: What errors call it. "": its path.

    Returns:
        (H, W) bool.

    Raises:
        ImageError: It cannot be read, has another size, or is shaded all over, as a photograph.
    """
    name, annotation = _read(source, name)
    opacity = _varying_opacity(annotation)
    if opacity is not None:
        found = 2 * opacity.astype(float) >= max(1, opacity.max())
    elif annotation.mode == "P" and not _black_is_not_0(annotation):
        found = annotation.values != 0
    else:
        found = _marked(_brightest(annotation), name)
    return _fitted(found, size, resize, name)


def read_class_map(
    source: Any,
    *,
    classes: Sequence[str] | int | None = None,
    size: Size | None = None,
    resize: bool = False,
    name: str = "",
) -> NDArray[Any]:
    """Read the number of a class, or of an object, for each pixel.

    Of an indexed picture these are the indices, whatever its palette; of a greyscale one the
    values as they are stored.

    Args:
        source: As in `read_mask`, an array being of bool or integers.
        classes: The names of the classes 1 to n, or n; 0 is the background. None: any number.
        size: As in `read_mask`.
        resize: As in `read_mask`.
        name: As in `read_mask`.

    Returns:
        (H, W) of uint8, or of the wider integers that are stored.

    Raises:
        ImageError: It cannot be read, has another size, is in colour, has floating-point values,
            is a JPEG (which changes values), or has a value beyond the classes.
    """
    name, annotation = _read(source, name)
    if annotation.format in _LOSSY:
        raise ImageError(name, "is a JPEG, which changes values: save class maps as PNG")
    values = _plain_values(annotation, name, "class map", (np.bool_, np.integer))
    values = values.astype(np.uint8) if values.dtype == np.bool_ else values
    if values.min() < 0:
        raise ImageError(name, f"has the value {values.min()}; classes are 0 or more")
    last = classes if isinstance(classes, int | None) else len(classes)
    if last is not None and values.max() > last:
        beyond = sorted({int(value) for value in np.unique(values) if value > last})
        listed = ", ".join(map(str, beyond[:5]))
        raise ImageError(name, f"has the value {listed}; its classes are 0 to {last}")
    return _fitted(values, size, resize, name)


def read_depth(
    source: Any,
    *,
    unit: float | None = None,
    size: Size | None = None,
    resize: bool = False,
    name: str = "",
) -> NDArray[np.float32]:
    """Read distances in metres; NaN where none was measured.

    Values of 0 or less, and those that are not finite, were not measured.

    Args:
        source: As in `read_mask`, an array (H, W) of integers or floating-point values.
        unit: Metres of one step: 0.001 for millimetres, 1/256 for KITTI. None: integers of 16 or
            more bits are millimetres, and floating-point values are metres.
        size: As in `read_mask`.
        resize: As in `read_mask`.
        name: As in `read_mask`.

    Returns:
        (H, W) float32, metres.

    Raises:
        ImageError: It cannot be read, has another size, is in colour or indexed; or it has 8 bits,
            which hold no more than 255 mm, and no `unit` is given.
    """
    name, annotation = _read(source, name)
    if annotation.mode in ("P", "PA", "1"):
        raise ImageError(name, f"has mode {annotation.mode}; depth is greyscale of 16 or 32 bits")
    values = _plain_values(annotation, name, "depth map", (np.integer, np.floating))
    if unit is None:
        if values.dtype.itemsize < 2:
            raise ImageError(name, "has 8 bits, too few for millimetres: give the `unit` in metres")
        unit = 1.0 if values.dtype.kind == "f" else 0.001
    with np.errstate(invalid="ignore"):
        measured = np.isfinite(values) & (values > 0)
    # float64, for that of 32 bits does not hold every 32-bit integer
    metres = np.where(measured, values.astype(np.float64) * unit, np.nan).astype(np.float32)
    return _fitted(metres, size, resize, name)


class _Annotation:
    """An annotation as it is stored: a picture of Pillow's, or an array."""

    def __init__(self, stored: Stored | None, array: NDArray[Any] | None) -> None:
        self.image = stored.image if stored else None
        self.mode = stored.image.mode if stored else ""  # of Pillow
        self.format = stored.format if stored else ""
        self.stored, self.array = stored, array

    @property
    def values(self) -> NDArray[Any]:
        """(H, W) or (H, W, channels), indices of an indexed picture."""
        if self.array is not None:
            return self.array
        assert self.stored is not None
        if self.stored.white_is_zero:
            return self.stored.values
        return np.asarray(self.stored.image)


def _read(source: Any, name: str | os.PathLike[str]) -> tuple[str, _Annotation]:
    if not isinstance(source, np.ndarray):
        stored = read_stored(source, name)
        return stored.name, _Annotation(stored, None)
    name = os.fspath(name) or "annotation"
    if source.ndim not in (2, 3) or source.shape[2:] not in ((), (1,), (3,), (4,)):
        raise ImageError(name, f"has shape {source.shape}, and not (H, W), (H, W, 3) or (H, W, 4)")
    if not source.size or source.dtype.kind not in "buif":
        raise ImageError(name, f"has shape {source.shape} and type {source.dtype}, so no values")
    native = source.astype(source.dtype.newbyteorder("="), copy=False)
    return name, _Annotation(None, native[..., 0] if source.shape[2:] == (1,) else native)


def _varying_opacity(annotation: _Annotation) -> NDArray[Any] | None:
    """Return the opacity (H, W) if it tells something: it varies, or is nowhere more than 0."""
    opacity = None
    if annotation.array is not None:
        opacity = annotation.array[..., 3] if annotation.array.shape[2:] == (4,) else None
    elif annotation.image is not None and annotation.image.has_transparency_data:
        opacity = np.asarray(_with_opacity(annotation.image))
    if opacity is None or opacity.min() == opacity.max() > 0:
        return None
    return opacity


def _with_opacity(image: Image.Image) -> Image.Image:
    if image.mode in _OPACITY:
        return image.getchannel(_OPACITY[image.mode])
    if image.mode.startswith("I"):
        shown = np.asarray(image) != image.info["transparency"]
        return Image.fromarray(shown.astype(np.uint8))
    return image.convert("RGBA").getchannel("A")


def _black_is_not_0(annotation: _Annotation) -> bool:
    """Say whether a palette has its black, the background, at another index than 0."""
    image = annotation.image
    assert image is not None
    palette = np.array(image.getpalette("RGB") or [0, 0, 0]).reshape(-1, 3)
    used = [index for index in np.unique(np.asarray(image)) if 0 < index < len(palette)]
    return bool(palette[0].any()) and any(not palette[index].any() for index in used)


def _brightest(annotation: _Annotation) -> NDArray[Any]:
    """Return (H, W), the greatest of the colours, or the value."""
    image = annotation.image
    if image is None:
        values = annotation.values
        return values if values.ndim == 2 else values[..., :3].max(-1)
    if image.mode.startswith(("I", "F")):
        return annotation.values
    if image.mode in ("1", "L", "LA", "La"):
        return np.asarray(image.getchannel(0)).astype(np.uint8)
    if image.mode == "RGBa":
        image = image.convert("RGBA")
    return np.asarray(image.convert("RGB")).max(-1)


def _marked(values: NDArray[Any], name: str) -> NDArray[np.bool_]:
    """Tell marks from the background, and from shades that only edges and noise have."""
    if values.dtype == np.bool_:
        return values
    if not np.isfinite(values).all() or values.min() < 0:
        raise ImageError(name, f"has values from {values.min()} to {values.max()}: no mask")
    top = float(values.max())
    faint = (values > 0) & (values < top / 2)
    if (values.dtype.kind in "iu" and top <= _FEW) or not faint.any():
        return values > 0
    flat = _flat(values)
    shaded = (values > top / 8) & (values < top * 7 / 8) & ~flat
    if shaded.mean() > 0.5:
        raise ImageError(name, "is shaded all over as a photograph is: no mask")
    return values > 0 if flat[faint].mean() > 0.5 else ~faint & (values > 0)


def _flat(values: NDArray[Any]) -> NDArray[np.bool_]:
    """Say which pixels (H, W) have, in one of the 3x3 squares they are in, one value alone."""
    from scipy.ndimage import binary_dilation, maximum_filter, minimum_filter

    middle = maximum_filter(values, 3) == minimum_filter(values, 3)
    return binary_dilation(middle, np.ones((3, 3), bool))


def _plain_values(
    annotation: _Annotation, name: str, kind: str, types: tuple[type[np.generic], ...]
) -> NDArray[Any]:
    """Return one value for each pixel (H, W); ImageError: there are colours or other types."""
    values = annotation.values
    mode = annotation.mode
    if mode in _OPACITY:
        if _varying_opacity(annotation) is not None:
            raise ImageError(name, f"is transparent in parts: a {kind} has a value everywhere")
        values = values[..., : _OPACITY[mode]]
    if values.ndim == 3:
        same = mode != "CMYK" and (values == values[..., :1]).all()
        if not same:
            raise ImageError(name, f"is in colour: a {kind} is indexed or greyscale")
        values = values[..., 0]
    if not any(np.issubdtype(values.dtype, allowed) for allowed in types):
        raise ImageError(name, f"has values of type {values.dtype}, which a {kind} has not")
    return values


def _fitted(values: NDArray[Any], size: Size | None, resize: bool, name: str) -> NDArray[Any]:
    """Return values (H, W) of a size, or ImageError."""
    height, width = values.shape
    if size is None or (width, height) == tuple(size):
        return values
    if not resize:
        raise ImageError(name, f"is {width}x{height} px, but its picture is {size[0]}x{size[1]} px")
    # the value at the centre of each new pixel
    across = ((np.arange(size[0]) + 0.5) * width / size[0]).astype(int)
    down = ((np.arange(size[1]) + 0.5) * height / size[1]).astype(int)
    return values[down[:, None], across]

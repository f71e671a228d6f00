"""Open pictures of any kind as 8-bit RGB, and bring them to the pixels a model expects."""

import io
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from .models import Model

Fit = Literal["crop", "resize", "pad"]
Size = tuple[int, int]  # width, height
SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".ppm", ".pgm")
# Named, because PIL's EPS reader would run Ghostscript on a file that only claims to be a .png.
_FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF", "PPM")
# of a picture once scaled: enough to crop 12000x50, and for 21 thousand patches
MAX_PIXELS = {"crop": 2**24, "resize": 2**22, "pad": 2**22}


class ImageError(ValueError):
    """A picture that cannot be used; `reason` says why and what to do."""

    def __init__(self, name: str | os.PathLike[str], reason: str) -> None:
        super().__init__(f"{os.fspath(name)}: {reason}")
        self.reason = reason


def iter_images(folder: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield the pictures of a folder and of those in it, by suffix (`SUFFIXES`), no hidden ones.

    Each folder is in the order of its names, before those in it; one that cannot be read is printed
    and left out. A link out of the folder is not followed. No picture is a FileNotFoundError.
    """
    root, empty = Path(folder).expanduser(), True
    inside = root.resolve()
    for place, folders, names in os.walk(root, onerror=lambda error: print(f"left out: {error}")):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for path in (Path(place, name) for name in sorted(names) if not name.startswith(".")):
            linked = path.is_symlink() and inside not in Path(os.path.realpath(path)).parents
            if path.suffix.lower() in SUFFIXES and not linked:
                empty = False
                yield path
    if empty:
        raise FileNotFoundError(f"{root} is no folder with pictures, or no permission: {SUFFIXES}")


def open_image(source: Any, name: str | os.PathLike[str] = "") -> Image.Image:
    """Open a picture as 8-bit RGB, turned upright by its EXIF orientation.

    It is a path, the bytes of a file, a PIL picture, or an array (H, W, 3) or (H, W); `name` names
    it in errors. Greyscale, palette and CMYK are converted; transparency is laid on white; of an
    animation the first frame is taken, and `info["frames"]` tells how many there are. 16-bit
    greyscale is divided by 257, whatever part of its range is used; so are 32-bit integers of a
    file within 0-65535. Floating-point values must lie within 0-1. Values out of those ranges, or
    an unreadable, truncated or huge file, are an ImageError.
    """
    try:
        if isinstance(source, np.ndarray):
            if source.ndim not in (2, 3) or source.shape[2:] not in ((), (3,)) or not source.size:
                raise ValueError(f"shape {source.shape} is neither (H, W, 3) nor (H, W)")
            source = Image.fromarray(_to_uint8(source))
        if isinstance(source, Image.Image):
            return _to_rgb(source)
        if isinstance(source, bytes):
            file: Any = io.BytesIO(source)
        else:
            file = os.fspath(source)
            name = name or file
            if os.path.exists(file) and not os.path.isfile(file):  # a pipe would never end
                raise ValueError("it is not a regular file")
        with Image.open(file, formats=_FORMATS) as image:
            return _to_rgb(image)
    # PIL's decoders raise many types on damaged files, and one file must never stop a folder
    except Exception as error:
        reason = f"cannot be used: {str(error).split(' <_io.')[0]}; replace or convert it"
        raise ImageError(name or "picture", reason) from error


def _to_rgb(image: Image.Image) -> Image.Image:
    frames = getattr(image, "n_frames", 1)
    image = ImageOps.exif_transpose(image)
    if image.mode in ("I", "F") or image.mode.startswith("I;16"):
        values = np.asarray(image)
        if image.mode == "I" and values.min() >= 0 and values.max() <= 65535:
            values = values.astype(np.uint16)
        image = Image.fromarray(_to_uint8(values))
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    image = image.convert("RGB")
    image.info["frames"] = frames
    return image


def _to_uint8(values: NDArray[Any]) -> NDArray[np.uint8]:
    for kind, top in ((np.uint8, 255), (np.uint16, 65535), (np.floating, 1)):
        # NaN fails the comparisons
        if np.issubdtype(values.dtype, kind) and values.min() >= 0 and values.max() <= top:
            return np.round(values * (255 / top)).astype(np.uint8)
    span = f"{values.dtype} from {values.min()} to {values.max()}"
    raise ValueError(f"values are {span}, not uint8, uint16 or floats within 0-1")


def to_pixels(
    image: Image.Image, model: Model, *, size: int | None = None, fit: Fit = "crop"
) -> NDArray[np.float32]:
    """Bring an RGB picture to normalised pixels whose sides are multiples of the patch.

    - "crop": as the model's processor does: the shortest side to its `shortest_edge` (256), then
      the centre of `crop_size` (224). Another `size` in pixels, taken to the nearest multiple of
      the patch, replaces the latter and scales the former.
    - "resize": scaled to a shortest side of `size` (None: not scaled), then each side taken to
      the nearest multiple of the patch. Nothing is cut off; the aspect changes a little.
    - "pad": scaled likewise, then filled with the mean colour at the right and the bottom.

    Returns (3, H, W) float32, less the processor's mean and over its standard deviation by channel.
    More than `MAX_PIXELS` once scaled, before the crop, are an ImageError.
    """
    processor = model.processor
    scaled, (width, height) = geometry(image.size, model, size, fit)
    if scaled[0] * scaled[1] > MAX_PIXELS[fit]:
        reason = f"would be scaled to {scaled[0]}x{scaled[1]} px; give a lower `size` or cut it"
        raise ImageError(f"picture of {image.width}x{image.height} px", reason)
    image = image.resize(scaled, processor.resample)
    if fit == "crop":
        left, top = (scaled[0] - width) // 2, (scaled[1] - height) // 2
        image = image.crop((left, top, left + width, top + height))
    colours = np.asarray(image, np.float32) * processor.rescale_factor
    colours = (colours - np.float32(processor.image_mean)) / np.float32(processor.image_std)
    pixels = np.zeros((3, height, width), np.float32)  # 0 is the mean colour
    pixels[:, : image.height, : image.width] = colours.transpose(2, 0, 1)
    return pixels


def geometry(size_in: Size, model: Model, size: int | None, fit: Fit) -> tuple[Size, Size]:
    """Return (width, height) of the whole picture once scaled, and of what the model gets."""
    patch = model.patch_size
    if fit == "crop":
        native = model.processor.crop_size["height"]
        side = max(1, round((size or native) / patch)) * patch
        shortest = round(model.processor.size["shortest_edge"] * side / native)
        # rounded down, as the processor does
        width, height = (int(shortest * length / min(size_in)) for length in size_in)
        return (width, height), (side, side)
    scale = size / min(size_in) if size else 1.0
    if fit == "resize":
        width, height = (max(1, round(length * scale / patch)) * patch for length in size_in)
        return (width, height), (width, height)
    width, height = (max(1, round(length * scale)) for length in size_in)
    return (width, height), (-(-width // patch) * patch, -(-height // patch) * patch)

"""RGB pictures as the pixels that a model takes: what its processor says, whole or not at all."""

import functools
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from .decode import ImageError, Opened, Size

Fit = Literal["crop", "resize", "pad"]

# of a picture once scaled: enough to crop 12000x50, and for 21 thousand patches
MAX_PIXELS = {"crop": 2**24, "resize": 2**22, "pad": 2**22}

_CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
_CLIP_STD = (0.26862954, 0.26130258, 0.27577711)
_IMAGENET_MEAN = (0.485, 0.456, 0.406)
_IMAGENET_STD = (0.229, 0.224, 0.225)
_BICUBIC, _BILINEAR = 3, 2
# What processors do where their configuration says nothing. These classes of transformers differ in
# nothing else; those with steps of their own are refused.
_CROPPING: dict[str, Any] = {
    "do_resize": True,
    "size": {"shortest_edge": 224},
    "default_to_square": False,
    "resample": _BICUBIC,
    "do_center_crop": True,
    "crop_size": {"height": 224, "width": 224},
    "do_rescale": True,
    "rescale_factor": 1 / 255,
    "do_normalize": True,
    "image_mean": _CLIP_MEAN,
    "image_std": _CLIP_STD,
}
_SQUARE = _CROPPING | {
    "size": {"height": 224, "width": 224},
    "default_to_square": True,
    "do_center_crop": False,
    "crop_size": None,
    "resample": _BILINEAR,
    "image_mean": 0.5,
    "image_std": 0.5,
}
_DEFAULTS: dict[str, dict[str, Any]] = {
    "Bit": _CROPPING,
    "CLIP": _CROPPING,
    "ViT": _SQUARE,
    "Siglip": _SQUARE | {"default_to_square": False, "resample": _BICUBIC},
    "DINOv3ViT": _SQUARE | {"image_mean": _IMAGENET_MEAN, "image_std": _IMAGENET_STD},
}
_FORMS = (
    {"shortest_edge"},
    {"shortest_edge", "longest_edge"},
    {"height", "width"},
    {"max_height", "max_width"},
)
_FLAGS = {"do_resize", "do_center_crop", "do_rescale", "do_normalize", "do_convert_rgb"}


class Resize(NamedTuple):
    """How a picture is scaled, in pixels: one of transformers' forms of `size`."""

    shortest_edge: int | None = None
    longest_edge: int | None = None  # which the longest edge does not exceed
    height: int | None = None
    width: int | None = None
    max_height: int | None = None
    max_width: int | None = None

    def by(self, factor: float) -> "Resize":
        """Return the same for pictures `factor` times as large."""
        return Resize(*(None if side is None else round(side * factor) for side in self))

    def of(self, size: Size) -> Size:
        """Return the (width, height) of a picture of some (width, height) once scaled.

        In whole pixels as transformers takes them, which rounds down in most places.
        """
        if self.shortest_edge is not None:
            return self._by_edges(size, self.shortest_edge)
        if self.height is not None and self.width is not None:
            return self.width, self.height
        assert self.max_height is not None and self.max_width is not None
        width, height = size
        scale = min(self.max_height / height, self.max_width / width)
        return int(width * scale), int(height * scale)

    def _by_edges(self, size: Size, shortest: int) -> Size:
        short, long = min(size), max(size)
        exact: float = shortest
        if self.longest_edge is not None and long / short * shortest > self.longest_edge:
            exact = self.longest_edge * short / long
        if round(exact) == short:
            return size
        edges = round(exact), int(exact * long / short)
        return edges if size[0] <= size[1] else edges[::-1]


@dataclass(frozen=True)
class Preprocessing:
    """All that `to_pixels` needs to know of a model."""

    patch_size: int  # pixels
    resize: Resize | None  # None: pictures are not scaled
    crop: tuple[int, int] | None  # height and width of the part in the middle; None: all of it
    mean: tuple[float, ...]  # by channel, taken from the values once rescaled
    std: tuple[float, ...]  # by channel, what they are divided by then
    rescale_factor: float | None  # of the values 0 to 255; None: they stay as they are
    resample: int  # of PIL.Image.Resampling

    @classmethod
    def from_processor(cls, processor_config: Any, patch_size: int) -> "Preprocessing":
        """Read the configuration of an image processor of transformers.

        Args:
            processor_config: The content of `preprocessor_config.json`, or the processor itself.
                What a configuration does not say is what transformers does then.
            patch_size: Of the model, in pixels.

        Raises:
            ValueError: It asks for something that `to_pixels` does not do, which is named.
        """
        config = _config_of(processor_config)
        # a None is one of transformers too: a flag that is not set, a size that is missing
        settings = _defaults_of(config) | dict(config)
        _refuse_other_flags(settings)
        resize = _resize_of(settings) if settings["do_resize"] else None
        crop = _crop_of(settings) if settings["do_center_crop"] else None
        mean, std = _three(0.0), _three(1.0)
        if settings["do_normalize"]:
            mean, std = (_three(settings[key], key) for key in ("image_mean", "image_std"))
        if 0 in std:
            raise _not_honoured("image_std", std)
        factor = _number(settings, "rescale_factor") if settings["do_rescale"] else None
        resample = settings["resample"] if settings["do_resize"] else _BICUBIC
        if resample not in list(Image.Resampling):
            raise _not_honoured("resample", resample)
        return cls(patch_size, resize, crop, mean, std, factor, int(resample))


class HasPreprocessing(Protocol):
    """A model that says what it takes."""

    @property
    def preprocessing(self) -> Preprocessing:
        """What `to_pixels` needs to know of it."""


def to_pixels(
    image: Image.Image | Opened,
    model: HasPreprocessing | Preprocessing,
    *,
    size: int | None = None,
    fit: Fit = "crop",
) -> NDArray[np.float32]:
    """Bring an RGB picture to normalised pixels whose sides are multiples of the patch.

    - "crop": as the model's processor does, to the last digit: of most, the shortest side to its
      `shortest_edge` (256), then the centre of `crop_size` (224). What is left at the right and the
      bottom of whole patches is cut off, as the model itself would ignore it.
    - "resize": scaled to a shortest side of `size` (None: not scaled), then each side taken to
      the nearest multiple of the patch. Nothing is cut off; the aspect changes a little.
    - "pad": scaled likewise, then filled with 0, the mean colour, at the right and the bottom.

    With "crop", `size` is taken to the nearest multiple of the patch, and is the shortest side of
    what the model gets: of the crop, whose other side and the scaling before it grow alike; of a
    processor that scales and does not crop, of what it scales to; of one that does neither, of
    the picture, which is scaled. Where a processor crops and does not scale, it is the crop alone.

    Args:
        image: Of mode RGB, as `open_image` gives it, or `Opened`, as `open_reduced` does.
        model: From `load_dinov2` or `load_clip`; or its `Preprocessing`.
        size: In pixels, as above. None: what the processor says, or the picture's own size.
        fit: "crop", "resize" or "pad".

    Returns:
        (3, H, W) float32: for each channel the processor's factor times 0 to 255, less its mean
        and over its standard deviation.

    Raises:
        ImageError: More than `MAX_PIXELS` once scaled, before the crop; or less than one patch.

    Example:
        >>> to_pixels(photographs()["brick"], load_dinov2("tiny"), size=448).shape
        (3, 448, 448)
    """
    opened = image if isinstance(image, Opened) else Opened.whole(image)
    if not all(opened.size):
        raise ImageError(_described(opened.size), "has no pixels")
    preprocessing = _preprocessing_of(model)
    steps = _steps(opened.size, preprocessing, size, fit)
    _check_size(opened.size, steps, fit)
    resample = Image.Resampling(preprocessing.resample)
    image = opened.image.resize(steps.scaled, resample, opened.box)
    width, height = steps.fitted
    if fit == "crop":
        # the middle of the window, less what is left of whole patches; beyond the picture is black
        left = (steps.scaled[0] - steps.window[0]) // 2
        top = (steps.scaled[1] - steps.window[1]) // 2
        image = image.crop((left, top, left + width, top + height))
    table = _table(preprocessing)
    values = np.asarray(image)  # (H, W, 3)
    pixels = np.zeros((3, height, width), np.float32)  # 0 is the mean colour
    for channel in range(3):
        pixels[channel, : image.height, : image.width] = table[channel][values[..., channel]]
    return pixels


def geometry(
    size_in: Size, model: HasPreprocessing | Preprocessing, size: int | None, fit: Fit
) -> tuple[Size, Size]:
    """Return (width, height) of the whole picture once scaled, and of what the model gets."""
    steps = _steps(size_in, _preprocessing_of(model), size, fit)
    return steps.scaled, steps.fitted


def check_enlarged(size_in: Size, scaled: Size, parts: int = 1) -> None:
    """See to it that a picture that is seen part by part is not scaled up beyond all measure.

    Such a picture may be large; but a strip of a few rows of pixels, whose shorter side is brought
    to some hundreds, would take gigabytes.

    Args:
        size_in: (width, height) of the picture.
        scaled: The same once scaled.
        parts: Of its shorter side.

    Raises:
        ImageError: It would have more pixels than it has, and more than `MAX_PIXELS` has for
            "resize" of each of parts x parts, or for "crop" of all.
    """
    most = max(MAX_PIXELS["crop"], parts**2 * MAX_PIXELS["resize"], math.prod(size_in))
    if math.prod(scaled) > most:
        raise _too_many(size_in, scaled)


def _too_many(size: Size, scaled: Size) -> ImageError:
    width, height = scaled
    reason = f"would be scaled to {width}x{height} px; give a lower `size` or cut it"
    return ImageError(_described(size), reason)


def _preprocessing_of(model: HasPreprocessing | Preprocessing) -> Preprocessing:
    return model if isinstance(model, Preprocessing) else model.preprocessing


class _Steps(NamedTuple):
    scaled: Size  # of the whole picture
    window: Size  # what is taken out of its middle
    fitted: Size  # in whole patches, what the model gets


def _steps(size_in: Size, preprocessing: Preprocessing, size: int | None, fit: Fit) -> _Steps:
    patch = preprocessing.patch_size
    if fit == "crop":
        scaled, window = _cropped(size_in, preprocessing, size)
        width, height = (side // patch * patch for side in window)
        return _Steps(scaled, window, (width, height))
    scale = size / min(size_in) if size else 1.0
    if fit == "resize":
        width, height = (max(1, round(length * scale / patch)) * patch for length in size_in)
        return _Steps((width, height), (width, height), (width, height))
    width, height = (max(1, round(length * scale)) for length in size_in)
    filled = -(-width // patch) * patch, -(-height // patch) * patch
    return _Steps((width, height), filled, filled)


def _cropped(size_in: Size, preprocessing: Preprocessing, size: int | None) -> tuple[Size, Size]:
    """Return the size of a picture once scaled, and of the window in its middle."""
    resize, crop, patch = preprocessing.resize, preprocessing.crop, preprocessing.patch_size
    if size is None:
        scaled = resize.of(size_in) if resize else size_in
        return scaled, crop[::-1] if crop else scaled
    side = max(1, round(size / patch)) * patch
    if crop is None:
        scaled = (resize or Resize(shortest_edge=side)).of(size_in)
        width, height = (length * side / min(scaled) for length in scaled)
        scaled = round(width), round(height)
        return scaled, scaled
    factor = side / min(crop)
    height, width = (max(1, round(length * factor / patch)) * patch for length in crop)
    return resize.by(factor).of(size_in) if resize else size_in, (width, height)


def _described(size: Size) -> str:
    width, height = size
    return f"picture of {width}x{height} px"


def _check_size(size: Size, steps: _Steps, fit: Fit) -> None:
    largest = max(steps.scaled, steps.fitted, key=math.prod)
    if math.prod(largest) > MAX_PIXELS[fit]:
        raise _too_many(size, largest)
    if not all((*steps.scaled, *steps.fitted)):
        width, height = steps.scaled
        reason = f"is less than one patch at {width}x{height} px; give a `size`"
        raise ImageError(_described(size), reason)


@functools.lru_cache(maxsize=32)
def _table(preprocessing: Preprocessing) -> NDArray[np.float32]:
    """Return what 0 to 255 become in each channel, (3, 256), in the very steps of transformers."""
    values = np.arange(256, dtype=np.float64)
    if preprocessing.rescale_factor is not None:
        values = values * preprocessing.rescale_factor
    mean, std = (np.array(x, np.float32) for x in (preprocessing.mean, preprocessing.std))
    return (values.astype(np.float32) - mean[:, None]) / std[:, None]


def _config_of(processor: Any) -> Mapping[str, Any]:
    """Return what a configuration says, or the processor that was made of it."""
    if isinstance(processor, Mapping):
        return processor
    named = {key: value for key, value in vars(processor).items() if not key.startswith("_")}
    return named | {"image_processor_type": type(processor).__name__}


def _defaults_of(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the class of a processor does where its configuration says nothing."""
    keys = ("image_processor_type", "feature_extractor_type")
    key = next((key for key in keys if config.get(key)), keys[0])
    name = config.get(key) or "BitImageProcessor"
    plain = str(name).removesuffix("Pil").removesuffix("Fast")
    plain = plain.removesuffix("ImageProcessor").removesuffix("FeatureExtractor")
    if plain not in _DEFAULTS:
        raise _not_honoured(key, name)
    return _DEFAULTS[plain]


def _refuse_other_flags(settings: Mapping[str, Any]) -> None:
    for key, value in settings.items():
        if key.startswith("do_") and key not in _FLAGS and value:
            raise _not_honoured(key, value)


def _not_honoured(key: str, value: Any) -> ValueError:
    return ValueError(f"its processor says {key}={value!r}, which cannot be followed here")


def _sides(settings: Mapping[str, Any], key: str, square: bool) -> dict[str, int]:
    """Return one of the forms of a size as a dict."""
    value = settings[key]
    if isinstance(value, int):
        value = {"height": value, "width": value} if square else {"shortest_edge": value}
    elif isinstance(value, list | tuple) and len(value) == 2 and isinstance(value[0], int):
        value = dict(zip(("height", "width"), value, strict=True))
    try:
        sides = {side: length for side, length in dict(value).items() if length is not None}
    except (TypeError, ValueError):
        raise _not_honoured(key, value) from None
    if not all(isinstance(length, int) and length > 0 for length in sides.values()):
        raise _not_honoured(key, value)
    return sides


def _resize_of(settings: Mapping[str, Any]) -> Resize:
    sides = _sides(settings, "size", settings["default_to_square"])
    if set(sides) not in _FORMS:
        raise _not_honoured("size", settings["size"])
    return Resize(**sides)


def _crop_of(settings: Mapping[str, Any]) -> tuple[int, int]:
    sides = _sides(settings, "crop_size", square=True)
    if set(sides) != {"height", "width"}:
        raise _not_honoured("crop_size", settings["crop_size"])
    return sides["height"], sides["width"]


def _three(value: Any, key: str = "") -> tuple[float, ...]:
    """Return a number for each channel."""
    values = (value,) * 3 if isinstance(value, int | float) else tuple(value or ())
    if len(values) != 3 or not all(isinstance(one, int | float) for one in values):
        raise _not_honoured(key, value)
    return tuple(float(one) for one in values)


def _number(settings: Mapping[str, Any], key: str) -> float:
    value = settings[key]
    if not isinstance(value, int | float):
        raise _not_honoured(key, value)
    return float(value)

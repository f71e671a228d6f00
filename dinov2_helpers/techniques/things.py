"""Things apart in a mask, and which of them a text speaks of."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ..extraction import extract_features
from .dense import Floats, unit

Bools = NDArray[np.bool_]
MARGIN = 0.3  # of a crop around a thing, as a share of its longer side
LEAST_CROP = 8  # pixels


@dataclass(frozen=True, eq=False)
class Thing:
    """A connected part of a mask."""

    mask: Bools = field(repr=False)  # (H, W)
    box: tuple[int, int, int, int]  # left, top, right, bottom in pixels, the last two outside
    area: int  # pixels
    score: float  # mean probability of its pixels, 0-1


@dataclass(frozen=True, eq=False)
class Named:
    """Where in a picture a text fits best."""

    text: str
    thing: Thing | None  # None: the picture shows no thing at all
    score: float  # cosine of the thing and the text, less its mean with the other texts, -2 to 2
    heat: Floats = field(repr=False)  # (H, W), the same by patch, or by thing with NaN elsewhere


@dataclass(frozen=True, eq=False)
class Clicked:
    """What is like the patch that was clicked."""

    likeness: Floats = field(repr=False)  # (H, W), cosine with that patch, -1 to 1
    mask: Bools = field(repr=False)  # (H, W), all that is alike
    thing: Bools = field(repr=False)  # (H, W), the part of it that is connected with the click


class ReadsPictures(Protocol):
    """A model of pictures and texts: a `Clip`, a `Lit`, a `Bridge`."""

    def embed_texts(self, texts: Any) -> Floats:
        """Return unit vectors of N texts, (N, d)."""

    def embed_images(self, images: Any) -> Any:
        """Return what has unit `vectors` (N, d) of N pictures, and their `index`."""


def find_things(mask: Bools, probability: Floats, smallest: float) -> tuple[Thing, ...]:
    """Return the connected parts of a mask, the largest first.

    Args:
        mask: (H, W). Pixels that touch by a corner alone are not connected.
        probability: (H, W), for the scores.
        smallest: Share of the picture's pixels below which a part is left out.
    """
    from scipy.ndimage import find_objects, label

    parts, _ = label(mask)
    found = []
    for number, place in enumerate(find_objects(parts), 1):
        inside = parts[place] == number
        area = int(inside.sum())
        if area < smallest * mask.size:
            continue
        whole = np.zeros(mask.shape, bool)
        whole[place] = inside
        down, across = place
        box = (across.start, down.start, across.stop, down.stop)
        found.append(Thing(whole, box, area, float(probability[place][inside].mean())))
    return tuple(sorted(found, key=lambda thing: -thing.area))


def crop(picture: Image.Image, thing: Thing, margin: float = MARGIN) -> Image.Image:
    """Return the square of a picture around a thing, black beyond the picture.

    Args:
        picture: RGB.
        thing: In it.
        margin: On all sides together, as a share of the thing's longer side.
    """
    left, top, right, bottom = thing.box
    longer = max(right - left - 1, bottom - top - 1, LEAST_CROP)
    half = (1 + margin) * longer / 2
    x, y = (left + right - 1) / 2, (top + bottom - 1) / 2
    corners = (round(x - half), round(y - half), round(x + half), round(y + half))
    return picture.crop(corners)


def part_at(mask: Bools, x: int, y: int) -> Bools:
    """Return the connected part of a mask (H, W) that a pixel is in; empty if it is in none."""
    from scipy.ndimage import label

    parts, _ = label(mask)
    found: Bools = (parts == parts[y, x]) & mask
    return found


def fits(vectors: NDArray[Any], texts: NDArray[Any]) -> Floats:
    """Return how well each text fits, beside the mean text if there are several.

    Texts have cosines of their own with all pictures, whatever those show; what tells is the
    difference to other texts.

    Args:
        vectors: (..., d).
        texts: (K, d), unit length.

    Returns:
        (..., K) cosines, less their mean over texts.
    """
    cosines = unit(vectors) @ texts.T
    if len(texts) == 1:
        return cosines
    return cosines - cosines.mean(-1, keepdims=True)


def text_vectors(reader: ReadsPictures, texts: Sequence[str], templates: Sequence[str]) -> Floats:
    """Return one unit vector for each text, (K, d): the mean over templates with `{}` in them."""
    filled = [template.replace("{}", text) for text in texts for template in templates]
    vectors = np.asarray(reader.embed_texts(filled))
    return unit(vectors.reshape(len(texts), len(templates), -1).mean(1))


def vectors_of_things(
    reader: ReadsPictures, picture: Image.Image, things: Sequence[Thing]
) -> Floats:
    """Return a vector for each thing, (n, d), from a crop around it.

    A CLIP, and a bridge from CLS, know whole pictures; so each thing is made one.
    """
    found = reader.embed_images([crop(picture, thing) for thing in things])
    if len(found.vectors) != len(things):
        reasons = "; ".join(one.reason for one in found.skipped)
        raise ValueError(f"crops of things could not be embedded: {reasons}")
    return np.asarray(found.vectors)


def painted(empty: Floats, things: Sequence[Thing], scores: Floats) -> Floats:
    """Return a map (H, W) with the score of each thing on its pixels."""
    heat = empty.copy()
    for thing, score in zip(things, scores, strict=True):
        heat[thing.mask] = score
    return heat


def patch_vectors(reader: Any, picture: Image.Image, size: int | None) -> Floats:
    """Return a vector for each patch of a picture, (h, w, d), in the space of texts.

    Args:
        reader: With `embed_patches` of pictures, as a `Lit` has it; or with `transform_patches` of
            features of its `dinov2`, as a `Bridge` has it.
        picture: RGB.
        size: Shortest side in pixels that the model sees.

    Raises:
        ValueError: The reader has neither.
    """
    if hasattr(reader, "embed_patches"):
        return np.asarray(reader.embed_patches([picture], size=size, fit="resize")[0])
    if hasattr(reader, "transform_patches"):
        features = extract_features(reader.dinov2, [picture], size=size, fit="resize")
        return np.asarray(reader.transform_patches(features)[0])
    raise ValueError(f"{type(reader).__name__} gives no vectors of patches: way='crops'")

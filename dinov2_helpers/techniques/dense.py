"""Patches of pictures of any size, as maps: a facet or a token of a layer, whole or in tiles."""

import logging
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ..extraction import Features, Skipped, extract_features
from ..extraction.reports import Notable, report_left_out
from ..extraction.sources import name_sources
from ..models import Model
from ..pictures.decode import ImageError, open_image
from ..pictures.files import printable
from ..pictures.pixels import check_enlarged, geometry
from .inputs import features_of

log = logging.getLogger("dinov2_helpers")
Floats = NDArray[np.float32]
Facet = Literal["token", "query", "key", "value"]
MOST_PATCHES = 4096  # of a picture at once; attention grows with the square of it
LISTED = 20  # pictures that a message names
CHUNK = 8  # pictures whose pixels are held at once


class Kind(NamedTuple):
    """Which numbers of a patch: of a block, its output after the final norm, or a facet."""

    facet: Facet
    layer: int  # 0 the first block


@dataclass(frozen=True)
class Reader:
    """How pictures are read into maps.

    Args:
        dinov2: The model.
        size: Shortest side in pixels that the model sees; None: the picture's own.
        tile: Side of the tiles in pixels, at least two patches. None: pictures of up to
            `MOST_PATCHES` patches whole, larger ones in tiles of the size that the model knows.
        cache: As for `extract_features`.
    """

    dinov2: Model
    size: int | None
    tile: int | None = None
    cache: str | os.PathLike[str] | None = None

    def tile_of(self, size_in: tuple[int, int]) -> int | None:
        """Return the side, in patches, of the tiles of a picture (width, height); None: whole."""
        _, (width, height) = geometry(size_in, self.dinov2, self.size, "resize")
        patch = self.dinov2.patch_size
        columns, rows = width // patch, height // patch
        if self.tile is None:
            native = self.dinov2.image_size // patch
            return native if rows * columns > MOST_PATCHES else None
        side = self.tile // patch
        return side if max(rows, columns) > side else None

    def features(self, pictures: Sequence[Any], kinds: Sequence[Kind], size: int | None) -> Any:
        """Return features of pictures as they are, with what the kinds need."""
        return extract_features(
            self.dinov2,
            pictures,
            size=size,
            fit="resize",
            cache=self.cache,
            progress=False,  # of a chunk says nothing of the whole
            **options_of(kinds),
        )


@dataclass(frozen=True, eq=False)
class Dense:
    """A picture and the maps of its patches."""

    index: int  # position in the input
    name: str
    size: tuple[int, int]  # height and width in pixels of the upright picture
    maps: dict[Kind, Floats] = field(repr=False)  # of each kind (h, w, D)
    picture: Image.Image | None = field(repr=False)  # RGB; None: only its features were given


def options_of(kinds: Sequence[Kind]) -> dict[str, Any]:
    """Return what to ask of `extract_features` for some kinds of patches.

    Raises:
        ValueError: Facets of different layers, which one run does not give.
    """
    facets = [kind for kind in kinds if kind.facet != "token"]
    options: dict[str, Any] = {"layers": [kind.layer for kind in kinds if kind.facet == "token"]}
    options["patches"] = False
    if facets:
        if len({kind.layer for kind in facets}) > 1:
            raise ValueError(f"facets of different layers in one run: {facets}")
        options["facets"] = [kind.facet for kind in facets]
        options["facet_layer"] = facets[0].layer
    return options


def pick(features: Features, kind: Kind, row: int) -> Floats:
    """Return the map (h, w, D) of one picture."""
    if kind.facet == "token":
        return np.asarray(features.layers[kind.layer].patches[row])
    return np.asarray(features.facets[kind.facet][row])


def read(
    reader: Reader, pictures: Any, kinds: Sequence[Kind], skipped: list[Skipped]
) -> Iterator[Dense]:
    """Yield pictures with their maps, in memory that does not grow with their number.

    Args:
        reader: How.
        pictures: What `extract_features` takes, or its result.
        kinds: Which maps.
        skipped: To which pictures are added that cannot be used, with the reason.

    Raises:
        FileNotFoundError, TypeError, ValueError: As `extract_features`.
        ValueError: Features without what is wanted, or made otherwise.
    """
    if isinstance(pictures, Features):
        yield from _read_features(reader, pictures, kinds, skipped)
        return
    named = name_sources(pictures)
    report_left_out(named.left_out)
    sources, notable = enumerate(named.items), Notable()
    while part := list(islice(sources, CHUNK)):
        opened = list(_open(reader, part, skipped))
        for one in opened:
            notable.saw(one.name, one.picture.info["frames"], one.picture.info["depth"])
        yield from _read_opened(reader, opened, kinds)
    notable.report()


class _Opened(NamedTuple):
    place: int  # in the input
    name: str
    picture: Image.Image


def _open(
    reader: Reader, part: Iterable[tuple[int, tuple[str, Any]]], skipped: list[Skipped]
) -> Iterator[_Opened]:
    for index, (name, source) in part:
        try:
            picture = open_image(source, name)
            scaled, _ = geometry(picture.size, reader.dinov2, reader.size, "resize")
            check_enlarged(picture.size, scaled)
        except ImageError as error:
            skipped.append(Skipped(index, name, error.reason))
        else:
            yield _Opened(index, name, picture)


def _read_features(
    reader: Reader, features: Features, kinds: Sequence[Kind], skipped: list[Skipped]
) -> Iterator[Dense]:
    options = options_of(kinds)
    options.pop("facet_layer", None)  # features do not tell it
    features_of(reader.dinov2, features, size=reader.size, fit="resize", **options)
    skipped += features.skipped
    for row, (index, name) in enumerate(zip(features.index, features.names, strict=True)):
        maps = {kind: pick(features, kind, row) for kind in kinds}
        height, width = (int(side) for side in features.sizes[row])
        yield Dense(int(index), name, (height, width), maps, None)


def _read_opened(
    reader: Reader, opened: Sequence[_Opened], kinds: Sequence[Kind]
) -> Iterator[Dense]:
    whole = [one for one in opened if reader.tile_of(one.picture.size) is None]
    maps = {}
    if whole:
        features = reader.features([one.picture for one in whole], kinds, reader.size)
        for row, position in enumerate(features.index):  # without those that gave no features
            maps[whole[position].place] = {kind: pick(features, kind, row) for kind in kinds}
    for one in opened:
        found = maps.pop(one.place, None) or tiled(reader, one.picture, kinds)
        size = one.picture.height, one.picture.width
        yield Dense(one.place, one.name, size, found, one.picture)


def tiled(reader: Reader, picture: Image.Image, kinds: Sequence[Kind]) -> dict[Kind, Floats]:
    """Return the maps of a picture that is read in overlapping tiles, blended without a seam.

    A tile does not see the rest of the picture. Neighbours share half of their patches.

    Args:
        reader: How; its tile, or else the size that the model knows, is the side of each.
        picture: Of mode RGB.
        kinds: Which maps.
    """
    patch = reader.dinov2.patch_size
    side = (reader.tile or reader.dinov2.image_size) // patch
    _, (width, height) = geometry(picture.size, reader.dinov2, reader.size, "resize")
    resample = Image.Resampling(reader.dinov2.preprocessing.resample)
    scaled = picture.resize((width, height), resample)
    h, w = height // patch, width // patch
    rows, columns = min(side, h), min(side, w)
    places = [
        (top, left)
        for top in starts(h, side, side - side // 2)
        for left in starts(w, side, side - side // 2)
    ]
    pieces = [
        scaled.crop((left * patch, top * patch, (left + columns) * patch, (top + rows) * patch))
        for top, left in places
    ]
    features = reader.features(pieces, kinds, None)
    return {kind: _blend(features, kind, places, (h, w)) for kind in kinds}


def _blend(
    features: Features, kind: Kind, places: Sequence[tuple[int, int]], grid: tuple[int, int]
) -> Floats:
    """Return one map (h, w, D) from those of tiles at places (top, left), in patches."""
    first = pick(features, kind, 0)
    weights = window(*first.shape[:2])[..., None]
    total = np.zeros((*grid, first.shape[-1]))
    weight = np.zeros((*grid, 1))
    for row, (top, left) in enumerate(places):
        cell = slice(top, top + first.shape[0]), slice(left, left + first.shape[1])
        total[cell] += weights * pick(features, kind, row)
        weight[cell] += weights
    return (total / weight).astype(np.float32)


def starts(length: int, tile: int, step: int) -> list[int]:
    """Return where tiles begin so that they cover a length, the last one flush with its end."""
    last = max(length - tile, 0)
    return [*range(0, last, step), last]


def window(rows: int, columns: int) -> NDArray[np.float64]:
    """Return weights that fall towards the edges of a tile and are never 0, (rows, columns)."""
    down, across = (np.sin(np.pi * (np.arange(n) + 0.5) / n) + 0.01 for n in (rows, columns))
    return np.outer(down, across)


def unit(rows: NDArray[Any]) -> Floats:
    """Return vectors (..., D) at length 1; one of length 0 stays as it is."""
    length = np.linalg.norm(rows, axis=-1, keepdims=True)
    return (rows / np.where(length > 0, length, 1)).astype(np.float32)


def enlarge(soft: NDArray[Any], size: tuple[int, int]) -> Floats:
    """Return a map (h, w) brought bilinearly to (height, width), float32."""
    import torch

    values = torch.from_numpy(np.ascontiguousarray(soft, np.float32))[None, None]
    large = torch.nn.functional.interpolate(values, size, mode="bilinear")
    found: Floats = large[0, 0].numpy()
    return found


def skipped_text(skipped: Sequence[Skipped]) -> str:
    """Say which pictures were skipped and why, the first of them by name."""
    lines = [f"{len(skipped)} pictures skipped:"]
    lines += [f"  {one.index}: {printable(one.name)}: {one.reason}" for one in skipped[:LISTED]]
    return "\n".join(lines)


def report(skipped: Sequence[Skipped]) -> None:
    """Log which pictures were skipped, if some were."""
    if skipped:
        log.warning("%s", skipped_text(skipped))

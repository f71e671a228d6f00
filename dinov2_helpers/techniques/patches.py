"""Maps of patches that describe pictures: of a middle layer or several, whole or in windows."""

import copy
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ..extraction import Features, extract_features, stream_features
from ..extraction.reports import Notable, report_left_out, report_skipped
from ..extraction.result import Skipped
from ..extraction.sources import name_sources
from ..models import Model, anatomy_of
from ..pictures import ImageError, geometry, open_image
from ..pictures.pixels import check_enlarged
from .inputs import check_origin
from .memory import unit

Combine = Literal["mean", "join"]
CHUNK = 64  # pictures whose features are held at once while pictures are scored
OVERLAP = 4  # patches by which windows reach into their neighbours


@dataclass(frozen=True)
class Described:
    """Pictures as maps of patches.

    Args:
        maps: Of each of N pictures (h, w, D) float32.
        names: As in `Features`.
        index: (N,), position in the input.
        sizes: (N, 2), height and width in pixels of the upright picture.
        skipped: The pictures that could not be used.
    """

    maps: list[NDArray[np.float32]]
    names: tuple[str, ...]
    index: NDArray[np.int64]
    sizes: NDArray[np.int64]
    skipped: tuple[Skipped, ...]


@dataclass(frozen=True)
class PatchReader:
    """How pictures become maps of patches.

    Args:
        dinov2: The model. What comes after the last of the `layers` is not computed.
        size: Shortest side in pixels of what the model sees, or of a window with `tiles`.
        layers: Blocks, 0 the first.
        combine: "mean" of the layers' patches, each of length 1, or "join", one after the other.
        neighbourhood: Side in patches of the square over which patches are averaged; 1: not at all.
        tiles: None: the picture as a whole. Else the picture is enlarged to a shortest side of
            tiles * size and seen through windows of `size` that overlap.
    """

    dinov2: Model
    size: int
    layers: tuple[int, ...]
    combine: Combine = "mean"
    neighbourhood: int = 1
    tiles: int | None = None

    def read(self, pictures: Any, **options: Any) -> Described:
        """Describe pictures, or features that were made of them with this size and fit "resize".

        Args:
            pictures: As for `extract_features`, or its result.
            **options: Its settings `exact`, `cache`, `progress`, `batch_size`.

        Raises:
            FileNotFoundError, TypeError, ValueError: As there, and for features made otherwise.
        """
        if isinstance(pictures, Features):
            if self.tiles:
                raise ValueError("tiles are cut from pictures: give these, not their features")
            check_origin(pictures, self.dinov2, self.size, "resize")
            return self._described(pictures)
        if self.tiles:
            found = list(self._tiled(pictures, options))
        else:
            made = extract_features(self._short(), pictures, **self._settings(), **options)
            found = [self._described(made, short=True)]
        result = _joined(found)
        if not result.maps:
            raise ValueError(f"no picture can be read: {len(result.skipped)} skipped")
        return result

    def stream(self, pictures: Any, **options: Any) -> Iterator[Described]:
        """Yield what `read` gives by and by, in bounded memory."""
        if isinstance(pictures, Features):
            yield self.read(pictures)
        elif self.tiles:
            yield from self._tiled(pictures, options)
        else:
            settings = self._settings() | options
            for part in stream_features(self._short(), pictures, chunk=CHUNK, **settings):
                yield self._described(part, short=True)

    def _settings(self) -> dict[str, Any]:
        return {"size": self.size, "fit": "resize", "layers": self._inner(), "patches": True}

    def _inner(self) -> tuple[int, ...]:
        """Return the layers but for the last, which is what the short model gives anyhow."""
        return tuple(sorted(set(self.layers) - {max(self.layers)}))

    def _short(self) -> Model:
        return cut_after(self.dinov2, max(self.layers))

    def _described(self, features: Features, short: bool = False) -> Described:
        """Describe features of the whole model, or of the short one that ends with a layer."""
        of = {number % self.dinov2.n_layers: one.patches for number, one in features.layers.items()}
        last = max(self.layers) if short else self.dinov2.n_layers - 1
        if features.patches is not None:
            of[last] = features.patches
        missing = [layer for layer in self.layers if layer not in of]
        if missing:
            raise ValueError(f"the features lack layers {missing}: extract with layers={missing}")
        by_layer = [of[layer] for layer in self.layers]
        maps = [self._combined(list(of_one)) for of_one in zip(*by_layer, strict=True)]
        return Described(maps, features.names, features.index, features.sizes, features.skipped)

    def _combined(self, layers: list[NDArray[np.float32]]) -> NDArray[np.float32]:
        if self.neighbourhood > 1:
            layers = [smoothed(one, self.neighbourhood) for one in layers]
        layers = [unit(one) for one in layers]
        if len(layers) == 1:
            return layers[0]
        if self.combine == "join":
            return unit(np.concatenate(layers, axis=-1))
        return unit(np.mean(layers, axis=0, dtype=np.float32))

    def _tiled(self, pictures: Any, options: dict[str, Any]) -> Iterator[Described]:
        """Yield the description of one picture after the other, seen through windows."""
        sources = name_sources(pictures)
        report_left_out(sources.left_out)
        skipped, notable, n = list[Skipped](), Notable(), 0
        for index, (name, source) in enumerate(sources.items):
            n += 1
            try:
                image = open_image(source, name)
                one = self._through_windows(image, options)
            except ImageError as error:
                none = np.empty((0, 2), np.int64)
                lost = Skipped(index, name, error.reason)
                skipped.append(lost)
                yield Described([], (), np.empty(0, np.int64), none, (lost,))
                continue
            notable.saw(name, image.info["frames"], image.info["depth"])
            size = np.array([[image.height, image.width]], np.int64)
            yield Described([one], (name,), np.array([index], np.int64), size, ())
        report_skipped(skipped, n)
        notable.report()

    def _through_windows(self, image: Image.Image, options: dict[str, Any]) -> NDArray[np.float32]:
        """Return one map of a picture; each patch is of the window in whose middle it lies most."""
        assert self.tiles
        patch = self.dinov2.patch_size
        _, fitted = geometry(image.size, self.dinov2, self.size * self.tiles, "resize")
        check_enlarged(image.size, fitted, self.tiles)
        large = image.resize(fitted, Image.Resampling.BICUBIC)
        side = self.size // patch  # patches of a window
        across, down = (window_starts(length // patch, side) for length in fitted)
        boxes = [(x * patch, y * patch) for y in down for x in across]
        windows = [large.crop((x, y, x + side * patch, y + side * patch)) for x, y in boxes]
        settings = self._settings() | options | {"progress": False, "size": side * patch}
        (found,) = stream_features(self._short(), windows, chunk=len(windows), **settings)
        if found.skipped:  # without one of its windows a picture has holes
            raise ImageError("window", found.skipped[0].reason)
        maps = self._described(found, short=True).maps
        rows = _owners(fitted[1] // patch, down, side)
        columns = _owners(fitted[0] // patch, across, side)
        y, x = np.arange(len(rows)), np.arange(len(columns))
        window = rows[:, None] * len(across) + columns  # (h, w)
        row = (y - np.array(down)[rows])[:, None]  # (h, 1), inside its window
        column = x - np.array(across)[columns]  # (w,)
        return np.stack(maps)[window, row, column]


def window_starts(length: int, side: int, overlap: int = OVERLAP) -> list[int]:
    """Return where windows begin that cover a length evenly, all in patches.

    Example:
        >>> window_starts(64, 32), window_starts(32, 32)
        ([0, 16, 32], [0])
    """
    if length <= side:
        return [0]
    n = 1 + -(-(length - side) // max(1, side - overlap))
    return [round(step * (length - side) / (n - 1)) for step in range(n)]


def _owners(length: int, starts: list[int], side: int) -> NDArray[np.int64]:
    """Return the window for each place along a side: that whose middle is nearest, (length,)."""
    middles = np.array(starts) + (side - 1) / 2
    found: NDArray[np.int64] = np.abs(np.arange(length)[:, None] - middles).argmin(1)
    return found


def smoothed(one: NDArray[np.float32], side: int) -> NDArray[np.float32]:
    """Return the mean over a square of patches around each, of a map (h, w, D)."""
    from scipy.ndimage import uniform_filter

    found: NDArray[np.float32] = uniform_filter(one, (side, side, 1), mode="nearest")
    return found


def cut_after(dinov2: Model, layer: int) -> Model:
    """Return a model that ends after a block; it shares its weights with the whole one.

    Args:
        dinov2: The whole model.
        layer: The last block that is kept, 0 the first.
    """
    if layer == dinov2.n_layers - 1:
        return dinov2
    anatomy = anatomy_of(dinov2.model)
    short = _with_own_parts(dinov2.model)
    stack = _with_own_parts(anatomy.stack_of(dinov2.model))
    setattr(stack, anatomy.blocks, anatomy.blocks_of(dinov2.model)[: layer + 1])
    setattr(short, anatomy.stack, stack)
    return replace(dinov2, model=short, n_layers=layer + 1)


def _with_own_parts(module: Any) -> Any:
    """Return a copy of a module whose parts can be changed without changing those of the first."""
    found = copy.copy(module)
    found._modules = dict(module._modules)
    return found


def _joined(parts: list[Described]) -> Described:
    if len(parts) == 1:
        return parts[0]
    return Described(
        maps=[one for part in parts for one in part.maps],
        names=tuple(name for part in parts for name in part.names),
        index=np.concatenate([part.index for part in parts]),
        sizes=np.concatenate([part.sizes for part in parts]),
        skipped=tuple(lost for part in parts for lost in part.skipped),
    )
